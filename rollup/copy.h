/* Encodes usage_event rows in PostgreSQL's binary COPY format (PostgreSQL manual, COPY, "Binary Format"),
 * straight from the event: no text, no allocation. */
#ifndef UB_COPY_H
#define UB_COPY_H

#include "../consumer/event.h"

/* Where the event came from and when it was taken in. */
struct copy_origin {
    struct text topic;
    int32_t partition;
    int64_t offset;
    int64_t ingested_at_us;
    struct text payload; /* the record's value as it came */
};

/* The columns in the order in which copy_row() writes them, comma-separated: for COPY usage_event_… (…). */
extern const char copy_columns[];

enum { COPY_HEADER_BYTES = 19, COPY_TRAILER_BYTES = 2 };
extern const uint8_t copy_header[COPY_HEADER_BYTES];
extern const uint8_t copy_trailer[COPY_TRAILER_BYTES];

/* An upper bound of the row's size. */
size_t copy_row_bound(const struct event *event, const struct copy_origin *origin);

/* Writes the row to out, which has room for the bound; returns its exact size. */
size_t copy_row(const struct event *event, const struct copy_origin *origin, uint8_t *out);

#endif
