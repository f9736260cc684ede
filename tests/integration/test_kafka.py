"""Source and flags against a real Kafka, in C: what no whole run can be made to do."""
import datetime
import os
import subprocess

from stack import ROOT

RECORDS = 30


def test_each_failing_call_of_librdkafka_is_tried_again(make_scene):
    scene = make_scene(partitions=2)
    program = "build/asan/integration/kafka_failing_test"
    subprocess.run(["make", "-s", program], cwd=ROOT, check=True)
    for partition in range(2):
        scene.produce(*[f"{n}".encode() for n in range(RECORDS)], key="k", partition=partition)
    names = {"USAGEBOX_TEST_KAFKA": scene.stack.kafka, "USAGEBOX_TEST_TOPIC": scene.topics.usage[0],
             "USAGEBOX_TEST_ENFORCEMENT": scene.topics.enforcement, "USAGEBOX_TEST_GROUP": scene.topics.enforcement,
             "USAGEBOX_TEST_RECORDS": str(RECORDS)}
    # of the calls that fail in turn, each day others; all: STEP=1 FIRST=1, which takes a minute
    slice_of_calls = {"STEP": "5", "FIRST": str(1 + datetime.date.today().toordinal() % 5)}
    done = subprocess.run([ROOT / program], env={**slice_of_calls, **os.environ, **names}, capture_output=True, text=True,
                          timeout=None if "STEP" in os.environ else 300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
