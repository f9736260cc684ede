#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "../rollup/migrate.h"
#include "commands.h"
#include "kafka_admin.h"
#include "printable.h"
#include "since.h"
#include "tables.h"

enum { MOST_COLUMNS = 12, KAFKA_TIMEOUT_MS = 2000 };

struct chosen {
    int64_t every_us; /* --watch; 0: once */
    bool no_kafka;
    bool all; /* totals since the beginning, which read whole tables */
};

#define SECOND(time) "to_char(" time ", 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
#define AGE_S(time) "greatest(floor(extract(epoch FROM now() - " time ")), 0)::bigint::text"

/* clang-format off */
#define NEW(time) time " > now() - interval '24 hours'"
#define SUMS(what) \
    "coalesce(sum(" what "), 0)::bigint AS " what "," \
    " coalesce(sum(" what ") FILTER (WHERE " NEW("committed_at") "), 0)::bigint AS new_" what

/* Of the last day, which is quick; or of all, and what of it is of the last day. */
#define TOTALS(of_ledger, of_conflicts, total) \
    "WITH s AS (SELECT " SUMS("accepted") ", " SUMS("duplicate") ", " SUMS("dead") ", " SUMS("hole") ", " SUMS("gap") \
    "  FROM batch_ledger" of_ledger ")," \
    " c AS (SELECT count(*) AS conflict, count(*) FILTER (WHERE " NEW("created_at") ") AS new_conflict" \
    "  FROM event_conflict" of_conflicts ")" \
    " SELECT outcome, new::text, " total " FROM s, c, LATERAL (VALUES ('accepted', accepted, new_accepted)," \
    "  ('duplicate', duplicate, new_duplicate), ('dead', dead, new_dead), ('hole', hole, new_hole)," \
    "  ('gap', gap, new_gap), ('conflict', conflict, new_conflict)) AS o(outcome, total, new)"

#define FACTS(dead_letters_to_replay) \
    "SELECT (SELECT max(number) FROM schema_migration)::text, CASE WHEN w.complete_through > 'epoch' THEN " \
    SECOND("w.complete_through") " END, CASE WHEN w.complete_through > 'epoch' THEN " \
    AGE_S("w.complete_through") " END, " SECOND("o.last") ", " AGE_S("o.last") ", " dead_letters_to_replay "," \
    " pg_database_size(current_database())::text" \
    " FROM usage_watermark w, (SELECT max(updated_at) AS last FROM consumer_offset) o"
/* clang-format on */

/* A part of the screen: the rows of one query, all as text. */
struct section {
    const char *name;    /* in JSON */
    const char *heading; /* for a person */
    const char *none;    /* instead of a table without rows; NULL: nothing is shown */
    struct table_column columns[MOST_COLUMNS];
    const char *sql;
    const char *sql_of_all; /* with --all; NULL: the same */
};

enum lane_column { LANE_TOPIC, LANE_PARTITION, LANE_NEXT = 4, LANE_END, LANE_LAG };

/* clang-format off */
static const struct section lanes_section = {
    "lanes", "lanes", "no partition was ever read: start usagebox run",
    {{"topic", TABLE_TEXT}, {"partition", TABLE_INTEGER}, {"owner", TABLE_TEXT}, {"epoch", TABLE_INTEGER},
     {"next_offset", TABLE_INTEGER}, {"end_offset", TABLE_INTEGER}, {"lag", TABLE_INTEGER},
     {"seen_through", TABLE_TEXT}, {"behind_s", TABLE_INTEGER}, {"written_s_ago", TABLE_INTEGER}},
    "SELECT topic, kafka_partition::text, nullif(owner, ''), epoch::text, greatest(next_offset, 0)::text,"
    " NULL, NULL, CASE WHEN seen_through > 'epoch' THEN " SECOND("seen_through") " END,"
    " CASE WHEN seen_through > 'epoch' THEN " AGE_S("seen_through") " END, " AGE_S("updated_at")
    " FROM consumer_offset WHERE retired_at IS NULL ORDER BY topic, kafka_partition", NULL};

