#include "siphash_many.h"

#include <assert.h>

static void hash_plain(const uint8_t key[SIPHASH_KEY_BYTES], const struct text *texts, size_t count,
                       uint64_t out[][2])
{
    for (size_t i = 0; i < count; i++) {
        struct siphash hash = siphash_begin(key);
        siphash_put_bytes(&hash, texts[i].bytes, texts[i].length);
        siphash_end(hash, out[i]);
    }
}

#ifdef __x86_64__

/* Two groups of four hashes, whose states are kept word by word: v[g][w] is the w-th of all of group g. */
enum { GROUPS = 2, GROUP = SIPHASH_SIDES / GROUPS };
typedef uint64_t lanes __attribute__((vector_size(8 * GROUP)));

struct sides {
    lanes v[GROUPS][4];
    const char *bytes[SIPHASH_SIDES];
    size_t whole[SIPHASH_SIDES];  /* words */
    uint64_t last[SIPHASH_SIDES]; /* what is behind them, and the length */
    size_t least, most;           /* of whole */
};

/* Is compiled anew into each way below. */
#define EACH_WAY static inline __attribute__((always_inline))
/* Else the state would not stay in registers. */
#define UNROLLED _Pragma("GCC unroll 8")
#define ROTATE(word, bits) ((word) << (bits) | (word) >> (64 - (bits)))

EACH_WAY void rounds(lanes v[GROUPS][4], int count)
{
    UNROLLED
    for (int i = 0; i < count; i++)
        UNROLLED
    for (int g = 0; g < GROUPS; g++) {
        v[g][0] += v[g][1];
        v[g][2] += v[g][3];
        v[g][1] = ROTATE(v[g][1], 13) ^ v[g][0];
        v[g][3] = ROTATE(v[g][3], 16) ^ v[g][2];
        v[g][0] = ROTATE(v[g][0], 32);
        v[g][2] += v[g][1];
        v[g][0] += v[g][3];
        v[g][1] = ROTATE(v[g][1], 17) ^ v[g][2];
        v[g][3] = ROTATE(v[g][3], 21) ^ v[g][0];
        v[g][2] = ROTATE(v[g][2], 32);
    }
}

EACH_WAY void begin(struct sides *s, const uint8_t key[SIPHASH_KEY_BYTES], const struct text *texts,
                    size_t count)
{
    struct siphash first = siphash_begin(key);
    UNROLLED
    for (int g = 0; g < GROUPS; g++)
        UNROLLED
    for (int w = 0; w < 4; w++)
        s->v[g][w] = (lanes){first.v[w], first.v[w], first.v[w], first.v[w]};
    s->least = SIZE_MAX;
    s->most = 0;
    for (size_t i = 0; i < SIPHASH_SIDES; i++) {
        struct text text = i < count ? texts[i] : texts[0];
        size_t whole = text.length / 8;
        s->bytes[i] = text.bytes;
        s->whole[i] = whole;
        s->last[i] = (uint64_t)text.length << 56 | text_load_rest(text);
        s->least = whole < s->least ? whole : s->least;
        s->most = whole > s->most ? whole : s->most;
    }
}

#define OF_GROUP(g, of, at)                                                                                  \
    ((lanes){of(s, GROUP * (g), at), of(s, GROUP * (g) + 1, at), of(s, GROUP * (g) + 2, at),                 \
             of(s, GROUP * (g) + 3, at)})

EACH_WAY uint64_t common_word(const struct sides *s, int i, size_t at)
{
    return text_load_word(s->bytes[i] + 8 * at);
}

EACH_WAY void put_common(const struct sides *s, lanes v[GROUPS][4])
{
    for (size_t at = 0; at < s->least; at++) {
        lanes first = OF_GROUP(0, common_word, at), second = OF_GROUP(1, common_word, at);
        v[0][3] ^= first;
        v[1][3] ^= second;
        rounds(v, 2);
        v[0][0] ^= first;
        v[1][0] ^= second;
    }
}

EACH_WAY uint64_t rest_word(const struct sides *s, int i, size_t at)
{
    return at < s->whole[i] ? text_load_word(s->bytes[i] + 8 * at) : s->last[i];
}

