"""What the program waits for may go away, at any moment and for a while: it waits, within bounds, and no total
changes."""
import signal
import time
from contextlib import contextmanager

import psycopg2

from counting import assert_counted_once
from load import Load, wait_progress
from stack import wait_until
from workload import Workload, send

MIB = 1 << 20


def produce(scene, seed, count):
    producer = scene.topics.producer()
    send(producer, Workload(seed=seed), count)
    return producer.flush()


def peak_bytes(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


@contextmanager
def statement_in_force(scene, statement, undo):
    scene.query(statement)
    try:
        yield
    finally:
        scene.query(undo)


class TestPostgresql:
    def test_restarts_in_the_middle_of_a_load_change_no_total(self, make_scene):
        scene = make_scene(config={"batch": {"max_delay": "50ms"}}).migrate()
        process = scene.usagebox.start()
        with Load(scene, seed=21) as load:
            for mode in ("fast", "immediate"):
                wait_progress(scene)
                scene.stack.pg_stop(mode)
                time.sleep(0.5)
                assert process.http("/readyz")[0] == 503
                scene.stack.pg_start()
            wait_progress(scene)
        scene.wait_consumed()
        assert process.is_alive()
        assert_counted_once(scene, load.records)

    def test_a_backlog_during_an_outage_takes_bounded_memory(self, make_scene):
        scene = make_scene().migrate()
        process = scene.usagebox.start()
        scene.produce({"event_id": "e", "customer_id": "c", "meter": "m", "quantity": 1})
        scene.wait_consumed()
        before = peak_bytes(process)
        scene.stack.pg_stop("fast")
        payload = "x" * 2000
        producer = scene.topics.producer()
        for number in range(100_000):
            event = {"event_id": f"e{number}", "customer_id": f"c{number % 50}", "meter": "m", "quantity": 1,
                     "timestamp": int(time.time() * 1000), "metadata": {"note": payload}}
            producer.send(event)
        producer.flush()
        wait_until(lambda: process.metrics() and time.sleep(2) is None, 10, "a look at it")
        scene.stack.pg_start()
        scene.wait_consumed()
        assert scene.value("SELECT sum(quantity) FROM usage_hourly") == 100_001
        # one batch, and what librdkafka holds of three partitions; the backlog is 210 MB
        assert peak_bytes(process) - before < 600 * MIB

    def test_its_backend_ended_while_it_copies_and_while_it_commits_changes_no_total(self, make_scene):
        scene = make_scene(config={"batch": {"max_delay": "50ms"}}).migrate()
        process = scene.usagebox.start()
        scene.query("CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS "
                    "$$ BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$")
        scene.query("CREATE CONSTRAINT TRIGGER linger AFTER UPDATE ON consumer_offset DEFERRABLE INITIALLY DEFERRED "
                    "FOR EACH ROW EXECUTE FUNCTION linger()")
        with Load(scene, seed=22) as load:
            for statement in ("COPY usage_event%", "COMMIT") * 4:
                self.end_backend_at(scene, statement)
        scene.query("DROP TRIGGER linger ON consumer_offset")
        scene.wait_consumed()
        assert process.is_alive()
        assert_counted_once(scene, load.records)

    def end_backend_at(self, scene, statement):
        wait_until(lambda: scene.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND state = 'active' AND pid <> pg_backend_pid() AND query LIKE %s", statement), 30, f"a {statement}")

    def test_a_commit_that_took_place_unheard_is_not_made_again(self, make_scene):
        """A backend that waits for a standby that isn't there has committed, and can be ended before it says so."""
        scene = make_scene(config={"batch": {"max_delay": "50ms"}}).migrate()
        options = {"dsn": scene.database.dsn + " options=-csynchronous_commit=on", "owner_dsn": scene.database.dsn}
        scene.configure({"postgres": options})
        scene.query("ALTER SYSTEM SET synchronous_commit = local")
        try:
            process = scene.usagebox.start()
            with Load(scene, seed=23) as load:
                for _ in range(4):
                    self.swallow_commit(scene)
            scene.wait_consumed()
            assert process.log().count("the batch in doubt was committed") >= 4
            assert_counted_once(scene, load.records)
        finally:
            scene.query("ALTER SYSTEM RESET synchronous_commit")
            self.set_standby(scene, None)

    def set_standby(self, scene, name):
        scene.query(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'" if name else
                    "ALTER SYSTEM RESET synchronous_standby_names")
        scene.query("SELECT pg_reload_conf()")

    def swallow_commit(self, scene):
        """One of records: whether a watermark alone was committed, no offset tells, and it is written again."""
        waiting = ("SELECT pid, EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND relation = 'batch_ledger'::regclass) "
                   "FROM pg_stat_activity a WHERE datname = current_database() AND wait_event = 'SyncRep' AND query = 'COMMIT'")
        tells = False
        while not tells:
            wait_progress(scene)
            self.set_standby(scene, "nobody")
            [(pid, tells)] = wait_until(lambda: scene.query(waiting), 30, "a commit that waits")
            if tells:
                scene.query("SELECT pg_terminate_backend(%s)", pid)
            self.set_standby(scene, None)

    def test_a_promoted_standby_is_another_past_even_if_its_offsets_fit(self, make_scene):
        """Archive recovery ends as a promotion does: on a new timeline."""
        scene = make_scene().migrate()
        process = scene.usagebox.start()
        records = produce(scene, seed=25, count=300)
        scene.wait_consumed()
        epochs = dict(scene.query("SELECT kafka_partition, epoch FROM consumer_offset"))
        scene.query("ALTER SYSTEM SET restore_command = 'false'")
        try:
            scene.stack.pg_stop("fast")
            (scene.stack.directory / "pg/data/recovery.signal").touch()
            scene.stack.pg_start()
            process.wait_log("went back in time")
            records += produce(scene, seed=26, count=300)
            scene.wait_consumed()
        finally:
            scene.query("ALTER SYSTEM RESET restore_command")
        raised = dict(scene.query("SELECT kafka_partition, epoch FROM consumer_offset"))
        assert all(raised[lane] > epoch for lane, epoch in epochs.items()), (epochs, raised)
        assert_counted_once(scene, records)


class TestRefused:
    def test_a_row_that_only_postgresql_refuses_is_a_dead_letter_and_all_else_counts(self, make_scene):
        scene = make_scene().migrate()
        scene.query("ALTER TABLE usage_event ADD CONSTRAINT nothing_refused CHECK (event_id NOT LIKE 'refused%')")
        records = produce(scene, 24, 2_000)
        template = {"customer_id": "c-1", "meter": "tool_calls", "quantity": 1, "timestamp": int(time.time() * 1000)}
        refused = [record.place for number in range(3)
                   for record in scene.produce({**template, "event_id": f"refused-{number}"})]
        records += produce(scene, 25, 2_000)
        process = scene.usagebox.start()
        scene.wait_consumed()
        dead = scene.query("SELECT topic, kafka_partition, kafka_offset, detail FROM dead_letter WHERE reason = 'store_refused'")
        assert sorted(row[:3] for row in dead) == sorted(refused)
        assert all("nothing_refused" in row.detail for row in dead)
        assert process.is_alive()
        scene.query("ALTER TABLE usage_event DROP CONSTRAINT nothing_refused")
        outcome = scene.oracle().judge(records)
        assert scene.value("SELECT count(*) FROM usage_event") == len(outcome.events)
        assert scene.value("SELECT sum(events) FROM usage_hourly") == len(outcome.events)
        assert scene.value("SELECT sum(dead) FROM batch_ledger") == outcome.counts["dead"] + 3

    def test_an_error_on_another_table_stops_with_its_message_and_heals_once_mended(self, make_scene):
        scene = make_scene(partitions=1).migrate()
        process = scene.usagebox.start()
        records = produce(scene, 26, 100)
        scene.wait_consumed()
        with statement_in_force(scene, "ALTER TABLE usage_hourly ADD CONSTRAINT broken CHECK (events < 0) NOT VALID",
                                "ALTER TABLE usage_hourly DROP CONSTRAINT broken"):
            before = scene.consumed()
            records += produce(scene, 27, 100)
            wait_until(lambda: process.http("/readyz")[0] == 503, 20, "/readyz to say no")
            wait_until(lambda: "broken" in process.http("/readyz")[1], 20, "/readyz to say why")
            assert process.is_alive() and scene.consumed() == before
            process.wait_log("level=error.*broken")
        scene.wait_consumed()
        process.wait_ready()
        assert_counted_once(scene, records)


class TestKafka:
    def test_restarts_in_the_middle_of_a_load_change_no_total(self, make_scene):
        scene = make_scene(config={"batch": {"max_delay": "50ms"}}).migrate()
        process = scene.usagebox.start()
        with Load(scene, seed=28) as load:
            for kill in (False, True):
                wait_progress(scene)
                scene.stack.kafka_stop(kill)
                time.sleep(1)
                assert process.is_alive()
                scene.stack.kafka_start()
            wait_progress(scene)
        scene.wait_consumed()
        assert process.is_alive()
        process.wait_ready()
        assert_counted_once(scene, load.records)


class TestStopping:
    def test_sigterm_while_postgresql_is_away_fails_and_loses_nothing(self, scene):
        process = scene.migrate().usagebox.start()
        records = produce(scene, 29, 500)
        scene.wait_consumed()
        scene.stack.pg_stop("fast")
        records += produce(scene, 30, 500)
        time.sleep(1)
        assert process.terminate() not in (0, -signal.SIGTERM)
        scene.stack.pg_start()
        scene.usagebox.start()
        scene.wait_consumed()
        assert_counted_once(scene, records)

    def test_a_second_sigterm_ends_it_at_once(self, scene):
        process = scene.migrate().usagebox.start()
        records = produce(scene, 31, 100)
        scene.wait_consumed()
        blocker = psycopg2.connect(scene.database.dsn)
        blocker.cursor().execute("LOCK TABLE usage_hourly IN ACCESS EXCLUSIVE MODE")
        records += produce(scene, 32, 100)
        time.sleep(0.5)
        process.signal(signal.SIGTERM)
        time.sleep(1)
        assert process.is_alive(), "it waits for its commit"
        assert process.terminate(timeout_s=2) not in (0, -signal.SIGTERM)
        blocker.close()
        scene.usagebox.start()
        scene.wait_consumed()
        assert_counted_once(scene, records)


def test_epochs_rise_above_those_that_a_server_gave_out_and_lost(scene):
    """A standby that was promoted, or a backup restored, lacks the last takeovers; a zombie's flags have their epochs."""
    process = scene.migrate().usagebox.start()
    process.wait_ready()
    process.kill9()
    before = scene.value("SELECT max(epoch) FROM consumer_offset")
    scene.query("UPDATE setting SET name = 'server 1 timeline 1' WHERE name LIKE 'server %'")
    process = scene.usagebox.start()
    process.wait_ready()
    assert scene.value("SELECT min(epoch) FROM consumer_offset") > before + 1000000 - 10
    process.kill9()
    between = scene.value("SELECT max(epoch) FROM consumer_offset")
    scene.usagebox.start().wait_ready()
    assert scene.value("SELECT max(epoch) FROM consumer_offset") < between + 10
