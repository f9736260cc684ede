"""Holds what PostgreSQL has against what the oracle says of the records that were produced."""
from decimal import Decimal


def assert_counted_once(scene, records, runs=True, **rules):
    """Every record accounted for, every event once, every rollup its sum, every flag decided once."""
    outcome = scene.oracle(**rules).judge(records)
    assert_events(scene, outcome)
    assert_ledger(scene, outcome)
    assert_hourly(scene, outcome)
    if runs:
        assert_runs(scene, outcome)
    scene.usagebox.command("verify")  # and so says the program
    return outcome


def assert_events(scene, outcome):
    rows = scene.query("SELECT topic, kafka_partition, kafka_offset, customer_id, meter, event_id, quantity, event_time "
                       "FROM usage_event")
    assert len(rows) == len(outcome.events), f"{len(rows)} raw events, {len(outcome.events)} expected"
    for topic, partition, offset, customer, meter, event_id, quantity, time in rows:
        event = outcome.events[topic, partition, offset]
        assert (customer, meter, event_id, quantity) == (event.customer_id, event.meter, event.event_id, event.quantity)
        assert time == event.time
    dead = scene.query("SELECT topic, kafka_partition, kafka_offset FROM dead_letter")
    expected = [place for place, verdict in outcome.verdicts.items() if verdict.kind == "dead"]
    assert sorted(dead) == sorted(expected)
    conflicts = scene.query("SELECT topic, kafka_partition, kafka_offset FROM event_conflict")
    assert sorted(conflicts) == sorted(p for p, v in outcome.verdicts.items() if v.kind == "conflict")


def assert_ledger(scene, outcome):
    accepted, duplicate, dead = scene.query("SELECT sum(accepted) AS accepted, sum(duplicate) AS duplicate, "
                                            "sum(dead) AS dead FROM batch_ledger")[0]
    counts = outcome.counts
    assert (accepted, duplicate, dead) == (counts["accepted"], counts["duplicate"] + counts["conflict"], counts["dead"])
    unaccounted = scene.query("SELECT * FROM batch_ledger WHERE next_offset - greatest(first_offset, 0) <> "
                              "accepted + duplicate + dead + hole + gap")
    assert unaccounted == []


def assert_hourly(scene, outcome):
    rows = scene.query("SELECT customer_id, hour, meter, model, dimensions, events, quantity, adjustment, first_event_at, "
                       "last_event_at FROM usage_hourly")
    stored = {(c, h, m, o, tuple(sorted(d.items()))): (n, q, a, f, l) for c, h, m, o, d, n, q, a, f, l in rows}
    expected = {key: (t.events, t.quantity, t.adjustment, t.first, t.last) for key, t in outcome.hourly.items()}
    assert stored == expected, difference(stored, expected)


def assert_runs(scene, outcome):
    rows = scene.query("SELECT customer_id, run_id, agent_id, user_id, meter, model, events, quantity, first_event_at, "
                       "last_event_at FROM usage_run")
    stored = {tuple(row[:6]): tuple(row[6:]) for row in rows}
    expected = {key: (t.events, t.quantity, t.first, t.last) for key, t in outcome.runs.items()}
    assert stored == expected, difference(stored, expected)


def difference(stored, expected):
    return [(key, stored.get(key), expected.get(key)) for key in {*stored, *expected} if stored.get(key) != expected.get(key)][:5]


def total(scene):
    return scene.value("SELECT coalesce(sum(quantity), 0) FROM usage_hourly") or Decimal(0)
