"""Least privilege, proved by trying: what each role must not do is refused, for want of privilege or by the triggers
that bind superusers, too; and no table grants more than is written here."""
import uuid

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege
from stack import wait_until

GROUPS = {"writer": "usagebox_writer", "finance": "usagebox_finance", "owner": "usagebox_owner", "stranger": None}

# Each table of the schema, and what the writer may do with it; finance may read all but `setting`.
WRITER_MAY = {
    "repartition": "SELECT", "repartition_end": "SELECT", "lane_count": "SELECT", "repartition_waits": "SELECT",
    "schema_migration": "SELECT", "sealed_day": "SELECT", "ceiling": "SELECT", "usage_watermark": "SELECT",
    "usage_event": "SELECT INSERT", "batch_ledger": "SELECT INSERT", "policy_decision": "SELECT INSERT",
    "event_conflict": "SELECT INSERT", "dead_letter": "SELECT INSERT", "customer": "SELECT INSERT",
    "meter": "SELECT INSERT", "sealed_day_adoption": "SELECT INSERT", "setting": "SELECT INSERT",
    "dedupe_segment": "SELECT INSERT", "ceiling_pending": "SELECT INSERT DELETE",
    "usage_hourly": "SELECT INSERT UPDATE", "usage_run": "SELECT INSERT UPDATE", "consumer_offset": "SELECT INSERT UPDATE",
    "ceiling_usage": "SELECT INSERT UPDATE", "ceiling_state": "SELECT INSERT UPDATE",
    "ceiling_adoption": "SELECT INSERT UPDATE",
    "repartition": "SELECT", "repartition_end": "SELECT", "repartition_waits": "SELECT", "lane_count": "SELECT",
}
VIEWS = ("usage_watermark", "repartition_waits", "lane_count")
APPEND_ONLY = ("usage_event", "{leaf}", "batch_ledger", "{ledger_leaf}", "policy_decision")
REWRITES = [statement.replace("THIS", table) for table in APPEND_ONLY for statement in (
    "UPDATE THIS SET customer_id = 'x'" if "ledger" not in table else "UPDATE THIS SET accepted = 0",
    "DELETE FROM THIS", "TRUNCATE THIS")]
UNBINDS = [statement.replace("THIS", table) for table in APPEND_ONLY for statement in (
    "ALTER TABLE THIS DISABLE TRIGGER append_only", "DROP TRIGGER append_only ON THIS", "DROP TABLE THIS CASCADE",
    "ALTER TABLE THIS ADD COLUMN x int", "CREATE RULE r AS ON INSERT TO THIS DO INSTEAD NOTHING",
    "CREATE TRIGGER t BEFORE INSERT ON THIS FOR EACH ROW EXECUTE FUNCTION usagebox_refuse()",
    "GRANT UPDATE ON THIS TO CURRENT_USER;; UPDATE THIS SET kafka_partition = 0", "ALTER TABLE THIS OWNER TO CURRENT_USER")]
OWNERS = [  # what is the owner's alone
    "INSERT INTO ceiling SELECT * FROM ceiling", "UPDATE ceiling SET limit_quantity = 0", "DELETE FROM ceiling",
    "UPDATE setting SET value = 'x'", "UPDATE setting SET bytes = '' WHERE name = 'identity_secret'", "DELETE FROM setting",
    "INSERT INTO sealed_day (day) VALUES ('2026-01-01')", "DELETE FROM sealed_day", "DELETE FROM sealed_day_adoption",
    "UPDATE sealed_day_adoption SET batch_id = 0", "DELETE FROM usage_hourly", "DELETE FROM usage_run",
    "DELETE FROM consumer_offset", "DELETE FROM dead_letter", "UPDATE dead_letter SET payload = ''",
    "UPDATE dead_letter SET reason = ''", "UPDATE event_conflict SET quantity = 0", "DELETE FROM event_conflict",
    "UPDATE customer SET currency = 'EUR'", "DELETE FROM customer", "UPDATE meter SET unit = 'x'", "DELETE FROM meter",
    "DELETE FROM ceiling_usage", "DELETE FROM ceiling_state", "DELETE FROM ceiling_adoption",
    "UPDATE ceiling_pending SET quantity = 0", "INSERT INTO schema_migration (number, name) VALUES (99, 'x')",
    "UPDATE schema_migration SET runs_with = 1", "DELETE FROM {segment}", "UPDATE {segment} SET keys = ''",
    "DROP TABLE {segment}", "TRUNCATE {segment}", "SELECT setval('batch_id', 1)", "ALTER SEQUENCE batch_id RESTART",
    "SELECT usagebox_make_day('2027-01-01')", "SELECT usagebox_make_month('2027-01-01')",
    "SELECT usagebox_append_only('customer')", "ALTER TABLE usage_event DETACH PARTITION {leaf}",
    "CREATE OR REPLACE FUNCTION usagebox_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "DROP FUNCTION usagebox_refuse() CASCADE", "CREATE TABLE public.x (y int)", "CREATE VIEW public.v AS SELECT 1",
    "CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz'", "CREATE SCHEMA s",
    "DROP SCHEMA public CASCADE", "CREATE INDEX ON {leaf} (customer_id)", "DROP OWNED BY usagebox_owner",
    "DROP VIEW usage_watermark", "CREATE OR REPLACE VIEW usage_watermark AS SELECT now() AS complete_through",
    "SET ROLE usagebox_owner", "GRANT usagebox_owner TO CURRENT_USER"]
