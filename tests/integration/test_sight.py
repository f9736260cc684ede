"""status and tail: what people look at."""
import json
import re
import time

import pytest
from stack import wait_until

CEILINGS = [{"name": "in-a-day", "customer": "*", "meter": "llm_tokens_in", "period": "day", "limit": 1000,
             "policy": "hard-stop"}]


def event(number, **more):
    return {"event_id": f"e-{number}", "customer_id": "acme-co", "meter": "llm_tokens_in", "quantity": 12450,
            "model": "claude-4.5-sonnet", "timestamp": int(time.time() * 1000), **more}


@pytest.fixture
def running(make_scene):
    scene = make_scene(config={"ceilings": CEILINGS}).migrate()
    scene.usagebox.command("ceilings", "apply")
    scene.usagebox.start()
    wait_until(lambda: scene.value("SELECT count(*) FROM ceiling_adoption") == 3, 30, "adoption of the ceilings")
    return scene


def status(scene, *options, env=None):
    return json.loads(scene.usagebox.command("status", "--json", *options, env=env).stdout)


class TestStatus:
    def test_before_anything_was_read_there_is_nothing_to_show(self, make_scene):
        scene = make_scene().migrate()
        now = status(scene)
        assert now["lanes"] == [] and now["complete_through"] is None and now["ceilings"] == []
        assert {row["outcome"]: row["last_24h"] for row in now["totals"]}["accepted"] == 0
        assert "no partition was ever read" in scene.usagebox.command("status").stdout

    def test_it_says_what_became_of_all_records_and_who_is_over(self, running):
        running.produce(event(1), event(1), event(1, quantity=5), {**event(2), "quantity": 3})
        running.produce(b"{", key="acme-co")
        running.wait_consumed()
        now = status(running, "--all")
        totals = {row["outcome"]: (row["total"], row["last_24h"]) for row in now["totals"]}
        assert totals == {"accepted": (2, 2), "duplicate": (2, 2), "dead": (1, 1), "hole": (0, 0), "gap": (0, 0),
                          "conflict": (1, 1)}
        (dead,) = now["dead_letters"]
        assert dead["count"] == 1 and dead["replayed"] == 0
        (ceiling,) = now["ceilings"]
        assert (ceiling["ceiling"], ceiling["limit"], ceiling["over_now"]) == ("in-a-day", "1000", 1)
        assert now["last_commit_s_ago"] < 30 and now["kafka_trouble"] is None
        assert {row["state"] for row in now["days"]} == {"open", "ahead"}

    def test_it_reads_no_more_than_a_day_of_what_is_kept_for_ever(self, running):
        running.produce(event(1), event(1), b"{")
        running.wait_consumed()
        running.query("SELECT usagebox_make_month('2025-01-01')")
        running.query("INSERT INTO batch_ledger SELECT n, 'old', 0, 1, n, n + 1, 1, 0, 0, 0, 0, decode(repeat('00', 16), 'hex'), "
                      "decode(repeat('00', 32), 'hex'), '', '', '2025-01-01 00:00+00' FROM generate_series(1, 10) n")
        for options, accepted in (((), (None, 1)), (("--all",), (11, 1))):
            totals = {row["outcome"]: (row["total"], row["last_24h"]) for row in status(running, *options)["totals"]}
            assert totals["accepted"] == accepted
        now = running.usagebox.command("status").stdout
        assert re.search(r"(?m)^accepted +1 +-$", now)
        plan = "\n".join(row[0] for row in running.query(
            "EXPLAIN (ANALYZE, COSTS OFF) SELECT sum(accepted) FROM batch_ledger WHERE committed_at > now() - interval '24 hours'"))
        assert "batch_ledger_202501" not in plan and "Subplans Removed" in plan

    def test_lag_is_what_lies_behind_the_committed_offset(self, running):
        running.produce(*[event(n) for n in range(10)])
        running.wait_consumed()
        running.usagebox.stop_all()
        running.produce(*[event(n) for n in range(100, 107)])
        lanes = {lane["partition"]: lane for lane in status(running)["lanes"]}
        assert len(lanes) == 3
        assert sorted(lane["lag"] for lane in lanes.values()) == [0, 0, 7]
        busy = max(lanes.values(), key=lambda lane: lane["lag"])
        assert (busy["next_offset"], busy["end_offset"]) == (10, 17) and busy["owner"]

    def test_without_kafka_it_shows_all_but_end_offsets(self, running):
        env = {"USAGEBOX_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
        began = time.monotonic()
        now = status(running, env=env)
        assert time.monotonic() - began < 10
        assert now["kafka_trouble"] and now["lanes"][0]["end_offset"] is None
        assert status(running, "--no-kafka")["lanes"][0]["lag"] is None
        assert "end offsets are not known" in running.usagebox.command("status", "--no-kafka").stdout

    def test_without_postgresql_it_fails_with_one_sentence(self, make_scene):
        done = make_scene().usagebox.command("status", check=False,
                                             env={"USAGEBOX_POSTGRES_DSN": "postgresql://127.0.0.1:1/x"})
        assert done.returncode == 1 and done.stderr.startswith("usagebox status: ")


class TestTail:
    def start(self, scene, *options):
        """In the background; returns the process once it follows."""
        process = scene.usagebox.start("tail", *options, ready=False)
        time.sleep(1.5)
        return process

    def lines(self, process):
        return [json.loads(line) for line in process.log().splitlines()]

    def test_each_accepted_event_is_one_line_and_duplicates_are_none(self, running):
        tail = self.start(running, "--events-only")
        running.produce(event(1), event(1), event(2, quantity="0.5", customer_id="b"), b"{")
        running.wait_consumed()
        tail.wait_log(r"(?m)^\d\d:\d\d:\d\d accepted acme-co llm_tokens_in \+12450 claude-4.5-sonnet hour \d\d:00 "
                      r"\(t\w+\.usage/\d@0\)$")
        tail.wait_log(r"accepted b llm_tokens_in \+0.5 ")
        assert tail.terminate() == 0
        assert len(tail.log().splitlines()) == 2

    def test_events_of_before_are_not_shown_and_none_is_shown_twice(self, running):
        running.produce(*[event(n) for n in range(500)])
        running.wait_consumed()
        tail = self.start(running, "--events-only", "--json")
        for n in range(10):
            running.produce(*[event(1000 + 100 * n + i) for i in range(100)])
            time.sleep(0.2)
        running.wait_consumed()
        wait_until(lambda: len(tail.log().splitlines()) >= 1000, 20, "1000 lines")
        assert tail.terminate() == 0
        shown = [line["event_id"] for line in self.lines(tail)]
        assert sorted(shown) == sorted(f"e-{n}" for n in range(1000, 2000))

    def test_late_events_and_corrections_are_shown_with_their_own_day(self, running):
        running.produce(event(1, timestamp=int(time.time() * 1000) - 5 * 86_400_000))
        running.wait_consumed()
        tail = self.start(running, "--events-only")
        running.produce(event(2, timestamp=int(time.time() * 1000) - 5 * 86_400_000),
                        event(3, quantity=-10, kind="correction", corrects="e-1", reason="x",
                              timestamp=int(time.time() * 1000) - 6 * 86_400_000))
        tail.wait_log(r"\+12450 claude-4.5-sonnet hour \d{4}-\d\d-\d\d \d\d:00 \(")
        tail.wait_log(r" -10 claude-4.5-sonnet hour \d{4}-\d\d-\d\d \d\d:00 correction of e-1 \(")
        assert tail.terminate() == 0

    def test_a_flag_is_shown_as_it_is_published(self, running):
        tail = self.start(running, "--flags-only")
        running.produce(event(1))
        tail.wait_log(r"(?m)^\d\d:\d\d:\d\d FLAG hard-stop active acme-co in-a-day used 12450 of 1000$")
        assert tail.terminate() == 0

    def test_flags_of_before_are_shown_on_request_and_count_ends_it(self, running):
        running.produce(event(1))
        wait_until(lambda: running.topics.read(running.topics.enforcement), 30, "a flag")
        for option in (["--from-beginning"], ["--since", "1h"]):
            done = running.usagebox.command("tail", "--flags-only", "--json", "--count", "1", *option, timeout_s=30)
            (line,) = map(json.loads, done.stdout.splitlines())
            assert line["key"] == ["acme-co", "in-a-day", {}] and line["flag"]["used"] == "12450"
        assert running.usagebox.command("tail", "--flags-only", "--for", "1s").stdout == ""

    def test_events_and_flags_of_one_customer(self, running):
        tail = self.start(running, "--customer", "b", "--json")
        running.produce(*[event(n, customer_id=customer) for n, customer in enumerate("abcab")])
        wait_until(lambda: len(tail.log().splitlines()) >= 3, 20, "3 lines")
        running.wait_consumed()
        time.sleep(0.5)
        assert tail.terminate() == 0
        lines = self.lines(tail)
        assert [line["type"] for line in lines].count("flag") == 1
        assert [line["event_id"] for line in lines if line["type"] == "event"] == ["e-1", "e-4"]

    def test_it_outlives_a_restart_of_postgresql(self, running):
        tail = self.start(running, "--events-only", "--json")
        running.stack.pg_stop()
        time.sleep(1)
        running.stack.pg_start()
        running.produce(event(7))
        tail.wait_log(r'"event_id":"e-7"', timeout_s=60)
        assert "PostgreSQL is back" in tail.log()
        assert tail.terminate() == 0

    def test_hostile_names_cannot_write_to_the_terminal(self, running):
        tail = self.start(running, "--events-only")
        running.produce(event(1, customer_id="x\x1b[2J\u202ey"))
        tail.wait_log(r"accepted x\\x1b\[2J\\u202ey ")
        assert tail.terminate() == 0

    def test_what_cannot_be_reached_is_said(self, make_scene):
        scene = make_scene().migrate()
        done = scene.usagebox.command("tail", "--for", "5s", check=False,
                                      env={"USAGEBOX_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
        assert done.returncode == 1 and "--events-only" in done.stderr
        assert scene.usagebox.command("tail", "--flags-only", "--events-only", check=False).returncode == 2


class TestTailLooksFarEnough:
    """Rows of a long transaction lie before what others have committed meanwhile."""
    EVENT = ("INSERT INTO usage_event (event_time, ingested_at, kafka_offset, kafka_partition, quantity, customer_id, "
             "event_id, kind, meter, topic, payload) SELECT now() - %s * interval '1 day', now(), n, 0, 1, 'c', 'e-' || n, "
             "'usage', 'm', %s, to_json(repeat('x', 500)) FROM generate_series(%s, %s) n")
    LEDGER = ("INSERT INTO batch_ledger (batch_id, topic, kafka_partition, epoch, first_offset, next_offset, accepted, "
              "duplicate, dead, hole, gap, digest, chain) VALUES (nextval('batch_id'), 'usage', 0, 1, 0, 3, 3, 0, 0, 0, 0, "
              "decode(repeat('00', 16), 'hex'), decode(repeat('00', 32), 'hex'))")

    def follow(self, scene, days_ago, others):
        scene.query("INSERT INTO consumer_offset (topic, kafka_partition) VALUES ('usage', 0)")
        scene.query("SELECT usagebox_make_day((now() AT TIME ZONE 'UTC')::date - %s)", days_ago)
        connection = scene.database.connect()
        with connection.cursor() as cursor:
            cursor.execute(self.EVENT, (days_ago, "usage", 0, 2))
            scene.query(self.EVENT, days_ago, "elsewhere", 1, others)
            tail = scene.usagebox.start("tail", "--events-only", ready=False)
            time.sleep(1.5)
            cursor.execute(self.LEDGER)
        connection.commit()
        connection.close()
        return tail

    def test_todays_are_found_far_back(self, make_scene):
        tail = self.follow(make_scene().migrate(), 0, 40_000)
        tail.wait_log(r"accepted c m \+1 hour \d\d:00 \(usage/0@2\)")
        assert tail.terminate() == 0 and len(tail.log().splitlines()) == 3

    def test_others_that_are_not_near_are_counted(self, make_scene):
        tail = self.follow(make_scene().migrate(), 9, 1_000)
        tail.wait_log(r"3 events were accepted that lie too far back")
        assert tail.terminate() == 0
