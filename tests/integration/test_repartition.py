"""Partitions are added and customers change lanes: what was counted in the former lane is not counted again in the new
one, ceilings and flags go along, and nothing is read by the wrong count."""
import itertools
import json
import random
import time

import pytest

from counting import assert_counted_once
from enforcing import (active, apply, assert_enforced, ceiling, read_flags, start_with, take_back, use, wait_active,
                       wait_adopted)
from load import Load, wait_progress
from oracle import partition_of
from stack import wait_until
from test_sealing import OLD, old_use

FAST = {"batch": {"max_delay": "50ms"}}


def add_partitions(scene, total):
    """To all topics that need them. What is produced from now on goes by the new count."""
    for name in (*scene.topics.usage, scene.topics.enforcement):
        scene.topics.add_partitions(name, total)
    scene.topics.partitions = total
    scene._producer = None


def repartition(scene, *arguments):
    return json.loads(scene.usagebox.command("offsets", "repartition", "--json", *arguments).stdout)


def refusal(scene):
    done = scene.usagebox.command("offsets", "repartition", check=False)
    assert done.returncode == 1, done.stdout
    return done.stderr


def lanes(scene):
    return scene.value("SELECT lanes FROM lane_count")


def wait_rehomed(scene, total):
    wait_until(lambda: lanes(scene) == total, 60, f"{total} lanes")


def eras(scene):
    """For the oracle: up to where which count holds."""
    found = []
    for number, count in scene.query("SELECT repartition_id, from_count FROM repartition ORDER BY 1"):
        ends = scene.query("SELECT topic, kafka_partition, end_offset FROM repartition_end WHERE repartition_id = %s", number)
        found.append(({(topic, partition): end for topic, partition, end in ends}, count))
    return found


def movers(*counts, count=20):
    """Customers who change lanes each time."""
    def lanes_of(name):
        return [partition_of(name.encode(), lanes) for lanes in counts]
    names = (f"c-{number}" for number in itertools.count())
    moving = (name for name in names if all(a != b for a, b in itertools.pairwise(lanes_of(name))))
    return list(itertools.islice(moving, count))


def test_an_event_counted_in_a_former_lane_is_a_repeat_in_each_later_one(make_scene):
    scene = make_scene(partitions=2, config=FAST).migrate()
    process = scene.usagebox.start()
    customers = movers(2, 3, 5)
    events = [use(customer, 1) for customer in customers]
    records = scene.produce(*events)
    scene.wait_consumed()
    for total in (3, 5):
        add_partitions(scene, total)
        assert repartition(scene)["answer"] == "ordered"
        events += [use(customer, 10) for customer in customers]
        records += scene.produce(*events)
        wait_rehomed(scene, total)
        scene.wait_consumed()
        process.wait_ready()
    outcome = assert_counted_once(scene, records, eras=eras(scene))
    assert outcome.counts["duplicate"] == 20 + 40 and outcome.counts["dead"] == 0
    process.kill9()
    scene.usagebox.start()
    records += scene.produce(*events)
    scene.wait_consumed()
    assert_counted_once(scene, records, eras=eras(scene))


def test_a_twin_beyond_the_end_waits_for_the_backlog_below_it(make_scene):
    """Nobody runs while partitions are added; the former lane holds unread what comes again in the new one."""
    scene = make_scene(partitions=4, config=FAST).migrate()
    process = scene.usagebox.start()
    records = scene.produce(*[use(customer, 1) for customer in movers(4, 6)])
    scene.wait_consumed()
    process.kill9()
    backlog = [use(customer, 2) for customer in movers(4, 6, count=60)]
    records += scene.produce(*backlog)
    add_partitions(scene, 6)
    too_early = [use(customer, 4) for customer in movers(4, 6)]  # before it is ordered
    records += scene.produce(*too_early)
    assert repartition(scene)["under_way"]
    records += scene.produce(*backlog, *[{**event, "quantity": 3} for event in backlog])
    for _ in range(2):
        scene.usagebox.start(ready=False)
    wait_rehomed(scene, 6)
    scene.wait_consumed()
    outcome = assert_counted_once(scene, records, eras=eras(scene))
    assert outcome.counts["duplicate"] == outcome.counts["conflict"] == len(backlog)
    assert outcome.dead_reasons == {"wrong_partition": sum(partition_of(event["customer_id"].encode(), 6) < 4
                                                           for event in too_early)}
    scene.usagebox.command("dead-letters", "replay", "--reason", "wrong_partition")
    wait_until(lambda: scene.value("SELECT sum(quantity) FROM usage_hourly") == 20 + 2 * 60 + 4 * 20, 30, "the replay")
    scene.usagebox.command("verify")


