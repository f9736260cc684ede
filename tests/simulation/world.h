/* A whole deployment in one thread: brokers, PostgreSQL and several usagebox processes, all made of memory
 * and moved by one clock and one stream of random numbers, so that a seed replays a run byte for byte. */
#ifndef UB_WORLD_H
#define UB_WORLD_H

#include "ceiling.h"
#include "flag.h"
#include "pipeline.h"

enum { WORLD_PROCESSES = 3, WORLD_PARTITIONS = 4, WORLD_TOPICS = 2, WORLD_NAME_BYTES = 24 };
#define WORLD_SECOND_US INT64_C(1000000)
#define WORLD_DAY_US (86400 * WORLD_SECOND_US)

struct random {
    uint64_t state;
    const uint8_t *bytes; /* not NULL: a fuzzer's; choices are read from them while any are left */
    size_t left;
};
uint64_t random_next(struct random *random);
uint64_t random_below(struct random *random, uint64_t bound);
bool random_chance(struct random *random, double probability);

/* --- brokers --- */

enum sim_outcome { SIM_GOOD, SIM_BAD, SIM_MARKER };

/* What the producer meant: the oracle's truth, apart from how the core decodes the value. */
struct sim_record {
    enum sim_outcome outcome;
    int64_t time_ms; /* record time */
    char customer[WORLD_NAME_BYTES];
    char event_id[WORLD_NAME_BYTES];
    int meter;
    int64_t quantity; /* whole units */
    int64_t event_us;
    char value[400];
    uint32_t value_length;
};

struct sim_log {
    struct sim_record *records;
    int64_t count, capacity;
    int64_t low; /* the log's start */
};

struct sim_message {   /* of the enforcement topic */
    char *key, *value; /* value NULL: tombstone */
    uint32_t key_length, value_length;
    struct flag_sequence sequence;
    int64_t visible_us;
};
struct sim_flags {
    struct sim_message *messages;
    size_t count, capacity;
};

/* --- PostgreSQL --- */

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
    int64_t accepted, duplicate, dead, hole, gap;
    int owner;
};

struct sim_hour {
    char customer[WORLD_NAME_BYTES], meter[WORLD_NAME_BYTES];
    int64_t hour_us;
    int64_t events;
    decimal_t quantity;
};

struct sim_segment {
    int32_t lane;
    uint16_t day;
    uint8_t *keys;
    size_t size_bytes;
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
    char *flag; /* decision_trace */
};

struct sim_adoption {
    int32_t lane;
    uint16_t day;
};

struct sim_pending {
    struct sim_event event;
    int32_t lane;
};

/* Growing array of anything: count elements of a kind known by its user. */
struct table {
    void *rows;
    size_t count, capacity;
};
void *table_add(struct table *table,
                size_t row_bytes); /* a zeroed row; never NULL (the simulator gives up instead) */
void table_free(struct table *table);

struct sim_database {
    struct sim_offset offsets[WORLD_TOPICS][WORLD_PARTITIONS];
    struct table events, hours, segments, counters, states, decisions, adoptions, pending, dead;
    struct table sealed; /* uint16_t days */
    int64_t lane_generation[WORLD_PARTITIONS];
    int64_t generation; /* of the ceilings in force */
    int ceiling_count;
    int64_t limits[8];
    enum partitioner partitioner;
    int32_t partition_count;
    uint64_t transactions;
};

/* --- processes --- */

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
    struct table probes; /* struct sim_probe */
    struct record records[64];
    struct source_position assigned_list[WORLD_TOPICS * WORLD_PARTITIONS];
};

struct sim_probe {
    uint32_t topic;
    int32_t partition;
    int64_t fingerprint_offset;
    uint64_t question;
    int64_t asked_us, answer_us;
};

struct sim_tail {
    bool on, caught_up;
    size_t next;
    size_t end_at_start;
};
struct sim_ack {
    int32_t lane;
    uint64_t cookie;
    int64_t at_us;
};

struct process {
    struct world *world;
    int number;
    bool alive;
    int64_t frozen_until_us; /* SIGSTOP */
    int64_t starts_us;       /* when a dead one comes back */
    struct pipeline *pipeline;
    struct sim_source source;
    struct sim_tail tails[WORLD_PARTITIONS];
    struct table acks;
    struct store_job *job; /* with the store */
    int64_t job_done_us;
    bool job_fails;        /* the connection breaks: before it is done … */
    bool job_fails_after;  /* … or just after: an unknown COMMIT */
    struct table streamed; /* struct buffer: rows of the open transaction */
    uint64_t streamed_batch;
    bool connected;
    int64_t incarnation;
};

struct world {
    struct random random;
    int64_t now_us;
    int64_t start_us;
    int topic_count, partition_count, process_count;
    bool faults; /* still injecting */
    uint64_t fault_count;
    struct sim_log logs[WORLD_TOPICS][WORLD_PARTITIONS];
    struct sim_flags flags[WORLD_PARTITIONS];
    struct sim_database database;
    bool database_up;
    int64_t database_back_us;
    bool flags_up;
    int64_t flags_back_us;
    struct process processes[WORLD_PROCESSES];
    uint64_t bytes_hash; /* of everything that happened: two runs of a seed must agree */
    bool trace;
    int64_t produced;
    const char *failure;
    char failure_text[512];
};

#define SIM_KEY_BYTES 96

void world_trace(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_mix(struct world *world, uint64_t value);
void world_fail(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

extern const char *const world_topics[WORLD_TOPICS];
extern const char *const world_meters[3];
enum { WORLD_METERS = 3 };
const struct identity_secret *world_secret(void);

/* fake_kafka.c */
struct source sim_source_port(struct process *process);
void sim_group_rebalance(struct world *world); /* membership changed */
void sim_append(struct world *world, int topic, int partition, const struct sim_record *record);
/* fake_flags.c */
struct flag_sink sim_flag_port(struct process *process);
void sim_flags_free(struct world *world);
/* fake_store.c */
struct store sim_store_port(struct process *process);
void sim_store_disconnect(
    struct process *process); /* the process died: what is under way may or may not be done */
void sim_database_free(struct world *world);
/* fake_ceilings.c */
void sim_read_sums(struct process *process, struct store_job *job);
struct ceiling_catalogue *sim_catalogue(const struct world *world);
/* oracle.c */
void oracle_check(struct world *world);
/* simulate.c */
struct sim_result {
    uint64_t hash, faults, events;
    bool failed;
    char failure[512];
};
/* A whole run. With a fuzzer's bytes it goes on until they are used up. */
struct sim_result sim_run(struct random random, bool trace);

#endif