static const struct section sections[] = {
    {"repartition", "repartition under way: lanes read up to their ends, then wait for each other", NULL,
     {{"from", TABLE_INTEGER}, {"to", TABLE_INTEGER}, {"ordered_at", TABLE_TEXT}, {"waits_for_lanes", TABLE_TEXT},
      {"records_left", TABLE_INTEGER}},
     "SELECT from_count::text, to_count::text, " SECOND("ordered_at") ", (SELECT string_agg(DISTINCT"
     " kafka_partition::text, ', ') FROM repartition_waits), (SELECT coalesce(sum(end_offset - next_offset), 0)"
     " FROM repartition_waits)::text FROM repartition WHERE finished_at IS NULL", NULL},
    {"totals", "records", NULL,
     {{"outcome", TABLE_TEXT}, {"last_24h", TABLE_INTEGER}, {"total", TABLE_INTEGER}},
     TOTALS(" WHERE " NEW("committed_at"), " WHERE " NEW("created_at"), "NULL"), TOTALS("", "", "total::text")},
    {"dead_letters", "dead letters of the last 24 hours", NULL,
     {{"reason", TABLE_TEXT}, {"count", TABLE_INTEGER}, {"replayed", TABLE_INTEGER}, {"latest", TABLE_TEXT}},
     "SELECT reason, count(*)::text, count(replayed_at)::text, " SECOND("max(created_at)") " FROM dead_letter"
     " WHERE " NEW("created_at") " GROUP BY reason ORDER BY count(*) DESC, reason", NULL},
    {"days", "event days", NULL,
     {{"state", TABLE_TEXT}, {"days", TABLE_INTEGER}, {"first", TABLE_TEXT}, {"last", TABLE_TEXT}},
     "WITH leaf AS (SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day FROM pg_inherits i"
     "  JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'usage_event'::regclass"
     "  AND c.relname ~ '^usage_event_[0-9]{8}$')"
     " SELECT state, count(*)::text, min(day)::text, max(day)::text FROM (SELECT l.day, CASE"
     "  WHEN s.duplicates > 0 THEN 'holds events twice' WHEN s.day IS NULL AND l.day > (now() AT TIME ZONE"
     "  'UTC')::date THEN 'ahead' WHEN s.day IS NULL THEN 'open' WHEN to_regclass('dedupe_segment_' ||"
     "  to_char(l.day, 'YYYYMMDD')) IS NULL THEN 'sealed' ELSE 'sealed, not by all lanes yet' END AS state"
     "  FROM leaf l LEFT JOIN sealed_day s USING (day)) d GROUP BY state ORDER BY max(day)", NULL},
    {"ceilings", "ceilings in force", "no ceilings are in force",
     {{"ceiling", TABLE_TEXT}, {"who", TABLE_TEXT}, {"meter", TABLE_TEXT}, {"period", TABLE_TEXT},
      {"limit", TABLE_DECIMAL}, {"policy", TABLE_TEXT}, {"over_now", TABLE_INTEGER}},
     "SELECT c.name, CASE who_kind WHEN 'everyone' THEN '*' WHEN 'plan' THEN 'plan ' || who ELSE who END,"
     " c.meter, c.period, trim_scale(c.limit_quantity)::text, c.policy, coalesce(o.customers, 0)::text FROM ceiling c"
     " LEFT JOIN (SELECT ceiling, count(DISTINCT customer_id) AS customers FROM ceiling_state"
     "  WHERE active AND period_end > now() GROUP BY ceiling) o ON o.ceiling = c.name"
     " WHERE c.retired_at IS NULL ORDER BY c.name", NULL},
};

static const struct section facts_section = {
    "", "", NULL,
    {{"schema", TABLE_INTEGER}, {"complete_through", TABLE_TEXT}, {"complete_behind_s", TABLE_INTEGER},
     {"last_commit", TABLE_TEXT}, {"last_commit_s_ago", TABLE_INTEGER},
     {"dead_letters_to_replay", TABLE_INTEGER}, {"database_bytes", TABLE_INTEGER}},
    FACTS("NULL"), FACTS("(SELECT count(*) FROM dead_letter WHERE replayed_at IS NULL)::text")};
/* clang-format on */

enum { SECTIONS = sizeof sections / sizeof *sections };

/* All that is shown. */
struct status {
    struct table *lanes;
    struct table *sections[SECTIONS];
    struct table *facts;
    size_t rows[SECTIONS];
    size_t lane_rows;
    struct text facts_cells[MOST_COLUMNS]; /* of the result below */
    PGresult *facts_result;
    char kafka_trouble[KAFKA_ERROR_BYTES]; /* empty: end offsets are known */
};

/* --- from Kafka --- */

/* The partition's end, if the cluster says so in time; what is asked after the first failure is not asked. */
static void look_up_end(struct kafka_admin *kafka, struct status *status, struct text cells[MOST_COLUMNS],
                        char texts[2][24])
{
    int64_t low_offset, end_offset;
    if (!kafka || *status->kafka_trouble)
        return;
    if (!kafka_admin_watermarks(kafka, cells[LANE_TOPIC].bytes, (int32_t)atoi(cells[LANE_PARTITION].bytes),
                                &low_offset, &end_offset, status->kafka_trouble))
        return;
    int64_t lag = end_offset - atoll(cells[LANE_NEXT].bytes);
    cells[LANE_END] =
        (struct text){texts[0], (uint32_t)snprintf(texts[0], sizeof texts[0], "%" PRId64, end_offset)};
    cells[LANE_LAG] =
        (struct text){texts[1], (uint32_t)snprintf(texts[1], sizeof texts[1], "%" PRId64, lag > 0 ? lag : 0)};
}

