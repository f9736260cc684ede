#include "consumer/printable.h"

#include <check.h>
#include <stdlib.h>
#include <stdio.h>

#include "suite.h"

#define VIEW(literal) ((struct text){literal, sizeof(literal) - 1})

static char *written;
static size_t written_bytes;

static void expect(enum printable_style style, struct text text, const char *shown)
{
    FILE *out = open_memstream(&written, &written_bytes);
    printable_write(style, text, out);
    ck_assert_int_eq(fclose(out), 0);
    ck_assert_str_eq(written, shown);
    free(written);
}

static void expect_word(struct text text, const char *shown)
{
    FILE *out = open_memstream(&written, &written_bytes);
    printable_word(text, out);
    ck_assert_int_eq(fclose(out), 0);
    ck_assert_str_eq(written, shown);
    free(written);
}

START_TEST(what_commands_a_terminal_is_escaped)
{
    expect(PRINTABLE_PLAIN, VIEW("\x1b[2J\x07\x7f"), "\\x1b[2J\\x07\\x7f");
    expect(PRINTABLE_PLAIN,
           VIEW("\xc2\x9b"
                "31m"),
           "\\u009b31m");
    expect(PRINTABLE_PLAIN, VIEW("a\nb\rc\td"), "a\\nb\\rc\\td");
    expect(PRINTABLE_PLAIN, VIEW("a\0b"), "a\\x00b");
}
END_TEST

START_TEST(what_turns_a_line_around_or_is_not_seen_is_escaped)
{
    expect(PRINTABLE_PLAIN, VIEW("\u202e\u2066\u061c\u200b\ufeff\u2028"),
           "\\u202e\\u2066\\u061c\\u200b\\ufeff\\u2028");
    expect(PRINTABLE_PLAIN, VIEW("\U000e0041"), "\\U000e0041");
    expect(PRINTABLE_JSON, VIEW("\U000e0041"), "\\udb40\\udc41");
}
END_TEST

START_TEST(bytes_that_are_not_utf8_are_escaped)
{
    expect(PRINTABLE_PLAIN, VIEW("a\xff\xc0\xaf\xed\xa0\x80"), "a\\xff\\xc0\\xaf\\xed\\xa0\\x80");
    expect(PRINTABLE_JSON, VIEW("\xff"), "\\ufffd");
}
END_TEST

START_TEST(what_people_write_stays)
{
    expect(PRINTABLE_PLAIN, VIEW("é 漢字 \U0001F469 \"x\\"), "é 漢字 \U0001F469 \"x\\");
    expect(PRINTABLE_QUOTED, VIEW("\"x\\"), "\\\"x\\\\");
}
END_TEST

START_TEST(a_json_document_stays_what_it_is)
{
    expect(PRINTABLE_JSON_DOCUMENT, VIEW("{\n \"a\\n\": \"\xc2\x9b\x7f\u202e\U000e0041é\"\n}\n"),
           "{\n \"a\\n\": \"\\u009b\\u007f\\u202e\\udb40\\udc41é\"\n}\n");
}
END_TEST

START_TEST(no_name_passes_for_several_words)
{
    expect_word(VIEW("acme-co"), "acme-co");
    expect_word(VIEW("a b"), "\"a b\"");
    expect_word(VIEW("\"a\""), "\"\\\"a\\\"\"");
    expect_word(VIEW("a\\n"), "\"a\\\\n\"");
    expect_word(VIEW("a\nb"), "a\\nb");
    expect_word(VIEW(""), "\"\"");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, what_commands_a_terminal_is_escaped);
    tcase_add_test(tests, what_turns_a_line_around_or_is_not_seen_is_escaped);
    tcase_add_test(tests, bytes_that_are_not_utf8_are_escaped);
    tcase_add_test(tests, what_people_write_stays);
    tcase_add_test(tests, a_json_document_stays_what_it_is);
    tcase_add_test(tests, no_name_passes_for_several_words);
}

int main(void)
{
    return run_suite("printable", add_tests);
}
