/* Which values are JSON, and which JSON may be an event. */
#include <stdio.h>

#include "event_fixture.h"
#include "suite.h"

START_TEST(unknown_fields_are_kept_and_never_refused)
{
    assert_accepted(EVENT("\"x\":{\"x\":1,\"x\":2},\"y\":[[[]]],\"metadat\":1,\"metadata2\":2,\"\":3"));
    assert_accepted(EVENT("\"x\":{\"metadata\":{\"run_id\":7},\"event_id\":8}"));
    assert_accepted(METADATA("\"quantity\":true,\"plan_tier\":[],\"nested\":{\"run_id\":1}"));
    assert_accepted(EVENT("\"n\":123456789012345678901234567890,\"m\":1e999,\"o\":-0.0e-0"));
}
END_TEST

START_TEST(keys_at_top_level_come_once)
{
    assert_refused(REFUSAL_DUPLICATE_KEY, EVENT("\"quantity\":1"));
    assert_refused(REFUSAL_DUPLICATE_KEY, EVENT("\"quantit\\u0079\":1"));
    assert_refused(REFUSAL_DUPLICATE_KEY, EVENT("\"metadata\":{},\"metadata\":{}"));
    assert_refused(REFUSAL_DUPLICATE_KEY, EVENT("\"model\":null,\"model\":null"));
    assert_refused(REFUSAL_DUPLICATE_KEY, EVENT("\"a\":1,\"b\":2,\"\\u0061\":3"));
    assert_refused(REFUSAL_DUPLICATE_KEY, EVENT("\"\":1,\"\":2"));
    assert_accepted(EVENT("\"a\":{\"b\":1,\"b\":2},\"b\":[{\"a\":1,\"a\":2}]"));
}
END_TEST

/* As many keys as fit, all of one length, the first repeated as the last or not. */
static char *many_keys(bool repeat)
{
    static char json[EVENT_VALUE_LIMIT_BYTES + 1];
    char *at = stpcpy(json, "{" BASE ",\"quantity\":1");
    for (int i = 0; at - json < EVENT_VALUE_LIMIT_BYTES - 40; i++)
        at += sprintf(at, ",\"%06x\":1", i * 7919 % 0x1000000);
    strcpy(at, repeat ? ",\"000000\":1}" : "}");
    return json;
}

START_TEST(a_document_full_of_keys_is_judged_in_bounded_time)
{
    assert_accepted(many_keys(false));
    assert_refused(REFUSAL_DUPLICATE_KEY, many_keys(true));
}
END_TEST

START_TEST(a_value_has_at_most_one_mebibyte)
{
    const char *empty = filled(EVENT("\"x\":\"#\""), "x", 0);
    size_t room = EVENT_VALUE_LIMIT_BYTES - strlen(empty);
    assert_accepted(filled(EVENT("\"x\":\"#\""), "x", room));
    assert_refused(REFUSAL_TOO_LARGE, filled(EVENT("\"x\":\"#\""), "x", room + 1));
    assert_refused(REFUSAL_NOT_JSON, filled("#", "[", EVENT_VALUE_LIMIT_BYTES));
    assert_refused(REFUSAL_TOO_LARGE, filled("#", "[", EVENT_VALUE_LIMIT_BYTES + 1));
}
END_TEST

START_TEST(an_empty_value_is_refused)
{
    assert_refused(REFUSAL_EMPTY_VALUE, "");
    ck_assert_int_eq(decode((struct text){NULL, 0}), REFUSAL_EMPTY_VALUE);
    assert_refused(REFUSAL_NOT_JSON, " ");
    assert_refused(REFUSAL_NOT_JSON, "\n\t\r ");
}
END_TEST

START_TEST(nesting_has_a_limit)
{
    char json[4096];
    for (int depth = 31; depth <= 33; depth++) {
        char open[1024] = "";
        char close[1024] = "";
        memset(open, '[', (size_t)depth - 1);
        memset(close, ']', (size_t)depth - 1);
        sprintf(json, "{" BASE ",\"quantity\":1,\"x\":%s%s}", open, close);
        if (depth <= 32)
            assert_accepted(json);
        else
            assert_refused(REFUSAL_TOO_DEEP, json);
        sprintf(json, "{" BASE ",\"quantity\":1,\"x\":%s%s", open, close);
        assert_refused(REFUSAL_NOT_JSON, json);
    }
}
END_TEST

START_TEST(only_objects_are_events)
{
    static const char *const others[] = {"[]",    "[{}]", "1",       "\"x\"",      "true",
                                         "false", "null", " [1,2] ", "\"\\ud800\""};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_refused(REFUSAL_NOT_AN_OBJECT, others[i]);
    assert_accepted(" \t\r\n" QUANTITY("1") " \t\r\n");
}
END_TEST

