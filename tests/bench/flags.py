"""How long flags take while a backlog is drained at full speed: a flood of them and a few, beside a lone producer."""
import re
import time

from confluent_kafka.admin import NewTopic

from latency import Floor, ceilings, quantiles
from moments import await_consumed, noon, produce
from throughput import PARTITIONS, Place, first_lane_s
from stack import wait_until
from topics import Topics

TOUCHED_RECORDS, TOUCHED_BYTES = 40, 1000  # for each partition


def few_ceilings(events):
    """Crossed by those who use most, all along the drain: some 320 flags."""
    return [{"name": f"{meter}-{level}", "customer": '*', "meter": meter, "period": "month",
             "limit": int(events * per_event * 1.5**level), "policy": "hard-stop"}
            for meter, per_event in (("llm_tokens_in", 12), ("llm_tokens_out", 1.4)) for level in range(8)]


def measure(stack, directory, events, rounds):
    """{"flood": figures, "few": figures} of so many drains each, after one that counts for nothing: a JVM that has just
    started is slow."""
    drains = Drains(stack, directory, events)
    try:
        drains.run("flood")
        found = {"flood": [], "few": []}
        for number in range(rounds):
            for name in ("few", "flood") if number % 2 else ("flood", "few"):
                found[name].append(drains.run(name))
        return {name: _together(figures) for name, figures in found.items()}
    finally:
        drains.topics.drop()


class Drains:
    """One backlog, drained over and over: each time into a database and an enforcement topic of its own."""

    def __init__(self, stack, directory, events):
        self.directory, self.events = directory, events
        self.topics = Topics(stack, PARTITIONS)
        self._ceilings = {"flood": ceilings(), "few": few_ceilings(events)}
        self._count = 0

    def run(self, name):
        """(seconds, ms that each flag took, ms that each message of a lone producer took)"""
        self._count += 1
        self.topics.enforcement = f"{self.topics.enforcement.split('.')[0]}.enforcement{self._count}"
        self.topics.create(NewTopic(self.topics.enforcement, PARTITIONS, 1, config={"cleanup.policy": "compact"}))
        _touch(self.topics)
        place = Place(self.topics.stack, self.topics, self.directory,
                      {"ceilings": self._ceilings[name], "log": {"level": "debug"}})
        try:
            if self._count == 1:
                produce(place, self.events, 1, noon(1))
            place.usagebox.command("ceilings", "apply")
            return self._drain(place)
        finally:
            place.close()

    def _drain(self, place):
        floor = Floor(self.topics)
        try:
            wait_until(lambda: floor.waited_ms(0), 60, "the lone producer's first message, which takes a second")
            process = place.usagebox.start(ready=False)
            await_consumed(place, self.events)
            ended_s = time.time()
        finally:
            floor.stop()
        assert process.terminate() == 0, process.log()
        started_s = first_lane_s(process)
        flags = [float(ms) for ms in re.findall(r'msg="flag acknowledged" since_decided_ms=([\d.]+)', process.log())]
        return ended_s - started_s, flags, floor.waited_ms(started_s * 1000)


def _touch(topics):
    """Kafka makes a partition's files with the first messages that lie in it, and takes up to 20 ms for each partition:
    a topic that is in use has them."""
    sender = topics.producer()
    for number in range(PARTITIONS * TOUCHED_RECORDS):
        key = f'["{"nobody" * (TOUCHED_BYTES // 6)}","none",{{}}]'
        sender.send(None, key=key, partition=number % PARTITIONS, topic=topics.enforcement, headers=[("sequence", b"[0,1]")])
    sender.flush()


def _together(drains):
    seconds, flags, alone = zip(*drains)
    waited, floor = sorted(sum(flags, [])), sorted(sum(alone, []))
    return {"drains": len(drains), "flags": len(waited), "flags_per_s": len(waited) / sum(seconds),
            "decided_to_acknowledged_ms": quantiles(waited), "kafka_alone_ms": quantiles(floor)}
