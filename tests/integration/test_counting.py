"""Counted once: whatever is killed, whenever, the totals are those of an oracle that never saw the program."""
import json
import random
import time

import pytest

from counting import assert_counted_once
from workload import Workload, send


def produce(scene, workload, count):
    producer = scene.topics.producer()
    send(producer, workload, count)
    return producer.flush()


def test_two_hundred_thousand_events_equal_the_oracle(make_scene):
    scene = make_scene(partitions=4).migrate()
    records = produce(scene, Workload(seed=1), 200_000)
    scene.usagebox.start()
    scene.wait_consumed(timeout_s=120)
    assert_counted_once(scene, records)


def test_kill_9_at_random_moments_changes_no_total(make_scene):
    scene = make_scene(partitions=3, config={"batch": {"max_delay": "50ms"}}).migrate()
    dice = random.Random(42)
    workload, records = Workload(seed=2), []
    for _ in range(12):
        process = scene.usagebox.start(ready=False)
        records += produce(scene, workload, 5_000)
        time.sleep(dice.random() * 1.5)
        process.kill9()
    scene.usagebox.start()
    scene.wait_consumed(timeout_s=120)
    assert_counted_once(scene, records)


def test_sigterm_commits_what_was_decided_and_leaves(make_scene):
    scene = make_scene(partitions=2, config={"batch": {"max_delay": "60s"}}).migrate()
    process = scene.usagebox.start()
    records = produce(scene, Workload(seed=3), 1_000)
    time.sleep(2)
    assert process.terminate() == 0
    scene.usagebox.start()
    scene.wait_consumed()
    assert_counted_once(scene, records)


EVENT = {"event_id": "e-1", "customer_id": "acme", "meter": "llm_tokens_in", "quantity": 12.5}


def test_the_same_event_counts_once_however_it_comes_again(scene):
    scene.migrate()
    now_ms = int(time.time() * 1000)
    first = {**EVENT, "timestamp": now_ms}
    process = scene.usagebox.start()
    records = scene.produce(first)
    scene.wait_consumed()
    again = [first, {**first, "quantity": "12.500"}, {**first, "quantity": 1.25e1}, {**first, "metadata": {"trace": "new"}},
             {**first, "timestamp": now_ms - 1000}, {**first, "quantity": 13}]
    records += scene.produce(*again)
    scene.wait_consumed()
    process.kill9()
    scene.usagebox.start()
    records += scene.produce(first)
    wrong = scene.topics.producer()
    wrong.send(json.dumps(first).encode(), key="acme", partition=(records[0].partition + 1) % 3)
    records += wrong.flush()
    scene.wait_consumed()
    outcome = assert_counted_once(scene, records)
    assert outcome.counts == {"accepted": 1, "duplicate": 5, "conflict": 2, "dead": 1}
    assert scene.query("SELECT reason FROM dead_letter") == [("wrong_partition",)]


@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_an_id_in_a_header_counts_and_must_be_the_values_own(scene, compression):
    """Each beside others without headers, in one batch of the producer's."""
    scene.migrate()
    alone, own, other = {"quantity": 1}, {"event_id": "own", "quantity": 2}, {"event_id": "other", "quantity": 4}
    plain = [{"event_id": f"plain-{n}", "quantity": 100} for n in range(5)]
    producer = scene.topics.producer(**{"compression.type": compression, "linger.ms": 100})
    for fields, headers in ((plain[0], ()), (alone, [("event_id", b"alone")]), (plain[1], ()), (own, [("event_id", b"own")]),
                            (plain[2], ()), (other, [("event_id", b"another")]), (plain[3], ()),
                            ({**own, "quantity": 8, "event_id": "traced"}, [("trace", b"x"), ("none", None)]), (plain[4], ()),
                            ({**other, "event_id": "last"}, [("trace", b"x" * 100), ("event_id", b"another")])):
        producer.send({"customer_id": "acme-co", "meter": "tokens", "timestamp": int(time.time() * 1000), **fields},
                      headers=headers)
    records = producer.flush()
    scene.usagebox.start()
    scene.wait_consumed()
    counted = {row.event_id: row.quantity for row in scene.query("SELECT event_id, quantity FROM usage_event")}
    assert counted == {"alone": 1, "own": 2, "traced": 8, **{event["event_id"]: 100 for event in plain}}
    dead = scene.query("SELECT reason, headers FROM dead_letter ORDER BY kafka_offset")
    assert [(row.reason, [name for name, _ in json.loads(row.headers)]) for row in dead] == \
        [("conflicting_field", ["event_id"]), ("conflicting_field", ["trace", "event_id"])]
    assert_counted_once(scene, records)


