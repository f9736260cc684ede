/* A thread that does something again and again over a PostgreSQL connection of its own: opens it, takes
 * turns, and after a failure waits, longer each time, and starts anew. */
#ifndef UB_CHORE_H
#define UB_CHORE_H

#include "pg.h"

struct chore;

struct chore_options {
    const char *name; /* application_name; starts its log lines */
    bool (*open)(struct pg *pg, const char *dsn, const char *name); /* pg_open or owner_open */
    const char *dsn;                                                /* outlives the chore */
    int pause_ms;                                                   /* between two turns */
    bool (*turn)(void *self, struct chore *chore, struct pg *pg);   /* false: pg->failure says why */
    void *self;
};

/* NULL: no memory or no thread to be had. */
struct chore *chore_start(const struct chore_options *options);

/* Interrupts a query and waits for the thread: ten seconds at the most, while it connects. NULL is fine. */
void chore_stop(struct chore *chore);

/* From within a turn: the pause after it, if it does not fail. */
void chore_hurry(struct chore *chore, int pause_ms);

/* For turns that take long. */
bool chore_is_stopping(struct chore *chore);
bool chore_is_connected(struct chore *chore);

#endif
