/* PostgreSQL: what its tables hold. */
#ifndef UB_SIM_DATABASE_H
#define UB_SIM_DATABASE_H

#include "basics.h"
#include "ceiling.h"
#include "partitioner.h"

struct sim_event { /* a row of usage_event */
    char customer[WORLD_NAME_BYTES];
    char event_id[WORLD_NAME_BYTES];
    char meter[WORLD_NAME_BYTES];
    decimal_t quantity;
    int64_t event_us;
    int32_t topic, partition;
    int64_t offset;
};

struct sim_offset {
    bool exists;
    int64_t epoch, next_offset, last_offset, seen_through_us;
    uint64_t last_fingerprint;
    int64_t witness_offset;
    uint64_t witness_fingerprint;
    int64_t accepted, duplicate, dead, hole, gap;
    int owner;
};

/* One offset of a committed batch: which record it stood for. Kept beside the tables, in the order of
 * commits. */
struct sim_account {
    int32_t topic, partition;
    int64_t offset, serial;
    int32_t partition_count; /* that lanes were judged by */
    bool dead;               /* it became a dead letter */
};

/* An operator's `offsets accept` or `offsets seek`. */
struct sim_move {
    int32_t topic, partition;
    int64_t from, to;
};

struct sim_hour {
    char customer[WORLD_NAME_BYTES], meter[WORLD_NAME_BYTES];
    int64_t hour_us;
    int64_t events;
    decimal_t quantity, adjustment;
};

struct sim_segment {
    int32_t lane;
    uint16_t day;
    uint8_t *keys; /* the world's */
    size_t size_bytes;
    int64_t batch;
};

struct sim_counter {
    int32_t lane;
    char customer[WORLD_NAME_BYTES], meter[WORLD_NAME_BYTES];
    enum ceiling_period period;
    int64_t start_us;
    decimal_t used;
};

struct sim_state {
    int32_t lane;
    char customer[WORLD_NAME_BYTES], ceiling[WORLD_NAME_BYTES];
    int64_t start_us, end_us, version, transition;
    bool active;
    char decision_id[33];
};

struct sim_decision {
    char id[33];
    char customer[WORLD_NAME_BYTES], ceiling[WORLD_NAME_BYTES];
    int64_t start_us, transition;
    bool active, published;
    bool by_event; /* and then: */
    int32_t topic, partition;
    int64_t offset;
    bool by_clock;
    char *flag; /* decision_trace; the world's */
};

struct sim_adoption {
    int32_t lane;
    uint16_t day;
};

struct sim_pending {
    struct sim_event event;
    int32_t lane;
};

enum { WORLD_GENERATIONS = 64 }; /* more than a lane is ever behind */
enum { WORLD_CEILINGS = 6 };     /* names that there ever are */
struct sim_ceilings {
    bool in_force[WORLD_CEILINGS];
    int64_t limits[WORLD_CEILINGS];
};

struct sim_repartition {
    int64_t id;
    int32_t from, to;
    int64_t ends[WORLD_TOPICS][WORLD_PARTITIONS];
    bool done;
};

struct sim_database {
    struct sim_offset offsets[WORLD_TOPICS][WORLD_PARTITIONS];
    struct table events, hours, segments, counters, states, decisions, adoptions, pending, dead;
    struct table sealed; /* uint16_t days */
    struct table accounts, moves;
    int64_t lane_generation[WORLD_PARTITIONS];
    int64_t adopted_at[WORLD_PARTITIONS];            /* offset in the first topic from where on it decides */
    int64_t generation;                              /* of the ceilings in force */
    struct sim_ceilings ceilings[WORLD_GENERATIONS]; /* by generation, round and round */
    int64_t ceilings_since_us[WORLD_CEILINGS];       /* when each was first in force; 0: never */
    enum partitioner partitioner;
    int32_t partition_count;
    int timeline_met; /* the last server's that lanes were taken over from */
    int64_t batch;    /* of the last transaction */
    struct sim_repartition repartitions[WORLD_PARTITIONS];
    int repartition_count; /* the last one may be under way */
    int64_t rehomed_batch, rehomed_epoch, rehomed_us;
    int64_t lane_adopted_batch[WORLD_PARTITIONS];
};

/* Everything that is in `from`; strings are shared. `to` is overwritten. */
void database_copy(struct sim_database *to, const struct sim_database *from);
void database_free(struct sim_database *database);
bool database_adopted(const struct sim_database *database, int32_t lane, uint16_t day); /* a seal */
/* For each offset below count which record it was counted as, last; -1: none. malloc'd. */
int64_t *database_counted_as(const struct sim_database *db, int topic, int partition, int64_t count);

#endif
