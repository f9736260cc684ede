"""verify passes on what the pipeline wrote, and finds each difference that is planted behind its back."""
import json
import os
import pty
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import process
import psycopg2.extensions
import pytest
from harness import Scene
from psycopg2 import sql
from stack import wait_until

DAY_MS = 86_400_000
CEILINGS = [{"name": "in-a-day", "customer": "*", "meter": "llm_tokens_in", "period": "day", "limit": 1000,
             "policy": "hard-stop"},
            {"name": "calls-in-a-month", "customer": "c-1", "meter": "tool_calls", "period": "month", "limit": 5,
             "policy": "alert"}]


def some_usage(now_ms):
    """A little of everything: several days, agent runs, corrections, repeats, conflicts, refused records."""
    for n in range(240):
        customer = f"c-{n % 5}"
        age_ms = 4 * DAY_MS if n % 12 == 0 else DAY_MS if n % 7 == 0 else n * 10
        yield {"event_id": f"e-{n}", "customer_id": customer, "meter": ["llm_tokens_in", "tool_calls"][n % 2],
               "quantity": f"{n}.{n:03d}", "timestamp": now_ms - age_ms, "model": ["claude-4.5-sonnet", ""][n % 3 > 0],
               "metadata": {"run_id": f"run-{n // 20}", "agent_id": "a", "user_id": f"u-{n % 2}" if n % 4 else "",
                            "parent_run_id": "run-0"}}
    yield {"event_id": "fix", "customer_id": "c-0", "meter": "llm_tokens_in", "quantity": -10, "kind": "correction",
           "corrects": "e-0", "reason": "counted too high", "timestamp": now_ms - 4 * DAY_MS}
    yield {"event_id": "e-1", "customer_id": "c-1", "meter": "tool_calls", "quantity": "1.001",
           "timestamp": now_ms - 10, "metadata": {}}


class Database:
    """A copy of what the pipeline wrote, to plant differences in."""

    def __init__(self, scene):
        self.scene = scene
        self.name = f"test_{uuid.uuid4().hex[:12]}"
        self.admin = scene.database._admin
        self.admin(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(self.name),
                                                                    sql.Identifier(scene.database.name)))
        parts = psycopg2.extensions.parse_dsn(scene.database.dsn)
        self.dsn = psycopg2.extensions.make_dsn(**{**parts, "dbname": self.name})

    def tamper(self, statement, *parameters):
        """As a superuser who knows how to get past the triggers; what the triggers are afterwards is as before."""
        connection = psycopg2.connect(self.dsn)
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'append_only'")
            tables = [row[0] for row in cursor.fetchall()]
            for table in tables:
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
            cursor.execute(statement, parameters or None)
            touched = cursor.rowcount
            for table in tables:
                cursor.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER append_only")
        connection.close()
        assert touched != 0, f"nothing to tamper with: {statement}"

    def verify(self, *options, check=True):
        done = self.scene.usagebox.command("verify", "--json", *options, check=False,
                                           env={"USAGEBOX_POSTGRES_DSN": self.dsn})
        assert done.returncode in (0, 1), done.stderr
        report = json.loads(done.stdout)
        assert report["ok"] == (done.returncode == 0) == (report["differences"] == [])
        return report

    def differences(self, *options):
        return self.verify(*options)["differences"]

    def drop(self):
        self.admin(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.name)))


@pytest.fixture(scope="module")
def written(stack, tmp_path_factory):
    """A scene in which the pipeline has run, sealed the oldest day, and stopped."""
    scene = Scene(stack, tmp_path_factory.mktemp("verify"),
                  config={"ceilings": CEILINGS, "rollup": {"dimensions": ["user_id"]}, "dedupe": {"window": "1h"}})
    scene.migrate()
    scene.usagebox.command("ceilings", "apply")
    running = scene.usagebox.start()
    wait_until(lambda: scene.value("SELECT count(*) FROM ceiling_adoption") == 3, 30, "adoption of the ceilings")
    now_ms = int(time.time() * 1000)
    scene.produce(*some_usage(now_ms))
    scene.produce(*list(some_usage(now_ms))[:30])
    scene.produce(b"{", b"", key="c-0")
    scene.wait_consumed()
    day = time.strftime("%Y-%m-%d", time.gmtime(now_ms / 1000 - 4 * 86400))
    wait_until(lambda: scene.value("SELECT complete_through > now() - interval '1 day' FROM usage_watermark"), 30,
               "the watermark")
    scene.usagebox.command("seal", "--now", "--day", day)
    wait_until(lambda: scene.value("SELECT count(*) FROM sealed_day_adoption WHERE day = %s", day) == 3, 30,
               "adoption of the seal")
    scene.produce({"event_id": "late", "customer_id": "c-0", "meter": "llm_tokens_in", "quantity": 3,
                   "timestamp": now_ms - 4 * DAY_MS})
    scene.wait_consumed()
    assert running.terminate() == 0
    scene.sealed_day = day
    yield scene
    scene.close()


