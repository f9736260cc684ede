/* A view of bytes that somebody else owns: no terminator, may hold any byte. The header that hands one out
 * says how long it lives. */
#ifndef UB_TEXT_H
#define UB_TEXT_H

#include <stdbool.h>
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

static inline bool text_equal(struct text a, struct text b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.bytes, b.bytes, a.length) == 0);
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
