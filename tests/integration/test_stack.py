"""The ground that all other integration tests stand on."""
import json

import pytest
from oracle import partition_of
from psycopg2 import OperationalError


def event(number, **more):
    return {"event_id": f"e{number}", "customer_id": "acme-co", "meter": "llm_tokens_in", "quantity": 1, **more}


def test_a_record_is_read_back_as_it_was_produced(scene):
    headers = (("event_id", b"e1"), ("none", None))
    [sent] = scene.produce(b"\x00not json", key=b"k\xff", partition=2, headers=headers, timestamp_ms=1700000000123)
    assert scene.topics.read(scene.topics.usage[0]) == [sent]
    assert (sent.partition, sent.offset, sent.timestamp_ms) == (2, 0, 1700000000123)


def test_an_event_goes_where_a_java_producer_would_put_it(scene):
    [sent] = scene.produce(event(1))
    assert sent.key == b"acme-co"
    assert sent.partition == partition_of(b"acme-co", 3)


@pytest.mark.parametrize("kill", [False, True])
def test_kafka_keeps_records_over_a_restart(scene, kill):
    before = scene.produce(event(1))
    scene.stack.kafka_stop(kill=kill)
    scene.stack.kafka_start()
    after = scene.produce(event(2))
    assert scene.topics.read(scene.topics.usage[0]) == before + after


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_keeps_commits_over_a_restart(scene, mode):
    scene.query("CREATE TABLE kept (n numeric, raw json)")
    scene.query("INSERT INTO kept VALUES (0.1, '{\"a\": 1.0}')")
    scene.stack.pg_stop(mode)
    with pytest.raises(OperationalError):
        scene.query("SELECT 1")
    scene.stack.pg_start()
    assert [(str(n), raw) for n, raw in scene.query("SELECT * FROM kept")] == [("0.1", '{"a": 1.0}')]


def test_a_wrong_password_is_refused(scene):
    scene.database.dsn = scene.database.dsn_as(password="wrong")
    with pytest.raises(OperationalError, match="password authentication failed"):
        scene.query("SELECT 1")


def test_an_aborted_transaction_leaves_a_hole_in_the_topic(scene):
    producer = scene.topics.producer(**{"transactional.id": scene.topics.enforcement})
    producer.kafka.init_transactions(60)
    for end in (producer.kafka.abort_transaction, producer.kafka.commit_transaction):
        producer.kafka.begin_transaction()
        producer.send(event(1), partition=0)
        producer.flush()
        end(60)
    [read] = scene.topics.read(scene.topics.usage[0])
    assert read.offset == 2  # behind the aborted record and its marker
    assert scene.topics.end_offsets(scene.topics.usage[0])[0] == 4


def test_records_can_be_deleted_a_topic_recreated_and_partitions_added(scene):
    [usage] = scene.topics.usage
    scene.produce(event(1), event(2), event(3), partition=0)
    scene.topics.delete_records(usage, {0: 2})
    assert [r.offset for r in scene.topics.read(usage)] == [2]
    scene.topics.recreate(usage)
    assert scene.topics.read(usage) == []
    scene.topics.add_partitions(usage, 5)
    assert set(scene.topics.end_offsets(usage)) == set(range(5))


def test_a_reader_of_flags_keeps_the_highest_sequence_of_each_key(scene):
    producer = scene.topics.producer()
    key = json.dumps(["acme-co", "monthly", {}])
    for sequence in ([2, 1], [1, 9], [2, 2], [2, 1]):
        value = json.dumps({"type": "flag", "sequence": sequence}).encode()
        producer.send(value, key=key, topic=scene.topics.enforcement, partition=0)
    producer.flush()
    assert {k: flag.sequence for k, flag in scene.topics.flags().items()} == {("acme-co", "monthly", "{}"): (2, 2)}


def test_the_configuration_file_is_plain_yaml(make_scene):
    ceiling = {"name": "pro", "customer": "*", "limit": 1000000}
    text = make_scene(config={"ceilings": [ceiling], "kafka": {"properties": {"session.timeout.ms": 6000}}}
                      ).config_path.read_text()
    assert 'ceilings: [{name: pro, customer: "*", limit: 1000000}]\n' in text
    assert "  properties:\n    session.timeout.ms: 6000\n" in text
