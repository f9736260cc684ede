"""status and tail: what people look at."""
import json
import time

import pytest
from stack import wait_until

CEILINGS = [{"name": "in-a-day", "customer": "*", "meter": "llm_tokens_in", "period": "day", "limit": 1000,
             "policy": "hard-stop"}]


def event(number, **more):
    return {"event_id": f"e-{number}", "customer_id": "acme-co", "meter": "llm_tokens_in", "quantity": 12450,
            "model": "claude-4.5-sonnet", "timestamp": int(time.time() * 1000), **more}


@pytest.fixture
def running(make_scene):
    scene = make_scene(config={"ceilings": CEILINGS}).migrate()
    scene.usagebox.command("ceilings", "apply")
    scene.usagebox.start()
    wait_until(lambda: scene.value("SELECT count(*) FROM ceiling_adoption") == 3, 30, "adoption of the ceilings")
    return scene


def status(scene, *options, env=None):
    return json.loads(scene.usagebox.command("status", "--json", *options, env=env).stdout)


class TestStatus:
    def test_before_anything_was_read_there_is_nothing_to_show(self, make_scene):
        scene = make_scene().migrate()
        now = status(scene)
        assert now["lanes"] == [] and now["complete_through"] is None and now["ceilings"] == []
        assert {row["outcome"]: row["total"] for row in now["totals"]}["accepted"] == 0
        assert "no partition was ever read" in scene.usagebox.command("status").stdout

    def test_it_says_what_became_of_all_records_and_who_is_over(self, running):
        running.produce(event(1), event(1), event(1, quantity=5), {**event(2), "quantity": 3})
        running.produce(b"{", key="acme-co")
        running.wait_consumed()
        now = status(running)
        totals = {row["outcome"]: (row["total"], row["last_24h"]) for row in now["totals"]}
        assert totals == {"accepted": (2, 2), "duplicate": (2, 2), "dead": (1, 1), "hole": (0, 0), "gap": (0, 0),
                          "conflict": (1, 1)}
        (dead,) = now["dead_letters"]
        assert dead["count"] == 1 and dead["replayed"] == 0
        (ceiling,) = now["ceilings"]
        assert (ceiling["ceiling"], ceiling["limit"], ceiling["over_now"]) == ("in-a-day", "1000", 1)
        assert now["last_commit_s_ago"] < 30 and now["kafka_trouble"] is None
        assert {row["state"] for row in now["days"]} == {"open", "ahead"}

    def test_lag_is_what_lies_behind_the_committed_offset(self, running):
        running.produce(*[event(n) for n in range(10)])
        running.wait_consumed()
        running.usagebox.stop_all()
        running.produce(*[event(n) for n in range(100, 107)])
        lanes = {lane["partition"]: lane for lane in status(running)["lanes"]}
        assert len(lanes) == 3
        assert sorted(lane["lag"] for lane in lanes.values()) == [0, 0, 7]
        busy = max(lanes.values(), key=lambda lane: lane["lag"])
        assert (busy["next_offset"], busy["end_offset"]) == (10, 17) and busy["owner"]

    def test_without_kafka_it_shows_all_but_end_offsets(self, running):
        env = {"USAGEBOX_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
        began = time.monotonic()
        now = status(running, env=env)
        assert time.monotonic() - began < 10
        assert now["kafka_trouble"] and now["lanes"][0]["end_offset"] is None
        assert status(running, "--no-kafka")["lanes"][0]["lag"] is None
        assert "end offsets are not known" in running.usagebox.command("status", "--no-kafka").stdout

    def test_without_postgresql_it_fails_with_one_sentence(self, make_scene):
        done = make_scene().usagebox.command("status", check=False,
                                             env={"USAGEBOX_POSTGRES_DSN": "postgresql://127.0.0.1:1/x"})
        assert done.returncode == 1 and done.stderr.startswith("usagebox status: ")
