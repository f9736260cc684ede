/* What the process measures, as Prometheus reads it (text format 0.0.4). The engine's thread observes and
 * publishes a snapshot now and then; whoever asks over HTTP gets the last one rendered on a thread of its
 * own, so that no scrape ever holds up an event. */
#ifndef UB_METRICS_H
#define UB_METRICS_H

#include <stdio.h>

#include "../rollup/keeper.h"
#include "../rollup/postgres_store.h"
#include "pipeline.h"

enum metrics_histogram {
    METRICS_COMMIT_SECONDS,       /* of a batch's transaction, from submit to done; observed in µs */
    METRICS_BATCH_ROWS,           /* accepted rows of a committed batch */
    METRICS_FLAG_DECIDED_SECONDS, /* from an event's decision to Kafka's acknowledgement of its flag; in µs */
    METRICS_FLAG_RECORD_SECONDS,  /* from the record's timestamp on; in µs */
    METRICS_HISTOGRAMS
};

enum { HISTOGRAM_BUCKETS = 19 }; /* at most, +Inf not counted */
struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS + 1]; /* by bucket, not cumulative; the last one used is +Inf */
    uint64_t sum;                           /* in the unit of what is observed */
};

/* One partition of an assigned lane. */
struct metrics_partition {
    char topic[250]; /* Kafka's limit is 249 */
    int32_t partition;
    enum lane_phase phase;
    int64_t committed;   /* next offset to count; -1: not known */
    int64_t high_offset; /* -1: not known */
    int64_t seen_through_us;
    bool at_limit;         /* waits for other lanes: a repartition is under way */
    char stop_reason[400]; /* empty unless stopped */
};

struct metrics_snapshot {
    bool published;    /* false: the engine has not turned yet */
    int64_t turned_us; /* when the engine published it, by the monotonic clock */
    int64_t clock_us;  /* the same moment, by the wall clock */
    struct pipeline_stats stats;
    struct histogram histograms[METRICS_HISTOGRAMS];
    uint64_t rollbacks[STORE_FATAL + 1]; /* transactions that did not commit, by the store's answer */
    struct postgres_store_restored restored;
    struct keeper_report keeper;
    struct metrics_partition *partitions;
    size_t partition_count;
};

/* Not thread-safe but for metrics_snapshot(). */
struct metrics;
struct metrics *metrics_new(void); /* NULL: out of memory */
void metrics_free(struct metrics *metrics);

/* From the engine's observer. A negative value counts as 0. */
void metrics_observe(struct metrics *metrics, enum metrics_histogram which, int64_t value);
void metrics_batch_done(struct metrics *metrics, const struct store_job *job);
void metrics_restored(struct metrics *metrics, struct postgres_store_restored restored);
void metrics_kept(struct metrics *metrics, struct keeper_report report);

/* What was observed so far, into a snapshot: histograms, rollbacks, what the store restored, what the keeper
 * did. */
void metrics_observed(const struct metrics *metrics, struct metrics_snapshot *snapshot);

/* Publishes the pipeline's state and all that was observed, unless that was done less than 100 ms ago; to be
 * called once per turn. Out of memory: the old snapshot stays, and ages. */
void metrics_publish(struct metrics *metrics, struct pipeline *pipeline, const char *const *topics);

/* The same without a pipeline and without waiting: from is copied, its partitions too. False: out of memory.
 */
bool metrics_publish_snapshot(struct metrics *metrics, const struct metrics_snapshot *from);

/* Was nothing published since, by the monotonic clock? */
bool metrics_due(struct metrics *metrics, int64_t since_us);

/* A copy of the last snapshot, from any thread; to be freed. NULL: out of memory. */
struct metrics_snapshot *metrics_snapshot(struct metrics *metrics);
void metrics_snapshot_free(struct metrics_snapshot *snapshot);

/* Writes the exposition. now_us: by the wall clock. */
void metrics_render(const struct metrics_snapshot *snapshot, int64_t now_us, FILE *out);

/* Whether the engine turned lately, and whether it does what it is there for: lanes assigned, restored,
 * getting on. Each writes a JSON object that says why not, and returns the answer. now_us: by the monotonic
 * clock. */
bool metrics_alive(const struct metrics_snapshot *snapshot, int64_t now_us, FILE *out);
bool metrics_ready(const struct metrics_snapshot *snapshot, int64_t now_us, FILE *out);

#endif
