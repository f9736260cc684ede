"""make demo: what a stranger sees first. On the session's servers, as if they were his own, and once privately,
interrupted."""
import glob
import os
import re
import signal
import subprocess
import tempfile

import pytest
from stack import ROOT, wait_until


class Demo:
    """A demo under way, in a directory for temporary files that shows what it leaves behind."""

    def __init__(self, directory, **settings):
        self.directory = directory
        self.log = directory / "demo.log"
        self.scratch = tempfile.mkdtemp(prefix="usagebox-test-demo-")
        os.chmod(self.scratch, 0o755)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["deploy/demo.sh"], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, env={**os.environ, "TMPDIR": self.scratch, **settings},
                                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def output(self):
        return self.log.read_text()

    def wait(self, timeout_s=180):
        return self.process.wait(timeout_s)

    def interrupt(self):
        """As Ctrl-C does: the whole group hears it."""
        os.killpg(self.process.pid, signal.SIGINT)

    def processes(self):
        """Command lines that name its directory."""
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as line:
                    text = line.read().decode(errors="replace")
            except OSError:  # it has ended meanwhile
                continue
            if self.scratch in text:
                found.append(text.replace("\0", " "))
        return found

    def assert_gone(self):
        assert os.listdir(self.scratch) == []
        assert self.processes() == []

    def close(self):
        if self.process.poll() is None:
            self.interrupt()
            self.wait()
        subprocess.run(["rm", "-rf", self.scratch], check=True)


@pytest.fixture
def start(tmp_path):
    demos = []

    def begin(**settings):
        demos.append(Demo(tmp_path, **settings))
        return demos[-1]

    yield begin
    for demo in demos:
        demo.close()


def databases(scene):
    return {name for name, in scene.query("SELECT datname FROM pg_database")}


def topics(scene):
    return {name for name in scene.topics.admin.list_topics(timeout=30).topics if name.startswith("demo-")}


def test_all_is_shown_and_nothing_left_on_ones_own_servers(scene, start):
    before = databases(scene), topics(scene)
    demo = start(KAFKA=scene.stack.kafka, DSN=scene.stack.dsn)
    assert demo.wait() == 0, demo.output()
    shown = demo.output()
    for outcome in ("accepted", "duplicate, not counted again", "dead letter: not_json", "all that was published"):
        assert re.search(rf"^ {outcome} +\| [1-9][\d,]*$", shown, re.M), outcome
    assert re.search(r"^ all that was published +\| 100,000$", shown, re.M)
    assert re.search(r"^ cust_00001 +\| +\d+ \|", shown, re.M)
    assert len(re.findall(r"^ cust_\d+ +\| [a-z-]+ +\| (?:hard-stop|alert) .*\| \d+ ms +\| \d+ ms *$", shown, re.M)) == 9
    assert "no differences" in shown
    assert "acme-co is over its ceiling: hard-stop" in shown
    assert databases(scene) == before[0]
    wait_until(lambda: topics(scene) == before[1], 10, "the demo's topics to be gone")
    demo.assert_gone()


def test_an_interrupted_demo_leaves_nothing_behind(start):
    demo = start()
    wait_until(lambda: "4. Publishing" in demo.output() or demo.process.poll() is not None, 120, "the demo publishing")
    assert len(demo.processes()) >= 3  # Kafka, PostgreSQL and usagebox, at least
    demo.interrupt()
    assert demo.wait() == 130, demo.output()
    demo.assert_gone()


def test_a_step_that_fails_is_named_with_the_log_that_says_why(scene, start):
    demo = start(KAFKA=scene.stack.kafka, DSN="host=127.0.0.1 port=1 dbname=postgres")
    assert demo.wait() == 1
    assert 'step "2. Servers, topics, tables, ceilings": making the database' in demo.output()
    assert "Connection refused" in demo.output()
    demo.assert_gone()


def test_one_server_without_the_other_is_refused(start):
    demo = start(KAFKA="127.0.0.1:9092")
    assert demo.wait() == 2 and "go together" in demo.output()
