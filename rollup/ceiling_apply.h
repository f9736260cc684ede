/* Brings ceilings into force: holds those wanted against the table of ceilings, and writes what differs as
 * new versions under one new generation, which running pipelines then adopt lane by lane. */
#ifndef UB_CEILING_APPLY_H
#define UB_CEILING_APPLY_H

#include "../consumer/ceiling.h"
#include "pg.h"

enum ceiling_verdict { CEILING_ADDED, CEILING_CHANGED, CEILING_RETIRED, CEILING_UNCHANGED, CEILING_VERDICTS };
extern const char *const ceiling_verdict_names[CEILING_VERDICTS]; /* "added", … */

enum { CEILING_CHANGE_BYTES = 1024 };

struct ceiling_applied {
    enum ceiling_verdict verdict;
    struct text name;
    int64_t version;     /* in force from now on; of a retired one the last */
    const char *changes; /* "limit 1000 → 2000, policy alert → hard-stop"; empty unless changed */
};

struct ceiling_apply {
    const struct ceiling *wanted; /* by distinct names */
    size_t wanted_count;
    const char *actor;
    bool dry_run; /* do it all, then roll back */
    /* Called for each ceiling; views live until it returns. False: out of memory, and nothing is done. */
    bool (*said)(void *context, const struct ceiling_applied *applied);
    void *context;
    int64_t generation;              /* out: in force from now on */
    size_t counts[CEILING_VERDICTS]; /* out */
};

/* One transaction, one process at a time; over a connection as owner. False: failure says why, and nothing
 * has changed. */
bool ceiling_apply(struct pg *pg, struct ceiling_apply *apply);

#endif
