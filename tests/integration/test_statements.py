"""What batches make PostgreSQL do, read from its own log: each statement must name the customer, by whom tables can be
spread over several servers, or be the bookkeeping of one lane. deploy/SCALING.md rests on it."""
import re

from enforcing import apply, ceiling, in_force_for, use, wait_adopted
from stack import wait_until
from test_sealing import old_use, seal

FRAME = re.compile(r"(BEGIN|COMMIT|ROLLBACK|SET)\b|SELECT nextval\('batch_id'\)")
# rows that belong to one lane: by topic and partition, or by lane
OF_A_LANE = re.compile(r"\b(consumer_offset|batch_ledger|dead_letter|ceiling_adoption|sealed_day_adoption|"
                       r"ceiling_pending|dedupe_segment_\d{8})\b")
# small, read by all and rarely written: a copy on each server
REFERENCE = re.compile(r"\b(meter|setting|ceiling|sealed_day|schema_migration|repartition|repartition_end)\b|\bto_regclass\b|\bpg_")


def statements_of(log_text, pids):
    """The texts that these backends were sent; PostgreSQL indents what continues a line."""
    lines = re.split(r"\n(?!\t)", log_text)
    marks = (re.search(r"\[(\d+)\] LOG: +(?:statement|execute [^:]*): (.*)", line, re.S) for line in lines)
    return [re.sub(r"\s+", " ", mark.group(2)) for mark in marks if mark and int(mark.group(1)) in pids]


def kind_of(statement):
    if FRAME.match(statement):
        return "frame"
    if "customer_id" in statement:
        return "customer"
    if OF_A_LANE.search(statement):
        return "lane"
    return "reference" if REFERENCE.search(statement) else "neither"


def batches_of_all_kinds(scene):
    """Today's events and a sealed day's, repeats, decisions, refused records."""
    apply(scene, ceiling("cap", 10))
    in_force_for(scene, "40 days")
    scene.usagebox.start()
    wait_adopted(scene)
    scene.produce(*[old_use(f"cust-{n % 9}", 1) for n in range(60)])
    scene.wait_consumed()
    seal(scene)
    late, new = [old_use(f"cust-{n % 9}", 2) for n in range(60)], [use(f"cust-{n % 9}", 3) for n in range(60)]
    scene.produce(*late, *late, *new, *new)
    scene.produce(b"{", key="cust-1")
    scene.wait_consumed()
    wait_until(lambda: scene.value("SELECT count(*) FROM ceiling_pending") == 0, 30, "late events to be counted")


def test_every_statement_of_a_batch_names_the_customer_or_one_lane(make_scene, stack):
    scene = make_scene(partitions=3).migrate()
    scene.query(f"ALTER DATABASE {scene.database.name} SET log_statement = 'all'")
    batches_of_all_kinds(scene)
    pids = {pid for row in scene.query("SELECT DISTINCT backend_pid, second_backend_pid FROM consumer_offset") for pid in row}
    statements = statements_of(stack.logs()["PostgreSQL"].read_text(), pids)
    of_kind = {}
    for statement in statements:
        of_kind.setdefault(kind_of(statement), set()).add(statement)
    assert "neither" not in of_kind, "\n".join(of_kind["neither"])
    for table in ("usage_event", "usage_hourly", "usage_run", "ceiling_usage", "ceiling_state", "policy_decision"):
        assert any(table in statement for statement in of_kind["customer"]), f"{table} was not written"
    for table in ("consumer_offset", "batch_ledger", "dead_letter", "ceiling_pending"):
        assert any(table in statement for statement in of_kind["lane"]), f"{table} was not written"
