/* Sealing a day: a unique index on (customer_id, meter, event_id) of its leaf of usage_event, and a row in
 * sealed_day. From then on PostgreSQL itself finds the day's repeats, and lanes may forget its keys.
 *
 * A day is due once it is over for longer than the dedupe window, all partitions have been read as far as
 * that (usage_watermark), and no row of it came for some minutes; rows that come and come hold it up only so
 * long, or one late event now and then would keep all its keys in memory for ever. A day whose index can't be
 * built, because it holds an event twice, is marked: its sealed_day row has duplicates > 0 and a report, and
 * nobody treats it as sealed. */
#ifndef UB_SEAL_H
#define UB_SEAL_H

#include "pg.h"

#define SEAL_IDLE_US INT64_C(600000000)
#define SEAL_BUSY_US INT64_C(21600000000)
#define SEAL_RETRY_US INT64_C(3600000000)

struct seal_rules {
    int64_t window_us; /* dedupe.window */
    int64_t idle_us;   /* how long no row must have come, unless they have come for busy_us */
    int64_t busy_us;   /* since the window passed or, of a day that came up later, since its first row */
    int64_t retry_us;  /* when a marked day is tried again */
};

enum seal_state {
    SEAL_SEALED,
    SEAL_NOT_OVER,
    SEAL_IN_WINDOW,
    SEAL_UNREAD, /* usage_watermark is behind: a stopped or idle lane delays it */
    SEAL_BUSY,   /* rows came lately */
    SEAL_MARKED, /* holds duplicates, and was tried lately */
    SEAL_DUE,
    SEAL_STATES
};
extern const char *const seal_state_why[SEAL_STATES]; /* a sentence each; SEAL_DUE: "due" */

enum { SEAL_DATE_BYTES = 11 };
struct seal_day {
    char date[SEAL_DATE_BYTES]; /* "2026-11-02" */
    char suffix[9];             /* of its tables: "20261102" */
    enum seal_state state;
    int64_t overdue_s;  /* since the dedupe window passed; negative: until then */
    int64_t duplicates; /* of a marked day */
};

/* Which process seals: one at a time. *locked false: another does. Never waits: a waiter's snapshot would
 * hold the other's index up for ever. */
bool seal_lock(struct pg *pg, bool *locked);
void seal_unlock(struct pg *pg);

/* The days that are over and not sealed, oldest first; or only `date`, whatever its state (NULL: all); none
 * if it has no leaf. The caller frees *days. False: failure says why. */
bool seal_survey(struct pg *pg, const struct seal_rules *rules, const char *date, struct seal_day **days,
                 size_t *count);

enum seal_outcome { SEAL_DONE, SEAL_DUPLICATES, SEAL_FAILED };

/* Seals a day, or marks it (day->duplicates). Under seal_lock(), outside of a transaction; may take long.
 * SEAL_FAILED: failure says why. */
enum seal_outcome seal_build(struct pg *pg, struct seal_day *day);

/* Drops the dedupe segments of each sealed day that all lanes have adopted; said is called with each one's
 * name. */
bool seal_drop_segments(struct pg *pg, void (*said)(void *context, const char *table), void *context);

#endif
