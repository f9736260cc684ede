/* Decimals, held against a reference that works on strings of digits. SEED=… replays a failure. */
#include "rollup/decimal.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "suite.h"

static decimal_t parsed(const char *text)
{
    decimal_t value = -1;
    ck_assert_msg(decimal_parse(text, strlen(text), &value) == DECIMAL_OK, "refused: %s", text);
    return value;
}

static void assert_same(const char *a, const char *b)
{
    ck_assert_msg(parsed(a) == parsed(b), "%s is not %s", a, b);
}

static void assert_refused(const char *text, enum decimal_error error)
{
    decimal_t value;
    ck_assert_msg(decimal_parse(text, strlen(text), &value) == error, "not refused as expected: %s", text);
}

static void assert_prints(const char *text, const char *expected)
{
    char printed[DECIMAL_TEXT_BYTES];
    size_t length = decimal_text(parsed(text), printed);
    ck_assert_str_eq(printed, expected);
    ck_assert_uint_eq(length, strlen(expected));
}

START_TEST(spellings_of_one_number_are_equal)
{
    assert_same("15", "1.5000000000e1");
    assert_same("0", "-0");
    assert_same("0", "0.000000000000000000000e999999999999999999999");
    assert_same("0", "0e-999999999999999999999");
    assert_same("100", "1E+2");
    assert_same("0.05", "5e-2");
    assert_same("0.000000001", "1e-9");
    assert_same("12450", "12450.0000000000000000000000000000000000000000");
    assert_same("12450", "0.000000000000000000000000000000000001245e40");
    ck_assert(parsed("1.5") == DECIMAL_ONE + DECIMAL_ONE / 2);
    ck_assert(parsed("-1.000000001") == -DECIMAL_ONE - 1);
}
END_TEST

