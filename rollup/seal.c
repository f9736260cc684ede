#include "seal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SEAL_LOCK "1430411330, 3"

const char *const seal_state_why[SEAL_STATES] = {
    [SEAL_SEALED] = "sealed",
    [SEAL_NOT_OVER] = "the day is not over yet",
    [SEAL_IN_WINDOW] = "dedupe.window has not passed since its end",
    [SEAL_UNREAD] = "not every partition has been read that far (usage_watermark)",
    [SEAL_BUSY] = "rows of it came within the last minutes",
    [SEAL_MARKED] = "it holds events twice: see sealed_day.report",
    [SEAL_DUE] = "due",
};

/* $1: the window in µs; $2: one day, or null for all that are over and not sealed. */
static const char survey_sql[] =
    "WITH leaf AS (SELECT to_date(substr(c.relname, 13), 'YYYYMMDD') AS day FROM pg_inherits i "
    "JOIN pg_class c ON c.oid = i.inhrelid "
    "WHERE i.inhparent = 'usage_event'::regclass AND c.relname ~ '^usage_event_[0-9]{8}$'), "
    "judged AS (SELECT day, (day + 1)::timestamptz AS day_end, "
    "(day + 1)::timestamptz + $1::bigint * interval '1 microsecond' AS due_at FROM leaf) "
    "SELECT to_char(day, 'YYYY-MM-DD'), to_char(day, 'YYYYMMDD'), "
    "s.duplicates IS NOT DISTINCT FROM 0, day_end <= now(), due_at <= now(), "
    "coalesce(w.complete_through >= due_at, false), "
    "floor(extract(epoch FROM now() - due_at))::bigint, coalesce(s.duplicates, 0), "
    "coalesce(floor(extract(epoch FROM now() - s.sealed_at)), 0)::bigint, "
    "to_regclass('dedupe_segment_' || to_char(day, 'YYYYMMDD')) IS NOT NULL "
    "FROM judged LEFT JOIN sealed_day s USING (day) CROSS JOIN usage_watermark w "
    "WHERE CASE WHEN $2::date IS NULL THEN day_end <= now() AND s.duplicates IS DISTINCT FROM 0 "
    "ELSE day = $2::date END ORDER BY day";
enum {
    COLUMN_DATE,
    COLUMN_SUFFIX,
    COLUMN_SEALED,
    COLUMN_OVER,
    COLUMN_WINDOW_PASSED,
    COLUMN_READ,
    COLUMN_OVERDUE_S,
    COLUMN_DUPLICATES,
    COLUMN_MARKED_S,
    COLUMN_HAS_SEGMENTS
};

bool seal_lock(struct pg *pg, bool *locked)
{
    PG_RESULT *result = pg_query(pg, "SELECT pg_try_advisory_lock(" SEAL_LOCK ")", NULL, 0);
    if (result)
        *locked = pg_bool(result, 0, 0);
    return result;
}

void seal_unlock(struct pg *pg)
{
    struct pg_failure why = pg->failure;
    if (pg_is_open(pg)) /* a lost connection has lost its lock */
        pg_run(pg, "SELECT pg_advisory_unlock(" SEAL_LOCK ")");
    pg->failure = why;
}

/* Every batch leaves a dedupe segment for each of its days, at the time when its transaction began. */
static bool is_idle(struct pg *pg, const struct seal_day *day, const struct seal_rules *rules, bool *idle)
{
    char sql[320], idle_us[24], busy_us[24], overdue_s[24];
    snprintf(sql, sizeof sql,
             "SELECT coalesce(max(created_at) <= now() - $1::bigint * interval '1 microsecond' OR "
             "greatest(min(created_at), now() - $3::bigint * interval '1 second') <= "
             "now() - $2::bigint * interval '1 microsecond', true) FROM dedupe_segment_%s",
             day->suffix);
    snprintf(idle_us, sizeof idle_us, "%" PRId64, rules->idle_us);
    snprintf(busy_us, sizeof busy_us, "%" PRId64, rules->busy_us);
    snprintf(overdue_s, sizeof overdue_s, "%" PRId64, day->overdue_s);
    PG_RESULT *result = pg_query(pg, sql, (const char *[]){idle_us, busy_us, overdue_s}, 3);
    if (result)
        *idle = pg_bool(result, 0, 0);
    return result;
}

