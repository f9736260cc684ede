"""The operator's commands."""
import base64
import hashlib
import json
import os
import pty
import struct
import subprocess
import zlib
from datetime import datetime, timedelta, timezone

import pytest
from oracle import partition_of
from process import BINARY
from psycopg2 import sql
from psycopg2.errors import UniqueViolation
from stack import wait_until


@pytest.fixture
def scene(make_scene):
    return make_scene().migrate()


def ceiling(name, **changes):
    return {"name": name, "customer": "*", "meter": "tool_calls", "period": "day", "limit": 100, "policy": "alert",
            **changes}


class TestCeilings:
    def apply(self, scene, *ceilings, options=()):
        scene.configure({"ceilings": list(ceilings)})
        return json.loads(scene.usagebox.command("ceilings", "apply", "--json", *options).stdout)

    def rows(self, scene):
        return [tuple(row) for row in scene.query(
            "SELECT name, version, limit_quantity::int, generation, retired_generation FROM ceiling ORDER BY 1, 2")]

    def test_only_what_differs_gets_a_new_version(self, scene):
        self.apply(scene, ceiling("a"), ceiling("b"))
        done = self.apply(scene, ceiling("a", limit=200), ceiling("b"))
        assert done["counts"] == {"added": 0, "changed": 1, "retired": 0, "unchanged": 1}
        assert done["generation"] == 2
        assert self.rows(scene) == [("a", 1, 100, 1, 2), ("a", 2, 200, 2, None), ("b", 1, 100, 1, None)]

    def test_the_generation_stays_where_nothing_differs(self, scene):
        self.apply(scene, ceiling("a"))
        assert self.apply(scene, ceiling("a", limit="100.000"))["generation"] == 1
        assert scene.value("SELECT value FROM setting WHERE name = 'ceilings_generation'") == "1"

    def test_a_ceiling_that_vanished_is_retired_and_one_that_returns_goes_on_counting_versions(self, scene):
        self.apply(scene, ceiling("a"))
        assert self.apply(scene)["counts"]["retired"] == 1
        self.apply(scene, ceiling("a"))
        assert self.rows(scene) == [("a", 1, 100, 1, 2), ("a", 2, 100, 3, None)]

    def test_every_part_of_a_definition_counts_as_a_change(self, scene):
        variants = [{"customer": "acme-co"}, {"customer": None, "plan": "pro"}, {"meter": "m"}, {"period": "hour"},
                    {"limit": 99.5}, {"policy": "hard-stop"}, {"clear_level": 50}]
        self.apply(scene, ceiling("a"))
        for version, variant in enumerate(variants, start=2):
            kept = {key: value for key, value in ceiling("a", **variant).items() if value is not None}
            assert self.apply(scene, kept)["ceilings"][0]["version"] == version

    def test_a_dry_run_says_what_would_change_and_changes_nothing(self, scene):
        assert self.apply(scene, ceiling("a"), options=["--dry-run"])["counts"]["added"] == 1
        assert self.rows(scene) == []

    def test_who_applied_it_is_kept(self, scene):
        self.apply(scene, ceiling("a"))
        assert "@" in scene.value("SELECT applied_by FROM ceiling")

    def test_hundreds_of_ceilings_are_applied_at_once(self, scene):
        many = [ceiling(f"c{i}", customer=f"cust-{i}") for i in range(300)]
        assert self.apply(scene, *many)["counts"]["added"] == 300
        assert self.apply(scene, *many[1:])["counts"] == {"added": 0, "changed": 0, "retired": 1, "unchanged": 299}

    def test_list_shows_how_many_customers_are_over_now(self, scene):
        self.apply(scene, ceiling("a"), ceiling("b"))
        scene.query("INSERT INTO ceiling_state VALUES "
                    "(0, 'x', 'a', '{}', now(), now() + interval '1 h', 1, 1, true, 'd1'),"
                    "(0, 'y', 'a', '{}', now(), now() - interval '1 h', 1, 1, true, 'd2'),"
                    "(0, 'z', 'a', '{}', now(), now() + interval '1 h', 1, 2, false, 'd3')")
        listed = json.loads(scene.usagebox.command("ceilings", "list", "--json").stdout)
        assert [(c["ceiling"], c["over_now"]) for c in listed] == [("a", 1), ("b", 0)]

    def test_the_owner_alone_may_apply(self, scene):
        scene.query(sql.SQL("DROP ROLE IF EXISTS {0}").format(sql.Identifier("test_ops_writer")))
        scene.query("CREATE ROLE test_ops_writer LOGIN PASSWORD 'w' IN ROLE usagebox_writer")
        scene.configure({"postgres": {"owner_dsn": scene.database.dsn_as("test_ops_writer", "w")},
                         "ceilings": [ceiling("a")]})
        done = scene.usagebox.command("ceilings", "apply", check=False)
        assert done.returncode == 1 and "usagebox_owner" in done.stderr
        scene.query("DROP ROLE test_ops_writer")