START_TEST(only_numbers_by_the_grammar_of_json_are_numbers)
{
    static const char *const bad[] = {"",    "-",    "+1",    "01",    "-01",      "00",  ".5",
                                      "5.",  "1.e5", "1e",    "1e+",   "1ex",      "e5",  " 1",
                                      "1 ",  "1x",   "0x10",  "NaN",   "Infinity", "1,0", "1_000",
                                      "--1", "1-",   "1.2.3", "1e5.0", "1e5e5",    "-.5", "١"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(bad[i], DECIMAL_NOT_A_NUMBER);
    decimal_t value;
    ck_assert_int_eq(decimal_parse("1\0", 2, &value), DECIMAL_NOT_A_NUMBER);
}
END_TEST

START_TEST(limits_are_exact)
{
    assert_prints("99999999999999999999.999999999", "99999999999999999999.999999999");
    assert_prints("-99999999999999999999.999999999", "-99999999999999999999.999999999");
    ck_assert(parsed("99999999999999999999.999999999") == DECIMAL_LIMIT - 1);
    assert_refused("100000000000000000000", DECIMAL_TOO_LARGE);
    assert_refused("-100000000000000000000", DECIMAL_TOO_LARGE);
    assert_refused("1e20", DECIMAL_TOO_LARGE);
    assert_refused("99999999999999999999.9999999991", DECIMAL_TOO_PRECISE);
    assert_refused("0.0000000001", DECIMAL_TOO_PRECISE);
    assert_refused("1e-10", DECIMAL_TOO_PRECISE);
    assert_refused("1e99999999999999999999", DECIMAL_TOO_LARGE);
    assert_refused("1e-99999999999999999999", DECIMAL_TOO_PRECISE);
    assert_refused("1.00000000000000000000000000000000000000000000000000000000000000001",
                   DECIMAL_TOO_PRECISE);
}
END_TEST

START_TEST(an_exponent_may_make_up_for_a_million_digits)
{
    enum { ZEROS = 1000000 };
    static char text[ZEROS + 32];
    text[0] = '7';
    memset(text + 1, '0', ZEROS);
    strcpy(text + 1 + ZEROS, "e-1000000");
    ck_assert(parsed(text) == 7 * DECIMAL_ONE);
}
END_TEST

START_TEST(text_is_the_shortest_exact_one)
{
    assert_prints("12450", "12450");
    assert_prints("-0.50", "-0.5");
    assert_prints("0.000", "0");
    assert_prints("1e-9", "0.000000001");
    assert_prints("1e19", "10000000000000000000");
    assert_prints("10000000000000001", "10000000000000001");
    char least[DECIMAL_TEXT_BYTES];
    decimal_t minimum = (decimal_t)((unsigned __int128)1 << 127);
    decimal_text(minimum, least);
    ck_assert_str_eq(least, "-170141183460469231731687303715.884105728");
}
END_TEST

START_TEST(sums_stop_at_128_bits)
{
    decimal_t sum = (decimal_t)(~(unsigned __int128)0 >> 1) - 1;
    ck_assert(decimal_add(&sum, 1));
    decimal_t before = sum;
    ck_assert(!decimal_add(&sum, 1));
    ck_assert(sum == before);
    sum = -sum;
    ck_assert(decimal_add(&sum, -1));
    ck_assert(!decimal_add(&sum, -1));
}
END_TEST

/* What PostgreSQL 15's numeric_send says of these values as numeric(38,9). */
START_TEST(numeric_is_what_postgresql_sends)
{
    static const struct {
        const char *text;
        size_t length;
        uint8_t bytes[DECIMAL_NUMERIC_BYTES];
    } cases[] = {
        {"0", 8, {0, 0, 0, 0, 0, 0, 0, 9}},
        {"1", 10, {0, 1, 0, 0, 0, 0, 0, 9, 0, 1}},
        {"10000", 10, {0, 1, 0, 1, 0, 0, 0, 9, 0, 1}},
        {"12450", 12, {0, 2, 0, 1, 0, 0, 0, 9, 0, 1, 0x09, 0x92}},
        {"-0.5", 10, {0, 1, 0xff, 0xff, 0x40, 0, 0, 9, 0x13, 0x88}},
        {"0.000000001", 10, {0, 1, 0xff, 0xfd, 0, 0, 0, 9, 0x03, 0xe8}},
        {"1.000000001", 16, {0, 4, 0, 0, 0, 0, 0, 9, 0, 1, 0, 0, 0, 0, 0x03, 0xe8}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t out[DECIMAL_NUMERIC_BYTES];
        ck_assert_uint_eq(decimal_numeric(parsed(cases[i].text), out), cases[i].length);
        ck_assert_mem_eq(out, cases[i].bytes, cases[i].length);
    }
}
END_TEST

START_TEST(a_numeric_that_does_not_fit_is_refused)
{
    static const struct {
        const char *what;
        size_t length;
        uint8_t bytes[32];
    } cases[] = {
        {"NaN", 8, {0, 0, 0, 0, 0xc0, 0, 0, 0}},
        {"infinity", 8, {0, 0, 0, 0, 0xd0, 0, 0, 0}},
        {"-infinity", 8, {0, 0, 0, 0, 0xf0, 0, 0, 0}},
        {"cut short", 9, {0, 1, 0, 0, 0, 0, 0, 9, 0}},
        {"header only", 7, {0, 0, 0, 0, 0, 0, 0}},
        {"more than it says", 12, {0, 1, 0, 0, 0, 0, 0, 9, 0, 1, 0, 1}},
        {"a digit over 9999", 10, {0, 1, 0, 0, 0, 0, 0, 9, 0x27, 0x10}},
        {"ten places", 10, {0, 1, 0xff, 0xfd, 0, 0, 0, 10, 0, 100}},
        {"sixteen places", 10, {0, 1, 0xff, 0xfc, 0, 0, 0, 16, 0, 1}},
        {"a last digit over 9999", 10, {0, 1, 0xff, 0xfd, 0, 0, 0, 9, 0x27, 0x10}},
        {"fewer than none", 8, {0x80, 0, 0, 0, 0, 0, 0, 9}},
        {"2^128", 30, {0,  11, 0,  7,  0,  0,  0,  9,  0, 34, 1, 26, 14,  85, 8,
                       45, 33, 15, 18, 25, 29, 36, 29, 7, 30, 2, 4,  121, 23, 112}},
        {"10^32", 10, {0, 1, 0, 8, 0, 0, 0, 9, 0, 1}},
        {"10^131068", 10, {0, 1, 0x7f, 0xff, 0, 0, 0, 9, 0, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        decimal_t value;
        ck_assert_msg(!decimal_from_numeric(cases[i].bytes, cases[i].length, &value), "accepted: %s",
                      cases[i].what);
    }
}
END_TEST

/* The reference: a number spelled as digits, with a point put among them by its exponent, as a person would
 * do it on paper. */
enum { PAPER = 400, PAPER_POINT = 200 };

struct paper {
    char digits[PAPER]; /* digits[PAPER_POINT] is the first one behind the point */
    bool negative;
};

static void paper_read(struct paper *paper, const char *text)
{
    memset(paper->digits, '0', PAPER);
    paper->negative = *text == '-';
    text += paper->negative;
    int exponent = strpbrk(text, "eE") ? atoi(strpbrk(text, "eE") + 1) : 0;
    int whole = (int)strspn(text, "0123456789");
    int place = PAPER_POINT - whole - exponent;
    for (; *text && *text != 'e' && *text != 'E'; text++)
        if (*text != '.')
            paper->digits[place++] = *text;
}

static bool paper_any(const struct paper *paper, int from, int to)
{
    for (int i = from; i < to; i++)
        if (paper->digits[i] != '0')
            return true;
    return false;
}

static enum decimal_error paper_judge(const struct paper *paper)
{
    if (paper_any(paper, 0, PAPER_POINT - 20))
        return DECIMAL_TOO_LARGE;
    return paper_any(paper, PAPER_POINT + 9, PAPER) ? DECIMAL_TOO_PRECISE : DECIMAL_OK;
}

static void paper_print(const struct paper *paper, char *out)
{
    int first = 0;
    int end = PAPER_POINT + 9;
    while (first < PAPER_POINT - 1 && paper->digits[first] == '0')
        first++;
    while (end > PAPER_POINT && paper->digits[end - 1] == '0')
        end--;
    bool zero = !paper_any(paper, first, end);
    out += sprintf(out, "%s%.*s", paper->negative && !zero ? "-" : "", PAPER_POINT - first,
                   paper->digits + first);
    if (end > PAPER_POINT)
        sprintf(out, ".%.*s", end - PAPER_POINT, paper->digits + PAPER_POINT);
}

static uint64_t random_state;

static unsigned random_below(unsigned bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % bound;
}

static void seed_random(void)
{
    const char *given = getenv("SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
}

static char *put_random_digits(char *at, unsigned count)
{
    unsigned zeros = random_below(4);
    for (unsigned i = 0; i < count; i++)
        *at++ = (char)(random_below(4) < zeros ? '0' : '0' + random_below(10));
    return at;
}

static void random_number(char *at)
{
    if (random_below(2))
        *at++ = '-';
    char *whole = at;
    at = put_random_digits(at, 1 + random_below(random_below(8) ? 12 : 32));
    if (*whole == '0' && at - whole > 1)
        *whole = '1';
    if (random_below(2)) {
        *at++ = '.';
        at = put_random_digits(at, 1 + random_below(random_below(4) ? 9 : 40));
    }
    if (random_below(4) == 0)
        at += sprintf(at, "%c%s%u", "eE"[random_below(2)], ((const char *[]){"", "-", "+"})[random_below(3)],
                      random_below(random_below(4) ? 12 : 90));
    *at = '\0';
}

static void assert_round_trip(decimal_t value, const char *text)
{
    uint8_t numeric[DECIMAL_NUMERIC_BYTES];
    size_t length = decimal_numeric(value, numeric);
    decimal_t back;
    ck_assert_msg(length <= sizeof numeric && decimal_from_numeric(numeric, length, &back) && back == value,
                  "numeric changed %s", text);
}

START_TEST(parsing_and_printing_agree_with_paper)
{
    seed_random();
    for (int round = 0; round < 200000; round++) {
        char text[160];
        char expected[160];
        char printed[DECIMAL_TEXT_BYTES];
        struct paper paper;
        decimal_t value;
        random_number(text);
        paper_read(&paper, text);
        enum decimal_error error = decimal_parse(text, strlen(text), &value);
        ck_assert_msg(error == paper_judge(&paper), "%s: %d", text, error);
        if (error != DECIMAL_OK)
            continue;
        paper_print(&paper, expected);
        decimal_text(value, printed);
        ck_assert_msg(strcmp(printed, expected) == 0, "%s: printed %s, expected %s", text, printed, expected);
        assert_round_trip(value, text);
    }
}
END_TEST

START_TEST(any_128_bits_survive_numeric)
{
    seed_random();
    for (int round = 0; round < 100000; round++) {
        unsigned __int128 bits = 0;
        for (int i = 0; i < 5; i++)
            bits = bits << 31 | random_below(0x7fffffff);
        assert_round_trip((decimal_t)(bits << 1) >> random_below(127), "random bits");
    }
    assert_round_trip((decimal_t)((unsigned __int128)1 << 127), "the least");
    assert_round_trip((decimal_t)(~(unsigned __int128)0 >> 1), "the most");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, spellings_of_one_number_are_equal);
    tcase_add_test(tests, only_numbers_by_the_grammar_of_json_are_numbers);
    tcase_add_test(tests, limits_are_exact);
    tcase_add_test(tests, an_exponent_may_make_up_for_a_million_digits);
    tcase_add_test(tests, text_is_the_shortest_exact_one);
    tcase_add_test(tests, sums_stop_at_128_bits);
    tcase_add_test(tests, numeric_is_what_postgresql_sends);
    tcase_add_test(tests, a_numeric_that_does_not_fit_is_refused);
    tcase_add_test(tests, parsing_and_printing_agree_with_paper);
    tcase_add_test(tests, any_128_bits_survive_numeric);
}

int main(void)
{
    return run_suite("decimal", add_tests);
}
