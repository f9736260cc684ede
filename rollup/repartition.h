/* Partitions that were added to the usage topics: customers change lanes. Where each log ends when that is
 * ordered is recorded; below these ends the former count says where a customer belongs, from there on the new
 * one. Lanes read up to their ends and wait there: the same event may lie once below in its former lane and
 * once beyond in its new one, and only a lane that knows all that was counted below can tell. Once all have
 * come there, what was kept by lane is re-homed, all epochs rise, and each lane is taken over anew with
 * everybody's keys. */
#ifndef UB_REPARTITION_H
#define UB_REPARTITION_H

#include "../consumer/partitioner.h"
#include "pg.h"

enum { REPARTITION_WAITS_BYTES = 120 };

struct repartition_end { /* where a log ends now */
    const char *topic;
    int32_t partition;
    int64_t offset;
};

enum repartition_answer {
    REPARTITION_NOTHING_READ, /* no lane was ever taken over: the first one takes the topics as they are */
    REPARTITION_AS_BEFORE,    /* this is the count that is in use */
    REPARTITION_UNDER_WAY,    /* and was before; nothing has changed */
    REPARTITION_ORDERED
};

struct repartition_order {
    int32_t to_count;                   /* partitions of each usage topic */
    enum partitioner partitioner;       /* UNKNOWN: the one that was learned */
    const struct repartition_end *ends; /* all partitions of all usage topics */
    size_t end_count;
    bool anew; /* though one is under way: record the ends of now */
    const char *actor;

    enum repartition_answer answer; /* out */
    int32_t from_count;             /* out */
};

/* One transaction, over a connection as owner. Whoever owns lanes is fenced, and learns of it as it takes
 * them over again. False: failure says why, and nothing has changed. */
bool repartition_order(struct pg *pg, struct repartition_order *order);

struct repartition_progress {
    bool under_way; /* still */
    bool done;      /* by this call */
    int32_t from_count, to_count;
    char waits_for[REPARTITION_WAITS_BYTES]; /* lanes that have not come to their ends: "0, 3" */
};

/* Finishes what is under way if all lanes have come to their ends. Over a connection as owner; harmless at
 * any time, by several at once. */
bool repartition_advance(struct pg *pg, struct repartition_progress *progress);

#endif
