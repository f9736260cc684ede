/* The chain of the batch ledger: each row of a partition is bound to the one before it, so that none can be
 * changed, left out or slipped in without `usagebox verify` seeing it.
 *
 * chain = BLAKE2b-256(chain before (32 zero bytes at the start) ‖ row), the row being, integers big-endian:
 *     length of topic (4 bytes), topic, kafka_partition (4), batch_id, epoch, first_offset, next_offset,
 * accepted, duplicate, dead, hole, gap (8 each), digest (16), length of reason (4), reason, length of actor
 * (4), actor */
#ifndef UB_LEDGER_H
#define UB_LEDGER_H

#include "../consumer/identity.h"

enum { LEDGER_CHAIN_BYTES = 32, LEDGER_DIGEST_BYTES = 16 };

struct ledger_chain {
    uint8_t bytes[LEDGER_CHAIN_BYTES];
};

struct ledger_row {
    struct text topic;
    int32_t partition;
    int64_t batch_id;
    int64_t epoch;
    int64_t first_offset;
    int64_t next_offset;
    int64_t accepted;
    int64_t duplicate;
    int64_t dead;
    int64_t hole;
    int64_t gap;
    struct digest digest;
    struct text reason; /* of a gap, or of what a person ordered; else empty */
    struct text actor;  /* who ordered it; else empty */
};

/* The chain behind the row. */
struct ledger_chain ledger_chain(const struct ledger_chain *before, const struct ledger_row *row);

/* The digest as the column holds it: big-endian; and back. */
void ledger_digest_bytes(struct digest digest, uint8_t out[LEDGER_DIGEST_BYTES]);
struct digest ledger_digest(const uint8_t bytes[LEDGER_DIGEST_BYTES]);

#endif
