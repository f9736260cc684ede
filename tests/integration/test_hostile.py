"""Names that producers choose, made to break what they pass through: SQL, COPY, logs, terminals, labels, JSON. They are
kept byte for byte, counted, enforced, and shown so that they do nothing."""
import json
import re
import time
import unicodedata

from counting import assert_counted_once
from enforcing import FLAG_SCHEMA, ceiling, wait_adopted
from stack import wait_until

HOSTILE = {
    "sql": "'; DROP TABLE usage_event; --",
    "sql in dollars": "$$; $1 %s %n {0}",
    "double quotes": 'a"b""c',
    "COPY's end": "\\.",
    "COPY's escapes": "\\N\t\\t\\\\\r",
    "lines": "x\n\ntime=2026-01-01T00:00:00Z level=error msg=\"all is lost\"\r\n",
    "an escape sequence": "\x1b[2J\x1b]0;owned\x07\x1b[31m",
    "an escape sequence in one character": "\u009b31m\u0090q\u009c",
    "delete and other controls": "a\x01\x08\x08\x7fb",
    "right to left": "\u202egnp.exe\u2066\u2069\u200f\u061c",
    "nothing to see": "\ufeff\u200b\u2060\U000e0041\U000e007f",
    "line separators": "a\u2028b\u2029c\u0085d",
    "a formula": "=cmd|' /C calc'!A0",
    "a label": 'x"} 1\nusagebox_store_up 0 # {a="b',
    "a path": "../../../../etc/passwd\\..",
    "only spaces": "   ",
    "like a number": "NaN",
    "like an array": "{1,NULL,\"}\"}",
    "like a composite": "(a,b)::text",
    "combining": "e\u0301" * 40,
    "wide": "漢字🏳️‍🌈👩‍👩‍👧",
    "as long as may be": "L" * 128,
    "as long as may be in bytes": "é" * 64,
    "JSON": '{"a":[1,"\\u0000"]}',
    "an option": "--customer",
    "empty but for a joiner": "\u200d",
}
# What must not come out of a program but as part of an escape: all controls but the end of the line, and what has
# no width or turns the line around.
SILENT = re.compile("[^\n\u0020-\u007e\u00a0-\U0010ffff]|[\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")


def event(number, name):
    metadata = {field: name for field in ("provider", "run_id", "agent_id", "user_id", "tool_name", "operation")}
    return {"event_id": f"{name}"[:100], "customer_id": name, "meter": "tool_calls", "quantity": number + 1,
            "model": name, "metadata": {**metadata, name: name}, "policy_metadata": {"plan_tier": name},
            "timestamp": int(time.time() * 1000), name: [name]}


def assert_harmless(where, text):
    found = SILENT.search(text)
    assert not found, f"{where} prints {found.group()!r} ({unicodedata.name(found.group(), 'a control')}): " \
                      f"{text[max(0, found.start() - 60):found.end() + 20]!r}"


def texts(scene, *arguments, **more):
    done = scene.usagebox.command(*arguments, **more)
    return {" ".join(arguments): done.stdout, "stderr of " + " ".join(arguments): done.stderr}


