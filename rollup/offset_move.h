/* Sets by hand where a partition goes on: past records that are gone, or anywhere. Whoever reads the
 * partition is fenced and takes it over anew from there; a row of the ledger says who ordered it and why. */
#ifndef UB_OFFSET_MOVE_H
#define UB_OFFSET_MOVE_H

#include "ledger.h"
#include "pg.h"

struct offset_move {
    const char *topic;
    int32_t partition;
    int64_t to_offset;
    int64_t log_end;   /* where the log ends now */
    bool forward_only; /* refuse unless to_offset is ahead of what was read */
    const char *reason;
    const char *actor;

    int64_t from_offset; /* out: 0 if nothing was read yet */
    int64_t epoch;       /* out: of all topics' partitions of this number */
    int64_t batch_id;    /* out: of the ledger's row */
};

/* One transaction, over a connection as owner. Waits for a batch that is being committed. Offsets that are
 * skipped count as a gap, those that will be read again as a negative one. The last record read is forgotten:
 * there is nothing to verify the log against. False: failure says why, and nothing has changed. */
bool offset_move(struct pg *pg, struct offset_move *move);

/* For what else a person orders, inside a transaction that holds the partition's row: writes a row of the
 * ledger that counts nothing but its gap, and moves the chain on; then the chain's end into consumer_offset.
 */
bool offset_move_record(struct pg *pg, const struct ledger_row *row, struct ledger_chain *chain);
bool offset_move_chain(struct pg *pg, const struct ledger_row *row, const struct ledger_chain *chain);

#endif
