/* Keyed hash of a rollup row's key, text by text, without copying: SipHash with one round per word and three
 * at the end (Aumasson and Bernstein, "SipHash: a fast short-input PRF"). Keys come from producers: without
 * the random seed nobody can choose them to collide. */
#ifndef UB_ROW_HASH_H
#define UB_ROW_HASH_H

#include "../consumer/siphash.h"

struct row_hash {
    uint64_t v[4];
};

static inline struct row_hash row_hash_begin(const uint64_t seed[2])
{
    return (struct row_hash){{seed[0] ^ UINT64_C(0x736f6d6570736575), seed[1] ^ UINT64_C(0x646f72616e646f6d),
                              seed[0] ^ UINT64_C(0x6c7967656e657261),
                              seed[1] ^ UINT64_C(0x7465646279746573)}};
}

static inline void row_hash_word(struct row_hash *h, uint64_t word)
{
    h->v[3] ^= word;
    siphash_round(h->v);
    h->v[0] ^= word;
}

/* The length goes in above the last bytes, so that texts of up to 255 bytes can't trade bytes with their
 * neighbours. */
static inline void row_hash_text(struct row_hash *h, struct text text)
{
    for (uint32_t at = 0; at + 8 <= text.length; at += 8)
        row_hash_word(h, text_load_word(text.bytes + at));
    row_hash_word(h, (uint64_t)text.length << 56 | text_load_rest(text));
}

static inline uint64_t row_hash_end(struct row_hash h)
{
    h.v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        siphash_round(h.v);
    return h.v[0] ^ h.v[1] ^ h.v[2] ^ h.v[3];
}

#endif
