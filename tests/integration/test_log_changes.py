"""The log changes under the program: it stops with a clear error, or accounts for what is missing, and skips nothing
silently. A process that starts and finds its log changed: test_ops_running.py."""
import time

import pytest

from counting import assert_counted_once
from enforcing import active, ceiling, start_with, use, wait_active
from stack import wait_until

# the process sleeps while its log is changed and must still be a member when it wakes
PATIENT = {"kafka": {"properties": {"session.timeout.ms": 30000, "heartbeat.interval.ms": 1000}}}


@pytest.fixture
def scene(make_scene):
    return make_scene(partitions=1, config=PATIENT).migrate()


def uses(count):
    return [use("cust-0", 1) for _ in range(count)]


def wait_stopped(process, *words, timeout_s=45):
    """It lives, is not ready, and says why."""
    def says_why():
        status, body = process.http("/readyz")
        return status == 503 and all(word in body for word in words)
    wait_until(says_why, timeout_s, f"/readyz to say {words}")
    assert process.is_alive()
    assert process.http("/healthz")[0] == 200


def offsets(scene, verb, *arguments):
    scene.usagebox.command("offsets", verb, "--topic", scene.topics.usage[0], "--partition", "0", "--reason", "a test",
                           *arguments)


def events(scene):
    return scene.value("SELECT count(*) FROM usage_event")


def ledger(scene):
    """(accepted, gap)"""
    return tuple(scene.query("SELECT sum(accepted) AS accepted, sum(gap) AS gap FROM batch_ledger")[0])


def test_records_removed_before_they_were_read_stop_a_running_lane(scene):
    process = scene.usagebox.start()
    scene.produce(*uses(10))
    scene.wait_consumed()
    process.sigstop()
    # what a request under way brings may come in still; the rest is gone
    for _ in range(5):
        scene.produce(*uses(10))
    scene.topics.delete_records(scene.topics.usage[0], {0: 55})
    process.sigcont()
    wait_stopped(process, "removed")
    before = scene.consumed()[scene.topics.usage[0], 0]
    assert before < 55 and events(scene) == before
    offsets(scene, "accept")
    scene.wait_consumed()
    assert ledger(scene) == (before + 5, 55 - before)
    process.wait_ready()
    scene.usagebox.command("verify")


def test_records_removed_after_they_were_read_are_no_reason_to_stop(make_scene):
    scene = make_scene(partitions=1).migrate()
    process = scene.usagebox.start()
    records = scene.produce(*uses(10))
    scene.wait_consumed()
    scene.topics.delete_records(scene.topics.usage[0], {0: 10})
    records += scene.produce(*uses(10))
    scene.wait_consumed()
    process.kill9()
    scene.topics.delete_records(scene.topics.usage[0], {0: 20})
    process = scene.usagebox.start()
    process.wait_log("can't be verified")
    records += scene.produce(*uses(10))
    scene.wait_consumed()
    assert_counted_once(scene, records)


def test_a_log_that_begins_later_is_read_from_there_and_what_it_lacks_is_a_gap(scene):
    scene.produce(*uses(10))
    scene.topics.delete_records(scene.topics.usage[0], {0: 4})
    scene.usagebox.start()
    scene.wait_consumed()
    assert ledger(scene) == (6, 4)
    scene.usagebox.command("verify")


@pytest.mark.parametrize("count", [3, 10, 30])
def test_a_topic_made_anew_stops_a_running_lane(scene, count):
    """With fewer records than were read, as many, and more, which can be read on from there."""
    process = start_with(scene, ceiling("cap", 1000))
    scene.produce(*uses(9), use("cust-0", 1000))
    scene.wait_consumed()
    wait_active(scene, {("cust-0", "cap")})
    time.sleep(2)  # by now it knows its log
    process.sigstop()
    scene.topics.recreate(scene.topics.usage[0])
    scene._producer = None
    scene.produce(*uses(count))
    process.sigcont()
    if count > 10:
        wait_until(lambda: events(scene) == count, 20, "records to be read of the wrong log")
    wait_stopped(process, "offsets seek")
    assert events(scene) == max(10, count)
    assert active(scene) == {("cust-0", "cap")}
    offsets(scene, "seek", "--offset", "0")
    wait_until(lambda: events(scene) == 10 + count, 45, "the new topic's events")
    process.wait_ready()
    assert scene.value("SELECT sum(quantity) FROM usage_hourly") == 1009 + count
    assert scene.value("SELECT count(*) FROM policy_decision") == 1


def test_added_partitions_stop_intake_and_nothing_is_read_by_the_wrong_count(make_scene):
    scene = make_scene(partitions=2).migrate()
    process = scene.usagebox.start()
    records = scene.produce(*[use(f"c-{number}", 1) for number in range(20)])
    scene.wait_consumed()
    scene.topics.add_partitions(scene.topics.usage[0], 4)
    wait_stopped(process, "2 partitions", "4")
    scene._producer = None
    for number in range(20):
        scene.produce(use(f"c-{number}", 1), partition=number % 4)
    assert events(scene) == 20
    process.kill9()
    process = scene.usagebox.start(ready=False)
    wait_stopped(process, "2 partitions", "4")
    assert_counted_once(scene, records)
