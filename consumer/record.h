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

#define RECORD_TIME_LIMIT_MS (INT64_MAX / 1000) /* in us it fits 64 bits */

struct record {
    uint32_t topic; /* index into kafka.usage_topics */
    int32_t partition;
    int64_t offset;
    int64_t time_ms;   /* the record's timestamp, ms since 1970 to RECORD_TIME_LIMIT_MS; -1 if it has none */
    struct text key;   /* bytes NULL: the record has no key */
    struct text value; /* bytes NULL: the record has no value */
    const struct record_header *headers;
    size_t header_count;
};

#endif
