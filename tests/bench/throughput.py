"""Draining a topic into a fresh database, against bare COPY of the very same rows, in paired rounds."""
import datetime
import json
import os
import re
import time

import psycopg2
from database import Database
from process import Usagebox, write_config
from stack import wait_until
from topics import Topics

from figures import Waits, cpu_s, peak_rss_bytes, thread_shares, wal_bytes

PARTITIONS = 6
DRAIN_LIMIT_S = 3600
COPY_BYTES = 256 << 10
# how far it is, the backends that write, what those of them wait for now that are in a transaction
POSITION = """
    SELECT consumed, backends,
           ARRAY(SELECT coalesce(wait_event_type || ' ' || wait_event, 'CPU') FROM pg_stat_activity
                 WHERE pid = ANY (backends) AND xact_start IS NOT NULL)
    FROM (SELECT sum(greatest(next_offset, 0)) AS consumed, ARRAY[max(backend_pid), max(second_backend_pid)] AS backends
          FROM consumer_offset) AS o"""


def base_config(stack, topics, dsn):
    """Default settings, but for where the servers are."""
    return {
        "kafka": {"bootstrap_servers": stack.kafka, "usage_topics": topics.usage, "enforcement_topic": topics.enforcement,
                  "group": f"{topics.enforcement}.{time.time_ns()}"},
        "postgres": {"dsn": dsn},
        "ceilings": [],
    }


class Place:
    """A fresh database, migrated, with the program's configuration for it."""

    def __init__(self, stack, topics, directory, changes):
        self.database = Database(stack)
        config = {**base_config(stack, topics, self.database.dsn), **changes}
        write_config(directory / "config.yaml", config)
        self.usagebox = Usagebox(directory / "config.yaml", directory)
        self.usagebox.command("migrate")

    def cursor(self):
        connection = self.database.connect()
        connection.autocommit = True
        return connection.cursor()

    def close(self):
        self.usagebox.stop_all()
        self.database.drop()


