"""A configuration that is wrong, and servers that are away or refuse: said in one line, with exit code 1."""
import re
import time

import pytest
from process import Usagebox, free_port, write_config
from psycopg2 import sql

# key: (what stands in the file, column of the mistake, how the complaint begins)
MALFORMED = {
    "kafka.bootstrap_servers": ("kafka: {bootstrap_servers: 'kafka:port'}", 28),
    "kafka.usage_topics": ("kafka: {usage_topics: [a, b, a]}", 23),
    "kafka.enforcement_topic": ("kafka: {enforcement_topic: a/b}", 28),
    "kafka.dead_letter_topic": ("kafka: {dead_letter_topic: [a]}", 28),
    "kafka.group": ("kafka: {group: ''}", 16),
    "kafka.partitioner": ("kafka: {partitioner: sha1}", 22),
    "kafka.properties": ("kafka: {properties: {no.such.property: 1}}", 40),
    "postgres.dsn": ("postgres: {dsn: 'postgresql://[::1/x'}", 17),
    "postgres.owner_dsn": ("postgres: {owner_dsn: 'hots=db'}", 23),
    "events.max_age": ("events: {max_age: soon}", 19),
    "events.max_future": ("events: {max_future: 2d}", 22),
    "dedupe.window": ("dedupe: {window: 24}", 18),
    "dedupe.memory_limit": ("dedupe: {memory_limit: 4 apples}", 24),
    "batch.max_rows": ("batch: {max_rows: 0}", 19),
    "batch.max_delay": ("batch: {max_delay: -1s}", 20),
    "rollup.dimensions": ("rollup: {dimensions: [colour]}", 23),
    "rollup.runs": ("rollup: {runs: maybe}", 16),
    "ceilings": ("ceilings: yes please", 11),
    "http.listen": ("http: {listen: localhost}", 16),
    "log.format": ("log: {format: xml}", 15),
    "log.level": ("log: {level: loud}", 14),
}

CEILING = {"name": "a", "customer": "c", "meter": "m", "period": "day", "limit": 5, "policy": "alert"}
MALFORMED_CEILING = {
    "name": ({"name": ""}, "ceilings.name"),
    "customer": ({"customer": "c", "plan": "p"}, "ceilings: expected either customer or plan"),
    "plan": ({"customer": None, "plan": [1]}, "ceilings.plan"),
    "scope": ({"scope": "galaxy"}, "ceilings.scope"),
    "meter": ({"meter": "no spaces"}, "ceilings.meter"),
    "period": ({"period": "fortnight"}, "ceilings.period"),
    "limit": ({"limit": "much"}, "ceilings.limit"),
    "policy": ({"policy": "shrug"}, "ceilings.policy"),
    "clear_level": ({"clear_level": 6}, "ceilings.clear_level"),
}


class File:
    """A configuration file alone: no server is needed to see what is wrong with it."""

    def __init__(self, directory):
        self.config_path = directory / "config.yaml"
        self.config_path.write_text("")
        self.usagebox = Usagebox(self.config_path, directory)


def keys(scene):
    """Names of all keys, as the reference has them."""
    return re.findall(r"^([a-z_]+(?:\.[a-z_]+)?)$", scene.usagebox.command("check", "--keys").stdout, re.M)


def refused(scene, *command):
    done = scene.usagebox.command(*command, check=False, timeout_s=20)
    assert done.returncode == 1
    return done


