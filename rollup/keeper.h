/* What has to be done beside the pipeline, by a thread of `usagebox run` with a connection as owner:
 * partitions ahead of need, seals (seal.h), dropping the dedupe segments and the counters that nobody needs
 * any more. Every process runs one; they don't get in each other's way. It logs what it does, and alerts
 * while seals are delayed. */
#ifndef UB_KEEPER_H
#define UB_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

struct keeper_options {
    const char *owner_dsn; /* outlives the keeper */
    int64_t window_us;     /* dedupe.window */
};

/* As of its last turn. */
struct keeper_report {
    bool connected;
    int64_t turned_at_us;    /* last turn without a failure, µs since 1970; 0: none yet */
    int64_t seal_delay_s;    /* how long a partition that is not read has held up the oldest seal; 0: none */
    int64_t days_unsealed;   /* days that are over */
    int64_t days_duplicated; /* days that can't be sealed, because they hold events twice */
};

struct keeper;

/* NULL: no memory or no thread to be had. */
struct keeper *keeper_start(const struct keeper_options *options);

/* Ends what is under way and waits for the thread: ten seconds at the most, while it connects. PostgreSQL
 * gives an index up that was being built; the next keeper builds it again. NULL is fine. */
void keeper_stop(struct keeper *keeper);

struct keeper_report keeper_report(struct keeper *keeper);

#endif