class TestSeal:
    """Days are made by hand here; what lanes make of seals is tested with the pipeline."""

    DAY = "2026-01-05"

    @pytest.fixture
    def scene(self, scene):
        scene.query("SET ROLE usagebox_owner; SELECT usagebox_make_day(%s)", self.DAY)
        self.read_through(scene, "now()")
        return scene

    def read_through(self, scene, when):
        scene.query("INSERT INTO consumer_offset (topic, kafka_partition, seen_through) VALUES ('usage', 0, "
                    f"{when}) ON CONFLICT (topic, kafka_partition) DO UPDATE SET seen_through = excluded.seen_through")

    def insert(self, scene, *event_ids):
        for offset, event_id in enumerate(event_ids):
            scene.query("INSERT INTO usage_event (event_time, ingested_at, kafka_offset, kafka_partition, quantity, "
                        "customer_id, event_id, kind, meter, topic, payload) VALUES (%s, now(), %s, 0, 1, 'acme-co', "
                        "%s, 'usage', 'tool_calls', 'usage', '{}')", self.DAY, offset, event_id)

    def seal(self, scene, *options):
        done = scene.usagebox.command("seal", "--json", *options, check=False)
        days = {day["day"]: day for day in json.loads(done.stdout)}
        return done.returncode, days.get(self.DAY)

    def index_is_valid(self, scene):
        rows = scene.query("SELECT indisvalid FROM pg_index WHERE indisunique AND indexrelid = "
                           "to_regclass('usage_event_20260105_identity')")
        return rows[0][0] if rows else None

    def test_a_sealed_day_refuses_an_event_twice(self, scene):
        self.insert(scene, "e1", "e2")
        assert self.seal(scene) == (0, {"day": self.DAY, "sealed": True, "why": None})
        assert self.index_is_valid(scene)
        with pytest.raises(UniqueViolation):
            self.insert(scene, "e1")

    def test_sealing_again_finds_nothing_to_do(self, scene):
        self.seal(scene)
        assert self.seal(scene) == (0, None)
        assert self.seal(scene, "--day", self.DAY)[0] == 0

    def test_a_day_waits_until_every_partition_was_read_beyond_its_window(self, scene):
        self.read_through(scene, "timestamptz '2026-01-06T12:00:00Z'")
        code, day = self.seal(scene)
        assert code == 0 and not day["sealed"] and "usage_watermark" in day["why"]
        assert self.seal(scene, "--day", self.DAY)[0] == 1
        assert self.seal(scene, "--now")[1]["sealed"]

    def test_a_day_that_was_not_read_to_its_end_is_not_sealed_even_now(self, scene):
        self.read_through(scene, "timestamptz '2026-01-05T23:00:00Z'")
        assert not self.seal(scene, "--now")[1]["sealed"]

    def test_a_day_that_rows_still_come_for_waits(self, scene):
        scene.query("INSERT INTO dedupe_segment_20260105 VALUES (0, 1, '', now() - interval '9 min')")
        assert not self.seal(scene)[1]["sealed"]
        assert self.seal(scene, "--now")[1]["sealed"]

    def test_rows_that_come_and_come_do_not_keep_a_day_open_for_ever(self, scene):
        """Else one late event now and then, of one customer, would keep all keys of its day in memory."""
        scene.query("INSERT INTO dedupe_segment_20260105 VALUES (0, 1, '', now() - interval '5 hours 59 min'), (0, 2, '', now())")
        assert not self.seal(scene)[1]["sealed"]
        scene.query("INSERT INTO dedupe_segment_20260105 VALUES (0, 0, '', now() - interval '6 hours 1 min')")
        assert self.seal(scene)[1]["sealed"]

    def test_six_hours_of_rows_count_from_when_the_window_passed(self, scene):
        now = datetime.now(timezone.utc)
        day = now.date() - timedelta(days=2)
        since_its_end = now - datetime.combine(day + timedelta(days=1), datetime.min.time(), timezone.utc)
        scene.query("SET ROLE usagebox_owner; SELECT usagebox_make_day(%s)", day)
        scene.query(f"INSERT INTO dedupe_segment_{day:%Y%m%d} VALUES (0, 1, '', now() - interval '2 days'), (0, 2, '', now())")
        for since_window, sealed in ((timedelta(hours=5.9), False), (timedelta(hours=6.1), True)):
            scene.configure({"dedupe": {"window": f"{int((since_its_end - since_window).total_seconds())}s"}})
            done = scene.usagebox.command("seal", "--json", "--day", str(day), check=False)
            assert json.loads(done.stdout)[0]["sealed"] == sealed

    def test_today_is_refused(self, scene):
        done = scene.usagebox.command("seal", "--now", "--day", scene.value("SELECT current_date::text"), check=False)
        assert done.returncode == 1 and "not over" in done.stdout

    def test_a_day_that_is_no_date_is_wrong_usage(self, scene):
        assert scene.usagebox.command("seal", "--day", "2026-02-30", check=False).returncode == 2

    def test_a_day_that_holds_an_event_twice_is_marked_reported_and_not_sealed(self, scene):
        self.insert(scene, "e1", "e2", "e1", "e1")
        code, day = self.seal(scene)
        assert code == 1 and not day["sealed"]
        [row] = scene.query("SELECT duplicates, report FROM sealed_day")
        assert row.duplicates == 2
        assert [(pair["event_id"], [p["offset"] for p in pair["places"]]) for pair in row.report] == [("e1", [0, 2, 3])]
        assert self.index_is_valid(scene) is None
        self.insert(scene, "e1")  # intake goes on

    def test_an_index_left_half_built_is_built_again(self, scene):
        self.insert(scene, "e1", "e1")
        with pytest.raises(UniqueViolation):
            scene.query("CREATE UNIQUE INDEX CONCURRENTLY usage_event_20260105_identity ON usage_event_20260105 "
                        "(customer_id, meter, event_id)")
        assert self.index_is_valid(scene) is False
        scene.query("ALTER TABLE usage_event_20260105 DISABLE TRIGGER append_only")
        scene.query("DELETE FROM usage_event_20260105 WHERE kafka_offset = 1")
        assert self.seal(scene)[1]["sealed"] and self.index_is_valid(scene)

    def test_two_never_seal_at_once(self, scene):
        other = scene.database.connect()
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(1430411330, 3)")
        other.rollback()
        done = scene.usagebox.command("seal", "--wait", "300ms", check=False)
        assert done.returncode == 1 and "another process is sealing" in done.stderr
        other.close()


