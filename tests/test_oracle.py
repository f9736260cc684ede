"""The oracle itself: known hashes, and the rules on examples whose answer is plain."""
import json
from datetime import datetime, timezone
from decimal import Decimal

import pytest
from oracle import Oracle, Record, murmur2

NOW = datetime(2026, 1, 3, tzinfo=timezone.utc)
HOUR = datetime(2026, 1, 2, 3, tzinfo=timezone.utc)


def event(**more):
    fields = {"event_id": "e1", "customer_id": "acme-co", "meter": "tokens", "quantity": 1,
              "timestamp": "2026-01-02T03:59:59.9999999Z", **more}
    return {name: value for name, value in fields.items() if value is not None}


def judge(*values, key=b"acme-co"):
    records = [Record("usage", 0, offset, int(HOUR.timestamp() * 1000), key,
                      value if isinstance(value, bytes) else json.dumps(value).encode())
               for offset, value in enumerate(values)]
    return Oracle(1, now=NOW).judge(records)


def words(outcome):
    return [verdict.reason or verdict.kind for verdict in outcome.verdicts.values()]


@pytest.mark.parametrize("key, signed", [  # the values in Kafka's own UtilsTest
    (b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829), (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107)])
def test_murmur2_is_that_of_the_java_client(key, signed):
    assert murmur2(key) == signed % 2**32


@pytest.mark.parametrize("value, reason", [
    (b"", "empty_value"), (b"\xff", "not_utf8"), (b"{", "not_json"), (b'{"a":NaN}', "not_json"),
    (b"[]", "not_an_object"), (b'{"a":1,"\\u0061":2}', "duplicate_key"), (b'{"a":"\\ud800"}', "bad_string"),
    (b'{"a":' * 32 + b"1" + b"}" * 32, "missing_field"), (b'{"a":' * 33 + b"1" + b"}" * 33, "too_deep"),
    (b"{" + b" " * 2**20 + b"}", "too_large"), (event(meter=None), "missing_field"), (event(event_id=7), "wrong_type"),
    (event(meter="a b"), "out_of_range"), (event(customer_id=""), "out_of_range"),
    (event(account_id="other"), "conflicting_field"), (event(quantity=-1), "out_of_range"),
    (event(quantity="1e20"), "out_of_range"), (event(quantity="0.0000000001"), "out_of_range"),
    (event(kind="correction"), "missing_field"), (event(timestamp="2026-01-02 03:04"), "bad_timestamp"),
    (event(timestamp="2026-02-30T00:00:00Z"), "bad_timestamp"), (event(timestamp=1), "too_old"),
    (event(timestamp="2026-01-03T01:00:00Z"), "in_future"), (event(customer_id="other"), "key_mismatch")])
def test_a_bad_record_is_refused_for_its_reason(value, reason):
    assert words(judge(value)) == [reason]


def test_the_same_event_written_another_way_is_a_duplicate():
    again = event(quantity="1.0", timestamp="2026-01-02T04:59:59.999999+01:00")
    assert words(judge(event(), again, event(quantity=2), event(meter="other"))) == \
        ["accepted", "duplicate", "conflict", "accepted"]


def test_rollups_are_exact_and_by_the_hour_of_the_event():
    fix = event(event_id="e3", kind="correction", corrects="e1", reason="r", quantity="-0.000000001")
    outcome = judge(event(quantity="0.1"), event(event_id="e2", quantity=0.2, metadata={"run_id": "r1"}), fix)
    [(key, tally)] = outcome.hourly.items()
    assert key == ("acme-co", HOUR, "tokens", "", ())
    assert (tally.events, tally.quantity, tally.adjustment) == (3, Decimal("0.299999999"), Decimal("-1e-9"))
    assert tally.last.microsecond == 999999
    assert [run[1] for run in outcome.runs] == ["r1"]
