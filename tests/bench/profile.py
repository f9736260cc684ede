#!/usr/bin/python3
"""make profile: where a drain spends its time, by thread and function: usagebox and the PostgreSQL backends that it writes
through. Wants perf (Debian: linux-perf)."""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "integration"), str(HERE.parent)]
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import report
from stack import Stack, wait_until
from throughput import Throughput

LINES = 40


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=int(os.environ.get("BENCH_EVENTS", 500000)), help="to drain (%(default)s)")
    parser.add_argument("--no-runs", action="store_true", help="without usage_run")
    parser.add_argument("--stack", help="a directory that deploy/stack.sh has filled; else one is made and removed")
    return parser.parse_args()


class Profiled(Throughput):
    """A drain with perf attached to the process and its backends as soon as they are known."""

    perf_data = None  # the first drain, which makes the rows, is not looked at

    def _await_drained(self, cursor, process, waits):
        if not self.perf_data:
            return super()._await_drained(cursor, process, waits)

        def backends():
            cursor.execute("SELECT max(backend_pid), max(second_backend_pid) FROM consumer_offset")
            pids = cursor.fetchone()
            return pids if all(pids) else None
        pids = ",".join(map(str, (process.pid, *wait_until(backends, 60, "two backends"))))
        with subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", "2000", "-p", pids, "-o", self.perf_data]) as perf:
            try:
                return super()._await_drained(cursor, process, waits)
            finally:
                perf.terminate()

    def profile(self, runs):
        self.prepare()
        self.perf_data = str(self.directory / "perf.data")
        return self._drain_round(runs)


def print_profile(data, sort, lines):
    done = subprocess.run(["perf", "report", "-i", data, "--stdio", "--sort", sort], check=True, capture_output=True, text=True)
    shown = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("#")]
    report.say("\n" + "\n".join(shown[:lines]))


def main():
    options = arguments()
    if not shutil.which("perf"):
        sys.exit("profile: perf is not there: install Debian's linux-perf")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="usagebox-profile-"))
    directory.chmod(0o755)  # run as root, PostgreSQL is another user
    stack = Stack(options.stack or directory / "stack", is_ours=not options.stack)
    try:
        bench = Profiled(stack, directory, options.events)
        try:
            figures = bench.profile(not options.no_runs)
        finally:
            bench.close()
        report.print_waits("drain", figures)
        print_profile(bench.perf_data, "comm,dso", LINES // 2)
        print_profile(bench.perf_data, "comm,dso,sym", 2 * LINES)
    finally:
        stack.close()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
