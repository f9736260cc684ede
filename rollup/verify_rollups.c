/* Sums over raw events, made by PostgreSQL: a few days at a time, so that its temporary files stay small. */
#include "verify_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define GROUP_ROWS 20e6 /* events that are added up at a time */
enum { GROUP_LEAVES = 32 };

#define TIME(column) "to_char(" column "::timestamptz, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
#define NAMED                                                                                                \
    "concat_ws(' ', customer_id, meter, nullif(model, ''), to_char(hour, 'YYYY-MM-DD\"T\"HH24:MI\"Z\"')"
/* One side of a difference as text; all null: none. */
#define SUMS(events, quantity, adjustment, first, last)                                                      \
    "coalesce(nullif(concat_ws(', ', " events " || ' events', 'quantity ' || trim_scale(" quantity           \
    "), 'adjustment ' || trim_scale(" adjustment                                                             \
    "), " TIME(first) " || ' to ' || " TIME(last) "), ''), 'none')"

/* A statement under construction. */
struct statement {
    char *sql;
    size_t size;
    FILE *out;
};

static bool statement_open(struct verify *v, struct statement *statement)
{
    statement->out = open_memstream(&statement->sql, &statement->size);
    return statement->out || verify_no_memory(v);
}

static bool statement_query(struct verify *v, struct statement *statement)
{
    bool whole = fclose(statement->out) == 0;
    bool ok = whole ? verify_query(v, statement->sql) : verify_no_memory(v);
    free(statement->sql);
    return ok;
}

/* Events from the hour on that --since names. */
static void put_since(const struct verify *v, const char *column, FILE *out)
{
    if (v->options->since_us != INT64_MIN)
        fprintf(out,
                " AND %s >= date_trunc('hour', 'epoch'::timestamptz + %" PRId64
                " * interval '1 microsecond')",
                column, v->options->since_us);
}

/* --- usage_hourly --- */

/* As a batch writes it: without what is empty. */
static void put_dimensions(const struct verify *v, FILE *out)
{
    fputs("jsonb_strip_nulls(jsonb_build_object(", out);
    for (size_t i = 0; i < v->options->dimension_count; i++) {
        const char *name = event_lifted_names[v->options->dimensions[i]];
        fprintf(out, "%s'%s', nullif(%s, '')", i ? ", " : "", name, name);
    }
    fputs("))", out);
}

static void put_raw_hours(const struct verify *v, size_t from, size_t to, FILE *out)
{
    fputs("WITH raw AS (", out);
    for (size_t i = from; i < to; i++) {
        fputs(i > from ? " UNION ALL " : "", out);
        fputs("SELECT customer_id, date_trunc('hour', event_time) AS hour, meter, model, ", out);
        put_dimensions(v, out);
        fprintf(
            out,
            " AS dimensions, count(*) AS events, sum(quantity) AS quantity, coalesce(sum(quantity) FILTER "
            "(WHERE kind <> 'usage'), 0) AS adjustment, min(event_time) AS first_event_at, max(event_time) "
            "AS last_event_at FROM ONLY %s WHERE true",
            v->leaves[i].name);
        put_since(v, "event_time", out);
        fputs(" GROUP BY 1, 2, 3, 4, 5", out);
    }
    if (from == to)
        fputs("SELECT * FROM usage_hourly WHERE false", out);
    fputs("), ", out);
}

static void put_stored_hours(const struct verify *v, size_t from, size_t to, FILE *out)
{
    fputs("stored AS (SELECT * FROM usage_hourly WHERE true", out);
    if (from > 0)
        fprintf(out, " AND hour >= '%s 00:00:00+00'", v->leaves[from].day);
    if (to < v->leaf_count)
        fprintf(out, " AND hour < '%s 00:00:00+00'", v->leaves[to].day);
    put_since(v, "hour", out);
    fputs("), ", out);
}

/* Rows that were written under another rollup.dimensions are recognised by dimensions that the events do not
 * have under the present one; of those the sums over all dimensions are compared.
 * d: rows that differ, r… what the raw events say, s… what is stored; h: the same over all dimensions. */
