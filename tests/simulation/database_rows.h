/* Rows of the tables that PostgreSQL holds. */
#ifndef UB_SIM_DATABASE_ROWS_H
#define UB_SIM_DATABASE_ROWS_H

#include "basics.h"
#include "ceiling.h"

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
    int64_t updated_us;
    bool retired; /* its topic was set aside */
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

#endif
