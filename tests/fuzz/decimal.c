/* Decimals against sums on paper: numbers as arrays of decimal digits, the grammar as a regular expression.
 * Input: lines, each a number to be added to a running sum, or `*`, which doubles the sum. All of the input
 * is taken for PostgreSQL's numeric besides. */
#include "fuzz.h"

#include "rollup/decimal.h"

#include <regex.h>
#include <string.h>

enum {
    PAPER_DIGITS = 64, /* of 10^-9, the least significant one first */
    WHOLE_DIGITS = 20, /* of a quantity */
    LINE_LIMIT_BYTES = 300
};

/* A sign and a magnitude. */
struct paper {
    int8_t digits[PAPER_DIGITS];
    bool negative;
};

static bool paper_is_zero(const struct paper *paper)
{
    for (int i = 0; i < PAPER_DIGITS; i++)
        if (paper->digits[i] != 0)
            return false;
    return true;
}

static int paper_compare(const struct paper *a, const struct paper *b)
{
    for (int i = PAPER_DIGITS - 1; i >= 0; i--)
        if (a->digits[i] != b->digits[i])
            return a->digits[i] < b->digits[i] ? -1 : 1;
    return 0;
}

/* *a += sign * *b, digit by digit; |a| >= |b| if sign is -1. */
static void paper_combine(struct paper *a, const struct paper *b, int sign)
{
    int carry = 0;
    for (int i = 0; i < PAPER_DIGITS; i++) {
        int digit = a->digits[i] + sign * b->digits[i] + carry;
        carry = digit < 0 ? -1 : digit / 10;
        a->digits[i] = (int8_t)(digit - carry * 10);
    }
}

static void paper_add(struct paper *a, struct paper b)
{
    if (a->negative == b.negative) {
        paper_combine(a, &b, 1);
    } else if (paper_compare(a, &b) >= 0) {
        paper_combine(a, &b, -1);
    } else {
        paper_combine(&b, a, -1);
        *a = b;
    }
}

/* Whether 128 bits hold it: -2^127 to 2^127 - 1. */
static bool paper_fits(const struct paper *paper)
{
    static const char most[] = "170141183460469231731687303715884105727";
    struct paper limit = {.digits = {0}};
    for (int i = 0; i < (int)sizeof most - 1; i++)
        limit.digits[i] = (int8_t)(most[sizeof most - 2 - (size_t)i] - '0');
    limit.digits[0] = (int8_t)(limit.digits[0] + paper->negative); /* …728 */
    return paper_compare(paper, &limit) <= 0;
}

static void paper_print(const struct paper *paper, char *out)
{
    int last = 0, first = PAPER_DIGITS - 1;
    while (last < DECIMAL_DIGITS && paper->digits[last] == 0)
        last++;
    while (first > DECIMAL_DIGITS && paper->digits[first] == 0)
        first--;
    if (paper->negative && !paper_is_zero(paper))
        *out++ = '-';
    for (int i = first; i >= last; i--) {
        if (i == DECIMAL_DIGITS - 1)
            *out++ = '.';
        *out++ = (char)('0' + paper->digits[i]);
    }
    *out = '\0';
}

static bool is_number(const char *text, size_t length)
{
    static regex_t grammar;
    static bool compiled;
    if (!compiled)
        FUZZ_CHECK(regcomp(&grammar, "^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?$",
                           REG_EXTENDED | REG_NOSUB) == 0,
                   "the grammar");
    compiled = true;
    return strlen(text) == length && regexec(&grammar, text, 0, NULL, 0) == 0;
}

/* Far beyond any line's digits, far from overflow. */
static long exponent_of(const char *text)
{
    const char *e = strpbrk(text, "eE");
    long exponent = e ? strtol(e + 1, NULL, 10) : 0;
    return exponent > 1000000 ? 1000000 : exponent < -1000000 ? -1000000 : exponent;
}

/* text: by the grammar. */
static enum decimal_error paper_read(struct paper *paper, const char *text)
{
    *paper = (struct paper){.negative = *text == '-'};
    text += *text == '-';
    bool too_large = false, too_precise = false;
    /* of 10^-9: where the first digit stands */
    long place = (long)strspn(text, "0123456789") + exponent_of(text) + DECIMAL_DIGITS - 1;
    for (; *text && *text != 'e' && *text != 'E'; text++) {
        if (*text == '.')
            continue;
        too_large |= *text != '0' && place >= WHOLE_DIGITS + DECIMAL_DIGITS;
        too_precise |= *text != '0' && place < 0;
        if (place >= 0 && place < PAPER_DIGITS)
            paper->digits[place] = (int8_t)(*text - '0');
        place--;
    }
    return too_large ? DECIMAL_TOO_LARGE : too_precise ? DECIMAL_TOO_PRECISE : DECIMAL_OK;
}

