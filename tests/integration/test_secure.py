"""TLS and SASL to Kafka, TLS to PostgreSQL, on servers that insist on them: that all of the program works through
them, that what is wrong is said clearly, and that no password shows anywhere."""
import contextlib
import copy
import json
import pathlib
import re
import time

import psycopg2
import pytest
from harness import Scene
from stack import Stack, wait_until

APP, ADMIN = "usagebox_app", "usagebox_admin"  # as the certificates name them
PASSWORD = "Pg'pass\\word-6b1f"  # what quoting may break
pytestmark = pytest.mark.xdist_group("secure")  # one worker, so that the servers are started once
EVENT = {"event_id": "e-1", "customer_id": "acme-co", "meter": "tool_calls", "quantity": 5}


@pytest.fixture(scope="module")
def stack():
    the_stack = Stack.for_session(secure=True)
    with roles(the_stack):
        yield the_stack
    the_stack.close()


@contextlib.contextmanager
def roles(the_stack):
    connection = psycopg2.connect(the_stack.dsn)
    connection.autocommit = True
    cursor = connection.cursor()
    for group in ("usagebox_owner", "usagebox_writer", "usagebox_finance", "by_certificate", "by_both"):
        cursor.execute(f"DO $$ BEGIN IF to_regrole('{group}') IS NULL THEN CREATE ROLE {group} NOLOGIN; END IF; END $$")
    for name, group in ((APP, "usagebox_writer"), (ADMIN, "usagebox_owner")):
        cursor.execute(f"DROP ROLE IF EXISTS {name}")
        cursor.execute(f"CREATE ROLE {name} LOGIN PASSWORD %s IN ROLE {group}", (PASSWORD,))
    yield
    for name in (APP, ADMIN):
        cursor.execute(f"DROP ROLE {name}")
    connection.close()


class Secrets:
    """Ways to log in. What holds a password is in files or the environment, or in the configuration itself."""

    def __init__(self, scene):
        self.scene = scene
        self.tls = scene.stack.directory / "tls"
        self.kafka_password = (self.tls / "kafka-password").read_text()
        self.all = [self.kafka_password, PASSWORD, PASSWORD.replace("\\", "\\\\"), "PRIVATE KEY"]

    def certificates(self, name):
        return {"ssl.ca.location": self.tls / "ca.pem", "ssl.certificate.location": self.tls / f"{name}.pem",
                "ssl.key.location": self.tls / f"{name}.key"}

    def kafka_by_certificate(self):
        return {"kafka": {"bootstrap_servers": self.scene.stack.setting("KAFKA_TLS"),
                          "properties": {**self.scene.config["kafka"]["properties"], "security.protocol": "SSL",
                                         **self.certificates("usagebox")}}}

    def kafka_by_password(self, mechanism, **more):
        return {"kafka": {"bootstrap_servers": self.scene.stack.setting("KAFKA_SASL"),
                          "properties": {**self.scene.config["kafka"]["properties"], "security.protocol": "SASL_SSL",
                                         "ssl.ca.location": self.tls / "ca.pem", "sasl.mechanism": mechanism,
                                         "sasl.username": "usagebox", **more}}}

    def dsn(self, user, certificate=True, **more):
        parts = psycopg2.extensions.parse_dsn(self.scene.database.dsn)
        files = {"sslcert": self.tls / f"{user}.pem", "sslkey": self.tls / f"{user}.key"} if certificate else {}
        return psycopg2.extensions.make_dsn(**{
            "host": parts["host"], "port": parts["port"], "dbname": parts["dbname"], "user": user,
            "sslmode": "verify-full", "sslrootcert": self.tls / "ca.pem", **files, **more})

    def file(self, name, text):
        path = self.scene.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return path


def require(scene, group):
    """How PostgreSQL lets the two users in: by_certificate, by_both, or by a password alone (None)."""
    for user in (APP, ADMIN):
        scene.query(f"REVOKE by_certificate, by_both FROM {user}" + (f"; GRANT {group} TO {user}" if group else ""))


