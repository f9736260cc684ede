"""Which ceilings must be crossed and cleared, worked out again from what the oracle accepted, and what PostgreSQL and
the enforcement topic are held against."""
import json
import re
import time
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import NamedTuple

import jsonschema

from stack import ROOT, wait_until
from topics import Flag


def schema(name):
    return jsonschema.Draft202012Validator(json.loads((ROOT / "schema" / name).read_text()),
                                           format_checker=jsonschema.FormatChecker())


FLAG_SCHEMA = schema("enforcement-flag.schema.json")
numbers = iter(range(1, 1 << 30))


def use(customer, quantity, **more):
    return {"event_id": f"e{next(numbers)}", "customer_id": customer, "meter": "tool_calls", "quantity": quantity,
            "timestamp": int(time.time() * 1000), **more}


def take_back(customer, quantity, **more):
    return use(customer, f"-{quantity}", kind="correction", corrects="e0", reason="miscounted", **more)


def ceiling(name, limit, customer="*", meter="tool_calls", period="day", policy="hard-stop", **more):
    """As config.yaml has it. plan=…: instead of a customer."""
    who = {} if "plan" in more else {"customer": customer}
    return {"name": name, **who, "meter": meter, "period": period, "limit": limit, "policy": policy, **more}


def apply(scene, *ceilings, lanes=None):
    """Brings these, and no others, into force; with a process running, waits until it has adopted them."""
    scene.configure({"ceilings": list(ceilings)})
    scene.usagebox.command("ceilings", "apply")
    if any(process.is_alive() for process in scene.usagebox.processes):
        wait_adopted(scene, lanes)


def wait_adopted(scene, lanes=None):
    wait_until(lambda: scene.value(
        "SELECT count(*) FROM ceiling_adoption WHERE generation::text = (SELECT value FROM setting WHERE name = "
        "'ceilings_generation')") == (lanes or scene.topics.partitions), 30, "the adoption of the ceilings")


def start_with(scene, *ceilings, **how):
    """A process that has adopted these ceilings, and no others."""
    apply(scene, *ceilings)
    process = scene.usagebox.start(**how)
    wait_adopted(scene)
    return process


def in_force_for(scene, interval):
    """As if what is in force had been applied so long ago: periods that ended before are not judged."""
    scene.query("UPDATE ceiling SET created_at = now() - %s::interval", interval)


class Transition(NamedTuple):
    customer: str
    ceiling: str
    period_start: datetime
    number: int  # odd: crossed, even: cleared
    used: Decimal
    place: tuple  # of the event: (topic, partition, offset)


def period_of(name, time):
    """(start, end)"""
    start = time.replace(minute=0, second=0, microsecond=0)
    if name == "hour":
        return start, start + timedelta(hours=1)
    start = start.replace(hour=0)
    if name == "day":
        return start, start + timedelta(days=1)
    start = start.replace(day=1)
    return start, (start + timedelta(days=32)).replace(day=1)


def concerns(rule, event):
    if rule["meter"] != event.meter:
        return False
    return event.plan == rule["plan"] if "plan" in rule else rule["customer"] in ("*", event.customer_id)


def transitions(ceilings, outcome):
    """What events alone cause, in each lane's order, with the same ceilings in force all the time. Of events of one
    usage topic."""
    used, number, found = defaultdict(Decimal), defaultdict(int), []
    for place, event in outcome.events.items():
        for meter, period in {(rule["meter"], rule["period"]) for rule in ceilings if rule["meter"] == event.meter}:
            used[event.customer_id, meter, period, period_of(period, event.time)[0]] += event.quantity
        for rule in filter(lambda rule: concerns(rule, event), ceilings):
            start = period_of(rule["period"], event.time)[0]
            key = (event.customer_id, rule["name"], start)
            total = used[event.customer_id, event.meter, rule["period"], start]
            active = number[key] % 2 == 1
            if total <= rule.get("clear_level", rule["limit"]) if active else total > rule["limit"]:
                number[key] += 1
                found.append(Transition(*key, number[key], total, place))
    return found


