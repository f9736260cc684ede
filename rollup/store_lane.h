/* What the store knows of a lane, as STORE_TAKEOVER hands it to the engine. */
#ifndef UB_STORE_LANE_H
#define UB_STORE_LANE_H

#include "../consumer/ceiling_book.h"
#include "../consumer/dedupe.h"

/* Records below an offset, and the partition count by which their producers chose where to put them. */
struct store_era {
    int64_t below;
    int32_t partition_count;
};

struct store_lane_offset {
    uint32_t topic;
    bool fresh; /* there was no row: next_offset is -1 until the log's start is known */
    int64_t next_offset;
    int64_t last_offset; /* -1: none */
    uint64_t last_fingerprint;
    int64_t witness_offset; /* of a record known to be of the log that was read all along; -1: none */
    uint64_t witness_fingerprint;
    int64_t seen_through_us;
    bool limited;           /* a repartition is under way: */
    int64_t limit;          /* nothing is read from here on before all lanes have come to their limits */
    struct store_era *eras; /* oldest first; beyond them the present count holds */
    size_t era_count;
};

/* An accepted event of a sealed day whose ceilings were not counted yet. */
struct store_pending {
    uint32_t topic;
    int32_t partition;
    int64_t offset;
    struct event event; /* views into the lane's arena */
};

/* One lane's share of a takeover: `in` is the engine's to fill in, all else the store's. */
struct store_lane {
    int32_t lane;
    int64_t epoch_above; /* in: the new epoch is above this and above the row's */
    int64_t kept_epoch;  /* in: the epoch of the state that the engine still has; 0: it has none */
    bool kept;           /* out: every row still has kept_epoch: nothing was raised or restored but offsets */
    int64_t epoch;       /* out */
    struct store_lane_offset *offsets; /* by topic index; all topics */
    struct dedupe *dedupe;             /* out, filled by the store, given to the engine */
    struct ceiling_book *book;         /* out, likewise */
    int64_t ceilings_generation;       /* adopted; 0: none */
    struct ceiling_catalogue *adopted; /* out, given: that generation's; NULL: it is the newest one */
    uint16_t *sealed_days;             /* adopted, ascending */
    size_t sealed_day_count;
    struct store_pending *pending;
    size_t pending_count;
    struct arena *arena; /* holds all of the above but dedupe and book; given to the engine */
};

#endif
