"""The figures of a run for a person: one line each, medians first, what they spread between in brackets."""
import sys

from figures import Spread

# key, what it is called, how it is printed
LINES = {
    "copy": [("rows_per_s", "rows/s", "{:,.0f}"), ("postgres_cpu_us_per_row", "µs of PostgreSQL's CPU per row", "{:.2f}"),
             ("wal_bytes_per_row", "bytes of WAL per row", "{:.0f}")],
    "drain": [("events_per_s", "events/s", "{:,.0f}"), ("of_copy", "of bare COPY, rows against rows", "{:.2f}"),
              ("events_per_s_with_start", "events/s from the start of the process", "{:,.0f}"),
              ("usagebox_cpu_us_per_event", "µs of usagebox's CPU per event", "{:.2f}"),
              ("postgres_cpu_us_per_row", "µs of PostgreSQL's CPU per row", "{:.2f}"),
              ("wal_bytes_per_row", "bytes of WAL per row", "{:.0f}"), ("peak_rss_mb", "MB resident at most", "{:.0f}"),
              ("batches", "batches", "{:.0f}")],
}
LINES["drain with runs"] = LINES["drain"]


def say(text=""):
    print(text)
    sys.stdout.flush()


def round_line(number, figures):
    drain, runs = figures["drain"], figures["drain with runs"]
    return (f"round {number}: COPY {figures['copy']['rows_per_s']:,.0f} rows/s; drain {drain['events_per_s']:,.0f} events/s, "
            f"{drain['of_copy']:.2f} of COPY; with runs {runs['events_per_s']:,.0f}, {runs['of_copy']:.2f}")


def summary(rounds):
    """{name: {figure: Spread}} over all rounds."""
    return {name: {key: Spread.of([figures[name][key] for figures in rounds])._asdict() for key, _, _ in lines}
            for name, lines in LINES.items()}


def print_summary(medians):
    for name, lines in LINES.items():
        say(f"\n{name}")
        for key, label, form in lines:
            say(f"  {Spread(**medians[name][key]).text(form):>32}  {label}")


def print_memory(figures):
    say("\nin memory, ns of CPU per event: best round, median round; allocations per event")
    for name, (best, median, allocations) in figures.items():
        say(f"  {best:8.1f} {median:8.1f} {allocations:8.4f}  {name}")


def print_flat(title, figures):
    say(f"\n{title}")
    for name, value in figures.items():
        say(f"  {value:>14,.2f}  {name.replace('_', ' ')}")


def print_waits(name, figures):
    """Of the last round: what each thread did with its time, and what PostgreSQL's backends waited for."""
    say(f"\n{name}: share of the time that each thread ran, queued for a core, slept")
    for thread, (ran, queued, slept) in figures["threads"].items():
        say(f"  {ran:8.0%} {queued:8.0%} {slept:8.0%}  {thread}")
    say("  the backends: " + ", ".join(f"{what} {share:.0%}" for what, share in figures["backend_waits"].items()))


def print_latency(figures):
    say(f"\nlatency in ms at {figures['events_per_s']:,} events/s: {figures['events']:,} events, {figures['flags']:,} flags")
    for key, label in (("flag_ms", "from produce() until the flag lies in the enforcement topic"),
                       ("kafka_alone_ms", "from produce() to the acknowledgement, for a lone producer meanwhile"),
                       ("decided_to_acknowledged_ms", "from the decision to the acknowledgement (buckets' upper bounds)"),
                       ("visible_ms", "from produce() until usage_hourly shows the event")):
        say("  " + ", ".join(f"{name} {value:,.1f}" for name, value in figures[key].items()) + f"  {label}")


def print_flags(figures):
    for name, drains in figures.items():
        say(f"\nflags while draining, {name}: {drains['flags']:,} in {drains['drains']} drains, "
            f"{drains['flags_per_s']:,.0f} a second, in ms")
        for key, label in (("decided_to_acknowledged_ms", "from the decision to the acknowledgement"),
                           ("kafka_alone_ms", "from produce() to the acknowledgement, for a lone producer meanwhile")):
            say("  " + ", ".join(f"{part} {value:,.1f}" for part, value in drains[key].items()) + f"  {label}")
