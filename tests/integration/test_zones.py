"""Hours and days are UTC's, whatever time zones the program, the database and the person who asks have."""
import datetime

from counting import assert_counted_once

# West of Greenwich, and by half an hour: neither days nor hours begin when UTC's do.
ZONE = "America/St_Johns"


def around_boundaries(start, count):
    """An event just before, at, and just after the begin of each of some hours, over a month's end too."""
    for hour in range(count):
        for step_us in (-1, 0, 1):
            time = start + datetime.timedelta(hours=hour, microseconds=step_us)
            yield {"event_id": f"e{hour}{step_us:+}", "customer_id": "c", "meter": "m", "quantity": 1,
                   "timestamp": time.isoformat()}


def test_hours_and_days_are_utc_in_every_zone(make_scene):
    scene = make_scene(config={"ceilings": [
        {"name": name, "customer": "*", "meter": "m", "period": name, "limit": 1, "policy": "alert"}
        for name in ("hour", "day", "month")]})
    scene.query(f"ALTER DATABASE {scene.database.name} SET timezone = '{ZONE}'")
    for command in (("migrate",), ("ceilings", "apply")):
        scene.usagebox.command(*command, env={"TZ": ZONE})
    today = datetime.datetime.now(datetime.timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    records = scene.produce(*around_boundaries(today.replace(day=1) - datetime.timedelta(hours=6), 9))
    process = scene.usagebox.start(env={"TZ": ZONE})
    records += scene.produce(*({**event, "event_id": "d" + event["event_id"]}
                               for event in around_boundaries(today - datetime.timedelta(hours=6), 6)))
    scene.wait_consumed()
    assert_counted_once(scene, records)
    assert scene.value("SELECT count(*) FROM usage_event WHERE tableoid::regclass::text <> "
                       "to_char(event_time AT TIME ZONE 'UTC', '\"usage_event_\"YYYYMMDD')") == 0
    # counters are restored by the next owner, whose clock on the wall is another one
    counters = "SELECT meter, period, period_start, used FROM ceiling_usage ORDER BY 1, 2, 3"
    before = scene.query(counters)
    assert process.terminate() == 0
    scene.usagebox.start(env={"TZ": "Asia/Kathmandu"})
    scene.produce({"event_id": "last", "customer_id": "other", "meter": "m", "quantity": 1})
    scene.wait_consumed()
    assert {row for row in before} <= set(scene.query(counters))
