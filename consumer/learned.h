/* What UsageBox has learned about its producers, for a producer that wants to be like them. */
#ifndef UB_LEARNED_H
#define UB_LEARNED_H

#include "../rollup/pg.h"
#include "config.h"

/* Which partitioner they were found to use, as PostgreSQL has it; PARTITIONER_UNKNOWN: nothing told yet.
 * False: PostgreSQL can't be asked, failure says why: no error, for whoever produces need not reach it. */
bool learned_partitioner(const struct config *config, const char *name, enum partitioner *found,
                         struct pg_failure *failure);

#endif
