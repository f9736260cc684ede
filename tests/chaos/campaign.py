"""One round: a deployment under load, the faults of a seed's schedule, and the judgement."""
import logging
import random
import shutil
import threading
import time
from collections import Counter
from datetime import datetime, timedelta, timezone

from crew import Crew
from disk import Disk
from enforcing import in_force_for, wait_adopted, wait_mended
from fault import Broken
from faults import kinds
from harness import Scene
from judge import judge
from links import Links
from load import Load
from process import free_port
from rules import Rules
from schedule import plan
from stack import Stack
from traffic import Traffic

SLOTS, FIRST_PROCESSES, PARTITIONS = 4, 2, 6
RECOVERY_S = 120  # until all is consumed once faults have stopped
PROPERTIES = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500, "max.poll.interval.ms": 6000,
              "socket.timeout.ms": 10000}
EVIDENCE = ["usage_event", "usage_hourly", "dead_letter", "event_conflict", "consumer_offset", "batch_ledger",
            "policy_decision", "ceiling", "ceiling_adoption", "ceiling_state", "ceiling_usage", "ceiling_pending",
            "sealed_day", "sealed_day_adoption"]
log = logging.getLogger("chaos")


class Ground:
    """The servers, for any number of rounds."""

    def __init__(self, directory, brokers):
        self.directory = directory
        self.disk = Disk.mount(directory / "pg")
        try:
            self.stack = Stack(directory, is_ours=True, options=["--brokers", str(brokers), "--proxied"])
        except BaseException:
            self._unmount()
            raise

    def close(self):
        self.stack.stop()
        self._unmount()
        self.stack.close()

    def _unmount(self):
        if self.disk:
            self.disk.unmount()


class Field:
    """All that faults can be done to."""

    def __init__(self, ground, directory):
        self.stack, self.disk = ground.stack, ground.disk
        noon = datetime.now(timezone.utc).replace(hour=12, minute=0, second=0, microsecond=0)
        self.old_days = [noon - timedelta(days=age) for age in (3, 4, 5)]
        proxied, behind = self.stack.proxied_ports()
        servers = ",".join(f"127.0.0.1:{port}" for port in proxied)
        self.scene = Scene(self.stack, directory, partitions=PARTITIONS,
                           config={"kafka": {"bootstrap_servers": servers, "properties": PROPERTIES},
                                   "batch": {"max_delay": "100ms"}})
        self.failures = []
        self._prepare_store()
        self.links = Links({**{f"pg-{n}": (free_port(), self.stack.pg_port()) for n in range(SLOTS)},
                            **{f"kafka-{n}": ports for n, ports in enumerate(zip(proxied, behind))}})
        self.rules = Rules(self.scene)
        self.rules.apply()
        in_force_for(self.scene, "20 days")
        self.crew = Crew(self.scene, self.links, SLOTS)

    def _prepare_store(self):
        """Nobody but batches waits for a standby."""
        self.scene.query("ALTER SYSTEM SET synchronous_commit = local")
        self.scene.query("SELECT pg_reload_conf()")
        self.scene.configure({"postgres": {"owner_dsn": self.scene.database.dsn}})
        self.scene.migrate()

    def fail(self, message):
        self.failures.append(message)

    def check(self):
        """Nothing has gone wrong that shows at once."""
        self.crew.check()
        assert self.links.is_alive(), "the proxy has died: mend it"
        if self.failures:
            raise Broken(self.failures[0])

    def close(self):
        self.scene.usagebox.stop_all()
        self.links.close()
        self.scene.close()


