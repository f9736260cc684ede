"""The operator's commands, and what is kept up beside the pipeline, while a process runs."""
import json
import random
import time
from datetime import datetime, timedelta, timezone

import pytest
from confluent_kafka.admin import NewTopic

from counting import assert_counted_once
from stack import wait_until

DAYS_AGO = 3


@pytest.fixture
def scene(make_scene):
    return make_scene().migrate()


def event(number, **more):
    return {"event_id": f"e{number}", "customer_id": f"cust-{number % 7}", "meter": "tool_calls", "quantity": 1, **more}


def old_day():
    return datetime.now(timezone.utc).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=DAYS_AGO)


def old_event(number, **more):
    return event(number, timestamp=old_day().isoformat(), **more)


class TestSeals:
    def counted(self, scene, records, *values):
        records += scene.produce(*values)
        scene.wait_consumed()
        return assert_counted_once(scene, records)

    def seal(self, scene, check=True):
        """Empty lanes say within a second that they have nothing more."""
        wait_until(lambda: scene.value("SELECT complete_through > now() - interval '1 day' FROM usage_watermark"), 30,
                   "all lanes to be read")
        return scene.usagebox.command("seal", "--now", "--day", old_day().date().isoformat(), check=check)

    def wait_adopted(self, scene):
        wait_until(lambda: scene.value("SELECT count(*) FROM sealed_day_adoption") == 3, 30, "the seal's adoption")

    def segments(self, scene):
        return scene.value("SELECT to_regclass(%s)", f"dedupe_segment_{old_day():%Y%m%d}")

    def test_repeats_of_a_sealed_day_are_found_by_its_index(self, scene):
        scene.usagebox.start()
        records = []
        self.counted(scene, records, *[old_event(n) for n in range(50)])
        self.seal(scene)
        self.wait_adopted(scene)
        outcome = self.counted(scene, records, *[old_event(n) for n in range(100)], old_event(1, quantity=2))
        assert outcome.counts == {"accepted": 100, "duplicate": 50, "conflict": 1}
        scene.usagebox.processes[0].kill9()
        scene.usagebox.start()
        assert self.counted(scene, records, *[old_event(n) for n in range(100)]).counts["accepted"] == 100
        scene.usagebox.command("verify")

    def test_dedupe_segments_go_once_every_lane_has_adopted_the_seal(self, scene):
        scene.usagebox.start()
        self.counted(scene, [], *[old_event(n) for n in range(20)])
        assert self.segments(scene)
        self.seal(scene)
        wait_until(lambda: not self.segments(scene), 60, "the day's segments to be dropped")

    def test_a_running_process_seals_a_day_that_is_due_by_itself(self, scene):
        scene.usagebox.start()
        records = []
        self.counted(scene, records, *[old_event(n) for n in range(20)])
        scene.query(f"UPDATE {self.segments(scene)} SET created_at = now() - interval '11 min'")
        wait_until(lambda: scene.query("SELECT * FROM sealed_day WHERE duplicates = 0"), 60, "the day's seal")
        self.wait_adopted(scene)
        assert self.counted(scene, records, old_event(1)).counts["duplicate"] == 1

    def test_a_day_that_holds_an_event_twice_is_not_adopted_and_intake_goes_on(self, scene):
        scene.usagebox.start()
        records = []
        self.counted(scene, records, *[old_event(n) for n in range(20)])
        scene.query("INSERT INTO usage_event SELECT * FROM usage_event WHERE event_id = 'e1'")
        assert self.seal(scene, check=False).returncode == 1
        time.sleep(3)
        assert scene.query("SELECT * FROM sealed_day_adoption") == []
        scene.produce(old_event(1), old_event(100))
        scene.wait_consumed()
        assert scene.value("SELECT count(*) FROM usage_event") == 22

    def test_partitions_are_made_ahead_of_need(self, scene):
        missing = scene.value("SELECT to_char(now() AT TIME ZONE 'UTC' + interval '2 d', 'YYYYMMDD')")
        scene.query(f"DROP TABLE usage_event_{missing}, dedupe_segment_{missing}")
        scene.usagebox.start()
        wait_until(lambda: scene.value("SELECT to_regclass(%s)", f"usage_event_{missing}"), 30, "the day's partition")