static enum seal_state state_of(const PGresult *result, int row, const struct seal_rules *rules)
{
    if (pg_bool(result, row, COLUMN_SEALED))
        return SEAL_SEALED;
    if (!pg_bool(result, row, COLUMN_OVER))
        return SEAL_NOT_OVER;
    if (!pg_bool(result, row, COLUMN_WINDOW_PASSED))
        return SEAL_IN_WINDOW;
    if (!pg_bool(result, row, COLUMN_READ))
        return SEAL_UNREAD;
    bool marked = pg_int8(result, row, COLUMN_DUPLICATES) > 0;
    if (marked && pg_int8(result, row, COLUMN_MARKED_S) < rules->retry_us / 1000000)
        return SEAL_MARKED;
    return SEAL_DUE;
}

static bool judge_day(struct pg *pg, const PGresult *result, int row, const struct seal_rules *rules,
                      struct seal_day *day)
{
    *day = (struct seal_day){.state = state_of(result, row, rules),
                             .overdue_s = pg_int8(result, row, COLUMN_OVERDUE_S),
                             .duplicates = pg_int8(result, row, COLUMN_DUPLICATES)};
    snprintf(day->date, sizeof day->date, "%s", PQgetvalue(result, row, COLUMN_DATE));
    snprintf(day->suffix, sizeof day->suffix, "%s", PQgetvalue(result, row, COLUMN_SUFFIX));
    bool idle = true;
    if (day->state == SEAL_DUE && pg_bool(result, row, COLUMN_HAS_SEGMENTS) &&
        !is_idle(pg, day, rules, &idle))
        return false;
    if (!idle)
        day->state = SEAL_BUSY;
    return true;
}

bool seal_survey(struct pg *pg, const struct seal_rules *rules, const char *date, struct seal_day **days,
                 size_t *count)
{
    char window[24];
    snprintf(window, sizeof window, "%" PRId64, rules->window_us);
    *days = NULL;
    *count = 0;
    PG_RESULT *result = pg_query(pg, survey_sql, (const char *[]){window, date}, 2);
    if (!result)
        return false;
    size_t rows = (size_t)PQntuples(result);
    *days = calloc(rows + 1, sizeof **days);
    if (!*days)
        return pg_fail(pg, PG_OTHER, "out of memory");
    for (; *count < rows; ++*count)
        if (!judge_day(pg, result, (int)*count, rules, &(*days)[*count]))
            break;
    if (*count == rows)
        return true;
    free(*days);
    *days = NULL;
    return false;
}

static bool run_with_lock_timeout(struct pg *pg, int timeout_s, const char *sql)
{
    char set[64];
    snprintf(set, sizeof set, "SET lock_timeout = '%ds'", timeout_s);
    if (!pg_run(pg, set))
        return false;
    bool done = pg_run(pg, sql);
    struct pg_failure why = pg->failure;
    if (pg_is_open(pg) && !pg_run(pg, "SET lock_timeout = '30s'") && done)
        return false;
    if (!done)
        pg->failure = why;
    return done;
}

/* CREATE and DROP INDEX CONCURRENTLY wait for every older transaction, and a backup may take hours. */
static bool run_concurrently(struct pg *pg, const char *sql)
{
    return run_with_lock_timeout(pg, 0, sql);
}

enum index_state { INDEX_ABSENT, INDEX_INVALID, INDEX_VALID };

static bool read_index(struct pg *pg, const struct seal_day *day, enum index_state *state)
{
    static const char sql[] = "SELECT indisvalid AND indisready AND indisunique FROM pg_index "
                              "WHERE indexrelid = to_regclass('usage_event_' || $1 || '_identity')";
    PG_RESULT *result = pg_query(pg, sql, (const char *[]){day->suffix}, 1);
    if (!result)
        return false;
    *state = PQntuples(result) == 0 ? INDEX_ABSENT : pg_bool(result, 0, 0) ? INDEX_VALID : INDEX_INVALID;
    return true;
}

static bool drop_index(struct pg *pg, const struct seal_day *day)
{
    char sql[128];
    snprintf(sql, sizeof sql, "DROP INDEX CONCURRENTLY IF EXISTS usage_event_%s_identity", day->suffix);
    return run_concurrently(pg, sql);
}

