/* PostgreSQL: can it be reached, does it keep what it commits, and does the schema suit this program? */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../rollup/ceiling_apply.h"
#include "../rollup/migrate.h"
#include "actor.h"
#include "check.h"
#include "system_clock.h"

enum { SKEW_LEAST_US = 1000000 };

static const char dsn_where[] = "postgres.dsn";
static const char owner_where[] = "postgres.owner_dsn";
static const char database_where[] = "PostgreSQL";

PGresult *check_query(struct check *check, struct pg *pg, const char *where, const char *sql)
{
    PGresult *result = pg_query(pg, sql, NULL, 0);
    if (!result)
        findings_add(check->findings, FINDING_ERROR, where,
                     "%s\nput this right; what depends on it was not checked", pg->failure.detail);
    return result;
}

/* One finding for each row, and of each row's first column. */
static void find_rows(struct check *check, struct pg *pg, enum finding_level level, const char *where,
                      const char *sql)
{
    PG_RESULT *rows = check_query(check, pg, where, sql);
    for (int row = 0; row < PQntuples(rows); row++)
        findings_add(check->findings, level, where, "%.*s", PQgetlength(rows, row, 0),
                     PQgetvalue(rows, row, 0));
}

/* --- the server ----------------------------------------------------------------------------------------- */

/* Each row: a level's letter and a sentence. synchronous_commit is as a session begins, before we set it. */
static const char server_sql[] =
    "SELECT * FROM (VALUES "
    "(pg_is_in_recovery(), 'error', E'this server is a standby: it takes no writes\\nname the primary, or "
    "add target_session_attrs=read-write'), "
    "(current_setting('transaction_read_only')::boolean AND NOT pg_is_in_recovery(), 'error', "
    "E'transactions are read-only here (default_transaction_read_only)\\nset it off for this user or "
    "database'), "
    "(current_setting('server_encoding') <> 'UTF8', 'error', 'the database''s encoding is ' || "
    "current_setting('server_encoding') "
    "|| E': it can''t hold every event\\nmake a database with ENCODING ''UTF8'''), "
    "(NOT current_setting('fsync')::boolean, 'warning', E'fsync is off: a crash of the machine loses or "
    "corrupts what was committed\\nset fsync = on'), "
    "(NOT current_setting('full_page_writes')::boolean, 'warning', "
    "E'full_page_writes is off: a crash of the machine can corrupt tables\\nset full_page_writes = on, "
    "unless the file system never tears pages'), "
    "(NOT current_setting('autovacuum')::boolean, 'warning', E'autovacuum is off: rollups bloat with every "
    "update\\nset autovacuum = on'), "
    "((SELECT reset_val = 'off' FROM pg_settings WHERE name = 'synchronous_commit'), 'notice', "
    "'synchronous_commit is off: usagebox turns it on for its own sessions')"
    ") v (found, level, sentence) WHERE found";

static enum finding_level level_named(const char *name)
{
    return *name == 'e' ? FINDING_ERROR : *name == 'w' ? FINDING_WARNING : FINDING_NOTICE;
}

static void check_server(struct check *check)
{
    PG_RESULT *rows = check_query(check, &check->writer, database_where, server_sql);
    for (int row = 0; row < PQntuples(rows); row++)
        findings_add(check->findings, level_named(PQgetvalue(rows, row, 1)), database_where, "%s",
                     PQgetvalue(rows, row, 2));
}

/* The server's clock was read somewhere between our two readings of ours. */
static void check_clock(struct check *check)
{
    int64_t before_us = system_wall_us();
    PG_RESULT *result = check_query(check, &check->writer, database_where, "SELECT clock_timestamp()");
    int64_t after_us = system_wall_us();
    if (!result)
        return;
    int64_t theirs_us = pg_time_us(result, 0, 0);
    int64_t skew_us = theirs_us < before_us  ? theirs_us - before_us
                      : theirs_us > after_us ? theirs_us - after_us
                                             : 0;
    if (llabs(skew_us) >= SKEW_LEAST_US)
        findings_add(
            check->findings, FINDING_WARNING, database_where,
            "its clock is %.1f s %s this machine's: days are made and sealed by it, events judged by ours\n"
            "let NTP keep both",
            (double)llabs(skew_us) / 1e6, skew_us > 0 ? "ahead of" : "behind");
}

/* --- what is in the database ---------------------------------------------------------------------------- */

/* The running process makes them too, if it may: missing ones are a sign that it may not, or does not run. */
static const char partitions_sql[] =
    "SELECT format(E'partition %s is missing\\nusagebox migrate makes it', leaf) FROM (SELECT 'usage_event_' "
    "|| to_char(now() AT TIME ZONE 'UTC' "
    "+ n * interval '1 day', 'YYYYMMDD') FROM generate_series(0, 1) n UNION ALL SELECT 'batch_ledger_' || "
    "to_char(now() AT TIME ZONE 'UTC' + n * interval '1 day', 'YYYYMM') FROM generate_series(0, 1) n) l "
    "(leaf) "
    "WHERE to_regclass(leaf) IS NULL GROUP BY leaf ORDER BY leaf";

/* Parents don't need row triggers; each leaf needs its own. */
static const char triggers_sql[] =
    "SELECT format(E'%s may be changed: its trigger append_only is missing or not ENABLE ALWAYS\\nas its "
    "owner: SELECT usagebox_append_only(%L)', c.relname, c.relname) "
    "FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND "
    "c.relname ~ '^(usage_event|batch_ledger|policy_decision)(_[0-9]+)?$' AND NOT EXISTS (SELECT FROM "
    "pg_trigger t WHERE "
    "t.tgrelid = c.oid AND t.tgname = 'append_only' AND t.tgenabled = 'A') ORDER BY 1";

