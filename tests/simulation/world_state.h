/* What a world is made of: its processes, and all that they share. */
#ifndef UB_WORLD_STATE_H
#define UB_WORLD_STATE_H

#include "brokers.h"
#include "database.h"
#include "faults.h"

enum job_fate { JOB_WELL, JOB_LOST_BEFORE, JOB_LOST_AFTER, JOB_FATAL };

/* A connection to PostgreSQL. */
struct sim_link {
    struct store_job *job; /* under way */
    int64_t began_us, done_us;
    enum job_fate fate;
    bool connected;
    bool in_transaction;   /* of a batch */
    uint64_t batch;        /* which */
    struct table streamed; /* struct sim_event: its rows */
};

struct process {
    struct world *world;
    int number;
    bool alive, draining;
    int topic_count;         /* by its configuration, which may be another than that of others */
    int64_t frozen_until_us; /* SIGSTOP */
    int64_t starts_us;       /* when a dead one comes back */
    int64_t clock_ahead_us;  /* of its wall clock */
    struct pipeline *pipeline;
    struct sim_source source;
    struct sim_tail tails[WORLD_PARTITIONS];
    int64_t flags_landed_us; /* messages of one producer keep their order */
    struct sim_link links[STORE_LINKS];
    int64_t commit_began_us; /* the last one */
    int timeline;            /* of the server when they connected */
    int64_t incarnation;
};

struct world {
    struct random random;
    int64_t now_us; /* the true time */
    int64_t start_us;
    int topic_count, partition_count, process_count;
    bool grown;             /* partitions were added */
    int count_before;       /* the last time */
    int64_t count_known_us; /* when brokers know of it */
    bool rehomes;           /* where partitions are added, somebody orders a repartition */
    int64_t repartition_ids;
    bool faults;      /* still injecting */
    uint64_t enabled; /* which kinds this run knows */
    uint64_t fault_counts[FAULT_KINDS];
    struct table records; /* struct sim_record, by serial */
    struct sim_log logs[WORLD_TOPICS][WORLD_PARTITIONS];
    struct sim_flags flags[WORLD_PARTITIONS];
    struct table flights; /* struct sim_flight */
    struct sim_database database, replica;
    bool replica_lags; /* the replica is a copy from some time ago */
    int64_t promoted_us;
    int timeline;
    struct table kept; /* char *: what rows of both databases point to */
    int64_t database_back_us, disk_full_until_us, flags_back_us, queue_full_until_us, brokers_back_us,
        fetches_slow_until_us;
    struct process processes[WORLD_PROCESSES];
    bool ceilings_changed, clocks_stepped;
    int64_t operator_at_us;
    uint64_t bytes_hash; /* of everything that happened: two runs of a seed must agree */
    bool trace;
    int64_t produced;
    const char *failure;
    char failure_text[512];
};

static inline struct sim_record *world_record(const struct world *world, int64_t serial)
{
    return &((struct sim_record *)world->records.rows)[serial];
}

#endif
