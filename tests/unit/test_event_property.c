/* The decoder accepts and refuses exactly what the reference does, and reads the same from what it accepts,
 * on generated events that are then damaged. SEED=… replays a run, ROUNDS=… makes it longer. */
#include "event_compare.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "suite.h"

#define NOW_US ((int64_t)1795339800000000) /* 2026-11-22T09:30:00Z */

enum { ROUNDS_BY_DEFAULT = 60000, BUFFER_BYTES = 1 << 16 };

static uint64_t random_state;

static unsigned below(unsigned bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % bound;
}

static bool one_in(unsigned count)
{
    return below(count) == 0;
}

#define PICK(array) ((array)[below(sizeof(array) / sizeof *(array))])

/* The document being made. */
static char buffer[BUFFER_BYTES * 2];
static size_t used;

static void put(const char *text)
{
    size_t length = strlen(text);
    if (used + length > BUFFER_BYTES)
        return;
    memcpy(buffer + used, text, length);
    used += length;
}

static void put_space(void)
{
    static const char *const spaces[] = {" ", "\n", "\t", "\r", "  \n\t ", "                          "};
    if (one_in(12))
        put(PICK(spaces));
}

/* Values that suit no field, or any. */
static const char *const odd[] = {
    "null",
    "true",
    "false",
    "0",
    "7",
    "-1",
    "1.5",
    "1e5",
    "{}",
    "[]",
    "\"\"",
    "\"x\"",
    "[{}]",
    "{\"a\":[1,2]}",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"\xf0\x9f\x98\x80\"",
    "\"\xff\"",
    "\"\xed\xa0\x80\"",
    "123456789012345678901234567890",
    "1e999",
    "-0",
    "01",
    "1.",
    ".5",
    "+1",
    "nul",
    "tru",
    "NaN",
    "'x'",
    "\"\\\"\"",
    "\"\\\\\"",
    "\"\\x\"",
    "\"\\u00\"",
    "\"a\tb\"",
    "\"\x7f\"",
};
static const char *const ids[] = {"\"e1\"",       "\"req_8x42jk\"", "\"e\\u0031\"",
                                  "\"\xc3\xa4\"", "\"\\u00e4\"",    "\"a\\/b\""};
static const char *const meters[] = {"\"llm_tokens_in\"", "\"gpu.minutes-1\"", "\"a\\u005fb\"",
                                     "\"a b\"",           "\"a\xc3\xa4\"",     "\"~\""};
static const char *const kinds[] = {"\"usage\"", "\"correction\"", "\"retraction\"", "\"Usage\"",
                                    "\"correctio\\u006e\""};
static const char *const numbers[] = {
    "1",
    "0",
    "-0",
    "12450",
    "0.5",
    "\"0.5\"",
    "\"12450\"",
    "-1",
    "\"-1\"",
    "1e3",
    "1E-9",
    "1e-10",
    "0.0000000001",
    "99999999999999999999.999999999",
    "100000000000000000000",
    "1e20",
    "-1e20",
    "1e19",
    "\"1e19\"",
    "\" 1\"",
    "\"1 \"",
    "\"01\"",
    "\"\"",
    "\"1.\"",
    "\"\\u0031\"",
    "1.0000000000000000000000000000000",
    "10000000000000000000000000000e-9",
    "\"+1\"",
    "1e-400",
    "0e400",
};
static const char *const times[] = {
    "\"2026-11-22T09:30:00Z\"",
    "\"2026-11-22t09:29:59.123456789z\"",
    "\"2026-11-22 10:30:00.1+01:00\"",
    "\"2026-11-22T09:29:60Z\"",
    "\"2026-11-22T09:29:60.9Z\"",
    "\"2024-02-29T00:00:00Z\"",
    "\"2025-02-29T00:00:00Z\"",
    "\"2026-11-31T00:00:00Z\"",
    "\"2026-11-22T24:00:00Z\"",
    "\"2026-11-22T09:30:00\"",
    "\"2026-11-22T09:30:00+24:00\"",
    "\"2026-11-22T09:35:00Z\"",
    "\"2026-11-22T09:35:00.000001Z\"",
    "\"2025-10-18T09:30:00Z\"",
    "\"2025-10-18T09:29:59.999999999Z\"",
    "\"2026-11-22T09:30:00.1234567890Z\"",
    "\"2026-11-22T09:30:00.Z\"",
    "\"0000-01-01T00:00:00+23:59\"",
    "\"9999-12-31T23:59:60Z\"",
    "\"0000-02-29T00:00:00Z\"",
    "\"2100-02-29T00:00:00Z\"",
    "1795339800",
    "1795339800000",
    "1795339800.0",
    "99999999999",
    "100000000000",
    "-1",
    "0",
    "1e9",
    "9223372036854775807",
    "9223372036854775",
    "-9223372036854775",
    "18446744073709551616",
    "\"\"",
    "\"x\"",
    "\"2026-11-22T09:30:00\\u005a\"",
};
static const char *const texts[] = {"\"a\"",       "\"claude-4.5-sonnet\"", "\"\"",
                                    "\"run\\n1\"", "\"\xe2\x82\xac\"",      "\"\\u20ac\""};