@pytest.fixture
def scene(make_scene):
    return make_scene(config={"ceilings": [{"name": "few", "customer": "*", "meter": "tool_calls", "period": "day",
                                            "limit": 4, "policy": "alert"}]}).migrate()


@pytest.fixture
def secrets(scene):
    return Secrets(scene)


def by_certificates(scene, secrets):
    require(scene, "by_certificate")
    scene.configure({**secrets.kafka_by_certificate(),
                     "postgres": {"dsn": secrets.dsn(APP), "owner_dsn": secrets.dsn(ADMIN)}})
    return {}


def by_scram_and_both(scene, secrets):
    """Passwords in the configuration file."""
    require(scene, "by_both")
    password = {"sasl.password": secrets.kafka_password}
    scene.configure({**secrets.kafka_by_password("SCRAM-SHA-512", **password),
                     "postgres": {"dsn": secrets.dsn(APP, password=PASSWORD),
                                  "owner_dsn": secrets.dsn(ADMIN, password=PASSWORD)}})
    return {}


def by_plain_and_files(scene, secrets):
    """Passwords in files that variables name."""
    require(scene, None)
    quoted = PASSWORD.replace("\\", "\\\\")
    scene.configure({**secrets.kafka_by_password("PLAIN"),
                     "postgres": {"dsn": None, "owner_dsn": secrets.dsn(ADMIN, certificate=False)}})
    return {"USAGEBOX_KAFKA_PROPERTIES_SASL_PASSWORD_FILE": str(secrets.file("kafka", f"{secrets.kafka_password}\n")),
            "USAGEBOX_POSTGRES_DSN_FILE": str(secrets.file(
                "dsn", secrets.dsn(APP, certificate=False, password=PASSWORD) + "\n")),
            "PGPASSFILE": str(secrets.file("pgpass", f"*:*:*:{ADMIN}:{quoted}\n"))}


class Shown:
    """All that a user, a log or another user of the machine gets to see."""

    def __init__(self, scene, env):
        self.scene, self.env, self.text = scene, env, []

    def command(self, *arguments, **more):
        done = self.scene.usagebox.command(*arguments, env=self.env, timeout_s=60, **more)
        self.text += [done.stdout, done.stderr]
        return done

    def process(self, process):
        command_line = pathlib.Path(f"/proc/{process.pid}/cmdline").read_text()
        self.text += [command_line, process.http("/metrics")[1], process.http("/readyz")[1], process.log()]

    def assert_without(self, secrets):
        for secret in secrets.all:
            assert not [text for text in self.text if secret in text]


@pytest.mark.parametrize("enter", [by_certificates, by_scram_and_both, by_plain_and_files])
def test_everything_works_over_tls_and_no_password_shows(scene, secrets, enter):
    shown = Shown(scene, {**enter(scene, secrets), "USAGEBOX_LOG_LEVEL": "debug"})
    scene.configure({"kafka": {"usage_topics": [f"{scene.topics.usage[0]}x"],
                               "enforcement_topic": f"{scene.topics.enforcement}x"}})
    shown.command("migrate", "--topics", "--partitions", "3")
    shown.command("migrate")
    shown.command("ceilings", "apply")
    findings = json.loads(shown.command("check", "--json").stdout)["findings"]
    assert not [f for f in findings if f["level"] == "error"]
    process = scene.usagebox.start(env=shown.env)
    wait_until(lambda: scene.value("SELECT count(*) FROM ceiling_adoption") == 3, 30, "adoption of the ceilings")
    assert "accepted: acme-co tool_calls +5" in shown.command("produce", "--wait", stdin=json.dumps(EVENT)).stdout
    shown.process(process)
    tail = shown.command("tail", "--flags-only", "--from-beginning", "--count", "1").stdout
    assert " alert active acme-co few used 5 of 4" in tail
    for command in ("status", "verify", "offsets list", "dead-letters list", "seal", "check --print"):
        shown.command(*command.split())
    assert process.terminate() == 0
    assert tuple(scene.query("SELECT customer_id, quantity::int FROM usage_hourly")[0]) == ("acme-co", 5)
    tls = scene.query("SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = %s", APP)
    assert tls in ([], [(True,)])
    shown.text.append(process.log())
    shown.assert_without(secrets)


