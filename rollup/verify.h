/* Proves from what PostgreSQL holds that every offset is accounted for, that raw events are those that were
 * consumed, that rollups and counters equal them, and that every decision follows from the one before. Reads
 * only, in one snapshot, so that a pipeline may run beside it. */
#ifndef UB_VERIFY_H
#define UB_VERIFY_H

#include "../consumer/event.h"
#include "pg.h"

/* One difference, or something worth knowing that is none (is_note: expected and found are empty). */
struct verify_difference {
    const char *check;
    bool is_note;
    struct text where;
    struct text what;
    struct text expected;
    struct text found;
};

struct verify_outcome {
    const char *check;
    const char *about; /* what was proved, if there are no differences */
    const char *unit;  /* of examined: "events" */
    uint64_t examined;
    uint64_t differences;
};

struct verify_options {
    int64_t since_us;  /* batches committed and hours that began no earlier; INT64_MIN: all */
    int32_t partition; /* of the usage topics; negative: all. Rollups know no partitions and are left out */
    enum event_lifted dimensions[LIFTED_COUNT]; /* rollup.dimensions */
    size_t dimension_count;
    bool runs; /* rollup.runs */

    void *context;
    /* A check begins; total: of what progress() counts, 0: not known. */
    void (*begins)(void *context, const char *check, uint64_t total);
    void (*progress)(void *context, uint64_t done);
    /* Views live as long as the call. False: out of memory. */
    bool (*differs)(void *context, const struct verify_difference *difference);
    bool (*ended)(void *context, const struct verify_outcome *outcome);
};

/* Differences are no failure. False: pg->failure says why it could not be done. */
bool verify_run(struct pg *pg, const struct verify_options *options);

#endif
