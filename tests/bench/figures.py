"""What a process, a server and a set of rounds cost: CPU from /proc, WAL from PostgreSQL, medians and their spread."""
import collections
import os
import pathlib
import statistics
from typing import NamedTuple

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid):
    """User and system time of a process, all its threads."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def thread_times(pid):
    """{thread: (seconds on a core, seconds queued for one)}; threads of one name together, the engine's is the process's."""
    times = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        ran_ns, queued_ns, _ = map(int, (task / "schedstat").read_text().split())
        before = times.get(name, (0, 0))
        times[name] = (before[0] + ran_ns / 1e9, before[1] + queued_ns / 1e9)
    return times


def thread_shares(pid, seconds, least=0.005):
    """{thread: shares of that time that it ran, queued, slept}, of those that did something."""
    shares = {name: (ran / seconds, queued / seconds, max(0, 1 - (ran + queued) / seconds))
              for name, (ran, queued) in thread_times(pid).items()}
    return {name: share for name, share in sorted(shares.items(), key=lambda item: -item[1][0]) if share[0] >= least}


def peak_rss_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmHWM")


def wal_bytes(cursor):
    """How much WAL this server has written since it was made."""
    cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
    return int(cursor.fetchone()[0])


class Spread(NamedTuple):
    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values):
        return cls(statistics.median(values), min(values), max(values))

    def text(self, form):
        return f"{form.format(self.median)} [{form.format(self.least)} – {form.format(self.most)}]"


def quantile(ordered, part):
    """The value that this part of all is at or below; ordered: ascending, not empty."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class Waits:
    """What backends were seen waiting for: counts of looks. "CPU": for nothing."""

    def __init__(self):
        self._seen = collections.Counter()

    def look(self, event):
        self._seen[event] += 1

    def shares(self):
        return {event: count / self._seen.total() for event, count in self._seen.most_common()}