def test_names_made_to_break_things_are_kept_counted_enforced_and_shown_harmlessly(make_scene):
    scene = make_scene(config={"log": {"level": "debug"},
                               "ceilings": [ceiling("any-use", 0)]}).migrate()
    scene.usagebox.command("ceilings", "apply")
    process = scene.usagebox.start()
    wait_adopted(scene)
    events = [event(number, name) for number, name in enumerate(HOSTILE.values())]
    shown = texts(scene, "produce", "--wait", stdin="".join(json.dumps(e) + "\n" for e in events))
    shown |= {"produce --wait --json": texts(scene, "produce", "--wait", "--json", stdin="".join(
        json.dumps({**e, "event_id": f"again-{n}"}) + "\n" for n, e in enumerate(events)))["produce --wait --json"]}
    conflicts = [{**e, "model": e["model"][:50] + "'"} for e in events]
    bad = [{**e, "event_id": f"bad-{n}", "meter": e["customer_id"]} for n, e in enumerate(events)]
    scene.produce(*conflicts)
    for value in (*bad, *({**e, "quantity": e["customer_id"], "event_id": f"q-{n}"} for n, e in enumerate(events))):
        scene.produce(value)
    scene.produce(*[f'{{"customer_id":"{"x" if b != 0 else ""}'.encode() + bytes([b, 27, 91]) for b in range(256)], partition=0)
    for name in HOSTILE.values():
        noise = name.encode() + b"\xff\x1b[31m\x00"
        scene.produce(json.dumps(events[0]).encode(), key=noise, partition=1,
                      headers=[(name, noise), ("event_id", (noise, name.encode() + b"\0", b"", b"y" * 129)[len(name) % 4])])
    scene.wait_consumed()
    wait_until(lambda: len(scene.topics.flags()) == len(events), 20, "a flag for each")

    for e in events:
        [row] = scene.query("SELECT * FROM usage_event WHERE customer_id = %s AND event_id = %s", e["customer_id"], e["event_id"])
        assert {row.model, row.run_id, row.plan_tier} == {e["customer_id"]}
        assert json.loads(row.payload) == e
    assert_counted_once(scene, scene.topics.read(scene.topics.usage[0]))
    for (customer, *_), flag in scene.topics.flags().items():
        FLAG_SCHEMA.validate(flag.value)
        assert customer == flag.value["customer_id"] and customer in HOSTILE.values()

    for command in ("status", "tail --from-beginning --count 26 --flags-only", "dead-letters list --limit 1000", "verify",
                    "offsets list", "ceilings list", "seal", "check"):
        shown |= texts(scene, *command.split()) | texts(scene, *command.split(), "--json")
    for number, in scene.query("SELECT dead_letter_id FROM dead_letter WHERE dead_letter_id % 23 = 0"):
        shown |= texts(scene, "dead-letters", "show", str(number)) | texts(scene, "dead-letters", "show", str(number), "--json")
    shown |= {"the log": process.log(), "/metrics": process.http("/metrics")[1], "/readyz": process.http("/readyz")[1]}
    for where, text in shown.items():
        assert_harmless(where, text)
        if where.endswith("--json") and not where.startswith("stderr"):
            assert_json(text)
    assert all(line.startswith("time=20") for line in shown["the log"].splitlines())
    labels = set(re.findall(r'="((?:[^"\\]|\\.)*)"', shown["/metrics"]))
    assert len(labels) < 150 and not labels & {e["customer_id"] for e in events}


def test_a_line_for_people_shows_where_a_name_ends(make_scene):
    scene = make_scene().migrate()
    scene.usagebox.start()
    tail = scene.usagebox.start("tail", "--events-only", "--count", "2", ready=False)
    time.sleep(1)
    lines = [json.dumps({**event(n, "x"), "customer_id": name}) for n, name in enumerate(("a tool_calls +99", 'q"\\'))]
    done = scene.usagebox.command("produce", "--wait", stdin="\n".join(lines))
    assert 'accepted: "a tool_calls +99" tool_calls +1,' in done.stdout
    assert 'accepted: "q\\"\\\\" tool_calls +2,' in done.stdout
    assert tail.wait() == 0 and 'accepted "a tool_calls +99" tool_calls +1 x hour' in tail.log()


def assert_json(text):
    try:
        json.loads(text)
    except ValueError:
        assert all(json.loads(line) for line in text.splitlines())


def test_a_record_whose_time_no_calendar_holds_is_kept_and_stops_no_lane(make_scene):
    scene = make_scene(partitions=1).migrate()
    scene.configure({"kafka": {"dead_letter_topic": scene.topics.dead_letter}})
    process = scene.usagebox.start()
    limit_ms = (2**63 - 1) // 1000
    times_ms = (limit_ms, limit_ms + 1, 9_250_000_000_000_000, 10**16, 2**63 // 1000 * 2, 2**63 - 1, -(2**62))
    good = {"event_id": "e", "customer_id": "c", "meter": "tool_calls", "quantity": 1}
    for n, time_ms in enumerate(times_ms):
        scene.produce(b"{", key="c", timestamp_ms=time_ms)
        scene.produce({**good, "event_id": f"none-{n}"}, timestamp_ms=time_ms)
        scene.produce({**good, "event_id": f"own-{n}", "timestamp": int(time.time())}, timestamp_ms=time_ms)
    scene.wait_consumed()
    letters = scene.query("SELECT reason, record_time::text FROM dead_letter ORDER BY kafka_offset")
    last = "294247-01-10 04:00:54.775+00"
    assert letters == [("not_json", last), ("in_future", last)] + 6 * [("not_json", None), ("missing_field", None)]
    assert scene.value("SELECT count(*) FROM usage_event") == len(times_ms)
    assert scene.value("SELECT complete_through <= now() FROM usage_watermark")
    wait_until(lambda: len(scene.topics.read(scene.topics.dead_letter)) == len(letters), 20, "copies of the dead letters")
    assert "level=error" not in process.log()
    scene.usagebox.command("dead-letters", "list")
    scene.usagebox.command("verify")
