#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#include "../rollup/migrate.h"
#include "../rollup/offset_move.h"
#include "../rollup/owner.h"
#include "actor.h"
#include "commands.h"
#include "kafka_options.h"
#include "listing.h"

enum { WATERMARKS_TIMEOUT_MS = 15000 };

/* list ----------------------------------------------------------------------------------------------------
 */

static const struct table_column listed_columns[] = {
    {"topic", TABLE_TEXT},          {"partition", TABLE_INTEGER},
    {"next_offset", TABLE_INTEGER}, {"last_offset", TABLE_INTEGER},
    {"epoch", TABLE_INTEGER},       {"read_through", TABLE_TEXT},
    {"owner", TABLE_TEXT},          {"committed_at", TABLE_TEXT},
    {"retired_at", TABLE_TEXT},     {NULL, 0}};

static const char list_sql[] =
    "SELECT topic, kafka_partition::text, CASE WHEN next_offset >= 0 THEN next_offset::text END, "
    "CASE WHEN last_offset >= 0 THEN last_offset::text END, epoch::text, "
    "CASE WHEN seen_through > 'epoch' THEN to_char(seen_through, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') END, "
    "nullif(owner, ''), to_char(updated_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), "
    "to_char(retired_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') "
    "FROM consumer_offset ORDER BY topic, kafka_partition";

static int list(struct command_context *context, const struct config *config, const void *chosen,
                int operand_count, char **operands)
{
    (void)chosen, (void)operand_count, (void)operands;
    const struct listing listing = {listed_columns, list_sql, NULL, 0, "no partition was read yet"};
    return listing_run(context, config, &listing);
}

static int cmd_list(struct command_context *context, int argc, char **argv)
{
    const struct option_row rows[] = {{0}};
    const struct options options = {
        .about = "Lists where each partition stands: the one truth about what was read.", .rows = rows};
    return command_run(context, &options, argc, argv, list, NULL);
}

/* accept, seek --------------------------------------------------------------------------------------------
 */

struct move_choice {
    const char *topic;
    int64_t partition;
    int64_t offset; /* of seek */
    const char *reason;
    bool accept;
    bool yes;
};

/* What the log holds now: offsets from low on, below high. */
struct watermarks {
    int64_t low, high;
};

static bool read_watermarks(const struct config *config, const struct move_choice *choice,
                            struct watermarks *out, char error[KAFKA_ERROR_BYTES])
{
    const struct kafka_options options = kafka_options_of(config);
    rd_kafka_t *reader = kafka_handle_new(&options, KAFKA_READER, NULL, error);
    if (!reader)
        return false;
    rd_kafka_resp_err_t failed = rd_kafka_query_watermark_offsets(
        reader, choice->topic, (int32_t)choice->partition, &out->low, &out->high, WATERMARKS_TIMEOUT_MS);
    if (failed)
        snprintf(error, KAFKA_ERROR_BYTES, "%s/%" PRId64 ": %s", choice->topic, choice->partition,
                 rd_kafka_err2str(failed));
    kafka_handle_free(reader);
    return !failed;
}

static bool is_usage_topic(const struct config *config, const char *topic)
{
    for (size_t i = 0; i < config->kafka.usage_topics.count; i++)
        if (strcmp(config->kafka.usage_topics.items[i], topic) == 0)
            return true;
    return false;
}

static int check_choice(struct command_context *context, const struct config *config,
                        const struct move_choice *choice)
{
    if (!choice->topic || choice->partition < 0 || (!choice->accept && choice->offset < 0))
        return command_fail(context, EXIT_USAGE, "--topic%s --partition are needed%s",
                            choice->accept ? " and" : ",", choice->accept ? "" : ", and --offset");
    if (!choice->reason || !*choice->reason)
        return command_fail(context, EXIT_USAGE, "--reason is needed: the ledger keeps it");
    if (!is_usage_topic(config, choice->topic))
        return command_fail(context, EXIT_FAILED, "topic %s is not among kafka.usage_topics", choice->topic);
    return -1;
}

/* Only a person at a terminal is asked. */
static bool is_confirmed(const struct move_choice *choice, const struct watermarks *log, int64_t to_offset)
{
    char answer[16];
    if (choice->yes || !isatty(STDIN_FILENO))
        return true;
    fprintf(stderr,
            "%s/%" PRId64 " will go on at offset %" PRId64 " (the log holds %" PRId64 " to %" PRId64
            "). Offsets skipped are\nnever counted; whoever reads the partition now is interrupted. Go on? "
            "[y/N] ",
            choice->topic, choice->partition, to_offset, log->low, log->high);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static bool print_move(const struct command_context *context, const struct offset_move *move)
{
    int64_t gap = move->to_offset - move->from_offset;
    if (context->json)
        return json_print(json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:s, s:s}", "topic", move->topic,
                                    "partition", move->partition, "from_offset",
                                    (json_int_t)move->from_offset, "to_offset", (json_int_t)move->to_offset,
                                    "gap", (json_int_t)gap, "epoch", (json_int_t)move->epoch, "batch_id",
                                    (json_int_t)move->batch_id, "reason", move->reason, "actor", move->actor),
                          stdout);
    printf("%s/%" PRId32 " goes on at offset %" PRId64 ", it stood at %" PRId64 ": ", move->topic,
           move->partition, move->to_offset, move->from_offset);
    if (gap >= 0)
        printf("a gap of %" PRId64 " is recorded", gap);
    else
        printf("%" PRId64 " offsets are read again, repeats are not counted", -gap);
    printf(" (batch %" PRId64 ", by %s)\n", move->batch_id, move->actor);
    return true;
}

