"""make chaos: rounds of faults on a real deployment, and what came of them.

    chaos.py [--seconds 120] [--seed 1] [--brokers 1 or 3] [--keep DIR]

Faults go on for so many seconds, in rounds of up to ROUND_S, each with the next seed and judged at its end. Exit 1 if
any promise was broken; the logs then stay in DIR."""
import argparse
import logging
import os
import pathlib
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/integration")]

from campaign import Ground, Round  # noqa: E402  (after the path)

ROUND_S = 120


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=ROUND_S)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--brokers", type=int, choices=[1, 3], help="default: three for every other seed")
    parser.add_argument("--keep", type=pathlib.Path, help="where logs go; default: a new directory below /tmp")
    return parser.parse_args()


def main():
    arguments = read_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    total, seed, left_s = Counter(), arguments.seed, arguments.seconds
    while left_s > 0:
        seconds = min(left_s, ROUND_S)
        brokers = arguments.brokers or (1 if seed % 2 else 3)
        if not one_round(arguments.keep, seed, seconds, brokers, total):
            return 1
        seed, left_s = seed + 1, left_s - seconds
    if seed > arguments.seed + 1:
        print(f"in all: {summary(total)}")
    return 0


def one_round(keep, seed, seconds, brokers, total):
    """keep: where logs stay; None: below /tmp, until it has held. Adds what happened to total. True: it held."""
    directory = keep or pathlib.Path(tempfile.mkdtemp(prefix="usagebox-chaos-"))
    home = directory / f"seed-{seed}"
    home.mkdir(parents=True)
    for path in (directory, home):
        os.chmod(path, 0o755)  # run as root, PostgreSQL is another user
    print(f"seed {seed}: {seconds:g} s, {brokers} brokers, in {home}", flush=True)
    started = time.monotonic()
    passed = attempt(home, seed, seconds, brokers, total)
    print(f"seed {seed}: {'held' if passed else 'BROKEN'} after {time.monotonic() - started:.0f} s", flush=True)
    if passed and not keep:
        shutil.rmtree(directory)
    if not passed:
        print(f"logs: {home}\nagain: make chaos SECONDS={seconds:g} SEED={seed} BROKERS={brokers}", flush=True)
    return passed


def attempt(home, seed, seconds, brokers, total):
    ground = Ground(home / "servers", brokers)
    a_round = None
    try:
        if not ground.disk:
            print("left out: a full disk, for file systems can't be mounted here")
        a_round = Round(ground, home, seed, seconds)
        outcome, decisions = a_round.run()
        tell(a_round, outcome, decisions, total)
        return True
    except Exception:
        traceback.print_exc()
        if a_round:
            a_round.keep_evidence()
        return False
    finally:
        if a_round:
            a_round.close()
        ground.close()


def tell(a_round, outcome, decisions, total):
    counts = Counter(records=len(outcome.verdicts), accepted=len(outcome.events), decisions=len(decisions),
                     processes=a_round.field.crew.started)
    print(summary(counts))
    print(f"  faults: {summary(a_round.injected)}; all consumed {a_round.recovered_s:.1f} s after the last")
    print("  zero lost, zero counted twice, each decision once, flags as stored", flush=True)
    total.update(counts)
    total.update(a_round.injected)


def summary(counts):
    return ", ".join(f"{name} {count}" for name, count in counts.items())


if __name__ == "__main__":
    sys.exit(main())