class TestStandardFiles:
    def test_a_full_disk_behind_standard_output_is_told_and_fails(self, scene):
        for command in ("status", "verify", "seal", "offsets list", "dead-letters list", "ceilings list", "ceilings apply"):
            for options in ([], ["--json"]):
                with open("/dev/full", "w") as full:
                    done = subprocess.run([BINARY, *command.split(), "-c", scene.config_path, *options], stdout=full,
                                          stderr=subprocess.PIPE, text=True, timeout=60)
                assert done.returncode == 1 and done.stderr.endswith(": can't write to standard output\n"), done.stderr

    def test_closed_ones_are_given_to_no_server(self, scene):
        """What is logged would go to the socket that has standard error's number."""
        scene.configure({"http": {"listen": ""}, "log": {"level": "debug"}})
        line = f"exec {BINARY} run -c {scene.config_path} <&- >&- 2>&-"
        with subprocess.Popen(["/bin/sh", "-c", line]) as process:
            try:
                wait_until(lambda: scene.value("SELECT count(*) FROM consumer_offset WHERE owner <> ''") == 3, 30, "lanes")
                assert {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
            finally:
                process.terminate()
        assert process.returncode == 0


class TestDeadLetters:
    EVENT = {"event_id": "e1", "customer_id": "acme-co", "meter": "tool_calls", "quantity": 1}

    def refuse(self, scene, payload, reason="key_mismatch", key=b"someone", partition=0, headers=(),
               record_time="2026-11-02T18:00:00.123Z", topic=None):
        """A row of dead_letter as the pipeline leaves it; returns its id."""
        payload = json.dumps(payload).encode() if isinstance(payload, dict) else payload
        listed = json.dumps([[name, None if value is None else base64.b64encode(value).decode()]
                             for name, value in headers])
        return scene.query("INSERT INTO dead_letter (reason, detail, key, payload, headers, record_time, topic, "
                           "kafka_partition, kafka_offset) VALUES (%s, 'a detail', %s, %s, %s, %s, %s, %s, 7) RETURNING "
                           "dead_letter_id", reason, key, payload, listed, record_time,
                           topic or scene.topics.usage[0], partition)[0][0]

    def replay(self, scene, *arguments, code=0):
        done = scene.usagebox.command("dead-letters", "replay", "--json", *map(str, arguments), check=False)
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout) if done.stdout else done.stderr

    def sent(self, scene):
        return scene.topics.read(scene.topics.usage[0])

    def test_a_record_under_the_wrong_key_is_sent_where_it_belongs(self, scene):
        wrong = (partition_of(b"acme-co", 3) + 1) % 3
        payload = b'{"event_id" : "e1",  "customer_id":"acme-co"}'
        identifier = self.refuse(scene, payload, partition=wrong)
        done = self.replay(scene, identifier)
        assert (done["sent"], done["skipped"], done["failed"]) == (1, 0, 0)
        [record] = self.sent(scene)
        assert (record.key, record.partition, record.value) == (b"acme-co", partition_of(b"acme-co", 3), payload)
        assert scene.value("SELECT replayed_at IS NOT NULL FROM dead_letter")

    def test_the_partitioner_that_was_learned_is_used(self, scene):
        scene.configure({"kafka": {"partitioner": "auto"}})
        scene.query("INSERT INTO setting VALUES ('partitioner', 'crc32')")
        self.replay(scene, self.refuse(scene, self.EVENT))
        assert self.sent(scene)[0].partition == zlib.crc32(b"acme-co") % 3

    def test_headers_go_along_with_the_time_of_the_first_record(self, scene):
        self.replay(scene, self.refuse(scene, self.EVENT, headers=[("event_id", b"h1"), ("raw", b"\x00\xff"),
                                                                   ("none", None), ("raw", b"")]))
        assert self.sent(scene)[0].headers == (("event_id", b"h1"), ("raw", b"\x00\xff"), ("none", None), ("raw", b""),
                                               ("usagebox_time", b"1793642400123"))

    def test_a_time_brought_along_from_an_earlier_replay_stays(self, scene):
        self.replay(scene, self.refuse(scene, self.EVENT, headers=[("usagebox_time", b"1700000000000")]))
        assert self.sent(scene)[0].headers == (("usagebox_time", b"1700000000000"),)

    def test_a_record_that_names_no_customer_goes_back_as_it_came(self, scene):
        self.replay(scene, self.refuse(scene, b"{", headers=[("event_id", b"h1")], partition=2, key=b"\xff\x00"))
        self.replay(scene, self.refuse(scene, None, headers=[("event_id", b"h2")], partition=2, key=None))
        assert [(r.key, r.value, r.partition) for r in self.sent(scene)] == [(b"\xff\x00", b"{", 2), (None, None, 2)]

    def test_one_without_an_event_id_is_skipped_unless_forced(self, scene):
        identifier = self.refuse(scene, {"customer_id": "acme-co"}, reason="missing_field")
        done = self.replay(scene, identifier, code=1)
        assert done["skipped"] == 1 and "no event_id" in done["dead_letters"][0]["detail"]
        assert self.replay(scene, "--all")["skipped"] == 1
        assert self.sent(scene) == []
        assert self.replay(scene, identifier, "--force")["sent"] == 1

    def test_replayed_ones_are_left_alone_unless_asked_for_again(self, scene):
        identifier = self.refuse(scene, self.EVENT)
        self.replay(scene, "--all")
        assert self.replay(scene, "--all")["sent"] == 0
        assert "--again" in self.replay(scene, identifier, code=1)["dead_letters"][0]["detail"]
        assert self.replay(scene, identifier, "--again")["sent"] == 1

    def test_a_dry_run_sends_nothing(self, scene):
        self.refuse(scene, self.EVENT)
        done = self.replay(scene, "--all", "--dry-run")
        assert done["sent"] == 1 and done["dead_letters"][0]["detail"] == "would be sent"
        assert self.sent(scene) == [] and scene.value("SELECT replayed_at FROM dead_letter") is None

    def test_a_reason_chooses(self, scene):
        self.refuse(scene, self.EVENT, reason="too_old")
        self.refuse(scene, {**self.EVENT, "event_id": "e2"})
        self.replay(scene, "--reason", "too_old")
        assert [json.loads(r.value)["event_id"] for r in self.sent(scene)] == ["e1"]

    def test_a_topic_that_nobody_reads_is_not_sent_to(self, scene):
        done = self.replay(scene, self.refuse(scene, self.EVENT, topic="elsewhere"), code=1)
        assert "kafka.usage_topics" in done["dead_letters"][0]["detail"]

    def test_more_than_one_chunk_is_sent_each_once(self, scene):
        for number in range(120):
            self.refuse(scene, {**self.EVENT, "event_id": f"e{number}"})
        assert self.replay(scene, "--all")["sent"] == 120
        assert sorted(json.loads(r.value)["event_id"] for r in self.sent(scene)) == sorted(f"e{n}" for n in range(120))

    @pytest.mark.parametrize("arguments", [[], ["--all", "1"], ["x"], ["--reason", "nonsense"], ["--all", "--since", "y"]])
    def test_unclear_orders_are_wrong_usage(self, scene, arguments):
        self.replay(scene, *arguments, code=2)

    def test_an_unknown_id_is_said(self, scene):
        assert "no such" in self.replay(scene, 99, code=1)["dead_letters"][0]["detail"]

    def test_list_filters_and_limits_the_newest_first(self, scene):
        for number in range(3):
            self.refuse(scene, self.EVENT, partition=number)
        listed = json.loads(scene.usagebox.command("dead-letters", "list", "--json", "--limit", "2").stdout)
        assert [d["partition"] for d in listed["dead_letters"]] == [2, 1] and listed["more"]
        only = scene.usagebox.command("dead-letters", "list", "--json", "--partition", "0", "--since", "1h",
                                      "--reason", "key_mismatch").stdout
        assert [d["record_time"] for d in json.loads(only)["dead_letters"]] == ["2026-11-02T18:00:00.123Z"]
        none = scene.usagebox.command("dead-letters", "list", "--topic", "elsewhere").stdout
        assert none == "no dead letters\n"

    def test_show_gives_text_where_it_is_text_and_bytes_where_it_is_not(self, scene):
        identifier = self.refuse(scene, b"\xff\x00", key="kü".encode(), headers=[("a", b"b"), ("c", None)])
        shown = json.loads(scene.usagebox.command("dead-letters", "show", str(identifier), "--json").stdout)
        assert (shown["key"], shown["payload"], shown["payload_hex"]) == ("kü", None, "ff00")
        assert shown["headers"] == [{"name": "a", "value": "b"}, {"name": "c", "value": None}]
        assert "replay" in shown["hint"]
        text = scene.usagebox.command("dead-letters", "show", str(identifier)).stdout
        assert "2 bytes, not UTF-8: ff00" in text and "header       a: b" in text

    def test_what_a_producer_sent_cannot_write_to_the_terminal(self, scene):
        identifier = self.refuse(scene, b'{"\x1b[31m": 1}')
        assert "\x1b" not in scene.usagebox.command("dead-letters", "show", str(identifier)).stdout