/* clang-format off */
static const char hours_sql[] =
    "d AS (SELECT customer_id, hour, meter, model, dimensions,"
    "   r.events AS re, r.quantity AS rq, r.adjustment AS ra, r.first_event_at AS rf, r.last_event_at AS rl,"
    "   s.events AS se, s.quantity AS sq, s.adjustment AS sa, s.first_event_at AS sf, s.last_event_at AS sl,"
    "   (SELECT coalesce(string_agg(k, ',' ORDER BY k), '') FROM jsonb_object_keys(dimensions) k) AS keys"
    "  FROM raw r FULL JOIN stored s USING (customer_id, hour, meter, model, dimensions)"
    "  WHERE (r.events, r.quantity, r.adjustment, r.first_event_at, r.last_event_at)"
    "   IS DISTINCT FROM (s.events, s.quantity, s.adjustment, s.first_event_at, s.last_event_at)),"
    " h AS (SELECT customer_id, hour, meter, model,"
    "   sum(re) AS re, sum(rq) AS rq, sum(ra) AS ra, sum(se) AS se, sum(sq) AS sq, sum(sa) AS sa,"
    "   (sum(re), sum(rq), sum(ra)) IS NOT DISTINCT FROM (sum(se), sum(sq), sum(sa)) AS same,"
    "   coalesce(array_agg(DISTINCT keys) FILTER (WHERE se IS NOT NULL)"
    "    <@ array_agg(DISTINCT keys) FILTER (WHERE re IS NOT NULL), true) AS judged"
    "  FROM d GROUP BY customer_id, hour, meter, model) "
    "SELECT " NAMED ", nullif(d.dimensions::text, '{}')),"
    " CASE WHEN d.re IS NULL THEN 'no raw event stands behind it'"
    "  WHEN d.se IS NULL THEN 'the row is missing'"
    "  WHEN h.same THEN 'other dimensions than the raw events have (unless rollup.dimensions was changed in"
    " that hour)'"
    "  ELSE 'the sums differ' END, " SUMS("d.re", "d.rq", "d.ra", "d.rf", "d.rl") ", "
    SUMS("d.se", "d.sq", "d.sa", "d.sf", "d.sl")
    " FROM d JOIN h USING (customer_id, hour, meter, model) WHERE h.judged "
    "UNION ALL SELECT " NAMED "), 'the sums over all dimensions differ (of the rows that differ)', "
    SUMS("re", "rq", "ra", "NULL", "NULL") ", " SUMS("se", "sq", "sa", "NULL", "NULL")
    " FROM h WHERE NOT judged AND NOT same "
    "UNION ALL SELECT NULL, count(*) || ' sums of hours were made under another rollup.dimensions: compared"
    " over all dimensions, and equal', NULL, NULL FROM h WHERE NOT judged AND same HAVING count(*) > 0";
/* clang-format on */

static bool check_hours(struct verify *v, size_t from, size_t to)
{
    struct statement statement;
    if (!statement_open(v, &statement))
        return false;
    put_raw_hours(v, from, to, statement.out);
    put_stored_hours(v, from, to, statement.out);
    fputs(hours_sql, statement.out);
    return statement_query(v, &statement);
}

static size_t group_end(const struct verify *v, size_t from)
{
    double rows = 0;
    size_t to = from;
    while (to < v->leaf_count && to - from < GROUP_LEAVES &&
           (to == from || rows + v->leaves[to].rows <= GROUP_ROWS))
        rows += v->leaves[to++].rows;
    return to;
}

bool verify_hours(struct verify *v)
{
    if (!verify_count(v, "SELECT count(*) FROM usage_hourly", &v->examined))
        return false;
    v->options->begins(v->options->context, "adding up hours", v->leaf_count);
    size_t from = 0;
    do {
        size_t to = group_end(v, from);
        if (!check_hours(v, from, to))
            return false;
        v->options->progress(v->options->context, to);
        from = to;
    } while (from < v->leaf_count);
    return true;
}

/* --- usage_run --- */