class Round:
    """Runs it all. injected: how often each kind of fault was; recovered_s: until all was consumed after them."""

    def __init__(self, ground, directory, seed, seconds):
        self.seed, self.seconds = seed, seconds
        self.field = Field(ground, directory)
        self.injected, self.under_way, self.recovered_s = Counter(), [], 0.0
        self.held, self.lock = set(), threading.Lock()
        self.began = datetime.now(timezone.utc)

    def run(self):
        field = self.field
        for number in range(FIRST_PROCESSES):
            field.crew.start(number)
        wait_adopted(field.scene)
        with Load(field.scene, workload=Traffic(self.seed, field.old_days), chunk=100, pause_s=0.15) as load:
            self.inject()
        self.recover()
        self.leave()
        return judge(field, load.records, self.began)

    def inject(self):
        start = time.monotonic()
        all_kinds = kinds(self.field)
        for step in plan(all_kinds, self.seed, self.seconds):
            self.wait_for(start + step.at_s)
            thread = threading.Thread(target=self.perform, args=(all_kinds[step.kind], step), daemon=True)
            thread.start()
            self.under_way.append(thread)
        self.wait_for(start + self.seconds)

    def wait_for(self, moment):
        while (left := moment - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))
            self.field.check()

    def perform(self, fault, step):
        """On a thread of its own."""
        if not self.hold(fault, step):
            return log.info("%s: not now: another fault takes longer than planned", step)
        try:
            if self.begin(fault, step):
                time.sleep(step.for_s)
                fault.end(step.target)
        except Exception as error:  # a fault that can't be ended, or what Broken says
            self.field.fail(f"{step}: {error!r}")
        finally:
            with self.lock:
                self.held -= set(fault.holds(step.target))

    def hold(self, fault, step):
        with self.lock:
            free = self.held.isdisjoint(fault.holds(step.target))
            if free:
                self.held |= set(fault.holds(step.target))
            return free

    def begin(self, fault, step):
        try:
            begun = fault.begin(step.target, random.Random(step.dice)) is not False
        except Broken:
            raise
        except Exception as error:  # servers that other faults have stopped
            log.info("%s: not now: %s", step, (str(error) or repr(error)).splitlines()[0])
            return False
        if begun:
            self.injected[step.kind] += 1
        log.info("%s%s", step, "" if begun else ": there was nothing to do it to")
        return begun

    def recover(self):
        """All faults end; whoever is left has to get on with it, and a process that was gone comes back."""
        field = self.field
        self.end_all()
        field.links.clear()
        field.stack.ensure_running()
        for clock in field.crew.clocks.values():
            clock.set_ahead(0)
        field.check()
        field.rules.settle()
        for number in range(SLOTS):
            if len(field.crew.running()) < FIRST_PROCESSES:
                field.crew.start(number)
        log.info("faults have stopped: %d processes run", len(field.crew.running()))
        stopped = time.monotonic()
        self.expect(field.scene.wait_consumed, RECOVERY_S)
        self.recovered_s = time.monotonic() - stopped
        self.expect(wait_adopted, field.scene)
        self.expect(wait_mended, field.scene, RECOVERY_S)
        for process in field.crew.running():
            self.expect(process.wait_ready, RECOVERY_S)

    def end_all(self):
        for thread in self.under_way:
            thread.join(120)
            assert not thread.is_alive(), "a fault does not end"

    def expect(self, wait, *arguments):
        """Liveness, and nobody dies of it."""
        try:
            wait(*arguments)
        finally:
            self.field.check()

    def leave(self):
        """Undisturbed, whoever is asked to stop commits what it has, and says so with its exit code."""
        crew = self.field.crew
        for number in range(SLOTS):
            crew.terminate(number, expected=(0,))
        self.field.check()

    def keep_evidence(self):
        """What PostgreSQL and the enforcement topic hold, as text beside the logs."""
        self.end_all()
        scene = self.field.scene
        for name, path in scene.stack.logs().items():
            shutil.copy(path, scene.directory / f"{name}.log")
        scene.stack.ensure_running()
        for table in EVIDENCE:
            rows = scene.query(f"SELECT * FROM {table}")
            (scene.directory / f"{table}.txt").write_text("".join(f"{row}\n" for row in rows))
        flags = scene.topics.read(scene.topics.enforcement)
        (scene.directory / "flags.txt").write_text("".join(f"{flag}\n" for flag in flags))

    def close(self):
        self.end_all()
        self.field.close()
