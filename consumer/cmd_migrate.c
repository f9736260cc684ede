#include <stdio.h>

#include "../rollup/migrate.h"
#include "commands.h"
#include "migrate_topics.h"

enum {
    DEFAULT_WAIT_S = 60,
    DEFAULT_RETENTION_DAYS = 7,
    KAFKA_TIMEOUT_S = 20,
    MOST_PARTITIONS = 100000,
    MOST_REPLICAS = 100
};
#define SECOND_US INT64_C(1000000)

static void print_done(void *context, const char *sentence)
{
    size_t *count = context;
    (*count)++;
    puts(sentence);
}

static int migrate_database(const struct command_context *context, const struct config *config,
                            int64_t wait_us)
{
    struct pg pg = {0};
    size_t count = 0;
    bool done = pg_open(&pg, config->postgres.owner_dsn, "usagebox migrate") &&
                migrate_run(&pg, migrations, (int)(wait_us / 1000000), print_done, &count);
    pg_close(&pg);
    if (!done)
        return command_fail(context, EXIT_FAILED, "%s", pg.failure.detail);
    if (count == 0)
        puts("nothing to do: the schema is up to date");
    return EXIT_DONE;
}

struct migrate_options {
    bool topics;
    int64_t wait_us;
    struct topics_wanted wanted;
};

static int migrate_chosen(struct command_context *context, const struct config *config, const void *chosen,
                          int operand_count, char **operands)
{
    (void)operand_count, (void)operands;
    const struct migrate_options *options = chosen;
    return options->topics ? migrate_topics(context, config, &options->wanted)
                           : migrate_database(context, config, options->wait_us);
}

int cmd_migrate(struct command_context *context, int argc, char **argv)
{
    struct migrate_options chosen = {.wait_us = DEFAULT_WAIT_S * SECOND_US,
                                     .wanted = {.retention_us = DEFAULT_RETENTION_DAYS * 86400 * SECOND_US,
                                                .timeout_us = KAFKA_TIMEOUT_S * SECOND_US}};
    const struct option_row rows[] = {
        {.name = "wait",
         .type = OPTION_DURATION,
         .value = &chosen.wait_us,
         .argument = "DURATION",
         .help = "how long to wait for another migration of the same database",
         .least = 0,
         .most = 86400 * SECOND_US},
        {.name = "topics",
         .type = OPTION_FLAG,
         .value = &chosen.topics,
         .help = "make the topics instead of the tables"},
        {.name = "partitions",
         .type = OPTION_INTEGER,
         .value = &chosen.wanted.partition_count,
         .argument = "N",
         .help = "of each topic made (as the usage topics that are there, or 12)",
         .least = 1,
         .most = MOST_PARTITIONS},
        {.name = "replication-factor",
         .type = OPTION_INTEGER,
         .value = &chosen.wanted.replication_factor,
         .argument = "N",
         .help = "of each topic made (3, or the number of brokers)",
         .least = 1,
         .most = MOST_REPLICAS},
        {.name = "retention",
         .type = OPTION_DURATION,
         .value = &chosen.wanted.retention_us,
         .argument = "DURATION",
         .help = "how long usage topics that are made keep events",
         .least = 60 * SECOND_US,
         .most = 3650 * 86400 * SECOND_US},
        {0},
    };
    const struct options options = {
        .about =
            "Makes the tables, roles and partitions that this program needs, as postgres.owner_dsn; with "
            "--topics,\n"
            "the Kafka topics. Changes no topic that is there. Safe to run again, and by several at once.",
        .rows = rows,
    };
    return command_run(context, &options, argc, argv, migrate_chosen, &chosen);
}
