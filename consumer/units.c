#include "units.h"

#include <stdio.h>

struct unit {
    struct text name;
    int64_t factor;
};

/* Smallest first; a name that ends another's (s, ms) can't be mistaken for it: the whole rest must be equal.
 */
static const struct unit durations[] = {
    {TEXT("us"), 1},
    {TEXT("ms"), 1000},
    {TEXT("s"), 1000000},
    {TEXT("m"), 60 * (int64_t)1000000},
    {TEXT("h"), 3600 * (int64_t)1000000},
    {TEXT("d"), 86400 * (int64_t)1000000},
};
static const struct unit sizes[] = {
    {TEXT("KiB"), 1 << 10},
    {TEXT("MiB"), 1 << 20},
    {TEXT("GiB"), 1 << 30},
};
#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* Reads the digits that text starts with and moves text past them. */
static bool take_digits(struct text *text, int64_t *value)
{
    int64_t sum = 0;
    uint32_t used = 0;
    for (; used < text->length && text->bytes[used] >= '0' && text->bytes[used] <= '9'; used++)
        if (__builtin_mul_overflow(sum, 10, &sum) ||
            __builtin_add_overflow(sum, text->bytes[used] - '0', &sum))
            return false;
    text->bytes += used;
    text->length -= used;
    *value = sum;
    return used > 0;
}

static bool unit_parse(struct text text, const struct unit *units, size_t count, int64_t *value)
{
    int64_t number;
    if (!take_digits(&text, &number))
        return false;
    for (size_t i = 0; i < count; i++)
        if (text_equal(text, units[i].name))
            return !__builtin_mul_overflow(number, units[i].factor, value);
    return false;
}

static const char *unit_text(int64_t value, const struct unit *units, size_t count, char *text)
{
    size_t i = count - 1;
    while (i > 0 && value % units[i].factor != 0)
        i--;
    snprintf(text, UNITS_TEXT_BYTES, "%lld%s", (long long)(value / units[i].factor), units[i].name.bytes);
    return text;
}

bool duration_parse(struct text text, int64_t *duration_us)
{
    return unit_parse(text, durations, COUNT(durations), duration_us);
}

const char *duration_text(int64_t duration_us, char text[UNITS_TEXT_BYTES])
{
    if (duration_us == 0)
        return memcpy(text, "0s", sizeof "0s");
    return unit_text(duration_us, durations, COUNT(durations), text);
}

bool size_parse(struct text text, int64_t *size_bytes)
{
    return unit_parse(text, sizes, COUNT(sizes), size_bytes);
}

const char *size_text(int64_t size_bytes, char text[UNITS_TEXT_BYTES])
{
    return unit_text(size_bytes, sizes, size_bytes == 0 ? 1 : COUNT(sizes), text);
}

bool integer_parse(struct text text, int64_t *integer)
{
    bool negative = text.length > 0 && text.bytes[0] == '-';
    struct text digits = {text.bytes + negative, text.length - negative};
    if (!take_digits(&digits, integer) || digits.length > 0)
        return false;
    *integer = negative ? -*integer : *integer;
    return true;
}

bool address_parse(struct text text, struct text *host, uint16_t *port)
{
    uint32_t colon = text.length;
    while (colon > 0 && text.bytes[colon - 1] != ':')
        colon--;
    if (colon < 2)
        return false;
    *host = (struct text){text.bytes, colon - 1};
    struct text digits = {text.bytes + colon, text.length - colon};
    int64_t number;
    if (!take_digits(&digits, &number) || digits.length > 0 || number > UINT16_MAX)
        return false;
    *port = (uint16_t)number;
    if (host->bytes[0] == '[') {
        bool closed = host->length > 2 && host->bytes[host->length - 1] == ']';
        *host = (struct text){host->bytes + 1, host->length - 2 * closed};
        return closed;
    }
    return memchr(host->bytes, ':', host->length) == NULL && memchr(host->bytes, ' ', host->length) == NULL;
}