@pytest.fixture(scope="module")
def shared_scene(stack, tmp_path_factory):
    """For what is refused at the door."""
    the_scene = Scene(stack, tmp_path_factory.mktemp("shared")).migrate()
    the_scene.first_config = copy.deepcopy(the_scene.config)
    yield the_scene
    the_scene.close()


@pytest.fixture
def refused(shared_scene):
    """Its configuration as at first, and its secrets."""
    shared_scene.config = copy.deepcopy(shared_scene.first_config)
    yield shared_scene, Secrets(shared_scene)
    shared_scene.usagebox.stop_all()


def error_of(scene, secrets, where, env=None):
    """`check`'s only error at that place; nothing it prints holds a password."""
    shown = Shown(scene, env or {})
    done = shown.command("check", "--json", check=False)
    shown.assert_without(secrets)
    [error] = [f for f in json.loads(done.stdout)["findings"] if f["level"] == "error" and f["where"] == where]
    assert done.returncode == 1
    return error


class TestKafkaIsSaidToBeWrong:
    where = "kafka.bootstrap_servers"

    @pytest.mark.parametrize("change, what, remedy", [
        ({"ssl.ca.location": "stranger.pem"}, "certificate verify failed", "ssl.ca.location .* CA that signed"),
        ({"servers": ("KAFKA_TLS", "localhost"), "broker.address.family": "v4"}, "certificate verify failed", "host by the name"),
        ({"servers": ("KAFKA_EXPIRED", "127.0.0.1")}, "certificate verify failed", "in date"),
        ({"ssl.certificate.location": None, "ssl.key.location": None}, "bad certificate|certificate required",
         "ssl.certificate.location"),
        ({"ssl.certificate.location": "stranger-client.pem", "ssl.key.location": "stranger-client.key"},
         "certificate unknown", "ssl.certificate.location"),
        ({"ssl.key.location": "stranger-client.key"}, "key values mismatch", "ssl.key.location"),
        ({"ssl.ca.location": "none"}, "ssl.ca.location failed", "may read"),
        ({"security.protocol": "PLAINTEXT"}, "Disconnected", "security.protocol"),
        ({"servers": ("KAFKA", "127.0.0.1")}, "handshake failed|unexpected eof", "security.protocol"),
    ])
    def test_about_certificates(self, refused, change, what, remedy):
        scene, secrets = refused
        listener, host = change.get("servers", ("KAFKA_TLS", "127.0.0.1"))
        right = secrets.kafka_by_certificate()["kafka"]["properties"]
        wrong = {name: secrets.tls / value if value and name.startswith("ssl.") else value
                 for name, value in change.items() if name != "servers"}
        scene.configure({"kafka": {"bootstrap_servers": scene.stack.setting(listener).replace("127.0.0.1", host),
                                   "properties": {n: v for n, v in {**right, **wrong}.items() if v is not None}}})
        error = error_of(scene, secrets, self.where)
        assert re.search(what, error["what"]) and re.search(remedy, error["remedy"])

    @pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512", "SCRAM-SHA-256"])
    def test_about_passwords_which_it_does_not_show(self, refused, mechanism):
        scene, secrets = refused
        secrets.all.append("swordfish")
        scene.configure(secrets.kafka_by_password(mechanism, **{"sasl.password": "swordfish"}))
        error = error_of(scene, secrets, self.where)
        if mechanism == "SCRAM-SHA-256":
            assert "Unsupported SASL mechanism" in error["what"] and "sasl.mechanism" in error["remedy"]
        else:
            assert "Authentication failed" in error["what"] and "sasl.password" in error["remedy"]

    def test_by_every_command_at_once(self, refused):
        scene, secrets = refused
        secrets.all.append("swordfish")
        scene.configure(secrets.kafka_by_password("SCRAM-SHA-512", **{"sasl.password": "swordfish"}))
        shown = Shown(scene, {"USAGEBOX_LOG_LEVEL": "debug"})
        process = scene.usagebox.start(env=shown.env, ready=False)
        begun = time.monotonic()
        for command in ("produce", "migrate --topics", "tail"):
            done = shown.command(*command.split(), stdin=json.dumps(EVENT), check=False)
            assert done.returncode == 1 and "Authentication failed" in done.stderr, done.stderr
        assert "Authentication failed" in shown.command("status").stdout
        assert time.monotonic() - begun < 10
        process.wait_log("Authentication failed")
        shown.process(process)
        process.terminate()
        shown.assert_without(secrets)


