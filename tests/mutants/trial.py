"""A copy of the tree in which mutants are built and tested. Its objects are kept: a mutant costs what compiling one
file and linking cost."""
import os
import pathlib
import re
import shutil
import subprocess
import time

from planted import ListError

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPY = ROOT / "build/mutants/tree"
SEEDS = 300  # from 1 on; `make unit` runs the first 60
SEEDS_AT_ONCE = 10
CHECK_FAILURE = re.compile(r"^E? *\S+:\d+:[EF]:.*?:(\w+):\d+:", re.M)
LIMIT_S = {"unit": 60, "simulate": 60, "server": 240}


class Caught(Exception):
    """By what, in words."""


def copy_tree():
    """Files that are as they were keep their time, so that make leaves their objects alone."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout
    names = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    for old in COPY.rglob("*"):
        name = old.relative_to(COPY).as_posix()
        if old.is_file() and not name.startswith("build/") and name not in names:
            old.unlink()
    for name in names:
        source, target = ROOT / name, COPY / name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def run(command, limit_s, **options):
    """The exit status, None if it took too long, and what was printed."""
    with subprocess.Popen(command, cwd=COPY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", start_new_session=True, **options) as process:
        try:
            output = process.communicate(timeout=limit_s)[0]
            return process.returncode, output
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return None, process.communicate()[0]


def make(*targets):
    status, output = run(["make", "-s", "WARN=-w", *targets], 900)
    if status != 0:
        raise ListError(f"make {' '.join(targets)}: {output[-2000:]}")


def last_words(output):
    asserted = re.search(r"Assertion `(.*)' failed|SUMMARY: (.*)|runtime error: (.*)", output)
    if asserted:
        return next(filter(None, asserted.groups()))
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "crashes"


class Stack:
    """Made when the first test wants it, removed at the end, unless it was there before."""

    def __init__(self, directory):
        self._given = directory
        self._made = None

    def directory(self):
        if self._given:
            return self._given
        if not self._made:
            self._made = f"/tmp/usagebox-mutants-{os.getpid()}"
            self._verb("start")
        return self._made

    def close(self):
        if self._made:
            self._verb("remove")

    def _verb(self, verb):
        subprocess.run([str(ROOT / "deploy/stack.sh"), verb, self._made], check=True, stdout=subprocess.DEVNULL)


class Trial:
    """Runs the tests of one mutant; the first that fails raises Caught. spent_s: in tests, without compiling."""

    def __init__(self, stack):
        self.stack = stack
        self.spent_s = 0.0

    def run(self, test):
        """KIND/NAME: unit/PROGRAM, simulate, or server/FILE.py::TEST, of which the C programs are
        server/store_batch and server/store_lane."""
        kind, _, name = test.partition("/")
        {"unit": self._unit, "simulate": self._simulate, "server": self._server}[kind](name)

    def _timed(self, command, limit_s, **options):
        began = time.monotonic()
        done = run(command, limit_s, **options)
        self.spent_s += time.monotonic() - began
        return done

    def _unit(self, name):
        program = f"build/asan/unit/{name}"
        make(program)
        status, output = self._timed([program], LIMIT_S["unit"])
        if status is None:
            raise Caught(f"{name}: hangs")
        if status != 0:
            failed = CHECK_FAILURE.search(output)
            raise Caught(f"{name}: {failed[1] if failed else last_words(output)}")

    def _simulate(self, _):
        make("build/release/simulate")
        for seed in range(1, SEEDS, SEEDS_AT_ONCE):
            status, output = self._timed(simulate(seed, SEEDS_AT_ONCE), LIMIT_S["simulate"])
            if status != 0:
                raise Caught(failed_seed(seed, output))

    def _server(self, name):
        make("usagebox")
        selected = name
        if name.startswith("store_"):
            make(f"build/asan/integration/{name}_test")
            selected = f"test_store.py::test_the_store_keeps_its_promises_against_a_real_server[{name}_test]"
        command = ["/usr/bin/python3", "-m", "pytest", "-q", "-x", "--no-header", f"tests/integration/{selected}"]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "USAGEBOX_TEST_STACK": self.stack.directory()}
        status, output = self._timed(command, LIMIT_S["server"], env=environment)
        if status not in (0, 1, None):
            raise ListError(f"{name}: {output[-2000:]}")
        if status != 0:
            raise Caught(f"{name}: hangs" if status is None else failed_server(name, output))


def simulate(seed, count):
    return ["build/release/simulate", str(seed), str(count)]


def failed_seed(first, output):
    """A seed that crashes says nothing: which was it?"""
    failed = re.search(r"^seed (\d+) (failed: .*|ran differently.*)", output, re.M)
    if failed:
        return f"simulate {failed[1]}: {failed[2].removeprefix('failed: ')}"
    for seed in range(first, first + SEEDS_AT_ONCE):
        status, output = run(simulate(seed, 1), LIMIT_S["simulate"])
        if status != 0:
            return f"simulate {seed}: {'hangs' if status is None else last_words(output)}"
    return f"simulate {first}: hangs"


def failed_server(name, output):
    if name.startswith("store_"):
        failed = CHECK_FAILURE.search(output)
        return f"{name}_test: {failed[1] if failed else last_words(output)}"
    failed = re.search(r"^FAILED \S+?::(?:\w+::)?(\w+)", output, re.M) or re.search(r"^ERROR \S+?::(\S+)", output, re.M)
    return f"{name.partition('::')[0]}: {failed[1] if failed else last_words(output)}"
