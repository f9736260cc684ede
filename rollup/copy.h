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

/* Columns that most events leave at their default, which is '' or NULL, can be left out: PostgreSQL fills in
 * a default for far less than it takes to receive one. Sets of them are bits, in the order of the columns; 0
 * leaves none out. */
enum { COPY_SPARE_COLUMNS = 16, COPY_COLUMNS_BYTES = 512 };

/* Those that the event leaves at their default. */
uint32_t copy_spare(const struct event *event);

/* The other columns, as copy_columns names all. */
void copy_columns_without(uint32_t left_out, char columns[COPY_COLUMNS_BYTES]);

/* An upper bound of the row's size. */
size_t copy_row_bound(const struct event *event, const struct copy_origin *origin);

/* Writes the row to out, which has room for the bound; returns its exact size. */
size_t copy_row(const struct event *event, const struct copy_origin *origin, uint8_t *out);

/* The same without some of copy_spare(event). */
size_t copy_row_without(const struct event *event, const struct copy_origin *origin, uint32_t left_out,
                        uint8_t *out);

/* How often a batch's rows could do without each column, by a sample: what to leave out of the next batch's.
 */
struct copy_census {
    uint32_t rows;
    uint32_t looked_at;
    uint32_t needed[COPY_SPARE_COLUMNS];
};
void copy_census_add(struct copy_census *census, uint32_t spare);
/* What nearly all rows can do without; `before`, if there were too few to tell. */
uint32_t copy_census_left_out(const struct copy_census *census, uint32_t before);

#endif
