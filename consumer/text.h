/* A view of bytes that somebody else owns: no terminator, may hold any byte. The header that hands one out
 * says how long it lives. */
#ifndef UB_TEXT_H
#define UB_TEXT_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct text {
    const char *bytes;
    uint32_t length;
};

#define TEXT(literal) ((struct text){"" literal, sizeof(literal) - 1})

static inline struct text text_of(const char *terminated)
{
    return (struct text){terminated, (uint32_t)strlen(terminated)};
}

/* Eight bytes, the first one lowest. */
static inline uint64_t text_load_word(const void *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return le64toh(word);
}

/* count < 8 bytes as the low ones of a word, without reading behind them. */
static inline uint64_t text_load_part(const char *bytes, size_t count)
{
    const uint8_t *at = (const uint8_t *)bytes;
    if (count >= 4) {
        uint32_t first, last;
        memcpy(&first, at, sizeof first);
        memcpy(&last, at + count - sizeof last, sizeof last);
        return le32toh(first) | (uint64_t)le32toh(last) << 8 * (count - sizeof last);
    }
    if (count == 0)
        return 0;
    return at[0] | (uint64_t)at[count / 2] << 8 * (count / 2) | (uint64_t)at[count - 1] << 8 * (count - 1);
}

/* The last length % 8 bytes of a text, as the low ones of a word. */
static inline uint64_t text_load_rest(struct text text)
{
    uint32_t count = text.length % 8;
    if (text.length < 8)
        return text_load_part(text.bytes, count);
    return text_load_word(text.bytes + text.length - 8) >> (56 - 8 * count) >> 8;
}

/* Most texts are short: a call of memcmp would take longer. */
static inline bool text_equal(struct text a, struct text b)
{
    if (a.length != b.length)
        return false;
    if (a.length < 8)
        return text_load_part(a.bytes, a.length) == text_load_part(b.bytes, b.length);
    uint32_t last = a.length - 8;
    for (uint32_t at = 0; at < last; at += 8)
        if (text_load_word(a.bytes + at) != text_load_word(b.bytes + at))
            return false;
    return text_load_word(a.bytes + last) == text_load_word(b.bytes + last);
}

/* Copies text to *at, which moves behind it; returns the copy. */
static inline struct text text_pack(char **at, struct text text)
{
    struct text packed = {*at, text.length};
    if (text.length > 0)
        memcpy(*at, text.bytes, text.length);
    *at += text.length;
    return packed;
}

/* Bytewise, a prefix first: < 0, 0 or > 0. */
static inline int text_order(struct text a, struct text b)
{
    uint32_t common = a.length < b.length ? a.length : b.length;
    int order = common > 0 ? memcmp(a.bytes, b.bytes, common) : 0;
    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

#endif
