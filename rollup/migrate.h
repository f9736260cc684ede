/* Brings a database's schema to what this program needs. Safe to run at any time, by several at once, and
 * again. */
#ifndef UB_MIGRATE_H
#define UB_MIGRATE_H

#include "migrations.h"
#include "pg.h"

/* Receives a sentence for each thing that was done. */
typedef void (*migrate_said)(void *context, const char *sentence);

/* Applies the migrations of `list` that are missing, each in a transaction; makes the secret, the partitions
 * of these days and months. Waits for another migration of the same database, for wait_s at the most. False:
 * failure says why, and whatever was said has been done. */
bool migrate_run(struct pg *pg, const struct migration *list, int wait_s, migrate_said said, void *context);

/* Makes the partitions of yesterday, today and the two days to come, of this month and the next, as
 * usagebox_owner. */
bool migrate_partitions(struct pg *pg, migrate_said said, void *context);

/* Does the schema suit this program? False: failure says what to do. */
bool migrate_check(struct pg *pg, const struct migration *list);

#endif
