#!/usr/bin/python3
"""make bench: how fast UsageBox is beside what bounds it, on a private Kafka and PostgreSQL. README.md says what
each figure means. Nothing here passes or fails by time."""
import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "integration"), str(HERE.parent)]
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import flags
import latency
import moments
import report
from stack import ROOT, Stack
from throughput import PARTITIONS, Throughput, with_ratios

PARTS = ("memory", "throughput", "latency", "flags", "moments")
DEDUPE_KEYS = 2000000


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=int(os.environ.get("BENCH_EVENTS", 500000)), help="to drain (%(default)s)")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS", 3)), help="of each (%(default)s)")
    parser.add_argument("--seconds", type=int, default=20, help="of load while latency is measured (%(default)s)")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given again")
    parser.add_argument("--json", type=pathlib.Path, default=HERE / "out" / "bench.json", help="where figures go (%(default)s)")
    parser.add_argument("--stack", help="a directory that deploy/stack.sh has filled; else one is made and removed")
    return parser.parse_args()


def in_memory():
    """{stage: (best, median, allocations)} by the programs that measure the pure parts alone."""
    figures = {}
    for name in ("decode", "decide"):
        done = subprocess.run([ROOT / "build/release/bench" / name], check=True, capture_output=True, text=True)
        for line in done.stdout.splitlines():
            stage, *values = line.split()
            figures[f"{name}: {stage}"] = tuple(map(float, values))
    return figures


def dedupe():
    """Of the table alone: bytes by key, ns by new key, the longest calls, keys restored in a second."""
    done = subprocess.run([ROOT / "build/release/bench/dedupe_bench", str(DEDUPE_KEYS)], check=True, capture_output=True,
                          text=True)
    patterns = {"ns_per_new_key": r"([\d.]+) ns/new key", "bytes_per_key_resident": r"([\d.]+) bytes/key resident",
                "longest_insert_us": r"^insert: .*longest ([\d.]+) us", "longest_sweep_us": r"^sweep: .*longest ([\d.]+) us",
                "restored_million_keys_per_s": r"^restore: ([\d.]+)"}
    figures = {name: float(re.findall(pattern, done.stdout, re.MULTILINE)[-1]) for name, pattern in patterns.items()}
    return {"keys": DEDUPE_KEYS, **figures}


def throughput(stack, directory, options):
    bench = Throughput(stack, directory, options.events)
    try:
        corpus = bench.prepare()
        report.say(f"{options.events:,} events in {PARTITIONS} partitions, {corpus['value_bytes']:.0f} bytes each; "
                   f"{corpus['rows']:,} rows of {corpus['copy_row_bytes']:.0f} bytes in COPY's format")
        rounds = []
        for number in range(options.rounds):
            rounds.append(with_ratios(bench.round(backwards=number % 2 == 1)))
            report.say(report.round_line(number + 1, rounds[-1]))
    finally:
        bench.close()
    medians = report.summary(rounds)
    report.print_summary(medians)
    for name in ("drain", "drain with runs"):
        report.print_waits(name, rounds[-1][name])
    return {"corpus": corpus, "rounds": rounds, "summary": medians}


def machine():
    return {"cpus": os.cpu_count(), "load_before": os.getloadavg(), "kernel": platform.release()}


def measure(options, parts, stack, directory):
    figures = {"machine": machine()}
    if "memory" in parts:
        figures["memory"] = in_memory()
        report.print_memory(figures["memory"])
        figures["dedupe"] = dedupe()
        report.print_flat("the dedupe table alone", figures["dedupe"])
    if "throughput" in parts:
        figures["throughput"] = throughput(stack, directory, options)
    if "latency" in parts:
        figures["latency"] = latency.measure(stack, directory, options.seconds)
        report.print_latency(figures["latency"])
    if "flags" in parts:
        figures["flags"] = flags.measure(stack, directory, options.events, options.rounds)
        report.print_flags(figures["flags"])
    if "moments" in parts:
        figures["moments"] = moments.measure(stack, directory, options.events)
        report.print_flat("moments", figures["moments"])
    return figures


def main():
    options = arguments()
    parts = options.only or PARTS
    directory = pathlib.Path(tempfile.mkdtemp(prefix="usagebox-bench-"))
    directory.chmod(0o755)  # run as root, PostgreSQL is another user
    stack = Stack(options.stack or directory / "stack", is_ours=not options.stack)
    try:
        figures = measure(options, parts, stack, directory)
    finally:
        stack.close()
        shutil.rmtree(directory, ignore_errors=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(figures, indent=1) + "\n")
    report.say(f"\nall figures: {options.json}")


if __name__ == "__main__":
    main()