@pytest.fixture
def database(written):
    copy = Database(written)
    yield copy
    copy.drop()


def only(differences, check):
    """All differences are of this check, and there are some."""
    assert differences and {d["check"] for d in differences} == {check}, differences
    return differences


def test_an_empty_database_has_no_differences(make_scene):
    assert "no differences" in make_scene().migrate().usagebox.command("verify").stdout


def test_what_the_pipeline_wrote_has_no_differences(database):
    report = database.verify()
    assert report["ok"], report["differences"]
    assert report["notes"] == []
    examined = {check["check"]: check["examined"] for check in report["checks"]}
    assert examined["digest"] == 244 and examined["decisions"] > 0 and examined["counters"] > 0
    assert examined["seals"] == 1
    assert min(examined.values()) > 0


class TestLedger:
    def test_a_changed_row_breaks_the_chain(self, database):
        database.tamper("UPDATE batch_ledger SET accepted = accepted - 1, duplicate = duplicate + 1 "
                        "WHERE batch_id = (SELECT min(batch_id) FROM batch_ledger WHERE accepted > 0)")
        found = {d["check"] for d in database.differences()}
        assert found == {"ledger", "digest"}

    def test_a_changed_reason_breaks_the_chain(self, database):
        database.tamper("UPDATE batch_ledger SET actor = 'nobody' WHERE batch_id = (SELECT min(batch_id) FROM batch_ledger)")
        assert all("chain" in d["what"] for d in only(database.differences(), "ledger"))

    def test_a_chain_made_anew_from_a_wrong_start_is_found(self, database):
        database.tamper("UPDATE consumer_offset SET chain = sha256(chain) WHERE kafka_partition = 0")
        (difference,) = only(database.differences(), "ledger")
        assert "last chain" in difference["what"]

    def test_a_removed_row_leaves_offsets_unaccounted_for(self, database):
        database.tamper("DELETE FROM batch_ledger WHERE (kafka_partition, batch_id) = (SELECT kafka_partition, min(batch_id) "
                        "FROM batch_ledger GROUP BY 1 HAVING count(*) > 1 LIMIT 1)")
        whats = [d["what"] for d in database.differences() if d["check"] == "ledger"]
        assert any("in no batch" in what for what in whats) and any("chain" in what for what in whats)

    def test_counts_that_do_not_add_up_are_found(self, database):
        database.tamper("UPDATE batch_ledger SET hole = hole + 1 WHERE batch_id = (SELECT max(batch_id) FROM batch_ledger)")
        assert any("add up" in d["what"] for d in only(database.differences(), "ledger"))

    def test_an_offset_row_that_was_moved_is_found(self, database):
        database.tamper("UPDATE consumer_offset SET next_offset = next_offset + 1 WHERE kafka_partition = 1")
        (difference,) = only(database.differences(), "ledger")
        assert int(difference["found"]) == int(difference["expected"]) + 1

    def test_a_removed_offset_row_is_found(self, database):
        database.tamper("DELETE FROM consumer_offset WHERE kafka_partition = 2")
        assert any(d["found"] == "none" for d in database.differences() if d["check"] == "ledger")


