#include "decimal.h"

#include <string.h>

typedef unsigned __int128 magnitude_t;

enum { LIMIT_DIGITS = 20 + DECIMAL_DIGITS }; /* of DECIMAL_LIMIT in units of 10^-9 */
enum { FAST_DIGITS = 18 };                   /* fit 64 bits */

/* Far beyond what the digits of any record could make up for, and far from overflow. */
#define EXPONENT_BOUND ((int64_t)1 << 40)

/* A number as it is spelled: 0.DIGITS * 10^point, the digits read around an optional '.'. */
struct spelling {
    const char *digits;
    const char *digits_end;
    int64_t point;
    bool negative;
};

static inline bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

static const char *skip_digits(const char *at, const char *end)
{
    while (at < end && is_digit(*at))
        at++;
    return at;
}

/* Reads what follows 'e'. NULL if no digit does. */
static const char *read_exponent(const char *at, const char *end, int64_t *exponent)
{
    bool negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+'))
        at++;
    if (at == end || !is_digit(*at))
        return NULL;
    int64_t value = 0;
    for (; at < end && is_digit(*at); at++)
        if (value < EXPONENT_BOUND)
            value = value * 10 + (*at - '0');
    *exponent = negative ? -value : value;
    return at;
}

/* JSON's grammar: -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)? and nothing else. */
static bool read_spelling(const char *at, const char *end, struct spelling *out)
{
    out->negative = at < end && *at == '-';
    if (out->negative)
        at++;
    out->digits = at;
    at = skip_digits(at, end);
    out->point = at - out->digits;
    if (out->point == 0 || (out->point > 1 && *out->digits == '0'))
        return false;
    if (at < end && *at == '.') {
        const char *fraction = ++at;
        at = skip_digits(at, end);
        if (at == fraction)
            return false;
    }
    out->digits_end = at;
    int64_t exponent = 0;
    if (at < end && (*at == 'e' || *at == 'E'))
        at = read_exponent(at + 1, end, &exponent);
    out->point += exponent;
    return at == end;
}

/* Drops zeros that don't count, on both sides. */
static void trim(struct spelling *number)
{
    while (number->digits < number->digits_end && (*number->digits == '0' || *number->digits == '.')) {
        if (*number->digits == '0')
            number->point--;
        number->digits++;
    }
    while (number->digits_end > number->digits &&
           (number->digits_end[-1] == '0' || number->digits_end[-1] == '.'))
        number->digits_end--;
}

static const uint64_t powers_of_ten[FAST_DIGITS + 1] = {
    1,
    10,
    100,
    1000,
    10000,
    100000,
    1000000,
    10000000,
    100000000,
    1000000000,
    10000000000,
    100000000000,
    1000000000000,
    10000000000000,
    100000000000000,
    1000000000000000,
    10000000000000000,
    100000000000000000,
    1000000000000000000,
};

/* exponent: 0 to LIMIT_DIGITS. */
static magnitude_t power_of_ten(int64_t exponent)
{
    int64_t first = exponent < FAST_DIGITS ? exponent : FAST_DIGITS;
    return (magnitude_t)powers_of_ten[first] * powers_of_ten[exponent - first];
}

/* At most LIMIT_DIGITS digits. */
static magnitude_t read_digits(const char *at, const char *end, int64_t *count)
{
    uint64_t head = 0;
    *count = 0;
    for (; at < end && *count < FAST_DIGITS; at++) {
        if (*at == '.')
            continue;
        head = head * 10 + (uint64_t)(*at - '0');
        ++*count;
    }
    magnitude_t value = head;
    for (; at < end; at++) {
        if (*at == '.')
            continue;
        value = value * 10 + (unsigned)(*at - '0');
        ++*count;
    }
    return value;
}

/* A short whole number, which most quantities are. */
static bool parse_whole(const char *bytes, size_t length, decimal_t *out)
{
    uint64_t value = 0;
    if (length == 0 || length > FAST_DIGITS || (*bytes == '0' && length > 1))
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!is_digit(bytes[i]))
            return false;
        value = value * 10 + (uint64_t)(bytes[i] - '0');
    }
    *out = (decimal_t)value * DECIMAL_ONE;
    return true;
}

