"""What a process, a server and a set of rounds cost: CPU from /proc, WAL from PostgreSQL, medians and their spread."""
import os
import statistics
from typing import NamedTuple

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid):
    """User and system time of a process, all its threads."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


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
