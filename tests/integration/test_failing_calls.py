"""Each call of libpq and librdkafka that a command makes fails in turn: nothing is done by halves, and nothing said
that is not so."""
import json
import time

import psycopg2
import pytest
from enforcing import use
from failing import FailingCalls, each_how, slice_of
from test_ops import TestDeadLetters as DeadLetters
from test_ops import ceiling, scene  # noqa: F401: a fixture
from test_repartition import add_partitions
from test_verify import Database, database, written  # noqa: F401: fixtures


def of(database):  # noqa: F811
    return {"USAGEBOX_POSTGRES_DSN": database.dsn}


class Orders:
    """A command that changes a database: each attempt finds it as the scene's is. What fails is given again."""

    def __init__(self, scene, *arguments):
        self.scene, self.arguments, self.failing = scene, arguments, FailingCalls(scene)

    def each(self, how, state, library="PQ", size=4):
        """Gives each call's attempt: (what the command said, the state it left, the state after another try)."""
        at, calls = 0, [0]
        while calls:
            copy = Database(self.scene)
            try:
                done = self.failing.command(*self.arguments, at=at, how=how, library=library, env=of(copy))
                left = state(copy)
                again = self.scene.usagebox.command(*self.arguments, check=False, env=of(copy))
                assert self.scene.usagebox.command("verify", check=False, env=of(copy)).returncode == 0
                yield done, left, (again.returncode, state(copy))
            finally:
                copy.drop()
            calls = list(slice_of(self.failing.calls, size)) if at == 0 else calls[1:]
            at = calls[0] if calls else 0


class TestVerify:
    """A report is the whole report, or none."""

    @staticmethod
    def sweep(database, how):  # noqa: F811
        failing = FailingCalls(database.scene)
        expected = failing.command("verify", "--json", env=of(database))
        for at in slice_of(failing.calls, 4):
            done = failing.command("verify", "--json", at=at, how=how, env=of(database))
            if done.stdout.strip():
                assert json.loads(done.stdout) == json.loads(expected.stdout), f"call {at}: {failing.failed}"
                assert done.returncode == expected.returncode
            else:
                assert done.returncode == 1

    @each_how
    def test_what_is_right_is_said_to_be_right_only_if_all_was_looked_at(self, database, how):  # noqa: F811
        self.sweep(database, how)

    @each_how
    def test_no_difference_is_left_out(self, database, how):  # noqa: F811
        database.tamper("DELETE FROM usage_event WHERE event_id IN ('e-7', 'e-12')")
        database.tamper("UPDATE ceiling_usage SET used = used + 1")
        database.tamper("DELETE FROM policy_decision")
        self.sweep(database, how)


def rows(copy, statement):
    connection = psycopg2.connect(copy.dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()
    finally:
        connection.close()


def all_or_nothing(attempts, before):
    """Of all attempts: nothing was done, or all was, and then it is not done twice."""
    done, after, again = next(attempts)
    assert (done.returncode, done.stderr) == (0, "") and after != before(after) and again[1] == after
    for done, left, again in attempts:
        assert left == after if done.returncode == 0 else left in (before(after), after), done.stderr
        assert again[1] == after, done.stderr


@each_how
def test_ceilings_are_applied_whole_and_once(make_scene, how):
    scene = make_scene(config={"ceilings": [ceiling("a"), ceiling("b"), ceiling("c")]}).migrate()
    scene.usagebox.command("ceilings", "apply")
    scene.configure({"ceilings": [ceiling("a"), ceiling("b", limit=200), ceiling("d")]})
    state = "SELECT name, version, generation, retired_generation, (SELECT value FROM setting WHERE name = " \
            "'ceilings_generation') FROM ceiling ORDER BY 1, 2"
    before = scene.query(state)
    attempts = Orders(scene, "ceilings", "apply").each(how, lambda copy: rows(copy, state))
    all_or_nothing(attempts, lambda after: [tuple(row) for row in before])


@each_how
def test_an_offset_is_moved_with_its_ledger_row_or_not_at_all(make_scene, how):
    scene = make_scene().migrate()
    scene.produce(*[b"x"] * 5, partition=0, key="k")
    scene.query("INSERT INTO consumer_offset (topic, kafka_partition, epoch, next_offset) VALUES (%s, 0, 5, 0)",
                scene.topics.usage[0])
    state = "SELECT o.next_offset, o.epoch, l.first_offset, l.next_offset, l.gap, l.chain = o.chain FROM consumer_offset o " \
            "LEFT JOIN batch_ledger l USING (topic, kafka_partition) ORDER BY l.batch_id"
    orders = Orders(scene, "offsets", "seek", "--topic", scene.topics.usage[0], "--partition", 0, "--offset", 3,
                    "--reason", "a test")
    for done, left, again in orders.each(how, lambda copy: rows(copy, state)):
        assert left in ([(0, 5, None, None, None, None)], [(3, 6, 0, 3, 3, True)]), done.stderr
        assert done.returncode == 1 or left[0][0] == 3
        assert again[1][0] == (3, 6, 0, 3, 3, True)


@each_how
def test_a_database_that_was_made_by_halves_is_made_whole(make_scene, how):
    scene = make_scene()
    state = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
    attempts = Orders(scene, "migrate").each(how, lambda copy: rows(copy, state), size=3)
    _, after, _ = next(attempts)
    for done, left, again in attempts:
        assert again == (0, after), done.stderr
        assert done.returncode == 1 or left == after


@each_how
def test_a_day_is_sealed_with_its_index_or_not_at_all(written, how):  # noqa: F811
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400))
    state = "SELECT (SELECT count(*) FROM sealed_day WHERE day = %s), (SELECT count(*) FROM pg_index WHERE indisunique AND " \
            "indisvalid AND indexrelid = to_regclass('usage_event_%s_identity'))"
    orders = Orders(written, "seal", "--now", "--day", day)
    for done, left, again in orders.each(how, lambda copy: rows(copy, state % (f"'{day}'", day.replace("-", "")))):
        assert left in ([(0, 0)], [(0, 1)], [(1, 1)]), done.stderr
        assert done.returncode == 1 or left == [(1, 1)]
        assert again == (0, [(1, 1)]), done.stderr


