#include "partitioner.h"

#include <assert.h>

const char *const partitioner_names[PARTITIONER_COUNT] = {
    [PARTITIONER_UNKNOWN] = "auto",
    [PARTITIONER_MURMUR2] = "murmur2",
    [PARTITIONER_CRC32] = "crc32",
    [PARTITIONER_FNV1A] = "fnv1a",
};

enum { MURMUR2_MIX = 0x5bd1e995, MURMUR2_SHIFT = 24 };

static uint32_t murmur2_word(const uint8_t *at)
{
    uint32_t word = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    word *= MURMUR2_MIX;
    word ^= word >> MURMUR2_SHIFT;
    return word * MURMUR2_MIX;
}

/* Austin Appleby's MurmurHash2, 32 bits, with the seed of org.apache.kafka.common.utils.Utils.murmur2. */
static uint32_t murmur2(const uint8_t *bytes, uint32_t length)
{
    uint32_t hash = 0x9747b28cU ^ length;
    uint32_t whole = length & ~3U;
    for (uint32_t i = 0; i < whole; i += 4)
        hash = (hash * MURMUR2_MIX) ^ murmur2_word(bytes + i);
    uint32_t tail = 0;
    for (uint32_t i = length; i > whole; i--)
        tail = tail << 8 | bytes[i - 1];
    if (length > whole)
        hash = (hash ^ tail) * MURMUR2_MIX;
    hash ^= hash >> 13;
    hash *= MURMUR2_MIX;
    return hash ^ hash >> 15;
}

/* The remainders of all half bytes by the reflected polynomial 0xedb88320: zlib's CRC-32, four bits at a
 * time. */
static const uint32_t crc32_half_bytes[16] = {
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
};

static uint32_t crc32(const uint8_t *bytes, uint32_t length)
{
    uint32_t rest = UINT32_MAX;
    for (uint32_t i = 0; i < length; i++) {
        rest ^= bytes[i];
        rest = rest >> 4 ^ crc32_half_bytes[rest & 15];
        rest = rest >> 4 ^ crc32_half_bytes[rest & 15];
    }
    return ~rest;
}

/* Fowler, Noll and Vo's FNV-1a, 32 bits. */
static uint32_t fnv1a(const uint8_t *bytes, uint32_t length)
{
    uint32_t hash = 2166136261U;
    for (uint32_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * 16777619U;
    return hash;
}

int32_t partitioner_lane(enum partitioner p, struct text key, int32_t count)
{
    assert(count >= 1);
    const uint8_t *bytes = (const uint8_t *)key.bytes;
    uint32_t lanes = (uint32_t)count;
    switch (p) {
    case PARTITIONER_MURMUR2:
        return (int32_t)((murmur2(bytes, key.length) & INT32_MAX) % lanes);
    case PARTITIONER_CRC32:
        return (int32_t)(crc32(bytes, key.length) % lanes);
    case PARTITIONER_FNV1A: {
        uint32_t hash = fnv1a(bytes, key.length);
        /* Sarama takes the remainder of the signed hash and drops its sign: that of the magnitude. */
        return (int32_t)((hash > INT32_MAX ? 0 - hash : hash) % lanes);
    }
    case PARTITIONER_UNKNOWN:
    case PARTITIONER_COUNT:
        break;
    }
    assert(!"a partitioner that is known");
    return -1;
}

void partitioner_vote(struct partitioner_votes *votes, struct text key, int32_t lane, int32_t count)
{
    if (key.length == 0)
        return;
    votes->records++;
    for (int p = PARTITIONER_MURMUR2; p < PARTITIONER_COUNT; p++)
        if (partitioner_lane((enum partitioner)p, key, count) == lane)
            votes->matches[p]++;
}

enum partitioner partitioner_elect(const struct partitioner_votes *votes)
{
    enum partitioner best = PARTITIONER_UNKNOWN;
    uint64_t most = votes->records / 2;
    for (int p = PARTITIONER_MURMUR2; p < PARTITIONER_COUNT; p++) {
        if (votes->matches[p] > most) {
            best = (enum partitioner)p;
            most = votes->matches[p];
        } else if (votes->matches[p] == most) {
            best = PARTITIONER_UNKNOWN;
        }
    }
    return best;
}
