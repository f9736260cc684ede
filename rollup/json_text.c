#include "json_text.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

enum { ESCAPED_LIMIT_BYTES = 6 };

static bool continues(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

/* The second byte's range depends on the first: no overlong forms, no surrogates, nothing above U+10FFFF. */
static bool second_fits(unsigned char first, unsigned char second)
{
    switch (first) {
    case 0xe0:
        return second >= 0xa0 && second <= 0xbf;
    case 0xed:
        return second >= 0x80 && second <= 0x9f;
    case 0xf0:
        return second >= 0x90 && second <= 0xbf;
    case 0xf4:
        return second >= 0x80 && second <= 0x8f;
    default:
        return continues(second);
    }
}

size_t utf8_sequence_bytes(const char *bytes, size_t left)
{
    const unsigned char *b = (const unsigned char *)bytes;
    if (b[0] < 0x80)
        return 1;
    size_t length = b[0] >= 0xc2 && b[0] <= 0xdf ? 2 : b[0] >= 0xe0 && b[0] <= 0xef ? 3 : 4;
    if (b[0] < 0xc2 || b[0] > 0xf4 || left < length || !second_fits(b[0], b[1]))
        return 0;
    for (size_t i = 2; i < length; i++)
        if (!continues(b[i]))
            return 0;
    return length;
}

/* The letter of JSON's short escapes; 0: none. */
static char short_escape(char c)
{
    switch (c) {
    case '"':
    case '\\':
        return c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

/* Writes a control character that is not NUL, a quote or a backslash. */
static size_t escape(char out[ESCAPED_LIMIT_BYTES], char c)
{
    static const char hex[] = "0123456789abcdef";
    char letter = short_escape(c);
    if (letter) {
        out[0] = '\\';
        out[1] = letter;
        return 2;
    }
    memcpy(out, "\\u00", 4);
    out[4] = hex[c >> 4 & 15];
    out[5] = hex[c & 15];
    return ESCAPED_LIMIT_BYTES;
}

/* Writes the character at bytes; *taken: how many of them it has. */
static size_t put_character(char out[ESCAPED_LIMIT_BYTES], const char *bytes, size_t left, size_t *taken)
{
    unsigned char first = (unsigned char)*bytes;
    size_t length = utf8_sequence_bytes(bytes, left);
    *taken = length > 0 ? length : 1;
    if (length == 0 || first == 0) {
        memcpy(out, REPLACEMENT, sizeof REPLACEMENT - 1);
        return sizeof REPLACEMENT - 1;
    }
    if (first < 0x20 || first == '"' || first == '\\')
        return escape(out, *bytes);
    memcpy(out, bytes, length);
    return length;
}

size_t json_text_bytes(struct text text)
{
    char scratch[ESCAPED_LIMIT_BYTES];
    size_t size_bytes = 0, taken;
    for (size_t i = 0; i < text.length; i += taken)
        size_bytes += put_character(scratch, text.bytes + i, text.length - i, &taken);
    return size_bytes;
}

char *json_text_put(char *out, struct text text)
{
    char character[ESCAPED_LIMIT_BYTES];
    size_t taken;
    for (size_t i = 0; i < text.length; i += taken) {
        size_t length = put_character(character, text.bytes + i, text.length - i, &taken);
        memcpy(out, character, length);
        out += length;
    }
    return out;
}
