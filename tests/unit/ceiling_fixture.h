/* What the tests of ceilings share: short ways to make ceilings and events, and a record of the decisions
 * heard. */
#ifndef UB_CEILING_FIXTURE_H
#define UB_CEILING_FIXTURE_H

#include "consumer/ceiling_book.h"

#define HOUR_US ((int64_t)3600000000)
#define NOW_US ((int64_t)1795372200000000) /* 2026-11-22T18:30:00Z */

/* who: "*", "plan:NAME" or a customer. */
void add_rule(struct ceiling_catalogue *catalogue, const char *name, const char *who, const char *meter,
              enum ceiling_period period, int limit, int clear_level);

struct event event_of(const char *customer_id, const char *meter, const char *plan_tier, int quantity,
                      int64_t time_us);

/* Counts an event, and hears what is decided. False: out of memory. */
bool count_event(struct ceiling_book *book, const struct event *event, int64_t now_us);
bool count(struct ceiling_book *book, const char *customer_id, const char *meter, const char *plan_tier,
           int quantity, int64_t time_us, int64_t now_us);

/* What was heard since heard_clear(). One line for each decision: customer/ceiling, + or - and the
 * transition, before>used/limit, by what. */
extern struct recorded {
    char lines[16384], ids[16384];
    size_t length, ids_length, count;
} record_of_decisions;
bool hear(void *context, const struct decision *decision);
void heard_clear(void);
const char *heard(void);
const char *heard_ids(void);
size_t heard_count(void);

/* A line each, until the next call; "failed" for want of memory. */
const char *changes(struct ceiling_book *book, uint64_t mark);
const char *states(const struct ceiling_book *book);

/* As if all that the book ever changed had been stored. Nothing of it may have been committed. */
bool restore_all(struct ceiling_book *heir, struct ceiling_book *book);

#endif
