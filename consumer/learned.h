/* What UsageBox has learned about its producers, for a producer that wants to be like them. */
#ifndef UB_LEARNED_H
#define UB_LEARNED_H

#include "config.h"

/* Which partitioner they were found to use, as PostgreSQL has it. PARTITIONER_UNKNOWN: nothing told yet, or
 * PostgreSQL can't be asked, which is no error: whoever produces need not reach it. */
enum partitioner learned_partitioner(const struct config *config, const char *name);

#endif
