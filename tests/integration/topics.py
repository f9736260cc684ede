"""Topics of a test's own: making them, producing to them, reading them as a gateway would."""
import json
import re
import time
import uuid
from typing import NamedTuple

from confluent_kafka import (Consumer, KafkaError, KafkaException, OFFSET_BEGINNING, Producer, TopicPartition)
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from oracle import Record, partition_of

QUIET = {"log_level": 0}  # that a broker is away is what some tests are about


class Topics:
    """One or more usage topics, the enforcement topic and the dead letter topic, under a prefix of their own."""

    def __init__(self, stack, partitions=3, usage_topics=1, usage_settings=None):
        self.stack = stack
        self.partitions = partitions
        prefix = f"t{uuid.uuid4().hex[:8]}"
        self.usage = [f"{prefix}.usage{i or ''}" for i in range(usage_topics)]
        self.enforcement = f"{prefix}.enforcement"
        self.dead_letter = f"{prefix}.dead"
        self.admin = AdminClient({"bootstrap.servers": stack.kafka, **QUIET})
        # larger than an event may be, so that too large ones get through to be refused
        settings = {"max.message.bytes": "4194304", **(usage_settings or {})}
        replicas = min(stack.brokers, 3)
        self.create(*[NewTopic(name, partitions, replicas, config=settings) for name in self.usage],
                    NewTopic(self.enforcement, partitions, replicas, config={"cleanup.policy": "compact"}),
                    NewTopic(self.dead_letter, partitions, replicas))

    def create(self, *new_topics):
        """The admin client's NewTopic objects. Returns once each partition has a leader."""
        for future in self.admin.create_topics(list(new_topics), operation_timeout=30).values():
            future.result()
        for new in new_topics:
            _wait_for_leaders(self.admin, new.topic, new.num_partitions)

    def delete(self, *names):
        for future in self.admin.delete_topics(list(names), operation_timeout=30).values():
            future.result()

    def recreate(self, name, partitions=None):
        """Deletes a topic and makes another one of that name."""
        self.delete(name)
        deadline = time.monotonic() + 120
        while True:
            try:
                return self.create(NewTopic(name, partitions or self.partitions, 1))
            except KafkaException as error:  # its deletion is still going on
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def add_partitions(self, name, total):
        for future in self.admin.create_partitions([NewPartitions(name, total)]).values():
            future.result()
        _wait_for_leaders(self.admin, name, total)

    def delete_records(self, name, before):
        """before: {partition: first offset to keep}."""
        request = {"version": 1, "partitions": [{"topic": name, "partition": partition, "offset": offset}
                                                for partition, offset in before.items()]}
        self.stack.kafka_tool("DeleteRecordsCommand", "--offset-json-file", "/dev/stdin",
                              stdin=json.dumps(request))

    def producer(self, **settings):
        return TopicProducer(self, settings)

    def read(self, name, isolation="read_committed"):
        """All records of a topic from its start to its end of now, partition by partition in order."""
        return _read_to_end(self.stack.kafka, name, isolation)

    def end_offsets(self, name):
        """{partition: high watermark}."""
        consumer = Consumer({"bootstrap.servers": self.stack.kafka, "group.id": "reader", **QUIET})
        try:
            partitions = consumer.list_topics(name, timeout=30).topics[name].partitions
            return {p: _high_watermark(consumer, TopicPartition(name, p)) for p in partitions}
        finally:
            consumer.close()

    def flags(self, messages=None):
        """What the enforcement topic says now, by a reader's rules: {(customer, ceiling, scope as JSON): value}. The
        highest sequence of each key counts, tombstones and cleared flags included (a tombstone's value is None)."""
        latest = {}
        for record in messages if messages is not None else self.read(self.enforcement):
            flag = Flag.of(record)
            if flag.key not in latest or flag.sequence > latest[flag.key].sequence:
                latest[flag.key] = flag
        return latest

    def drop(self):
        existing = self.admin.list_topics(timeout=30).topics
        ours = [t for t in existing if t.split(".")[0] == self.enforcement.split(".")[0]]
        if ours:
            self.delete(*ours)
        self.admin = None  # its thread ends with it


