#!/usr/bin/python3
"""make bench: how fast UsageBox is beside what bounds it, on a private Kafka and PostgreSQL. README.md says what
each figure means. Nothing here passes or fails by time."""
import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "integration"), str(HERE.parent)]
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import latency
import report
from stack import ROOT, Stack
from throughput import PARTITIONS, Throughput, with_ratios

PARTS = ("memory", "throughput", "latency")


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
    """{stage: (best, median)} by the programs that measure the pure parts alone."""
    figures = {}
    for name in ("decode", "decide"):
        done = subprocess.run([ROOT / "build/release/bench" / name], check=True, capture_output=True, text=True)
        for line in done.stdout.splitlines():
            stage, best, median = line.split()
            figures[f"{name}: {stage}"] = (float(best), float(median))
    return figures


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
    return {"corpus": corpus, "rounds": rounds, "summary": medians}


def machine():
    return {"cpus": os.cpu_count(), "load_before": os.getloadavg(), "kernel": platform.release()}


def measure(options, parts, stack, directory):
    figures = {"machine": machine()}
    if "memory" in parts:
        figures["memory"] = in_memory()
        report.print_memory(figures["memory"])
    if "throughput" in parts:
        figures["throughput"] = throughput(stack, directory, options)
    if "latency" in parts:
        figures["latency"] = latency.measure(stack, directory, options.seconds)
        report.print_latency(figures["latency"])
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
