/* PostgreSQL: what its tables hold. */
#ifndef UB_SIM_DATABASE_H
#define UB_SIM_DATABASE_H

#include "database_rows.h"
#include "partitioner.h"

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
