#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#include "../rollup/migrate.h"
#include "dead_letters.h"
#include "event.h"
#include "listing.h"
#include "nearest.h"
#include "units.h"
#include "system_clock.h"

enum { LIMIT_DEFAULT = 100, LIMIT_MOST = 1000000 };

/* Which ones ------------------------------------------------------------------------------------------------
 */

static int check_reason(const struct command_context *context, const char *reason)
{
    struct nearest nearest = {.word = reason};
    for (int i = REFUSAL_NONE + 1; i < REFUSAL_COUNT; i++) {
        if (strcmp(refusal_names[i], reason) == 0)
            return -1;
        nearest_try(&nearest, refusal_names[i]);
    }
    if (nearest.best)
        return command_fail(context, EXIT_USAGE, "--reason: unknown \"%s\", did you mean %s?", reason,
                            nearest.best);
    return command_fail(context, EXIT_USAGE,
                        "--reason: unknown \"%s\"; `dead-letters list` shows those there are", reason);
}

static bool parse_since(const char *since, int64_t *time_us)
{
    if (timestamp_from_rfc3339(text_of(since), time_us))
        return true;
    int64_t now_us = system_wall_us();
    if (!duration_parse(text_of(since), time_us) || *time_us < 0 || *time_us > now_us)
        return false;
    *time_us = now_us - *time_us;
    return true;
}

int dead_letter_filter_parse(const struct command_context *context, struct dead_letter_filter *filter,
                             const char *parameters[DEAD_LETTER_FILTER_PARAMETERS])
{
    int64_t since_us;
    int code = filter->reason ? check_reason(context, filter->reason) : -1;
    if (code >= 0)
        return code;
    if (filter->since && !parse_since(filter->since, &since_us))
        return command_fail(
            context, EXIT_USAGE,
            "--since: expected a time such as 2026-11-22T09:30:00Z or a duration such as 24h, found "
            "\"%s\"",
            filter->since);
    if (filter->since)
        timestamp_text(since_us, filter->since_time);
    snprintf(filter->partition_text, sizeof filter->partition_text, "%" PRId64, filter->partition);
    parameters[0] = filter->reason;
    parameters[1] = filter->since ? filter->since_time : NULL;
    parameters[2] = filter->topic;
    parameters[3] = filter->partition >= 0 ? filter->partition_text : NULL;
    return -1;
}

PGresult *dead_letter_query(struct command_context *context, const struct config *config, const char *sql,
                            const char *const *parameters, int count)
{
    struct pg pg = {0};
    PGresult *result = NULL;
    if (pg_open(&pg, config->postgres.dsn, context->name) && migrate_check(&pg, migrations))
        result = pg_query(&pg, sql, parameters, count);
    pg_close(&pg);
    if (!result)
        command_fail(context, EXIT_FAILED, "%s", pg.failure.detail);
    return result;
}

/* list ------------------------------------------------------------------------------------------------------
 */

struct list_choice {
    struct dead_letter_filter filter;
    int64_t limit;
};

static const struct table_column listed_columns[] = {
    {"id", TABLE_INTEGER},        {"reason", TABLE_TEXT},    {"topic", TABLE_TEXT},
    {"partition", TABLE_INTEGER}, {"offset", TABLE_INTEGER}, {"record_time", TABLE_TEXT},
    {"replayed", TABLE_TEXT},     {"detail", TABLE_TEXT},    {NULL, 0}};

static const char list_sql[] =
    "SELECT dead_letter_id::text, reason, topic, kafka_partition::text, "
    "kafka_offset::text, " DEAD_LETTER_TIME_SQL("record_time") ", " DEAD_LETTER_TIME_SQL(
        "replayed_at") ", detail FROM dead_letter WHERE " DEAD_LETTER_FILTER_SQL
                       " ORDER BY dead_letter_id DESC LIMIT $5::bigint + 1";

static bool print_list(const struct command_context *context, const struct table *table, int rows, bool more)
{
    if (context->json)
        return json_print(json_pack("{s:o, s:b}", "dead_letters", table_json(table), "more", more), stdout);
    if (!listing_print(context, table, rows, "no dead letters"))
        return false;
    if (more)
        printf("… and older ones: --limit shows more than %d\n", rows);
    return true;
}

static int list(struct command_context *context, const struct config *config, const void *chosen,
                int operand_count, char **operands)
{
    (void)operand_count, (void)operands;
    struct list_choice choice = *(const struct list_choice *)chosen;
    const char *parameters[DEAD_LETTER_FILTER_PARAMETERS + 1];
    char limit[24];
    int code = dead_letter_filter_parse(context, &choice.filter, parameters);
    if (code >= 0)
        return code;
    snprintf(limit, sizeof limit, "%" PRId64, choice.limit);
    parameters[DEAD_LETTER_FILTER_PARAMETERS] = limit;
    PG_RESULT *result =
        dead_letter_query(context, config, list_sql, parameters, DEAD_LETTER_FILTER_PARAMETERS + 1);
    if (!result)
        return EXIT_FAILED;
    bool more = PQntuples(result) > choice.limit;
    int rows = more ? (int)choice.limit : PQntuples(result);
    struct table *table = listing_table(listed_columns, result, rows);
    bool printed = table && print_list(context, table, rows, more);
    table_free(table);
    return printed ? EXIT_DONE : command_fail(context, EXIT_FAILED, "out of memory");
}

int dead_letters_list(struct command_context *context, int argc, char **argv)
{
    struct list_choice choice = {.filter.partition = -1, .limit = LIMIT_DEFAULT};
    const struct option_row rows[] = {DEAD_LETTER_FILTER_ROWS(&choice.filter),
                                      {.name = "limit",
                                       .type = OPTION_INTEGER,
                                       .value = &choice.limit,
                                       .argument = "N",
                                       .help = "at most so many, the newest first",
                                       .least = 1,
                                       .most = LIMIT_MOST},
                                      {0}};
    const struct options options = {.about = "Lists records that were refused, the newest first.",
                                    .rows = rows};
    return command_run(context, &options, argc, argv, list, &choice);
}

int cmd_dead_letters(struct command_context *context, int argc, char **argv)
{
    static const struct command commands[] = {
        {"list", "list records that were refused", dead_letters_list},
        {"show", "show one with its bytes and say what to do", dead_letters_show},
        {"replay", "send them to their topic again", dead_letters_replay},
        {NULL, NULL, NULL}};
    return commands_dispatch(
        context, commands, "Dead letters: records that were refused, kept with a reason and all their bytes.",
        argc, argv);
}