SUPERUSERS = ["SET session_replication_role = replica", "COPY usage_event FROM PROGRAM 'true'",
              "COPY (SELECT 1) TO '/tmp/usagebox-must-not'", "SELECT pg_read_file('/etc/passwd')",
              "CREATE ROLE t_must_not SUPERUSER", "ALTER ROLE CURRENT_USER SUPERUSER", "SELECT pg_reload_conf()",
              "SET log_statement = 'none'", "CREATE EXTENSION file_fdw"]
WRITES = ["INSERT INTO {table} DEFAULT VALUES", "UPDATE {table} SET {column} = {column}", "DELETE FROM {table}",
          "TRUNCATE {table}"]


@pytest.fixture(scope="module")
def logins(stack):
    """A login in each of the groups, and one in none."""
    connection = psycopg2.connect(stack.dsn)
    connection.autocommit = True
    cursor = connection.cursor()
    names = {role: f"t_{role}_{uuid.uuid4().hex[:8]}" for role in GROUPS}
    for group in filter(None, GROUPS.values()):
        cursor.execute(f"DO $$ BEGIN IF to_regrole('{group}') IS NULL THEN CREATE ROLE {group} NOLOGIN; END IF; END $$")
    for role, group in GROUPS.items():
        cursor.execute(f"CREATE ROLE {names[role]} LOGIN PASSWORD 'secret'" + (f" IN ROLE {group}" if group else ""))
    yield names
    for name in names.values():
        cursor.execute(f"DROP ROLE {name}")
    connection.close()


@pytest.fixture
def scene(make_scene):
    scene = make_scene().migrate()
    process = scene.usagebox.start()
    scene.produce({"event_id": "e", "customer_id": "acme-co", "meter": "m", "quantity": 1}, b"not json")
    scene.wait_consumed()
    assert process.terminate() == 0
    return scene