class TestOffsets:
    """What a running process makes of it is tested with the pipeline."""

    def place(self, scene, next_offset, partition=0, epoch=5):
        scene.query("INSERT INTO consumer_offset (topic, kafka_partition, next_offset, epoch, last_offset, "
                    "last_fingerprint) VALUES (%s, %s, %s, %s, %s, 99)", scene.topics.usage[0], partition, next_offset,
                    epoch, next_offset - 1)

    def offsets(self, scene, verb, *arguments, code=0, partition=0):
        done = scene.usagebox.command("offsets", verb, "--topic", scene.topics.usage[0], "--partition", str(partition),
                                      "--json", *map(str, arguments), check=False)
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout) if code == 0 else done.stderr

    def fill(self, scene, count, removed=0):
        for _ in range(count):
            scene.produce(b"x", partition=0)
        if removed:
            scene.topics.delete_records(scene.topics.usage[0], {0: removed})

    def chain(self, before, row):
        def text(value):
            return struct.pack(">I", len(value.encode())) + value.encode()

        numbers = [row.batch_id, row.epoch, row.first_offset, row.next_offset, row.accepted, row.duplicate, row.dead,
                   row.hole, row.gap]
        return hashlib.blake2b(before + text(row.topic) + struct.pack(">I9q", row.kafka_partition, *numbers) +
                               row.digest + text(row.reason) + text(row.actor), digest_size=32).digest()

    def test_removed_records_are_accepted_as_a_gap(self, scene):
        self.fill(scene, 5, removed=4)
        self.place(scene, 2)
        done = self.offsets(scene, "accept", "--reason", "retention was too short")
        assert (done["from_offset"], done["to_offset"], done["gap"]) == (2, 4, 2)
        [row] = scene.query("SELECT * FROM batch_ledger")
        assert (row.gap, row.reason, row.epoch) == (2, "retention was too short", 6) and "@" in row.actor
        [place] = scene.query("SELECT * FROM consumer_offset")
        assert (place.next_offset, place.epoch, place.last_offset, place.last_fingerprint) == (4, 6, -1, 0)

    def test_the_ledger_stays_chained(self, scene):
        self.fill(scene, 5)
        self.place(scene, 2)
        self.offsets(scene, "seek", "--offset", 4, "--reason", "ä first")
        self.offsets(scene, "seek", "--offset", 1, "--reason", "second")
        first, second = scene.query("SELECT * FROM batch_ledger ORDER BY batch_id")
        assert first.chain == self.chain(bytes(32), first) and second.chain == self.chain(first.chain, second)
        assert scene.value("SELECT chain FROM consumer_offset") == second.chain
        assert (second.first_offset, second.next_offset, second.gap) == (4, 1, -3)

    def test_accept_refuses_where_nothing_is_missing(self, scene):
        self.fill(scene, 2)
        self.place(scene, 2)
        assert "nothing to accept" in self.offsets(scene, "accept", "--reason", "r", code=1)
        assert scene.query("SELECT * FROM batch_ledger") == []

    def test_a_partition_that_was_never_read_can_be_sent_on(self, scene):
        self.fill(scene, 3)
        assert self.offsets(scene, "seek", "--offset", 3, "--reason", "only new ones")["gap"] == 3
        assert scene.value("SELECT next_offset FROM consumer_offset") == 3

    def test_an_offset_outside_of_the_log_is_refused(self, scene):
        self.fill(scene, 5, removed=2)
        for offset in (1, 6):
            assert "holds offsets 2 to 5" in self.offsets(scene, "seek", "--offset", offset, "--reason", "r", code=1)

    def test_the_epoch_rises_for_all_topics_of_the_lane(self, scene):
        self.fill(scene, 1)
        self.place(scene, 0)
        scene.query("INSERT INTO consumer_offset (topic, kafka_partition, epoch) VALUES ('other', 0, 8), ('other', 1, 8)")
        self.offsets(scene, "seek", "--offset", 1, "--reason", "r")
        epochs = scene.query("SELECT kafka_partition, epoch FROM consumer_offset ORDER BY 1, 2")
        assert [tuple(row) for row in epochs] == [(0, 9), (0, 9), (1, 8)]

    @pytest.mark.parametrize("arguments", [["--offset", "1"], ["--offset", "1", "--reason", ""], ["--reason", "r"]])
    def test_an_order_without_reason_or_offset_is_wrong_usage(self, scene, arguments):
        self.offsets(scene, "seek", *arguments, code=2)

    def test_a_partition_that_is_not_there_is_refused(self, scene):
        assert "artition" in self.offsets(scene, "seek", "--offset", 0, "--reason", "r", partition=9, code=1)
        assert scene.query("SELECT * FROM consumer_offset") == []

    def test_list_shows_where_each_partition_stands(self, scene):
        self.place(scene, 7, partition=1)
        [listed] = json.loads(scene.usagebox.command("offsets", "list", "--json").stdout)
        assert (listed["partition"], listed["next_offset"], listed["epoch"], listed["read_through"]) == (1, 7, 5, None)

    @pytest.mark.parametrize("answer, moved", [("n\n", 0), ("y\n", 1)])
    def test_a_person_at_a_terminal_is_asked(self, scene, answer, moved):
        self.fill(scene, 1)
        person, terminal = pty.openpty()
        os.write(person, answer.encode())
        done = subprocess.run([BINARY, "offsets", "seek", "-c", scene.config_path, "--topic", scene.topics.usage[0],
                               "--partition", "0", "--offset", "1", "--reason", "r"], stdin=terminal,
                              capture_output=True, timeout=60, check=False)
        os.close(person)
        os.close(terminal)
        assert b"[y/N]" in done.stderr and done.returncode == 1 - moved
        assert scene.value("SELECT count(*) FROM batch_ledger") == moved
