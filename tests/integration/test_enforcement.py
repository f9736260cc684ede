"""In time and explained: ceilings are crossed by what was counted and nothing else, and the flag is out before the
event is in PostgreSQL."""
import random
import time
from datetime import datetime, timezone

from clock import MovedClock
from counting import assert_counted_once
from enforcing import (active, apply, assert_enforced, ceiling, in_force_for, period_of, read_flags, say_late, schema,
                       start_with, take_back, use, wait_active, wait_adopted)
from stack import wait_until
from workload import Workload

EVENT_SCHEMA = schema("usage-event.schema.json")


def decisions(scene, *columns):
    """Ordered as they were made in each period of a key."""
    return scene.query(f"SELECT {', '.join(columns)} FROM policy_decision "
                       "ORDER BY customer_id, ceiling, period_start, transition")


def holding_back(scene):
    """So that nothing is committed before a batch is full or the process stops."""
    scene.configure({"batch": {"max_delay": "60s"}})


class TestLimits:
    CAP = ceiling("cap", 100)

    def test_crossed_is_more_than_the_limit_and_not_the_limit(self, scene):
        start_with(scene.migrate(), self.CAP)
        records = scene.produce(use("below", 99), use("at", 100), use("above", 101), use("hair", "100.000000001"))
        scene.wait_consumed()
        assert active(scene) == {("above", "cap"), ("hair", "cap")}
        records += scene.produce(use("below", 1), use("at", "0.000000001"))
        scene.wait_consumed()
        assert active(scene) == {("above", "cap"), ("hair", "cap"), ("at", "cap")}
        assert_enforced(scene, [self.CAP], assert_counted_once(scene, records))

    def test_a_correction_clears_at_the_clear_level_and_not_above(self, scene):
        rule = {**self.CAP, "clear_level": 80}
        start_with(scene.migrate(), rule)
        records = scene.produce(use("a", 101), take_back("a", 20), use("b", 101), take_back("b", 21), use("b", 21))
        scene.wait_consumed()
        assert active(scene) == {("a", "cap"), ("b", "cap")}
        assert [tuple(row) for row in decisions(scene, "customer_id", "transition")] == [("a", 1), ("b", 1), ("b", 2), ("b", 3)]
        assert_enforced(scene, [rule], assert_counted_once(scene, records))

    def test_a_plan_holds_for_who_is_on_it_and_a_customers_own_for_that_one(self, scene):
        rules = [ceiling("pro", 10, plan="pro"), ceiling("own", 5, customer="a"), ceiling("month", 20, period="month")]
        start_with(scene.migrate(), *rules)
        pro = {"policy_metadata": {"plan_tier": "pro"}}
        records = scene.produce(use("a", 9), use("b", 11), use("c", 11, **pro), use("a", 2, **pro), use("d", 21))
        scene.wait_consumed()
        assert active(scene) == {("a", "own"), ("a", "pro"), ("c", "pro"), ("d", "month")}
        assert_enforced(scene, rules, assert_counted_once(scene, records))

    def test_a_raised_limit_clears_and_a_lowered_one_crosses(self, scene):
        start_with(scene.migrate(), self.CAP)
        scene.produce(use("a", 150), use("b", 50))
        wait_active(scene, {("a", "cap")})
        apply(scene, {**self.CAP, "limit": 150})
        wait_active(scene, set())
        apply(scene, {**self.CAP, "limit": 49})
        wait_active(scene, {("a", "cap"), ("b", "cap")})
        apply(scene)
        wait_active(scene, set())
        scene.produce(use("a", 1000))
        scene.wait_consumed()
        wait_until(lambda: [tuple(row) for row in decisions(scene, "customer_id", "transition", "source")] == [
            ("a", 1, "event"), ("a", 2, "ceilings"), ("a", 3, "ceilings"), ("a", 4, "ceilings"),
            ("b", 1, "ceilings"), ("b", 2, "ceilings")], 20, "the decisions to be committed")
        read_flags(scene)

    def test_what_was_used_before_a_ceiling_counts_against_it(self, scene):
        scene.migrate().usagebox.start()
        scene.produce(use("a", 101), use("b", 60))
        scene.wait_consumed()
        apply(scene, self.CAP)
        wait_active(scene, {("a", "cap")})
        scene.produce(use("b", 41))
        wait_active(scene, {("a", "cap"), ("b", "cap")})