static const char *const windows[] = {"128000", "\"200k\"", "-1",
                                      "1.0",    "1e5",      "123456789012345678901234567890"};

/* Where a field stands, and what it is given. */
struct generated {
    const char *name;
    const char *const *values;
    size_t value_count;
};
#define GIVEN(name, values)                                                                                  \
    {                                                                                                        \
        name, values, sizeof values / sizeof *values                                                         \
    }

static const struct generated required[] = {GIVEN("event_id", ids), GIVEN("customer_id", ids),
                                            GIVEN("meter", meters), GIVEN("quantity", numbers)};
static const struct generated optional[] = {
    GIVEN("timestamp", times), GIVEN("kind", kinds),  GIVEN("corrects", ids),
    GIVEN("reason", texts),    GIVEN("model", texts), GIVEN("account_id", ids),
    GIVEN("x", odd),           GIVEN("x2", odd),      GIVEN("", odd),
};
static const struct generated lifted[] = {
    GIVEN("provider", texts),
    GIVEN("service_tier", texts),
    GIVEN("gpu_type", texts),
    GIVEN("agent_id", texts),
    GIVEN("run_id", texts),
    GIVEN("parent_run_id", texts),
    GIVEN("user_id", texts),
    GIVEN("operation", texts),
    GIVEN("tool_name", texts),
    GIVEN("context_window", windows),
    GIVEN("model", texts),
    GIVEN("quantity", odd),
    GIVEN("", odd),
};
static const struct generated policy[] = {GIVEN("plan_tier", texts), GIVEN("credit_balance", numbers),
                                          GIVEN("contractual_cap", numbers), GIVEN("event_id", odd)};

static void put_key(const char *name)
{
    char escaped[16];
    put("\"");
    if (*name && one_in(20)) {
        sprintf(escaped, "\\u%04x", (unsigned char)*name++);
        put(escaped);
    }
    put(name);
    put("\"");
    put_space();
    put(":");
}

/* Runs of one letter around every limit of length. */
static void put_long(void)
{
    static const unsigned lengths[] = {63, 64, 65, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025};
    static const char *const units[] = {"m", "m", "7", "\xc3\xa4", "\\u006d", "\\ud83d\\ude00"};
    const char *unit = PICK(units);
    put("\"");
    for (unsigned length = PICK(lengths); length > 0; length--)
        put(unit);
    put("\"");
}

static void put_nested(void)
{
    unsigned depth = 28 + below(6);
    for (unsigned i = 0; i < depth; i++)
        put(i % 3 ? "[" : "{\"d\":");
    put("1");
    for (unsigned i = depth; i-- > 0;)
        put(i % 3 ? "]" : "}");
}

static void put_value(const struct generated *field)
{
    put_space();
    if (one_in(60))
        put(PICK(odd));
    else if (one_in(60))
        put_long();
    else if (one_in(200))
        put_nested();
    else
        put(one_in(2) ? field->values[below((unsigned)field->value_count)] : field->values[0]);
    put_space();
}

static void put_member(const struct generated *field, bool *first)
{
    if (!*first)
        put(",");
    *first = false;
    put_space();
    put_key(field->name);
    put_value(field);
}

static void put_object(const char *name, const struct generated *fields, unsigned count, bool *first)
{
    put(*first ? "" : ",");
    *first = false;
    put_key(name);
    put("{");
    bool nested_first = true;
    for (unsigned i = below(count + 1); i > 0; i--)
        put_member(&fields[below(count)], &nested_first);
    put("}");
}

static void put_one(unsigned which, bool *first)
{
    enum { REQUIRED = 4, OPTIONAL = sizeof optional / sizeof *optional };
    if (which < REQUIRED) {
        if (!one_in(80))
            put_member(&required[which], first);
    } else if (which < REQUIRED + OPTIONAL) {
        if (one_in(4))
            put_member(&optional[which - REQUIRED], first);
    } else if (which == REQUIRED + OPTIONAL) {
        if (one_in(2))
            put_object("metadata", lifted, sizeof lifted / sizeof *lifted, first);
    } else if (one_in(3)) {
        put_object("policy_metadata", policy, sizeof policy / sizeof *policy, first);
    }
}

