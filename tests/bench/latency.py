"""How long events take under a steady load: until their flag lies in the enforcement topic, until finance sees them."""
import bisect
import re
import threading
import time

from confluent_kafka import Producer
from confluent_kafka.admin import ConfigResource

from figures import quantile
from throughput import PARTITIONS, Place
from topics import Flag, Topics

RATE_PER_S = 5000
WARM_UP_S = 10  # what is produced before counts for nothing: a JVM that has just started is slow
PARTS = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "most": 1.0}
POLL_S = 0.01
VISIBLE_LIMIT_S = 60


def ceilings():
    """For everyone, crossed over and over as use grows: a few thousand flags in twenty seconds."""
    return [{"name": f"{meter}-{limit}", "customer": '*', "meter": meter, "period": "month", "limit": limit,
             "policy": "hard-stop"}
            for meter, first in (("llm_tokens_in", 40000), ("tool_calls", 2)) for limit in (first * 4**n for n in range(6))]


class Offsets:
    """Watches what is committed: rollups become visible in the same transaction as the offsets do."""

    def __init__(self, place):
        self._place, self._stop = place, threading.Event()
        self._seen = {partition: ([], []) for partition in range(PARTITIONS)}  # next offsets, since when in ms
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self):
        with self._place.cursor() as cursor:
            while not self._stop.wait(POLL_S):
                cursor.execute("SELECT kafka_partition, next_offset FROM consumer_offset")
                rows, now_ms = cursor.fetchall(), time.time() * 1000
                for partition, next_offset in rows:
                    offsets, since_ms = self._seen[partition]
                    if not offsets or next_offset > offsets[-1]:
                        offsets.append(next_offset)
                        since_ms.append(now_ms)

    def stop(self):
        self._stop.set()
        self._thread.join()

    def visible_ms(self, record):
        """When the record's offset was first seen to be committed; None: never."""
        offsets, since_ms = self._seen[record.partition]
        at = bisect.bisect_right(offsets, record.offset)
        return since_ms[at] if at < len(since_ms) else None


class Floor:
    """What Kafka alone takes on this machine meanwhile: how long a lone producer waits for each acknowledgement. A flag
    takes one such wait for its event, a fetch, and another one for itself."""

    EVERY_S = 0.02

    def __init__(self, topics):
        self._topic, self._stop, self._waited = topics.dead_letter, threading.Event(), []
        self._producer = Producer({"bootstrap.servers": topics.stack.kafka, "linger.ms": 0, "acks": "all", "log_level": 0})
        self._thread = threading.Thread(target=self._ping)
        self._thread.start()

    def _ping(self):
        while not self._stop.wait(self.EVERY_S):
            started_s = time.monotonic()
            self._producer.produce(self._topic, b"ping", partition=0)
            self._producer.flush()
            self._waited.append((time.time(), (time.monotonic() - started_s) * 1000))

    def stop(self):
        self._stop.set()
        self._thread.join()

    def waited_ms(self, since_ms):
        return sorted(waited for at_s, waited in self._waited if at_s * 1000 >= since_ms)


def measure(stack, directory, seconds):
    topics = Topics(stack, PARTITIONS)
    place = Place(stack, topics, directory, {"ceilings": ceilings()})
    try:
        _stamp_on_append(topics)
        place.usagebox.command("ceilings", "apply")
        return _measure(place, topics, seconds)
    finally:
        place.close()
        topics.drop()


def _stamp_on_append(topics):
    """Flags get the broker's time when they are in the log, events keep their producer's: the difference is free of
    any reader's delay."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, topics.enforcement,
                              set_config={"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"})
    for future in topics.admin.alter_configs([resource]).values():
        future.result()


def _measure(place, topics, seconds):
    process = place.usagebox.start()
    offsets, floor = Offsets(place), Floor(topics)
    try:
        place.usagebox.command("produce", "--rate", RATE_PER_S, "--duration", f"{WARM_UP_S + seconds}s", "--seed", 2,
                               timeout_s=seconds * 4 + 120)
        records = topics.read(topics.usage[0])
        _await_visible(place, len(records))
    finally:
        time.sleep(5 * POLL_S)
        offsets.stop()
        floor.stop()
    metrics = process.metrics()
    assert process.terminate() == 0, process.log()
    warm_ms = min(record.timestamp_ms for record in records) + WARM_UP_S * 1000
    warm = [record for record in records if record.timestamp_ms >= warm_ms]
    return {"events": len(warm), "events_per_s": RATE_PER_S, **_flag_latency(topics, warm),
            "kafka_alone_ms": quantiles(floor.waited_ms(warm_ms)),
            "decided_to_acknowledged_ms": histogram_ms(metrics, "usagebox_flag_decided_seconds"),
            "visible_ms": quantiles(sorted(offsets.visible_ms(r) - r.timestamp_ms for r in warm))}


def _await_visible(place, count):
    deadline = time.monotonic() + VISIBLE_LIMIT_S
    while place.database.value("SELECT coalesce(sum(events), 0) FROM usage_hourly") < count:
        assert time.monotonic() < deadline, f"{count} events are not in usage_hourly after {VISIBLE_LIMIT_S} s"
        time.sleep(POLL_S)


def _flag_latency(topics, records):
    produced_ms = {(r.partition, r.offset): r.timestamp_ms for r in records}
    flags = [Flag.of(r) for r in topics.read(topics.enforcement) if r.value is not None]
    causes = [(flag, (flag.value["event"]["partition"], flag.value["event"]["offset"])) for flag in flags]
    waited = sorted(flag.record.timestamp_ms - produced_ms[cause] for flag, cause in causes if cause in produced_ms)
    assert waited, "no ceiling was crossed"
    return {"flags": len(waited), "flag_ms": quantiles(waited)}


def quantiles(ordered):
    return {name: quantile(ordered, part) for name, part in PARTS.items()}


def histogram_ms(metrics, name):
    """Upper bounds of the buckets that the quantiles lie in, warm-up and all."""
    buckets = sorted((float(le), count) for key, count in metrics.items()
                     for le in re.findall(rf'^{name}_bucket{{le="(.*)"}}$', key))
    (highest, _), (_, total) = buckets[-2:]  # the last one is +Inf, which JSON does not know
    return {name: min(highest, next(le for le, count in buckets if count >= part * total)) * 1000
            for name, part in PARTS.items()}
