"""Commands of which one call of libpq or librdkafka fails."""
import datetime
import os
import subprocess

import pytest
from stack import ROOT

TODAY = datetime.date.today().toordinal()
# The connection is lost before the call or after it, or there is no memory: each day another. STEP=1 FIRST=1: all.
HOWS = ["before", "after", "memory"]
each_how = pytest.mark.parametrize("how", HOWS if "STEP" in os.environ else [HOWS[TODAY % len(HOWS)]])


class FailingCalls:
    """Runs commands of a scene. calls: how many calls counted in the last one; failed: the name of the one that
    failed, "none" if there were fewer."""

    def __init__(self, scene):
        self.scene = scene
        self.library, self.report = scene.directory / "failing_calls.so", scene.directory / "failing_calls"
        includes = subprocess.run(["pg_config", "--includedir"], capture_output=True, text=True, check=True).stdout.strip()
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-isystem", includes, "-o", self.library,
                        ROOT / "tests/integration/failing_calls.c"], check=True)
        self.calls, self.failed = 0, "none"

    def command(self, *arguments, library="PQ", at=0, how="memory", env=None, stdin=None):
        self.report.unlink(missing_ok=True)
        done = self.scene.usagebox.command(*arguments, check=False, timeout_s=120, stdin=stdin, env={
            **(env or {}), "LD_PRELOAD": str(self.library), "FAILING": library, "FAILING_AT": str(at),
            "FAILING_HOW": how, "FAILING_REPORT": str(self.report)})
        assert done.returncode in (0, 1), f"call {at} ({how}): exit {done.returncode}\n{done.stderr}"
        calls, self.failed = self.report.read_text().split()
        self.calls = int(calls)
        assert done.returncode == 0 or done.stderr.strip() or done.stdout.strip(), f"{self.failed} failed, and nothing is said"
        return done


def slice_of(calls, size):
    """About so many of the calls 1 to `calls`, each day others. STEP=1 FIRST=1: all."""
    step = int(os.environ.get("STEP", max(1, calls // size)))
    return range(int(os.environ.get("FIRST", 1 + TODAY // len(HOWS) % step)), calls + 1, step)
