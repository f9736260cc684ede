"""`usagebox produce`: what is sent, where it comes to lie, and what it says about it."""
import json
import re
import socket
import time
import uuid
from collections import Counter
from datetime import datetime, timezone

import pytest
from oracle import partition_of
from stack import wait_until


@pytest.fixture
def scene(make_scene):
    return make_scene().migrate()


@pytest.fixture
def running(make_scene):
    ceiling = {"name": "in-a-day", "customer": "*", "meter": "llm_tokens_in", "period": "day", "limit": 20000,
               "policy": "hard-stop"}
    scene = make_scene(config={"ceilings": [ceiling]}).migrate()
    scene.usagebox.command("ceilings", "apply")
    scene.usagebox.start()
    wait_until(lambda: scene.value("SELECT count(*) FROM ceiling_adoption") == 3, 30, "adoption of the ceilings")
    return scene


def event(number, **more):
    return {"event_id": f"e-{number}", "account_id": "acme-co", "meter": "llm_tokens_in", "model": "claude-4.5-sonnet",
            "quantity": 12450, "timestamp": datetime.now(timezone.utc).isoformat(), **more}


def lines(*values):
    return "".join((value if isinstance(value, str) else json.dumps(value)) + "\n" for value in values)


def sent(scene):
    return scene.topics.read(scene.topics.usage[0])