@each_how
def test_a_repartition_is_ordered_whole_and_once(make_scene, how):
    scene = make_scene(partitions=2).migrate()
    process = scene.usagebox.start()
    scene.produce(*[use(f"c-{number}", 1) for number in range(20)])
    scene.wait_consumed()
    assert process.terminate() == 0
    add_partitions(scene, 3)
    state = "SELECT from_count, to_count, (SELECT array_agg((topic, kafka_partition, end_offset) ORDER BY " \
            "topic, kafka_partition)::text FROM repartition_end e WHERE e.repartition_id = r.repartition_id) FROM " \
            "repartition r ORDER BY repartition_id"
    all_or_nothing(Orders(scene, "offsets", "repartition").each(how, lambda copy: rows(copy, state)), lambda after: [])


class TestReplay:
    """What is marked as replayed lies in its topic."""

    def sweep(self, scene, library, how):
        failing, topic = FailingCalls(scene), scene.topics.usage[0]
        at, calls = 0, [0]
        while calls:
            scene.query("TRUNCATE dead_letter")
            for number in range(5):
                DeadLetters.refuse(None, scene, json.dumps({"event_id": f"{at}-{number}", "customer_id": "acme-co"}),
                                       headers=[("a", b"header")])
            before = scene.topics.end_offsets(topic)
            done = failing.command("dead-letters", "replay", "--all", at=at, how=how, library=library)
            marked = scene.value("SELECT count(*) FROM dead_letter WHERE replayed_at IS NOT NULL")
            arrived = sum(scene.topics.end_offsets(topic).values()) - sum(before.values())
            assert marked <= arrived and (done.returncode == 1 or marked == 5), done.stderr
            scene.usagebox.command("dead-letters", "replay", "--all", check=False)
            assert scene.value("SELECT count(*) FROM dead_letter WHERE replayed_at IS NULL") == 0
            events = [record.value for record in scene.topics.read(topic)]
            assert {f"{at}-{number}" for number in range(5)} <= {json.loads(event)["event_id"] for event in events}
            assert all(record.headers[0] == ("a", b"header") for record in scene.topics.read(topic))
            calls = list(slice_of(failing.calls, 4)) if at == 0 else calls[1:]
            at = calls[0] if calls else 0

    @each_how
    def test_of_a_letter_that_libpq_kept_from_being_marked_another_copy_is_sent(self, scene, how):
        self.sweep(scene, "PQ", how)

    def test_a_letter_that_librdkafka_did_not_take_is_not_marked(self, scene):
        self.sweep(scene, "rd_kafka", "memory")


def test_what_librdkafka_did_not_take_is_not_said_to_be_sent(scene):
    failing = FailingCalls(scene)
    lines = "".join(json.dumps(use(f"c-{number}", 1)) + "\n" for number in range(10))
    at, calls = 0, [0]
    while calls:
        before = sum(scene.topics.end_offsets(scene.topics.usage[0]).values())
        done = failing.command("produce", "--json", at=at, library="rd_kafka", stdin=lines)
        arrived = sum(scene.topics.end_offsets(scene.topics.usage[0]).values()) - before
        said = json.loads(done.stdout)["acknowledged"] if done.stdout.strip() else 0
        assert said == arrived and (arrived == 10) == (done.returncode == 0), f"{failing.failed}: {done.stderr}"
        calls = list(slice_of(failing.calls, 4)) if at == 0 else calls[1:]
        at = calls[0] if calls else 0


LISTS = [("offsets", "list"), ("ceilings", "list"), ("dead-letters", "list"), ("dead-letters", "show", "1")]


@pytest.mark.parametrize("arguments", LISTS)
@each_how
def test_a_list_is_whole_or_none(database, how, arguments):  # noqa: F811
    failing = FailingCalls(database.scene)
    expected = failing.command(*arguments, "--json", env=of(database))
    assert expected.returncode == 0
    for at in slice_of(failing.calls, 4):
        done = failing.command(*arguments, "--json", at=at, how=how, env=of(database))
        assert (done.returncode, done.stdout) in ((1, ""), (0, expected.stdout)), failing.failed
