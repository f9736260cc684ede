/* What goes wrong in a run, by kind. */
#ifndef UB_SIM_FAULTS_H
#define UB_SIM_FAULTS_H

#include <stdbool.h>

enum fault_kind {
    /* processes */
    FAULT_KILL,
    FAULT_DRAIN,
    FAULT_FREEZE,
    FAULT_EVICT,
    FAULT_CLOCK_STEP,
    FAULT_TIME_LEAP,
    FAULT_LONG_LEAP,
    FAULT_TOPIC_LEFT_OUT,
    /* brokers */
    FAULT_REBALANCE,
    FAULT_BROKERS_DOWN,
    FAULT_SLOW_FETCHES,
    FAULT_STUCK_FETCH,
    FAULT_CORRUPT_BATCH,
    FAULT_SLOW_PROBE,
    FAULT_FAILED_PROBE,
    FAULT_ABORTED,
    FAULT_RETENTION,
    FAULT_LOSS,
    FAULT_TRUNCATION,
    FAULT_RECREATION,
    FAULT_PARTITION_ADDED,
    FAULT_REPARTITION,
    FAULT_OLD_COUNT,
    /* the enforcement topic */
    FAULT_FLAGS_DOWN,
    FAULT_FLAG_FAILED,
    FAULT_FLAG_QUEUE_FULL,
    FAULT_FLAG_OF_ZOMBIE,
    FAULT_COMPACTION,
    /* PostgreSQL */
    FAULT_DATABASE_DOWN,
    FAULT_LOST_BEFORE,
    FAULT_LOST_AFTER,
    FAULT_BACKEND_ENDED,
    FAULT_SLOW_JOB,
    FAULT_DISK_FULL,
    FAULT_FATAL,
    FAULT_REFUSED_ROW,
    FAULT_FAILOVER,
    /* people */
    FAULT_CEILINGS,
    FAULT_SEAL,
    FAULT_SEEK,
    /* clients of Kafka */
    FAULT_SKIPPED_RECORDS,
    FAULT_STALE_FETCH,
    FAULT_REDELIVERED,
    FAULT_PRODUCER_AHEAD,
    /* people, where a topic is left out */
    FAULT_RETIRED,
    FAULT_KINDS
};
extern const char *const fault_names[FAULT_KINDS];

struct world;
void fault_count(struct world *world, enum fault_kind kind);
/* Does this run know the kind, is it still time for faults, and do the dice say so? */
bool fault_strikes(struct world *world, enum fault_kind kind, double probability);
void fault_choose(struct world *world); /* which kinds this run knows */
void fault_inject(struct world *world); /* one, of those that nothing else decides about */

#endif
