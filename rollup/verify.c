#include "verify_parts.h"

#include <stdlib.h>

#include "pg_columns.h"

bool verify_no_memory(struct verify *v)
{
    return pg_fail(v->pg, PG_PASSING, "out of memory");
}

static bool tell(struct verify *v, const struct verify_difference *difference)
{
    v->differences += !difference->is_note;
    return v->options->differs(v->options->context, difference) || verify_no_memory(v);
}

bool verify_differs(struct verify *v, const char *where, const char *what, const char *expected,
                    const char *found)
{
    const struct verify_difference difference = {.check = v->check,
                                                 .where = text_of(where),
                                                 .what = text_of(what),
                                                 .expected = text_of(expected),
                                                 .found = text_of(found)};
    return tell(v, &difference);
}

static bool tell_row(void *context, const PGresult *result)
{
    struct verify *v = context;
    struct verify_difference difference = {.check = v->check, .is_note = PQgetisnull(result, 0, 0)};
    difference.where = pg_text(result, 0, 0);
    difference.what = pg_text(result, 0, 1);
    difference.expected = pg_text(result, 0, 2);
    difference.found = pg_text(result, 0, 3);
    return tell(v, &difference);
}

bool verify_query(struct verify *v, const char *sql)
{
    struct pg_columns none;
    pg_columns_begin(&none, "");
    bool ok = pg_columns_each(v->pg, sql, &none, tell_row, v);
    pg_columns_free(&none);
    return ok;
}

bool verify_count(struct verify *v, const char *sql, uint64_t *count)
{
    PG_RESULT *result = pg_query(v->pg, sql, NULL, 0);
    if (result)
        *count = (uint64_t)pg_int8(result, 0, 0);
    return result;
}

/* --- the checks --- */

static const struct {
    const char *name;
    const char *label; /* while it runs */
    const char *unit;
    const char *about;
    bool (*run)(struct verify *v);
    bool by_partition; /* has a meaning for one partition alone */
} checks[] = {
    {"ledger", "reading the ledger", "batches", "every offset is accounted for, the chain is unbroken",
     verify_ledger, true},
    {"digest", "reading raw events", "records", "raw events and dead letters are what was consumed",
     verify_events, true},
    {"hours", "adding up hours", "rows", "usage_hourly equals the raw events", verify_hours, false},
    {"runs", "adding up runs", "rows", "usage_run equals the raw events", verify_runs, false},
    {"identities", "looking for repeats", "events", "no event is counted twice", verify_identities, false},
    {"seals", "looking at seals", "days", "sealed days have their unique index", verify_seals, false},
    {"segments", "counting dedupe keys", "keys", "open days have a dedupe key for each event",
     verify_segments, true},
    {"decisions", "following decisions", "decisions",
     "each follows the one before and names an event that is there", verify_decisions, true},
    {"counters", "adding up counters", "counters", "ceilings count what was used", verify_counters, true},
    {"protection", "looking at triggers", "tables", "what is append-only is protected", verify_protection,
     false},
};

static bool run_check(struct verify *v, size_t i)
{
    const struct verify_options *options = v->options;
    if (options->partition >= 0 && !checks[i].by_partition)
        return true;
    if (checks[i].run == verify_runs && !options->runs)
        return true;
    v->check = checks[i].name;
    v->examined = v->differences = 0;
    options->begins(options->context, checks[i].label, 0);
    if (!checks[i].run(v))
        return false;
    const struct verify_outcome outcome = {.check = v->check,
                                           .about = checks[i].about,
                                           .unit = checks[i].unit,
                                           .examined = v->examined,
                                           .differences = v->differences};
    return options->ended(options->context, &outcome) || verify_no_memory(v);
}

static bool read_secret(struct verify *v)
{
    PG_RESULT *result = pg_query(v->pg, "SELECT bytes FROM setting WHERE name = 'identity_secret'", NULL, 0);
    if (!result && strcmp(v->pg->failure.sqlstate, "42501") == 0)
        return pg_fail(v->pg, PG_OTHER,
                       "digests are made with a secret that this login may not read: log in as a member of "
                       "usagebox_writer or usagebox_owner");
    if (!result)
        return false;
    if (PQntuples(result) != 1 || PQgetlength(result, 0, 0) != IDENTITY_SECRET_BYTES)
        return pg_fail(v->pg, PG_OTHER, "the setting identity_secret is missing: run usagebox migrate");
    memcpy(v->secret.bytes, PQgetvalue(result, 0, 0), IDENTITY_SECRET_BYTES);
    return true;
}

static bool read_leaves(struct verify *v)
{
    PG_RESULT *result = pg_query(
        v->pg,
        "SELECT c.relname::text, to_char(to_date(right(c.relname, 8), 'YYYYMMDD'), 'YYYY-MM-DD'), "
        "greatest(c.reltuples, 0)::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE "
        "i.inhparent = 'usage_event'::regclass AND c.relname ~ '^usage_event_[0-9]{8}$' ORDER BY 1",
        NULL, 0);
    if (!result)
        return false;
    size_t count = (size_t)PQntuples(result);
    v->leaves = calloc(count + 1, sizeof *v->leaves);
    if (!v->leaves)
        return verify_no_memory(v);
    for (; v->leaf_count < count; v->leaf_count++) {
        struct verify_leaf *leaf = &v->leaves[v->leaf_count];
        int row = (int)v->leaf_count;
        snprintf(leaf->name, sizeof leaf->name, "%s", PQgetvalue(result, row, 0));
        snprintf(leaf->day, sizeof leaf->day, "%s", PQgetvalue(result, row, 1));
        leaf->rows = strtod(PQgetvalue(result, row, 2), NULL);
    }
    return true;
}

/* The first query takes the snapshot. More memory for sums than a server's default, and still little: what
 * does not fit goes to the server's temporary files. */
static bool open_snapshot(struct verify *v)
{
    return pg_run(v->pg, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") &&
           pg_run(v->pg, "SET LOCAL work_mem = '64MB'") && read_secret(v) && read_leaves(v);
}

bool verify_run(struct pg *pg, const struct verify_options *options)
{
    struct verify v = {.pg = pg, .options = options};
    bool ok = open_snapshot(&v);
    for (size_t i = 0; ok && i < sizeof checks / sizeof *checks; i++)
        ok = run_check(&v, i);
    ok = ok && pg_run(pg, "COMMIT");
    for (size_t i = 0; i < v.place_count; i++)
        free(v.places[i].topic_bytes);
    free(v.places);
    free(v.stretches);
    free(v.leaves);
    return ok;
}
