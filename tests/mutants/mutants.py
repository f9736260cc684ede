#!/usr/bin/env python3
"""Plants realistic bugs, one at a time, and shows which test catches each, and how fast.

    mutants.py --check            does each still fit the code?
    mutants.py [NAME...]          plant all, or those whose names contain one of NAME
      --table FILE                whose rows say what came of them; README.md here unless given
      --stack DIR                 servers made by deploy/stack.sh, in place of some of its own
      --no-servers                without tests that need servers
      --sound                     first run all tests in question without any bug

The lists are *.txt beside this file: planted.py says how they read. A mutant that survives has found a promise that no
test checks."""
import argparse
import pathlib
import signal
import sys

from planted import ListError, read_lists
from trial import COPY, ROOT, Caught, Stack, Trial, copy_tree

SURVIVED = "**survives**"
HEAD = "| mutant | caught by | seconds |\n|---|---|---|\n"


def try_mutant(mutant, stack, with_servers):
    """By what it was caught, and after how many seconds of testing."""
    path = COPY / mutant.file
    trial, right = Trial(stack), path.read_text()
    path.write_text(mutant.apply(COPY))
    try:
        for test in mutant.tests:
            if with_servers or not test.startswith("server/"):
                trial.run(test)
    except Caught as caught:
        return str(caught), trial.spent_s
    finally:
        path.write_text(right)
    return SURVIVED, trial.spent_s


def check_sound(mutants, stack, with_servers):
    """A test that fails without any bug would catch everything."""
    for test in sorted({test for mutant in mutants for test in mutant.tests}):
        if with_servers or not test.startswith("server/"):
            try:
                Trial(stack).run(test)
            except Caught as caught:
                raise ListError(f"without any bug, {caught}") from None


def read_table(path):
    rows = {}
    for line in path.read_text().splitlines():
        cells = line.strip("| ").split(" | ")
        if line.startswith("| ") and len(cells) == 3 and cells[0] != "mutant":
            rows[cells[0]] = line + "\n"
    return rows


def write_table(path, order, rows):
    text = path.read_text()
    begin = text.index(HEAD)
    end = text.find("\n\n", begin)
    tail = text[end + 1:] if end >= 0 else ""
    path.write_text(text[:begin] + HEAD + "".join(rows[name] for name in order if name in rows) + tail)


def plant(mutants, options):
    """The names of those that survived."""
    stack, survived = Stack(options.stack), []
    rows = read_table(options.table)
    try:
        if options.sound:
            check_sound(mutants, stack, not options.no_servers)
        for mutant in mutants:
            caught, seconds = try_mutant(mutant, stack, not options.no_servers)
            rows[mutant.name] = f"| {mutant.name} | {caught.replace('|', '/')} | {seconds:.1f} |\n"
            print(rows[mutant.name], end="", flush=True)
            if caught == SURVIVED:
                survived.append(mutant.name)
            write_table(options.table, [known.name for known in read_lists()], rows)
    finally:
        stack.close()
    return survived


def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # puts the copy right
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--table", type=pathlib.Path, default=pathlib.Path(__file__).with_name("README.md"))
    parser.add_argument("--stack")
    parser.add_argument("--no-servers", action="store_true")
    parser.add_argument("--sound", action="store_true")
    options = parser.parse_args()
    mutants = [mutant for mutant in read_lists()
               if not options.names or any(name in mutant.name for name in options.names)]
    for mutant in mutants:
        mutant.apply(ROOT)
    if options.check:
        print(f"{len(mutants)} mutants fit the code")
        return 0
    copy_tree()
    survived = plant(mutants, options)
    print(f"{len(mutants) - len(survived)} of {len(mutants)} mutants are caught"
          + "".join(f"\n  {name} survives" for name in survived))
    return 1 if survived else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ListError as error:
        sys.exit(f"mutants: {error}")
