/* The store on PostgreSQL: does what store.h asks, over one connection for each link as the writer and
 * passing ones as the owner that makes partitions. Blocks; give each link a thread (writer.h). */
#ifndef UB_POSTGRES_STORE_H
#define UB_POSTGRES_STORE_H

#include "store.h"

struct postgres_store_options { /* all texts outlive the store */
    const char *dsn;
    const char *owner_dsn;
    const char *const *topics; /* kafka.usage_topics, by index */
    size_t topic_count;
};

struct postgres_store;

/* Connects with the first job, which is done alone. NULL: out of memory. */
struct postgres_store *postgres_store_new(const struct postgres_store_options *options);
void postgres_store_free(struct postgres_store *store); /* whatever is not committed is rolled back */

/* self: a postgres_store. Does the job: status, detail and results are set when it returns. What it found odd
 * but not wrong is logged. From one thread for each link. */
void postgres_store_perform(void *self, struct store_job *job);

/* From any thread: the jobs under way, and all to come, end soon with STORE_LOST. */
void postgres_store_interrupt(struct postgres_store *store);

/* How the restoring of dedupe keys gets on, from any thread: keys read since the start, and how many the
 * takeover under way has still to read. */
struct postgres_store_restored {
    uint64_t keys;
    uint64_t remaining_keys;
};
struct postgres_store_restored postgres_store_restored(const struct postgres_store *store);

/* host:pid:random, as it stands in consumer_offset.owner. */
const char *postgres_store_owner(const struct postgres_store *store);

#endif