static struct kafka_admin *open_kafka(const struct config *config, const struct chosen *chosen,
                                      struct status *status)
{
    const struct kafka_options options = kafka_options_of(config);
    if (!chosen->no_kafka)
        return kafka_admin_open(&options, KAFKA_TIMEOUT_MS, status->kafka_trouble);
    snprintf(status->kafka_trouble, sizeof status->kafka_trouble, "it was not asked (--no-kafka)");
    return NULL;
}

/* --- from PostgreSQL --- */

static int column_count(const struct section *section)
{
    int count = 0;
    while (count < MOST_COLUMNS && section->columns[count].heading)
        count++;
    return count;
}

static void read_cells(const struct section *section, const PGresult *result, int row,
                       struct text cells[MOST_COLUMNS])
{
    for (int i = 0; i < column_count(section); i++)
        cells[i] = PQgetisnull(result, row, i) ? (struct text){NULL, 0} : pg_text(result, row, i);
}

static PGresult *ask(struct pg *pg, const struct section *section, bool all)
{
    return pg_query(pg, all && section->sql_of_all ? section->sql_of_all : section->sql, NULL, 0);
}

static bool read_section(struct pg *pg, const struct section *section, bool all, struct table **table,
                         size_t *rows)
{
    PG_RESULT *result = ask(pg, section, all);
    if (!result)
        return false;
    *rows = (size_t)PQntuples(result);
    *table = table_new(section->columns);
    bool ok = *table;
    for (int row = 0; ok && row < PQntuples(result); row++) {
        struct text cells[MOST_COLUMNS];
        read_cells(section, result, row, cells);
        ok = table_add(*table, cells);
    }
    return ok || pg_fail(pg, PG_PASSING, "out of memory");
}

static bool read_lanes(struct pg *pg, struct kafka_admin *kafka, struct status *status)
{
    PG_RESULT *result = ask(pg, &lanes_section, false);
    if (!result)
        return false;
    status->lane_rows = (size_t)PQntuples(result);
    status->lanes = table_new(lanes_section.columns);
    bool ok = status->lanes;
    for (int row = 0; ok && row < PQntuples(result); row++) {
        struct text cells[MOST_COLUMNS];
        char texts[2][24];
        read_cells(&lanes_section, result, row, cells);
        look_up_end(kafka, status, cells, texts);
        ok = table_add(status->lanes, cells);
    }
    return ok || pg_fail(pg, PG_PASSING, "out of memory");
}

static bool read_facts(struct pg *pg, bool all, struct status *status)
{
    size_t rows;
    status->facts_result = ask(pg, &facts_section, all);
    if (!status->facts_result || !read_section(pg, &facts_section, all, &status->facts, &rows))
        return false;
    read_cells(&facts_section, status->facts_result, 0, status->facts_cells);
    return true;
}

