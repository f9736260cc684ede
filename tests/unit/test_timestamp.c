#include "consumer/timestamp.h"

#include <check.h>

#include "suite.h"

static const char *written(int64_t time_us)
{
    static char text[TIMESTAMP_TEXT_BYTES];
    ck_assert_uint_eq(timestamp_text(time_us, text), strlen(text));
    return text;
}

START_TEST(times_are_written_in_utc_with_a_fraction_only_where_there_is_one)
{
    ck_assert_str_eq(written(0), "1970-01-01T00:00:00Z");
    ck_assert_str_eq(written(1795372200000000), "2026-11-22T18:30:00Z");
    ck_assert_str_eq(written(1795372200000001), "2026-11-22T18:30:00.000001Z");
    ck_assert_str_eq(written(1795372200500000), "2026-11-22T18:30:00.500000Z");
    ck_assert_str_eq(written(-1), "1969-12-31T23:59:59.999999Z");
    ck_assert_str_eq(written(951782400000000), "2000-02-29T00:00:00Z");
    ck_assert_str_eq(written(4107542399000000), "2100-02-28T23:59:59Z");
    ck_assert_str_eq(written(253402300799999999), "9999-12-31T23:59:59.999999Z");
}
END_TEST

START_TEST(what_was_written_is_read_back)
{
    int64_t wrong = 0;
    for (int64_t time_us = -60000000000000000; time_us < 200000000000000000; time_us += 86399999998765 / 3) {
        char text[TIMESTAMP_TEXT_BYTES];
        struct text view = {text, (uint32_t)timestamp_text(time_us, text)};
        int64_t read_us;
        wrong += !timestamp_from_rfc3339(view, &read_us) || read_us != time_us;
    }
    ck_assert_int_eq(wrong, 0);
}
END_TEST

static bool is_read(const char *text)
{
    int64_t time_us;
    return timestamp_from_rfc3339(text_of(text), &time_us);
}

START_TEST(a_time_without_its_separators_or_its_offset_is_none)
{
    static const char *const wrong[] = {"2026-11-22T09-30:00Z",      "2026-11-22T09:30-00Z",
                                        "2026-11-22T09:30:00x",      "2026-11-22T09:30:00.123",
                                        "2026-11-22T09:30:00+01-30", "2026-11-22T09:30:00*01:30",
                                        "2026-11-22T09:30:00+01:300"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(!is_read(wrong[i]), "read: %s", wrong[i]);
    ck_assert(is_read("2026-11-22T09:30:00z"));
    ck_assert(is_read("2026-11-22T09:30:00.5-01:30"));
}
END_TEST

START_TEST(an_integer_beyond_64_bits_is_no_time)
{
    static const char *const wrong[] = {"", "-", "9223372036854775808", "92233720368547758070", "1x"};
    int64_t time_us;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(!timestamp_from_integer(text_of(wrong[i]), &time_us), "read: %s", wrong[i]);
    ck_assert(timestamp_from_integer(TEXT("-1"), &time_us));
    ck_assert_int_eq(time_us, -1000000);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, times_are_written_in_utc_with_a_fraction_only_where_there_is_one);
    tcase_add_test(tests, what_was_written_is_read_back);
    tcase_add_test(tests, a_time_without_its_separators_or_its_offset_is_none);
    tcase_add_test(tests, an_integer_beyond_64_bits_is_no_time);
}

int main(void)
{
    return run_suite("timestamp", add_tests);
}
