/* Makes a producer's JSON object a complete usage event: an event_id and a timestamp are added where it has
 * none, and not a byte of what it says is changed. */
#ifndef UB_MINT_H
#define UB_MINT_H

#include <jansson.h>

#include "text.h"

enum mint_outcome {
    MINT_DONE,
    MINT_NOT_JSON,
    MINT_NOT_AN_OBJECT,
    MINT_NO_CUSTOMER, /* neither customer_id nor account_id is a string that says something */
    MINT_NO_MEMORY
};

enum { MINT_DETAIL_BYTES = 256 };

/* Zero-initialise. Holds what the views of the last event point into. */
struct mint {
    json_t *event;
    char *bytes;
    size_t capacity_bytes;
    char detail[MINT_DETAIL_BYTES]; /* what is wrong, as a sentence */
};
void mint_free(struct mint *mint);

struct minted {
    struct text customer_id; /* the record's key */
    struct text value;       /* the line itself where nothing was added */
    bool event_id;           /* it was added */
    bool timestamp;
};

/* now_ms and chance (of each event another) are what is added is made of. An event that corrects another gets
 * no timestamp: that has to be the other's. Views live until the next call. */
enum mint_outcome mint_event(struct mint *mint, struct text line, int64_t now_ms, const uint64_t chance[2],
                             struct minted *minted);

#endif