def assert_enforced(scene, ceilings, outcome):
    """Each transition decided once and explained, each flag of a decision, the last flag of each key right."""
    expected = transitions(ceilings, outcome)
    rows = scene.query("SELECT * FROM policy_decision WHERE source = 'event'")
    decided = {Transition(r.customer_id, r.ceiling, r.period_start, r.transition, r.used,
                          (r.topic, r.kafka_partition, r.kafka_offset)): r for r in rows}
    assert set(decided) == set(expected), (set(decided) - set(expected), set(expected) - set(decided))
    assert len(rows) == len(expected)
    flags = read_flags(scene)
    assert_all_decided(scene, flags)
    assert_reader_sees(scene, ceilings, expected)
    return expected


def read_flags(scene):
    """Every message of the topic, held against its schema, in each partition's order."""
    flags = [Flag.of(record) for record in scene.topics.read(scene.topics.enforcement)]
    for flag in filter(lambda flag: flag.value is not None, flags):
        FLAG_SCHEMA.validate(flag.value)
        assert tuple(flag.value["sequence"]) == sequence_header(flag)
        assert flag.key[0] == flag.value["customer_id"] and flag.key[1] == flag.value["ceiling"]
    return flags


def sequence_header(flag):
    return tuple(map(int, re.findall(rb"\d+", dict(flag.record.headers)["sequence"])))


def assert_all_decided(scene, flags, ceilings=None):
    """No flag without its decision, none of the decisions to be published without a flag, and one decision is one
    id: the same key and event and state is never flagged under two. ceilings: names of those to look at, else all."""
    decided = {row.decision_id: row for row in scene.query("SELECT * FROM policy_decision")
               if not ceilings or row.ceiling in ceilings}
    shown, causes = set(), defaultdict(set)
    for flag in filter(lambda flag: flag.value is not None and (not ceilings or flag.key[1] in ceilings), flags):
        value = flag.value
        assert value["decision_id"] in decided, f"a flag that nobody decided: {value}"
        row = decided[value["decision_id"]]
        assert (value["state"] == "active") == (row.transition % 2 == 1)
        assert (Decimal(value["used"]), Decimal(value["limit"])) == (row.used, row.limit_quantity)
        shown.add(value["decision_id"])
        causes[flag.key, value["period"]["start"], json.dumps(value["event"]), value["state"]].add(value["decision_id"])
    lost = {id_ for id_, row in decided.items() if row.published} - shown
    assert not lost, f"decisions that never were on the topic: {[decided[id_] for id_ in lost][:3]}"
    assert [ids for cause, ids in causes.items() if len(ids) > 1 and cause[2] != "null"] == []


def assert_reader_sees(scene, ceilings, expected):
    """By a reader's rules exactly the crossed ceilings are active whose period goes on."""
    now = datetime.now(timezone.utc)
    periods = {rule["name"]: rule["period"] for rule in ceilings}
    latest = {(t.customer, t.ceiling, t.period_start): t for t in expected
              if period_of(periods[t.ceiling], t.period_start)[1] > now}
    wanted = {key[:2] for key, transition in latest.items() if transition.number % 2 == 1}
    assert active(scene) == wanted


def active(scene, messages=None):
    """{(customer, ceiling)} that a gateway would enforce."""
    now = datetime.now(timezone.utc)
    return {key[:2] for key, flag in scene.topics.flags(messages).items()
            if flag.value and flag.value["state"] == "active" and datetime.fromisoformat(flag.value["expires_at"]) > now}


def wait_active(scene, wanted, timeout_s=20):
    wait_until(lambda: active(scene) == set(wanted), timeout_s, f"the flags {wanted}")


def say_late(scene, flag, epoch, count):
    """As a process would that does not know yet that it has lost the lane."""
    value = {**flag.value, "sequence": [epoch, count]}
    producer = scene.topics.producer()
    producer.send(json.dumps(value).encode(), key=flag.record.key, partition=flag.record.partition,
                  topic=scene.topics.enforcement, headers=[("sequence", json.dumps(value["sequence"]).encode())])
    producer.flush()


def said(flag):
    """Whichever time it was said."""
    return flag.value and {**flag.value, "sequence": None}


def wait_mended(scene, timeout_s=20):
    """Until the last message of each key, which compaction keeps, says what the highest one says."""
    def is_mended():
        messages = scene.topics.read(scene.topics.enforcement)
        last = {flag.key: flag for flag in map(Flag.of, messages)}
        return all(said(last[key]) == said(flag) for key, flag in scene.topics.flags(messages).items())
    wait_until(is_mended, timeout_s, "the owner to override what came late")
