/* A Kafka record as the core sees it. The source owns every byte; all views live until the source releases
 * the batch of records that this one came in. */
#ifndef UB_RECORD_H
#define UB_RECORD_H

#include <stddef.h>

#include "text.h"

struct record_header {
    struct text name;
    struct text value;
};

struct record_headers {
    const struct record_header *list;
    size_t count;
};

/* Has the headers of a source's records, where asking for them is dear and few events need them. */
struct record;
struct record_keeper {
    /* False: out of memory. What it gives lives as long as the record's other views. */
    bool (*headers)(void *self, const struct record *record, struct record_headers *headers);

    /* A glance at the value's end that costs next to nothing once the value is read. True: no sign of
     * headers. Whoever can't do without one asks for headers all the same. */
    bool (*seems_bare)(const struct record *record);
    void *self;
};

#define RECORD_TIME_LIMIT_MS (INT64_MAX / 1000) /* in us it fits 64 bits */

struct record {
    uint32_t topic; /* index into kafka.usage_topics */
    int32_t partition;
    int64_t offset;
    int64_t time_ms;   /* the record's timestamp, ms since 1970 to RECORD_TIME_LIMIT_MS; -1 if it has none */
    struct text key;   /* bytes NULL: the record has no key */
    struct text value; /* bytes NULL: the record has no value */
    const struct record_header *headers; /* unless there is a keeper */
    size_t header_count;
    const struct record_keeper *keeper; /* to be asked for headers; NULL: they are here */
    const void *kept;                   /* what the keeper knows the record by */
};

/* False: out of memory. */
static inline bool record_headers(const struct record *record, struct record_headers *headers)
{
    if (record->keeper)
        return record->keeper->headers(record->keeper->self, record, headers);
    *headers = (struct record_headers){record->headers, record->header_count};
    return true;
}

static inline bool record_seems_bare(const struct record *record)
{
    return record->keeper ? record->keeper->seems_bare(record) : record->header_count == 0;
}

#endif