static int move_offset(struct command_context *context, const struct config *config,
                       const struct move_choice *choice, int64_t to_offset, int64_t log_end)
{
    char actor[ACTOR_BYTES];
    struct pg pg = {0};
    struct offset_move move = {.topic = choice->topic,
                               .partition = (int32_t)choice->partition,
                               .to_offset = to_offset,
                               .log_end = log_end,
                               .forward_only = choice->accept,
                               .reason = choice->reason,
                               .actor = actor_name(actor)};
    bool moved = owner_open(&pg, config->postgres.owner_dsn, context->name) && offset_move(&pg, &move);
    pg_close(&pg);
    if (!moved)
        return command_fail(context, EXIT_FAILED, "%s", pg.failure.detail);
    return print_move(context, &move) ? EXIT_DONE : command_fail(context, EXIT_FAILED, "out of memory");
}

static int move(struct command_context *context, const struct config *config, const void *chosen,
                int operand_count, char **operands)
{
    (void)operand_count, (void)operands;
    const struct move_choice *choice = chosen;
    struct watermarks log;
    char error[KAFKA_ERROR_BYTES];
    int code = check_choice(context, config, choice);
    if (code >= 0)
        return code;
    if (!read_watermarks(config, choice, &log, error))
        return command_fail(context, EXIT_FAILED, "%s", error);
    int64_t to_offset = choice->accept ? log.low : choice->offset;
    if (to_offset < log.low || to_offset > log.high)
        return command_fail(context, EXIT_FAILED,
                            "%s/%" PRId64 " holds offsets %" PRId64 " to %" PRId64
                            " only: it can't go on at %" PRId64,
                            choice->topic, choice->partition, log.low, log.high, to_offset);
    if (!is_confirmed(choice, &log, to_offset))
        return command_fail(context, EXIT_FAILED, "not confirmed: nothing was changed");
    return move_offset(context, config, choice, to_offset, log.high);
}

/* What accept and seek have in common. */
#define MOVE_ROWS(choice)                                                                                    \
    {.name = "topic",                                                                                        \
     .type = OPTION_TEXT,                                                                                    \
     .value = &(choice)->topic,                                                                              \
     .argument = "TOPIC",                                                                                    \
     .help = "the usage topic"},                                                                             \
        {.name = "partition",                                                                                \
         .type = OPTION_INTEGER,                                                                             \
         .value = &(choice)->partition,                                                                      \
         .argument = "N",                                                                                    \
         .help = "the partition",                                                                            \
         .least = 0,                                                                                         \
         .most = INT32_MAX},                                                                                 \
        {.name = "reason",                                                                                   \
         .type = OPTION_TEXT,                                                                                \
         .value = &(choice)->reason,                                                                         \
         .argument = "TEXT",                                                                                 \
         .help = "why; the ledger keeps it"},                                                                \
    {                                                                                                        \
        .name = "yes", .letter = 'y', .type = OPTION_FLAG, .value = &(choice)->yes, .help = "don't ask"      \
    }

static int cmd_accept(struct command_context *context, int argc, char **argv)
{
    struct move_choice choice = {.partition = -1, .accept = true};
    const struct option_row rows[] = {MOVE_ROWS(&choice), {0}};
    const struct options options = {
        .about =
            "Accepts that records were removed from a partition before they were read, and goes on where "
            "its\n"
            "log begins. What is missing is recorded as a gap in the ledger. Frees a lane stopped for that.",
        .rows = rows};
    return command_run(context, &options, argc, argv, move, &choice);
}

static int cmd_seek(struct command_context *context, int argc, char **argv)
{
    struct move_choice choice = {.partition = -1, .offset = -1};
    const struct option_row rows[] = {MOVE_ROWS(&choice),
                                      {.name = "offset",
                                       .type = OPTION_INTEGER,
                                       .value = &choice.offset,
                                       .argument = "N",
                                       .help = "the offset to go on at"},
                                      {0}};
    const struct options options = {
        .about = "Lets a partition go on at any offset that its log holds, as after its topic was made anew. "
                 "What is\n"
                 "skipped is recorded as a gap in the ledger; what is read again is found to be a repeat.",
        .rows = rows};
    return command_run(context, &options, argc, argv, move, &choice);
}

int cmd_offsets(struct command_context *context, int argc, char **argv)
{
    static const struct command commands[] = {
        {"list", "list where each partition stands", cmd_list},
        {"accept", "go on although records were removed before they were read", cmd_accept},
        {"seek", "go on at another offset", cmd_seek},
        {"retire", "set a topic aside that is read no more", cmd_retire},
        {"repartition", "re-home customers after partitions were added", cmd_repartition},
        {NULL, NULL, NULL}};
    return commands_dispatch(context, commands,
                             "Offsets: how far each partition was read, and freeing stopped lanes.", argc,
                             argv);
}
