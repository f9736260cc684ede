/* What a batch is made of: rows by day, events that wait for the store, dead letters, conflicts, dedupe keys,
 * and what it says about each partition. */
#ifndef UB_BATCH_PARTS_H
#define UB_BATCH_PARTS_H

#include "../consumer/identity.h"
#include "row_queue.h"

/* Growing array of bytes, kept over resets unless little of it was used for long. Zero-initialise. */
struct buffer {
    uint8_t *bytes;
    size_t size_bytes;
    size_t capacity_bytes;
    unsigned quiet_resets; /* in a row */
};
bool buffer_reserve(struct buffer *buffer, size_t more_bytes); /* behind size_bytes; false: out of memory */
void buffer_reset(struct buffer *buffer);
void buffer_free(struct buffer *buffer); /* leaves it zeroed */

/* Rows of one open event day in binary COPY format, without header and trailer. A day that has rows with all
 * columns, and others without what most events do not need, is there twice. */
struct batch_day {
    uint16_t day;          /* days since 1970 */
    uint32_t left_out;     /* columns (copy.h) */
    struct row_queue rows; /* without those that were moved out to STORE_STREAM */
    size_t row_count;      /* with them */
};

struct batch_dead_letter {
    uint32_t topic;
    int32_t partition;
    int64_t offset;
    int64_t record_time_ms; /* -1: none */
    enum refusal reason;
    struct text detail;
    struct text key;     /* bytes NULL: none */
    struct text payload; /* bytes NULL: none */
    struct text headers; /* a JSON array of [name, base64 of value or null] */
};

/* An event of a sealed day: its leaf's unique index says whether it is accepted. */
struct batch_sealed {
    uint32_t lane;
    uint32_t partition_row; /* index into partitions */
    uint16_t day;
    int64_t offset;
    struct event event; /* copied into the arena */
    struct text row;    /* its COPY row */
    struct text payload;
    const struct batch_dead_letter *otherwise; /* what it is unless it is there already; NULL: accepted */
    bool counted;  /* some ceiling counts it: it must come back to the engine even after a crash */
    bool accepted; /* the store's answer */
};

/* A repeat that says something else than the first one. */
struct batch_conflict {
    uint32_t topic;
    int32_t partition;
    int64_t offset;
    struct event event; /* views into the arena */
    struct text payload;
};

/* Keys of one lane and event day, packed as dedupe_segment_put() does. */
struct batch_segment {
    int32_t lane;
    uint16_t day;
    struct buffer keys;
};

/* One partition's part: its ledger row (none if first_offset == next_offset) and its offset row. */
struct batch_partition {
    uint32_t topic;
    int32_t partition;
    int64_t epoch;
    int64_t
        first_offset; /* == consumer_offset.next_offset before this batch: the compare of compare-and-set */
    int64_t next_offset;
    int64_t last_offset; /* of the last record ever taken; -1: none yet */
    uint64_t last_fingerprint;
    int64_t witness_offset; /* of one that was found again where it had been read; -1: none yet */
    uint64_t witness_fingerprint;
    int64_t seen_through_us;
    int64_t accepted;
    int64_t duplicate;
    int64_t dead;
    int64_t hole;
    int64_t gap;          /* with gap_reason; the offsets [first_offset, first_offset + gap) */
    struct digest digest; /* of accepted and dead records */
};

struct batch_adoption { /* of a seal */
    int32_t lane;
    uint16_t day;
};

#endif