def test_lanes_are_rehomed_under_load_and_kill(make_scene):
    scene = make_scene(partitions=4, config=FAST).migrate()
    rules = [ceiling("day", 400_000, meter="llm_tokens_in"), ceiling("month", 2_000_000, period="month", meter="llm_tokens_out")]
    process = start_with(scene, *rules)
    with Load(scene, seed=71) as before:
        for _ in range(5):
            wait_progress(scene)
    process.kill9()
    records = before.records + scene.produce(*[use(f"big-{n}", 500_000, meter="llm_tokens_in") for n in range(6)])
    add_partitions(scene, 6)
    repartition(scene)
    dice = random.Random(71)
    with Load(scene, seed=72) as after:
        after.workload.recent = before.workload.recent  # repeats of what lies before
        after.workload.duplicates = 0.1
        processes = [scene.usagebox.start(ready=False) for _ in range(2)]
        while lanes(scene) == 4:
            time.sleep(dice.random() * 4)
            dice.choice(processes).kill9()
            processes = [p for p in processes if p.is_alive()] + [scene.usagebox.start(ready=False)]
        wait_progress(scene)
        processes[0].kill9()
        wait_progress(scene)
    scene.wait_consumed()
    outcome = assert_counted_once(scene, records + after.records, eras=eras(scene))
    assert outcome.counts["duplicate"] > 50
    assert len(assert_enforced(scene, rules, outcome)) >= 6


def test_one_that_slept_through_it_counts_nothing_more(make_scene):
    properties = {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300, "max.poll.interval.ms": 6000}
    scene = make_scene(partitions=2, config={"kafka": {"properties": properties}, "batch": {"max_delay": "2s"}}).migrate()
    cap = ceiling("cap", 100)
    sleeper = start_with(scene, cap)
    customers = movers(2, 3, count=8)
    events = [use(customer, 60) for customer in customers]
    records = scene.produce(*events[:4])
    scene.wait_consumed()
    records += scene.produce(*events[4:], *[use(customer, 41) for customer in customers[:4]])  # flagged, not committed
    wait_active(scene, {(customer, "cap") for customer in customers[:4]})
    sleeper.sigstop()
    add_partitions(scene, 3)
    repartition(scene)
    records += scene.produce(*events, *[use(customer, 41) for customer in customers[4:]])
    scene.usagebox.start(ready=False)
    wait_rehomed(scene, 3)
    scene.wait_consumed()
    sleeper.sigcont()
    sleeper.wait_log("SESSTMOUT|fenced|revoked|re-homed")
    time.sleep(2)
    wait_active(scene, {(customer, "cap") for customer in customers})
    assert_enforced(scene, [cap], assert_counted_once(scene, records, eras=eras(scene)))


def test_a_sealed_day_stays_decided_by_its_index(make_scene):
    """For lanes that are new, and for customers who come to a lane that never saw their events."""
    scene = make_scene(partitions=2, config=FAST).migrate()
    process = start_with(scene, ceiling("cap", 1000))
    customers = movers(2, 5)
    events = [old_use(customer, 1) for customer in customers] + [use(customer, 1) for customer in customers]
    records = scene.produce(*events)
    scene.wait_consumed()
    wait_until(lambda: scene.value("SELECT complete_through > now() - interval '1 day' FROM usage_watermark"), 30, "all to be read")
    scene.usagebox.command("seal", "--now", "--day", OLD.date().isoformat())
    add_partitions(scene, 5)
    repartition(scene)
    late = [old_use(customer, 3) for customer in customers]
    records += scene.produce(*events, *late, *events, *late)
    wait_rehomed(scene, 5)
    scene.wait_consumed()
    process.wait_ready()
    wait_until(lambda: scene.value("SELECT count(*) FROM ceiling_pending") == 0, 30, "late events to be counted")
    outcome = assert_counted_once(scene, records, eras=eras(scene))
    assert outcome.counts == {"accepted": 60, "duplicate": 100}


