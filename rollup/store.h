/* What the engine asks of PostgreSQL, and in which order. Production: writer threads over libpq (writer.h,
 * postgres_store.h); simulation: a fake. There are two links, connections each with a transaction of its own,
 * so that one batch can be streamed while the one before is committed. The jobs of a link are done one at a
 * time, in the order submitted; those marked "alone" only while nothing is under way or open on any. A job
 * and all that it points to belong to the store from submit() until poll() hands the job back. */
#ifndef UB_STORE_H
#define UB_STORE_H

#include "../consumer/former.h"
#include "batch.h"
#include "store_lane.h"

enum { STORE_LINKS = 2 };

enum store_job_kind {
    STORE_COMMIT,    /* write the batch in one transaction; not before the batch before is committed */
    STORE_STREAM,    /* the batch still grows: COPY rows already, of one and the same day of a batch */
    STORE_GIVE_UP,   /* the batch that was streamed will not be committed */
    STORE_TAKEOVER,  /* become the owner of lanes, restore their state. Alone */
    STORE_RECOVER,   /* after a failure: reconnect, and read the offset rows again, FOR UPDATE. Alone */
    STORE_CATALOGUE, /* what changed: sealed days, ceilings, settings. Beside no commit */
    STORE_SEED       /* sums for a new catalogue's counters, read from usage_hourly. Alone */
};

enum store_status {
    STORE_DONE,
    STORE_FENCED,  /* rolled back: some lane has another owner now (fenced_lanes) */
    STORE_REFUSED, /* rolled back: PostgreSQL refuses a usage_event row, by type or by a named CHECK */
    STORE_LOST,    /* no connection, COMMIT's outcome unknown, a passing error: STORE_RECOVER comes next */
    STORE_FATAL    /* an error on any other table: the lanes stop until a person has looked (detail) */
};

/* One lane and topic, as STORE_RECOVER read it. */
struct store_fact {
    uint32_t topic;
    int32_t partition;
    bool found;
    int64_t epoch;
    int64_t next_offset;
};

enum { STORE_WAITS_BYTES = 120 };
struct store_settings {
    struct identity_secret secret;
    enum partitioner partitioner;
    int32_t partition_count; /* 0: not stored yet */

    /* Partitions that were added (rollup/repartition.h). */
    int64_t repartition_id;            /* under way; 0: none is */
    int32_t repartition_to;            /* how many the topics have by now; 0: none is under way */
    char waits_for[STORE_WAITS_BYTES]; /* the lanes that have not come to its limits: "0, 3" */
    int64_t rehomed_batch; /* lanes were re-homed between the batches below and above this one; 0: never */
    int64_t rehomed_epoch; /* epochs before are lower, epochs since are higher */
    bool flags_said;       /* all lanes have published their customers' flags since */
};

struct store_job {
    enum store_job_kind kind;
    int link; /* below STORE_LINKS; a batch's jobs all have the same */
    enum store_status status;
    char detail[512]; /* a sentence for a person unless STORE_DONE */
    int64_t elapsed_us;

    struct batch *batch;      /* COMMIT; its day `stream_day` had its first rows streamed, if that is not 0 */
    struct row_queue rows;    /* STREAM: moved here from the batch; the engine's again when it is done */
    uint16_t stream_day;      /* STREAM, COMMIT: the day whose COPY is open; 0: none */
    uint32_t stream_left_out; /* STREAM: the batch's left_out, which its rows are without */
    uint64_t stream_batch;    /* STREAM: number of the batch that the rows are of */
    int32_t *fenced_lanes;    /* COMMIT out, if FENCED: malloc'd, given to the engine */
    size_t fenced_count;

    struct store_lane *lanes; /* TAKEOVER */
    size_t lane_count;

    struct store_fact *facts; /* RECOVER: in: topic and partition; out: the rest */
    size_t fact_count;
    bool store_went_back; /* RECOVER: system identifier or timeline is another than before */

    struct former *former_known; /* TAKEOVER in: what other lanes here hold; NULL: nothing */
    struct former *former;       /* out, given: what the lanes need instead; NULL: nothing else */

    /* CATALOGUE out, and TAKEOVER out: */
    struct store_settings settings;      /* TAKEOVER in: partition_count, kept if none is stored yet */
    struct ceiling_catalogue *catalogue; /* given: the newest; NULL: its generation is known_generation */
    int64_t known_generation;            /* in */
    uint16_t *sealed_days; /* CATALOGUE only: all of them, ascending; malloc'd, given to the engine */
    size_t sealed_day_count;

    /* SEED */
    const struct ceiling_catalogue *seed_for; /* in */
    struct ceiling_counter *sums; /* out, for all customers: the engine keeps its lanes'; in arena */
    size_t sum_count;
    struct arena *arena;    /* out, given */
    struct store_job *next; /* a queue of the writer's */
};

struct store {
    void (*submit)(void *self, struct store_job *job);
    struct store_job *(*poll)(void *self); /* a finished job, or NULL */
    void *self;
};

#endif
