/* One partition of a lane: how far it is committed, decided and was reached before, and what was asked about
 * its log. Private to the engine. */
#ifndef UB_LANE_TOPIC_H
#define UB_LANE_TOPIC_H

#include "../rollup/store_lane.h"

struct lane_record {
    int64_t offset; /* -1: none */
    uint64_t fingerprint;
};

struct lane_topic {
    /* As the store has it. */
    int64_t committed; /* next_offset; -1: fresh */
    int64_t committed_last_offset;
    uint64_t committed_fingerprint;
    int64_t committed_through_us;
    int64_t stored; /* next_offset once the closed batch is committed: what the next one compares with */
    /* As decided. */
    int64_t position;
    int64_t last_offset; /* of the last record taken; -1: none */
    uint64_t last_fingerprint;
    int64_t seen_through_us;
    int64_t noted_through_us; /* seen_through of the last batch closed */
    int64_t noted_at_us;      /* when that was, by the steady clock */
    int64_t gap;              /* offsets below position that the next batch records as a gap */
    /* Before a rewind, or by another process, decisions were published up to here. */
    int64_t reached;
    /* A jump over missing offsets counts as a hole when it is seen a second time, unless a record came since
     * consume(). */
    int64_t jumped_at, jumped_to;
    bool jumps_trusted;
    int64_t high_offset; /* -1: not known */
    int64_t low_offset;
    int32_t partition_count;
    bool probing;      /* asked, not answered */
    uint64_t question; /* the last one's number */
    int64_t asked_at_us;
    int64_t asked_position;     /* position when it was asked */
    int64_t asked_reached;      /* reached when it was asked */
    int64_t asked_offset;       /* the record whose fingerprint was asked for; -1: none */
    uint64_t asked_fingerprint; /* what it should be */
    bool probed;                /* answered since the lane came to its present phase */
    bool found;
    uint64_t found_fingerprint;
    int64_t fingerprint_at_us; /* when it was last asked for while running */
    bool last_checked;         /* CHECKING: the last record read is there; now for the witness */
    /* A record of the log that is being read, and the one to follow it: the last one committed when it was
     * asked for. A log made anew does not hold it, however much of that was read and committed meanwhile. */
    struct lane_record witness, heir;
    int64_t limit;          /* nothing is read from here on: a repartition is under way; else INT64_MAX */
    struct store_era *eras; /* malloc'd */
    size_t era_count;
    size_t row; /* index into the open batch's partitions; SIZE_MAX: not in it */
};

/* What was reached beyond the log's end was reached in a log that is gone: nothing leads there again. */
void lane_log_ends(struct lane_topic *topic, int64_t end_offset);

#endif
