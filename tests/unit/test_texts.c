/* Texts of any bytes come out whole, escaped, and shortened between characters. */
#include <check.h>

#include "consumer/intern.h"
#include "consumer/sentence.h"
#include "rollup/json_text.h"
#include "suite.h"

static const char *as_json(struct text text)
{
    static char out[200];
    size_t length = json_text_bytes(text);
    ck_assert_uint_lt(length, sizeof out);
    ck_assert_ptr_eq(json_text_put(out, text), out + length);
    out[length] = 0;
    return out;
}

START_TEST(characters_of_every_length_are_kept_and_what_is_none_is_replaced)
{
    static const struct {
        struct text text;
        const char *json;
    } cases[] = {
        {TEXT("plain"), "plain"},
        {TEXT("\"\\\b\f\n\r\t"), "\\\"\\\\\\b\\f\\n\\r\\t"},
        {TEXT("\x01\x1f\x7f"), "\\u0001\\u001f\x7f"},
        {TEXT("a\0b"), "a\xef\xbf\xbd"
                       "b"},
        {TEXT("\xc3\xa4\xe0\xa0\x80\xe2\x82\xac\xed\x9f\xbf\xee\x80\x80"),
         "\xc3\xa4\xe0\xa0\x80\xe2\x82\xac\xed\x9f\xbf\xee\x80\x80"},
        {TEXT("\xf0\x90\x80\x80\xf1\x80\x80\x80\xf4\x8f\xbf\xbf"),
         "\xf0\x90\x80\x80\xf1\x80\x80\x80\xf4\x8f\xbf\xbf"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_str_eq(as_json(cases[i].text), cases[i].json);
    /* overlong, surrogates, beyond U+10FFFF, alone, cut short, wrongly continued */
    static const char *const bad[] = {"\xc0\xaf",
                                      "\xc1\x80",
                                      "\xe0\x9f\xbf",
                                      "\xe0\xc0\x80",
                                      "\xed\xa0\x80",
                                      "\xed\x7f\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf0\xc0\x80\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf4\x7f\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\x80",
                                      "\xc3",
                                      "\xe2\x82",
                                      "\xf0\x9f\x98",
                                      "\xe2\x82x",
                                      "\xf1\x80x\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_uint_eq(utf8_sequence_bytes(bad[i], strlen(bad[i])), 0);
}
END_TEST

START_TEST(a_long_sentence_ends_between_characters)
{
    struct sentence sentence;
    char umlauts[2 * SENTENCE_LIMIT_BYTES + 1] = "";
    for (size_t i = 0; i < SENTENCE_LIMIT_BYTES; i++)
        memcpy(umlauts + 2 * i, "\xc3\xa4", 3);
    sentence_start(&sentence);
    sentence_add(&sentence, text_of(umlauts));
    ck_assert(sentence.full);
    ck_assert_uint_le(sentence.length, SENTENCE_LIMIT_BYTES);
    ck_assert_str_eq(sentence.bytes + sentence.length - 5, "\xc3\xa4\xe2\x80\xa6");
    uint32_t length = sentence.length;
    sentence_add(&sentence, TEXT("more"));
    sentence_addf(&sentence, "%d", 7);
    ck_assert_uint_eq(sentence.length, length);
}
END_TEST

START_TEST(control_characters_are_spelled_out)
{
    struct sentence sentence;
    sentence_start(&sentence);
    sentence_add(&sentence, TEXT("a\x1b\x7f\xc2\x9f\xc2\xa0"));
    ck_assert_str_eq(sentence.bytes, "a\\u001b\\u007f\\u009f\xc2\xa0");
    sentence_start(&sentence);
    sentence_addf(&sentence, "%s", "");
    sentence_quote(&sentence, TEXT("0123456789"), 4);
    ck_assert_uint_lt(sentence.length, 10);
}
END_TEST

START_TEST(long_words_are_interned_as_short_ones_are)
{
    static const char name[] = "a-customer-whose-name-is-longer-than-most-that-anybody-has-ever-seen";
    struct intern intern;
    intern_init(&intern, (struct lookup_seed){{1, 2}});
    size_t before = intern_bytes(&intern);
    uint32_t whole = intern_hold(&intern, ((struct text){name, sizeof name - 1}));
    uint32_t part = intern_hold(&intern, (struct text){name, sizeof name - 2});
    uint32_t word = intern_hold(&intern, TEXT("short"));
    ck_assert_uint_ne(whole, part);
    ck_assert_uint_eq(intern_hold(&intern, ((struct text){name, sizeof name - 1})), whole);
    ck_assert_uint_gt(intern_bytes(&intern), before);
    ck_assert(text_equal(intern_text(&intern, part), (struct text){name, sizeof name - 2}));
    intern_release(&intern, whole);
    ck_assert_uint_eq(intern_find(&intern, ((struct text){name, sizeof name - 1})), whole);
    intern_release(&intern, whole);
    intern_release(&intern, part);
    intern_release(&intern, word);
    ck_assert_uint_ne(intern_find(&intern, ((struct text){name, sizeof name - 1})), whole);
    intern_free(&intern);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, characters_of_every_length_are_kept_and_what_is_none_is_replaced);
    tcase_add_test(tests, a_long_sentence_ends_between_characters);
    tcase_add_test(tests, control_characters_are_spelled_out);
    tcase_add_test(tests, long_words_are_interned_as_short_ones_are);
}

int main(void)
{
    return run_suite("texts", add_tests);
}