class TestPostgresqlIsSaidToBeWrong:
    where = "postgres.dsn"

    @pytest.mark.parametrize("group, change, what, remedy", [
        ("by_certificate", {"sslrootcert": "stranger.pem"}, "certificate verify failed", "sslrootcert .* CA that signed"),
        ("by_certificate", {"sslrootcert": "none"}, "root certificate file .* does not exist", "sslrootcert"),
        ("by_certificate", {"host": "localhost"}, "does not match host name", "as its certificate does"),
        ("by_certificate", {"sslmode": "disable"}, "no encryption", "sslmode=verify-full"),
        ("by_certificate", {"sslcert": "", "sslkey": ""}, "valid client certificate", "sslcert"),
        ("by_certificate", {"sslcert": "stranger-client.pem", "sslkey": "stranger-client.key"}, "unknown ca", "sslcert"),
        ("by_certificate", {"sslcert": f"{ADMIN}.pem", "sslkey": f"{ADMIN}.key"}, "certificate authentication failed", "sslcert"),
        ("by_both", {}, "no password supplied", "PGPASSFILE"),
        ("by_both", {"password": "swordfish"}, "password authentication failed", "PGPASSFILE"),
    ])
    def test_about_certificates_and_passwords(self, refused, group, change, what, remedy):
        scene, secrets = refused
        require(scene, group)
        secrets.all.append("swordfish")
        files = {name: secrets.tls / value for name, value in change.items() if name.startswith("ssl") and "." in value}
        scene.configure({"postgres": {"dsn": secrets.dsn(APP, **{**change, **files})}})
        error = error_of(scene, secrets, self.where)
        assert re.search(what, error["what"]) and re.search(remedy, error["remedy"])

    def test_about_a_certificate_that_has_expired(self, refused):
        scene, secrets = refused
        def show(certificate):
            for kind, ending in (("cert", "pem"), ("key", "key")):
                scene.query(f"ALTER SYSTEM SET ssl_{kind}_file = '{certificate}.{ending}'")
            scene.query("SELECT pg_reload_conf()")

        scene.configure({"postgres": {"dsn": secrets.dsn(APP, password=PASSWORD)}})
        try:
            show("expired")
            error = wait_until(lambda: error_of(scene, secrets, self.where), 10, "the certificate to be in use")
        finally:
            show("postgres")
        assert "certificate verify failed" in error["what"] and "in date" in error["remedy"]

    def test_by_every_command_and_run_waits_for_it(self, refused):
        scene, secrets = refused
        require(scene, None)
        secrets.all.append("swordfish")
        scene.configure({"postgres": {"dsn": secrets.dsn(APP, certificate=False, password="swordfish")}})
        shown = Shown(scene, {"USAGEBOX_LOG_LEVEL": "debug"})
        process = scene.usagebox.start(env=shown.env, ready=False)
        for command in ("produce --wait", "migrate", "tail", "status", "verify", "offsets list", "dead-letters list",
                        "ceilings list", "seal"):
            done = shown.command(*command.split(), stdin=json.dumps(EVENT), check=False)
            assert done.returncode == 1 and "password authentication failed" in done.stderr, (command, done.stderr)
        process.wait_log("password authentication failed")
        shown.process(process)
        process.kill9()
        shown.assert_without(secrets)
