"""What happens once in a while: the first commit after a takeover, a backlog of a sealed day, two processes on one
backlog, and a takeover that restores millions of dedupe keys."""
import datetime
import os
import re
import time

from stack import wait_until

from throughput import DRAIN_LIMIT_S, PARTITIONS, Place, first_lane_s
from topics import Topics

SEALED_DAYS_AGO = 5
RESTORED_KEYS = 6000000
SEGMENT_KEYS = 10000  # about what a lane accepts in a second when six share 60,000 events/s
KEY_BYTES = 20


def measure(stack, directory, events):
    return {"takeover_to_first_commit_s": _with_place(stack, directory, {"batch": {"max_delay": "10ms"}}, _first_commit),
            "sealed_backlog_events_per_s": _with_place(stack, directory, {}, _drain_sealed, events // 5),
            **_with_place(stack, directory, {}, _restore_keys),
            "drained_by_one_events_per_s": _with_place(stack, directory, {}, _drain_by, 1, events),
            "drained_by_two_events_per_s": _with_place(stack, directory, {}, _drain_by, 2, events)}


def _with_place(stack, directory, changes, measure_one, *arguments):
    topics = Topics(stack, PARTITIONS)
    place = Place(stack, topics, directory, changes)
    try:
        return measure_one(place, *arguments)
    finally:
        place.close()
        topics.drop()


def noon(days_ago):
    today = datetime.datetime.now(datetime.timezone.utc).replace(hour=12, minute=0, second=0, microsecond=0)
    return today - datetime.timedelta(days=days_ago)


def produce(place, events, seed, day):
    place.usagebox.command("produce", "--generate", events, "--seed", seed, "--start", day.strftime("%Y-%m-%dT%H:%M:%SZ"),
                           "--span", "2h", timeout_s=DRAIN_LIMIT_S)


def await_consumed(place, events):
    with place.cursor() as cursor:
        def consumed():
            cursor.execute("SELECT sum(greatest(next_offset, 0)) FROM consumer_offset")
            return (cursor.fetchone()[0] or 0) >= events
        wait_until(consumed, DRAIN_LIMIT_S, f"{events} events in consumer_offset")


def _first_commit(place):
    """From the moment that a lane without a past runs until PostgreSQL has the offsets of what lay there."""
    produce(place, 100, 1, noon(1))
    process = place.usagebox.start(ready=False)
    await_consumed(place, 100)
    return time.time() - first_lane_s(process)


def _drain_sealed(place, events):
    """New events of a day that is sealed: each is put to the day's unique index."""
    day = noon(SEALED_DAYS_AGO)
    process = place.usagebox.start()
    produce(place, events, 1, day)
    await_consumed(place, events)
    _seal(place, day)
    assert process.terminate() == 0, process.log()
    produce(place, events, 2, day)
    process = place.usagebox.start(ready=False)
    await_consumed(place, 2 * events)
    return events / (time.time() - first_lane_s(process))


def _restore_keys(place):
    """From the start of the process until all lanes run: beside lanes that have next to no dedupe keys, with millions."""
    produce(place, 1000, 1, noon(1))
    process = place.usagebox.start(ready=False)
    await_consumed(place, 1000)
    assert process.terminate() == 0, process.log()
    empty_s = _all_lanes_s(place)
    _fill_segments(place, RESTORED_KEYS)
    full_s = _all_lanes_s(place)
    return {"takeover_without_keys_s": empty_s, f"takeover_with_{RESTORED_KEYS}_keys_s": full_s,
            "takeover_restores_keys_per_s": RESTORED_KEYS / (full_s - empty_s)}


def _all_lanes_s(place):
    process = place.usagebox.start(ready=False)
    wait_until(lambda: process.log().count("lane runs") == PARTITIONS, DRAIN_LIMIT_S, "all lanes to run")
    log = process.log()
    assert process.terminate() == 0, log
    times = re.findall(r'time=(\S+)Z level=info msg="(?:usagebox|lane) runs', log)
    first, *_, last = sorted(map(datetime.datetime.fromisoformat, times))
    return (last - first).total_seconds()


def _fill_segments(place, keys):
    """As batches of an open day leave them, but for what the keys are of."""
    with place.cursor() as cursor:
        cursor.execute("SELECT max(batch_id) FROM batch_ledger")
        batch_id, = cursor.fetchone()
        for number in range(keys // SEGMENT_KEYS):
            cursor.execute(f"INSERT INTO dedupe_segment_{noon(1):%Y%m%d} (lane, batch_id, keys) VALUES (%s, %s, %s)",
                           (number % PARTITIONS, batch_id, os.urandom(SEGMENT_KEYS * KEY_BYTES)))
        cursor.execute("CHECKPOINT")


def _drain_by(place, count, events):
    """So many processes started at once, one after the other joining the group: all of that is in the time."""
    produce(place, events, 1, noon(1))
    processes = [place.usagebox.start(ready=False) for _ in range(count)]
    await_consumed(place, events)
    ended_s = time.time()
    return events / (ended_s - min(first_lane_s(process) for process in processes if "lane runs" in process.log()))


def _seal(place, day):
    with place.cursor() as cursor:
        def read():
            cursor.execute("SELECT complete_through > now() - interval '1 day' FROM usage_watermark")
            return cursor.fetchone()[0]
        wait_until(read, 60, "all lanes to be read")
        place.usagebox.command("seal", "--now", "--day", day.date().isoformat())

        def adopted():
            cursor.execute("SELECT count(*) FROM sealed_day_adoption")
            return cursor.fetchone()[0] == PARTITIONS
        wait_until(adopted, 60, "the seal's adoption")
