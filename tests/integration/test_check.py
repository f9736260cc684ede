"""usagebox check: each finding, provoked for real; and migrate --topics, whose topics it has nothing against."""
import contextlib
import json
import re
import subprocess
import time
import uuid

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import ConfigResource, NewTopic
from psycopg2 import sql
from process import free_port
from stack import wait_until
from topics import QUIET

DAY_MS = 86_400_000


@pytest.fixture
def scene(make_scene):
    return make_scene().migrate()


@pytest.fixture
def role(scene):
    """Makes login roles in a group's role; they and what they were granted here are gone with the test."""
    made = []

    def make(*granted):
        name = f"t_{uuid.uuid4().hex[:8]}"
        scene.query(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(name)))
        made.append(name)
        for group in granted:
            scene.query(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(name)))
        return name, scene.database.dsn_as(name, "secret")

    yield make
    for name in made:
        scene.query(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def check(scene, env=None):
    """(exit code, findings) of the whole."""
    done = scene.usagebox.command("check", "--json", check=False, env=env)
    return done.returncode, json.loads(done.stdout)["findings"]


def found(scene, where, pattern, level="error", env=None):
    """The one finding of that place and wording; errors, and they alone, make it fail."""
    code, findings = check(scene, env)
    hits = [f for f in findings if f["where"] == where and re.search(pattern, f["what"])]
    assert len(hits) == 1, f"{where}: {pattern!r}: {json.dumps(findings, indent=1)}"
    assert hits[0]["level"] == level
    assert code == (1 if any(f["level"] == "error" for f in findings) else 0)
    return hits[0]


def errors(scene):
    return [f for f in check(scene)[1] if f["level"] == "error"]


def alter(scene, topic, **settings):
    resource = ConfigResource("topic", topic, {name.replace("_", "."): value for name, value in settings.items()})
    for future in scene.topics.admin.alter_configs([resource]).values():
        future.result()


def usage(scene):
    return scene.topics.usage[0], f"topic {scene.topics.usage[0]}"


def enforcement(scene):
    return scene.topics.enforcement, f"topic {scene.topics.enforcement}"


def offset_row(scene, partition, next_offset, topic=None):
    scene.query("INSERT INTO consumer_offset (topic, kafka_partition, next_offset) VALUES (%s, %s, %s)",
                topic or scene.topics.usage[0], partition, next_offset)


def test_nothing_is_found_against_topics_and_roles_that_are_right(scene, role):
    _, writer = role("usagebox_writer")
    _, owner = role("usagebox_owner")
    scene.configure({"postgres": {"dsn": writer, "owner_dsn": owner}})
    alter(scene, scene.topics.usage[0], message_timestamp_type="LogAppendTime")
    code, findings = check(scene)
    assert code == 0
    # one broker can hold one copy; nothing runs
    assert {re.sub(" (is 1:|of group ).*", "", f["what"]) for f in findings} == {"its replication factor", "no process is a member"}


def test_a_running_process_is_no_finding_and_is_not_disturbed(scene):
    process = scene.usagebox.start()
    code, findings = check(scene)
    assert code == 0 and not [f for f in findings if f["where"] == "kafka.group"]
    assert process.terminate() == 0


def test_people_read_lines_with_the_errors_first(scene):
    alter(scene, scene.topics.enforcement, cleanup_policy="delete")
    done = scene.usagebox.command("check", check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[0].endswith("configuration is valid")
    assert re.match(rf"error +topic {scene.topics.enforcement} +cleanup.policy is delete: .*; kafka-configs.sh --alter", lines[1])
    assert re.fullmatch(r"1 error, \d+ warnings, \d+ notices", lines[-1])


class TestKafka:
    def test_an_unreachable_broker(self, scene):
        scene.configure({"kafka": {"bootstrap_servers": f"127.0.0.1:{free_port()}"}})
        assert "security.protocol" in found(scene, "kafka.bootstrap_servers", "Connection refused")["remedy"]

    def test_a_name_that_nobody_knows(self, scene):
        scene.configure({"kafka": {"bootstrap_servers": "no-such-host.invalid:9092"}})
        found(scene, "kafka.bootstrap_servers", "Failed to resolve")

    def test_a_broker_that_speaks_another_protocol(self, scene):
        scene.configure({"kafka": {"properties": {"security.protocol": "SSL"}}})
        found(scene, "kafka.bootstrap_servers", "SSL|[Dd]isconnected|timed out")

    def test_a_missing_topic(self, scene):
        scene.configure({"kafka": {"usage_topics": ["nowhere"], "enforcement_topic": "nor-here", "dead_letter_topic": "nor-there"}})
        for topic in ("nowhere", "nor-here", "nor-there"):
            assert found(scene, f"topic {topic}", "no such topic")["remedy"] == "usagebox migrate --topics makes it"

    def test_usage_topics_with_unequal_partition_counts(self, make_scene):
        scene = make_scene(usage_topics=2).migrate()
        scene.topics.add_partitions(scene.topics.usage[1], 5)
        found(scene, f"topic {scene.topics.usage[1]}", "5 partitions and .* has 3")

    @pytest.mark.parametrize("policy", ["compact", "compact,delete"])
    def test_a_compacted_usage_topic(self, scene, policy):
        topic, where = usage(scene)
        alter(scene, topic, cleanup_policy=policy)
        assert "cleanup.policy=delete" in found(scene, where, f"cleanup.policy is ({policy}|delete,compact):")["remedy"]

    def test_unclean_leader_election(self, scene):
        topic, where = usage(scene)
        alter(scene, topic, unclean_leader_election_enable="true")
        found(scene, where, "unclean.leader.election.enable is true")
        alter(scene, topic)
        topic, where = enforcement(scene)
        alter(scene, topic, cleanup_policy="compact", unclean_leader_election_enable="true")
        found(scene, where, "unclean.leader.election.enable is true", "warning")

    def test_short_retention(self, scene):
        topic, where = usage(scene)
        alter(scene, topic, retention_ms="3600000", retention_bytes="1000000")
        found(scene, where, "retention.ms is 3600000, less than a day", "warning")
        found(scene, where, "retention.bytes is 1000000", "warning")

    def test_times_of_producers_and_small_messages(self, scene):
        topic, where = usage(scene)
        alter(scene, topic, message_timestamp_type="CreateTime", max_message_bytes="100000")
        found(scene, where, "timestamp.type is CreateTime", "notice")
        found(scene, where, "max.message.bytes is 100000", "notice")

    def test_a_single_copy(self, scene):
        for _, where in (usage(scene), enforcement(scene)):
            found(scene, where, "replication factor is 1", "warning")

    @pytest.mark.parametrize("policy", ["delete", "compact,delete"])
    def test_an_enforcement_topic_that_forgets(self, scene, policy):
        topic, where = enforcement(scene)
        alter(scene, topic, cleanup_policy=policy)
        found(scene, where, "flags that are in force are removed")

    def test_an_enforcement_topic_with_fewer_or_more_partitions_than_lanes(self, scene):
        topic, where = enforcement(scene)
        scene.topics.add_partitions(topic, 4)
        found(scene, where, "4 partitions and .* has 3", "warning")
        scene.topics.add_partitions(scene.topics.usage[0], 5)
        found(scene, where, "4 partitions and .* has 5", "error")

    def test_a_compacted_dead_letter_topic(self, scene):
        scene.configure({"kafka": {"dead_letter_topic": scene.topics.dead_letter}})
        alter(scene, scene.topics.dead_letter, cleanup_policy="compact")
        found(scene, f"topic {scene.topics.dead_letter}", "only the last is kept", "warning")

    def test_another_program_in_the_group(self, scene):
        stranger = Consumer({"bootstrap.servers": scene.stack.kafka, "group.id": scene.config["kafka"]["group"],
                             "partition.assignment.strategy": "roundrobin", "client.id": "stranger", **QUIET})
        try:
            stranger.subscribe([scene.topics.dead_letter])
            wait_until(lambda: stranger.poll(0.1) is not None or stranger.assignment(), 30, "an assignment")
            found(scene, "kafka.group", 'by "roundrobin"')
            found(scene, "kafka.group", f"member stranger on .* reads topic {scene.topics.dead_letter}")
        finally:
            stranger.close()

    def test_an_idle_group(self, scene):
        found(scene, "kafka.group", "no process is a member", "notice")


class TestPostgres:
    def test_an_unreachable_server(self, scene):
        scene.configure({"postgres": {"dsn": f"host=127.0.0.1 port={free_port()} dbname=x"}})
        found(scene, "postgres.dsn", "Connection refused")

    def test_a_wrong_password(self, scene, role):
        name, _ = role("usagebox_writer")
        scene.configure({"postgres": {"dsn": scene.database.dsn_as(name, "wrong"), "owner_dsn": scene.database.dsn}})
        finding = found(scene, "postgres.dsn", "password authentication failed")
        assert "wrong" not in json.dumps(finding)

    def test_an_owner_whose_password_is_wrong(self, scene, role):
        name, _ = role("usagebox_owner")
        scene.configure({"postgres": {"owner_dsn": scene.database.dsn_as(name, "wrong")}})
        found(scene, "postgres.owner_dsn", "password authentication failed")

    def test_a_database_that_does_not_exist(self, scene):
        scene.configure({"postgres": {"dsn": scene.database.dsn.replace(scene.database.name, "nowhere")}})
        found(scene, "postgres.dsn", 'database "nowhere" does not exist')

    def test_a_database_without_a_schema(self, make_scene):
        found(make_scene(), "PostgreSQL", "holds no schema of UsageBox: run usagebox migrate")

    def test_a_schema_that_is_newer_than_the_program(self, scene):
        scene.query("INSERT INTO schema_migration (number, name) VALUES (999, 'later')")
        found(scene, "PostgreSQL", "newer than this program.*: use the newer program")

    def test_a_schema_that_is_older_than_the_program(self, scene):
        scene.query("DELETE FROM schema_migration WHERE number > 1")
        found(scene, "PostgreSQL", "this program needs .*: run usagebox migrate")

    def test_a_user_who_was_granted_nothing(self, scene, role):
        name, dsn = role()
        scene.configure({"postgres": {"dsn": dsn, "owner_dsn": scene.database.dsn}})
        assert found(scene, "postgres.dsn", "permission denied")["remedy"] == "GRANT usagebox_writer TO its user"

    @pytest.mark.parametrize("statement, missing", [
        ("REVOKE INSERT ON usage_hourly FROM usagebox_writer", "INSERT on usage_hourly"),
        ("REVOKE UPDATE ON consumer_offset FROM usagebox_writer", "UPDATE on consumer_offset"),
        ("REVOKE DELETE ON ceiling_pending FROM usagebox_writer", "DELETE on ceiling_pending"),
        ("REVOKE UPDATE (copied_at) ON dead_letter FROM usagebox_writer", "UPDATE on dead_letter"),
        ("REVOKE USAGE ON SEQUENCE batch_id FROM usagebox_writer", "USAGE on sequence batch_id"),
        ("DO $$ BEGIN EXECUTE 'REVOKE INSERT ON ' || (SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent "
         "= 'usage_event'::regclass) || ' FROM usagebox_writer'; END $$", r"INSERT on usage_event_\d+"),
    ])
    def test_a_privilege_that_counting_takes(self, scene, role, statement, missing):
        name, dsn = role("usagebox_writer")
        scene.configure({"postgres": {"dsn": dsn, "owner_dsn": scene.database.dsn}})
        scene.query(statement)
        finding = found(scene, "postgres.dsn", f"user {name} lacks what counting takes: {missing}$|{missing}")
        assert finding["remedy"] == f"GRANT usagebox_writer TO {name}"

    @pytest.mark.parametrize("privilege, table", [("UPDATE", "usage_event"), ("DELETE", "batch_ledger"), ("TRUNCATE", "policy_decision")])
    def test_a_privilege_to_change_what_was_counted(self, scene, role, privilege, table):
        name, dsn = role("usagebox_writer")
        scene.configure({"postgres": {"dsn": dsn, "owner_dsn": scene.database.dsn}})
        scene.query(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(privilege), sql.Identifier(table), sql.Identifier(name)))
        found(scene, "postgres.dsn", f"user {name} may change what is append-only: {privilege} {table}")

    def test_a_privilege_to_change_a_single_leaf(self, scene, role):
        name, dsn = role("usagebox_writer")
        scene.configure({"postgres": {"dsn": dsn, "owner_dsn": scene.database.dsn}})
        leaf = scene.value("SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'usage_event'::regclass")
        scene.query(sql.SQL("GRANT DELETE ON {} TO {}").format(sql.Identifier(leaf), sql.Identifier(name)))
        found(scene, "postgres.dsn", f"append-only: DELETE {leaf}$")

    def test_a_superuser_and_a_writer_who_is_the_owner(self, scene, role):
        found(scene, "postgres.dsn", "is a superuser", "warning")
        name, dsn = role("usagebox_writer", "usagebox_owner")
        scene.configure({"postgres": {"dsn": dsn}})
        found(scene, "postgres.dsn", f"user {name} owns the tables, too", "notice")

    def test_whoever_may_make_functions_that_the_owner_would_run(self, scene, role):
        """A database that was made before PostgreSQL 15 lets everybody; then a reader can do what the owner can."""
        assert not [f for f in check(scene)[1] if "make functions" in f["what"]]
        reader, dsn = role("usagebox_finance")
        scene.query(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(sql.Identifier(reader)))
        assert reader in found(scene, "postgres.dsn", "may make functions", "warning")["remedy"]
        scene.query("GRANT CREATE ON SCHEMA public TO PUBLIC")
        remedy = found(scene, "postgres.dsn", "may make functions", "warning")["remedy"]
        assert "PUBLIC" in remedy and reader in remedy
        scene.query(remedy.split(";")[0])
        assert not [f for f in check(scene)[1] if "make functions" in f["what"]]

    def test_an_owner_who_may_not_make_partitions(self, scene, role):
        name, dsn = role("usagebox_writer")
        scene.configure({"postgres": {"owner_dsn": dsn}})
        assert "GRANT usagebox_owner" in found(scene, "postgres.owner_dsn", "neither day partitions nor seals")["remedy"]

    def test_an_owner_of_another_database(self, scene, make_scene):
        other = make_scene().migrate()
        scene.configure({"postgres": {"owner_dsn": other.database.dsn}})
        found(scene, "postgres.owner_dsn", "another database than postgres.dsn")
        other.query("DELETE FROM setting WHERE name = 'identity_secret'")
        found(scene, "PostgreSQL", "the secret that identifies events is missing")

    def test_a_missing_partition_of_tomorrow(self, scene):
        leaf = scene.value("SELECT 'usage_event_' || to_char(now() AT TIME ZONE 'UTC' + interval '1 day', 'YYYYMMDD')")
        scene.query(sql.SQL("ALTER TABLE {} RENAME TO elsewhere").format(sql.Identifier(leaf)))
        found(scene, "PostgreSQL", f"partition {leaf} is missing", "warning")

    def test_tables_whose_protection_is_off(self, scene):
        leaf = scene.value("SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'usage_event'::regclass")
        scene.query(sql.SQL("ALTER TABLE {} ENABLE TRIGGER append_only").format(sql.Identifier(leaf)))  # not ALWAYS
        scene.query("DROP TRIGGER append_only ON policy_decision")
        found(scene, "PostgreSQL", f"{leaf} may be changed")
        found(scene, "PostgreSQL", "policy_decision may be changed")

    def test_row_level_security(self, scene):
        scene.query("ALTER TABLE usage_event ENABLE ROW LEVEL SECURITY")
        found(scene, "PostgreSQL", "usage_event has row-level security")

    def test_a_day_that_was_sealed_with_duplicates(self, scene):
        scene.query("INSERT INTO sealed_day (day, duplicates) VALUES ('2026-11-01', 2)")
        found(scene, "PostgreSQL", "day 2026-11-01 was sealed with 2 events that stand twice")

    @pytest.mark.parametrize("setting, value, level, says", [
        ("synchronous_commit", "off", "notice", "synchronous_commit is off"),
        ("default_transaction_read_only", "on", "error", "transactions are read-only"),
    ])
    def test_settings_of_the_database(self, scene, setting, value, level, says):
        scene.query(sql.SQL("ALTER DATABASE {} SET {} = {}").format(
            sql.Identifier(scene.database.name), sql.Identifier(setting), sql.Literal(value)))
        found(scene, "PostgreSQL", says, level)

    @pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "autovacuum"])
    def test_settings_of_the_server(self, scene, setting):
        def set_to(value):
            scene.query(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(setting), sql.SQL(value)))
            scene.query("SELECT pg_reload_conf()")
            wait_until(lambda: scene.value("SELECT setting FROM pg_settings WHERE name = %s", setting) == value, 10, setting)
        set_to("off")
        try:
            found(scene, "PostgreSQL", f"{setting} is off", "warning")
        finally:
            set_to("on")

    def test_a_database_that_cannot_hold_every_character(self, scene):
        name = f"{scene.database.name}_latin"
        scene.query(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'").format(sql.Identifier(name)))
        try:
            scene.configure({"postgres": {"dsn": scene.database.dsn.replace(scene.database.name, name)}})
            found(scene, "PostgreSQL", "encoding is LATIN1")
        finally:
            scene.query(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))

    def test_a_clock_that_is_an_hour_off(self, scene, tmp_path):
        source, library = tmp_path / "clock.c", tmp_path / "clock.so"
        source.write_text("#include <sys/syscall.h>\n#include <time.h>\n#include <unistd.h>\n"
                          "int clock_gettime(clockid_t id, struct timespec *t) { long r = syscall(SYS_clock_gettime, id, t);"
                          " if (id == CLOCK_REALTIME) t->tv_sec += 3600; return (int)r; }\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        found(scene, "PostgreSQL", r"its clock is 3[56]\d\d\.\d s behind this machine's", "warning", env={"LD_PRELOAD": str(library)})

    def test_ceilings_that_were_not_applied(self, scene):
        ceiling = {"name": "a", "customer": "*", "meter": "m", "period": "day", "limit": 5, "policy": "alert"}
        scene.configure({"ceilings": [ceiling]})
        assert "usagebox ceilings apply" in found(scene, "ceilings", "1 to add, 0 to change, 0 to retire", "notice")["remedy"]
        scene.usagebox.command("ceilings", "apply")
        assert not [f for f in check(scene)[1] if f["where"] == "ceilings"]
        scene.configure({"ceilings": []})
        found(scene, "ceilings", "0 to add, 0 to change, 1 to retire", "notice")


class TestPositions:
    def test_an_offset_beyond_the_logs_end(self, scene):
        scene.produce({"event_id": "a", "customer_id": "c"}, partition=1)
        offset_row(scene, 1, 7)
        found(scene, f"topic {scene.topics.usage[0]} partition 1", "offset 7 is to be read next, and the log ends at 1")

    def test_records_that_were_removed_before_they_were_read(self, scene):
        topic = scene.topics.usage[0]
        scene.produce(*[{"event_id": str(i), "customer_id": "c"} for i in range(5)], partition=0)
        offset_row(scene, 0, 1)
        scene.topics.delete_records(topic, {0: 4})
        found(scene, f"topic {topic} partition 0", "offsets 1 to 3 were removed before they were read")

    def test_a_log_that_was_never_read_may_begin_anywhere(self, scene):
        scene.produce(*[{"event_id": str(i), "customer_id": "c"} for i in range(5)], partition=0)
        scene.topics.delete_records(scene.topics.usage[0], {0: 4})
        offset_row(scene, 0, -1)
        assert errors(scene) == []

    @pytest.mark.parametrize("hours_left, level", [(10, "warning"), (0.3, "error")])
    def test_unread_records_that_retention_will_remove_soon(self, make_scene, hours_left, level):
        # one segment for each record, or the newest would keep the oldest; removal itself is not waited for
        scene = make_scene(usage_settings={"retention.ms": str(7 * DAY_MS)}).migrate()
        now_ms = int(time.time() * 1000)
        for partition in (0, 1):
            scene.produce({"event_id": "old", "customer_id": "c"}, partition=partition,
                          timestamp_ms=now_ms - 7 * DAY_MS + int(hours_left * 3_600_000))
            scene.produce({"event_id": "new", "customer_id": "c"}, partition=partition)
        offset_row(scene, 1, 1)  # has read the old one
        finding = found(scene, f"topic {scene.topics.usage[0]} partition 0", "2 records are unread", level)
        left = float(re.search(r"about (\d+\.\d) h", finding["what"])[1])
        assert abs(left - hours_left) < 0.3
        assert not [f for f in check(scene)[1] if f["where"].endswith("partition 1")]

    def test_unread_records_that_are_kept_long_enough(self, scene):
        scene.produce({"event_id": "a", "customer_id": "c"}, timestamp_ms=int(time.time() * 1000) - 3 * DAY_MS)
        assert not [f for f in check(scene)[1] if "unread" in f["what"]]

    def test_a_changed_partition_count(self, scene):
        scene.query("INSERT INTO setting (name, value) VALUES ('partition_count', '2')")
        assert "usagebox offsets repartition" in found(scene, usage(scene)[1], "3 partitions and had 2")["remedy"]

    def test_a_partitioner_that_producers_do_not_use(self, scene):
        scene.query("INSERT INTO setting (name, value) VALUES ('partitioner', 'crc32')")
        found(scene, "kafka.partitioner", "it is murmur2, and producers were found to use crc32", "warning")
        scene.configure({"kafka": {"partitioner": "auto"}})
        assert not [f for f in check(scene)[1] if f["where"] == "kafka.partitioner"]

    def test_a_topic_that_was_taken_out_of_the_configuration(self, scene):
        offset_row(scene, 0, 5, topic="former")
        found(scene, "kafka.usage_topics", "events of topic former were counted here", "warning")


class TestMigrateTopics:
    @pytest.fixture
    def scene(self, make_scene):
        """With names in its configuration that no topic has yet."""
        scene = make_scene()
        prefix = scene.topics.enforcement.split(".")[0]
        self.usage = [f"{prefix}.new", f"{prefix}.new2"]
        self.enforcement, self.dead = f"{prefix}.flags", f"{prefix}.refused"
        scene.configure({"kafka": {"usage_topics": self.usage, "enforcement_topic": self.enforcement, "dead_letter_topic": self.dead}})
        return scene

    def make(self, scene, *options, check=True):
        done = scene.usagebox.command("migrate", "--topics", "--json", *options, check=check)
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    def partitions(self, scene):
        topics = scene.topics.admin.list_topics(timeout=30).topics
        return [len(topics[name].partitions) if name in topics else 0 for name in (*self.usage, self.enforcement, self.dead)]

    def settings(self, scene, topic, *names):
        [future] = scene.topics.admin.describe_configs([ConfigResource("topic", topic)]).values()
        return [future.result()[name].value for name in names]

    def test_topics_are_made_so_that_check_has_nothing_against_them(self, scene):
        done = self.make(scene)
        assert (done["made"], done["was_there"]) == (4, 0)
        assert {f["what"][:23] for f in done["check"]["findings"]} == {"its replication factor "}
        assert self.partitions(scene) == [12, 12, 12, 12]
        for topic in self.usage:
            assert self.settings(scene, topic, "cleanup.policy", "retention.ms", "message.timestamp.type",
                                 "unclean.leader.election.enable") == ["delete", str(7 * DAY_MS), "LogAppendTime", "false"]
        assert self.settings(scene, self.enforcement, "cleanup.policy", "segment.ms") == ["compact", "600000"]
        assert self.settings(scene, self.dead, "cleanup.policy") == ["delete"]

    def test_once_more_makes_and_changes_nothing(self, scene):
        self.make(scene, "--partitions", "3", "--retention", "2d")
        done = self.make(scene)
        assert (done["made"], done["was_there"]) == (0, 4)
        assert self.partitions(scene) == [3, 3, 3, 3]
        assert self.settings(scene, self.usage[0], "retention.ms") == [str(2 * DAY_MS)]

    def test_new_topics_follow_the_partition_count_of_those_that_are_there(self, scene):
        scene.topics.create(NewTopic(self.usage[1], 5, 1))
        self.make(scene)
        assert self.partitions(scene) == [5, 5, 5, 5]

    def test_another_partition_count_than_that_of_existing_topics_is_refused(self, scene):
        scene.topics.create(NewTopic(self.usage[1], 5, 1))
        assert "has 5 partitions, not 6" in self.make(scene, "--partitions", "6", check=False)
        assert self.partitions(scene) == [0, 5, 0, 0]

    def test_an_existing_topic_is_left_alone_and_its_faults_are_told(self, scene):
        scene.topics.create(NewTopic(self.usage[0], 4, 1, config={"cleanup.policy": "compact"}))
        done = scene.usagebox.command("migrate", "--topics", check=False)
        assert done.returncode == 1 and "cleanup.policy is compact" in done.stdout
        assert self.settings(scene, self.usage[0], "cleanup.policy") == ["compact"]

    def test_more_copies_than_brokers_are_refused(self, scene):
        assert "replication factor" in self.make(scene, "--replication-factor", "2", check=False).lower()

    def test_several_at_once_make_each_topic_once(self, scene):
        line = [*scene.usagebox._line(["migrate"]), "--topics", "--json"]
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(subprocess.Popen(line, stdout=subprocess.PIPE)) for _ in range(3)]
            answers = [json.loads(process.communicate(timeout=60)[0]) for process in running]
        assert [process.returncode for process in running] == [0, 0, 0]
        assert sum(answer["made"] for answer in answers) == 4

    def test_an_unreachable_broker_is_told(self, scene):
        scene.configure({"kafka": {"bootstrap_servers": f"127.0.0.1:{free_port()}"}})
        assert "Connection refused" in self.make(scene, check=False)
