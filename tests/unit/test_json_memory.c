/* JSON texts read where memory runs out: what comes is the whole document or none, never another one. */
#include "consumer/json_load.h"
#include "consumer/mint.h"

#include <check.h>
#include <stdio.h>

#include "failing_memory.h"
#include "suite.h"

enum { FLAGS = JSON_DECODE_ANY | JSON_ALLOW_NUL, LONGEST = 300, TEXT_BYTES = 4000 };

static bool is_same(const json_t *document, const json_t *expected)
{
    return expected ? json_equal(document, expected) : !document;
}

/* Reads it with each allocation failing in turn, alone or with all after it. */
static void fail_each_in_turn(struct text text, uint64_t count)
{
    bool starved;
    json_t *expected = json_load_text(text, FLAGS, NULL, &starved);
    ck_assert(!starved);
    size_t before_bytes = held_bytes;
    for (uint64_t number = 0, failed = 1; failed; number++) {
        fail_allocations(number, count);
        json_t *document = json_load_text(text, FLAGS, NULL, &starved);
        failed = allocations > fail_from;
        fail_no_allocation();
        ck_assert_msg(starved == (failed > 0), "allocation %lu: %.*s", (unsigned long)number,
                      (int)text.length, text.bytes);
        ck_assert_msg(starved ? !document : is_same(document, expected), "another document: %.*s",
                      (int)text.length, text.bytes);
        json_decref(document);
        ck_assert_uint_eq(held_bytes, before_bytes);
    }
    json_decref(expected);
    ck_assert_uint_eq(held_bytes, 0);
}

static void fail_alone_and_with_all_after(const char *text)
{
    fail_each_in_turn(text_of(text), 1);
    fail_each_in_turn(text_of(text), UINT64_MAX);
}

/* So many letters in place of %s, and a token of each length: at some of them its text has to grow, in its
 * middle, at its end, and for the byte behind it. */
static void tokens_of_each_length(const char *format, char letter)
{
    char token[LONGEST + 1], text[TEXT_BYTES];
    for (size_t length = 1; length <= LONGEST; length++) {
        memset(token, letter, length);
        token[length] = '\0';
        snprintf(text, sizeof text, format, token);
        fail_each_in_turn(text_of(text), 1);
    }
}

START_TEST(a_long_string_is_read_whole_or_not_at_all)
{
    tokens_of_each_length("[\"%s\"]", 'a');
    tokens_of_each_length("[\"%s\\u00e9\\n\"]", 'a');
    tokens_of_each_length("{\"%s\": {\"b\": null}}", 'a');
}
END_TEST

START_TEST(a_long_number_is_read_whole_or_not_at_all)
{
    tokens_of_each_length("[0.%s, 1]", '3');
    tokens_of_each_length("[1.%se-7]", '0');
    tokens_of_each_length("[-1%s]", '2'); /* most of them are too large, and no document */
}
END_TEST

START_TEST(a_document_is_read_whole_or_not_at_all)
{
    fail_alone_and_with_all_after(
        "{\"type\": \"flag\", \"decision_id\": \"0123456789abcdef0123456789abcdef\", \"scope\": "
        "{\"user_id\": "
        "\"somebody with a name of more than thirty-two bytes\"}, \"used\": \"100000000000000000.417\", "
        "\"list\": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, true, false, null, -1.5e300, {}, []], "
        "\"sequence\": [12, 9223372036854775807], \"\": \"\\ud83d\\ude00 \\\"quoted\\\"\"}");
}
END_TEST

START_TEST(what_is_no_json_is_said_to_be_none_only_with_memory_to_tell)
{
    static const char *const texts[] = {"",
                                        "{\"a\": [1, 2}",
                                        "{\"a\": \"b\", \"a long name without an end",
                                        "[\"\xff\"]",
                                        "[1] and something behind it",
                                        "[truethatistoolong]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        fail_alone_and_with_all_after(texts[i]);
}
END_TEST

START_TEST(what_is_wrong_is_told)
{
    bool starved;
    json_error_t error;
    ck_assert_ptr_null(json_load_text(TEXT("{\"a\": }"), 0, &error, &starved));
    ck_assert_str_eq(error.text, "unexpected token near '}'");
    ck_assert_int_eq(error.position, 7);
    ck_assert_ptr_null(json_load_text((struct text){NULL, 0}, 0, NULL, &starved));
    ck_assert(!starved);
}
END_TEST

START_TEST(an_event_that_finds_no_memory_is_not_refused_as_wrong)
{
    static const char line[] = "{\"event_id\": \"e1\", \"timestamp\": 1795310866576, \"customer_id\": "
                               "\"a customer with a long name\", \"quantity\": 123456789.123456789}";
    for (uint64_t number = 0, failed = 1; failed; number++) {
        struct mint mint = {0};
        struct minted minted;
        fail_allocations(number, 1);
        enum mint_outcome outcome =
            mint_event(&mint, text_of(line), 1795310866576, (const uint64_t[2]){1, 2}, &minted);
        failed = allocations > fail_from;
        fail_no_allocation();
        ck_assert_int_eq(outcome, failed ? MINT_NO_MEMORY : MINT_DONE);
        ck_assert(failed || text_equal(minted.customer_id, TEXT("a customer with a long name")));
        mint_free(&mint);
        ck_assert_uint_eq(held_bytes, 0);
    }
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_long_string_is_read_whole_or_not_at_all);
    tcase_add_test(tests, a_long_number_is_read_whole_or_not_at_all);
    tcase_add_test(tests, a_document_is_read_whole_or_not_at_all);
    tcase_add_test(tests, what_is_no_json_is_said_to_be_none_only_with_memory_to_tell);
    tcase_add_test(tests, what_is_wrong_is_told);
    tcase_add_test(tests, an_event_that_finds_no_memory_is_not_refused_as_wrong);
}

int main(void)
{
    return run_suite("json_memory", add_tests);
}