class TestRecords:
    def test_a_changed_payload_is_found(self, database):
        database.tamper("UPDATE usage_event SET payload = (payload::text || ' ')::json WHERE event_id = 'e-7'")
        (difference,) = only(database.differences(), "digest")
        assert "not what was consumed" in difference["what"]

    def test_a_removed_raw_event_is_found_in_the_ledger_and_in_every_sum(self, database):
        database.tamper("DELETE FROM usage_event WHERE event_id = 'e-1'")
        checks = {d["check"] for d in database.differences()}
        assert {"digest", "hours", "runs"} <= checks

    def test_a_changed_dead_letter_is_found(self, database):
        database.tamper("UPDATE dead_letter SET payload = '[' WHERE payload = '{'")
        only(database.differences(), "digest")

    def test_a_dead_letter_that_says_null_instead_of_empty_is_found(self, database):
        database.tamper("UPDATE dead_letter SET payload = NULL WHERE payload = ''")
        only(database.differences(), "digest")

    def test_a_row_from_nowhere_is_found(self, database):
        database.tamper("INSERT INTO dead_letter (reason, detail, headers, topic, kafka_partition, kafka_offset) "
                        "VALUES ('x', 'x', '[]', 'elsewhere', 0, 5)")
        (difference,) = only(database.differences(), "digest")
        assert difference["where"] == "elsewhere/0 offset 5"


class TestRollups:
    def test_a_changed_sum_is_found_to_the_last_digit(self, database):
        database.tamper("UPDATE usage_hourly SET quantity = quantity + 0.000000001 WHERE (customer_id, hour, meter, model, "
                        "dimensions) = (SELECT customer_id, hour, meter, model, dimensions FROM usage_hourly WHERE "
                        "customer_id = 'c-3' AND hour > now() - interval '12 hours' LIMIT 1)")
        (difference,) = [d for d in database.differences() if d["check"] == "hours"]
        assert difference["found"].endswith(difference["found"]) and "001, adjustment" in difference["found"]

    @pytest.mark.parametrize("change", ["events = events + 1", "adjustment = adjustment + 1",
                                        "first_event_at = first_event_at - interval '1 us'",
                                        "last_event_at = last_event_at + interval '1 us'"])
    def test_each_figure_of_an_hour_counts(self, database, change):
        database.tamper(f"UPDATE usage_hourly SET {change} WHERE customer_id = 'c-2'")
        only(database.differences(), "hours")

    def test_a_row_without_events_and_one_that_is_missing_are_found(self, database):
        database.tamper("UPDATE usage_hourly SET hour = hour + interval '30 days' WHERE customer_id = 'c-2' AND "
                        "meter = 'tool_calls'")
        whats = {d["what"] for d in only(database.differences(), "hours")}
        assert whats == {"no raw event stands behind it", "the row is missing"}

    def test_usage_moved_to_another_user_is_found(self, database):
        database.tamper("UPDATE usage_hourly SET quantity = quantity + CASE dimensions ->> 'user_id' WHEN 'u-0' THEN 1 "
                        "ELSE -1 END WHERE dimensions ->> 'user_id' IS NOT NULL AND customer_id = 'c-1'")
        assert "hours" in {d["check"] for d in database.differences()}

    def test_hours_of_another_configuration_are_compared_by_their_totals(self, database):
        without = ("DELETE FROM usage_hourly; INSERT INTO usage_hourly SELECT customer_id, date_trunc('hour', event_time), "
                   "meter, model, jsonb_build_object('agent_id', agent_id), count(*), sum(quantity), coalesce(sum(quantity) "
                   "FILTER (WHERE kind <> 'usage'), 0), min(event_time), max(event_time) FROM usage_event GROUP BY 1, 2, 3, 4, 5")
        database.tamper(without)
        report = database.verify()
        assert report["ok"] and "another rollup.dimensions" in report["notes"][0]["note"]
        database.tamper("UPDATE usage_hourly SET quantity = quantity + 1")
        assert any("over all dimensions" in d["what"] for d in database.differences())

    @pytest.mark.parametrize("change", ["quantity = quantity + 1", "events = events - 1", "parent_run_id = 'run-9'",
                                        "run_id = 'x-' || run_id"])
    def test_each_figure_of_a_run_counts(self, database, change):
        database.tamper(f"UPDATE usage_run SET {change} WHERE customer_id = 'c-4'")
        only(database.differences(), "runs")

    def test_one_id_on_two_days_is_found_with_its_places(self, database):
        database.tamper("INSERT INTO usage_event (event_time, ingested_at, kafka_offset, kafka_partition, quantity, customer_id, "
                        "event_id, kind, meter, topic, payload) SELECT event_time - interval '1 day', now(), 7, 0, 5, "
                        "customer_id, event_id, kind, meter, 'usage', '{}' FROM usage_event WHERE event_id = 'e-6'")
        (difference,) = [d for d in database.differences() if d["check"] == "identities"]
        assert difference["what"] == "one id on several days" and "(usage/0@7)" in difference["found"]


