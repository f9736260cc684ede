/* Follows the raw events as they are committed. The ledger says which offsets were, and how many events to
 * look for; usage_event, which has no index by offset, is read from where a leaf ended when it was looked at
 * last: rows are only ever added, at a table's end, give or take what writers have in hand. Blocks; one
 * thread at a time. */
#ifndef UB_FOLLOW_H
#define UB_FOLLOW_H

#include "pg.h"

struct follow;

struct followed_event { /* views live as long as the call */
    struct text customer_id;
    struct text event_id;
    struct text meter;
    struct text model;
    struct text kind;
    struct text corrects;
    struct text quantity; /* exact, without trailing zeros */
    int64_t event_time_us;
    int64_t ingested_at_us;
    struct text topic;
    int32_t partition;
    int64_t offset;
};

struct follow_calls {
    void *context;
    void (*event)(void *context, const struct followed_event *event);
    /* So many were committed that lie elsewhere, such as late ones among many others of their day. */
    void (*missed)(void *context, int64_t count);
};

/* From what is committed now on. NULL: pg->failure says why. pg must outlive it; after a lost connection it
 * may be opened again, and nothing is missed by that. */
struct follow *follow_open(struct pg *pg);
void follow_close(struct follow *follow);

/* Tells of all that was committed since the last call. False: pg->failure says why; call again, which may
 * tell of some a second time. */
bool follow_poll(struct follow *follow, const struct follow_calls *calls);

#endif