class TestSending:
    def test_each_event_is_keyed_by_its_customer_and_lies_where_java_would_put_it(self, scene):
        scene.usagebox.command("produce", stdin=lines(*[event(n, account_id=f"cust-{n}") for n in range(50)]))
        records = sent(scene)
        assert sorted(r.key.decode() for r in records) == sorted(f"cust-{n}" for n in range(50))
        assert all(r.partition == partition_of(r.key, 3) for r in records)
        assert len({r.partition for r in records}) == 3

    def test_an_event_that_has_everything_is_sent_byte_for_byte(self, scene):
        line = '{ "event_id":"e","customer_id":"c", "meter":"m","quantity":1.50,"timestamp":"2026-01-01T00:00:00Z","é":1e2 }'
        scene.usagebox.command("produce", stdin=line)
        assert [r.value for r in sent(scene)] == [line.encode()]

    @pytest.mark.parametrize("learned", ["murmur2", "crc32", "fnv1a", None])
    def test_unless_told_it_puts_events_where_the_other_producers_do(self, make_scene, learned):
        scene = make_scene(config={"kafka": {"partitioner": "auto"}}).migrate()
        if learned:
            scene.query("INSERT INTO setting (name, value) VALUES ('partitioner', %s)", learned)
        events = lines(*[event(n, account_id=f"cust-{n}") for n in range(50)])
        scene.usagebox.command("produce", stdin=events)
        scene.usagebox.command("produce", "--partitioner", learned or "murmur2", stdin=events)
        places = [(r.key, r.partition) for r in sent(scene)]
        assert len(places) == 100 and len(set(places)) == 50

    def test_it_needs_no_postgresql(self, make_scene):
        scene = make_scene(config={"kafka": {"partitioner": "auto"}, "postgres": {"dsn": "postgresql://127.0.0.1:1/x"}})
        done = scene.usagebox.command("produce", stdin=lines(event(1)))
        assert [r.partition for r in sent(scene)] == [partition_of(b"acme-co", 3)]
        assert "murmur2" in done.stderr and "--partitioner" in done.stderr

    def test_a_postgresql_that_does_not_answer_is_waited_for_only_where_it_matters(self, make_scene):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            dsn = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x?connect_timeout=600"
            scene = make_scene(partitions=1, config={"kafka": {"partitioner": "auto"}, "postgres": {"dsn": dsn}})
            scene.usagebox.command("produce", stdin=lines(event(1)), timeout_s=120)
            assert scene.usagebox.command("produce", "a", "b", check=False, timeout_s=60).returncode == 2
            assert scene.usagebox.command("produce", "--timeout", "3s", check=False, timeout_s=60).returncode == 2
            scene.topics.add_partitions(scene.topics.usage[0], 3)
            scene.usagebox.command("produce", "--partitioner", "crc32", stdin=lines(event(2)), timeout_s=120)
            assert len(sent(scene)) == 2

    def test_a_missing_id_and_timestamp_are_minted(self, scene):
        line = '{"customer_id":"c","meter":"m","quantity":1}'
        done = scene.usagebox.command("produce", "--json", stdin=lines(line, line))
        first, second = [json.loads(r.value) for r in sent(scene)]
        for one in first, second:
            assert uuid.UUID(one["event_id"]).version == 7
            at = datetime.fromisoformat(one["timestamp"].replace("Z", "+00:00")).timestamp()
            assert abs(at - time.time()) < 60
        assert first["event_id"] != second["event_id"]
        counts = json.loads(done.stdout)
        assert (counts["sent"], counts["acknowledged"]) == (2, 2)
        assert 0 < counts["seconds"] < 300
        assert (counts["minted_event_ids"], counts["minted_timestamps"]) == (2, 2)

    def test_a_correction_gets_no_timestamp(self, scene):
        scene.usagebox.command("produce", stdin=lines(
            {"customer_id": "c", "meter": "m", "quantity": -1, "kind": "correction", "corrects": "e", "reason": "x"}))
        assert "timestamp" not in json.loads(sent(scene)[0].value)

    def test_wrong_lines_are_named_by_number_and_the_others_are_sent(self, scene, tmp_path):
        path = tmp_path / "events.jsonl"
        path.write_text(lines(event(1), "{", "[1]", "", {"meter": "m"}, event(2)))
        done = scene.usagebox.command("produce", path, check=False)
        assert done.returncode == 1
        assert re.findall(rf"{re.escape(str(path))}:(\d+): ", done.stderr) == ["2", "3", "5"]
        assert "2 sent, 2 acknowledged by Kafka, 3 refused and not sent" in done.stdout
        assert len(sent(scene)) == 2

    def test_raw_lines_are_sent_as_they_are(self, scene):
        done = scene.usagebox.command("produce", "--raw", stdin=lines("{", "", event(1)))
        assert sorted(len(r.value) for r in sent(scene))[:2] == [0, 1] and "3 acknowledged" in done.stdout
        assert [r.key for r in sent(scene) if len(r.value) > 1] == [b"acme-co"]

    def test_a_key_of_ones_own_takes_the_place_of_the_customer(self, scene):
        scene.usagebox.command("produce", "--key", "k", stdin=lines(event(1)))
        assert [(r.key, r.partition) for r in sent(scene)] == [(b"k", partition_of(b"k", 3))]

    def test_what_does_not_get_through_is_not_called_sent(self, scene):
        begun = time.monotonic()
        done = scene.usagebox.command("produce", stdin=lines(event(1)), check=False,
                                      env={"USAGEBOX_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
        assert done.returncode == 1 and done.stderr and time.monotonic() - begun < 60
        done = scene.usagebox.command("produce", "--topic", "not.there", stdin=lines(event(1)), check=False)
        assert done.returncode == 1 and "not.there" in done.stderr

    def test_the_same_seed_makes_the_same_events(self, scene):
        options = ["--generate", "500", "--seed", "7", "--start", "2026-11-01T00:00:00Z", "--duplicates", "0.1", "--bad", "0.05"]
        values = []
        for _ in range(2):
            before = len(sent(scene))
            made = json.loads(scene.usagebox.command("produce", "--json", *options).stdout)
            assert made["acknowledged"] == 500 and made["generated"]["seed"] == 7
            by_offset = sent(scene)
            assert len(by_offset) == before + 500
            values.append(Counter(r.value for r in by_offset))
        assert values[1] == values[0] + values[0]
        scene.usagebox.command("produce", *options[:2], "--seed", "8", *options[4:])
        assert Counter(r.value for r in sent(scene)) != values[0] + values[0] + values[0]


class TestWait:
    def wait(self, scene, *values, options=(), check=True, **more):
        done = scene.usagebox.command("produce", "--wait", "--json", *options, stdin=lines(*values), check=check, **more)
        *told, summary = [json.loads(line) for line in done.stdout.splitlines()]
        return told, summary["outcomes"], done

    def test_an_accepted_event_is_told_with_its_hour(self, running):
        now = datetime.now(timezone.utc)
        done = running.usagebox.command("produce", "--wait", stdin=lines(event(1, timestamp=now.isoformat())))
        first, *rest = done.stdout.splitlines()
        assert re.fullmatch(rf"accepted: acme-co llm_tokens_in \+12450, hour ({now:%Y-%m-%d} )?{now:%H}:00", first)
        assert "1 accepted, 0 duplicate, 0 conflict, 0 refused" in rest[-1]

    def test_a_repeat_is_a_duplicate(self, running):
        first = event(2)
        told, outcomes, done = self.wait(running, first, first)
        assert done.returncode == 0
        assert {line["line"]: line["outcome"] for line in told} == {1: "accepted", 2: "duplicate"}
        assert outcomes["accepted"] == outcomes["duplicate"] == 1
        assert self.wait(running, first)[1]["duplicate"] == 1
        text = running.usagebox.command("produce", "--wait", stdin=lines(first)).stdout
        assert text.startswith("duplicate: acme-co llm_tokens_in: e-2 was counted before")

    def test_a_conflict_is_told_with_what_differs(self, running):
        first = event(1)
        self.wait(running, first)
        told, outcomes, _ = self.wait(running, {**first, "quantity": "13.5", "metadata": {"provider": "p"}})
        assert outcomes["conflict"] == 1
        differs = {d["field"]: (d["value"], d["first"]) for d in told[0]["differs"]}
        assert differs == {"quantity": ("13.5", "12450"), "provider": ("p", "")}
        text = running.usagebox.command("produce", "--wait", stdin=lines({**first, "quantity": 14})).stdout
        assert text.startswith("conflict: acme-co llm_tokens_in: e-1 was counted before with another content, which stays: "
                               "quantity 12450 (here 14)")

    def test_a_refusal_is_told_with_its_remedy(self, running):
        done = running.usagebox.command("produce", "--wait", "--key", "another", stdin=lines(event(1)), check=False)
        assert done.returncode == 1
        assert done.stdout.startswith("refused (key_mismatch): ") and "dead-letters replay" in done.stdout
        told, outcomes, done = self.wait(running, "{", event(2, quantity="NaN"), event(3, account_id="ünï"), options=["--raw"],
                                         check=False)
        assert done.returncode == 1
        assert {line["line"]: line.get("reason") for line in told} == {1: "not_json", 2: "wrong_type", 3: None}
        assert outcomes["refused"] == 2 and outcomes["accepted"] == 1
        assert all(line["detail"] and line["hint"] for line in told if line["outcome"] == "refused")

    def test_records_in_the_wrong_partition_are_told_of(self, running):
        done = running.usagebox.command("produce", "--wait", "--partitioner", "crc32",
                                        stdin=lines(*[event(n, account_id=f"c-{n}") for n in range(20)]), check=False)
        assert done.returncode == 1 and "refused (wrong_partition): " in done.stdout

    def test_a_crossed_ceiling_is_told(self, running):
        told, outcomes, _ = self.wait(running, event(1), event(2))
        flag, = [line for line in told if line["outcome"] == "flag"]
        assert outcomes["flags"] == 1 and flag["event_id"] == "e-2"
        assert (flag["ceiling"], flag["policy"], flag["state"], flag["used"], flag["limit"]) == \
            ("in-a-day", "hard-stop", "active", "24900", "20000")
        text = running.usagebox.command("produce", "--wait", stdin=lines(event(3, account_id="b", quantity=20001))).stdout
        assert "flag: hard-stop active, b in-a-day used 20001 of 20000, by e-3" in text

    def test_late_events_and_corrections_are_found(self, running):
        long_ago = int(time.time() * 1000) - 9 * 86_400_000
        told, outcomes, _ = self.wait(running, event(1, timestamp=long_ago), event(
            2, timestamp=long_ago, quantity=-5, kind="correction", corrects="e-1", reason="r"))
        assert outcomes["accepted"] == 2
        assert {line["quantity"] for line in told} == {"12450", "-5"}

    def test_what_became_of_thousands_agrees_with_what_postgresql_holds(self, running):
        _, outcomes, done = self.wait(running, options=["--generate", "150000", "--seed", "5", "--customers", "300", "--duplicates",
                                                        "0.02", "--late", "0.02", "--bad", "0.01"], check=False)
        held = running.query("SELECT sum(accepted)::bigint AS a, sum(duplicate)::bigint AS b, sum(dead)::bigint AS c FROM batch_ledger")[0]
        conflicts = running.value("SELECT count(*) FROM event_conflict")
        assert (outcomes["accepted"], outcomes["duplicate"] + outcomes["conflict"], outcomes["refused"]) == tuple(held)
        assert outcomes["conflict"] == conflicts and outcomes["unknown"] == 0 and done.returncode == 1

    def test_it_is_told_while_others_produce(self, running):
        other = running.usagebox.start("produce", "--rate", "2000", "--duration", "8s", ready=False)
        told, outcomes, _ = self.wait(running, *[event(n, account_id=f"c-{n}", quantity=1) for n in range(2000)])
        assert outcomes["accepted"] == 2000 and len({line["line"] for line in told}) == 2000
        assert other.wait() == 0

    def test_events_that_nobody_reads_are_named_when_the_time_is_over(self, scene):
        begun = time.monotonic()
        done = scene.usagebox.command("produce", "--wait", "--timeout", "2s", stdin=lines(event(1), event(2)), check=False)
        assert done.returncode == 1 and 2 <= time.monotonic() - begun < 15
        assert re.search(r"partition \d: not known of 2 events from offset 0 \(line 1\) on: nothing of it was ever read",
                         done.stderr)
        assert "usagebox run" in done.stderr and "usagebox status" in done.stderr

    def test_a_restart_of_postgresql_is_waited_out(self, running):
        waiting = running.usagebox.start("produce", "--wait", "--json", "--rate", "20", "--duration", "8s", ready=False)
        waiting.wait_log("accepted")
        running.stack.pg_stop()
        time.sleep(1)
        running.stack.pg_start()
        assert waiting.wait() == 0, waiting.log()
        summary = json.loads(waiting.log().splitlines()[-1])
        assert summary["outcomes"]["accepted"] == 160 and summary["outcomes"]["unknown"] == 0

    def test_nothing_is_sent_that_could_not_be_waited_for(self, scene):
        done = scene.usagebox.command("produce", "--wait", stdin=lines(event(1)), check=False,
                                      env={"USAGEBOX_POSTGRES_DSN": "postgresql://127.0.0.1:1/x"})
        assert done.returncode == 1 and "Nothing was sent" in done.stderr and sent(scene) == []
        done = scene.usagebox.command("produce", "--wait", "--topic", scene.topics.dead_letter, stdin=lines(event(1)), check=False)
        assert done.returncode == 1 and "kafka.usage_topics" in done.stderr
        assert scene.usagebox.command("produce", "--timeout", "5s", stdin="", check=False).returncode == 2
