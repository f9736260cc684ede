"""Brokers and PostgreSQL: killed, stopped, without room, their connections ended, a COMMIT swallowed."""
import os
import signal
import time

from fault import Fault
from stack import wait_until

OURS = "datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'usagebox%'"


class OfBrokers(Fault):
    def __init__(self, field):
        super().__init__(field)
        self.targets = field.stack.brokers

    def holds(self, target):
        return (f"broker-{target}",)


class KillBroker(OfBrokers):
    name, weight = "broker killed", 1.5
    least_s, most_s = 0.1, 4
    after_s = 8  # it starts

    def begin(self, target, dice):
        os.kill(self.field.stack.kafka_pid(target + 1), signal.SIGKILL)

    def end(self, target):
        self.field.stack.kafka_start(target + 1)


class FreezeBroker(OfBrokers):
    """Past its session with the controller, at times: the leaders move, and it does not know."""
    name, weight = "broker stopped for a moment", 1.5
    least_s, most_s = 0.3, 6
    after_s = 2

    def begin(self, target, dice):
        os.kill(self.field.stack.kafka_pid(target + 1), signal.SIGSTOP)

    def end(self, target):
        os.kill(self.field.stack.kafka_pid(target + 1), signal.SIGCONT)


class OfPostgres(Fault):
    def holds(self, target):
        return ("pg",)

    def query(self, statement, *parameters):
        return self.field.scene.query(statement, *parameters)


class StopPostgres(OfPostgres):
    name, weight = "PostgreSQL stopped at once", 1.5
    least_s, most_s = 0.1, 4
    after_s = 3

    def begin(self, target, dice):
        self.field.stack.pg_stop("immediate")

    def end(self, target):
        self.field.stack.pg_start()


class CrashPostgres(OfPostgres):
    """One backend killed: the server ends all others and recovers."""
    name, weight, after_s = "PostgreSQL crashed", 1.5, 4

    def begin(self, target, dice):
        backends = self.query(f"SELECT pid FROM pg_stat_activity WHERE {OURS}")
        return bool(backends) and os.kill(dice.choice(backends).pid, signal.SIGKILL) is None


class EndBackend(OfPostgres):
    name, weight = "backend ended", 2

    def begin(self, target, dice):
        return bool(self.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS} "
                               "ORDER BY (state = 'active') DESC, random() LIMIT 1"))


class EndStatement(OfPostgres):
    """Looks closely until one is at it."""
    name, weight = "backend ended in COMMIT", 2
    statement = "COMMIT"

    def begin(self, target, dice):
        ended = self.query(
            "DO $$ DECLARE ended boolean; BEGIN FOR i IN 1..5000 LOOP PERFORM pg_stat_clear_snapshot(); SELECT "
            f"pg_terminate_backend(pid) INTO ended FROM pg_stat_activity WHERE {OURS} AND state = 'active' "
            f"AND query LIKE '{self.statement}%' LIMIT 1; IF ended THEN PERFORM set_config('chaos.ended', 'yes', false); "
            "RETURN; END IF; END LOOP; PERFORM set_config('chaos.ended', 'no', false); END $$; "
            "SELECT current_setting('chaos.ended') = 'yes'")
        return bool(ended[0][0])


class EndCopy(EndStatement):
    name = "backend ended in COPY"
    statement = "COPY usage_event"


class UnheardCommit(OfPostgres):
    """A backend that waits for a standby that isn't there has committed, and is ended before it says so."""
    name, weight, after_s = "COMMIT unheard", 2, 1
    waiting = f"SELECT pid FROM pg_stat_activity WHERE {OURS} AND wait_event = 'SyncRep' AND query = 'COMMIT'"

    def begin(self, target, dice):
        self.await_standby("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        try:
            [row, *_] = wait_until(lambda: self.query(self.waiting), 3, "a commit")
            return self.query("SELECT pg_terminate_backend(%s)", row.pid)[0][0]
        except AssertionError:
            return False
        finally:
            self.await_standby("ALTER SYSTEM RESET synchronous_standby_names")

    def await_standby(self, statement):
        self.query(statement)
        self.query("SELECT pg_reload_conf()")


class LockTable(OfPostgres):
    """As a careless migration would."""
    name = "table locked"
    least_s, most_s = 0.5, 4

    def holds(self, target):
        return ("pg", "table")

    def begin(self, target, dice):
        table = dice.choice(["usage_hourly", "usage_event", "consumer_offset", "policy_decision", "customer"])
        self.connection = self.field.scene.database.connect()
        cursor = self.connection.cursor()
        cursor.execute("SET lock_timeout = '3s'")
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")

    def end(self, target):
        self.connection.close()


class FillDisk(OfPostgres):
    name, weight = "disk full", 1.5
    least_s, most_s = 0.5, 5
    after_s = 4

    def begin(self, target, dice):
        return self.field.disk.fill()

    def end(self, target):
        self.field.disk.make_room()
        time.sleep(1)  # a server that it has killed is gone by now
        try:
            self.field.stack.pg_start()
        except AssertionError:  # it was about to go
            self.field.stack.pg_stop("immediate")
            self.field.stack.pg_start()


def kinds(field):
    made = [kind(field) for kind in (KillBroker, FreezeBroker, StopPostgres, CrashPostgres, EndBackend, EndStatement,
                                     EndCopy, UnheardCommit, LockTable)]
    return made + ([FillDisk(field)] if field.disk else [])
