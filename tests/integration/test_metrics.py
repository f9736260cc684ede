"""What an operator watches: the exposition is one, its figures are PostgreSQL's, and health says what is so."""
import json
import os
import pathlib
import shutil
import subprocess
import threading

import pytest
from oracle import partition_of
from stack import wait_until
from test_usage_event_schema import VALIDATOR
from workload import Workload, send

CACHE = pathlib.Path(os.environ.get("USAGEBOX_CACHE", pathlib.Path.home() / ".cache/usagebox"))
COUNTERS = {"usagebox_events_accepted_total": "accepted", "usagebox_duplicates_total": "duplicate",
            "usagebox_hole_offsets_total": "hole", "usagebox_gap_offsets_total": "gap"}


def lint(exposition):
    """What promtool finds fault with."""
    promtool = shutil.which("promtool") or CACHE / "bin/promtool"
    done = subprocess.run([promtool, "check", "metrics"], input=exposition, text=True, capture_output=True, check=False)
    return done.returncode, done.stdout + done.stderr


def load(scene, count, seed=1):
    send(producer := scene.topics.producer(), Workload(seed=seed), count)
    producer.flush()


def reasons(process, path="/readyz"):
    status, body = process.http(path)
    return status, json.loads(body)["reasons"]


@pytest.fixture
def running(make_scene):
    scene = make_scene(config={"ceilings": [{"name": "few", "customer": "*", "meter": "tool_calls", "period": "month",
                                             "limit": 10, "policy": "alert"}]}).migrate()
    scene.usagebox.command("ceilings", "apply")
    return scene, scene.usagebox.start()


def wait_stored(scene, process):
    """Until the process has published what it last committed."""
    scene.wait_consumed()
    total = scene.value("SELECT sum(accepted) FROM batch_ledger")
    wait_until(lambda: process.metrics()["usagebox_events_accepted_total"] == total, 10, "the last batch in the metrics")
    return process.metrics()


class TestMetrics:
    def test_promtool_has_nothing_against_them_at_any_moment_of_a_load(self, running):
        scene, process = running
        loading = threading.Thread(target=load, args=(scene, 30_000))
        seen = set()
        loading.start()
        try:
            while loading.is_alive():
                status, exposition = process.http("/metrics")
                assert status == 200 and lint(exposition) == (0, "")
                seen.add(exposition)
        finally:
            loading.join()
        assert len(seen) > 1

    def test_promtool_has_nothing_against_them_before_anything_was_counted(self, make_scene):
        process = make_scene().usagebox.start(ready=False)  # there are no tables
        wait_until(lambda: process.http("/metrics")[0] == 200, 10, "/metrics")
        assert lint(process.http("/metrics")[1]) == (0, "")

    def test_promtool_is_able_to_find_fault(self):
        assert lint("usagebox_total 1\nusagebox_total 2\n")[0] != 0

    def test_totals_are_those_of_postgresql(self, running):
        scene, process = running
        load(scene, 20_000)
        metrics = wait_stored(scene, process)
        for name, column in COUNTERS.items():
            assert metrics[name] == scene.value(f"SELECT sum({column}) FROM batch_ledger"), name
        assert metrics["usagebox_conflicts_total"] == scene.value("SELECT count(*) FROM event_conflict") > 0
        dead = dict(scene.query("SELECT reason, count(*) FROM dead_letter GROUP BY reason"))
        counted = {name.split('"')[1]: value for name, value in metrics.items()
                   if name.startswith("usagebox_dead_letters_total{") and value}
        assert counted == dead and len(dead) > 3
        assert metrics["usagebox_dedupe_entries"] == metrics["usagebox_events_accepted_total"]
        assert metrics["usagebox_batch_rows_sum"] == metrics["usagebox_events_accepted_total"]
        assert metrics["usagebox_batch_rows_count"] == metrics["usagebox_batch_commit_seconds_count"] == \
            metrics["usagebox_batches_committed_total"]

    def test_flags_are_counted_and_timed(self, running):
        scene, process = running
        load(scene, 5_000)
        metrics = wait_stored(scene, process)
        decided = scene.value("SELECT count(*) FROM policy_decision")
        assert metrics["usagebox_decisions_total"] == decided > 0
        published = scene.value("SELECT count(*) FROM policy_decision WHERE published")
        assert metrics["usagebox_flags_sent_total"] == metrics["usagebox_flags_acknowledged_total"] == published
        assert metrics["usagebox_flag_decided_seconds_count"] == metrics["usagebox_flag_record_seconds_count"] == published
        assert metrics["usagebox_flags_pending"] == 0

    def test_lag_is_what_lies_behind_the_committed_offsets(self, running):
        scene, process = running
        usage = scene.topics.usage[0]
        lag = [f'usagebox_lag_records{{topic="{usage}",partition="{partition}"}}' for partition in range(3)]
        load(scene, 1_000)
        scene.wait_consumed()
        wait_until(lambda: [process.metrics()[name] for name in lag] == [0, 0, 0], 10, "no lag")
        scene.stack.pg_stop("fast")
        event = {"event_id": "e-1", "customer_id": "acme", "meter": "m", "quantity": 1}
        scene.produce(*[{**event, "event_id": f"e-{n}"} for n in range(7)])
        expected = [7 if partition == partition_of(b"acme", 3) else 0 for partition in range(3)]
        wait_until(lambda: [process.metrics()[name] for name in lag] == expected, 30, "a lag of seven")
        assert process.metrics()["usagebox_store_up"] == 0
        scene.stack.pg_start()
        wait_until(lambda: [process.metrics()[name] for name in lag] == [0, 0, 0], 30, "no lag again")

    def test_keys_that_a_takeover_restores_are_counted(self, running):
        scene, process = running
        load(scene, 3_000)
        keys = wait_stored(scene, process)["usagebox_dedupe_entries"]
        process.kill9()
        metrics = scene.usagebox.start().metrics()
        assert metrics["usagebox_restored_keys_total"] == metrics["usagebox_dedupe_entries"] == keys > 1000
        assert metrics["usagebox_restore_remaining_keys"] == 0

    def test_delayed_and_impossible_seals_are_told(self, make_scene):
        scene = make_scene(config={"dedupe": {"window": "1h"}}).migrate()
        for ago in (3, 4, 5):
            scene.query(f"SELECT usagebox_make_day((now() AT TIME ZONE 'UTC')::date - {ago})")
        scene.query("INSERT INTO sealed_day (day, duplicates) VALUES ((now() AT TIME ZONE 'UTC')::date - 5, 2), "
                    "((now() AT TIME ZONE 'UTC')::date - 4, 0)")
        scene.query("INSERT INTO consumer_offset (topic, kafka_partition) VALUES ('never-read', 0)")
        process = scene.usagebox.start()
        wait_until(lambda: process.metrics()["usagebox_keeper_turned_timestamp_seconds"] > 0, 10, "a turn of the keeper")
        metrics = process.metrics()
        assert metrics["usagebox_keeper_up"] == 1
        assert metrics["usagebox_seals_refused"] == 1
        assert metrics["usagebox_seals_pending"] == scene.value(
            "SELECT count(*) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'usage_event'::regclass "
            "AND right(relname, 8) < to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')") - 1
        assert 3 * 86400 < metrics["usagebox_seal_delay_seconds"] < 5 * 86400