/* One snapshot, so that the figures fit together. */
static bool read_status(struct pg *pg, struct kafka_admin *kafka, bool all, struct status *status)
{
    bool ok = pg_run(pg, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") &&
              read_lanes(pg, kafka, status) && read_facts(pg, all, status);
    for (size_t i = 0; ok && i < SECTIONS; i++)
        ok = read_section(pg, &sections[i], all, &status->sections[i], &status->rows[i]);
    return ok && pg_run(pg, "COMMIT");
}

static void status_free(struct status *status)
{
    table_free(status->lanes);
    table_free(status->facts);
    for (size_t i = 0; i < SECTIONS; i++)
        table_free(status->sections[i]);
    PQclear(status->facts_result);
}

/* --- as JSON --- */

static json_t *status_json(const struct status *status)
{
    json_t *facts = table_json(status->facts);
    json_t *all = json_deep_copy(json_array_get(facts, 0));
    json_decref(facts);
    bool ok =
        all && json_object_set_new(all, "version", json_string(USAGEBOX_VERSION)) == 0 &&
        json_object_set_new(all, "kafka_trouble",
                            *status->kafka_trouble ? json_string(status->kafka_trouble) : json_null()) == 0 &&
        json_object_set_new(all, lanes_section.name, table_json(status->lanes)) == 0;
    for (size_t i = 0; ok && i < SECTIONS; i++)
        ok = json_object_set_new(all, sections[i].name, table_json(status->sections[i])) == 0;
    if (ok)
        return all;
    json_decref(all);
    return NULL;
}

/* --- for a person --- */

static void print_section(const struct section *section, const struct table *table, size_t rows)
{
    if (rows == 0 && !section->none)
        return;
    printf("\n%s\n", rows > 0 ? section->heading : section->none);
    if (rows > 0)
        table_print(table, stdout);
}

/* 3 s, 4 min, 5 h or 6 days, as far as a person wants to know. */
static void print_ago(struct text seconds)
{
    int64_t age_s = seconds.bytes ? atoll(seconds.bytes) : 0;
    if (age_s < 120)
        printf(" (%" PRId64 " s ago)", age_s);
    else if (age_s < 7200)
        printf(" (%" PRId64 " min ago)", age_s / 60);
    else if (age_s < 172800)
        printf(" (%" PRId64 " h ago)", age_s / 3600);
    else
        printf(" (%" PRId64 " days ago)", age_s / 86400);
}

static void print_time(const char *label, struct text time, struct text seconds)
{
    printf("%-18s", label);
    if (time.bytes) {
        printf("%.*s", (int)time.length, time.bytes);
        print_ago(seconds);
    } else {
        fputs("never", stdout);
    }
    putchar('\n');
}

static bool print_status(const struct command_context *context, const struct status *status)
{
    if (context->json) {
        json_t *all = status_json(status);
        return all && json_print(all, stdout);
    }
    const struct text *facts = status->facts_cells;
    printf("%-18s%s, schema %.*s, database of %.1f MiB\n", "usagebox", USAGEBOX_VERSION, (int)facts[0].length,
           facts[0].bytes, atof(facts[6].bytes) / 1048576);
    print_time("complete through", facts[1], facts[2]);
    print_time("last commit", facts[3], facts[4]);
    print_section(&lanes_section, status->lanes, status->lane_rows);
    if (*status->kafka_trouble) {
        fputs("end offsets are not known: ", stdout);
        printable_write(PRINTABLE_PLAIN, text_of(status->kafka_trouble), stdout);
        putchar('\n');
    }
    for (size_t i = 0; i < SECTIONS; i++)
        print_section(&sections[i], status->sections[i], status->rows[i]);
    return true;
}

/* --- the command --- */

static int show_once(struct command_context *context, const struct config *config,
                     const struct chosen *chosen)
{
    struct status status = {0};
    struct pg pg = {0};
    struct kafka_admin *kafka = NULL;
    bool done = pg_open(&pg, config->postgres.dsn, context->name) && migrate_check(&pg, migrations);
    if (done)
        kafka = open_kafka(config, chosen, &status);
    done = done && read_status(&pg, kafka, chosen->all, &status);
    kafka_admin_close(kafka);
    pg_close(&pg);
    int code = !done                            ? command_fail(context, EXIT_FAILED, "%s", pg.failure.detail)
               : print_status(context, &status) ? EXIT_DONE
                                                : command_fail(context, EXIT_FAILED, "out of memory");
    status_free(&status);
    return code;
}

/* A failure is shown and passes: whoever watches wants to see when it is over. */
static int show(struct command_context *context, const struct config *config, const void *options,
                int operand_count, char **operands)
{
    (void)operand_count, (void)operands;
    const struct chosen *chosen = options;
    if (chosen->every_us == 0)
        return show_once(context, config, chosen);
    for (;;) {
        const struct timespec pause = {.tv_sec = chosen->every_us / 1000000,
                                       .tv_nsec = chosen->every_us % 1000000 * 1000};
        if (isatty(STDOUT_FILENO))
            fputs("\x1b[H\x1b[2J", stdout);
        show_once(context, config, chosen);
        if (fflush(stdout) != 0)
            return EXIT_FAILED;
        nanosleep(&pause, NULL);
    }
}

int cmd_status(struct command_context *context, int argc, char **argv)
{
    struct chosen chosen = {0};
    const struct option_row rows[] = {{.name = "watch",
                                       .type = OPTION_DURATION,
                                       .value = &chosen.every_us,
                                       .argument = "DURATION",
                                       .help = "show it again and again, so often; Ctrl-C ends it",
                                       .most = INT64_C(86400) * 1000000},
                                      {.name = "no-kafka",
                                       .type = OPTION_FLAG,
                                       .value = &chosen.no_kafka,
                                       .help = "don't ask Kafka for end offsets"},
                                      {.name = "all",
                                       .type = OPTION_FLAG,
                                       .value = &chosen.all,
                                       .help = "totals since the beginning, too: reads all of the ledger"},
                                      {0}};
    const struct options options = {
        .about =
            "Shows how things stand: who reads which partition and how far behind, up to when usage is\n"
            "complete, what became of all records, refused ones by reason, open and sealed days, ceilings\n"
            "in force and how many customers are over them. Reads from PostgreSQL, and asks Kafka for end\n"
            "offsets if it answers within two seconds.",
        .rows = rows};
    return command_run(context, &options, argc, argv, show, &chosen);
}
