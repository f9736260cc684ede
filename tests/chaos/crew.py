"""The usagebox processes of a campaign, by slot. Whoever ends one says so here first; one that ends otherwise has died
by itself, which nothing may make it do."""
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

from clock import MovedClock
from fault import Broken
from psycopg2.extensions import make_dsn, parse_dsn
from stack import tail_of

# A report, whatever the exit code.
REPORT = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|[Aa]ssertion|stack smashing|double free|"
                    r"level=error.*(internal|impossible|can't happen)")
WAITS_FOR_STANDBY = "-csynchronous_commit=on"  # if there is one: see UnheardCommit
DRAIN_S = 75  # a minute, on a machine that has other things to do


class Slot:
    def __init__(self, number, env):
        self.number, self.env = number, env
        self.process = None


class Crew:
    def __init__(self, scene, links, count):
        self.scene = scene
        self.slots, self.clocks = [], {}
        self.exits = []  # (process, code, codes expected) of those that SIGTERM ended
        self.started = 0
        self._lock = threading.Lock()
        self._starter = ThreadPoolExecutor(1)  # a process ends with the thread that started it
        for number in range(count):
            self.slots.append(Slot(number, self._environment(number, links.ports[f"pg-{number}"][0])))

    def _environment(self, number, pg_port):
        directory = self.scene.directory / f"slot-{number}"
        directory.mkdir()
        clock = MovedClock(directory)
        dsn = make_dsn(**{**parse_dsn(self.scene.database.dsn), "port": pg_port, "options": WAITS_FOR_STANDBY})
        env = {**clock.env, "USAGEBOX_POSTGRES_DSN": dsn, "ASAN_OPTIONS": "verify_asan_link_order=0"}
        self.clocks[number] = clock
        return env

    def start(self, number):
        """False: it runs."""
        with self._lock:
            slot = self.slots[number]
            if slot.process:
                return False
            slot.process = self._starter.submit(self.scene.usagebox.start, env=slot.env, ready=False).result()
            self.started += 1
            return True

    def take(self, number):
        """The process of a slot, which the caller ends; None: none runs."""
        with self._lock:
            process, self.slots[number].process = self.slots[number].process, None
            if process:
                must_live(process)
            return process

    def kill9(self, number):
        process = self.take(number)
        if process:
            process.kill9()
        return process is not None

    def terminate(self, number, twice=False, expected=(0, 1)):
        """SIGTERM, and with which exit code it must go; check() judges."""
        process = self.take(number)
        if not process:
            return False
        if not process.log():  # it is being loaded still: nothing of ours has heard the signal
            expected = (*expected, -signal.SIGTERM)
        process.signal(signal.SIGTERM)
        if twice:
            process.signal(signal.SIGTERM)
        self.exits.append((process, process.wait(DRAIN_S), expected))
        return True

    def running(self):
        with self._lock:
            return [slot.process for slot in self.slots if slot.process]

    def signal(self, number, signal_number):
        process = self.slots[number].process
        if process:
            process.signal(signal_number)
        return process is not None

    def check(self):
        """None has died, none has reported anything, none has gone in a way that it shouldn't."""
        with self._lock:
            for slot in self.slots:
                if slot.process:
                    must_live(slot.process)
        for process, code, expected in self.exits:
            must(code in expected, process, f"exit {code} after SIGTERM")
            must(code != 0 or "msg=stopped" in process.log(), process, "exit 0 without having stopped")
        for process in self.scene.usagebox.processes:
            report = REPORT.search(process.log())
            must(not report, process, report and report.group(0))


def must_live(process):
    must(process.is_alive(), process, "died by itself")


def must(condition, process, what):
    if not condition:
        raise Broken(f"{process.log_path}: {what}:\n{tail_of(process.log_path, 30)}")