class Flag(NamedTuple):
    key: tuple  # (customer_id, ceiling, scope as canonical JSON)
    sequence: tuple  # (epoch, count)
    value: dict  # None: a tombstone
    record: Record

    @classmethod
    def of(cls, record):
        customer, ceiling, scope = json.loads(record.key)
        value = json.loads(record.value) if record.value is not None else None
        sequence = value["sequence"] if value else re.findall(rb"\d+", dict(record.headers)["sequence"])
        return cls((customer, ceiling, json.dumps(scope, sort_keys=True)), tuple(map(int, sequence)), value, record)


class TopicProducer:
    """Produces where a test says and remembers where each record came to lie. `kafka` is the client's producer, for
    transactions."""

    def __init__(self, topics, settings):
        self.topics = topics
        self.kafka = Producer({"bootstrap.servers": topics.stack.kafka, "linger.ms": 5, "message.max.bytes": 4000000,
                               "queue.buffering.max.messages": 1000000, **QUIET, **settings})
        self._sent = []
        self._errors = []

    def send(self, value, key=None, partition=None, topic=None, headers=(), timestamp_ms=None):
        """value: bytes as they are, None, or a dict that becomes JSON. key: bytes or text; by default the event's
        customer. partition: by default where a Java producer puts the key."""
        if isinstance(value, dict):
            key = key if key is not None else value.get("customer_id", value.get("account_id"))
            value = json.dumps(value, ensure_ascii=False).encode()
        key = key.encode() if isinstance(key, str) else key
        topic = topic or self.topics.usage[0]
        if partition is None:
            partition = partition_of(key, self.topics.partitions) if key is not None else 0
        index = len(self._sent)
        self._sent.append(None)
        more = {"timestamp": timestamp_ms} if timestamp_ms is not None else {}

        def delivered(error, message):
            if error:
                self._errors.append(error)
            else:
                self._sent[index] = Record(topic, partition, message.offset(), message.timestamp()[1], key, value,
                                           tuple(headers))

        self.kafka.produce(topic, value=value, key=key, partition=partition, headers=list(headers) or None,
                           on_delivery=delivered, **more)
        if index % 1000 == 0:
            self.kafka.poll(0)

    def flush(self, timeout_s=180):
        """Waits until all lie in the topic; returns them in the order sent since the last flush."""
        left = self.kafka.flush(timeout_s)
        assert not left and not self._errors, f"{left} records not delivered, errors {self._errors[:3]}"
        sent, self._sent = self._sent, []
        return sent


def _wait_for_leaders(admin, name, count):
    deadline = time.monotonic() + 120
    while True:
        topic = admin.list_topics(name, timeout=30).topics[name]
        if len(topic.partitions) == count and all(p.leader >= 0 and not p.error for p in topic.partitions.values()):
            return
        assert time.monotonic() < deadline, f"topic {name} has no leaders: {topic}"
        time.sleep(0.05)


def _high_watermark(consumer, partition):
    deadline = time.monotonic() + 120
    while True:
        try:
            return consumer.get_watermark_offsets(partition, timeout=30)[1]
        except KafkaException as error:  # its leader has moved
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _read_to_end(servers, name, isolation):
    """Assigned without a group; ended by the end-of-partition events, for transaction markers take up offsets."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "enable.auto.commit": False,
                         "enable.partition.eof": True, "isolation.level": isolation, "auto.offset.reset": "error", **QUIET})
    records = []
    try:
        open_partitions = set(consumer.list_topics(name, timeout=30).topics[name].partitions)
        consumer.assign([TopicPartition(name, p, OFFSET_BEGINNING) for p in open_partitions])
        deadline = time.monotonic() + 120
        while open_partitions:
            assert time.monotonic() < deadline, f"{name} could not be read to its end"
            for message in consumer.consume(10000, timeout=0.2):
                if not message.error():
                    records.append(Record(name, message.partition(), message.offset(), message.timestamp()[1],
                                          message.key(), message.value(), tuple(message.headers() or ())))
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition())
                else:
                    raise KafkaException(message.error())
    finally:
        consumer.close()
    return sorted(records, key=lambda r: (r.partition, r.offset))
