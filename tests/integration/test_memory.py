"""A whole run, from the first record to SIGTERM, touches no memory that it must not and leaks none: under ASan, or
under what USAGEBOX names, such as tests/valgrind.sh (`make valgrind`)."""
import os
import re
import subprocess

import process
import pytest
from counting import assert_counted_once
from stack import ROOT
from workload import Workload, send

REPORT = re.compile(r"AddressSanitizer|LeakSanitizer|runtime error|^==\d+==", re.MULTILINE)


@pytest.fixture
def watched_binary(monkeypatch):
    """Not another binary than the one that is asked for; ASan's if none is."""
    if "USAGEBOX" in os.environ:
        return
    subprocess.run(["make", "-s", "build/asan/usagebox"], cwd=ROOT, check=True)
    monkeypatch.setattr(process, "BINARY", ROOT / "build/asan/usagebox")


def ceiling(policy, **who):
    return {"name": f"{policy}-ceiling", "meter": "llm_tokens_in", "period": "hour", "limit": 1000, "policy": policy,
            **who}


@pytest.mark.usefixtures("watched_binary")
def test_a_run_leaks_nothing_and_touches_nothing_that_is_not_its_own(make_scene):
    ceilings = [ceiling("alert", customer="*"), ceiling("hard-stop", plan="pro")]
    scene = make_scene(partitions=3, usage_topics=2, config={"ceilings": ceilings}).migrate()
    scene.usagebox.command("ceilings", "apply")
    running = scene.usagebox.start(ready=False).wait_ready(timeout_s=180)
    workload, producer = Workload(seed=5), scene.topics.producer()
    send(producer, workload, 1_000)
    records = producer.flush()
    scene.wait_consumed(timeout_s=180)
    scene.stack.pg_stop("immediate")
    send(producer, workload, 500)
    records += producer.flush()
    scene.stack.pg_start()
    send(producer, workload, 500)
    records += producer.flush()
    for path in "/metrics", "/healthz", "/readyz", "/nowhere":
        running.http(path, timeout_s=60)
    scene.wait_consumed(timeout_s=300)
    status = running.terminate(timeout_s=180)
    assert not REPORT.search(running.log()), running.log()
    assert status == 0, running.log()
    assert_counted_once(scene, records)
