"""The store against a real PostgreSQL: its tests are a C program, run here with a database of their own."""
import os
import subprocess

from database import Database
from stack import ROOT


def test_the_store_keeps_its_promises_against_a_real_server(stack):
    stack.ensure_running()
    program = "build/asan/integration/store_test"
    subprocess.run(["make", "-s", program], cwd=ROOT, check=True)
    database = Database(stack)
    try:
        done = subprocess.run([ROOT / program], env={**os.environ, "USAGEBOX_TEST_DSN": database.dsn},
                              capture_output=True, text=True, timeout=300, check=False)
    finally:
        database.drop()
    assert done.returncode == 0, done.stdout + done.stderr
