/* Keys for tests of the dedupe table. */
#ifndef UB_DEDUPE_KEYS_H
#define UB_DEDUPE_KEYS_H

#include "dedupe.h"

/* Steele, Lea and Flood's SplitMix64. */
static inline uint64_t mixed(uint64_t number)
{
    uint64_t z = (number + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* The number-th key of those that share so many shards: few shards fill up with few keys. */
static inline struct dedupe_key key_in(uint64_t number, uint64_t shards)
{
    uint64_t shard = mixed(3 * number) % shards * (4096 / shards);
    return (struct dedupe_key){mixed(3 * number + 1), shard << 52 | mixed(3 * number + 2) >> 12};
}

static inline struct dedupe_key key_of(uint64_t number)
{
    return key_in(number, 4096);
}

enum { DAY = 20000 };

static inline void sweep_all(struct dedupe *dedupe)
{
    while (dedupe_sweep(dedupe))
        continue;
}

#endif