class TestSealsAndSegments:
    def test_a_sealed_day_without_its_index_is_found(self, database, written):
        database.tamper(f"DROP INDEX usage_event_{written.sealed_day.replace('-', '')}_identity")
        (difference,) = only(database.differences(), "seals")
        assert difference["where"] == written.sealed_day

    def test_an_index_that_is_not_valid_is_none(self, database, written):
        database.tamper("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass",
                        f"usage_event_{written.sealed_day.replace('-', '')}_identity")
        only(database.differences(), "seals")

    def test_a_day_that_holds_events_twice_fails(self, database):
        database.tamper("UPDATE sealed_day SET duplicates = 2")
        assert any(d["found"] == "2" for d in database.differences())

    def test_keys_dropped_before_every_lane_had_adopted_the_seal_are_found(self, database, written):
        database.tamper(f"DROP TABLE IF EXISTS dedupe_segment_{written.sealed_day.replace('-', '')}; "
                        "DELETE FROM sealed_day_adoption WHERE lane = 1")
        (difference,) = only(database.differences(), "seals")
        assert (difference["expected"], difference["found"]) == ("3 lanes", "2 lanes")

    def test_keys_that_are_dropped_while_it_looks_are_no_difference(self, database, written):
        """Its snapshot is of before the lanes adopted the seal; a catalogue function would tell of now."""
        segment = f"dedupe_segment_{written.sealed_day.replace('-', '')}"
        database.tamper(f"CREATE TABLE IF NOT EXISTS {segment} (lane integer, batch_id bigint, keys bytea); "
                        "DELETE FROM sealed_day_adoption")
        holder = psycopg2.connect(database.dsn)
        holder.cursor().execute("LOCK TABLE dead_letter") # which is read before seals are looked at
        with ThreadPoolExecutor() as threads:
            verifying = threads.submit(database.verify)
            waiting = ("SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
                       database.name)
            wait_until(lambda: written.value(*waiting) == 1, 30, "verify to wait for the lock")
            database.tamper(f"INSERT INTO sealed_day_adoption SELECT %s, lane, 1 FROM generate_series(0, 2) lane; "
                            f"DROP TABLE {segment}", written.sealed_day)
            holder.close()
            report = verifying.result()
        assert report["ok"], report["differences"]

    def test_a_missing_dedupe_key_is_found(self, database):
        table = f"dedupe_segment_{time.strftime('%Y%m%d', time.gmtime())}"
        database.tamper(f"UPDATE {table} SET keys = substr(keys, 21) WHERE ctid = (SELECT min(ctid) FROM {table})")
        (difference,) = only(database.differences(), "segments")
        assert int(difference["expected"].split()[0]) == int(difference["found"].split()[0]) + 1


class TestEnforcement:
    def test_a_removed_decision_is_found(self, database):
        database.tamper("DELETE FROM policy_decision WHERE decision_id = (SELECT min(decision_id) FROM policy_decision)")
        only(database.differences(), "decisions")

    def test_a_state_that_was_not_decided_is_found(self, database):
        database.tamper("UPDATE ceiling_state SET active = NOT active WHERE customer_id = 'c-1'")
        only(database.differences(), "decisions")

    def test_a_decision_whose_event_is_not_there_is_found(self, database):
        database.tamper("UPDATE policy_decision SET event_id = 'other' WHERE source = 'event' AND customer_id = 'c-1'")
        assert all("raw events" in d["what"] for d in only(database.differences(), "decisions"))

    def test_a_counter_that_counts_too_much_is_found(self, database):
        database.tamper("UPDATE ceiling_usage SET used = used + 1 WHERE customer_id = 'c-1' AND meter = 'tool_calls'")
        assert all("differs from usage_hourly" in d["what"] for d in only(database.differences(), "counters"))

    def test_a_missing_counter_is_found(self, database):
        database.tamper("DELETE FROM ceiling_usage WHERE meter = 'tool_calls'")
        assert all("missing" in d["what"] for d in only(database.differences(), "counters"))


