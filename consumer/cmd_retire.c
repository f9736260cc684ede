/* usagebox offsets retire: a usage topic that is read no more. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../rollup/offset_retire.h"
#include "../rollup/owner.h"
#include "actor.h"
#include "commands.h"
#include "tables.h"

struct retire_choice {
    const char *reason;
    bool yes;
};

static bool is_read(const struct config *config, const char *topic)
{
    for (size_t i = 0; i < config->kafka.usage_topics.count; i++)
        if (strcmp(config->kafka.usage_topics.items[i], topic) == 0)
            return true;
    return false;
}

/* Only a person at a terminal is asked. */
static bool is_confirmed(const struct retire_choice *choice, const char *topic)
{
    char answer[16];
    if (choice->yes || !isatty(STDIN_FILENO))
        return true;
    fprintf(stderr,
            "usage_watermark and seals will not wait for topic %s any more: what lies there unread is not "
            "counted.\nGo on? [y/N] ",
            topic);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static bool print_retired(const struct command_context *context, const struct offset_retire *retire)
{
    if (context->json)
        return json_print(json_pack("{s:s, s:I, s:s, s:s}", "topic", retire->topic, "partitions",
                                    (json_int_t)retire->partitions, "reason", retire->reason, "actor",
                                    retire->actor),
                          stdout);
    printf("usage_watermark does not wait for the %" PRId64 " partitions of %s any more (by %s)\n",
           retire->partitions, retire->topic, retire->actor);
    return true;
}

static int retire_topic(struct command_context *context, const struct config *config, const char *topic,
                        const char *reason)
{
    char actor[ACTOR_BYTES];
    struct pg pg = {0};
    struct offset_retire retire = {.topic = topic, .reason = reason, .actor = actor_name(actor)};
    bool retired = owner_open(&pg, config->postgres.owner_dsn, context->name) && offset_retire(&pg, &retire);
    pg_close(&pg);
    if (!retired)
        return command_fail(context, EXIT_FAILED, "%s", pg.failure.detail);
    return print_retired(context, &retire) ? EXIT_DONE : command_fail(context, EXIT_FAILED, "out of memory");
}

static int retire_chosen(struct command_context *context, const struct config *config, const void *chosen,
                         int operand_count, char **operands)
{
    const struct retire_choice *choice = chosen;
    if (operand_count != 1)
        return command_fail(context, EXIT_USAGE, "one TOPIC is needed");
    if (!choice->reason || !*choice->reason)
        return command_fail(context, EXIT_USAGE, "--reason is needed: the ledger keeps it");
    if (is_read(config, operands[0]))
        return command_fail(context, EXIT_FAILED,
                            "topic %s is among kafka.usage_topics: take it out of the configuration of all "
                            "processes first",
                            operands[0]);
    if (!is_confirmed(choice, operands[0]))
        return command_fail(context, EXIT_FAILED, "not confirmed: nothing was changed");
    return retire_topic(context, config, operands[0], choice->reason);
}

int cmd_retire(struct command_context *context, int argc, char **argv)
{
    struct retire_choice choice = {0};
    const struct option_row rows[] = {
        {.name = "reason",
         .type = OPTION_TEXT,
         .value = &choice.reason,
         .argument = "TEXT",
         .help = "why; the ledger keeps it"},
        {.name = "yes", .letter = 'y', .type = OPTION_FLAG, .value = &choice.yes, .help = "don't ask"},
        {0}};
    const struct options options = {
        .operands = "TOPIC",
        .about =
            "Sets a topic aside that was taken out of kafka.usage_topics: usage_watermark and seals, which "
            "wait for\n"
            "every partition that was ever read, wait for its partitions no longer. What was counted "
            "stays. Put\n"
            "back into kafka.usage_topics it goes on where it stood, and counts again.",
        .rows = rows};
    return command_run(context, &options, argc, argv, retire_chosen, &choice);
}
