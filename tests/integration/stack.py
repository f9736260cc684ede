"""A private Kafka and PostgreSQL for the tests, through deploy/stack.sh, and waiting for things to come true."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]

PATIENCE = 3  # times are said as for an idle machine; nothing is slower for waiting longer, but what fails


def wait_until(condition, timeout_s, what):
    """Returns the first true value of condition(); what: completes "waited in vain for"."""
    timeout_s *= PATIENCE
    deadline = time.monotonic() + timeout_s
    last = None
    while True:
        try:
            last = condition()
        except (OSError, RuntimeError) as error:  # not there yet
            last = error
        if last and not isinstance(last, Exception):
            return last
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain for {what}; last seen: {last!r}")
        time.sleep(0.03)


def tail_of(path, lines=60):
    try:
        text = pathlib.Path(path).read_text(errors="replace")
    except OSError as error:
        return str(error)
    return "\n".join(text.splitlines()[-lines:])


class Stack:
    """Names of verbs are those of deploy/stack.sh, options those of its start. Ports stay the same over restarts."""

    def __init__(self, directory, is_ours, secure=False, options=(), start="start"):
        self.directory = pathlib.Path(directory)
        self.is_ours = is_ours
        self.secure = secure
        self._verb(start, *options)
        self.kafka = self._env()["KAFKA"]
        self.brokers = len(self.kafka.split(","))
        self.dsn = self._env()["PGDSN"]  # of the superuser

    @classmethod
    def for_session(cls, secure=False):
        """The one that USAGEBOX_TEST_STACK (USAGEBOX_TEST_SECURE_STACK) names, where each of several workers has its
        own, or a new one that close() removes."""
        shared = os.environ.get("USAGEBOX_TEST_SECURE_STACK" if secure else "USAGEBOX_TEST_STACK")
        if shared:
            return cls(f"{shared}{os.environ.get('PYTEST_XDIST_WORKER', '')}", is_ours=False, secure=secure)
        return cls(cls._new_directory(), is_ours=True, secure=secure)

    @classmethod
    def of_postgresql_alone(cls):
        """Another server, which close() removes."""
        return cls(cls._new_directory(), is_ours=True, start="pg-start")

    @staticmethod
    def _new_directory():
        directory = tempfile.mkdtemp(prefix="usagebox-stack-")
        os.chmod(directory, 0o755)  # run as root, PostgreSQL is another user
        return directory

    def ensure_running(self):
        """After a test that left something stopped."""
        if self._run("status").returncode != 0:
            self._verb("start")

    def close(self):
        if self.is_ours:
            self._verb("remove")
            shutil.rmtree(self.directory, ignore_errors=True)

    def kafka_start(self, number=""):
        """All brokers, or one, from 1 on."""
        self._verb("kafka-start", number)

    def kafka_stop(self, kill=False, number=""):
        self._verb("kafka-stop", *(["--kill"] if kill else []), number)

    def stop(self):
        self._verb("stop")

    def pg_start(self):
        self._verb("pg-start")

    def pg_stop(self, mode="fast"):
        self._verb("pg-stop", mode)

    def kafka_tool(self, name, *arguments, stdin=None):
        """An admin tool of Kafka by its class's name; returns what it printed."""
        return self._verb("kafka-tool", name, *arguments, stdin=stdin)

    def kafka_pid(self, number=1):
        """Of a broker that runs."""
        home = self.directory / ("kafka" if number == 1 else f"kafka-{number}")
        pid = int((home / "pid").read_text())
        assert str(home).encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes(), f"broker {number} does not run"
        return pid

    def proxied_ports(self):
        """Of each broker: where clients are told to connect to, and where it listens for the proxy."""
        return [[int(address.rsplit(":", 1)[1]) for address in self._env()[name].split(",")]
                for name in ("KAFKA_PROXIED", "KAFKA_BEHIND")]

    def pg_port(self):
        return int(self.dsn.rsplit(":", 1)[1].split("/")[0])

    def logs(self):
        return {"Kafka": self.directory / "kafka/log", "PostgreSQL": self.directory / "pg/log"}

    def setting(self, name):
        """A line of the directory's env, such as KAFKA_TLS."""
        return self._env()[name]

    def _env(self):
        lines = (self.directory / "env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def _run(self, verb, *arguments, stdin=None):
        command = [str(ROOT / "deploy/stack.sh"), verb, str(self.directory), *map(str, arguments)]
        return subprocess.run(command, input=stdin if stdin is not None else "", text=True, capture_output=True,
                              check=False, env={**os.environ, "SECURE": "1" if self.secure else "0"})

    def _verb(self, verb, *arguments, stdin=None):
        done = self._run(verb, *arguments, stdin=stdin)
        assert done.returncode == 0, f"stack.sh {verb}: {done.stderr}{done.stdout}"
        return done.stdout