class TestMalformed:
    @pytest.fixture
    def scene(self, tmp_path):
        return File(tmp_path)

    def test_every_key_has_its_case_here(self, scene):
        documented = set(keys(scene))
        assert documented >= set(MALFORMED)
        assert {k for k in documented if not k.startswith("ceilings.")} == set(MALFORMED)
        assert {k.split(".")[1] for k in documented if k.startswith("ceilings.")} in (set(), set(MALFORMED_CEILING))

    @pytest.mark.parametrize("key", MALFORMED)
    def test_a_malformed_value_is_refused_where_it_stands(self, scene, key):
        text, column = MALFORMED[key]
        scene.config_path.write_text(f"# a comment\n\n{text}\n")
        for command in (["check", "--config-only"], ["run"]):
            done = refused(scene, *command)
            said = done.stdout + done.stderr
            assert re.match(rf"{re.escape(str(scene.config_path))}:3:{column}: {re.escape(key)}[.:\[ ]", said), said
            assert len(said.splitlines()) == 1

    @pytest.mark.parametrize("key", MALFORMED_CEILING)
    def test_a_malformed_ceiling_is_refused_where_it_stands(self, scene, key):
        changes, complaint = MALFORMED_CEILING[key]
        ceiling = {k: v for k, v in {**CEILING, **changes}.items() if v is not None}
        write_config(scene.config_path, {"ceilings": [ceiling]})
        done = refused(scene, "check", "--config-only")
        assert re.match(rf"{re.escape(str(scene.config_path))}:1:\d+: {complaint}", done.stdout), done.stdout

    def test_an_unknown_key_gets_the_nearest_one_suggested(self, scene):
        scene.config_path.write_text("dedupe:\n  windw: 24h\n")
        assert re.search(r":2:3: dedupe\.windw: .*window", refused(scene, "check").stdout)

    def test_all_that_is_wrong_is_said_at_once(self, scene):
        scene.config_path.write_text("log: {level: loud}\nbatch: {max_rows: 0}\n")
        assert [line.split(":")[1] for line in refused(scene, "check").stdout.splitlines()] == ["1", "2"]

    def test_a_wrong_value_in_the_environment_is_said_with_the_variables_name(self, scene):
        done = scene.usagebox.command("check", check=False, env={"USAGEBOX_DEDUPE_WINDOW": "soon"})
        assert done.returncode == 1 and done.stdout.startswith("USAGEBOX_DEDUPE_WINDOW: ")

    def test_a_missing_file_is_an_error(self, scene):
        scene.config_path.unlink()
        assert str(scene.config_path) in refused(scene, "check").stdout


class TestServers:
    """check says what it found and ends; run goes on trying, for servers come back."""

    def log_of_run(self, scene, pattern):
        process = scene.usagebox.start(ready=False)
        line = process.wait_log(pattern, timeout_s=30)
        time.sleep(1)
        assert process.is_alive(), process.log()
        process.terminate(timeout_s=30)
        return line.string

    def test_an_unreachable_kafka(self, scene):
        scene.migrate()
        scene.configure({"kafka": {"bootstrap_servers": f"127.0.0.1:{free_port()}"}})
        assert "Connection refused" in refused(scene, "check").stdout
        self.log_of_run(scene, "Connection refused")

    def test_an_unreachable_postgresql(self, scene):
        scene.migrate()
        scene.configure({"postgres": {"dsn": f"host=127.0.0.1 port={free_port()} dbname=x"}})
        assert "Connection refused" in refused(scene, "check").stdout
        assert "Connection refused" in refused(scene, "migrate").stderr
        self.log_of_run(scene, "Connection refused")

    def test_a_wrong_password_is_told_and_never_shown(self, scene):
        scene.migrate()
        scene.query("DROP ROLE IF EXISTS test_configuration")
        scene.query("CREATE ROLE test_configuration LOGIN PASSWORD 'right'")
        try:
            scene.configure({"postgres": {"dsn": scene.database.dsn_as("test_configuration", "s3cret-and-wrong")}})
            said = refused(scene, "check").stdout + refused(scene, "migrate").stderr
            said += self.log_of_run(scene, "password authentication failed")
            assert said.count("password authentication failed") >= 3
            assert "s3cret" not in said
        finally:
            scene.query("DROP ROLE test_configuration")

    def test_kafka_credentials_that_do_not_fit_the_broker(self, scene):
        scene.configure({"kafka": {"properties": {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
                                                  "sasl.username": "u", "sasl.password": "s3cret"}}})
        said = refused(scene, "check").stdout
        assert "kafka.bootstrap_servers" in said and "s3cret" not in said

    def test_missing_privileges_stop_nothing_silently(self, scene):
        scene.migrate()
        scene.query("DROP ROLE IF EXISTS test_configuration")
        scene.query("CREATE ROLE test_configuration LOGIN PASSWORD 'w'")
        try:
            scene.configure({"postgres": {"dsn": scene.database.dsn_as("test_configuration", "w"),
                                          "owner_dsn": scene.database.dsn}})
            self.log_of_run(scene, "permission denied")
        finally:
            scene.query(sql.SQL("DROP OWNED BY test_configuration; DROP ROLE test_configuration"))
