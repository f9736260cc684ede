/* What postgres.dsn's user may do: all that counting takes, and nothing that would change what was counted.
 */
#include <string.h>

#include "check.h"

static const char where[] = "postgres.dsn";

/* As schema/002_core.sql grants them. Leaves are written by name: COPY goes to the day's own table. */
static const char missing_sql[] =
    "SELECT current_user, string_agg(privilege || ' on ' || tables, ', ' ORDER BY privilege) FROM ("
    "SELECT privilege, string_agg(name, ' ' ORDER BY name) FROM ("
    "SELECT p, t FROM unnest(string_to_array('schema_migration usage_event batch_ledger policy_decision "
    "usage_hourly usage_run "
    "consumer_offset ceiling_usage ceiling_state ceiling_adoption event_conflict dead_letter customer meter "
    "sealed_day_adoption "
    "setting ceiling_pending usage_watermark sealed_day ceiling repartition repartition_end lane_count "
    "repartition_waits', ' ')) t, (VALUES ('SELECT')) v (p) UNION "
    "ALL "
    "SELECT p, t FROM unnest(string_to_array('usage_event batch_ledger policy_decision usage_hourly "
    "usage_run consumer_offset "
    "ceiling_usage ceiling_state ceiling_adoption event_conflict dead_letter customer meter "
    "sealed_day_adoption setting "
    "ceiling_pending', ' ')) t, (VALUES ('INSERT')) v (p) UNION ALL "
    "SELECT p, t FROM unnest(string_to_array('usage_hourly usage_run consumer_offset ceiling_usage "
    "ceiling_state "
    "ceiling_adoption', ' ')) t, (VALUES ('UPDATE')) v (p) UNION ALL "
    "SELECT 'DELETE', 'ceiling_pending' UNION ALL "
    "SELECT p, relname FROM pg_class, (VALUES ('SELECT'), ('INSERT')) v (p) WHERE relnamespace = "
    "'public'::regnamespace AND "
    "relkind = 'r' AND relname ~ '^(usage_event|dedupe_segment|batch_ledger)_[0-9]+$'"
    ") n (privilege, name) WHERE NOT has_table_privilege(to_regclass(name), privilege) GROUP BY privilege "
    "UNION ALL "
    "SELECT 'UPDATE', 'dead_letter' WHERE NOT has_column_privilege('dead_letter', 'replayed_at', 'UPDATE') "
    "OR NOT has_column_privilege('dead_letter', 'copied_at', 'UPDATE') UNION ALL "
    "SELECT 'USAGE', 'sequence batch_id' WHERE NOT has_sequence_privilege('batch_id', 'USAGE') UNION ALL "
    "SELECT 'EXECUTE', 'pg_control_system()' WHERE NOT has_function_privilege('pg_control_system()', "
    "'EXECUTE')"
    ") m (privilege, tables) HAVING count(*) > 0";

static const char forbidden_sql[] =
    "SELECT current_user, string_agg(DISTINCT p || ' ' || relname, ', ') FROM pg_class c, (VALUES "
    "('UPDATE'), ('DELETE'), ('TRUNCATE')) v (p) "
    "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND "
    "relname ~ '^(usage_event|batch_ledger|policy_decision)(_[0-9]+)?$' AND has_table_privilege(c.oid, p) "
    "AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) HAVING count(*) > 0";

static const char rank_sql[] = "SELECT current_user, rolsuper, pg_has_role(current_user, 'usagebox_owner', "
                               "'MEMBER') FROM pg_roles WHERE rolname = current_user";

/* What these make there, such as to_char(date, text), may fit a call of the owner's better than what
 * PostgreSQL has under that name, and is run as the owner then. */
/* clang-format off */
static const char makers_sql[] =
    "SELECT string_agg(CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END, ', ')"
    " FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee"
    " WHERE n.nspname = 'public' AND a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner"
    "  AND (a.grantee = 0 OR NOT (r.rolsuper OR pg_has_role(a.grantee, 'usagebox_owner', 'MEMBER')))"
    " HAVING count(*) > 0";
/* clang-format on */

enum { LISTED_BYTES = 300 };

static void find_list(struct check *check, const char *sql, const char *sentence, const char *remedy)
{
    PG_RESULT *rows = check_query(check, &check->writer, where, sql);
    for (int row = 0; row < PQntuples(rows); row++) {
        const char *user = PQgetvalue(rows, row, 0), *list = PQgetvalue(rows, row, 1);
        findings_add(check->findings, FINDING_ERROR, where, "user %s %s: %.*s%s\n%s%s", user, sentence,
                     LISTED_BYTES, list, strlen(list) > LISTED_BYTES ? "…" : "", remedy, user);
    }
}

/* One user for all is a fine start, and then nothing but triggers keeps a mistake from the figures. */
static void check_rank(struct check *check)
{
    PG_RESULT *rank = check_query(check, &check->writer, where, rank_sql);
    if (PQntuples(rank) != 1)
        return;
    const char *user = PQgetvalue(rank, 0, 0);
    if (pg_bool(rank, 0, 1))
        findings_add(check->findings, FINDING_WARNING, where,
                     "user %s is a superuser: no privilege keeps it from changing what was counted\n"
                     "CREATE ROLE … LOGIN IN ROLE usagebox_writer for postgres.dsn, and one IN ROLE "
                     "usagebox_owner for postgres.owner_dsn",
                     user);
    else if (pg_bool(rank, 0, 2))
        findings_add(check->findings, FINDING_NOTICE, where,
                     "user %s owns the tables, too\n"
                     "in production give postgres.dsn a user that is only in usagebox_writer, and "
                     "postgres.owner_dsn this one",
                     user);
}

static void check_makers(struct check *check)
{
    PG_RESULT *makers = check_query(check, &check->writer, where, makers_sql);
    if (PQntuples(makers) == 0)
        return;
    const char *list = PQgetvalue(makers, 0, 0);
    findings_add(
        check->findings, FINDING_WARNING, where,
        "%.*s%s may make functions in schema public, which usagebox_owner may come to run: so they can "
        "change what was counted\n"
        "REVOKE CREATE ON SCHEMA public FROM %.*s; for views of their own they need a schema of their own",
        LISTED_BYTES, list, strlen(list) > LISTED_BYTES ? "…" : "", LISTED_BYTES, list);
}

void check_privileges(struct check *check)
{
    find_list(check, missing_sql, "lacks what counting takes", "GRANT usagebox_writer TO ");
    find_list(check, forbidden_sql, "may change what is append-only",
              "REVOKE it, also FROM roles that were granted to ");
    check_rank(check);
    check_makers(check);
}
