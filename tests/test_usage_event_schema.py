"""schema/usage-event.schema.json says to producers what the decoder says to events."""
import json
from pathlib import Path

import jsonschema
import pytest

SCHEMA = json.loads((Path(__file__).parent.parent / "schema" / "usage-event.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
CORRECTION = {"kind": "correction", "corrects": "e0", "reason": "late", "timestamp": "2026-11-22T09:30:00Z"}


def event(**members):
    return {"event_id": "e1", "customer_id": "acme-co", "meter": "tokens", "quantity": 1, **members}


def without(name, **members):
    return {key: value for key, value in event(**members).items() if key != name}


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("value", [
    *SCHEMA["examples"],
    event(),
    without("event_id"),
    without("customer_id", account_id="acme-co"),
    event(customer_id=None, account_id="acme-co"),
    event(quantity="12450.000000001"),
    event(quantity="-0"),
    event(quantity="1e3"),
    event(kind=None, timestamp=None, model=None, metadata=None, policy_metadata=None),
    event(corrects=7, reason=[]),
    event(timestamp=1795339800),
    event(timestamp="2026-11-22 09:29:60.999999999-00:00"),
    event(**CORRECTION),
    event(**{**CORRECTION, "quantity": "-1.5"}),
    event(metadata={"context_window": 200000, "run_id": "", "else": [1]}),
    event(policy_metadata={"plan_tier": "pro", "credit_balance": -1, "contractual_cap": "0"}),
    event(unknown={"nested": [None]}),
])
def test_what_the_decoder_accepts_is_valid(value):
    VALIDATOR.validate(value)


@pytest.mark.parametrize("value", [
    {},
    [],
    without("customer_id"),
    without("meter"),
    without("quantity"),
    event(event_id=""),
    event(event_id=1),
    event(customer_id=None),
    event(meter="a b"),
    event(meter="m" * 65),
    event(quantity=None),
    event(quantity=-1),
    event(quantity="-0.5"),
    event(quantity=1e20),
    event(quantity="01"),
    event(quantity=True),
    event(kind="Usage"),
    event(kind="correction"),
    event(**{**CORRECTION, "timestamp": None}),
    event(**{**CORRECTION, "corrects": ""}),
    event(timestamp="2026-11-22T09:30:00"),
    event(timestamp=1.5),
    event(model=1),
    event(metadata=[]),
    event(metadata={"run_id": 7}),
    event(metadata={"context_window": 1.5}),
    event(policy_metadata={"contractual_cap": -1}),
    event(policy_metadata={"contractual_cap": "-1"}),
    event(policy_metadata={"plan_tier": 1}),
])
def test_what_the_decoder_refuses_is_not(value):
    assert not VALIDATOR.is_valid(value)