/* All members in a random order, seldom one twice. */
static void make_event(void)
{
    enum { MEMBERS = 4 + sizeof optional / sizeof *optional + 2 };
    unsigned order[MEMBERS];
    for (unsigned i = 0; i < MEMBERS; i++)
        order[i] = i;
    for (unsigned i = 1; i < MEMBERS; i++) {
        unsigned j = below(i + 1);
        unsigned kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    if (one_in(30))
        PICK(order) = PICK(order);
    used = 0;
    bool first = true;
    put_space();
    put("{");
    for (unsigned i = 0; i < MEMBERS; i++)
        put_one(order[i], &first);
    put("}");
    put_space();
}

static void replace(size_t from, size_t length, const char *with, size_t with_length)
{
    if (used - length + with_length > BUFFER_BYTES)
        return;
    memmove(buffer + from + with_length, buffer + from + length, used - from - length);
    memmove(buffer + from, with, with_length);
    used = used - length + with_length;
}

static void damage(void)
{
    static const char *const tokens[] = {"{",    "}",    "[",    "]",        ",",       ":",       "\"",
                                         "\\",   "\\\"", "-",    ".",        "e",       "0",       "1e5",
                                         " ",    "null", "true", "\"\"",     "\\u0000", "\\ud800", "\xff",
                                         "\xc3", "\x01", "\n",   "\"a\":1,", "/"};
    char copy[64];
    size_t at = below((unsigned)used + 1);
    size_t length = below(one_in(4) ? 64 : 4);
    length = length > used - at ? used - at : length;
    const char *token = PICK(tokens);
    char byte = (char)below(256);
    switch (below(6)) {
    case 0:
        replace(at, length, "", 0);
        break;
    case 1:
        replace(at, 0, token, strlen(token));
        break;
    case 2:
        replace(at, at < used, &byte, 1);
        break;
    case 3:
        memcpy(copy, buffer + at, length);
        replace(below((unsigned)used + 1), 0, copy, length);
        break;
    case 4:
        replace(at, length, token, strlen(token));
        break;
    default:
        if (one_in(4))
            used = at;
    }
}

static struct record make_record(struct record_header headers[2])
{
    static const struct text ids_there[] = {TEXT("e1"),   TEXT("e1"), TEXT("e2"), TEXT(""),
                                            TEXT("\xff"), TEXT("\0"), {NULL, 0}};
    static const struct text times_there[] = {TEXT("1795339790000"), TEXT("0"), TEXT("x"), TEXT(""),
                                              TEXT("1e3"),           {NULL, 0}};
    struct record record = {.time_ms = one_in(20) ? -1 : NOW_US / 1000, .headers = headers};
    if (one_in(6))
        headers[record.header_count++] = (struct record_header){TEXT("event_id"), PICK(ids_there)};
    if (one_in(6))
        headers[record.header_count++] = (struct record_header){TEXT("usagebox_time"), PICK(times_there)};
    make_event();
    for (unsigned i = one_in(2) ? below(4) : 0; i > 0; i--)
        damage();
    if (one_in(300)) {
        used = 0;
        put(one_in(4) ? "" : PICK(odd));
    }
    return record;
}

static unsigned long long number_from(const char *variable, unsigned long long fallback)
{
    const char *given = getenv(variable);
    return given ? strtoull(given, NULL, 0) : fallback;
}

static void compare(struct reference *ref, struct decoder *decoder, const struct event_rules *rules,
                    unsigned reached[])
{
    struct record_header headers[2];
    struct event expected;
    struct event event;
    struct record record = make_record(headers);
    char *exact = malloc(used + !used); /* so that one byte too far is seen */
    memcpy(exact, buffer, used);
    record.value = (struct text){exact, (uint32_t)used};
    enum refusal right = reference_decode(ref, rules, &record, NOW_US, &expected);
    enum refusal reason = event_decode(decoder, &record, NOW_US, &event);
    ck_assert_msg(reason == right, "%s instead of %s: %s\n%.*s", refusal_names[reason], refusal_names[right],
                  decoder_detail(decoder), (int)used, exact);
    ck_assert_msg(reason != REFUSAL_NONE || same_event(&event, &expected), "read otherwise:\n%.*s", (int)used,
                  exact);
    ck_assert_msg(good_detail(reason, decoder_detail(decoder)), "detail: %s", decoder_detail(decoder));
    reached[reason]++;
    free(exact);
}

START_TEST(it_accepts_and_refuses_exactly_what_the_rules_say)
{
    struct event_rules rules = {.max_age_us = 400 * 86400 * (int64_t)1000000, .max_future_us = 300 * 1000000};
    unsigned long long seed = number_from("SEED", (unsigned long long)time(NULL));
    unsigned long long rounds = number_from("ROUNDS", ROUNDS_BY_DEFAULT);
    unsigned reached[REFUSAL_COUNT] = {0};
    struct reference *ref = reference_new();
    struct decoder *decoder = decoder_new(&rules);
    printf("SEED=%llu ROUNDS=%llu\n", seed, rounds);
    fflush(stdout);
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
    for (unsigned long long round = 0; round < rounds; round++) {
        compare(ref, decoder, &rules, reached);
        if (round % 1000 == 0)
            decoder_reset(decoder);
    }
    for (int reason = 0; reason <= REFUSAL_IN_FUTURE; reason++) {
        printf("%s %u\n", refusal_names[reason], reached[reason]);
        ck_assert_msg(reached[reason] > 0 || reason == REFUSAL_TOO_LARGE || rounds < ROUNDS_BY_DEFAULT,
                      "%s was never reached", refusal_names[reason]);
    }
    reference_free(ref);
    decoder_free(decoder);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, it_accepts_and_refuses_exactly_what_the_rules_say);
}

int main(void)
{
    return run_suite("event_property", add_tests);
}
