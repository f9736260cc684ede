#include "migrate.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "../consumer/identity.h"

enum { MIGRATE_POLL_MS = 100 };
#define MIGRATE_LOCK "1430411330, 1"

struct migrating {
    struct pg *pg;
    migrate_said said;
    void *context;
};

static void say(const struct migrating *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct migrating *m, const char *format, ...)
{
    char sentence[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    m->said(m->context, sentence);
}

/* Polled: a waiter's snapshot would hold up every CREATE INDEX CONCURRENTLY. */
static bool lock_schema(struct pg *pg, int wait_s)
{
    for (int waited_ms = 0; waited_ms <= wait_s * 1000; waited_ms += MIGRATE_POLL_MS) {
        PG_RESULT *result = pg_query(pg, "SELECT pg_try_advisory_lock(" MIGRATE_LOCK ")", NULL, 0);
        if (!result)
            return false;
        if (pg_bool(result, 0, 0))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = MIGRATE_POLL_MS * 1000000L}, NULL);
    }
    return pg_fail(pg, PG_PASSING, "another migration of this database has been at work for %d s", wait_s);
}

static bool has_table(struct pg *pg, const char *name, bool *has)
{
    PG_RESULT *result = pg_query(pg, "SELECT to_regclass($1) IS NOT NULL", (const char *[]){name}, 1);
    if (result)
        *has = pg_bool(result, 0, 0);
    return result;
}

/* The highest number applied, and the oldest program that the schema suits (its newest migration's number).
 */
static bool read_version(struct pg *pg, int *version, int *runs_with)
{
    bool has = false;
    *version = *runs_with = 0;
    if (!has_table(pg, "public.schema_migration", &has))
        return false;
    if (!has)
        return true;
    PG_RESULT *result =
        pg_query(pg,
                 "SELECT coalesce(max(number), 0), coalesce(max(coalesce(runs_with, number)), 0) "
                 "FROM schema_migration",
                 NULL, 0);
    if (!result)
        return false;
    *version = pg_int4(result, 0, 0);
    *runs_with = pg_int4(result, 0, 1);
    return true;
}

static int newest(const struct migration *list)
{
    int number = 0;
    for (; list->number; list++)
        number = list->number;
    return number;
}

/* A migration that programs before it can live with says so: SET LOCAL usagebox.runs_with = 'number'. */
static bool record(struct pg *pg, const struct migration *migration)
{
    char number[16];
    snprintf(number, sizeof number, "%d", migration->number);
    PG_RESULT *result =
        pg_query(pg,
                 "INSERT INTO schema_migration (number, name, runs_with) VALUES ($1::int, $2, "
                 "nullif(current_setting('usagebox.runs_with', true), '')::int)",
                 (const char *[]){number, migration->name}, 2);
    return result;
}

static bool apply(const struct migrating *m, const struct migration *migration)
{
    if (pg_run(m->pg, "BEGIN") && pg_run(m->pg, migration->sql) && record(m->pg, migration) &&
        pg_commit(m->pg)) {
        say(m, "applied migration %s", migration->name);
        return true;
    }
    struct pg_failure why = m->pg->failure;
    pg_run(m->pg, "ROLLBACK");
    m->pg->failure = why;
    snprintf(m->pg->failure.detail, sizeof why.detail, "migration %s: %.420s", migration->name, why.detail);
    return false;
}

static bool apply_missing(const struct migrating *m, const struct migration *list)
{
    int version, runs_with;
    if (!read_version(m->pg, &version, &runs_with))
        return false;
    if (version > newest(list))
        return pg_fail(
            m->pg, PG_OTHER,
            "the schema is at migration %d, newer than this program, which knows %d: use the newer program",
            version, newest(list));
    for (; list->number; list++)
        if (list->number > version && !apply(m, list))
            return false;
    return true;
}

/* Events are identified by a hash keyed with it: it is made once and never changes. */
static bool make_secret(const struct migrating *m)
{
    if (sodium_init() < 0)
        return pg_fail(m->pg, PG_OTHER, "libsodium finds no randomness");
    uint8_t secret[IDENTITY_SECRET_BYTES];
    char hex[2 * IDENTITY_SECRET_BYTES + 1];
    randombytes_buf(secret, sizeof secret);
    sodium_bin2hex(hex, sizeof hex, secret, sizeof secret);
    PG_RESULT *result =
        pg_query(m->pg,
                 "INSERT INTO setting (name, bytes) VALUES ('identity_secret', decode($1, 'hex')) "
                 "ON CONFLICT (name) DO NOTHING RETURNING 1",
                 (const char *[]){hex}, 1);
    sodium_memzero(secret, sizeof secret);
    sodium_memzero(hex, sizeof hex);
    if (result && PQntuples(result) > 0)
        say(m, "made the secret that identifies events");
    return result;
}

/* What each query made, one name a row. */
bool migrate_partitions(struct pg *pg, migrate_said said, void *context)
{
    const struct migrating m = {pg, said, context};
    static const char *const queries[] = {"SELECT 'usage_event_' || to_char(day, 'YYYYMMDD') FROM (SELECT "
                                          "(now() AT TIME ZONE 'UTC')::date + n AS day "
                                          "FROM generate_series(-1, 2) n) d WHERE usagebox_make_day(day)",
                                          "SELECT 'batch_ledger_' || to_char(day, 'YYYYMM') FROM (SELECT "
                                          "(date_trunc('month', now() AT TIME ZONE 'UTC') "
                                          "+ n * interval '1 month')::date AS day FROM generate_series(0, 1) "
                                          "n) d WHERE usagebox_make_month(day)"};
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        PG_RESULT *result = pg_query(pg, queries[i], NULL, 0);
        if (!result)
            return false;
        for (int row = 0; row < PQntuples(result); row++)
            say(&m, "made partition %s", PQgetvalue(result, row, 0));
    }
    return true;
}

static bool migrate_locked(const struct migrating *m, const struct migration *list)
{
    return apply_missing(m, list) && pg_run(m->pg, "SET ROLE usagebox_owner") && make_secret(m) &&
           migrate_partitions(m->pg, m->said, m->context) && pg_run(m->pg, "RESET ROLE");
}

bool migrate_run(struct pg *pg, const struct migration *list, int wait_s, migrate_said said, void *context)
{
    const struct migrating m = {pg, said, context};
    if (!lock_schema(pg, wait_s))
        return false;
    bool done = migrate_locked(&m, list);
    struct pg_failure why = pg->failure;
    if (pg_is_open(pg)) /* a lost connection has lost its lock */
        pg_run(pg, "RESET ROLE; SELECT pg_advisory_unlock(" MIGRATE_LOCK ")");
    pg->failure = why;
    return done;
}

bool migrate_check(struct pg *pg, const struct migration *list)
{
    int version, runs_with;
    if (!read_version(pg, &version, &runs_with))
        return false;
    if (version == 0)
        return pg_fail(pg, PG_OTHER, "the database holds no schema of UsageBox: run usagebox migrate");
    if (version < newest(list))
        return pg_fail(pg, PG_OTHER,
                       "the schema is at migration %d and this program needs %d: run usagebox migrate",
                       version, newest(list));
    if (runs_with > newest(list))
        return pg_fail(
            pg, PG_OTHER,
            "the schema is at migration %d, newer than this program, which knows %d: use the newer program",
            version, newest(list));
    return true;
}