class Try:
    """Statements as a login, each in a transaction that is rolled back."""

    def __init__(self, scene, name):
        day = scene.value("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
        self.names = {"leaf": f"usage_event_{day}", "segment": f"dedupe_segment_{day}",
                      "ledger_leaf": f"batch_ledger_{day[:6]}"}
        self.connection = psycopg2.connect(scene.database.dsn_as(name, "secret") if name else scene.database.dsn)

    def runs(self, statement):
        """None: it does. Else the error."""
        try:
            with self.connection.cursor() as cursor:
                for part in statement.split(";; "):
                    cursor.execute(part.format(**self.names))
            return None
        except psycopg2.Error as error:
            return error
        finally:
            self.connection.rollback()

    def allowed(self, statements):
        """Those that were not refused for want of privilege. Any other error means that it got further than it should."""
        errors = {statement: self.runs(statement) for statement in statements}
        return {s: str(e) for s, e in errors.items() if not isinstance(e, InsufficientPrivilege)}


def test_no_role_does_what_it_must_not(scene, logins):
    tables = [name for name in WRITER_MAY if name not in (*VIEWS, "dedupe_segment")] + ["{segment}", "{leaf}"]
    columns = {table: scene.value("SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attgenerated = '' "
                                  "AND attidentity = '' ORDER BY attnum LIMIT 1", table.format(**Try(scene, None).names))
               for table in tables}
    writes = [w.replace("{table}", table).replace("{column}", columns[table]) for table in tables for w in WRITES]
    forbidden = {
        "writer": REWRITES + UNBINDS + OWNERS + SUPERUSERS,
        "finance": REWRITES + UNBINDS + OWNERS + SUPERUSERS + writes + ["SELECT * FROM setting", "SELECT nextval('batch_id')"],
        "owner": REWRITES + SUPERUSERS + [f"SET ROLE usagebox_owner;; {s}" for s in REWRITES + UNBINDS if "UPDATE" in s],
        "stranger": REWRITES + UNBINDS + OWNERS + SUPERUSERS + writes + [f"SELECT FROM {table}" for table in tables],
    }
    for role, statements in forbidden.items():
        allowed = Try(scene, logins[role]).allowed(statements)
        assert not allowed, f"{role}: {allowed}"


def test_triggers_bind_superusers_too_even_as_replicas(scene):
    for prefix in ("", "SET LOCAL session_replication_role = replica;; "):
        assert Try(scene, None).allowed([prefix + statement for statement in REWRITES]) == {}


def test_each_role_does_what_it_is_there_for(scene, logins):
    for role, statements in {
        "writer": ["INSERT INTO customer (customer_id) VALUES ('x')", "UPDATE consumer_offset SET epoch = epoch + 1",
                   "UPDATE dead_letter SET replayed_at = now()", "SELECT nextval('batch_id')", "CREATE TEMP TABLE t (x int)",
                   "SELECT bytes FROM setting"],
        "finance": ["SELECT * FROM usage_event", "SELECT * FROM {leaf}", "SELECT * FROM usage_hourly",
                    "SELECT * FROM usage_watermark", "SELECT * FROM policy_decision", "SELECT * FROM dead_letter"],
        "owner": ["SET ROLE usagebox_owner;; SELECT usagebox_make_day('2027-01-01')", "SET ROLE usagebox_owner;; DROP TABLE {segment}",
                  "SET ROLE usagebox_owner;; CREATE UNIQUE INDEX ON {leaf} (customer_id, meter, event_id)",
                  "UPDATE customer SET currency = 'EUR'"],
    }.items():
        login = Try(scene, logins[role])
        assert {s: str(e) for s in statements if (e := login.runs(s))} == {}, role


def test_no_table_grants_more_than_is_written_here(scene):
    rows = scene.query(
        "SELECT regexp_replace(relname, '_[0-9]+$', '') AS name, coalesce(grantee::regrole::text, '-') AS grantee, "
        "string_agg(DISTINCT privilege_type, ' ') AS privileges FROM pg_class CROSS JOIN aclexplode(relacl) "
        "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f') GROUP BY 1, 2")
    granted = {(row.name, row.grantee): set(row.privileges.split()) for row in rows}
    tables = {row.name for row in rows}
    assert tables == set(WRITER_MAY)
    for table, may in WRITER_MAY.items():
        assert granted.pop((table, "usagebox_writer")) == set(may.split()), table
        assert granted.pop((table, "usagebox_finance"), set()) == (set() if table == "setting" else {"SELECT"}), table
        if table in ("usage_event", "batch_ledger", "policy_decision"):
            assert not granted[table, "usagebox_owner"] & {"UPDATE", "DELETE", "TRUNCATE"}
        granted.pop((table, "usagebox_owner"), None)
    assert granted == {}
    columns = scene.query("SELECT attrelid::regclass::text, attname, attacl::text FROM pg_attribute JOIN pg_class c ON c.oid = "
                          "attrelid WHERE relnamespace = 'public'::regnamespace AND attacl IS NOT NULL ORDER BY 1, 2")
    assert [(table, column) for table, column, _ in columns] == [("dead_letter", "copied_at"), ("dead_letter", "replayed_at")]
    assert all("=w/" in acl and "usagebox_writer" in acl for _, _, acl in columns)


def test_functions_are_for_their_owner_and_find_names_where_they_should(scene):
    functions = scene.query("SELECT proname, prosecdef, coalesce(array_to_string(proconfig, ' '), '') AS config, prorettype = "
                            "'trigger'::regtype AS is_trigger, has_function_privilege('public', oid, 'EXECUTE') AS for_all, "
                            "proowner::regrole::text AS owner FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    assert len(functions) >= 4
    for function in functions:
        assert function.owner == "usagebox_owner"
        assert "search_path=public, pg_temp" in function.config, function.proname
        assert not function.for_all or function.is_trigger, function.proname  # which nobody can call
        assert not function.prosecdef, function.proname  # none has to do what its caller may not


def test_everything_belongs_to_the_owner_and_nobody_logs_in_as_a_group(scene):
    owners = scene.query("SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    assert [tuple(row) for row in owners] == [("usagebox_owner",)]
    groups = scene.query("SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles "
                         "WHERE rolname IN ('usagebox_owner', 'usagebox_writer', 'usagebox_finance')")
    assert len(groups) == 3 and not any(any(row) for row in groups)


def test_run_counts_seals_and_flags_as_writer_and_owner_alone(make_scene, logins):
    scene = make_scene(config={"ceilings": [{"name": "one", "customer": "*", "meter": "m", "period": "day", "limit": 0,
                                             "policy": "alert"}]}).migrate()
    scene.configure({"postgres": {"dsn": scene.database.dsn_as(logins["writer"], "secret"),
                                  "owner_dsn": scene.database.dsn_as(logins["owner"], "secret")}})
    scene.usagebox.command("ceilings", "apply")
    scene.usagebox.start()
    wait_until(lambda: scene.value("SELECT count(*) FROM ceiling_adoption") == 3, 30, "adoption of the ceilings")
    scene.produce({"event_id": "e", "customer_id": "acme-co", "meter": "m", "quantity": 1}, b"not json")
    scene.wait_consumed()
    wait_until(lambda: len(scene.topics.flags()) == 1, 10, "a flag")
    for command in ("verify", "seal", "status", "dead-letters list"):
        scene.usagebox.command(*command.split())
