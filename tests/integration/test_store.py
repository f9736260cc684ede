"""The store against a real PostgreSQL: its tests are C programs, each run here with a database of its own."""
import os
import subprocess

import pytest
from database import Database
from stack import ROOT


@pytest.mark.parametrize("program", ["store_batch_test", "store_lane_test"])
def test_the_store_keeps_its_promises_against_a_real_server(stack, program):
    stack.ensure_running()
    path = f"build/asan/integration/{program}"
    subprocess.run(["make", "-s", path], cwd=ROOT, check=True)
    database = Database(stack)
    try:
        done = subprocess.run([ROOT / path], env={**os.environ, "USAGEBOX_TEST_DSN": database.dsn},
                              capture_output=True, text=True, timeout=300, check=False)
    finally:
        database.drop()
    assert done.returncode == 0, done.stdout + done.stderr