EACH_WAY uint64_t goes_on(const struct sides *s, int i, size_t at)
{
    return at <= s->whole[i] ? UINT64_MAX : 0;
}

EACH_WAY void choose(lanes v[4], const lanes before[4], const lanes *mask)
{
    UNROLLED
    for (int w = 0; w < 4; w++)
        v[w] = (v[w] & *mask) | (before[w] & ~*mask);
}

/* What is left of each, to the last of the longest; who is at its end stays as it is. */
EACH_WAY void put_rest(const struct sides *s, lanes v[GROUPS][4])
{
    for (size_t at = s->least; at <= s->most; at++) {
        lanes first = OF_GROUP(0, rest_word, at), second = OF_GROUP(1, rest_word, at), before[GROUPS][4];
        memcpy(before, v, sizeof before);
        v[0][3] ^= first;
        v[1][3] ^= second;
        rounds(v, 2);
        v[0][0] ^= first;
        v[1][0] ^= second;
        choose(v[0], before[0], &OF_GROUP(0, goes_on, at));
        choose(v[1], before[1], &OF_GROUP(1, goes_on, at));
    }
}

EACH_WAY void give(lanes v[GROUPS][4], int word, uint64_t added, size_t count, int part, uint64_t out[][2])
{
    UNROLLED
    for (int g = 0; g < GROUPS; g++)
        v[g][word] ^= (lanes){added, added, added, added};
    rounds(v, 4);
    for (size_t i = 0; i < count; i++) {
        lanes *of = v[i / GROUP];
        out[i][part] = of[0][i % GROUP] ^ of[1][i % GROUP] ^ of[2][i % GROUP] ^ of[3][i % GROUP];
    }
}

EACH_WAY void hash_sides(const uint8_t key[SIPHASH_KEY_BYTES], const struct text *texts, size_t count,
                         uint64_t out[][2])
{
    struct sides s;
    lanes v[GROUPS][4];
    begin(&s, key, texts, count);
    memcpy(v, s.v, sizeof v);
    put_common(&s, v);
    put_rest(&s, v);
    give(v, 2, 0xee, count, 0, out);
    give(v, 1, 0xdd, count, 1, out);
}

__attribute__((target("avx2"))) static void
hash_avx2(const uint8_t key[SIPHASH_KEY_BYTES], const struct text *texts, size_t count, uint64_t out[][2])
{
    hash_sides(key, texts, count, out);
}

/* Which rotates in one instruction. */
__attribute__((target("avx2,avx512f,avx512vl"))) static void
hash_avx512(const uint8_t key[SIPHASH_KEY_BYTES], const struct text *texts, size_t count, uint64_t out[][2])
{
    hash_sides(key, texts, count, out);
}

bool siphash_has(enum siphash_way way)
{
    switch (way) {
    case SIPHASH_AVX2:
        return __builtin_cpu_supports("avx2");
    case SIPHASH_AVX512:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512vl");
    default:
        return way == SIPHASH_PLAIN;
    }
}

void siphash_many_by(enum siphash_way way, const uint8_t key[SIPHASH_KEY_BYTES], const struct text *texts,
                     size_t count, uint64_t out[][2])
{
    assert(count <= SIPHASH_SIDES);
    if (way == SIPHASH_AVX512 && count > 1)
        hash_avx512(key, texts, count, out);
    else if (way == SIPHASH_AVX2 && count > 1)
        hash_avx2(key, texts, count, out);
    else
        hash_plain(key, texts, count, out);
}

#else

bool siphash_has(enum siphash_way way)
{
    return way == SIPHASH_PLAIN;
}

void siphash_many_by(enum siphash_way way, const uint8_t key[SIPHASH_KEY_BYTES], const struct text *texts,
                     size_t count, uint64_t out[][2])
{
    assert(way == SIPHASH_PLAIN);
    hash_plain(key, texts, count, out);
}

#endif

void siphash_many(const uint8_t key[SIPHASH_KEY_BYTES], const struct text *texts, size_t count,
                  uint64_t out[][2])
{
    enum siphash_way way = siphash_has(SIPHASH_AVX512) ? SIPHASH_AVX512
                           : siphash_has(SIPHASH_AVX2) ? SIPHASH_AVX2
                                                       : SIPHASH_PLAIN;
    siphash_many_by(way, key, texts, count, out);
}
