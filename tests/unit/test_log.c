/* What the log promises: one line per event whatever a field holds, in both formats, never cut in half. */
#include <check.h>
#include <jansson.h>
#include <pthread.h>
#include <unistd.h>
#include <stdio.h>

#include "log.h"
#include "suite.h"

static char line[65536];

/* Runs body with standard error in a pipe; what it wrote is in line. */
#define CAPTURE(body)                                                                                        \
    do {                                                                                                     \
        int saved, reader = begin_capture(&saved);                                                           \
        body;                                                                                                \
        end_capture(saved, reader);                                                                          \
    } while (0)

static int begin_capture(int *saved)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    *saved = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    return ends[0];
}

static void end_capture(int saved, int reader)
{
    size_t used = 0;
    dup2(saved, STDERR_FILENO);
    close(saved);
    for (ssize_t got = 1; got > 0; used += (size_t)got) {
        got = read(reader, line + used, sizeof line - 1 - used);
        ck_assert_int_ge(got, 0);
    }
    line[used] = 0;
    close(reader);
}

/* The line without its time, which must be 24 bytes such as 2026-11-02T18:00:00.123Z. */
static const char *after_time(const char *start)
{
    ck_assert_int_eq(strncmp(line, start, strlen(start)), 0);
    const char *time = line + strlen(start);
    ck_assert_int_eq(strncmp(time, "20", 2), 0);
    ck_assert_int_eq(time[10], 'T');
    ck_assert_int_eq(time[19], '.');
    ck_assert_int_eq(time[23], 'Z');
    return time + 24;
}

START_TEST(logfmt_shows_each_type)
{
    CAPTURE(log_info("lane taken over", LOG_INT("lane", -3), LOG_UINT("rows", UINT64_MAX),
                     LOG_BOOL("idle", false), LOG_MS("took_ms", 12345), LOG_TEXT("owner", "host-7"),
                     LOG_TEXT("none", NULL)));
    ck_assert_str_eq(after_time("time="),
                     " level=info msg=\"lane taken over\" lane=-3 rows=18446744073709551615 "
                     "idle=false took_ms=12.345 owner=host-7 none=\"\"\n");
}
END_TEST

START_TEST(json_shows_each_type)
{
    log_configure(LOG_DEBUG, LOG_JSON);
    CAPTURE(log_debug("lane taken over", LOG_INT("lane", -3), LOG_UINT("rows", UINT64_MAX),
                      LOG_BOOL("idle", true), LOG_MS("took_ms", -1), LOG_TEXT("owner", "host-7")));
    ck_assert_str_eq(
        after_time("{\"time\":\""),
        "\",\"level\":\"debug\",\"msg\":\"lane taken over\",\"lane\":-3,\"rows\":18446744073709551615,"
        "\"idle\":true,\"took_ms\":-0.001,\"owner\":\"host-7\"}\n");
}
END_TEST