def test_what_was_read_before_may_be_read_again_after(make_scene):
    """A lane is sent back to offsets of which the former count says where they belong."""
    scene = make_scene(partitions=2, usage_topics=2, config=FAST).migrate()
    scene.usagebox.start()
    customers = movers(2, 3)
    for topic in scene.topics.usage:
        scene.produce(*[use(customer, 1) for customer in customers], topic=topic)
    scene.wait_consumed()
    add_partitions(scene, 3)
    repartition(scene, "--wait")
    scene.produce(*[use(customer, 1) for customer in customers])
    scene.wait_consumed()
    before = scene.query("SELECT topic, kafka_partition, kafka_offset FROM usage_event ORDER BY 1, 2, 3")
    for topic, lane in itertools.product(scene.topics.usage, range(2)):
        scene.usagebox.command("offsets", "seek", "--topic", topic, "--partition", lane, "--offset", 0, "--reason", "a test")
    scene.wait_consumed()
    assert scene.query("SELECT topic, kafka_partition, kafka_offset FROM usage_event ORDER BY 1, 2, 3") == before
    assert len(before) == 60 and scene.query("SELECT reason, detail FROM dead_letter") == []
    scene.usagebox.command("verify")


def send_to(scene, lane, offset):
    scene.usagebox.command("offsets", "seek", "--topic", scene.topics.usage[0], "--partition", lane, "--offset", offset,
                           "--reason", "a test")


def test_what_was_passed_over_is_counted_where_its_customer_is_now(make_scene):
    """An operator sends lanes over records, partitions are added, and he sends them back: of days that are open and of a
    sealed one. Some of the records came once more meanwhile, where their customers were by then."""
    scene = make_scene(partitions=2, config=FAST).migrate()
    process = start_with(scene, ceiling("cap", 100))
    customers = movers(2, 3, count=6)
    counted = [use(customer, 60) for customer in customers] + [old_use(customer, 1) for customer in customers]
    scene.produce(*counted)
    scene.wait_consumed()
    process.kill9()
    passed_over = [use(customer, 41) for customer in customers] + [old_use(customer, 2) for customer in customers]
    ends = {record.partition: record.offset + 1 for record in scene.produce(*passed_over)}
    for lane, end in ends.items():
        send_to(scene, lane, end)
    process = scene.usagebox.start()
    wait_until(lambda: scene.value("SELECT complete_through > now() - interval '1 day' FROM usage_watermark"), 30, "all to be read")
    scene.usagebox.command("seal", "--now", "--day", OLD.date().isoformat())
    add_partitions(scene, 3)
    repartition(scene, "--wait")
    process.wait_ready()
    scene.produce(*passed_over[:2], *passed_over[6:8])
    scene.wait_consumed()
    for lane in ends:
        send_to(scene, lane, 0)
    scene.wait_consumed()
    assert {row.reason: row.count for row in scene.query("SELECT reason, count(*) FROM dead_letter GROUP BY 1")} == \
        {"wrong_partition": 6 + 4}
    assert scene.value("SELECT sum(duplicate) FROM batch_ledger") == len(counted) + 2
    wait_active(scene, {(customer, "cap") for customer in customers[:2]})
    scene.usagebox.command("dead-letters", "replay", "--reason", "wrong_partition")
    wait_active(scene, {(customer, "cap") for customer in customers})
    scene.wait_consumed()
    assert scene.query("SELECT customer_id, sum(quantity) FROM usage_hourly GROUP BY 1 ORDER BY 1") == \
        [(customer, 60 + 41 + 1 + 2) for customer in sorted(customers)]
    scene.usagebox.command("verify")