class Throughput:
    def __init__(self, stack, directory, events):
        self.stack, self.directory, self.events = stack, directory, events
        self.topics = Topics(stack, PARTITIONS)
        self.rows_path = directory / "rows"

    def prepare(self):
        """Fills the topic, drains it once and keeps the raw rows: {what was generated, bytes of a value, of a row}."""
        place = self._place(runs=False)
        try:
            made = self._produce(place)
            self._drain(place)
            rows, value_bytes = self._keep_rows(place)
        finally:
            place.close()
        return {"generated": made["generated"], "rows": rows, "value_bytes": value_bytes,
                "copy_row_bytes": os.path.getsize(self.rows_path) / rows}

    def round(self, backwards):
        """One of each, in turns that alternate from round to round: {name: figures}."""
        names = {"copy": self._copy_round, "drain": lambda: self._drain_round(False),
                 "drain with runs": lambda: self._drain_round(True)}
        order = list(names)[::-1] if backwards else list(names)
        return {name: names[name]() for name in order}

    def close(self):
        self.topics.drop()

    def _place(self, runs):
        return Place(self.stack, self.topics, self.directory, {"rollup": {"runs": runs}})

    def _produce(self, place):
        """The two hours from yesterday noon: an open day, and no midnight in between."""
        noon = datetime.datetime.now(datetime.timezone.utc).replace(hour=12, minute=0, second=0, microsecond=0)
        start = (noon - datetime.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        done = place.usagebox.command("produce", "--generate", self.events, "--seed", 1, "--start", start, "--span", "2h",
                                      "--customers", 1000, "--duplicates", "0.01", "--late", "0.01", "--json",
                                      timeout_s=DRAIN_LIMIT_S)
        return json.loads(done.stdout)

    def _keep_rows(self, place):
        with place.cursor() as cursor, open(self.rows_path, "wb") as file:
            cursor.copy_expert("COPY (SELECT * FROM usage_event) TO STDOUT (FORMAT binary)", file)
            cursor.execute("SELECT count(*), avg(octet_length(payload::text))::float FROM usage_event")
            return cursor.fetchone()

    # --- bare COPY ---

    def _copy_round(self):
        """One connection, one transaction, a table like a day's leaf but without its triggers."""
        place = self._place(runs=False)
        try:
            with place.cursor() as cursor:
                cursor.execute("CREATE TABLE bare (LIKE usage_event INCLUDING ALL)")
                cursor.execute("CHECKPOINT")
                backend, wal_before = cursor.connection.get_backend_pid(), wal_bytes(cursor)
                cpu_before_s, started_s = cpu_s(backend), time.monotonic()
                with open(self.rows_path, "rb") as file:
                    cursor.copy_expert("COPY bare FROM STDIN (FORMAT binary)", file, COPY_BYTES)
                seconds, rows = time.monotonic() - started_s, cursor.rowcount
                return {"rows": rows, "seconds": seconds, "rows_per_s": rows / seconds,
                        "postgres_cpu_us_per_row": (cpu_s(backend) - cpu_before_s) * 1e6 / rows,
                        "wal_bytes_per_row": (wal_bytes(cursor) - wal_before) / rows}
        finally:
            place.close()

    # --- draining ---

    def _drain_round(self, runs):
        place = self._place(runs)
        try:
            return self._drain(place)
        finally:
            place.close()

    def _drain(self, place):
        """Counted from the start of the process, and from the moment that its first lane was taken over."""
        with place.cursor() as cursor:
            cursor.execute("CHECKPOINT")
            wal_before, started_s, waits = wal_bytes(cursor), time.time(), Waits()
            process = place.usagebox.start(ready=False)
            backends = self._await_drained(cursor, process, waits)
            ended_s = time.time()
            figures = self._drain_figures(cursor, ended_s - started_s, ended_s - first_lane_s(process))
            figures["usagebox_cpu_us_per_event"] = cpu_s(process.pid) * 1e6 / self.events
            figures["postgres_cpu_us_per_row"] = sum(map(cpu_s, backends)) * 1e6 / figures["rows"]
            figures["wal_bytes_per_row"] = (wal_bytes(cursor) - wal_before) / figures["rows"]
            figures["peak_rss_mb"] = peak_rss_bytes(process.pid) / 1e6
            figures["threads"] = thread_shares(process.pid, ended_s - started_s)
            figures["backend_waits"] = waits.shares()
            assert process.terminate() == 0, process.log()
            return figures

    def _await_drained(self, cursor, process, waits):
        """Returns the process ids of the backends that wrote it all."""
        def drained():
            assert process.is_alive(), process.log()
            cursor.execute(POSITION)
            consumed, backends, waiting = cursor.fetchone()
            for event in waiting:
                waits.look(event)
            return backends if consumed is not None and consumed >= self.events else None
        return wait_until(drained, DRAIN_LIMIT_S, f"{self.events} events in consumer_offset")

    def _drain_figures(self, cursor, seconds, running_s):
        cursor.execute("SELECT sum(accepted), sum(accepted + duplicate + dead), count(DISTINCT batch_id) FROM batch_ledger")
        rows, events, batches = map(int, cursor.fetchone())
        assert events == self.events, f"{events} events in the ledger instead of {self.events}"
        return {"rows": rows, "batches": batches, "seconds": seconds, "running_s": running_s,
                "events_per_s": events / running_s, "rows_per_s": rows / running_s, "events_per_s_with_start": events / seconds}


def first_lane_s(process):
    """When the first lane ran, by the log; seconds since 1970."""
    said = re.search(r'time=(\S+)Z level=info msg="lane runs', process.log())
    assert said, process.log()
    return datetime.datetime.fromisoformat(said[1] + "+00:00").timestamp()


def with_ratios(figures):
    """How much of bare COPY's rate each drain of a round reached, by rows."""
    for name in ("drain", "drain with runs"):
        figures[name]["of_copy"] = figures[name]["rows_per_s"] / figures["copy"]["rows_per_s"]
    return figures
