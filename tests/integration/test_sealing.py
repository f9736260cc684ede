"""Events of a day whose identities PostgreSQL proves: again in any shape, late, and counted against ceilings. How days
come to be sealed: test_ops_running.py."""
import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from counting import assert_counted_once
from enforcing import apply, assert_enforced, ceiling, in_force_for, take_back, use, wait_adopted
from stack import wait_until

LANES = 3
OLD = datetime.now(timezone.utc).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=3)


def old_ms(seconds=0):
    return int(OLD.timestamp() * 1000) + 1000 * seconds


def old_use(customer, quantity, **more):
    run = {"metadata": {"run_id": f"run-{customer}", "agent_id": "a"}}
    return use(customer, quantity, **{"timestamp": old_ms(), **run, **more})


def seal(scene):
    """Lanes that have nothing more to read say so within a second; then all adopt the seal."""
    wait_until(lambda: scene.value("SELECT complete_through > now() - interval '1 day' FROM usage_watermark"), 30,
               "all lanes to be read")
    scene.usagebox.command("seal", "--now", "--day", OLD.date().isoformat())
    wait_until(lambda: scene.value("SELECT count(*) FROM sealed_day_adoption") == LANES, 30, "the seal's adoption")


def assert_right(scene, records):
    wait_until(lambda: scene.value("SELECT count(*) FROM ceiling_pending") == 0, 30, "ceilings to have counted what is late")
    return assert_counted_once(scene, records)


@pytest.fixture
def scene(make_scene):
    return make_scene(partitions=LANES).migrate()


def customers(count):
    return [f"cust-{number % 20}" for number in range(count)]


def test_a_backlog_of_repeats_days_later_counts_each_event_once(scene):
    """Some of it of the sealed day, some not; repeats of what is stored, and of what is in the same batch."""
    process = scene.usagebox.start()
    first = [old_use(customer, 1) for customer in customers(200)]
    records = scene.produce(*first)
    scene.wait_consumed()
    seal(scene)
    process.kill9()
    late = [old_use(customer, 2) for customer in customers(100)]
    new = [use(customer, 3) for customer in customers(100)]
    told_otherwise = [{**event, "quantity": 7} for event in (first + late)[::10]]
    backlog = first + 2 * late + 2 * new + told_otherwise
    random.Random(5).shuffle(backlog)
    records += scene.produce(*backlog)
    process = scene.usagebox.start()
    scene.wait_consumed()
    outcome = assert_right(scene, records)
    assert outcome.counts["accepted"] == 400
    process.kill9()
    scene.usagebox.start()
    records += scene.produce(*backlog)
    scene.wait_consumed()
    assert assert_right(scene, records).counts["accepted"] == 400


def test_a_day_is_sealed_while_its_events_and_their_repeats_keep_coming(scene):
    scene.usagebox.start()
    records = scene.produce(*[old_use(customer, 1) for customer in customers(200)])
    scene.wait_consumed()
    with ThreadPoolExecutor() as threads:
        sealing = threads.submit(seal, scene)
        sent = []
        while not sealing.done() or len(sent) < 600:
            new = [old_use(customer, 2) for customer in customers(30)]
            sent += new
            records += scene.produce(*new, *random.Random(len(sent)).sample(sent, 20))
            time.sleep(0.05)
        sealing.result()
    scene.wait_consumed()
    assert assert_right(scene, records).counts["accepted"] == 200 + len(sent)


def test_the_same_event_of_a_sealed_day_in_other_words_is_a_duplicate(scene):
    scene.usagebox.start()
    event = old_use("a", 12.5)
    records = scene.produce(event)
    scene.wait_consumed()
    seal(scene)
    records += scene.produce({**event, "quantity": "12.500"}, {**event, "timestamp": OLD.isoformat()},
                             {**event, "metadata": {**event["metadata"], "trace": "new"}}, {**event, "quantity": 1.25e1})
    records += scene.produce({**event, "model": "another"}, {**event, "timestamp": old_ms(1)})
    scene.wait_consumed()
    assert assert_right(scene, records).counts == {"accepted": 1, "duplicate": 4, "conflict": 2}


def test_late_events_of_a_sealed_day_count_against_ceilings(scene):
    rules = [ceiling("month", 100, period="month", clear_level=90), ceiling("hour", 50, period="hour", policy="alert")]
    apply(scene, *rules)
    in_force_for(scene, "40 days")
    scene.usagebox.start()
    wait_adopted(scene)
    records = []
    for values in ([old_use("a", 40), old_use("b", 100)], [old_use("a", 11), old_use("b", 1), old_use("c", 101)],
                   [take_back("b", 20, timestamp=old_ms()), old_use("a", 50)]):
        records += scene.produce(*values)
        scene.wait_consumed()
        if not scene.query("SELECT * FROM sealed_day"):
            seal(scene)
    assert_enforced(scene, rules, assert_right(scene, records))
    assert scene.value("SELECT count(*) FROM policy_decision WHERE customer_id = 'a'") >= 2


def test_kill_9_while_late_events_wait_for_their_ceilings_counts_them_once(make_scene):
    scene = make_scene(partitions=LANES, config={
        "batch": {"max_delay": "20ms"},
        "kafka": {"properties": {"session.timeout.ms": 1000, "heartbeat.interval.ms": 200}}}).migrate()
    apply(scene, ceiling("month", 1000, period="month"), ceiling("day", 400))
    in_force_for(scene, "40 days")
    process = scene.usagebox.start()
    wait_adopted(scene)
    records = scene.produce(*[old_use(customer, 1) for customer in customers(100)])
    scene.wait_consumed()
    seal(scene)
    dice = random.Random(6)
    for _ in range(5):
        for _ in range(6):
            values = [old_use(customer, dice.randrange(1, 9)) for customer in customers(60)]
            records += scene.produce(*values, *values[:10], *[use(customer, 2) for customer in customers(20)])
            time.sleep(0.02)
        time.sleep(0.1 * dice.random())
        process.kill9()
        process = scene.usagebox.start(ready=False)
        process.wait_log("lane runs")
    scene.wait_consumed()
    assert_right(scene, records)
    month = "date_trunc('month', %s, 'UTC')"
    used = dict(scene.query(f"SELECT customer_id, used FROM ceiling_usage WHERE period = 'month' AND period_start = {month}", OLD))
    assert used == dict(scene.query("SELECT customer_id, sum(quantity) FROM usage_hourly "
                                    f"WHERE date_trunc('month', hour, 'UTC') = {month} GROUP BY 1", OLD))
