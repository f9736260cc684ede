/* The engine among ports written by hand: logs that hold what a test puts into them, a store that answers as
 * it is told to, an enforcement topic that keeps what was sent, and clocks that stand still unless they are
 * moved. Where memory fails, only the engine runs out of it, never these ports. */
#ifndef UB_ENGINE_FIXTURE_H
#define UB_ENGINE_FIXTURE_H

#include "consumer/pipeline.h"

#define SECOND_US INT64_C(1000000)
#define DAY_US (86400 * SECOND_US)
#define START_US ((int64_t)1795339800000000) /* 2026-11-22T09:30:00Z */

enum { TOPICS = 2, LANES = 4, LOG_RECORDS = 64, DETAIL_BYTES = 100 };
extern const char *const topic_names[TOPICS];
extern const struct identity_secret secret;

struct fake_log {
    int64_t low, high; /* its watermarks */
    struct record records[LOG_RECORDS];
    size_t count;
};

struct fake_row { /* of consumer_offset */
    bool exists;
    int64_t epoch, next_offset, last_offset;
    uint64_t fingerprint;
    int64_t witness_offset;
    uint64_t witness_fingerprint;
};

struct fake_flag {
    int32_t lane;
    uint64_t cookie;
    char value[1000];
};

struct fake_probe {
    uint32_t topic;
    int32_t partition;
    int64_t offset;
    uint64_t question;
};

/* Of the running test. What stands here before it begins is what it finds. */
extern struct world {
    struct pipeline *engine;
    int64_t now_us, steady_us;
    size_t topics;

    struct fake_log logs[TOPICS][LANES];
    int32_t partition_count, second_partition_count; /* of the second topic, if it differs */
    struct source_event event;                       /* the next one to be polled, before any record */
    struct fake_probe probes[16];
    size_t probe_count;
    bool probes_unanswered;
    struct source_position consumed[TOPICS * LANES];
    size_t consumed_count;
    uint64_t generation;
    int64_t skips_to[8]; /* by generation: before this offset nothing is delivered */
    bool held, released;

    struct fake_row rows[TOPICS][LANES];
    struct store_settings settings;
    struct store_lane_offset limits[TOPICS][LANES]; /* of a repartition: limit and eras */
    int64_t epochs;
    uint16_t sealed[4];
    size_t sealed_count;
    bool adopts_seals;                            /* a lane that is taken over has adopted them */
    struct ceiling_catalogue *(*catalogue)(void); /* NULL: no ceilings */
    int64_t catalogue_generation, lane_generation;
    struct store_job *under_way[STORE_LINKS];
    uint64_t streamed[STORE_LINKS];            /* the batch whose transaction is open there; 0: none */
    enum store_status answers[STORE_SEED + 1]; /* to the next job of a kind */
    bool silent[STORE_SEED + 1];               /* does not answer that kind at all */
    size_t jobs[STORE_SEED + 1];               /* done, whatever the answer */
    /* May look at a job before it is answered, and change what its answer says. */
    void (*before)(struct store_job *job);
    void (*after)(struct store_job *job);

    struct flag_event on_topic; /* what the enforcement topic holds at first; FLAG_NOTHING: nothing */
    struct flag_event flag_events[64];
    size_t flag_event_count;
    struct fake_flag sent[64];
    size_t sent_count;
    bool unacknowledged, queue_full;

    char notes[1 << 16];
    size_t alerts;

    void *(*allocate)(size_t size_bytes); /* what the engine frees must come from where it gets its own */
    bool *fail_nowhere;                   /* set while a port is at work; NULL: memory never fails */
} world;

/* Time passes only so. */
void pass(int64_t us);

/* Appends a record of now to a log. The texts live as long as the program. */
struct record *put(uint32_t topic, int32_t partition, const char *customer_id, const char *json);
struct record *put_event(uint32_t topic, int32_t partition, const char *customer_id, const char *event_id,
                         int quantity);
const struct record *record_at(const struct fake_log *log, int64_t offset);

struct pipeline_options default_options(void);
void with_ceilings(int64_t generation); /* ten a day, for everybody; before lanes run */
struct pipeline *begin(const struct pipeline_options *options);
void assign(int32_t lanes); /* from 0 on, of all topics: the whole assignment */
void turns(int count);
/* Has so many lanes run, with nothing in their logs but what was put there. */
void run_lanes(const struct pipeline_options *options, int32_t lanes);
void read_two(const struct pipeline_options *options); /* the same, with two records read and committed */
void end(void);      /* all that is done goes back to the engine, undone if need be */
void teardown(void); /* end(), for tests that may have ended before they began */
struct pipeline_partition partition(size_t index);
enum lane_phase phase(int32_t lane);
bool noted(const char *part);
void forget_notes(void);

struct store_job *job_under_way(enum store_job_kind kind); /* NULL: none of that kind */
void fake_commit(const struct batch *batch);               /* the store writes the rows of lanes */
void *fake_zeroed(size_t count, size_t size);              /* as the engine allocates */

#endif
