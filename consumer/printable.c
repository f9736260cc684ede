#include "printable.h"

/* Length of the UTF-8 character at the start of text, 0 if there is none. The Unicode Standard, table 3-7. */
static uint32_t decode(struct text text, uint32_t *codepoint)
{
    const unsigned char *bytes = (const unsigned char *)text.bytes;
    uint32_t length = bytes[0] < 0x80   ? 1
                      : bytes[0] < 0xC2 ? 0
                      : bytes[0] < 0xE0 ? 2
                      : bytes[0] < 0xF0 ? 3
                                        : 4;
    if (length == 0 || bytes[0] > 0xF4 || length > text.length)
        return 0;
    uint32_t point = length == 1 ? bytes[0] : bytes[0] & (0x7Fu >> length);
    for (uint32_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xC0) != 0x80)
            return 0;
        point = point << 6 | (bytes[i] & 0x3F);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (point < least[length] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
        return 0;
    *codepoint = point;
    return length;
}

/* Controls, line separators, and what turns a line's direction around: a log line must look like what it
 * says. */
static bool hostile(uint32_t point)
{
    return point < 0x20 || (point >= 0x7F && point < 0xA0) || (point >= 0x200B && point <= 0x200F) ||
           (point >= 0x2028 && point <= 0x202E) || (point >= 0x2060 && point <= 0x206F) || point == 0xFEFF;
}

static size_t escape(enum printable_style style, uint32_t point, char *out)
{
    static const char letters[] = {['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['"'] = '"', ['\\'] = '\\'};
    if (point < sizeof letters && letters[point] != 0)
        return (size_t)snprintf(out, PRINTABLE_BYTES, "\\%c", letters[point]);
    if (style != PRINTABLE_JSON && point < 0x80)
        return (size_t)snprintf(out, PRINTABLE_BYTES, "\\x%02x", point);
    return (size_t)snprintf(out, PRINTABLE_BYTES, "\\u%04x", point);
}

size_t printable_next(enum printable_style style, struct text *text, char out[PRINTABLE_BYTES])
{
    uint32_t point = 0xFFFD;
    uint32_t length = decode(*text, &point);
    unsigned char first = (unsigned char)text->bytes[0];
    const char *start = text->bytes;
    uint32_t used = length == 0 ? 1 : length;
    text->bytes += used;
    text->length -= used;
    if (length == 0 && style != PRINTABLE_JSON)
        return (size_t)snprintf(out, PRINTABLE_BYTES, "\\x%02x", first);
    bool quote = style != PRINTABLE_PLAIN && (point == '"' || point == '\\');
    if (length == 0 || quote || hostile(point))
        return escape(style, point, out);
    memcpy(out, start, length);
    return length;
}

void printable_write(enum printable_style style, struct text text, FILE *out)
{
    char safe[PRINTABLE_BYTES];
    while (text.length > 0) {
        size_t length = printable_next(style, &text, safe);
        fwrite(safe, 1, length, out);
    }
}

bool printable_is_plain(struct text text)
{
    while (text.length > 0) {
        uint32_t point;
        uint32_t length = decode(text, &point);
        if (length == 0 || hostile(point))
            return false;
        text.bytes += length;
        text.length -= length;
    }
    return true;
}