def test_at_its_memory_limit_intake_goes_slow_and_finds_repeats_all_the_same(make_scene):
    scene = make_scene(config={"dedupe": {"memory_limit": "1MiB"}}).migrate()
    events = [{"event_id": f"e{i}", "customer_id": f"c{i % 50}", "meter": "m", "quantity": 1} for i in range(60_000)]
    records = scene.produce(*events, *events[:500])
    process = scene.usagebox.start()
    process.wait_log("dedupe.memory_limit is reached")
    began, before = time.monotonic(), process.metrics()["usagebox_dedupe_entries"]
    time.sleep(1)
    taken = process.metrics()["usagebox_dedupe_entries"] - before
    assert 0 < taken < 20_000 * (time.monotonic() - began)  # a thousand records, ten times a second
    scene.wait_consumed()
    assert_counted_once(scene, records)


def test_corrections_are_signed_and_land_in_the_hour_of_the_original(scene):
    scene.migrate()
    then_ms = int(time.time() * 1000) - 5 * 3600 * 1000
    original = {**EVENT, "timestamp": then_ms}
    correction = {**original, "event_id": "e-2", "kind": "correction", "corrects": "e-1", "reason": "miscounted", "quantity": -2.5}
    retraction = {**original, "event_id": "e-3", "kind": "retraction", "corrects": "e-1", "reason": "test traffic", "quantity": -10}
    scene.usagebox.start()
    records = scene.produce(original, correction, retraction)
    scene.wait_consumed()
    assert_counted_once(scene, records)
    assert scene.query("SELECT events, quantity, adjustment FROM usage_hourly") == [(3, 0, -12.5)]


def test_dimensions_are_kept_in_the_rollup(make_scene):
    scene = make_scene(config={"rollup": {"dimensions": ["agent_id", "operation"]}}).migrate()
    scene.usagebox.start()
    records = produce(scene, Workload(seed=4), 2_000)
    scene.wait_consumed()
    assert_counted_once(scene, records, dimensions=("agent_id", "operation"))


def test_aborted_transactions_leave_holes_and_no_events(make_scene):
    scene = make_scene(partitions=1).migrate()
    scene.usagebox.start()
    producer = scene.topics.producer(**{"transactional.id": "t-1"})
    producer.kafka.init_transactions()
    kept = []
    for number in range(6):
        producer.kafka.begin_transaction()
        producer.send({**EVENT, "event_id": f"e-{number}", "timestamp": int(time.time() * 1000)})
        sent = producer.flush()
        if number % 2:
            producer.kafka.abort_transaction()
        else:
            producer.kafka.commit_transaction()
            kept += sent
    scene.wait_consumed()
    assert_counted_once(scene, kept)
    assert scene.value("SELECT sum(hole) FROM batch_ledger") == 3 + 6  # aborted records and markers


def test_two_topics_share_their_lanes(make_scene):
    scene = make_scene(partitions=2, usage_topics=2).migrate()
    scene.usagebox.start()
    records = []
    for number, topic in enumerate(scene.topics.usage):
        producer = scene.topics.producer()
        for value, where in Workload(seed=10 + number).records(3_000):
            key = value["customer_id"] if isinstance(value, dict) else where["key"]
            producer.send(value if isinstance(value, bytes) else json.dumps(value).encode(), key=key, topic=topic)
        records += producer.flush()
    scene.wait_consumed()
    assert_counted_once(scene, records)


@pytest.mark.parametrize("partitioner", ["murmur2", "auto"])
def test_the_partitioner_is_learned_or_given(make_scene, partitioner):
    scene = make_scene(partitions=4, config={"kafka": {"partitioner": partitioner}}).migrate()
    records = produce(scene, Workload(seed=5), 3_000)
    scene.usagebox.start()
    scene.wait_consumed()
    assert_counted_once(scene, records)
