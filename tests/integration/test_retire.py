"""usagebox offsets retire: a topic that is read no more holds nothing up, and is no less accounted for."""
import json

import pytest
from stack import wait_until

REASON = "merged into the other topic"


def event(number):
    return {"event_id": f"e-{number}", "customer_id": f"c{number}", "meter": "m", "quantity": 1}


@pytest.fixture
def scene(make_scene):
    """Two topics were read to their ends; one is not in the configuration any more."""
    scene = make_scene(usage_topics=2).migrate()
    process = scene.usagebox.start()
    for topic in scene.topics.usage:
        scene.produce(*map(event, range(6)), topic=topic)
    scene.wait_consumed()
    assert process.terminate() == 0
    scene.kept, scene.gone = scene.topics.usage
    scene.configure({"kafka": {"usage_topics": [scene.kept]}})
    scene.query("UPDATE consumer_offset SET updated_at = now() - interval '20 s'")
    return scene


def retire(scene, *options, topic=None):
    return scene.usagebox.command("offsets", "retire", topic or scene.gone, "--reason", REASON, *options, check=False)


def warned(scene):
    findings = json.loads(scene.usagebox.command("check", "--json", check=False).stdout)["findings"]
    return [f for f in findings if f["where"] == "kafka.usage_topics"]


def passes(scene, moment):
    return scene.value("SELECT complete_through > %s FROM usage_watermark", moment)


def test_the_watermark_waits_for_it_no_longer_and_verify_finds_all_in_order(scene):
    assert f"usagebox offsets retire {scene.gone}" in warned(scene)[0]["remedy"]
    scene.usagebox.start()
    now = scene.value("SELECT clock_timestamp()")
    scene.produce(*map(event, range(10, 16)), topic=scene.kept)
    scene.wait_consumed()
    assert not passes(scene, now)
    done = retire(scene)
    assert done.returncode == 0 and f"the 3 partitions of {scene.gone}" in done.stdout
    wait_until(lambda: passes(scene, now), 10, "the watermark to pass")
    assert warned(scene) == []
    scene.usagebox.command("verify")
    rows = scene.query("SELECT kafka_partition, next_offset - first_offset AS length, gap, actor LIKE '%%@%%' AS told FROM "
                       "batch_ledger WHERE topic = %s AND reason = %s ORDER BY 1", scene.gone, REASON)
    assert [tuple(row) for row in rows] == [(partition, 0, 0, True) for partition in range(3)]
    listed = json.loads(scene.usagebox.command("offsets", "list", "--json").stdout)
    assert {row["topic"] for row in listed if row["retired_at"]} == {scene.gone}


def test_put_back_it_goes_on_where_it_stood_and_counts_again(scene):
    before = scene.consumed()
    assert json.loads(retire(scene, "--json").stdout)["partitions"] == 3
    now = scene.value("SELECT clock_timestamp()")
    scene.configure({"kafka": {"usage_topics": [scene.kept, scene.gone]}})
    scene.produce(*map(event, range(20, 26)), topic=scene.gone)
    process = scene.usagebox.start()
    scene.wait_consumed()
    assert scene.value("SELECT count(*) FROM consumer_offset WHERE retired_at IS NOT NULL") == 0
    assert all(scene.consumed()[place] >= offset for place, offset in before.items())
    assert scene.value("SELECT count(*) FROM usage_event") == 12
    wait_until(lambda: passes(scene, now), 10, "the watermark to pass")
    assert process.terminate() == 0
    scene.usagebox.command("verify")


def test_it_is_refused_while_somebody_reads_the_topic(scene):
    assert "is among kafka.usage_topics" in retire(scene, topic=scene.kept).stderr
    scene.configure({"kafka": {"usage_topics": [scene.kept, scene.gone]}})
    process = scene.usagebox.start()
    scene.configure({"kafka": {"usage_topics": [scene.kept]}})
    wait_until(lambda: "within the last 15 s" in retire(scene).stderr, 10, "a refusal")
    process.sigstop()
    scene.query("UPDATE consumer_offset SET updated_at = now() - interval '20 s'")
    assert retire(scene).returncode == 0
    process.sigcont()
    wait_until(lambda: scene.value("SELECT count(*) FROM consumer_offset WHERE retired_at IS NOT NULL") == 0, 30,
               "a process that slept, to make it count again")
    process.wait_ready()
    process.terminate()
    scene.usagebox.command("verify")


def test_what_was_never_read_or_is_set_aside_already_is_an_error(scene):
    assert "was read, or all are set aside" in retire(scene, topic="nobody-knows-it").stderr
    assert retire(scene).returncode == 0
    assert retire(scene).returncode == 1
    assert scene.usagebox.command("offsets", "retire", scene.gone, check=False).returncode == 2
    assert scene.usagebox.command("offsets", "retire", check=False).returncode == 2
