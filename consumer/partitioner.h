/* Which lane a key belongs to, by each partitioner that Kafka clients use, and learning which one producers
 * use. */
#ifndef UB_PARTITIONER_H
#define UB_PARTITIONER_H

#include "text.h"

enum partitioner {
    PARTITIONER_UNKNOWN, /* nothing has told them apart yet */
    PARTITIONER_MURMUR2, /* Java and kafkajs */
    PARTITIONER_CRC32,   /* librdkafka and kcat: "consistent" */
    PARTITIONER_FNV1A,   /* Sarama */
    PARTITIONER_COUNT
};
extern const char *const partitioner_names[PARTITIONER_COUNT]; /* "auto", "murmur2", "crc32", "fnv1a" */

/* count: partitions of the topic, at least 1. p is not PARTITIONER_UNKNOWN. */
int32_t partitioner_lane(enum partitioner p, struct text key, int32_t count);

/* What is known while it is being learned: matches by candidate. Zero-initialise. A record without a key, or
 * with an empty one, casts no vote: several clients spread such records at random. */
struct partitioner_votes {
    uint64_t matches[PARTITIONER_COUNT];
    uint64_t records;
};
void partitioner_vote(struct partitioner_votes *votes, struct text key, int32_t lane, int32_t count);

/* The one candidate that explains more than half of the records and more of them than any other; else
 * UNKNOWN. */
enum partitioner partitioner_elect(const struct partitioner_votes *votes);

#endif