static bool create_index(struct pg *pg, const struct seal_day *day)
{
    char sql[192];
    snprintf(sql, sizeof sql,
             "CREATE UNIQUE INDEX CONCURRENTLY usage_event_%s_identity ON usage_event_%s "
             "(customer_id, meter, event_id)",
             day->suffix, day->suffix);
    return run_concurrently(pg, sql);
}

static bool record_sealed(struct pg *pg, const struct seal_day *day)
{
    static const char sql[] = "INSERT INTO sealed_day (day) VALUES ($1::date) ON CONFLICT (day) DO UPDATE "
                              "SET sealed_at = now(), duplicates = 0, report = '[]'";
    PG_RESULT *result = pg_query(pg, sql, (const char *[]){day->date}, 1);
    return result;
}

/* The index proved that there are some, so the count is never 0, which would mean sealed. */
static bool record_duplicates(struct pg *pg, struct seal_day *day)
{
    char sql[1400];
    snprintf(
        sql, sizeof sql,
        "WITH twice AS (SELECT customer_id, meter, event_id, count(*) AS events, jsonb_agg("
        "jsonb_build_object('topic', topic, 'partition', kafka_partition, 'offset', kafka_offset, "
        "'quantity', trim_scale(quantity)::text) ORDER BY topic, kafka_partition, kafka_offset) AS places "
        "FROM usage_event_%s GROUP BY customer_id, meter, event_id HAVING count(*) > 1), "
        "first AS (SELECT * FROM twice ORDER BY customer_id, meter, event_id LIMIT 100) "
        "INSERT INTO sealed_day (day, duplicates, report) SELECT $1::date, "
        "greatest(1, (SELECT coalesce(sum(events - 1), 0) FROM twice)::bigint), "
        "(SELECT coalesce(jsonb_agg(to_jsonb(first)), '[]') FROM first) "
        "ON CONFLICT (day) DO UPDATE SET sealed_at = now(), duplicates = excluded.duplicates, "
        "report = excluded.report RETURNING duplicates",
        day->suffix);
    PG_RESULT *result = pg_query(pg, sql, (const char *[]){day->date}, 1);
    if (result)
        day->duplicates = pg_int8(result, 0, 0);
    return result;
}

/* A failed build leaves an index that is not valid and yet refuses rows: it must not stay. */
static enum seal_outcome mark(struct pg *pg, struct seal_day *day)
{
    return drop_index(pg, day) && record_duplicates(pg, day) ? SEAL_DUPLICATES : SEAL_FAILED;
}

enum seal_outcome seal_build(struct pg *pg, struct seal_day *day)
{
    enum index_state index;
    if (!read_index(pg, day, &index) || (index == INDEX_INVALID && !drop_index(pg, day)))
        return SEAL_FAILED;
    if (index != INDEX_VALID && !create_index(pg, day))
        return strcmp(pg->failure.sqlstate, "23505") == 0 ? mark(pg, day) : SEAL_FAILED;
    return record_sealed(pg, day) ? SEAL_DONE : SEAL_FAILED;
}

/* A reader in the way is waited for only shortly: those who want to read behind us would wait as well. */
static bool drop_table(struct pg *pg, const char *table)
{
    char sql[128];
    snprintf(sql, sizeof sql, "DROP TABLE IF EXISTS %s", table);
    return run_with_lock_timeout(pg, 2, sql);
}

bool seal_drop_segments(struct pg *pg, void (*said)(void *context, const char *table), void *context)
{
    static const char sql[] =
        "SELECT segment FROM (SELECT day, 'dedupe_segment_' || to_char(day, 'YYYYMMDD') AS segment "
        "FROM sealed_day WHERE duplicates = 0) s, "
        "lane_count n "
        "WHERE to_regclass(segment) IS NOT NULL AND lanes > 0 AND lanes = "
        "(SELECT count(DISTINCT lane) FROM sealed_day_adoption a WHERE a.day = s.day AND lane < lanes)";
    PG_RESULT *result = pg_query(pg, sql, NULL, 0);
    if (!result)
        return false;
    for (int row = 0; row < PQntuples(result); row++) {
        if (!drop_table(pg, PQgetvalue(result, row, 0)))
            return false;
        said(context, PQgetvalue(result, row, 0));
    }
    return true;
}
