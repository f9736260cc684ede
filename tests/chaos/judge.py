"""What a campaign must come to: held against what lies in the topics, by the integration tests' oracle."""
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone

from counting import assert_counted_once
from enforcing import active, assert_all_decided, period_of, read_flags, transitions
from enforcing import Transition
from rules import HOURLY, MOVING, OLD, STEADY
from stack import wait_until

SKEW = timedelta(minutes=16)  # more than clocks were ahead


def judge(field, acknowledged, began):
    """acknowledged: the records that producers know to be in the log. Returns the oracle's outcome and the decisions."""
    scene = field.scene
    records = scene.topics.read(scene.topics.usage[0])
    lost = contents(acknowledged) - contents(records)
    assert not lost, f"Kafka lost {lost.total()} acknowledged records: {list(lost)[:2]}"
    wait_until(lambda: scene.value("SELECT count(*) FROM ceiling_pending") == 0, 30, "ceilings to count what is late")
    outcome = assert_counted_once(scene, records)
    decisions = scene.query("SELECT * FROM policy_decision ORDER BY customer_id, ceiling, period_start, transition")
    steady = [rule for rule in STEADY if has_lasted(rule, began)]
    assert_steady(decisions, steady, transitions(steady, outcome))
    assert_explained(decisions, outcome)
    flags = read_flags(scene)
    assert_all_decided(scene, flags, names(steady))
    assert_flags_are_decisions(flags, decisions)
    assert_reader_sees_the_store(field, outcome)
    return outcome, decisions


def contents(records):
    """Without their offsets: of a batch that it sent again, a client may be told wrong ones."""
    return Counter((record.partition, record.key, record.value) for record in records)


def has_lasted(rule, began):
    """Whether no clock has seen the end of its period since."""
    now = datetime.now(timezone.utc)
    return period_of(rule["period"], began)[1] > now + SKEW


def is_current(start, period):
    return period_of(period, start)[1] > datetime.now(timezone.utc) + SKEW


def assert_steady(decisions, steady, expected):
    """In periods that go on, exactly what the events cause, and each decided once."""
    periods = {rule["name"]: rule["period"] for rule in steady}
    wanted = {t for t in expected if is_current(t.period_start, periods[t.ceiling])}
    rows = [r for r in decisions if r.ceiling in periods and is_current(r.period_start, periods[r.ceiling])]
    decided = {Transition(r.customer_id, r.ceiling, r.period_start, r.transition, r.used,
                          (r.topic, r.kafka_partition, r.kafka_offset)) for r in rows}
    assert decided == wanted, f"decided: {sorted(decided - wanted)[:3]}, expected: {sorted(wanted - decided)[:3]}"
    assert len(rows) == len(wanted)


def assert_explained(decisions, outcome):
    """Of every ceiling, whoever changed it and whatever the clock said: transitions are numbered without a gap, an
    event's decision follows from what was used up to it, and no id comes twice."""
    used = running_sums(outcome)
    last = defaultdict(int)
    for row in decisions:
        key = (row.customer_id, row.ceiling, row.period_start)
        last[key] += 1
        assert row.transition == last[key], f"transition {last[key]} is missing before {row}"
        if row.source == "event" and row.ceiling not in names(OLD):
            place = (row.topic, row.kafka_partition, row.kafka_offset)
            assert row.used == used[place, row.period], f"{used[place, row.period]} was used: {row}"
            assert row.used > row.limit_quantity if row.transition % 2 else row.used <= row.limit_quantity, row
    assert len({row.decision_id for row in decisions}) == len(decisions)


def running_sums(outcome):
    """{(place of an event, period): what its customer had used of its meter by then}"""
    sums, found = defaultdict(int), {}
    for place, event in outcome.events.items():
        for period in ("hour", "day", "month"):
            key = (event.customer_id, event.meter, period, period_of(period, event.time)[0])
            sums[key] += event.quantity
            found[place, period] = sums[key]
    return found


def assert_flags_are_decisions(flags, decisions):
    """Where the highest flag of a key enforces, that was decided. It may be cleared without a decision: of a flag that
    a process sent before it died, for what is not decided again once its day is sealed and its events come later."""
    by_id = {row.decision_id: row for row in decisions}
    latest = {}
    for flag in flags:
        if flag.key not in latest or flag.sequence > latest[flag.key].sequence:
            latest[flag.key] = flag
    for flag in latest.values():
        if flag.value and flag.value["state"] == "active":
            row = by_id.get(flag.value["decision_id"])
            assert row and row.transition % 2 == 1, f"a flag that nobody decided: {flag.value}, {row}"


def assert_reader_sees_the_store(field, outcome):
    """By a reader's rules exactly those flags are active that the store has active, and they are what use says."""
    stored = field.scene.query("SELECT customer_id, ceiling, period_start, active FROM ceiling_state "
                               "WHERE period_end > now() + interval '16 minutes'")
    wanted = {(row.customer_id, row.ceiling) for row in stored if row.active and row.ceiling not in names(HOURLY)}
    seen = {key for key in active(field.scene) if key[1] not in names(HOURLY)}
    assert seen == wanted, f"flagged: {sorted(seen - wanted)}, not flagged: {sorted(wanted - seen)}"
    for rule in OLD + field.rules.moving:
        assert {key for key in seen if key[1] == rule["name"]} == over(rule, outcome)
    assert field.rules.moving or not [key for key in seen if key[1] == MOVING]


def names(rules):
    return {rule["name"] for rule in rules}


def over(rule, outcome):
    """Who is over the limit of a monthly ceiling."""
    start = period_of("month", datetime.now(timezone.utc))[0]
    sums = defaultdict(int)
    for event in outcome.events.values():
        if event.meter == rule["meter"] and period_of("month", event.time)[0] == start:
            sums[event.customer_id] += event.quantity
    return {(customer, rule["name"]) for customer, used in sums.items() if used > rule["limit"]}