static const char *const not_json[] = {
    "{",
    "}",
    "{]",
    "[}",
    "{}}",
    "{}{}",
    "{},",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{,\"a\":1}",
    "{\"a\" 1}",
    "{a:1}",
    "{'a':1}",
    "{1:1}",
    "{null:1}",
    "{\"a\":1 1}",
    "{\"a\":1;}",
    "{\"a\":tru}",
    "{\"a\":truee}",
    "{\"a\":True}",
    "{\"a\":nul}",
    "{\"a\":NaN}",
    "{\"a\":01}",
    "{\"a\":1.}",
    "{\"a\":.1}",
    "{\"a\":+1}",
    "{\"a\":1e}",
    "{\"a\":-}",
    "{\"a\":1e+}",
    "{\"a\":0x1}",
    "{\"a\":[1,]}",
    "{\"a\":[,1]}",
    "{\"a\":[1 2]}",
    "{\"a\":[}",
    "{\"a\":{}",
    "{\"a\":\"",
    "{\"a\":\"\\x\"}",
    "{\"a\":\"\\u12g4\"}",
    "{\"a\":\"\\u12\"}",
    "{\"a\":\"\t\"}",
    "{\"a\":\"x\ny\"}",
    "{\"a\":\"x\"\"y\"}",
    "{\"a\":1\"x\"}",
    "{\"a\":\"x\"1}",
    "{\"a\\\":1}",
    "\\{}",
    "{}\\",
    "{}x",
    "x{}",
    "{}/**/",
    "\xef\xbb\xbf{}",
    "{\"a\":1}\v",
    "{\"a\":\f1}",
    "{\"a\":--1}",
    "{\"a\":[[[]]}",
    "{\"a\":truefalse}",
    "{\"a\":null\"b\"}",
    "{\"a\"::1}",
    "{\"a\":1,,\"b\":2}",
    "{:1}",
    "{\"\"",
};

START_TEST(every_byte_is_validated)
{
    for (size_t i = 0; i < sizeof not_json / sizeof *not_json; i++)
        assert_refused(REFUSAL_NOT_JSON, not_json[i]);
    ck_assert_int_eq(decode(TEXT("{}\0")), REFUSAL_NOT_JSON);
    ck_assert_int_eq(decode(TEXT("{\"a\":1\0}")), REFUSAL_NOT_JSON);
    ck_assert_int_eq(decode(TEXT("{\"a\":\"\0\"}")), REFUSAL_NOT_JSON);
    ck_assert_int_eq(decode(TEXT("\0")), REFUSAL_NOT_JSON);
}
END_TEST

START_TEST(strings_hold_unicode_without_nul)
{
    static const char *const bad[] = {"\\u0000",
                                      "\\ud800",
                                      "\\udc00",
                                      "\\ud800x",
                                      "\\ud800\\n",
                                      "\\udc00\\ud800",
                                      "\\ud800\\ud800\\udc00",
                                      "\\uDBFF\\uE000"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_refused(REFUSAL_BAD_STRING, filled(EVENT("\"x\":[\"#\"]"), bad[i], 1));
        assert_refused(REFUSAL_BAD_STRING, filled(EVENT("\"x#\":1"), bad[i], 1));
    }
    assert_accepted(EVENT("\"x\":\"\\uD800\\uDC00\\udbff\\udfff\\u0001\\ud7ff\\ue000\\uffff\""));
    assert_refused(REFUSAL_NOT_JSON, EVENT("\"x\":\"\\ud800\\u12\""));
}
END_TEST

START_TEST(values_are_utf8)
{
    static const char *const bad[] = {
        "\x80", "\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_refused(REFUSAL_NOT_UTF8, filled(EVENT("\"x\":\"#\""), bad[i], 1));
        assert_refused(REFUSAL_NOT_UTF8, filled(EVENT("\"x\":\"# "), bad[i], 1));
        assert_refused(REFUSAL_NOT_UTF8, filled("\n\"\x01#", bad[i], 1));
    }
}
END_TEST

START_TEST(the_reason_does_not_depend_on_the_order_of_keys)
{
    assert_refused(REFUSAL_WRONG_TYPE, "{" BASE ",\"kind\":1,\"quantity\":-1,\"timestamp\":\"x\"}");
    assert_refused(REFUSAL_WRONG_TYPE, "{\"timestamp\":\"x\",\"quantity\":-1,\"kind\":1," BASE "}");
    assert_refused(REFUSAL_NOT_JSON,
                   "{\"a\":\"\\u0000\",\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]],\"b\":tru}");
    assert_refused(REFUSAL_BAD_STRING, "{\"a\":1,\"a\":2,\"b\":\"\\u0000\"}");
    assert_refused(REFUSAL_DUPLICATE_KEY, "{\"a\":1,\"a\":2}");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, unknown_fields_are_kept_and_never_refused);
    tcase_add_test(tests, keys_at_top_level_come_once);
    tcase_add_test(tests, a_document_full_of_keys_is_judged_in_bounded_time);
    tcase_add_test(tests, a_value_has_at_most_one_mebibyte);
    tcase_add_test(tests, an_empty_value_is_refused);
    tcase_add_test(tests, nesting_has_a_limit);
    tcase_add_test(tests, only_objects_are_events);
    tcase_add_test(tests, every_byte_is_validated);
    tcase_add_test(tests, strings_hold_unicode_without_nul);
    tcase_add_test(tests, values_are_utf8);
    tcase_add_test(tests, the_reason_does_not_depend_on_the_order_of_keys);
}

int main(void)
{
    return run_suite("event_document", add_tests);
}
