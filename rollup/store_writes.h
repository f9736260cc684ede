/* What a batch's transaction writes, table by table: store_commit.c calls these, in the order that it says.
 * They return false as all functions of postgres_store_parts.h do. */
#ifndef UB_STORE_WRITES_H
#define UB_STORE_WRITES_H

#include "postgres_store_parts.h"

/* store_rows.c */
bool store_write_rows(struct store_link *link, struct store_job *job);

/* store_sealed.c: answers batch->sealed, which adds to rollups, conflicts and ledger. */
bool store_write_sealed(struct store_link *link, struct store_job *job);

/* store_tables.c. names: rows of customer and meter. */
bool store_write_dead_letters(struct store_link *link, const struct batch *batch);
bool store_write_conflicts(struct store_link *link, const struct batch *batch);
bool store_write_segments(struct store_link *link, const struct batch *batch);
bool store_write_names(struct store_link *link, const struct batch *batch);
bool store_write_rollups(struct store_link *link, const struct batch *batch);

/* store_runs.c */
bool store_write_runs(struct store_link *link, const struct batch *batch);

/* store_ceilings.c. pending: adds the new, deletes the settled. */
bool store_write_decisions(struct store_link *link, const struct batch *batch);
bool store_write_counters(struct store_link *link, const struct batch *batch);
bool store_write_adoptions(struct store_link *link, const struct batch *batch);
bool store_write_pending(struct store_link *link, const struct batch *batch);
bool store_write_learned(struct store_link *link, const struct batch *batch);

/* store_offsets.c. offsets: may find lanes fenced. */
bool store_write_ledger(struct store_link *link, const struct batch *batch);
bool store_write_offsets(struct store_link *link, struct store_job *job);

#endif
