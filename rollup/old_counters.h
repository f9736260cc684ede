/* Counters of ceilings whose period is long over. Takeovers restore none of them, verify looks at none, and
 * usage_hourly has their sums for ever: without this, ceiling_usage would grow by a row for each customer and
 * hour, and with it the time that a takeover takes. */
#ifndef UB_OLD_COUNTERS_H
#define UB_OLD_COUNTERS_H

#include "pg.h"

/* Drops some of them, as owner; *left: perhaps there are more. Whoever else does so at once does no harm. */
bool old_counters_drop(struct pg *pg, bool *left);

#endif
