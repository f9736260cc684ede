#!/usr/bin/env python3
"""Plants realistic bugs, one at a time, and shows which test catches each, and how fast.

    mutants.py --check            does each still fit the code?
    mutants.py [NAME...]          plant all, or those whose names contain one of NAME
      --jobs N                    so many side by side, each with a tree and servers of its own; 2 unless given
      --table FILE                whose rows say what came of them; tests/README.md unless given
      --stack DIR                 servers made by deploy/stack.sh, in place of its own; wants --jobs 1
      --no-servers                without tests that need servers
      --sound                     first run all tests in question without any bug

The lists are *.txt beside this file: planted.py says how they read. What caught a mutant last time, as the table has
it, is run first. A mutant that survives has found a promise that no test checks."""
import argparse
import pathlib
import queue
import re
import signal
import sys
import threading

from planted import ListError, read_lists
from trial import ROOT, Caught, Stopped, Trial, Workshop

SURVIVED = "**survives**"
HEAD = "| mutant | caught by | seconds |\n|---|---|---|\n"


def read_table(path):
    """{name: (what caught it, seconds)}"""
    rows = {}
    for line in path.read_text().partition(HEAD)[2].splitlines():
        cells = line.strip("| ").split(" | ")
        if line.startswith("| ") and len(cells) == 3:
            rows[cells[0]] = (cells[1], cells[2])
    return rows


def write_table(path, rows):
    text = path.read_text()
    begin = text.index(HEAD)
    end = text.find("\n\n", begin)
    tail = text[end + 1:] if end >= 0 else ""
    order = [mutant.name for mutant in read_lists() if mutant.name in rows]
    path.write_text(text[:begin] + HEAD + "".join(f"| {name} | {' | '.join(rows[name])} |\n" for name in order) + tail)


def test_of(caught):
    """The test that a row of the table names; None if it names none."""
    program, _, words = caught.partition(": ")
    if program.startswith("simulate "):
        return program.replace(" ", "/")
    if program.startswith("store_"):
        return f"server/{program.removesuffix('_test')}"
    if program.endswith(".py"):
        return f"server/{program}::{words}" if re.fullmatch(r"\w+", words) else None
    return f"unit/{program}" if program.startswith("test_") else None


class Planter:
    """Shares the mutants out to its workshops."""

    def __init__(self, mutants, options):
        self.options = options
        self.workshops = [Workshop(number, options.stack) for number in range(1, options.jobs + 1)]
        self.survived, self.errors = [], []
        self._rows = read_table(options.table)
        self._left = queue.Queue()
        for mutant in mutants:
            self._left.put(mutant)
        self._lock = threading.Lock()

    def _tests(self, mutant):
        """What caught it last time first."""
        known = test_of(self._rows.get(mutant.name, ("",))[0])
        tests = ([known] if known else []) + mutant.tests
        return [test for test in tests if not (self.options.no_servers and test.startswith("server/"))]

    def _try(self, workshop, mutant):
        path, trial = workshop.tree / mutant.file, Trial(workshop)
        right = path.read_text()
        path.write_text(mutant.apply(workshop.tree))
        try:
            for test in self._tests(mutant):
                trial.run(test)
            self._note(mutant, SURVIVED, trial, "")
        except Caught as caught:
            self._note(mutant, str(caught), trial, caught.detail)
        finally:
            path.write_text(right)

    def _note(self, mutant, caught, trial, detail):
        with self._lock:
            row = self._rows[mutant.name] = (caught.replace("|", "/"), f"{trial.spent_s:.1f}")
            if caught == SURVIVED:
                self.survived.append(mutant.name)
            print(f"| {mutant.name} | {' | '.join(row)} |", flush=True)
            if detail:
                print("    " + detail.replace("\n", "\n    "), flush=True)
            write_table(self.options.table, self._rows)

    def _work(self, workshop):
        try:
            workshop.copy_tree()
            while True:
                self._try(workshop, self._left.get_nowait())
        except (queue.Empty, Stopped):
            pass
        except ListError as error:
            self.errors.append(str(error))

    def check_sound(self, mutants):
        """A test that fails without any bug would catch everything."""
        workshop = self.workshops[0]
        workshop.copy_tree()
        for test in sorted({test for mutant in mutants for test in self._tests(mutant)}):
            try:
                Trial(workshop).run(test)
            except Caught as caught:
                raise ListError(f"without any bug, {caught}\n{caught.detail}") from None

    def plant(self):
        threads = [threading.Thread(target=self._work, args=[workshop]) for workshop in self.workshops]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            for workshop in self.workshops:
                workshop.stop()
            for thread in threads:
                thread.join()
            raise

    def close(self):
        for workshop in self.workshops:
            workshop.stack.close()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", type=pathlib.Path, default=ROOT / "tests/README.md")
    parser.add_argument("--stack")
    parser.add_argument("--no-servers", action="store_true")
    parser.add_argument("--sound", action="store_true")
    options = parser.parse_args()
    if options.stack and options.jobs != 1:
        parser.error("tests stop and restart what is in --stack: one job at a time")
    return options


def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = parse_arguments()
    mutants = [mutant for mutant in read_lists()
               if not options.names or any(name in mutant.name for name in options.names)]
    for mutant in mutants:
        mutant.apply(ROOT)
    if options.check:
        print(f"{len(mutants)} mutants fit the code")
        return 0
    planter = Planter(mutants, options)
    try:
        if options.sound:
            planter.check_sound(mutants)
        planter.plant()
    finally:
        planter.close()
    if planter.errors:
        raise ListError("\n".join(planter.errors))
    print(f"{len(mutants) - len(planter.survived)} of {len(mutants)} mutants are caught"
          + "".join(f"\n  {name} survives" for name in planter.survived))
    return 1 if planter.survived else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ListError as error:
        sys.exit(f"mutants: {error}")
