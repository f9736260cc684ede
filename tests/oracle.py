"""What a list of records must become: an oracle written apart from the program, in another language, from the rules
of README.md alone. Feed it the records as they lie in the topics; it says of each whether it is accepted, a
duplicate, a conflict or a dead letter and why, and what the rollups must then hold. Of a record that breaks several
rules it names one; the program may name another."""
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Context, Decimal
from typing import NamedTuple, Optional

EXACT = Context(prec=80)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
LIFTED = ("provider", "service_tier", "gpu_type", "agent_id", "run_id", "parent_run_id", "user_id", "operation",
          "tool_name", "context_window")
RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
                     re.ASCII)
JSON_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
METER = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class Record(NamedTuple):
    """As it lies in a topic. timestamp_ms: the record's."""
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: Optional[bytes]
    value: Optional[bytes]
    headers: tuple = ()

    @property
    def place(self):
        return (self.topic, self.partition, self.offset)


class Verdict(NamedTuple):
    kind: str  # "accepted", "duplicate", "conflict" or "dead"
    reason: str = ""  # of "dead"


class Refused(Exception):
    """The reason code of a dead letter."""


class Number(str):
    """A JSON number, as it was written."""


class Event(NamedTuple):
    event_id: str
    customer_id: str
    meter: str
    quantity: Decimal
    time: datetime
    time_defaulted: bool
    kind: str
    corrects: str
    reason: str
    model: str
    lifted: tuple
    plan: str

    @property
    def identity(self):
        return (self.customer_id, self.meter, self.event_id)

    @property
    def content(self):
        time = None if self.time_defaulted else self.time
        return (self.kind, self.corrects, self.quantity, time, self.model, self.lifted)


@dataclass
class Tally:
    events: int = 0
    quantity: Decimal = Decimal(0)
    adjustment: Decimal = Decimal(0)  # the part that came from corrections and retractions
    first: Optional[datetime] = None
    last: Optional[datetime] = None

    def add(self, event):
        self.events += 1
        self.quantity = EXACT.add(self.quantity, event.quantity)
        if event.kind != "usage":
            self.adjustment = EXACT.add(self.adjustment, event.quantity)
        self.first = min(self.first or event.time, event.time)
        self.last = max(self.last or event.time, event.time)


@dataclass
class Outcome:
    verdicts: dict = field(default_factory=dict)  # (topic, partition, offset): Verdict
    events: dict = field(default_factory=dict)  # (topic, partition, offset): Event, accepted ones only
    hourly: dict = field(default_factory=lambda: defaultdict(Tally))  # (customer, hour, meter, model, dimensions)
    runs: dict = field(default_factory=lambda: defaultdict(Tally))  # (customer, run, agent, user, meter, model)

    @property
    def counts(self):
        return Counter(verdict.kind for verdict in self.verdicts.values())

    @property
    def dead_reasons(self):
        return Counter(verdict.reason for verdict in self.verdicts.values() if verdict.kind == "dead")


# --- JSON ------------------------------------------------------------------------------------------------------

def refuse(reason):
    raise Refused(reason)


def decode_json(value):
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        refuse("not_utf8")
    try:
        document = json.loads(text, parse_float=Number, parse_int=Number, object_pairs_hook=tuple,
                              parse_constant=lambda name: refuse("not_json"))
    except ValueError:
        refuse("not_json")
    except RecursionError:
        refuse("too_deep")
    return document


def is_object(node):
    return isinstance(node, tuple)


def check_strings_and_depth(node, depth=1):
    if isinstance(node, (tuple, list)):
        if depth > 32:
            refuse("too_deep")
        for child in node:
            if isinstance(node, tuple):
                check_strings_and_depth(child[0])
                child = child[1]
            check_strings_and_depth(child, depth + 1)
    elif isinstance(node, str) and ("\0" in node or any("\ud800" <= c <= "\udfff" for c in node)):
        refuse("bad_string")


def decode_object(value):
    if not value:
        refuse("empty_value")
    if len(value) > 1 << 20:
        refuse("too_large")
    document = decode_json(value)
    if not is_object(document):
        refuse("not_an_object")
    check_strings_and_depth(document)
    fields = dict(document)
    if len(fields) < len(document):
        refuse("duplicate_key")
    return present(fields)