class TestHealth:
    def test_a_process_is_ready_once_its_lanes_are_restored_and_not_before(self, make_scene):
        scene = make_scene().migrate()
        first = scene.usagebox.start()
        assert reasons(first) == (200, []) and reasons(first, "/healthz") == (200, [])
        scene.stack.pg_stop("fast")
        second = scene.usagebox.start(ready=False)
        wait_until(lambda: second.http("/healthz")[0] == 200, 10, "/healthz")
        status, why = reasons(second)
        assert status == 503 and why
        scene.stack.pg_start()
        wait_until(lambda: reasons(first)[0] == 200 and reasons(second)[0] == 200, 60, "both ready")
        assert first.metrics()['usagebox_lanes{state="running"}'] + second.metrics()['usagebox_lanes{state="running"}'] == 3

    def test_one_without_lanes_is_alive_and_not_ready(self, make_scene):
        scene = make_scene(partitions=1).migrate()
        processes = [scene.usagebox.start(), scene.usagebox.start(ready=False)]
        wait_until(lambda: sorted(reasons(p)[0] for p in processes) == [200, 503] and
                   sorted(reasons(p, "/healthz")[0] for p in processes) == [200, 200], 60, "one ready, both alive")
        assert ["no lane is assigned to this process"] in [reasons(p)[1] for p in processes]

    def test_without_postgresql_it_is_alive_and_not_ready(self, running):
        scene, process = running
        scene.stack.pg_stop("immediate")
        wait_until(lambda: reasons(process)[0] == 503, 30, "not ready")
        assert "PostgreSQL does not answer" in reasons(process)[1]
        assert reasons(process, "/healthz") == (200, [])
        scene.stack.pg_start()
        process.wait_ready()

    def test_a_stopped_lane_makes_it_not_ready_and_says_how_to_free_it(self, make_scene):
        scene = make_scene(partitions=2).migrate()
        process = scene.usagebox.start()
        scene.produce(*[{"event_id": f"e-{n}", "customer_id": f"c-{n}", "meter": "m", "quantity": 1} for n in range(20)])
        scene.wait_consumed()
        scene.query("UPDATE consumer_offset SET next_offset = 1000, epoch = epoch + 1 WHERE kafka_partition = 0")
        wait_until(lambda: any("lane 0 is stopped" in why for why in reasons(process)[1]), 30, "a stopped lane")
        assert reasons(process)[0] == 503 and "usagebox offsets seek" in reasons(process)[1][0]
        metrics = process.metrics()
        assert metrics['usagebox_lanes{state="stopped"}'] == metrics['usagebox_lanes{state="running"}'] == 1


def test_what_is_accepted_is_valid_by_the_schema_that_producers_get(scene):
    scene.migrate()
    scene.usagebox.start()
    scene.usagebox.command("produce", "--generate", "2000", "--bad", "0.2", "--late", "0.05", "--seed", "11")
    scene.wait_consumed()
    accepted = [json.loads(payload) for (payload,) in scene.query("SELECT payload FROM usage_event")]
    assert len(accepted) > 1000
    for event in accepted:
        VALIDATOR.validate(event)
    refused = scene.query("SELECT reason, payload FROM dead_letter WHERE reason IN ('missing_field', 'wrong_type', "
                          "'bad_timestamp', 'not_an_object', 'out_of_range')")
    assert len(refused) > 100
    for reason, payload in refused:
        assert not VALIDATOR.is_valid(json.loads(payload)), (reason, payload)