class TestPeriods:
    HOURLY = ceiling("hourly", 10, period="hour", policy="alert")

    def test_a_late_event_that_crosses_a_past_period_is_decided_and_not_flagged(self, scene):
        apply(scene.migrate(), self.HOURLY)
        in_force_for(scene, "2 days")
        scene.usagebox.start()
        wait_adopted(scene)
        then_ms = int((time.time() - 5 * 3600) * 1000)
        records = scene.produce(use("late", 6, timestamp=then_ms), use("late", 5, timestamp=then_ms), use("now", 11))
        scene.wait_consumed()
        assert_enforced(scene, [self.HOURLY], assert_counted_once(scene, records))
        past = [row for row in decisions(scene, "customer_id", "source", "published") if row.customer_id == "late"]
        assert past[0] == ("late", "event", False)
        assert {flag.key[0] for flag in read_flags(scene) if flag.value["state"] == "active"} == {"now"}

    def test_periods_that_ended_before_a_ceiling_are_counted_once_an_older_one_is_back(self, scene):
        apply(scene.migrate(), self.HOURLY)
        in_force_for(scene, "2 days")
        apply(scene)
        scene.usagebox.start()
        then_ms = int((time.time() - 5 * 3600) * 1000)
        records = scene.produce(use("late", 3, timestamp=then_ms))
        scene.wait_consumed()
        young = {**self.HOURLY, "name": "young"}
        apply(scene, young)
        records += scene.produce(use("late", 4, timestamp=then_ms), use("now", 11))
        scene.wait_consumed()
        assert_counted_once(scene, records)
        assert active(scene) == {("now", "young")}
        apply(scene, young, self.HOURLY)
        records += scene.produce(use("late", 4, timestamp=then_ms))
        scene.wait_consumed()
        assert_counted_once(scene, records)
        past = [tuple(row) for row in decisions(scene, "customer_id", "ceiling", "used::text", "published")][0]
        assert past == ("late", "hourly", "11.000000000", False)

    def test_an_idle_customer_is_cleared_when_the_period_ends(self, scene):
        apply(scene.migrate(), self.HOURLY)
        clock = MovedClock(scene.directory)
        process = scene.usagebox.start(env=clock.env)
        wait_adopted(scene)
        _, end = period_of("hour", datetime.now(timezone.utc))
        scene.produce(use("idle", 11), use("fine", 10))
        wait_until(lambda: ("idle", "hourly") in active(scene), 20, "the flag")
        clock.move_to(end.timestamp())
        wait_until(lambda: active(scene) == set(), 20, "the flag to be cleared")
        wait_until(lambda: [tuple(row) for row in decisions(scene, "customer_id", "transition", "source", "published")] == [
            ("idle", 1, "event", True), ("idle", 2, "clock", True)], 20, "the clearing to be committed")
        process.kill9()  # and again by nobody
        scene.usagebox.start(env=clock.env)
        scene.produce(use("idle", 11, timestamp=int(end.timestamp() * 1000) + 1))
        wait_until(lambda: ("idle", "hourly") in active(scene), 20, "the flag of the next hour")
        scene.wait_consumed()
        assert len(decisions(scene, "1")) == 3
        assert len(read_flags(scene)) == 3

    def test_who_takes_over_after_the_periods_end_clears_it(self, scene):
        apply(scene.migrate(), self.HOURLY)
        clock = MovedClock(scene.directory)
        process = scene.usagebox.start(env=clock.env)
        wait_adopted(scene)
        _, end = period_of("hour", datetime.now(timezone.utc))
        scene.produce(use("idle", 11))
        scene.wait_consumed()
        process.kill9()
        clock.move_to(end.timestamp())
        scene.usagebox.start(env=clock.env)
        wait_until(lambda: active(scene) == set(), 20, "the flag to be cleared")
        wait_until(lambda: len(decisions(scene, "1")) == 2, 20, "the decision")


