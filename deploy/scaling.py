#!/usr/bin/env python3
"""What a rate of events takes, from measured costs per event: the tables of SCALING.md.

    deploy/scaling.py              both tables
    deploy/scaling.py --seed 7     the simulation with another seed

The first table is arithmetic. The second is a simulation: events come at random, each process writes through two
backends in turn, one that takes in the rows of the open batch as they come and one that commits the batch before,
backends share the server's cores, and a batch closes when none is being committed and its first event is as old as
batch.max_delay. It finds the fewest processes that keep p99 of "visible in usage_hourly" low."""
import argparse
import math
import random
from typing import NamedTuple


class Costs(NamedTuple):
    """Medians of `make bench`: two cores shared with Kafka and PostgreSQL."""
    usagebox_us: float       # CPU of all threads, per event
    postgres_us: float       # CPU of both backends, per row
    copy_share: float        # of that: taking rows in, before the batch is closed
    wal_bytes: float         # per row
    stored_bytes: float      # per event, indexes included, once its day is sealed
    commit_ms: float = 12.0  # what a batch costs however small it is: fifteen statements and one flush


WITHOUT_RUNS = Costs(1.94, 4.28, 0.86, 593, 678)
WITH_RUNS = Costs(2.21, 5.00, 0.72, 675, 753)
KEY_BYTES = 26.1           # of dedupe memory per event of an open day
OPEN_DAYS = {"24h": 2.25, "1h": 1.29}  # at their most, until a day is sealed: window, ten quiet minutes, building the index
USABLE = 0.6               # share of a core or device that is planned with
PROCESS_RATE = 100_000     # events/s that one process is planned with; 202,000 to 223,000 were measured
CORES_OF_A_SERVER = 32     # of one PostgreSQL, planned with
WAL_OF_A_SERVER = 500e6    # bytes/s, planned with: one NVMe drive
STEP_S = 0.01


def arithmetic(rate, costs):
    processes = max(1, math.ceil(rate / PROCESS_RATE))
    postgres_cores = rate * costs.postgres_us / 1e6 / USABLE
    return {
        "events/s": f"{rate:,}",
        "processes": processes,
        "lanes": max(6, 4 * processes),
        "usagebox cores": f"{rate * costs.usagebox_us / 1e6 / USABLE:.2f}",
        "PostgreSQL cores": f"{postgres_cores:.2f}",
        "PostgreSQL servers": math.ceil(max(postgres_cores / CORES_OF_A_SERVER, rate * costs.wal_bytes / WAL_OF_A_SERVER)),
        "WAL MB/s": f"{rate * costs.wal_bytes / 1e6:,.0f}",
        "disk TB/day": f"{rate * 86400 * costs.stored_bytes / 1e12:,.2f}",
        "keys GB, window 24h": f"{rate * 86400 * OPEN_DAYS['24h'] * KEY_BYTES / 1e9:,.0f}",
        "keys GB, window 1h": f"{rate * 86400 * OPEN_DAYS['1h'] * KEY_BYTES / 1e9:,.0f}",
    }


class Process:
    """Its open batch, as (time of arrival, events), and the one that is being committed, with the work that is left of
    each."""

    def __init__(self):
        self.open, self.rows_s, self.closed, self.commit_s = [], 0.0, [], 0.0

    def busy(self):
        """How many backends are at work."""
        return (self.rows_s > 0) + bool(self.closed)

    def take(self, now, count, costs):
        self.open.append((now, count))
        self.rows_s += count * costs.postgres_us * costs.copy_share / 1e6

    def close(self, now, max_delay_s, costs):
        if self.closed or now - self.open[0][0] < max_delay_s:
            return
        events = sum(count for _, count in self.open)
        self.closed, self.open = self.open, []
        self.commit_s = self.rows_s + costs.commit_ms / 1e3 + events * costs.postgres_us * (1 - costs.copy_share) / 1e6
        self.rows_s = 0.0

    def advance(self, share_s, now, ages):
        self.rows_s = max(0.0, self.rows_s - share_s)
        self.commit_s -= share_s
        if self.closed and self.commit_s <= 0:
            ages += [(now - came, count) for came, count in self.closed]
            self.closed = []


def percentile(ages, share):
    total, seen = sum(count for _, count in ages), 0
    for age, count in sorted(ages):
        seen += count
        if seen >= total * share:
            return age
    return math.inf


def visible_p99_s(rate, processes, cores, costs, rng, seconds=20, max_delay_s=1.0):
    """inf if it does not keep up."""
    fleet, ages, mean = [Process() for _ in range(processes)], [], rate * STEP_S / processes
    for step in range(int(seconds / STEP_S)):
        now = step * STEP_S
        busy = sum(process.busy() for process in fleet)
        share_s = STEP_S * min(1.0, cores / busy) if busy else 0.0
        for process in fleet:
            process.take(now, max(0.0, rng.gauss(mean, math.sqrt(mean))), costs)
            process.advance(share_s, now, ages)
            process.close(now, max_delay_s, costs)
    late = sum(count for process in fleet for came, count in process.open + process.closed if now - came > 3 * max_delay_s)
    return math.inf if late else percentile([age for age in ages if age], 0.99)


def fewest_processes(rate, cores, costs, rng, goal_s=1.5):
    for processes in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64):
        p99_s = visible_p99_s(rate, processes, cores, costs, rng)
        if p99_s <= goal_s:
            return processes, p99_s
    return None, math.inf


def simulated(rate, cores, costs, rng):
    processes, p99_s = fewest_processes(rate, cores, costs, rng)
    return {"events/s at one server": f"{rate:,}", "its cores": cores, "processes": processes or "none will do",
            "visible p99": f"{p99_s:.2f} s" if processes else "-",
            "share of its cores": f"{rate * costs.postgres_us / 1e6 / cores:.0%}"}


def table(rows):
    lines = [list(rows[0]), ["---:"] * len(rows[0])] + [[str(cell) for cell in row.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    rng = random.Random(parser.parse_args().seed)
    for name, costs in (("rollup.runs: false", WITHOUT_RUNS), ("rollup.runs: true", WITH_RUNS)):
        print(f"{name}\n\n{table([arithmetic(10 ** power, costs) for power in (4, 5, 6, 7)])}\n")
        print(table([simulated(rate, cores, costs, rng) for rate, cores in
                     ((10_000, 2), (50_000, 2), (100_000, 4), (500_000, 8), (1_000_000, 16), (2_000_000, 32))]) + "\n")


if __name__ == "__main__":
    main()