def present(fields):
    """A field that is null is as good as absent."""
    return {name: node for name, node in fields.items() if node is not None}


# --- fields ----------------------------------------------------------------------------------------------------

def is_text(node):
    return isinstance(node, str) and not isinstance(node, Number)


def text_field(fields, name, limit_bytes=128, least_bytes=1):
    """None if it is absent."""
    if name not in fields:
        return None
    return limited(fields[name] if is_text(fields[name]) else refuse("wrong_type"), limit_bytes, least_bytes)


def limited(text, limit_bytes, least_bytes=1):
    return text if least_bytes <= len(text.encode()) <= limit_bytes else refuse("out_of_range")


def either(one, other):
    """One field with two spellings."""
    if one is not None and other is not None and one != other:
        refuse("conflicting_field")
    return one if one is not None else other


def required(value):
    return value if value is not None else refuse("missing_field")


def object_field(fields, name):
    node = fields.get(name, ())
    if not is_object(node):
        refuse("wrong_type")
    return present(dict(node))


def decimal_of(node):
    if not isinstance(node, str):
        refuse("wrong_type")
    match = JSON_NUMBER.fullmatch(node) or refuse("wrong_type")
    sign, whole, fraction, exponent = match.groups(default="")
    fraction = fraction[1:]
    significant = (whole + fraction).strip("0")
    if not significant:
        return Decimal(0)
    # as an integer: of any size, where a Decimal's exponent has its limits
    last = int(exponent[1:] or 0) - len(fraction) + len(whole + fraction) - len((whole + fraction).rstrip("0"))
    if last < -9 or len(significant) + last > 20:
        refuse("out_of_range")
    return EXACT.create_decimal(f"{sign}{significant}e{last}")


def time_of_text(text):
    match = RFC3339.fullmatch(text)
    if not match:
        refuse("bad_timestamp")
    day, clock, fraction, zone = match.groups()
    leap = clock.endswith(":60")  # the first instant of the minute to come
    if leap:
        clock, fraction = clock[:-2] + "59", None
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
        part = timedelta(seconds=int(leap), microseconds=int(((fraction or "") + "000000")[:6]))
        return moment.astimezone(timezone.utc) + part
    except (ValueError, OverflowError):
        refuse("bad_timestamp")


def time_of_number(number):
    if not re.fullmatch(r"-?\d+", number):
        refuse("bad_timestamp")
    units = int(number)
    try:
        return EPOCH + timedelta(**({"seconds": units} if units < 10**11 else {"milliseconds": units}))
    except OverflowError:
        refuse("bad_timestamp")


def event_time(fields, record):
    """The time, and whether it is only the record's."""
    if "timestamp" not in fields:
        sent_along = dict(record.headers).get("usagebox_time")
        ms = int(sent_along) if sent_along else record.timestamp_ms
        return EPOCH + timedelta(milliseconds=ms), True
    node = fields["timestamp"]
    if isinstance(node, Number):
        return time_of_number(node), False
    return time_of_text(node if is_text(node) else refuse("wrong_type")), False


def lifted_value(metadata, name):
    if name == "context_window" and re.fullmatch(r"-?\d+", str(metadata.get(name, ""))):
        return limited(str(metadata[name]), 256)  # a number, too
    return text_field(metadata, name, 256, 0) or ""


def plan_of(policy):
    """The plan that the policy names; refuses what is wrong with the rest of it."""
    amounts = [decimal_of(policy[name]) if name in policy else 0 for name in ("credit_balance", "contractual_cap")]
    if amounts[1] < 0:
        refuse("out_of_range")
    return text_field(policy, "plan_tier", 256, 0) or ""


def header_text(value):
    if not 1 <= len(value) <= 128:
        refuse("out_of_range")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        refuse("not_utf8")
    return text if "\0" not in text else refuse("bad_string")


def header_event_id(record):
    ids = {header_text(value) for name, value in record.headers if name == "event_id" and value is not None}
    return ids.pop() if len(ids) < 2 and ids else refuse("conflicting_field") if ids else None


