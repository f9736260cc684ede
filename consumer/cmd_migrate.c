#include <stdio.h>

#include "../rollup/migrate.h"
#include "commands.h"

enum { DEFAULT_WAIT_S = 60 };

static void print_done(void *context, const char *sentence)
{
    size_t *count = context;
    (*count)++;
    puts(sentence);
}

static int migrate_database(struct command_context *context, const struct config *config, int64_t wait_us)
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

int cmd_migrate(struct command_context *context, int argc, char **argv)
{
    int64_t wait_us = DEFAULT_WAIT_S * INT64_C(1000000);
    const struct option_row rows[] = {
        {.name = "wait",
         .type = OPTION_DURATION,
         .value = &wait_us,
         .argument = "DURATION",
         .help = "how long to wait for another migration of the same database (60s)",
         .least = 0,
         .most = INT64_C(86400000000)},
        {0},
    };
    const struct options options = {
        .about = "Makes the tables, roles and partitions that this program needs, as postgres.owner_dsn.\n"
                 "Safe to run again, and by several at once.",
        .rows = rows,
    };
    int operand;
    int code = command_options(context, &options, argc, argv, &operand);
    if (code >= 0)
        return code;
    struct config config;
    if (!command_config(context, &config))
        return EXIT_FAILED;
    code = migrate_database(context, &config, wait_us);
    config_free(&config);
    return code;
}