class TestCrashes:
    CAP = ceiling("cap", 100)

    def test_a_crash_between_flag_and_commit_decides_the_same_again(self, scene):
        start_with(scene.migrate(), self.CAP)
        scene.usagebox.processes[0].terminate()
        holding_back(scene)
        process = scene.usagebox.start()
        records = scene.produce(use("a", 60), use("b", 101), use("a", 41), take_back("b", 50), use("b", 60))
        wait_until(lambda: len(read_flags(scene)) == 4, 20, "the flags")
        assert decisions(scene, "1") == [] and scene.value("SELECT count(*) FROM usage_event") == 0
        process.kill9()
        before = read_flags(scene)
        scene.configure({"batch": {"max_delay": "200ms"}})
        scene.usagebox.start()
        scene.wait_consumed()
        assert_enforced(scene, [self.CAP], assert_counted_once(scene, records))
        assert read_flags(scene) == before, "nothing is published twice"

    def test_who_takes_over_decides_by_what_was_adopted_until_newer_ceilings_are(self, make_scene):
        """While their sums can't be read, nothing can be adopted."""
        scene = make_scene(partitions=1)
        process = start_with(scene.migrate(), self.CAP)
        records = scene.produce(use("a", 60))
        scene.wait_consumed()
        process.kill9()
        apply(scene, self.CAP, ceiling("other", 1_000_000, meter="gpu_minutes"))
        reader = scene.database.connect()
        reader.cursor().execute("LOCK TABLE usage_hourly IN ACCESS EXCLUSIVE MODE")
        scene.usagebox.start(ready=False)
        records += scene.produce(use("a", 41), use("b", 101), take_back("a", 50), use("c", 101), take_back("c", 1))
        wait_until(lambda: len(read_flags(scene)) == 5, 20, "the flags")
        reader.close()
        scene.wait_consumed()
        wait_adopted(scene)
        assert len(assert_enforced(scene, [self.CAP], assert_counted_once(scene, records))) == 5

    def test_kill_9_under_load_loses_no_flag_and_decides_nothing_twice(self, make_scene):
        scene = make_scene(config={"batch": {"max_delay": "50ms"},
                                   "kafka": {"properties": {"session.timeout.ms": 1000, "heartbeat.interval.ms": 200}}}).migrate()
        rules = [ceiling("hour", 2_000, period="hour"), ceiling("day", 10_000, clear_level=9_500),
                 ceiling("tight", 100, period="month", policy="alert", clear_level=50),
                 ceiling("pro", 3_000, plan="pro"), ceiling("own", 777, customer="c-1")]
        process = start_with(scene, *rules)
        dice, records = random.Random(7), []
        for _ in range(10):
            producer = scene.topics.producer()
            for _ in range(3_000):
                producer.send(self.random_use(dice))
            records += producer.flush()
            time.sleep(0.3 * dice.random())
            process.kill9()
            process = scene.usagebox.start(ready=False)
            process.wait_log("lane runs")
        scene.wait_consumed(timeout_s=120)
        expected = assert_enforced(scene, rules, assert_counted_once(scene, records))
        assert len(expected) > 100

    def random_use(self, dice):
        customer = f"c-{int(dice.paretovariate(0.5)) % 40}"
        quantity = dice.randrange(1, 40)
        plan = {"policy_metadata": {"plan_tier": dice.choice(["pro", "free"])}}
        return take_back(customer, 3 * quantity, **plan) if dice.random() < 0.2 else use(customer, quantity, **plan)


class TestOutages:
    CAP = ceiling("cap", 100)

    def test_flags_keep_leaving_while_postgresql_is_away(self, scene):
        process = start_with(scene.migrate(), self.CAP)
        records = scene.produce(use("a", 60), use("b", 101))
        scene.wait_consumed()
        scene.stack.pg_stop("immediate")
        records += scene.produce(use("a", 41), use("c", 150), take_back("b", 50))
        wait_active(scene, {("a", "cap"), ("c", "cap")})
        before = read_flags(scene)
        scene.stack.pg_start()
        records += scene.produce(use("d", 101))
        scene.wait_consumed()
        assert process.is_alive()
        assert_enforced(scene, [self.CAP], assert_counted_once(scene, records))
        assert read_flags(scene)[:-1] == before or set(before) < set(read_flags(scene))
        assert len(read_flags(scene)) == len(before) + 1, "nothing is published twice"


class TestMessages:
    def test_usage_as_it_is_produced_keeps_to_its_schema(self):
        for value, _ in Workload(seed=8, bad=0).records(300):
            EVENT_SCHEMA.validate(value)

    def test_the_owner_overrides_a_zombies_late_message(self, scene):
        start_with(scene.migrate(), ceiling("cap", 100))
        scene.usagebox.processes[0].terminate()  # the zombie
        scene.usagebox.start()
        scene.produce(use("a", 101), take_back("a", 50), use("a", 50))
        wait_active(scene, {("a", "cap")})
        wait_until(lambda: len(read_flags(scene)) == 3, 20, "the flags")
        _, cleared, flag = read_flags(scene)
        epoch, count = flag.sequence
        say_late(scene, cleared, epoch - 1, count + 5)
        wait_until(lambda: len(read_flags(scene)) == 5, 20, "the owner's answer")
        zombie, answer = read_flags(scene)[3:]
        assert zombie.sequence == (epoch - 1, count + 5)
        assert answer.sequence > flag.sequence
        assert {**answer.value, "sequence": 0} == {**flag.value, "sequence": 0}
        assert active(scene) == {("a", "cap")}