static void check_same(decimal_t value, const struct paper *paper, const char *what)
{
    char printed[DECIMAL_TEXT_BYTES], expected[PAPER_DIGITS + 8];
    uint8_t numeric[DECIMAL_NUMERIC_BYTES];
    decimal_t back;
    size_t length = decimal_text(value, printed);
    paper_print(paper, expected);
    FUZZ_CHECK(strcmp(printed, expected) == 0 && length == strlen(printed), "%s: %s, on paper %s", what,
               printed, expected);
    length = decimal_numeric(value, numeric);
    FUZZ_CHECK(length <= sizeof numeric && decimal_from_numeric(numeric, length, &back) && back == value,
               "numeric changes %s", expected);
}

struct sum {
    decimal_t value;
    struct paper paper;
};

static void add(struct sum *sum, decimal_t more, const struct paper *paper)
{
    struct sum before = *sum;
    paper_add(&sum->paper, *paper);
    bool added = decimal_add(&sum->value, more);
    FUZZ_CHECK(added == paper_fits(&sum->paper), "a sum that overflows or does not");
    FUZZ_CHECK(added || sum->value == before.value, "an overflow changed the sum");
    if (!added)
        sum->paper = before.paper;
    if (paper_is_zero(&sum->paper))
        sum->paper.negative = false;
    check_same(sum->value, &sum->paper, "sum");
}

static void double_it(struct sum *sum)
{
    struct paper same = sum->paper;
    add(sum, sum->value, &same);
}

static void try_line(struct sum *sum, const char *line, size_t length)
{
    struct paper paper;
    decimal_t value;
    enum decimal_error error = decimal_parse(line, length, &value);
    FUZZ_CHECK((error == DECIMAL_NOT_A_NUMBER) == !is_number(line, length), "%s: %d", line, error);
    if (error == DECIMAL_NOT_A_NUMBER)
        return;
    enum decimal_error right = paper_read(&paper, line);
    FUZZ_CHECK(error == right, "%s: %d instead of %d", line, error, right);
    if (error != DECIMAL_OK)
        return;
    check_same(value, &paper, line);
    add(sum, value, &paper);
}

static void try_lines(const char *at, const char *end)
{
    struct sum sum = {0};
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((stop ? stop : end) - at);
        char *line = calloc(length + 1, 1);
        memcpy(line, at, length);
        if (strcmp(line, "*") == 0)
            double_it(&sum);
        else if (length <= LINE_LIMIT_BYTES)
            try_line(&sum, line, length);
        free(line);
        at += length + 1;
    }
}

static int group_at(const uint8_t *bytes, int index)
{
    return (int16_t)(bytes[2 * index] << 8 | bytes[2 * index + 1]);
}

/* What PostgreSQL's documentation of numeric makes of the bytes; false: nothing that decimal_t can hold. */
static bool paper_numeric(struct paper *paper, const uint8_t *bytes, size_t size)
{
    if (size < 8)
        return false;
    int count = group_at(bytes, 0), weight = group_at(bytes, 1), sign = group_at(bytes, 2);
    *paper = (struct paper){.negative = sign == 0x4000};
    if (count < 0 || size != 8 + 2 * (size_t)count || (sign != 0 && sign != 0x4000))
        return false;
    for (int i = 0; i < count; i++) {
        int group = group_at(bytes, 4 + i);
        if (group < 0 || group > 9999)
            return false;
        int place = DECIMAL_DIGITS + 4 * (weight - i);
        for (int digit = 0; digit < 4; digit++, group /= 10) {
            if (group % 10 != 0 && (place + digit < 0 || place + digit >= PAPER_DIGITS))
                return false;
            if (group % 10 != 0)
                paper->digits[place + digit] = (int8_t)(group % 10);
        }
    }
    return paper_fits(paper);
}

static void try_numeric(const uint8_t *bytes, size_t size)
{
    struct paper paper;
    decimal_t value;
    bool fits = paper_numeric(&paper, bytes, size);
    FUZZ_CHECK(decimal_from_numeric(bytes, size, &value) == fits, "numeric: %s", fits ? "refused" : "taken");
    if (fits)
        check_same(value, &paper, "numeric");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0)
        try_lines((const char *)data, (const char *)data + size);
    try_numeric(data, size);
    return 0;
}