static const struct {
    const char *bytes;
    const char *logfmt;
    const char *json; /* what a reader of the JSON gets; NULL: the bytes themselves */
} hostile[] = {
    {"a b", "\"a b\"", NULL},
    {"a=b", "\"a=b\"", NULL},
    {"\"", "\"\\\"\"", NULL},
    {"\\n", "\"\\\\n\"", NULL},
    {"a\nlevel=error", "\"a\\nlevel=error\"", NULL},
    {"\r\x1b[2J", "\"\\r\\x1b[2J\"", NULL},
    {"\x7f", "\"\\x7f\"", NULL},
    {"\xc2\x9b", "\"\\u009b\"", NULL},     /* a one-character escape sequence */
    {"\xe2\x80\xae", "\"\\u202e\"", NULL}, /* turns the line around */
    {"\xff\xfe", "\"\\xff\\xfe\"", "\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xc0\xaf", "\"\\xc0\\xaf\"", "\xef\xbf\xbd\xef\xbf\xbd"},                      /* '/' in two bytes */
    {"\xed\xa0\x80", "\"\\xed\\xa0\\x80\"", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a lone surrogate */
    {"\xe2\x82", "\"\\xe2\\x82\"", "\xef\xbf\xbd\xef\xbf\xbd"},
    {"Zoë 😀", "\"Zoë 😀\"", NULL},
};

START_TEST(hostile_bytes_stay_inside_their_logfmt_value)
{
    CAPTURE(log_info("x", LOG_TEXT("customer", hostile[_i].bytes), LOG_INT("lane", 1)));
    char expected[256];
    snprintf(expected, sizeof expected, " level=info msg=x customer=%s lane=1\n", hostile[_i].logfmt);
    ck_assert_str_eq(after_time("time="), expected);
}
END_TEST

START_TEST(hostile_bytes_stay_inside_their_json_value)
{
    log_configure(LOG_INFO, LOG_JSON);
    CAPTURE(log_info("x", LOG_TEXT("customer", hostile[_i].bytes), LOG_INT("lane", 1)));
    json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_ptr_nonnull(object);
    ck_assert_str_eq(json_string_value(json_object_get(object, "customer")),
                     hostile[_i].json ? hostile[_i].json : hostile[_i].bytes);
    ck_assert_int_eq(json_integer_value(json_object_get(object, "lane")), 1);
    ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
    json_decref(object);
}
END_TEST

START_TEST(a_view_may_hold_nul)
{
    CAPTURE(log_info("x", LOG_VIEW("id", ((struct text){"a\0b", 3}))));
    ck_assert_str_eq(after_time("time="), " level=info msg=x id=\"a\\x00b\"\n");
}
END_TEST

/* A character of escapes only takes six bytes of the line each. */
START_TEST(a_line_is_bounded_and_whole_whatever_it_is_given)
{
    static char bytes[100000];
    memset(bytes, _i % 2 ? '\x01' : 'y', sizeof bytes - 1);
    struct log_field fields[21];
    for (int i = 0; i < 20; i++)
        fields[i] = LOG_TEXT("field", bytes + (i == 0 ? 0 : sizeof bytes - 20 * (size_t)i));
    fields[20] = LOG_END;
    log_configure(LOG_INFO, _i < 2 ? LOG_JSON : LOG_LOGFMT);
    CAPTURE(log_write(LOG_INFO, bytes, fields));
    ck_assert_uint_le(strlen(line), LOG_LINE_BYTES);
    ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
    ck_assert_ptr_nonnull(strstr(line, _i < 2 ? "\"clipped\":true}\n" : " clipped=true\n"));
    ck_assert_ptr_nonnull(strstr(line, "…"));
    json_t *object = json_loads(line, 0, NULL);
    ck_assert_int_eq(object != NULL, _i < 2);
    json_decref(object);
}
END_TEST

START_TEST(what_is_below_the_level_is_not_written)
{
    log_configure(LOG_WARNING, LOG_LOGFMT);
    CAPTURE(log_info("silent"); log_debug("silent"); log_warning("heard"); log_error("heard"));
    ck_assert_ptr_null(strstr(line, "silent"));
    ck_assert_ptr_nonnull(strstr(line, "level=warning msg=heard\n"));
    ck_assert_ptr_nonnull(strstr(line, "level=error msg=heard\n"));
}
END_TEST

static void *write_lines(void *unused)
{
    for (int i = 0; i < 100; i++)
        log_info("a line of one of several threads", LOG_INT("number", i));
    return unused;
}

START_TEST(lines_of_several_threads_never_mix)
{
    pthread_t threads[4];
    CAPTURE(for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, write_lines, NULL);
            for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL));
    int count = 0;
    for (char *start = line; *start; start = strchr(start, '\n') + 1, count++)
        ck_assert_int_eq(
            strncmp(start + 29, " level=info msg=\"a line of one of several threads\" number=", 57), 0);
    ck_assert_int_eq(count, 400);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, logfmt_shows_each_type);
    tcase_add_test(tests, json_shows_each_type);
    tcase_add_loop_test(tests, hostile_bytes_stay_inside_their_logfmt_value, 0,
                        sizeof hostile / sizeof *hostile);
    tcase_add_loop_test(tests, hostile_bytes_stay_inside_their_json_value, 0,
                        sizeof hostile / sizeof *hostile);
    tcase_add_test(tests, a_view_may_hold_nul);
    tcase_add_loop_test(tests, a_line_is_bounded_and_whole_whatever_it_is_given, 0, 4);
    tcase_add_test(tests, what_is_below_the_level_is_not_written);
    tcase_add_test(tests, lines_of_several_threads_never_mix);
}

int main(void)
{
    return run_suite("log", add_tests);
}
