/* Sets a topic that is read no more aside: usage_watermark, and with it the seals, wait for its partitions no
 * longer. What was counted stays, and so do its positions: whoever takes its lanes over again goes on where
 * they stand. */
#ifndef UB_OFFSET_RETIRE_H
#define UB_OFFSET_RETIRE_H

#include "pg.h"

struct offset_retire {
    const char *topic;
    const char *reason;
    const char *actor;

    int64_t partitions; /* out: that were set aside now */
};

/* One transaction, over a connection as owner; a row of the ledger for each partition says who ordered it and
 * why. Refused while somebody still reads the topic. False: failure says why, and nothing has changed. */
bool offset_retire(struct pg *pg, struct offset_retire *retire);

#endif
