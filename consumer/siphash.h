/* Keyed SipHash-2-4 with 128 bits, fed piece by piece (Aumasson and Bernstein, "SipHash: a fast short-input
 * PRF"). Gives what libsodium's crypto_shorthash_siphashx24 gives of all pieces joined, without joining them:
 * for short texts that costs as much as the hash. All inline, so that its state stays in registers. */
#ifndef UB_SIPHASH_H
#define UB_SIPHASH_H

#include "text.h"

enum { SIPHASH_KEY_BYTES = 16 };

struct siphash {
    uint64_t v[4];
    uint64_t pending; /* the last size_bytes % 8 bytes, low first, zeros above */
    uint64_t size_bytes;
};

static inline uint64_t siphash_rotate(uint64_t word, int bits)
{
    return word << bits | word >> (64 - bits);
}

static inline void siphash_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = siphash_rotate(v[1], 13) ^ v[0];
    v[3] = siphash_rotate(v[3], 16) ^ v[2];
    v[0] = siphash_rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = siphash_rotate(v[1], 17) ^ v[2];
    v[3] = siphash_rotate(v[3], 21) ^ v[0];
    v[2] = siphash_rotate(v[2], 32);
}

static inline void siphash_word(struct siphash *h, uint64_t word)
{
    h->v[3] ^= word;
    siphash_round(h->v);
    siphash_round(h->v);
    h->v[0] ^= word;
}

static inline struct siphash siphash_begin(const uint8_t key[SIPHASH_KEY_BYTES])
{
    uint64_t low = text_load_word(key), high = text_load_word(key + 8);
    return (struct siphash){.v = {low ^ UINT64_C(0x736f6d6570736575), high ^ UINT64_C(0x646f72616e646f83),
                                  low ^ UINT64_C(0x6c7967656e657261), high ^ UINT64_C(0x7465646279746573)}};
}

/* The low `count` bytes of a word, 1 to 8; those above are zero. */
static inline void siphash_put(struct siphash *h, uint64_t value, unsigned count)
{
    unsigned held = h->size_bytes % 8;
    h->pending |= value << 8 * held;
    h->size_bytes += count;
    if (held + count < 8)
        return;
    siphash_word(h, h->pending);
    h->pending = held > 0 ? value >> (64 - 8 * held) : 0;
}

static inline void siphash_put_bytes(struct siphash *h, const char *bytes, size_t count)
{
    unsigned held_bits = 8 * (unsigned)(h->size_bytes % 8);
    size_t left = count;
    if (held_bits == 0)
        for (; left >= 8; left -= 8, bytes += 8)
            siphash_word(h, text_load_word(bytes));
    else
        for (; left >= 8; left -= 8, bytes += 8) {
            uint64_t word = text_load_word(bytes);
            siphash_word(h, h->pending | word << held_bits);
            h->pending = word >> (64 - held_bits);
        }
    h->size_bytes += count - left;
    if (left > 0)
        siphash_put(h, text_load_part(bytes, left), (unsigned)left);
}

/* The first word of the hash in out[0]. */
static inline void siphash_end(struct siphash h, uint64_t out[2])
{
    siphash_word(&h, h.pending | h.size_bytes << 56);
    h.v[2] ^= 0xee;
    for (int i = 0; i < 4; i++)
        siphash_round(h.v);
    out[0] = h.v[0] ^ h.v[1] ^ h.v[2] ^ h.v[3];
    h.v[1] ^= 0xdd;
    for (int i = 0; i < 4; i++)
        siphash_round(h.v);
    out[1] = h.v[0] ^ h.v[1] ^ h.v[2] ^ h.v[3];
}

#endif
