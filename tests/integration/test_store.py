"""The store against a real PostgreSQL: its tests are C programs, each run here with a database of its own, as a
role with no more than the writer's rights."""
import datetime
import os
import subprocess

import pytest
from database import Database
from stack import ROOT, Stack


@pytest.fixture
def database(stack):
    stack.ensure_running()
    made = Database(stack)
    yield made
    made.drop()


@pytest.fixture
def writer(database):
    name = f"{database.name}_writer"
    make_writer(database, name)
    yield name
    database.query(f"DROP OWNED BY {name}; DROP ROLE {name}")


def make_writer(database, name):
    database.query(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")


def run_program(program, database, writer, more=None, build="asan"):
    path = f"build/{build}/integration/{program}"
    subprocess.run(["make", "-s", path], cwd=ROOT, check=True)
    dsns = {"USAGEBOX_TEST_DSN": database.dsn, "USAGEBOX_TEST_WRITER_DSN": database.dsn_as(writer, "secret")}
    # of the calls that fail in turn, each day others; all: STEP=1 FIRST=1, which takes some minutes
    slice_of_calls = {"STEP": "29", "FIRST": str(1 + datetime.date.today().toordinal() % 29)}
    done = subprocess.run([ROOT / path], env={**slice_of_calls, **os.environ, **dsns, **(more or {})}, capture_output=True,
                          text=True, timeout=None if "STEP" in os.environ else 300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("program", ["store_batch_test", "store_lane_test", "store_links_test", "store_loss_test",
                                     "store_failing_test"])
def test_the_store_keeps_its_promises_against_a_real_server(database, writer, program):
    run_program(program, database, writer)


@pytest.mark.parametrize("program", ["store_servers_test"])
def test_the_store_keeps_its_promises_between_two_servers(database, writer, program):
    second = Stack.of_postgresql_alone()
    try:
        there = Database(second)
        make_writer(there, writer)
        run_program(program, database, writer, {
            "USAGEBOX_TEST_OTHER_DSN": there.dsn, "USAGEBOX_TEST_OTHER_WRITER_DSN": there.dsn_as(writer, "secret")})
    finally:
        second.close()


@pytest.mark.parametrize("program", ["store_links_test"])
def test_threads_of_two_links_share_nothing_that_is_not_ordered(database, writer, program):
    """By TSan, to which what is sent and received is no order."""
    run_program(program, database, writer, {"TSAN_OPTIONS": "io_sync=0"}, build="tsan")