enum decimal_error decimal_parse(const char *bytes, size_t length, decimal_t *out)
{
    struct spelling number;
    if (parse_whole(bytes, length, out))
        return DECIMAL_OK;
    if (!read_spelling(bytes, bytes + length, &number))
        return DECIMAL_NOT_A_NUMBER;
    trim(&number);
    *out = 0;
    if (number.digits == number.digits_end)
        return DECIMAL_OK;
    if (number.point + DECIMAL_DIGITS > LIMIT_DIGITS)
        return DECIMAL_TOO_LARGE;
    if (number.digits_end - number.digits > LIMIT_DIGITS + 1) /* '.' is among them */
        return DECIMAL_TOO_PRECISE;
    int64_t count;
    magnitude_t value = read_digits(number.digits, number.digits_end, &count);
    int64_t last_digit = number.point + DECIMAL_DIGITS - count; /* its place, in powers of ten */
    if (last_digit < 0)
        return DECIMAL_TOO_PRECISE;
    value *= power_of_ten(last_digit);
    *out = number.negative ? -(decimal_t)value : (decimal_t)value;
    return DECIMAL_OK;
}

bool decimal_add(decimal_t *sum, decimal_t more)
{
    decimal_t total;
    if (__builtin_add_overflow(*sum, more, &total))
        return false;
    *sum = total;
    return true;
}

static magnitude_t magnitude_of(decimal_t value)
{
    return value < 0 ? -(magnitude_t)value : (magnitude_t)value;
}

/* 128-bit divisions are slow: value is split once, and what follows is done in 64 bits. */
struct parts {
    uint64_t high;     /* the whole number's digits above 10^16 */
    uint64_t low;      /* its last 16 */
    uint64_t fraction; /* units of 10^-9 */
};

#define LOW_LIMIT powers_of_ten[16]

static struct parts split(decimal_t value)
{
    magnitude_t magnitude = magnitude_of(value);
    magnitude_t whole = magnitude / DECIMAL_ONE;
    struct parts parts = {.fraction = (uint64_t)(magnitude - whole * DECIMAL_ONE)};
    if (whole >= LOW_LIMIT)
        parts.high = (uint64_t)(whole / LOW_LIMIT);
    parts.low = (uint64_t)(whole - (magnitude_t)parts.high * LOW_LIMIT);
    return parts;
}

/* Writes the digits of value right-aligned before end, at least `least` of them. */
static char *write_digits(char *end, uint64_t value, int least)
{
    for (; value > 0 || least > 0; least--, value /= 10)
        *--end = (char)('0' + value % 10);
    return end;
}

size_t decimal_text(decimal_t value, char text[DECIMAL_TEXT_BYTES])
{
    char buffer[DECIMAL_TEXT_BYTES];
    char *end = buffer + sizeof buffer;
    char *start = end;
    struct parts parts = split(value);
    if (parts.fraction > 0) {
        start = write_digits(end, parts.fraction, DECIMAL_DIGITS);
        while (end[-1] == '0')
            end--;
        *--start = '.';
    }
    start = write_digits(start, parts.low, parts.high > 0 ? 16 : 1);
    start = write_digits(start, parts.high, 0);
    if (value < 0)
        *--start = '-';
    size_t length = (size_t)(end - start);
    memcpy(text, start, length);
    text[length] = '\0';
    return length;
}

/* PostgreSQL's numeric on the wire. */
enum { NUMERIC_BASE = 10000, NUMERIC_POSITIVE = 0x0000, NUMERIC_NEGATIVE = 0x4000 };
enum { NUMERIC_GROUPS = 11, NUMERIC_FRACTION_GROUPS = 3 }; /* of any decimal_t: 4 high, 4 low, 3 fraction */

