/* The insides of the PostgreSQL store, shared by the files that make it up: postgres_store.c (life and
 * connections), store_days.c (partitions), store_rows.c (COPY of raw events), store_sealed.c (events of
 * sealed days), store_tables.c, store_ceilings.c (the rest of a batch), store_offsets.c (ledger, offset
 * rows), store_commit.c (the transaction), store_takeover.c, store_restore.c, store_recover.c,
 * store_catalogue.c.
 *
 * Functions that return false have filled in pg.failure; the job's status follows from it unless they set it.
 */
#ifndef UB_POSTGRES_STORE_PARTS_H
#define UB_POSTGRES_STORE_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "ledger.h"
#include "pg_columns.h"
#include "postgres_store.h"
#include "seen_set.h"

enum { STORE_DAYS_BYTES = (UINT16_MAX + 1) / 8, STORE_NAME_BYTES = 32, STORE_BACKEND_WAIT_MS = 10000 };

/* A set of days as a bitmap. put: was it there before? */
static inline bool store_day_has(const uint8_t days[STORE_DAYS_BYTES], uint16_t day)
{
    return days[day / 8] & 1u << (day % 8);
}

static inline bool store_day_put(uint8_t days[STORE_DAYS_BYTES], uint16_t day)
{
    bool had = store_day_has(days, day);
    days[day / 8] |= (uint8_t)(1u << (day % 8));
    return had;
}

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

struct postgres_store {
    struct postgres_store_options options;
    char owner[160];
    struct pg pg;
    atomic_bool interrupted;
    pthread_mutex_t socket_lock; /* holds `socket` still while it is shut down */
    int socket;                  /* of pg; -1: none */

    bool connected_once;
    struct store_backend backend; /* of pg */
    struct store_backend former;  /* of the connection before: may still be at work */
    struct {                      /* the server, as it was when it was last looked at */
        int64_t system_identifier;
        int32_t timeline;
    } cluster;
    bool went_back;
    struct identity_secret secret;

    bool in_transaction;
    int64_t batch_id;  /* of the transaction */
    uint16_t copy_day; /* whose COPY is open; 0: none */

    uint8_t days[STORE_DAYS_BYTES]; /* bitmap: known to have a leaf */
    int64_t ahead_at_us;            /* when to look after partitions ahead again */

    struct seen_set customers, meters; /* known to have a row */
    struct store_chain *chains;
    size_t chain_count, chain_capacity;
};

/* postgres_store.c */
bool store_connect(struct postgres_store *store);
void store_rollback(struct postgres_store *store); /* keeps pg.failure */
bool store_begin(struct postgres_store *store, const char *begin);
bool store_end(struct postgres_store *store); /* COMMIT, and looks whether it was one */
/* Ends a backend and waits, bounded, until it is gone. What can't be ended is logged: epochs fence it all the
 * same. */
void store_end_backend(struct postgres_store *store, const struct store_backend *backend);
int64_t store_now_us(void);
struct text store_topic(const struct postgres_store *store, uint32_t topic);
bool store_topic_index(const struct postgres_store *store, struct text name, uint32_t *topic);

/* store_days.c */
void store_day_name(char name[STORE_NAME_BYTES], const char *prefix, uint16_t day); /* prefix_YYYYMMDD */
bool store_need_day(struct postgres_store *store, uint16_t day); /* makes its leaf if it has none */
void store_forget_day(struct postgres_store *store, uint16_t day);
void store_look_ahead(
    struct postgres_store *store); /* partitions of the days and months to come; trouble is logged */
bool store_make_months(struct postgres_store *store);

/* store_rows.c */
bool store_open_batch(
    struct postgres_store *store); /* begins its transaction, unless streaming has done so */
bool store_copy_bytes(struct postgres_store *store, const void *bytes, size_t size);
bool store_copy_end(struct postgres_store *store, int64_t *rows);
void store_refuse(struct postgres_store *store,
                  struct store_job *job); /* marks a job that failed at raw rows */
bool store_stream(struct postgres_store *store, struct store_job *job);
bool store_write_rows(struct postgres_store *store, struct store_job *job);

/* store_sealed.c: answers batch->sealed, which adds to rollups, conflicts and ledger */
bool store_write_sealed(struct postgres_store *store, struct store_job *job);

/* store_tables.c */
bool store_write_dead_letters(struct postgres_store *store, const struct batch *batch);
bool store_write_conflicts(struct postgres_store *store, const struct batch *batch);
bool store_write_segments(struct postgres_store *store, const struct batch *batch);
bool store_write_names(struct postgres_store *store, const struct batch *batch); /* customer and meter */
bool store_write_rollups(struct postgres_store *store, const struct batch *batch);

/* store_ceilings.c */
bool store_write_decisions(struct postgres_store *store, const struct batch *batch);
bool store_write_counters(struct postgres_store *store, const struct batch *batch);
bool store_write_adoptions(struct postgres_store *store, const struct batch *batch);
bool store_write_pending(struct postgres_store *store,
                         const struct batch *batch); /* adds the new, deletes the settled */
bool store_write_learned(struct postgres_store *store, const struct batch *batch);

/* store_offsets.c */
bool store_write_ledger(struct postgres_store *store, const struct batch *batch);
bool store_write_offsets(struct postgres_store *store, struct store_job *job); /* may find it fenced */
struct store_chain *store_chain_of(struct postgres_store *store, uint32_t topic,
                                   int32_t partition); /* NULL: no memory */

/* The jobs. */
bool store_commit(struct postgres_store *store, struct store_job *job);
bool store_takeover(struct postgres_store *store, struct store_job *job);
bool store_restore(struct postgres_store *store, struct store_job *job); /* all but what `kept` lanes have */
bool store_recover(struct postgres_store *store, struct store_job *job);
bool store_catalogue(struct postgres_store *store, struct store_job *job);
bool store_seed(struct postgres_store *store, struct store_job *job);
/* Inside a snapshot: settings, and the catalogue if its generation is not the known one. */
bool store_read_settings(struct postgres_store *store, struct store_job *job, int64_t *generation);
bool store_read_catalogue(struct postgres_store *store, int64_t generation,
                          struct ceiling_catalogue **catalogue);

#endif