class TestFlags:
    @pytest.fixture
    def scene(self, make_scene):
        scene = make_scene(partitions=4, config=FAST).migrate()
        apply(scene, ceiling("cap", 100))
        self.process = scene.usagebox.start()
        wait_adopted(scene)
        self.customers = movers(4, 6, count=6)
        self.flagged = {(customer, "cap") for customer in self.customers[:3]}
        scene.produce(*[use(customer, 101) for customer in self.customers[:3]])
        scene.produce(*[use(customer, 60) for customer in self.customers[3:]])
        wait_active(scene, self.flagged)
        scene.wait_consumed()
        add_partitions(scene, 6)
        repartition(scene, "--wait")
        self.process.wait_ready()
        wait_adopted(scene)
        return scene

    def last(self, scene):
        """{(customer, partition): the state that compaction keeps there}"""
        return {(flag.key[0], flag.record.partition): flag.value and flag.value["state"] for flag in read_flags(scene)}

    def pass_time(self, scene):
        """As if it had been done a while ago."""
        scene.query("UPDATE repartition SET finished_at = now() - interval '1 hour'")

    def test_a_late_reader_finds_them_in_force_all_the_time(self, scene):
        assert active(scene) == self.flagged
        former, new = [[(customer, partition_of(customer.encode(), lanes)) for customer in self.customers[:3]] for lanes in (4, 6)]
        wait_until(lambda: all(self.last(scene).get(place) == "active" for place in new), 30, "the new lanes to say them")
        assert active(scene) == self.flagged
        assert all(self.last(scene)[place] == "active" for place in former)
        self.pass_time(scene)
        wait_until(lambda: all(self.last(scene)[place] is None for place in former), 30, "the former lanes to bury theirs")
        assert active(scene) == self.flagged

    def test_the_former_lane_never_withdraws_them(self, scene):
        self.process.kill9()
        process = scene.usagebox.start()
        scene.produce(use(self.customers[0], 1))
        scene.wait_consumed()
        assert active(scene) == self.flagged
        self.pass_time(scene)
        process.kill9()
        scene.usagebox.start()
        time.sleep(2)
        assert active(scene) == self.flagged

    def test_what_clears_them_clears_them_for_who_reads_both_partitions(self, scene):
        apply(scene, ceiling("cap", 1000), lanes=6)
        wait_active(scene, set())
        self.pass_time(scene)
        time.sleep(3)
        assert active(scene) == set()

    def test_a_customer_is_counted_on_where_he_was(self, scene):
        scene.produce(*[use(customer, 41) for customer in self.customers[3:]])
        wait_active(scene, {(customer, "cap") for customer in self.customers})
        scene.wait_consumed()
        scene.usagebox.command("verify")
        for lane in range(6):
            scene.usagebox.command("verify", "--partition", lane)