def decode_event(record):
    fields = decode_object(record.value)
    metadata = object_field(fields, "metadata")
    plan = plan_of(object_field(fields, "policy_metadata"))
    kind = text_field(fields, "kind") or "usage"
    if kind not in ("usage", "correction", "retraction"):
        refuse("out_of_range")
    corrects = reason = ""
    if kind != "usage":
        corrects = required(text_field(fields, "corrects"))
        reason = required(text_field(fields, "reason", 1024))
        required(fields.get("timestamp"))
    quantity = decimal_of(required(fields.get("quantity")))
    if quantity < 0 and kind == "usage":
        refuse("out_of_range")
    time, time_defaulted = event_time(fields, record)
    meter = required(text_field(fields, "meter", 64))
    return Event(
        event_id=required(either(text_field(fields, "event_id"), header_event_id(record))),
        customer_id=required(either(text_field(fields, "customer_id"), text_field(fields, "account_id"))),
        meter=meter if METER.fullmatch(meter) else refuse("out_of_range"),
        quantity=quantity, time=time, time_defaulted=time_defaulted, kind=kind, corrects=corrects, reason=reason,
        model=either(text_field(fields, "model", 256, 0), text_field(metadata, "model", 256, 0)) or "",
        lifted=tuple(lifted_value(metadata, name) for name in LIFTED), plan=plan)


# --- lanes -----------------------------------------------------------------------------------------------------

def murmur2(data):
    """The hash of Java's default partitioner."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i:i + 4], "little") * m & mask
        h = h * m & mask ^ (k ^ k >> 24) * m & mask
    if len(data) > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key, count):
    """Where a Java producer puts a record of this key."""
    return (murmur2(key) & 0x7FFFFFFF) % count


# --- the whole -------------------------------------------------------------------------------------------------

class Oracle:
    """partition: which partition a key belongs to, and of how many. eras: partitions were added; ({(topic, partition):
    end offset}, the number of partitions that holds below), oldest first."""

    def __init__(self, partitions, partition=partition_of, now=None, max_age=timedelta(days=400),
                 max_future=timedelta(minutes=5), dimensions=(), eras=()):
        self.partition, self.counts, self.ends = partition, [count for _, count in eras], [ends for ends, _ in eras]
        self.counts.append(partitions)
        now = now or datetime.now(timezone.utc)
        self.earliest, self.latest = now - max_age, now + max_future
        self.dimensions = sorted(dimensions)
        self.seen = {}  # identity: content of the first one
        self.outcome = Outcome()

    def judge(self, records):
        """Records of one topic in any order. Of several topics: as long as no two of them hold the same id with
        different contents, for a lane reads its topics side by side."""
        for record in sorted(records, key=lambda r: (self._era(r), r.partition, r.topic, r.offset)):
            self.outcome.verdicts[record.place] = self._verdict(record)
        return self.outcome

    def _era(self, record):
        place = (record.topic, record.partition)
        return next((era for era, ends in enumerate(self.ends) if record.offset < ends.get(place, 0)), len(self.ends))

    def _verdict(self, record):
        try:
            event = self._admit(record)
        except Refused as refused:
            return Verdict("dead", str(refused))
        if event.identity in self.seen:
            return Verdict("duplicate" if self.seen[event.identity] == event.content else "conflict")
        self.seen[event.identity] = event.content
        self._count(record, event)
        return Verdict("accepted")

    def _admit(self, record):
        event = decode_event(record)
        if event.time < max(self.earliest, EPOCH + timedelta(days=1)):
            refuse("too_old")
        if event.time > self.latest:
            refuse("in_future")
        if record.key != event.customer_id.encode():
            refuse("key_mismatch")
        if self.partition(record.key, self.counts[self._era(record)]) != record.partition:
            refuse("wrong_partition")
        return event

    def _count(self, record, event):
        lifted = dict(zip(LIFTED, event.lifted))
        hour = event.time.replace(minute=0, second=0, microsecond=0)
        dimensions = tuple((name, lifted[name]) for name in self.dimensions if lifted[name])
        self.outcome.events[record.place] = event
        self.outcome.hourly[event.customer_id, hour, event.meter, event.model, dimensions].add(event)
        if lifted["run_id"]:
            run = (event.customer_id, lifted["run_id"], lifted["agent_id"], lifted["user_id"])
            self.outcome.runs[run + (event.meter, event.model)].add(event)
