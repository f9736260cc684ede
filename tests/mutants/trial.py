"""A copy of the tree in which mutants are built and tested. Its objects are kept: a mutant costs what compiling one
file and linking cost."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

from planted import ListError

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEEDS = 300  # from 1 on; `make unit` runs the first 60
SEEDS_AT_ONCE = 10
CHECK_FAILURE = re.compile(r"\.[ch]:\d+:[EF]:.*?:(\w+):\d+:")
LIMIT_S = {"unit": 600, "simulate": 120, "server": 300}


class Caught(Exception):
    """By what, in words. detail: what the test said, if that is more."""

    def __init__(self, words, detail=""):
        super().__init__(words)
        self.detail = detail


class Stopped(Exception):
    """Somebody wants it to end."""


class Stack:
    """Made when the first test wants it, removed at the end, unless it was there before."""

    def __init__(self, directory, number):
        self._given = directory
        self._made = None
        self._number = number

    def directory(self):
        if self._given:
            return self._given
        if not self._made:
            self._made = f"/tmp/usagebox-mutants-{os.getpid()}-{self._number}"
            self._verb("start")
        return self._made

    def close(self):
        if self._made:
            self._verb("remove")

    def _verb(self, verb):
        subprocess.run([str(ROOT / "deploy/stack.sh"), verb, self._made], check=True, stdout=subprocess.DEVNULL)


class Workshop:
    """A tree to plant in, with servers of its own: several work side by side."""

    def __init__(self, number, stack_directory=None):
        self.tree = ROOT / f"build/mutants/tree-{number}"
        self.stack = Stack(stack_directory, number)
        self._process = None
        self._stopped = False

    def copy_tree(self):
        """Files that are as they were keep their time, so that make leaves their objects alone."""
        listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True,
                                capture_output=True, text=True).stdout
        names = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
        for old in self.tree.rglob("*"):
            name = old.relative_to(self.tree).as_posix()
            if old.is_file() and not name.startswith("build/") and name not in names:
                old.unlink()
        for name in names:
            source, target = ROOT / name, self.tree / name
            if not target.exists() or target.read_bytes() != source.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    def run(self, command, limit_s, **options):
        """The exit status, None if it took too long, and what was printed."""
        if self._stopped:
            raise Stopped
        with subprocess.Popen(command, cwd=self.tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", start_new_session=True, **options) as process:
            self._process = process
            try:
                output = process.communicate(timeout=limit_s)[0]
                status = process.returncode
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                status, output = None, process.communicate()[0]
            self._process = None
        if self._stopped:
            raise Stopped
        return status, output

    def make(self, *targets):
        status, output = self.run(["make", "-s", "WARN=-w", *targets], 900)
        if status != 0:
            raise ListError(f"make {' '.join(targets)}: {output[-2000:]}")

    def stop(self):
        """What runs, and all that would follow."""
        self._stopped = True
        process = self._process
        if process:
            os.killpg(process.pid, signal.SIGTERM)


def last_words(output):
    asserted = re.search(r"Assertion `(.*)' failed|SUMMARY: (.*)|runtime error: (.*)", output)
    if asserted:
        return next(filter(None, asserted.groups()))
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "crashes"


class Trial:
    """Runs the tests of one mutant; the first that fails raises Caught. spent_s: in tests, without compiling."""

    def __init__(self, workshop):
        self.workshop = workshop
        self.spent_s = 0.0

    def run(self, test):
        """KIND/NAME: unit/PROGRAM, simulate or simulate/SEED, or server/FILE.py::TEST, of which the C programs are
        server/store_batch, store_lane, store_links, store_loss, store_servers and store_failing. TEST may be a part of a
        name, and a class."""
        kind, _, name = test.partition("/")
        {"unit": self._unit, "simulate": self._simulate, "server": self._server}[kind](name)

    def _timed(self, command, limit_s, **options):
        began = time.monotonic()
        done = self.workshop.run(command, limit_s, **options)
        self.spent_s += time.monotonic() - began
        return done

    def _unit(self, name):
        program = f"build/asan/unit/{name}"
        self.workshop.make(program)
        status, output = self._timed([program], LIMIT_S["unit"])
        if status is None:
            raise Caught(f"{name}: hangs")
        if status != 0:
            failed = CHECK_FAILURE.search(output)
            raise Caught(f"{name}: {failed[1] if failed else last_words(output)}")

    def _simulate(self, seed):
        self.workshop.make("build/release/simulate")
        if seed:
            status, output = self._timed(simulate(seed, 1), LIMIT_S["simulate"])
            if status != 0:
                raise Caught(failed_seed(seed, status, output))
            return
        for first in range(1, SEEDS, SEEDS_AT_ONCE):
            status, output = self._timed(simulate(first, SEEDS_AT_ONCE), LIMIT_S["simulate"])
            if status != 0:
                raise Caught(self._which_seed(first, output))

    def _which_seed(self, first, output):
        """A seed that crashes says nothing: which was it?"""
        if re.search(r"^seed \d+ ", output, re.M):
            return failed_seed(first, 1, output)
        for seed in range(first, first + SEEDS_AT_ONCE):
            status, output = self.workshop.run(simulate(seed, 1), LIMIT_S["simulate"])
            if status != 0:
                return failed_seed(seed, status, output)
        return f"simulate {first}: hangs"

    def _server(self, name):
        self.workshop.make("usagebox")
        path, _, chosen = name.partition("::")
        if name.startswith("store_"):
            self.workshop.make(f"build/asan/integration/{name}_test")
            path, chosen = "test_store.py", f"{name}_test"
        command = ["/usr/bin/python3", "-m", "pytest", "-q", "-x", "--no-header", f"tests/integration/{path}",
                   *(["-k", chosen.replace("::", " and ")] if chosen else [])]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1",
                       "USAGEBOX_TEST_STACK": self.workshop.stack.directory()}
        status, output = self._timed(command, LIMIT_S["server"], env=environment)
        if status not in (0, 1, None):
            raise ListError(f"{name}: {output[-2000:]}")
        if status is None:
            raise Caught(f"{name}: hangs")
        if status != 0:
            raise Caught(failed_server(name, output), "\n".join(re.findall(r"^E  +(\S.*)", output, re.M)[:3]))


def simulate(seed, count):
    return ["build/release/simulate", str(seed), str(count)]


def failed_seed(seed, status, output):
    failed = re.search(r"^seed (\d+) (?:failed: )?(.*)", output, re.M)
    if failed:
        return f"simulate {failed[1]}: {failed[2]}"
    return f"simulate {seed}: {'hangs' if status is None else last_words(output)}"


def failed_server(name, output):
    if name.startswith("store_"):
        failed = CHECK_FAILURE.search(output)
        return f"{name}_test: {failed[1] if failed else last_words(output)}"
    failed = re.search(r"^(?:FAILED|ERROR) \S+?::(?:\w+::)?(\w+)", output, re.M)
    return f"{name.partition('::')[0]}: {failed[1] if failed else last_words(output)}"
