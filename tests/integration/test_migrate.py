"""`usagebox migrate`: what it makes, how often it may be run, and what nobody may do afterwards."""
import concurrent.futures
import itertools

import psycopg2
import pytest

APPEND_ONLY = ["usage_event", "batch_ledger", "policy_decision"]
ROW = """INSERT INTO usage_event (event_time, ingested_at, kafka_offset, kafka_partition, quantity, customer_id,
         event_id, kind, meter, topic, payload) VALUES (now(), now(), 0, 0, {quantity}, 'c', 'e', 'usage', 'm', 't', '{{}}')"""


def leaves(scene, parent):
    return [name for name, in scene.query("SELECT relid::text FROM pg_partition_tree(%s) WHERE isleaf", parent)]


def protected_tables(scene):
    return [table for parent in APPEND_ONLY for table in {parent, *leaves(scene, parent)}]


@pytest.fixture
def login(scene):
    """Makes a login role that is a member of another; all go with the test."""
    made = []

    def make(member_of=None, options=""):
        name = f"{scene.database.name}_{len(made)}"
        scene.query(f"CREATE ROLE {name} LOGIN PASSWORD 'secret' {options}")
        made.append(name)
        if member_of:
            scene.query(f"GRANT {member_of} TO {name}")
        return name

    yield make
    for name in made:
        scene.query(f"DROP OWNED BY {name}; DROP ROLE {name}")


def attempt(scene, statement, role=None, replica=False, user=None):
    """Runs a statement as a role and takes it back; returns the SQLSTATE, None if it was allowed."""
    connection = psycopg2.connect(scene.database.dsn_as(user, "secret") if user else scene.database.dsn)
    try:
        with connection.cursor() as cursor:
            if replica:
                cursor.execute("SET session_replication_role = replica")
            if role:
                cursor.execute(f"SET ROLE {role}")
            cursor.execute(statement)
        return None
    except psycopg2.Error as error:
        return error.pgcode
    finally:
        connection.rollback()
        connection.close()


def test_migrating_again_changes_nothing(scene):
    assert "applied migration 001_roles" in scene.usagebox.command("migrate").stdout
    secret = scene.value("SELECT bytes FROM setting WHERE name = 'identity_secret'")
    tables = scene.query("SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1")
    assert "nothing to do" in scene.usagebox.command("migrate").stdout
    assert scene.value("SELECT bytes FROM setting WHERE name = 'identity_secret'") == secret
    assert len(secret) == 16
    assert scene.query(
        "SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1") == tables


def test_several_may_migrate_at_once(scene):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: scene.usagebox.command("migrate"), range(4)))
    assert sum("applied migration 001_roles" in run.stdout for run in runs) == 1
    assert scene.value("SELECT count(DISTINCT name) = count(*) FROM schema_migration")


def test_partitions_of_the_days_and_months_to_come_are_made(scene):
    scene.migrate()
    days = scene.value("SELECT array_agg(to_char((now() AT TIME ZONE 'UTC')::date + n, '\"usage_event_\"YYYYMMDD')) "
                       "FROM generate_series(-1, 2) n")
    assert set(days) <= set(leaves(scene, "usage_event"))
    assert len(leaves(scene, "batch_ledger")) == 2
    assert scene.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'dedupe\\_segment\\_%%' AND relkind = 'r'") == 4


def test_a_schema_newer_than_the_program_is_refused(scene):
    scene.migrate()
    scene.query("INSERT INTO schema_migration (number, name) VALUES (999, '999_from_tomorrow')")
    refused = scene.usagebox.command("migrate", check=False)
    assert refused.returncode == 1
    assert "newer than this program" in refused.stderr


def test_a_newer_schema_that_says_what_it_runs_with_is_lived_with(scene):
    """So the program before goes on running while the next one's schema is there already."""
    scene.migrate()
    newest = scene.value("SELECT max(number) FROM schema_migration")
    assert scene.value("SELECT runs_with FROM schema_migration WHERE name = '003_repartition'") == 2
    scene.query("INSERT INTO schema_migration (number, name, runs_with) VALUES (999, '999_from_tomorrow', %s)", newest)
    scene.usagebox.command("status")
    scene.query("UPDATE schema_migration SET runs_with = %s WHERE number = 999", newest + 1)
    assert "newer than this program" in scene.usagebox.command("status", check=False).stderr


def test_a_server_that_does_not_answer_is_said_so(scene):
    scene.configure({"postgres": {"dsn": "postgresql://127.0.0.1:1/nowhere"}})
    refused = scene.usagebox.command("migrate", check=False)
    assert refused.returncode == 1
    assert "127.0.0.1" in refused.stderr


