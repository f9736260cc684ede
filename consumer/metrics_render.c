#include "metrics_render.h"

#include <inttypes.h>
#include <stddef.h>

#define MS INT64_C(1000) /* µs */
#define S (1000 * MS)

const struct histogram_shape metrics_shapes[METRICS_HISTOGRAMS] = {
    [METRICS_COMMIT_SECONDS] = {"usagebox_batch_commit_seconds",
                                "How long committed batches took in PostgreSQL.",
                                {5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS, S,
                                 5 * S / 2, 5 * S, 10 * S, 30 * S, 60 * S},
                                13,
                                true},
    [METRICS_BATCH_ROWS] = {"usagebox_batch_rows",
                            "Events accepted by each committed batch.",
                            {0, 1, 10, 100, 1000, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000},
                            13,
                            false},
    [METRICS_FLAG_DECIDED_SECONDS] = {"usagebox_flag_decided_seconds",
                                      "From the decision to Kafka's acknowledgement of its flag.",
                                      {MS / 2, MS, 2 * MS, 3 * MS, 5 * MS, 7 * MS, 10 * MS, 15 * MS, 20 * MS,
                                       30 * MS, 50 * MS, 75 * MS, 100 * MS, 250 * MS, 500 * MS, S, 5 * S / 2,
                                       10 * S, 60 * S},
                                      19,
                                      true},
    [METRICS_FLAG_RECORD_SECONDS] = {"usagebox_flag_record_seconds",
                                     "From the timestamp of the record that crossed a ceiling to Kafka's "
                                     "acknowledgement of the flag.",
                                     {MS, 2 * MS, 3 * MS, 5 * MS, 7 * MS, 10 * MS, 15 * MS, 20 * MS, 30 * MS,
                                      50 * MS, 75 * MS, 100 * MS, 250 * MS, 500 * MS, S, 5 * S / 2, 10 * S,
                                      60 * S, 3600 * S},
                                     19,
                                     true},
};

/* Figures of a snapshot that have no labels. */
enum scalar_kind { SCALAR_COUNT, SCALAR_SIZE, SCALAR_TRUTH };
struct scalar {
    const char *name;
    enum metrics_type type;
    enum scalar_kind kind;
    size_t at;
    const char *help;
};
#define COUNTER(name, field, help)                                                                           \
    {                                                                                                        \
        name, METRICS_COUNTER, SCALAR_COUNT, offsetof(struct metrics_snapshot, field), help                  \
    }
#define GAUGE(name, kind, field, help)                                                                       \
    {                                                                                                        \
        name, METRICS_GAUGE, kind, offsetof(struct metrics_snapshot, field), help                            \
    }

static const struct scalar scalars[] = {
    COUNTER("usagebox_events_accepted_total", stats.accepted, "Events counted and committed."),
    COUNTER("usagebox_duplicates_total", stats.duplicates,
            "Repeats of an event counted before, conflicts included."),
    COUNTER("usagebox_conflicts_total", stats.conflicts,
            "Repeats that say something else than the first one."),
    COUNTER("usagebox_hole_offsets_total", stats.holes,
            "Offsets of transaction markers and aborted records."),
    COUNTER("usagebox_gap_offsets_total", stats.gaps,
            "Offsets that were gone before they could be read, recorded."),
    COUNTER("usagebox_batches_committed_total", stats.batches, "Transactions committed."),
    COUNTER("usagebox_rewinds_total", stats.rewinds,
            "Times that uncommitted work was undone and done again."),
    COUNTER("usagebox_fenced_lanes_total", stats.fenced,
            "Lanes found to have another owner when committing."),
    COUNTER("usagebox_refused_rows_total", stats.refused_rows, "Events that only PostgreSQL refused."),
    COUNTER("usagebox_store_losses_total", stats.store_losses, "Times that PostgreSQL was lost."),
    COUNTER("usagebox_decisions_total", stats.decisions, "Ceilings found crossed or cleared."),
    COUNTER("usagebox_flags_sent_total", stats.flags_published, "Messages sent to the enforcement topic."),
    COUNTER("usagebox_flags_acknowledged_total", stats.flags_acknowledged,
            "Messages that Kafka has acknowledged."),
    COUNTER("usagebox_flags_failed_total", stats.flags_failed,
            "Messages that Kafka did not take; sent again."),
    COUNTER("usagebox_restored_keys_total", restored.keys,
            "Dedupe keys restored when lanes were taken over."),
    GAUGE("usagebox_restore_remaining_keys", SCALAR_COUNT, restored.remaining_keys,
          "Dedupe keys that the takeover under way has still to restore."),
    GAUGE("usagebox_keeper_up", SCALAR_TRUTH, keeper.connected,
          "1 if what makes partitions and seals days is connected to PostgreSQL."),
    GAUGE("usagebox_seal_delay_seconds", SCALAR_COUNT, keeper.seal_delay_s,
          "How long a partition that is not read has held up the oldest seal."),
    GAUGE("usagebox_seals_refused", SCALAR_COUNT, keeper.days_duplicated,
          "Days that can't be sealed because they hold events twice."),
    GAUGE("usagebox_seals_pending", SCALAR_COUNT, keeper.days_unsealed,
          "Days that are over and not sealed: their dedupe keys are in memory."),
    GAUGE("usagebox_dedupe_entries", SCALAR_SIZE, stats.dedupe_keys, "Dedupe keys of open days in memory."),
    GAUGE("usagebox_dedupe_bytes", SCALAR_SIZE, stats.dedupe_bytes, "Memory of the dedupe keys."),
    GAUGE("usagebox_ceilings_bytes", SCALAR_SIZE, stats.ceiling_bytes,
          "Memory of counters and ceilings' states."),
    GAUGE("usagebox_open_batch_bytes", SCALAR_SIZE, stats.batch_bytes,
          "Memory of the batch that is being filled."),
    GAUGE("usagebox_store_up", SCALAR_TRUTH, stats.store_up, "1 if PostgreSQL answers."),
    GAUGE("usagebox_intake_held", SCALAR_TRUTH, stats.holding,
          "1 if nothing is read until memory or the store allows."),
    GAUGE("usagebox_deciding_ahead", SCALAR_TRUTH, stats.ahead,
          "1 if events are decided without keeping their rows, because PostgreSQL is away."),
};