class TestStoppedLanes:
    def offsets(self, scene, verb, *arguments):
        scene.usagebox.command("offsets", verb, "--topic", scene.topics.usage[0], "--partition", "0", "--reason",
                               "a test", *map(str, arguments))

    def read_and_stop(self, scene, values):
        process = scene.usagebox.start()
        records = scene.produce(*values, partition=0, key="cust-0")
        scene.wait_consumed()
        process.terminate()
        return records

    def own(self, *numbers):
        return [event(7 * n) for n in numbers]  # all of cust-0

    @pytest.fixture
    def scene(self, make_scene):
        return make_scene(partitions=1).migrate()

    def test_removed_records_stop_a_lane_until_they_are_accepted(self, scene):
        self.read_and_stop(scene, self.own(1, 2, 3))
        scene.produce(*self.own(4, 5, 6, 7), partition=0)
        scene.topics.delete_records(scene.topics.usage[0], {0: 5})
        process = scene.usagebox.start(ready=False)
        process.wait_log("begins at offset 5")
        self.offsets(scene, "accept")
        scene.wait_consumed()
        assert [tuple(row) for row in scene.query("SELECT event_id FROM usage_event ORDER BY 1")] == \
            [("e14",), ("e21",), ("e42",), ("e49",), ("e7",)]
        [gap] = scene.query("SELECT * FROM batch_ledger WHERE gap > 0")
        assert (gap.first_offset, gap.next_offset, gap.reason) == (3, 5, "a test")
        scene.usagebox.command("verify")

    def test_a_topic_made_anew_stops_a_lane_until_it_is_sought(self, scene):
        self.read_and_stop(scene, self.own(1, 2, 3))
        scene.topics.recreate(scene.topics.usage[0])
        scene._producer = None
        scene.produce(*self.own(4, 5, 6, 7), partition=0)
        process = scene.usagebox.start(ready=False)
        process.wait_log("recreated")
        self.offsets(scene, "seek", "--offset", 0)
        scene.wait_consumed()
        wait_until(lambda: scene.value("SELECT count(*) FROM usage_event") == 7, 30, "the new topic's events")

    def test_an_offset_beyond_the_end_stops_a_lane_until_it_is_sought(self, scene):
        records = self.read_and_stop(scene, self.own(1, 2, 3))
        scene.query("UPDATE consumer_offset SET next_offset = 100, last_offset = 99")
        process = scene.usagebox.start(ready=False)
        process.wait_log("truncated")
        self.offsets(scene, "seek", "--offset", 3)
        records += scene.produce(*self.own(4), partition=0)
        wait_until(lambda: scene.value("SELECT count(*) FROM usage_event") == 4, 30, "the lane to go on")

    def test_going_back_while_a_process_runs_counts_nothing_twice(self, scene):
        scene.usagebox.start()
        scene.produce(*self.own(*range(50)), partition=0)
        scene.wait_consumed()
        self.offsets(scene, "seek", "--offset", 10)
        scene.produce(*self.own(50), partition=0)
        scene.wait_consumed()
        sums = scene.query("SELECT sum(accepted) AS accepted, sum(duplicate) AS duplicate FROM batch_ledger")[0]
        assert (sums.accepted, sums.duplicate) == (51, 40)
        assert scene.value("SELECT sum(quantity) FROM usage_hourly") == 51
        scene.usagebox.command("verify")


def test_counters_go_forty_days_after_their_period_by_two_clocks(make_scene):
    """What is read says which day it is, too: a server's clock alone does not take away what still counts."""
    scene = make_scene(partitions=1).migrate()
    scene.query("INSERT INTO ceiling_usage SELECT 0, 'c-' || days, 'm', period, '{}', now() - days * interval '1 day' - "
                "('1 ' || period)::interval, 1 FROM (VALUES (0), (39.9), (40.1), (400)) d(days), "
                "(VALUES ('hour'), ('day'), ('month')) p(period)")
    scene.query("INSERT INTO ceiling_usage SELECT 0, 'many', 'm', 'hour', '{}', now() - interval '99 days' - n * interval '1 s', 1 "
                "FROM generate_series(1, 120000) n")

    def await_kept(read_through, *customers):
        scene.query("INSERT INTO consumer_offset (topic, kafka_partition, seen_through) VALUES ('other', 0, now() + %s) ON "
                    "CONFLICT (topic, kafka_partition) DO UPDATE SET seen_through = excluded.seen_through", read_through)
        process = scene.usagebox.start()
        wait_until(lambda: {row[0] for row in scene.query("SELECT DISTINCT customer_id FROM ceiling_usage")} ==
                   set(customers), 30, f"counters of {customers} alone")
        wait_until(lambda: scene.value("SELECT max(seen_through) > now() - interval '1 hour' FROM consumer_offset WHERE "
                                       "topic <> 'other'"), 30, "the lane to be read")
        process.kill9()

    await_kept(timedelta(days=-350), "c-0", "c-39.9", "c-40.1", "many")
    await_kept(timedelta(0), "c-0", "c-39.9")
    assert scene.value("SELECT count(*) FROM ceiling_usage") == 6
    scene.usagebox.command("verify")


