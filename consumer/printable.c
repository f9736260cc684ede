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

struct range {
    uint32_t first, last;
};

/* Controls, line separators, what turns a line's direction around, and what nobody sees: a log line must look
 * like what it says. Ascending. */
static const struct range hostile_ranges[] = {{0x00, 0x1F},     {0x7F, 0x9F},      {0xAD, 0xAD},
                                              {0x61C, 0x61C},   {0x180E, 0x180E},  {0x200B, 0x200F},
                                              {0x2028, 0x202E}, {0x2060, 0x206F},  {0xFEFF, 0xFEFF},
                                              {0xFFF9, 0xFFFB}, {0xE0000, 0xE0FFF}};

static bool hostile(uint32_t point)
{
    const struct range *range = hostile_ranges;
    const struct range *end = range + sizeof hostile_ranges / sizeof *hostile_ranges;
    while (range < end && point > range->last)
        range++;
    return range < end && point >= range->first;
}

static bool is_json(enum printable_style style)
{
    return style == PRINTABLE_JSON || style == PRINTABLE_JSON_DOCUMENT;
}

static size_t escape(enum printable_style style, uint32_t point, char *out)
{
    static const char letters[] = {['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['"'] = '"', ['\\'] = '\\'};
    if (point < sizeof letters && letters[point] != 0)
        return (size_t)snprintf(out, PRINTABLE_BYTES, "\\%c", letters[point]);
    if (!is_json(style) && point < 0x80)
        return (size_t)snprintf(out, PRINTABLE_BYTES, "\\x%02x", point);
    if (point < 0x10000)
        return (size_t)snprintf(out, PRINTABLE_BYTES, "\\u%04x", point);
    if (!is_json(style))
        return (size_t)snprintf(out, PRINTABLE_BYTES, "\\U%08x", point);
    point -= 0x10000; /* surrogates */
    return (size_t)snprintf(out, PRINTABLE_BYTES, "\\u%04x\\u%04x", 0xD800 | point >> 10,
                            0xDC00 | (point & 0x3FF));
}

/* Of a document, quotes and the ends of lines are its own: what stands in a string is escaped already. */
static bool must_escape(enum printable_style style, uint32_t point)
{
    if (style == PRINTABLE_JSON_DOCUMENT && point < 0x7F)
        return false;
    return hostile(point) || (style != PRINTABLE_PLAIN && (point == '"' || point == '\\'));
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
    if (length == 0 && !is_json(style))
        return (size_t)snprintf(out, PRINTABLE_BYTES, "\\x%02x", first);
    if (length == 0 || must_escape(style, point))
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

void printable_word(struct text word, FILE *out)
{
    bool bare = word.length > 0;
    for (uint32_t i = 0; i < word.length; i++)
        bare &= word.bytes[i] != ' ' && word.bytes[i] != '"' && word.bytes[i] != '\\';
    fputs(bare ? "" : "\"", out);
    printable_write(bare ? PRINTABLE_PLAIN : PRINTABLE_QUOTED, word, out);
    fputs(bare ? "" : "\"", out);
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
