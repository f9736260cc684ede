/* What the files of verify share: private to them. */
#ifndef UB_VERIFY_PARTS_H
#define UB_VERIFY_PARTS_H

#include "../consumer/identity.h"
#include "ledger.h"
#include "verify.h"

enum { VERIFY_NAME_BYTES = 64, VERIFY_PLACE_BYTES = 280, VERIFY_STRETCHES = 1 << 20 };

/* One or several ledger rows in a row, whose offsets are [first, next): the ledger's sums, and those of the
 * rows that stand for them. Sums and not rows are kept, so that memory does not grow with the events, and
 * several ledger rows share a stretch where there are more of them than VERIFY_STRETCHES. */
struct verify_stretch {
    int64_t first, next;
    int64_t batch_id; /* of its first ledger row */
    uint32_t rows;
    int64_t accepted, dead;
    struct digest digest;
    int64_t accepted_found, dead_found;
    struct digest digest_found;
};

/* One partition of one topic. */
struct verify_place {
    char *topic_bytes; /* its own */
    struct text topic;
    int32_t partition;
    bool has_offset; /* a row of consumer_offset */
    int64_t next_offset;
    struct ledger_chain chain;
    size_t begin, end;   /* its stretches, by offset */
    int64_t left_before; /* records of lower offsets are not looked at */
};

struct verify_leaf { /* of usage_event */
    char name[VERIFY_NAME_BYTES];
    char day[12]; /* 2026-11-22 */
    double rows;  /* about */
};

struct verify {
    struct pg *pg;
    const struct verify_options *options;
    struct identity_secret secret;

    const char *check; /* the one that runs */
    uint64_t examined, differences;

    struct verify_place *places;
    size_t place_count;
    struct verify_stretch *stretches;
    size_t stretch_count, stretch_capacity;
    uint32_t rows_per_stretch;
    struct verify_leaf *leaves; /* by day */
    size_t leaf_count;
};

/* verify.c */
bool verify_no_memory(struct verify *v);
bool verify_differs(struct verify *v, const char *where, const char *what, const char *expected,
                    const char *found);
/* Each row of a query without parameters whose columns are text: where, what, expected, found. where null: a
 * note, which `what` says. */
bool verify_query(struct verify *v, const char *sql);
/* One number. */
bool verify_count(struct verify *v, const char *sql, uint64_t *count);

/* verify_ledger.c: reads consumer_offset and batch_ledger, makes places and stretches */
bool verify_ledger(struct verify *v);
void verify_place_name(const struct verify_place *place, char *out, size_t size); /* usage/3 */

/* verify_events.c: every raw event and dead letter */
bool verify_events(struct verify *v);

/* verify_rollups.c */
bool verify_hours(struct verify *v);
bool verify_runs(struct verify *v);
bool verify_identities(struct verify *v);

/* verify_rules.c */
bool verify_seals(struct verify *v);
bool verify_segments(struct verify *v);
bool verify_decisions(struct verify *v);
bool verify_counters(struct verify *v);
bool verify_protection(struct verify *v);

#endif