def test_what_is_append_only_can_be_changed_by_nobody(scene):
    scene.migrate()
    scene.query(ROW.format(quantity=1))
    tables = protected_tables(scene)
    assert len(tables) == 3 + 4 + 2
    for table in tables:
        column = "lane" if table == "policy_decision" else "kafka_offset" if "event" in table else "accepted"
        statements = [f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}", f"TRUNCATE {table}"]
        roles = [None, "usagebox_owner", "usagebox_writer", "usagebox_finance"]
        for statement, role, replica in itertools.product(statements, roles, [False, True]):
            assert attempt(scene, statement, role, replica) == "42501", f"{role}: {statement}"


def test_a_leaf_made_later_is_append_only_too(scene):
    scene.migrate()
    assert scene.value("SELECT usagebox_make_day('2020-02-29')")
    assert not scene.value("SELECT usagebox_make_day('2020-02-29')")
    assert attempt(scene, "TRUNCATE usage_event_20200229", replica=True) == "42501"
    assert attempt(scene, "DELETE FROM usage_event_20200229", replica=True) == "42501"


def test_a_leaf_takes_its_own_utc_day_and_no_other(scene):
    scene.migrate()
    scene.query("SELECT usagebox_make_day('2020-02-29')")
    insert = ROW.format(quantity=1).replace("usage_event", "usage_event_20200229", 1)
    for time, code in [("2020-02-29T00:00:00Z", None), ("2020-02-29T23:59:59.999999Z", None),
                       ("2020-03-01T00:00:00Z", "23514"), ("2020-02-28T23:59:59.999999Z", "23514")]:
        statement = insert.replace("now()", f"'{time}'", 1)
        assert attempt(scene, f"SET timezone = 'Asia/Kolkata'; {statement}") == code, time


def test_what_is_no_number_enters_no_quantity(scene):
    scene.migrate()
    for quantity in ("'NaN'", "'Infinity'", "'-Infinity'"):
        assert attempt(scene, ROW.format(quantity=quantity)) in ("23514", "22003")


def test_finance_reads_all_but_the_secret_and_writes_nothing(scene, login):
    scene.migrate()
    finance = login("usagebox_finance")
    tables = [name for name, in scene.query(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')")]
    for table in tables:
        assert attempt(scene, f"SELECT * FROM {table} LIMIT 1", user=finance) == \
            ("42501" if table == "setting" else None), table
        for statement in (f"INSERT INTO {table} DEFAULT VALUES", f"DELETE FROM {table}"):
            assert attempt(scene, statement, user=finance) in ("42501", "55000"), statement
    for statement in ("SELECT usagebox_make_day('2020-01-01')", "SELECT nextval('batch_id')",
                      "UPDATE customer SET name = 'x'", "CREATE TABLE mine ()"):
        assert attempt(scene, statement, user=finance) == "42501", statement


def test_the_writer_adds_and_can_neither_make_partitions_nor_forge_ceilings(scene, login):
    scene.migrate()
    writer = login("usagebox_writer")
    leaf = leaves(scene, "usage_event")[1]
    assert attempt(scene, ROW.format(quantity=1), user=writer) is None
    assert attempt(scene, f"COPY {leaf} TO STDOUT", user=writer) != "42501"
    for statement in ("SELECT usagebox_make_day('2020-01-01')", "UPDATE ceiling SET limit_quantity = 0",
                      "DELETE FROM consumer_offset", "UPDATE setting SET value = ''", "DELETE FROM usage_hourly",
                      "DELETE FROM dead_letter", "UPDATE dead_letter SET payload = NULL", f"DROP TABLE {leaf}",
                      f"ALTER TABLE {leaf} DISABLE TRIGGER ALL", "DROP FUNCTION usagebox_refuse() CASCADE"):
        assert attempt(scene, statement, user=writer) == "42501", statement


def test_a_plain_database_owner_is_told_what_a_superuser_must_do(scene, login):
    scene.migrate()  # the roles are there
    plain = login()
    scene.query(f"DROP TABLE schema_migration; GRANT CREATE ON DATABASE {scene.database.name} TO {plain}")
    scene.configure({"postgres": {"dsn": scene.database.dsn_as(plain, "secret")}})
    refused = scene.usagebox.command("migrate", check=False)
    assert refused.returncode == 1
    assert f"GRANT usagebox_owner TO {plain}" in refused.stderr


def test_a_user_with_createrole_needs_no_superuser(make_scene, stack):
    scene = make_scene()
    owner = f"{scene.database.name}_owner"
    scene.query(f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD 'secret'")
    scene.query(f"ALTER DATABASE {scene.database.name} OWNER TO {owner}")
    try:
        scene.configure({"postgres": {"dsn": scene.database.dsn_as(owner, "secret")}})
        assert "applied migration 002_core" in scene.usagebox.command("migrate").stdout
        assert scene.value("SELECT tableowner FROM pg_tables WHERE tablename = 'usage_event'") == "usagebox_owner"
    finally:
        scene.query(f"ALTER DATABASE {scene.database.name} OWNER TO CURRENT_USER; "
                    f"REVOKE usagebox_owner FROM {owner}; DROP OWNED BY {owner}; DROP ROLE {owner}")