/* clang-format off */
static const char runs_sql[] =
    "SELECT concat_ws(' ', customer_id, 'run', run_id, 'agent ' || nullif(agent_id, ''),"
    "  'user ' || nullif(user_id, ''), meter, nullif(model, '')),"
    " CASE WHEN r.events IS NULL THEN 'no raw event stands behind it'"
    "  WHEN s.events IS NULL THEN 'the row is missing'"
    "  WHEN (r.events, r.quantity, r.first_event_at, r.last_event_at) IS NOT DISTINCT FROM"
    "   (s.events, s.quantity, s.first_event_at, s.last_event_at)"
    "  THEN 'parent_run_id is none that its events name' ELSE 'the sums differ' END, "
    SUMS("r.events", "r.quantity", "NULL", "r.first_event_at", "r.last_event_at")
    " || coalesce(', parent ' || r.last_parent, ''), "
    SUMS("s.events", "s.quantity", "NULL", "s.first_event_at", "s.last_event_at")
    " || coalesce(', parent ' || nullif(s.parent_run_id, ''), '')"
    " FROM raw r FULL JOIN usage_run s USING (customer_id, run_id, agent_id, user_id, meter, model)"
    " WHERE ((r.events, r.quantity, r.first_event_at, r.last_event_at) IS DISTINCT FROM"
    "   (s.events, s.quantity, s.first_event_at, s.last_event_at)"
    "  OR NOT coalesce(s.parent_run_id BETWEEN r.first_parent AND r.last_parent, s.parent_run_id = ''))";
/* clang-format on */

/* A run may go on over days. With --since: runs that began since. */
bool verify_runs(struct verify *v)
{
    struct statement statement;
    if (!verify_count(v, "SELECT count(*) FROM usage_run", &v->examined) || !statement_open(v, &statement))
        return false;
    fputs(
        "WITH raw AS (SELECT customer_id, run_id, agent_id, user_id, meter, model, count(*) AS events, "
        "sum(quantity) AS quantity, min(event_time) AS first_event_at, max(event_time) AS last_event_at, "
        "min(nullif(parent_run_id, '')) AS first_parent, max(nullif(parent_run_id, '')) AS last_parent FROM "
        "usage_event WHERE run_id <> ''",
        statement.out);
    put_since(v, "event_time", statement.out);
    fputs(" GROUP BY 1, 2, 3, 4, 5, 6) ", statement.out);
    fputs(runs_sql, statement.out);
    put_since(v, "coalesce(s.first_event_at, 'infinity')", statement.out);
    return statement_query(v, &statement);
}

/* --- identities --- */

/* First by a hash of 8 bytes, of which millions are sorted fast; then those few that share one, exactly. A
 * repeat with another time is possible once its day is sealed, and it is for a person to retract. */
bool verify_identities(struct verify *v)
{
    static const char hash[] =
        "hashtextextended(event_id, hashtextextended(meter, hashtextextended(customer_id, 0)))";
    struct statement statement;
    if (!verify_count(v, "SELECT coalesce(sum(accepted), 0)::bigint FROM batch_ledger", &v->examined) ||
        !statement_open(v, &statement))
        return false;
    fprintf(statement.out, "WITH suspect AS (SELECT %s AS hash FROM usage_event WHERE true", hash);
    put_since(v, "event_time", statement.out);
    fprintf(
        statement.out,
        " GROUP BY 1 HAVING count(*) > 1), twin AS (SELECT * FROM usage_event u JOIN suspect ON %s = hash "
        "WHERE true",
        hash);
    put_since(v, "event_time", statement.out);
    fputs(") SELECT concat_ws(' ', customer_id, meter, event_id), CASE WHEN count(DISTINCT date_trunc('day', "
          "event_time)) = 1 THEN 'one id, several events of one day' ELSE 'one id on several days' END, '1 "
          "event', "
          "count(*) || ' events: ' || string_agg(" TIME(
              "event_time") " || ' ' || trim_scale(quantity) || ' (' || "
                            "topic || '/' || kafka_partition || '@' || kafka_offset || ')', ', ' ORDER BY "
                            "event_time, topic, "
                            "kafka_partition, kafka_offset) FROM twin GROUP BY customer_id, meter, event_id "
                            "HAVING count(*) > 1",
          statement.out);
    return statement_query(v, &statement);
}