class TestOrder:
    @pytest.fixture
    def scene(self, make_scene):
        return make_scene(partitions=2, config=FAST).migrate()

    def test_nothing_to_do(self, scene):
        assert repartition(scene)["answer"] == "nothing_read"
        scene.usagebox.start()
        assert repartition(scene)["answer"] == "as_before"

    def test_topics_that_do_not_fit_each_other(self, scene):
        scene.usagebox.start()
        scene.topics.add_partitions(scene.topics.usage[0], 3)
        said = refusal(scene)
        scene.topics.add_partitions(scene.topics.enforcement, 5)  # more than enough
        assert repartition(scene)["answer"] == "ordered"
        assert f"{scene.topics.enforcement} has 2 partitions and {scene.topics.usage[0]} has 3" in said and "--alter" in said

    def test_a_partitioner_that_nobody_knows(self, make_scene):
        scene = make_scene(partitions=1, config={"kafka": {"partitioner": "auto"}}).migrate()
        scene.usagebox.start()
        add_partitions(scene, 2)
        assert "set kafka.partitioner" in refusal(scene)
        scene.configure({"kafka": {"partitioner": "murmur2"}})
        assert repartition(scene)["answer"] == "ordered"

    def test_who_holds_it_up_is_said_everywhere_and_it_is_done_once_he_is_freed(self, scene):
        process = scene.usagebox.start()
        lane = {customer: partition_of(customer.encode(), 2) for customer in movers(2, 3)}
        held = next(customer for customer, number in lane.items() if number == 0)
        records = scene.produce(*[use(customer, 1) for customer in lane])
        scene.wait_consumed()
        process.kill9()
        lost = scene.produce(*[use(held, 1) for _ in range(3)])
        end = lost[-1].offset + 1
        scene.topics.delete_records(scene.topics.usage[0], {0: end})
        add_partitions(scene, 3)
        repartition(scene)
        assert repartition(scene) == {"answer": "under_way", "from": 2, "to": 3, "under_way": True, "done": False,
                                      "waits_for_lanes": "0"}
        records += scene.produce(*[use(customer, 5) for customer in lane])
        process = scene.usagebox.start(ready=False)
        wait_until(lambda: "have read up to it and wait for lanes 0" in process.http("/readyz")[1], 40, "/readyz to say so")
        assert process.http("/readyz")[0] == 503
        status = json.loads(scene.usagebox.command("status", "--json").stdout)["repartition"]
        assert [(row["from"], row["to"], row["waits_for_lanes"], row["records_left"]) for row in status] == [(2, 3, "0", 3)]
        findings = json.loads(scene.usagebox.command("check", "--json", check=False).stdout)["findings"]
        assert [f for f in findings if "from 2 to 3 partitions is under way, and waits for lanes 0" in f["what"]]
        assert scene.value("SELECT count(*) FROM usage_event") == len(lane)
        scene.usagebox.command("offsets", "accept", "--topic", scene.topics.usage[0], "--partition", "0", "--reason", "lost")
        wait_rehomed(scene, 3)
        scene.wait_consumed()
        assert scene.value("SELECT sum(gap) FROM batch_ledger") == 3
        process.wait_ready()
        assert_counted_once(scene, records, eras=eras(scene))

    def test_a_log_made_anew_does_not_hold_it_up_for_ever(self, scene):
        """It was to be read up to an offset that it may never have."""
        process = scene.usagebox.start()
        scene.produce(*[use(customer, 1) for customer in movers(2, 3)])
        scene.wait_consumed()
        process.kill9()
        scene.topics.recreate(scene.topics.usage[0])
        scene._producer = None
        ends = scene.consumed()
        add_partitions(scene, 3)
        repartition(scene)
        scene.usagebox.start(ready=False).wait_log("offsets seek")
        for lane in range(2):
            scene.usagebox.command("offsets", "seek", "--topic", scene.topics.usage[0], "--partition", lane, "--offset", 0,
                                   "--reason", "made anew")
        wait_rehomed(scene, 3)
        assert all(end > 0 for end in ends.values())
        scene.produce(*[use(customer, 1) for customer in movers(2, 3)])
        wait_until(lambda: scene.value("SELECT count(*) FROM usage_event") == 40, 30, "the new log to be read")

    def test_it_fences_whoever_has_not_heard_of_it_as_it_begins_and_as_it_ends(self, scene):
        scene.usagebox.start().kill9()
        before = scene.value("SELECT max(epoch) FROM consumer_offset")
        add_partitions(scene, 3)
        assert repartition(scene)["done"], "nobody has anything left to read"
        epochs = scene.query("SELECT DISTINCT epoch, (SELECT epoch FROM repartition) AS rehomed FROM consumer_offset")
        assert [tuple(row) for row in epochs] == [(before + 2, before + 2)]

    def test_fewer_partitions_than_were_read_are_refused(self, scene):
        scene.usagebox.start().kill9()
        scene.topics.recreate(scene.topics.usage[0], partitions=1)
        assert "lanes can't be given up" in refusal(scene)
        assert lanes(scene) == 2 and scene.query("SELECT * FROM repartition") == []

    def test_a_late_event_that_no_ceiling_has_counted_holds_it_up(self, scene):
        """The lane that it came to counts it, which its customer may have left by then."""
        scene.usagebox.start().kill9()
        scene.query("INSERT INTO ceiling_pending (topic, kafka_partition, kafka_offset, lane, customer_id, event_id, meter, "
                    "quantity, event_time) VALUES (%s, 1, 0, 1, 'c', 'late', 'm', 1, now())", scene.topics.usage[0])
        add_partitions(scene, 3)
        assert repartition(scene)["waits_for_lanes"] == "1"
        scene.query("DELETE FROM ceiling_pending")
        assert repartition(scene)["done"]

    def test_all_lanes_rely_on_the_seals_that_there_are(self, scene):
        """One that would look for repeats in memory has no keys of customers who were another lane's."""
        scene.usagebox.start().kill9()
        scene.query("INSERT INTO sealed_day (day, duplicates) SELECT date '2026-01-01' + n, (n = 5)::int FROM "
                    "generate_series(0, 11) n")
        add_partitions(scene, 3)
        assert repartition(scene)["done"]
        adopted = scene.query("SELECT lane, count(*) AS days FROM sealed_day_adoption GROUP BY 1 ORDER BY 1")
        assert [tuple(row) for row in adopted] == [(0, 11), (1, 11), (2, 11)]

    def test_transitions_are_counted_on_from_what_was_crossed_and_cleared_before(self, scene):
        cap = ceiling("cap", 100)
        process = start_with(scene, cap)
        customers = movers(2, 3, count=6)
        flagged = {(customer, "cap") for customer in customers}
        records = scene.produce(*[use(customer, 101) for customer in customers])
        wait_active(scene, flagged)
        records += scene.produce(*[take_back(customer, 50) for customer in customers])
        wait_active(scene, set())
        add_partitions(scene, 3)
        repartition(scene, "--wait")
        process.wait_ready()
        records += scene.produce(*[use(customer, 50) for customer in customers])
        wait_active(scene, flagged)
        scene.wait_consumed()
        made = scene.query("SELECT customer_id, array_agg(transition ORDER BY transition) AS made FROM policy_decision GROUP BY 1")
        assert {row.customer_id: row.made for row in made} == {customer: [1, 2, 3] for customer in customers}
        assert_counted_once(scene, records, eras=eras(scene))

    def test_lanes_at_different_ceilings_add_up_anew_what_was_used(self, scene):
        cap = ceiling("cap", 100)
        process = start_with(scene, cap)
        customers = movers(2, 3, count=6)
        records = scene.produce(*[use(customer, 60) for customer in customers])
        scene.wait_consumed()
        process.kill9()
        scene.query("UPDATE ceiling_adoption SET generation = 0 WHERE lane = 1")  # its counters may be of anything
        scene.query("UPDATE ceiling_usage SET used = 7 WHERE lane = 1")
        add_partitions(scene, 3)
        assert repartition(scene)["done"]
        process = scene.usagebox.start()
        wait_adopted(scene)
        records += scene.produce(*[use(customer, 41) for customer in customers])
        wait_active(scene, {(customer, "cap") for customer in customers})
        scene.wait_consumed()
        assert_enforced(scene, [cap], assert_counted_once(scene, records, eras=eras(scene)))

    def test_still_more_partitions_before_it_is_done(self, scene):
        scene.usagebox.start().kill9()
        customers = movers(2, 3, 5)
        events = [use(customer, 1) for customer in customers]
        records = scene.produce(*events)
        add_partitions(scene, 3)
        assert repartition(scene)["to"] == 3
        add_partitions(scene, 5)
        assert repartition(scene)["to"] == 5
        records += scene.produce(*events)
        process = scene.usagebox.start(ready=False)
        wait_rehomed(scene, 5)
        process.wait_ready()
        scene.wait_consumed()
        assert assert_counted_once(scene, records, eras=eras(scene)).counts["duplicate"] == len(events)
