/* The engine: from records to decisions to batches, and back by rewind when a batch can't be written. Pure:
 * it meets the world through source, store, flag_sink and clock alone, so that the simulator replays whole
 * runs.
 *
 * One thread calls pipeline_turn() for ever; each turn takes what the store has finished, what the source and
 * the enforcement topic have to say, decides, and hands the next batch over. */
#ifndef UB_PIPELINE_H
#define UB_PIPELINE_H

#include "../rollup/store.h"
#include "clock.h"
#include "flag_sink.h"
#include "source.h"

enum note_level { NOTE_DEBUG, NOTE_INFO, NOTE_WARN, NOTE_ALERT };

/* What the engine has to tell a person, and what it measures. */
struct observer {
    void (*note)(void *self, enum note_level level, int32_t lane, const char *sentence); /* lane -1: none */
    void (*batch_done)(void *self, const struct store_job *job); /* every finished STORE_COMMIT */
    void (*flag_done)(void *self, int64_t since_decided_us,
                      int64_t since_record_us); /* acknowledged; -1: no record */
    void *self;
};

struct pipeline_options {
    const char *const *topics; /* kafka.usage_topics; outlives the pipeline */
    size_t topic_count;
    struct event_rules rules;
    struct accumulator_rules rollup;
    enum partitioner partitioner; /* UNKNOWN: learn it */
    int64_t max_rows;             /* batch.max_rows */
    int64_t max_delay_us;         /* batch.max_delay */
    size_t max_batch_bytes;       /* held in memory for one transaction at most, but for one poll's records */
    int64_t memory_limit_bytes;   /* dedupe.memory_limit */
};

struct pipeline_ports {
    struct source source;
    struct store store;
    struct flag_sink flags;
    struct clock clock;
    struct observer observer;
};

enum lane_phase {
    LANE_IDLE,          /* not assigned here */
    LANE_READING_FLAGS, /* reading its enforcement partition, asking for its topics' watermarks */
    LANE_TAKING,        /* waits for the store: epoch raised, state restored */
    LANE_CHECKING,      /* holds the log against what the store remembers of it */
    LANE_RUNNING,
    LANE_WAITING, /* takes over again at retry_at_us */
    LANE_STOPPED, /* a person has to look: stop_reason; tried again now and then */
    LANE_PHASES
};
extern const char *const lane_phase_names[LANE_PHASES];

/* Counts since the process began; committed ones unless said otherwise. */
struct pipeline_stats {
    uint64_t accepted, duplicates, conflicts, holes, gaps;
    uint64_t dead[REFUSAL_COUNT];
    uint64_t batches, rewinds, fenced, refused_rows, store_losses;
    uint64_t flags_published, flags_acknowledged, flags_failed, decisions;
    int64_t last_commit_us;
    bool store_up, holding, ahead;
    size_t lanes_unmade; /* assigned, and no memory to take them over yet */
    size_t dedupe_keys, dedupe_bytes, batch_bytes, ceiling_bytes;
    /* A repartition: how many partitions there are to be, 0: none is under way; lanes of ours that have read
     * all that they may before the others have; and who these are. */
    int32_t repartition_to;
    size_t lanes_at_limit;
    char waits_for[STORE_WAITS_BYTES];
};

/* One partition of a lane, for status and metrics. */
struct pipeline_partition {
    uint32_t topic;
    int32_t partition;
    enum lane_phase phase;
    int64_t epoch;
    int64_t committed;
    int64_t position;
    int64_t high_offset; /* -1: not known yet */
    int64_t seen_through_us;
    bool at_limit;           /* a repartition is under way, and nothing more may be read yet */
    const char *stop_reason; /* "" unless stopped */
};

struct pipeline;

/* NULL: out of memory. The options' arrays and the ports' selves outlive it. */
struct pipeline *pipeline_new(const struct pipeline_options *options, const struct pipeline_ports *ports);
void pipeline_free(struct pipeline *pipeline);

/* Before pipeline_free(): frees a job that the store gave back undone or unpolled (a list by `next`, may be
 * NULL). */
void pipeline_abandon(struct pipeline *pipeline, struct store_job *jobs);

void pipeline_turn(struct pipeline *pipeline, int timeout_ms);

/* Stop taking records in, commit what is decided, leave. */
void pipeline_drain(struct pipeline *pipeline);
bool pipeline_drained(const struct pipeline *pipeline);
/* Did all that was decided get committed? What was not is decided again by whoever comes next: nothing is
 * lost. */
bool pipeline_clean(const struct pipeline *pipeline);

/* What the store keeps for identity.h, once it has told us; NULL until then. */
const struct identity_secret *pipeline_secret(const struct pipeline *pipeline);

const struct pipeline_stats *pipeline_stats(struct pipeline *pipeline);
size_t pipeline_partitions(const struct pipeline *pipeline); /* of lanes that are or were assigned here */
bool pipeline_partition(const struct pipeline *pipeline, size_t index, struct pipeline_partition *out);

#endif