void metrics_family(FILE *out, const char *name, enum metrics_type type, const char *help)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, types[type]);
}

/* Escaped, with its quotes. */
static void put_label(FILE *out, const char *value)
{
    fputc('"', out);
    for (; *value; value++) {
        if (*value == '\n')
            fputs("\\n", out);
        else if (*value == '"' || *value == '\\')
            fprintf(out, "\\%c", *value);
        else
            fputc(*value, out);
    }
    fputc('"', out);
}

void metrics_seconds(FILE *out, int64_t value_us)
{
    uint64_t magnitude = value_us < 0 ? -(uint64_t)value_us : (uint64_t)value_us;
    fprintf(out, "%s%" PRIu64 ".%06" PRIu64, value_us < 0 ? "-" : "", magnitude / S, magnitude % S);
}

static uint64_t scalar_value(const struct metrics_snapshot *snapshot, const struct scalar *scalar)
{
    const char *at = (const char *)snapshot + scalar->at;
    switch (scalar->kind) {
    case SCALAR_TRUTH:
        return *(const bool *)at;
    case SCALAR_SIZE:
        return *(const size_t *)at;
    case SCALAR_COUNT:
    default:
        return *(const uint64_t *)at;
    }
}

static void render_scalars(const struct metrics_snapshot *snapshot, FILE *out)
{
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++) {
        metrics_family(out, scalars[i].name, scalars[i].type, scalars[i].help);
        fprintf(out, "%s %" PRIu64 "\n", scalars[i].name, scalar_value(snapshot, &scalars[i]));
    }
    /* A message that fails is sent again and counted as sent again. */
    const struct pipeline_stats *stats = &snapshot->stats;
    metrics_family(out, "usagebox_flags_pending", METRICS_GAUGE,
                   "Messages sent that Kafka has not answered yet.");
    fprintf(out, "usagebox_flags_pending %" PRIu64 "\n",
            stats->flags_published - stats->flags_acknowledged - stats->flags_failed);
}

/* Every reason is always there, so that an alert on any of them has something to compare with. */
static void render_dead_letters(const struct metrics_snapshot *snapshot, FILE *out)
{
    metrics_family(out, "usagebox_dead_letters_total", METRICS_COUNTER, "Records refused, by reason.");
    for (int reason = REFUSAL_NONE + 1; reason < REFUSAL_COUNT; reason++)
        if (reason != REFUSAL_NO_MEMORY) /* never a dead letter */
            fprintf(out, "usagebox_dead_letters_total{reason=\"%s\"} %" PRIu64 "\n", refusal_names[reason],
                    snapshot->stats.dead[reason]);
}

static void render_rollbacks(const struct metrics_snapshot *snapshot, FILE *out)
{
    static const char *const causes[] = {[STORE_FENCED] = "fenced",
                                         [STORE_REFUSED] = "refused",
                                         [STORE_LOST] = "lost",
                                         [STORE_FATAL] = "fatal"};
    metrics_family(out, "usagebox_rollbacks_total", METRICS_COUNTER,
                   "Batches that did not commit, by cause.");
    for (int cause = STORE_FENCED; cause <= STORE_FATAL; cause++)
        fprintf(out, "usagebox_rollbacks_total{cause=\"%s\"} %" PRIu64 "\n", causes[cause],
                snapshot->rollbacks[cause]);
}

