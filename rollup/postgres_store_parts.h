/* The insides of the PostgreSQL store, shared by its files: store_commit.c is the table of contents of a
 * batch's transaction, the other store_*.c write and read what it names.
 *
 * Functions that return false have filled in pg.failure; the job's status follows from it unless they set it.
 */
#ifndef UB_POSTGRES_STORE_PARTS_H
#define UB_POSTGRES_STORE_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "day_set.h"
#include "ledger.h"
#include "pg_columns.h"
#include "postgres_store.h"
#include "seen_set.h"

enum { STORE_NAME_BYTES = 32 };

/* The end of a partition's ledger chain: as committed, and as the transaction under way will leave it. */
struct store_chain {
    uint32_t topic;
    int32_t partition;
    struct ledger_chain committed;
    struct ledger_chain next;
};

/* A server process, as pg_stat_activity names it. */
struct store_backend {
    int32_t pid; /* 0: none */
    char start[40];
};

/* The server that a connection leads to, as it was when it was last looked at. */
struct store_cluster {
    int64_t system_identifier;
    int32_t timeline;
};

/* One of the connections that batches are written over, by turns. A job has the one that it names; jobs that
 * are done alone (store.h) have all. */
struct store_link {
    struct postgres_store *store;
    struct pg pg;
    int socket;                   /* of pg; -1: none. Under the store's socket_lock */
    struct store_backend backend; /* of pg */
    struct store_backend former;  /* of the connection before: may still be at work */
    struct store_cluster cluster;

    bool in_transaction;
    int64_t batch_id;    /* of the batch that is being committed */
    uint16_t copy_day;   /* whose COPY is open; 0: none */
    uint64_t copy_batch; /* the batch that it was opened for */

    struct day_set days;               /* known to have a leaf */
    struct seen_set customers, meters; /* known to have a row */
};

struct postgres_store {
    struct postgres_store_options options;
    char owner[160];
    struct store_link links[STORE_LINKS];
    atomic_bool interrupted;
    atomic_uint_fast64_t restored_keys, remaining_keys; /* postgres_store_restored() */
    pthread_mutex_t socket_lock;                        /* holds sockets still while they are shut down */

    /* Written, without a lock, by jobs that are done alone; the secret by CATALOGUE, too, and the chains by
     * COMMIT, of which at most one is under way, of the two together. Streaming touches nothing of it. */
    bool connected_once;
    struct store_cluster cluster; /* that all links led to */
    bool went_back;               /* it was another before */
    struct identity_secret secret;
    struct lookup_seed seed;
    struct store_chain *chains;
    size_t chain_count, chain_capacity;
};

/* postgres_store.c. connect: all links that are not; what failed is told by this one. */
bool store_connect(struct store_link *link);
void store_disconnect(struct store_link *link); /* keeps its backend in mind, as `former` */
bool store_look_at_cluster(struct store_link *link);
void store_rollback(struct store_link *link); /* keeps pg.failure */
bool store_begin(struct store_link *link, const char *begin);
bool store_end(struct store_link *link); /* COMMIT, and looks whether it was one */
struct text store_topic(const struct store_link *link, uint32_t topic);
bool store_topic_index(const struct store_link *link, struct text name, uint32_t *topic);
/* Sees to it that the transaction in which a backend was seen (empty: in none) is over: waits for that until
 * then, by the steady clock, and then ends the backend. What can't be ended is logged: epochs fence it. */
void store_end_transaction(struct store_link *link, const struct store_backend *backend,
                           const char *transaction, int64_t until_us);

/* store_days.c */
void store_day_name(char name[STORE_NAME_BYTES], const char *prefix, uint16_t day); /* prefix_YYYYMMDD */
bool store_need_day(struct store_link *link, uint16_t day); /* makes its leaf if it has none */
bool store_make_partitions(struct store_link *link);        /* those of now */

/* store_offsets.c. NULL: out of memory. */
struct store_chain *store_chain_of(struct store_link *link, uint32_t topic, int32_t partition);

/* store_rows.c. COPY into a day's leaf. refuse: marks a job that failed at raw rows. */
bool store_copy_begin(struct store_link *link, uint16_t day, uint32_t left_out);
bool store_copy_bytes(struct store_link *link, const void *bytes, size_t size);
bool store_copy_end(struct store_link *link, int64_t *rows);
void store_refuse(struct store_link *link, struct store_job *job);
/* Somebody wrote the same row since the table was asked: the next try will find it there. Returns false. */
bool store_contested(struct store_link *link);

/* The jobs, each in its file. restore: what takeover reads of lanes that are not `kept`. */
bool store_commit(struct store_link *link, struct store_job *job);
bool store_stream(struct store_link *link, struct store_job *job);
bool store_takeover(struct store_link *link, struct store_job *job);
bool store_restore(struct store_link *link, struct store_job *job);
bool store_recover(struct store_link *link, struct store_job *job);
bool store_catalogue(struct store_link *link, struct store_job *job);
bool store_seed(struct store_link *link, struct store_job *job);
/* Inside a snapshot. */
bool store_read_settings(struct store_link *link, struct store_job *job, int64_t *generation);
bool store_read_catalogue(struct store_link *link, int64_t generation, struct ceiling_catalogue **catalogue);

#endif
