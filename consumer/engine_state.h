/* What the engine keeps from turn to turn. Private to the files that engine.h lists. */
#ifndef UB_ENGINE_STATE_H
#define UB_ENGINE_STATE_H

#include "lane.h"

enum {
    ENGINE_AHEAD_KEYS = 1 << 20, /* how far it decides without the store */
    ENGINE_REFUSED_LIMIT = 1024,
    ENGINE_UNMADE_LIMIT = 256,
    ENGINE_LATENCY_SLOTS = 4096
};
#define ENGINE_SECOND_US INT64_C(1000000)
#define ENGINE_DAY_US (86400 * ENGINE_SECOND_US)
#define ENGINE_REVOKE_US (2 * ENGINE_SECOND_US)
#define ENGINE_FLAG_WAIT_US (30 * ENGINE_SECOND_US)
/* So long have flags that are on their way the cores to themselves, and one part of so many of the time at
 * most. */
#define ENGINE_WAY_US (ENGINE_SECOND_US / 200)
enum { ENGINE_WAY_SHARE = 2 };
#define ENGINE_TOMBSTONE_US ENGINE_DAY_US
#define ENGINE_STOPPED_RETRY_US (10 * ENGINE_SECOND_US)
#define ENGINE_FINGERPRINT_US (10 * ENGINE_SECOND_US)

enum ceilings_stage {
    CEILINGS_SETTLED,
    CEILINGS_AT_BOUNDARY, /* shadow begins when the open batch closes */
    CEILINGS_COMMITTING,  /* waits for that batch's commit */
    CEILINGS_SEEDING,     /* sums are being read */
    CEILINGS_SEEDED,      /* the batch that closes next adopts */
    CEILINGS_ADOPTING     /* intake is held until the adopting batch is committed */
};

struct refused_row {
    struct ceiling_origin origin;
    uint64_t fingerprint; /* of its record: a log that is cut and written on has another one there */
    char detail[256];
};

struct latency_slot {
    uint64_t cookie; /* 0: free */
    int64_t decided_steady_us;
    int64_t record_ms;
};

/* What a link of the store does for us. */
struct engine_link {
    struct store_job *job;    /* under way */
    struct store_job *failed; /* came back so; settled once nothing is under way on any link */
    uint64_t streams;         /* the number of the batch whose transaction is open there; 0: none */
};

struct pipeline {
    struct pipeline_options options;
    struct pipeline_ports ports;
    struct pipeline_stats stats;
    int64_t now_us;    /* by the wall clock: when something happened */
    int64_t steady_us; /* by the steady one: what durations, delays and deadlines are measured with */

    struct lane **lanes; /* by number; NULL: never assigned here */
    size_t lane_count;
    int32_t unmade[ENGINE_UNMADE_LIMIT]; /* assigned lanes that there was no memory for */
    size_t unmade_count;
    int64_t unmade_at_us;    /* when they are tried again */
    int64_t gather_until_us; /* lanes that came together wait for each other */
    bool assignment_new;
    bool revoking;
    int64_t revoke_by_us;
    bool draining;
    bool released;

    uint64_t generation;     /* of the consumed set */
    bool consume_asked;      /* the consumed set changed: tell the source at the end of the turn */
    bool behind;             /* there is a backlog, or what is left of one: batches wait for it */
    int64_t behind_until_us; /* for as long as this, if it is not read before */
    bool held;

    struct decoder *decoder;
    struct arena *scratch; /* reset each turn */
    struct identity_secret secret;
    enum partitioner partitioner;
    bool partitioner_stored;
    struct partitioner_votes votes;
    int32_t partition_count;        /* by which records are judged */
    struct store_settings settings; /* as they were read last */
    uint64_t misplaced, placed; /* records in the wrong lane against right ones, since the last alert check */
    struct refused_row *refused;
    size_t refused_count;
    int64_t limit_rows; /* shrinks to find a refused row */

    struct row_pool row_pool;           /* of both batches and of what is being streamed */
    struct batch *batches[STORE_LINKS]; /* each is written over the link of its number */
    struct batch *open;                 /* being filled; NULL while both are closed or none is needed */
    struct batch *closed;               /* waits for its flags, or is with the store */
    uint64_t batch_number;
    uint16_t open_stream_day, closed_stream_day; /* the day whose rows are being streamed; 0: none */
    bool close_asked;
    bool closed_submitted;
    const char *rewind_asked; /* why; done as soon as the store has nothing of ours under way */
    bool in_doubt;            /* the closed batch's COMMIT was under way when the store was lost */
    int64_t closed_at_us;
    bool flags_late; /* alerted that the closed batch commits without its flags acknowledged */

    struct engine_link links[STORE_LINKS];
    bool lost;  /* the store needs STORE_RECOVER */
    bool ahead; /* deciding without keeping rows */
    int64_t recover_at_us, recover_backoff_us;
    int64_t catalogue_at_us;
    bool settings_known;
    uint16_t *sealed_days; /* all seals known, ascending */
    size_t sealed_day_count;

    struct ceiling_catalogue **catalogues; /* every one that some lane may use; the last is the newest */
    size_t catalogue_count;
    enum ceilings_stage ceilings_stage;
    const struct ceiling_catalogue *ceilings_target; /* what shadowing lanes are about to adopt */
    struct store_job *ceilings_seed;                 /* sums that wait for the partitioner to be read */
    int64_t ceilings_retry_at_us;
    uint64_t ceilings_batch; /* the boundary's or the adopting batch's number */

    struct latency_slot latencies[ENGINE_LATENCY_SLOTS];
    bool giving_way;      /* to flags: nothing is taken in, no rows are streamed */
    int64_t way_since_us; /* some flag is on its way since; 0: none is */
    int64_t way_left_us;  /* what may still be given, as of way_seen_us */
    int64_t way_seen_us;
    int64_t tick_at_us;
    int64_t trickle_at_us; /* beyond the memory limit no records are taken before */
    int64_t memory_alert_at_us;
    uint32_t next_serial;
};

#endif