static void render_histogram(const struct histogram_shape *shape, const struct histogram *histogram,
                             FILE *out)
{
    uint64_t cumulative = 0;
    metrics_family(out, shape->name, METRICS_HISTOGRAM, shape->help);
    for (size_t i = 0; i < shape->count; i++) {
        cumulative += histogram->counts[i];
        double bound = (double)shape->bounds[i] / (shape->is_time ? (double)S : 1);
        fprintf(out, "%s_bucket{le=\"%.10g\"} %" PRIu64 "\n", shape->name, bound, cumulative);
    }
    cumulative += histogram->counts[shape->count];
    fprintf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum ", shape->name, cumulative, shape->name);
    if (shape->is_time)
        metrics_seconds(out, (int64_t)histogram->sum);
    else
        fprintf(out, "%" PRIu64, histogram->sum);
    fprintf(out, "\n%s_count %" PRIu64 "\n", shape->name, cumulative);
}

static void begin_partition(FILE *out, const char *name, const struct metrics_partition *partition)
{
    fprintf(out, "%s{topic=", name);
    put_label(out, partition->topic);
    fprintf(out, ",partition=\"%" PRId32 "\"} ", partition->partition);
}

static void render_lag(const struct metrics_snapshot *snapshot, FILE *out)
{
    const char *name = "usagebox_lag_records";
    metrics_family(out, name, METRICS_GAUGE,
                   "Offsets between what is committed and the end of the partition.");
    for (size_t i = 0; i < snapshot->partition_count; i++) {
        const struct metrics_partition *partition = &snapshot->partitions[i];
        if (partition->phase == LANE_IDLE || partition->committed < 0 || partition->high_offset < 0)
            continue;
        int64_t lag = partition->high_offset - partition->committed;
        begin_partition(out, name, partition);
        fprintf(out, "%" PRId64 "\n", lag > 0 ? lag : 0);
    }
}

static void render_seen_through(const struct metrics_snapshot *snapshot, FILE *out)
{
    const char *name = "usagebox_seen_through_timestamp_seconds";
    metrics_family(out, name, METRICS_GAUGE, "Record time up to which the partition is counted.");
    for (size_t i = 0; i < snapshot->partition_count; i++) {
        const struct metrics_partition *partition = &snapshot->partitions[i];
        if (partition->phase == LANE_IDLE || partition->seen_through_us <= 0)
            continue;
        begin_partition(out, name, partition);
        metrics_seconds(out, partition->seen_through_us);
        fputc('\n', out);
    }
}

static void render_lanes(const struct metrics_snapshot *snapshot, FILE *out)
{
    uint64_t lanes[LANE_PHASES] = {0};
    for (size_t i = 0; i < snapshot->partition_count; i++)
        if (i == 0 || snapshot->partitions[i].partition != snapshot->partitions[i - 1].partition)
            lanes[snapshot->partitions[i].phase]++;
    metrics_family(out, "usagebox_lanes", METRICS_GAUGE, "Lanes known to this process, by state.");
    for (int phase = 0; phase < LANE_PHASES; phase++)
        fprintf(out, "usagebox_lanes{state=\"%s\"} %" PRIu64 "\n", lane_phase_names[phase], lanes[phase]);
}

static void render_time(FILE *out, const char *name, const char *help, int64_t value_us)
{
    metrics_family(out, name, METRICS_GAUGE, help);
    fprintf(out, "%s ", name);
    metrics_seconds(out, value_us);
    fputc('\n', out);
}

void metrics_render(const struct metrics_snapshot *snapshot, int64_t now_us, FILE *out)
{
    metrics_family(out, "usagebox_build_info", METRICS_GAUGE, "1; the version that runs.");
    fprintf(out, "usagebox_build_info{version=\"%s\"} 1\n", USAGEBOX_VERSION);
    metrics_render_process(out);
    if (!snapshot->published)
        return;
    render_scalars(snapshot, out);
    render_dead_letters(snapshot, out);
    render_rollbacks(snapshot, out);
    render_lanes(snapshot, out);
    render_lag(snapshot, out);
    render_seen_through(snapshot, out);
    render_time(out, "usagebox_last_commit_age_seconds",
                "Since the last commit; idle partitions commit every second.",
                now_us - snapshot->stats.last_commit_us);
    render_time(out, "usagebox_keeper_turned_timestamp_seconds",
                "When partitions and seals were last looked after without a failure; 0: never yet.",
                snapshot->keeper.turned_at_us);
    render_time(out, "usagebox_snapshot_age_seconds", "Since the engine published these figures.",
                now_us - snapshot->clock_us);
    for (int i = 0; i < METRICS_HISTOGRAMS; i++)
        render_histogram(&metrics_shapes[i], &snapshot->histograms[i], out);
}