static const char sealed_sql[] =
    "SELECT format(E'day %s was sealed with %s events that stand twice\\nsee sealed_day.report, and put the "
    "figures right with retractions', day, duplicates) "
    "FROM sealed_day WHERE duplicates > 0 ORDER BY day";

static const char row_security_sql[] =
    "SELECT format(E'%s has row-level security, which COPY refuses\\nALTER TABLE %I DISABLE ROW LEVEL "
    "SECURITY', relname, relname) FROM pg_class "
    "WHERE relnamespace = 'public'::regnamespace AND relrowsecurity AND relname ~ '^usage_event' ORDER BY 1";

static void check_contents(struct check *check)
{
    find_rows(check, &check->writer, FINDING_WARNING, database_where, partitions_sql);
    find_rows(check, &check->writer, FINDING_ERROR, database_where, triggers_sql);
    find_rows(check, &check->writer, FINDING_ERROR, database_where, sealed_sql);
    find_rows(check, &check->writer, FINDING_ERROR, database_where, row_security_sql);
}

static bool ignore_applied(void *context, const struct ceiling_applied *applied)
{
    (void)context, (void)applied;
    return true;
}

static void check_ceilings(struct check *check)
{
    char actor[ACTOR_BYTES];
    struct ceiling_apply apply = {.wanted = check->config->ceilings.items,
                                  .wanted_count = check->config->ceilings.count,
                                  .actor = actor_name(actor),
                                  .dry_run = true,
                                  .said = ignore_applied};
    const size_t *counts = apply.counts;
    if (!ceiling_apply(&check->owner, &apply))
        findings_add(check->findings, FINDING_ERROR, "ceilings", "those in force can't be read: %s",
                     check->owner.failure.detail);
    else if (counts[CEILING_ADDED] + counts[CEILING_CHANGED] + counts[CEILING_RETIRED] > 0)
        findings_add(
            check->findings, FINDING_NOTICE, "ceilings",
            "those in force are not those of the configuration: %zu to add, %zu to change, %zu to retire\n"
            "usagebox ceilings apply brings them into force",
            counts[CEILING_ADDED], counts[CEILING_CHANGED], counts[CEILING_RETIRED]);
}

/* --- the two connections -------------------------------------------------------------------------------- */

static void check_schema(struct check *check)
{
    check->has_schema = migrate_check(&check->writer, migrations);
    const struct pg_failure *why = &check->writer.failure;
    bool refused = !check->has_schema && strcmp(why->sqlstate, "42501") == 0;
    if (refused)
        findings_add(check->findings, FINDING_ERROR, dsn_where, "%s\nGRANT usagebox_writer TO its user",
                     why->detail);
    else if (!check->has_schema)
        findings_add(check->findings, FINDING_ERROR, database_where, "%s", why->detail);
}

static bool open_connection(struct check *check, struct pg *pg, const char *where, const char *dsn)
{
    bool connected = pg_open(pg, dsn, "usagebox check");
    if (!connected)
        findings_add(check->findings, FINDING_ERROR, where, "%s\n%s", pg->failure.detail,
                     check_postgres_remedy(pg->failure.detail));
    return connected;
}

static void check_writer(struct check *check)
{
    if (!open_connection(check, &check->writer, dsn_where, check->config->postgres.dsn))
        return;
    check_server(check);
    check_clock(check);
    check_schema(check);
}

static void check_owner(struct check *check)
{
    const struct config *config = check->config;
    bool same = strcmp(config->postgres.owner_dsn, config->postgres.dsn) == 0;
    if (same && !pg_is_open(&check->writer)) /* said already */
        return;
    if (!open_connection(check, &check->owner, owner_where, config->postgres.owner_dsn) || !check->has_schema)
        return;
    if (pg_run(&check->owner, "SET ROLE usagebox_owner"))
        check_ceilings(check);
    else
        findings_add(check->findings, FINDING_ERROR, same ? dsn_where : owner_where,
                     "%s: neither day partitions nor seals can be made\nGRANT usagebox_owner TO its user, or "
                     "name another user in postgres.owner_dsn",
                     check->owner.failure.detail);
}

/* The secret is made once in each database, and tells two apart. */
static void check_same_database(struct check *check)
{
    static const char sql[] = "SELECT md5(bytes) FROM setting WHERE name = 'identity_secret'";
    PG_RESULT *writer = check_query(check, &check->writer, dsn_where, sql);
    PG_RESULT *owner = check_query(check, &check->owner, owner_where, sql);
    if (!writer || !owner)
        return;
    if (PQntuples(writer) != 1 || PQntuples(owner) != 1)
        findings_add(check->findings, FINDING_ERROR, database_where,
                     "the secret that identifies events is missing\nusagebox migrate makes it");
    else if (!text_equal(pg_text(writer, 0, 0), pg_text(owner, 0, 0)))
        findings_add(
            check->findings, FINDING_ERROR, owner_where,
            "it leads to another database than postgres.dsn\nname the same host, port and database in both");
}

void check_postgres(struct check *check)
{
    check_writer(check);
    check_owner(check);
    if (!check->has_schema)
        return;
    check_contents(check);
    check_privileges(check);
    if (pg_is_open(&check->owner))
        check_same_database(check);
}

void check_close(struct check *check)
{
    kafka_admin_close(check->kafka);
    free(check->usage_topics);
    pg_close(&check->writer);
    pg_close(&check->owner);
}
