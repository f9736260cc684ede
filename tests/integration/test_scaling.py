"""More processes share the lanes: who joins, leaves, dies or sleeps changes no total and no decision."""
import random
import time

from counting import assert_counted_once
from enforcing import (active, assert_enforced, ceiling, read_flags, say_late, start_with, take_back, use, wait_active,
                       wait_mended)
from load import Load, wait_progress
from stack import wait_until

LANES = 6


def owners(scene):
    """{owner: how many lanes it has}"""
    return dict(scene.query("SELECT owner, count(*) FROM consumer_offset GROUP BY owner"))


def wait_shared(scene, processes, lanes=LANES):
    """Until each of these, and nobody else, owns lanes and all of its lanes run."""
    wait_until(lambda: all(process.http("/readyz")[0] == 200 for process in processes), 40, "all to be ready")
    names = {process.log().split("owner=", 1)[1].split()[0] for process in processes}
    wait_until(lambda: set(owners(scene)) == names and sum(owners(scene).values()) == lanes, 40,
               f"{names} to share {lanes} lanes")


def test_processes_that_join_and_leave_during_a_load_change_no_total(make_scene):
    scene = make_scene(partitions=LANES, config={"batch": {"max_delay": "50ms"}}).migrate()
    first = scene.usagebox.start()
    with Load(scene, seed=41) as load:
        wait_progress(scene)
        second = scene.usagebox.start(ready=False)
        wait_shared(scene, [first, second])
        third = scene.usagebox.start(ready=False)
        wait_shared(scene, [first, second, third])
        assert max(owners(scene).values()) == LANES // 3
        assert first.terminate() == 0
        wait_shared(scene, [second, third])
        second.kill9()
        wait_shared(scene, [third])
        wait_progress(scene)
    scene.wait_consumed()
    assert_counted_once(scene, load.records)


def random_use(dice):
    customer, quantity = f"c-{dice.randrange(30)}", dice.randrange(1, 40)
    return take_back(customer, 3 * quantity) if dice.random() < 0.2 else use(customer, quantity)


def test_decisions_are_the_same_whoever_makes_them(make_scene):
    scene = make_scene(partitions=LANES, config={"batch": {"max_delay": "50ms"}}).migrate()
    rules = [ceiling("day", 500, clear_level=450), ceiling("month", 1_500, period="month")]
    first = start_with(scene, *rules)
    dice, records = random.Random(9), []

    def produce(count):
        for _ in range(count):
            records.extend(scene.produce(*[random_use(dice) for _ in range(200)]))

    produce(5)
    second = scene.usagebox.start(ready=False)
    produce(10)
    wait_shared(scene, [first, second])
    produce(5)
    first.kill9()
    produce(10)
    wait_shared(scene, [second])
    scene.usagebox.start(ready=False)
    produce(10)
    scene.wait_consumed()
    assert len(assert_enforced(scene, rules, assert_counted_once(scene, records))) > 100


def test_one_that_slept_through_its_eviction_is_fenced_and_its_late_flags_do_no_harm(make_scene):
    """It falls asleep with a batch under way and a request for records that is answered meanwhile."""
    properties = {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300, "max.poll.interval.ms": 6000}
    scene = make_scene(partitions=1, config={"kafka": {"properties": properties}, "batch": {"max_delay": "2s"}}).migrate()
    cap = ceiling("cap", 100)
    sleeper = start_with(scene, cap)
    records = scene.produce(use("a", 60))
    scene.wait_consumed()
    records += scene.produce(use("a", 41), use("b", 101))  # flagged, not committed
    wait_active(scene, {("a", "cap"), ("b", "cap")})
    sleeper.sigstop()
    records += scene.produce(use("c", 101), take_back("b", 50), use("b", 60))
    other = scene.usagebox.start(ready=False)
    wait_shared(scene, [other], lanes=1)
    records += scene.produce(take_back("a", 50), take_back("c", 50), use("d", 101))
    scene.wait_consumed()
    right = {("b", "cap"), ("d", "cap")}
    assert active(scene) == right
    sleeper.sigcont()
    late = next(flag for flag in read_flags(scene) if flag.key[0] == "a" and flag.value["state"] == "active")
    say_late(scene, late, late.sequence[0], 1000)
    sleeper.wait_log("SESSTMOUT|fenced|revoked")
    time.sleep(1)
    wait_mended(scene)
    assert active(scene) == right
    other.kill9()  # the sleeper is of use again
    records += scene.produce(use("e", 101), take_back("d", 50))
    scene.wait_consumed()
    assert sleeper.is_alive()
    assert_enforced(scene, [cap], assert_counted_once(scene, records))


def test_whoever_finds_its_epoch_raised_commits_nothing_and_takes_over_again(make_scene):
    scene = make_scene(config={"batch": {"max_delay": "50ms"}}).migrate()
    process = scene.usagebox.start()
    with Load(scene, seed=42) as load:
        for _ in range(5):
            wait_progress(scene)
            scene.query("UPDATE consumer_offset SET epoch = epoch + 1 WHERE kafka_partition <> 1")
        wait_progress(scene)
    scene.wait_consumed()
    assert "fenced" in process.log()
    assert_counted_once(scene, load.records)