static uint8_t *put_16(uint8_t *out, int value)
{
    out[0] = (uint8_t)((unsigned)value >> 8);
    out[1] = (uint8_t)value;
    return out + 2;
}

static int get_16(const uint8_t *bytes)
{
    return (int16_t)((bytes[0] << 8) | bytes[1]);
}

static void split_groups(uint64_t value, int groups[], int count)
{
    while (count-- > 0) {
        groups[count] = (int)(value % NUMERIC_BASE);
        value /= NUMERIC_BASE;
    }
}

size_t decimal_numeric(decimal_t value, uint8_t out[DECIMAL_NUMERIC_BYTES])
{
    int groups[NUMERIC_GROUPS];
    struct parts parts = split(value);
    split_groups(parts.high, groups, 4);
    split_groups(parts.low, groups + 4, 4);
    split_groups(parts.fraction * 1000, groups + 8, NUMERIC_FRACTION_GROUPS);
    int first = 0;
    int end = NUMERIC_GROUPS;
    while (first < end && groups[first] == 0)
        first++;
    while (end > first && groups[end - 1] == 0)
        end--;
    int weight = first == end ? 0 : NUMERIC_GROUPS - NUMERIC_FRACTION_GROUPS - 1 - first;
    uint8_t *at = put_16(out, end - first);
    at = put_16(at, weight);
    at = put_16(at, value < 0 ? NUMERIC_NEGATIVE : NUMERIC_POSITIVE);
    at = put_16(at, DECIMAL_DIGITS);
    for (int i = first; i < end; i++)
        at = put_16(at, groups[i]);
    return (size_t)(at - out);
}

/* *value = *value * factor + more. */
static bool shift_in(magnitude_t *value, unsigned factor, unsigned more)
{
    return !__builtin_mul_overflow(*value, (magnitude_t)factor, value) &&
           !__builtin_add_overflow(*value, (magnitude_t)more, value);
}

/* The base-10000 digit that stands for 10000^power, 0 where the number has none. -1: not a digit. */
static int group_at(const uint8_t *groups, int count, int weight, int power)
{
    int i = weight - power;
    if (i < 0 || i >= count)
        return 0;
    int group = get_16(groups + 2 * i);
    return group < NUMERIC_BASE ? group : -1;
}

static bool read_groups(const uint8_t *groups, int count, int weight, magnitude_t *out)
{
    enum { LAST_POWER = -NUMERIC_FRACTION_GROUPS, LAST_FACTOR = 1000 };
    *out = 0;
    for (int power = weight; power > LAST_POWER; power--) {
        int group = group_at(groups, count, weight, power);
        if (group < 0 || !shift_in(out, NUMERIC_BASE, (unsigned)group))
            return false;
    }
    int last = group_at(groups, count, weight, LAST_POWER);
    if (last < 0 || last % LAST_FACTOR != 0 ||
        !shift_in(out, NUMERIC_BASE / LAST_FACTOR, (unsigned)last / LAST_FACTOR))
        return false;
    for (int i = 0; i < count; i++)
        if (weight - i < LAST_POWER && get_16(groups + 2 * i) != 0)
            return false;
    return true;
}

bool decimal_from_numeric(const uint8_t *bytes, size_t length, decimal_t *out)
{
    if (length < 8)
        return false;
    int count = get_16(bytes);
    int weight = get_16(bytes + 2);
    int sign = get_16(bytes + 4);
    if (count < 0 || length != 8 + 2 * (size_t)count ||
        (sign != NUMERIC_POSITIVE && sign != NUMERIC_NEGATIVE))
        return false;
    magnitude_t magnitude;
    if (!read_groups(bytes + 8, count, weight, &magnitude))
        return false;
    magnitude_t most = ((magnitude_t)1 << 127) - (sign == NUMERIC_NEGATIVE ? 0 : 1);
    if (magnitude > most)
        return false;
    *out = sign == NUMERIC_NEGATIVE ? (decimal_t)(-magnitude) : (decimal_t)magnitude;
    return true;
}
