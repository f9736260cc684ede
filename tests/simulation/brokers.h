/* Kafka: logs of records that were produced, the consumer group, the enforcement topic. */
#ifndef UB_SIM_BROKERS_H
#define UB_SIM_BROKERS_H

#include "basics.h"
#include "pipeline.h"

enum sim_outcome {
    SIM_GOOD,
    SIM_BAD,     /* a dead letter */
    SIM_REFUSED, /* decodes well, but PostgreSQL refuses its row: a dead letter, too */
    SIM_MARKER   /* no record: the end of a transaction, or one of an aborted one */
};

/* What the producer meant: the oracle's truth, apart from how the core decodes the value. */
struct sim_record {
    enum sim_outcome outcome;
    int64_t time_ms;     /* record time, which may be ahead */
    int64_t appended_us; /* when Kafka took it in */
    char customer[WORLD_NAME_BYTES];
    char event_id[WORLD_NAME_BYTES];
    char corrects[WORLD_NAME_BYTES]; /* empty: usage */
    int meter;
    int64_t quantity; /* whole units */
    int64_t event_us;
    char value[400];
    uint32_t value_length;
};

/* Offsets hold serials: which of all records that were ever produced. */
struct sim_log {
    int64_t *serials;
    int64_t count, capacity;
    int64_t low;    /* the log's start */
    bool rewritten; /* truncated or made anew at least once: offsets may have meant other records before */
    int64_t stuck_until_us;
};

struct sim_message {   /* of the enforcement topic */
    bool gone;         /* compacted away */
    char *key, *value; /* value NULL: tombstone */
    uint32_t key_length, value_length;
    struct flag_sequence sequence;
};
struct sim_flags {
    struct table messages;
};

/* A message on its way to the enforcement topic; its producer may be dead by the time it lands. */
struct sim_flight {
    int process;
    int64_t incarnation;
    int32_t lane;
    uint64_t cookie;
    struct sim_message message;
    int64_t sent_us, lands_us, told_us;
    bool lost, failed; /* never lands; is reported as failed, landed or not */
    bool landed;
};

struct sim_probe {
    uint32_t topic;
    int32_t partition;
    bool failed;
    struct source_probe answer; /* watermarks as they were when asked */
    int64_t answer_us;
};

/* Which records a process was given at which offsets. */
struct sim_delivered {
    int64_t *serials; /* -1: none */
    int64_t count;
};

struct sim_source {
    bool member;
    bool rebalancing; /* REVOKED was delivered, release() not yet called */
    bool revoke_due, assign_due;
    bool evicted;     /* the group threw it out, and it does not know yet */
    int zombie_polls; /* how often it still polls before it knows */
    bool assigned[WORLD_PARTITIONS];
    uint64_t generation;
    bool held;
    int64_t position[WORLD_TOPICS][WORLD_PARTITIONS]; /* -1: not consumed */
    bool ended[WORLD_TOPICS][WORLD_PARTITIONS];
    bool fresh[WORLD_TOPICS][WORLD_PARTITIONS];      /* nothing was fetched since consume() */
    int64_t skipped[WORLD_TOPICS][WORLD_PARTITIONS]; /* from where on it skipped last */
    struct source_event stale; /* handed out though consume() came in between; NOTHING: none */
    int64_t cut_at[WORLD_TOPICS][WORLD_PARTITIONS]; /* where the log ended for a moment; -1: nowhere */
    struct sim_delivered delivered[WORLD_TOPICS][WORLD_PARTITIONS];
    struct table probes; /* struct sim_probe */
    struct record records[64];
    struct source_position assigned_list[WORLD_TOPICS * WORLD_PARTITIONS];
};

struct sim_tail {
    bool on, caught_up;
    size_t next;
    size_t end_at_start;
};

#endif
