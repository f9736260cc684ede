"""PostgreSQL takes every row that the encoder of COPY writes, and reads in it what another reading of the same record
says: on the fuzzers' corpus, and on what fuzzing found in this tree."""
import io
import subprocess
from datetime import timedelta

import oracle
from stack import ROOT

NOW = oracle.EPOCH + timedelta(milliseconds=1795339800000)
PROGRAM = "build/asan/integration/copy_rows"


def inputs():
    folders = ROOT / "tests/fuzz/corpus/decoder", ROOT / "build/libfuzzer/found/copy"
    return [path for folder in folders if folder.exists() for path in sorted(folder.iterdir())]


def expected(value):
    """The event, or None if it is refused."""
    record = oracle.Record("usage", 0, 0, int(NOW.timestamp() * 1000), None, value)
    try:
        event = oracle.decode_event(record)
    except oracle.Refused:
        return None
    return event if NOW - timedelta(days=400) <= event.time <= NOW + timedelta(minutes=5) else None


def encode(paths):
    subprocess.run(["make", "-s", PROGRAM], cwd=ROOT, check=True)
    columns = subprocess.run([ROOT / PROGRAM], capture_output=True, text=True, check=True).stdout.strip()
    now_us = str(int(NOW.timestamp()) * 1000000)
    return columns, subprocess.run([ROOT / PROGRAM, now_us, *paths], capture_output=True, check=True).stdout


def load(database, columns, stream):
    """Into a table with the columns and checks of usage_event."""
    connection = database.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE loaded (LIKE usage_event INCLUDING CONSTRAINTS)")
        cursor.copy_expert(f"COPY loaded ({columns}) FROM STDIN (FORMAT binary)", io.BytesIO(stream))
    connection.close()
    return {row.kafka_offset: row for row in database.query("SELECT * FROM loaded")}


def said_by(row):
    return (row.event_id, row.customer_id, row.meter, row.quantity, row.event_time, row.kind, row.corrects, row.reason,
            row.model, tuple(getattr(row, name) for name in oracle.LIFTED), row.plan_tier)


def said_by_oracle(event):
    return (event.event_id, event.customer_id, event.meter, event.quantity, event.time, event.kind, event.corrects,
            event.reason, event.model, event.lifted, event.plan)


def test_postgresql_reads_in_each_row_what_the_record_says(scene):
    scene.migrate()
    paths = inputs()
    values = [path.read_bytes() for path in paths]
    rows = load(scene.database, *encode(paths))
    for number, (path, value) in enumerate(zip(paths, values)):
        event = expected(value)
        assert (event is not None) == (number in rows), f"{path}: accepted by one side only: {value!r}"
        if event:
            assert said_by(rows[number]) == said_by_oracle(event), path
            assert rows[number].payload.encode() == value, path
    assert len(rows) >= 10