class TestReplay:
    def dead(self, scene):
        return json.loads(scene.usagebox.command("dead-letters", "list", "--json").stdout)["dead_letters"]

    def replay(self, scene, *arguments):
        scene.usagebox.command("dead-letters", "replay", *arguments)
        scene.wait_consumed()

    def test_a_replayed_event_is_counted_once_at_the_time_of_its_first_record(self, scene):
        scene.usagebox.start()
        then_ms = int((time.time() - 7200) * 1000)
        scene.produce(event(1), key="somebody-else", timestamp_ms=then_ms)
        scene.wait_consumed()
        assert [d["reason"] for d in self.dead(scene)] == ["key_mismatch"]
        self.replay(scene, "--all")
        self.replay(scene, "--all", "--again")
        assert scene.value("SELECT extract(epoch FROM event_time) * 1000 FROM usage_event") == then_ms
        assert scene.value("SELECT sum(duplicate) FROM batch_ledger") == 1
        assert len(self.dead(scene)) == 1 and self.dead(scene)[0]["replayed"]

    def test_what_was_too_old_is_counted_once_it_may_be(self, scene):
        scene.configure({"events": {"max_age": "1h"}})
        process = scene.usagebox.start()
        scene.produce(old_event(1))
        scene.wait_consumed()
        assert [d["reason"] for d in self.dead(scene)] == ["too_old"]
        process.terminate()
        scene.configure({"events": {"max_age": "400d"}})
        scene.usagebox.start()
        self.replay(scene, "--reason", "too_old")
        assert scene.value("SELECT event_time FROM usage_event") == old_day()

    def test_what_is_wrong_in_itself_is_refused_again(self, scene):
        scene.usagebox.start()
        scene.produce(event(1, quantity=-1))
        scene.wait_consumed()
        self.replay(scene, "--all")
        assert len(self.dead(scene)) == 2


class TestCeilings:
    def test_an_applied_ceiling_is_enforced_by_a_running_process(self, scene):
        scene.usagebox.start()
        scene.produce(event(1, quantity=9))
        scene.wait_consumed()
        scene.configure({"ceilings": [{"name": "c", "customer": "*", "meter": "tool_calls", "period": "month", "limit": 10,
                                       "policy": "alert"}]})
        scene.usagebox.command("ceilings", "apply")
        wait_until(lambda: scene.value("SELECT count(*) FROM ceiling_adoption") == 3, 30, "the ceiling's adoption")
        scene.produce(event(8, quantity=2))
        wait_until(lambda: scene.value("SELECT count(*) FROM policy_decision") == 1, 30, "the decision")
        [listed] = json.loads(scene.usagebox.command("ceilings", "list", "--json").stdout)
        assert listed["over_now"] == 1


class TestDeadLetterTopic:
    @pytest.fixture
    def scene(self, make_scene):
        scene = make_scene()
        scene.configure({"kafka": {"dead_letter_topic": scene.topics.dead_letter}})
        return scene.migrate()

    def copies(self, scene, count):
        wait_until(lambda: scene.value("SELECT count(*) FROM dead_letter WHERE copied_at IS NOT NULL") == count, 60,
                   f"{count} dead letters to be copied")
        return scene.topics.read(scene.topics.dead_letter)

    def test_each_refused_record_is_copied_with_its_reason(self, scene):
        scene.usagebox.start()
        [sent] = scene.produce(b"\xff", key=b"\x00k", partition=1, headers=[("own", b"\x01"), ("none", None)])
        [copy] = self.copies(scene, 1)
        assert (copy.key, copy.value) == (sent.key, sent.value)
        headers = dict(copy.headers)
        assert list(copy.headers)[:2] == [("own", b"\x01"), ("none", None)]
        assert headers["usagebox_reason"] == b"not_utf8" and headers["usagebox_detail"]
        assert (headers["usagebox_topic"].decode(), headers["usagebox_partition"], headers["usagebox_offset"]) == \
            (sent.topic, b"1", str(sent.offset).encode())
        assert headers["usagebox_time"] == str(sent.timestamp_ms).encode()

    def test_what_was_refused_before_or_while_kafka_was_away_is_copied_later(self, scene):
        scene.configure({"kafka": {"dead_letter_topic": ""}})
        process = scene.usagebox.start()
        scene.produce(*[b"x"] * 120, partition=0)
        scene.wait_consumed()
        process.terminate()
        scene.configure({"kafka": {"dead_letter_topic": scene.topics.dead_letter}})
        scene.usagebox.start()
        copies = self.copies(scene, 120)
        assert {dict(c.headers)["usagebox_offset"] for c in copies} == {str(n).encode() for n in range(120)}

    def test_one_that_the_topic_never_takes_does_not_hold_up_the_others(self, scene):
        narrow = scene.topics.dead_letter + ".narrow"
        scene.topics.create(NewTopic(narrow, 1, 1, config={"max.message.bytes": "10000"}))
        scene.topics.dead_letter = narrow
        scene.configure({"kafka": {"dead_letter_topic": narrow}})
        scene.usagebox.start()
        scene.produce(random.Random(1).randbytes(20_000), b"small", partition=0)
        assert [copy.value for copy in self.copies(scene, 2)] == [b"small"]
        assert "can't be copied" in scene.usagebox.processes[0].log()