def test_a_disabled_trigger_is_found(database):
    database.tamper("SELECT 1")
    connection = psycopg2.connect(database.dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE policy_decision ENABLE TRIGGER append_only")
    connection.close()
    (difference,) = only(database.differences(), "protection")
    assert difference["where"] == "policy_decision"


class TestNarrowed:
    def test_since_looks_at_what_was_committed_since(self, database):
        before = database.verify("--since", "1h")
        assert before["ok"], before["differences"]
        database.tamper("UPDATE usage_event SET payload = '{}' WHERE event_id = 'e-7'")
        assert not database.verify("--since", "1h")["ok"]
        later = database.verify("--since", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60)))
        assert later["ok"], later["differences"]

    def test_one_partition_alone_is_looked_at(self, database, written):
        partition = written.value("SELECT kafka_partition FROM usage_event WHERE event_id = 'e-7'")
        database.tamper("UPDATE usage_event SET payload = '{}' WHERE event_id = 'e-7'")
        assert not database.verify("--partition", str(partition))["ok"]
        assert all(database.verify("--partition", str(other))["ok"] for other in range(3) if other != partition)

    def test_a_since_that_is_no_time_is_refused(self, written):
        done = written.usagebox.command("verify", "--since", "soon", check=False)
        assert done.returncode == 2 and '"soon"' in done.stderr


def test_differences_beyond_the_limit_are_counted_and_not_printed(database):
    database.tamper("UPDATE usage_hourly SET events = events + 1")
    report = database.verify("--limit", "3")
    counted = next(check["differences"] for check in report["checks"] if check["check"] == "hours")
    assert len(report["differences"]) == 3 < counted


def test_a_running_pipeline_is_always_right(make_scene):
    scene = make_scene(config={"batch": {"max_delay": "50ms"}, "ceilings": CEILINGS}).migrate()
    scene.usagebox.command("ceilings", "apply")
    scene.usagebox.start()
    for wave in range(6):
        scene.produce(*({**event, "event_id": f"{wave}-{event['event_id']}", "timestamp": int(time.time() * 1000)}
                        for event in some_usage(0)))
        done = scene.usagebox.command("verify", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    scene.wait_consumed()


def test_a_partition_that_a_person_sent_back_and_forth_has_no_differences(make_scene):
    scene = make_scene(partitions=1).migrate()
    running = scene.usagebox.start()
    scene.produce(*some_usage(int(time.time() * 1000)))
    scene.produce(b"{", key="c-0")
    scene.wait_consumed()
    running.terminate()
    scene.usagebox.command("offsets", "seek", "--topic", scene.topics.usage[0], "--partition", "0", "--offset", "10", "--yes", "--reason",
                           "once more")
    running = scene.usagebox.start()
    scene.wait_consumed()
    running.terminate()
    assert scene.value("SELECT count(*) FROM dead_letter") == 2
    for options in ([], ["--since", "1h"]):
        assert "no differences" in scene.usagebox.command("verify", *options).stdout


def test_a_terminal_sees_how_far_it_is_and_gets_a_clean_result(database):
    ours, theirs = pty.openpty()
    done = subprocess.run([process.BINARY, "verify", "-c", database.scene.config_path], stdout=subprocess.PIPE, stderr=theirs,
                          env={**os.environ, "USAGEBOX_POSTGRES_DSN": database.dsn}, check=True)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "reading raw events [" in shown and shown.endswith("\r\x1b[K")
    assert done.stdout.decode().startswith("check ")


def test_a_person_reads_what_differs_and_what_was_expected(database):
    database.tamper("UPDATE usage_hourly SET events = 99 WHERE customer_id = 'c-2' AND meter = 'tool_calls'")
    done = database.scene.usagebox.command("verify", check=False, env={"USAGEBOX_POSTGRES_DSN": database.dsn})
    assert done.returncode == 1
    assert "hours: c-2 tool_calls" in done.stdout and "expected " in done.stdout and "found    99 events" in done.stdout
    assert "differences" in done.stdout.splitlines()[-1]


def test_a_login_that_may_not_read_the_secret_is_told_so(database, written):
    written.query("DROP ROLE IF EXISTS test_verify_finance")
    written.query("CREATE ROLE test_verify_finance LOGIN PASSWORD 'f' IN ROLE usagebox_finance")
    parts = psycopg2.extensions.parse_dsn(database.dsn)
    dsn = psycopg2.extensions.make_dsn(**{**parts, "user": "test_verify_finance", "password": "f"})
    done = written.usagebox.command("verify", check=False, env={"USAGEBOX_POSTGRES_DSN": dsn})
    written.query("DROP ROLE test_verify_finance")
    assert done.returncode == 1 and "usagebox_writer" in done.stderr
