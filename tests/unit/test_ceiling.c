#include "consumer/ceiling.h"

#include <check.h>
#include <stdio.h>
#include <time.h>

#include "suite.h"

static int64_t at(const char *text, int64_t us)
{
    struct tm tm = {0};
    ck_assert_int_eq(sscanf(text, "%d-%d-%dT%d:%d:%d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
                            &tm.tm_min, &tm.tm_sec),
                     6);
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return (int64_t)timegm(&tm) * 1000000 + us;
}

static void check_period(enum ceiling_period period, const char *start, const char *end)
{
    int64_t start_us = at(start, 0), end_us = at(end, 0);
    int64_t times_us[] = {start_us, start_us + 1, start_us + (end_us - start_us) / 2, end_us - 1};
    for (size_t i = 0; i < sizeof times_us / sizeof *times_us; i++) {
        ck_assert_int_eq(ceiling_period_start(period, times_us[i]), start_us);
        ck_assert_int_eq(ceiling_period_end(period, times_us[i]), end_us);
    }
    ck_assert_int_eq(ceiling_period_start(period, end_us), end_us);
    ck_assert_int_lt(ceiling_period_start(period, start_us - 1), start_us);
}

START_TEST(periods_begin_and_end_on_utc_boundaries)
{
    check_period(PERIOD_HOUR, "2026-11-22T18:00:00", "2026-11-22T19:00:00");
    check_period(PERIOD_HOUR, "2026-12-31T23:00:00", "2027-01-01T00:00:00");
    check_period(PERIOD_DAY, "2024-02-29T00:00:00", "2024-03-01T00:00:00");
    check_period(PERIOD_DAY, "2026-12-31T00:00:00", "2027-01-01T00:00:00");
    check_period(PERIOD_MONTH, "2026-11-01T00:00:00", "2026-12-01T00:00:00");
    check_period(PERIOD_MONTH, "2026-12-01T00:00:00", "2027-01-01T00:00:00");
    check_period(PERIOD_MONTH, "2026-01-01T00:00:00", "2026-02-01T00:00:00");
}
END_TEST

START_TEST(february_is_as_long_as_its_year_says)
{
    check_period(PERIOD_MONTH, "2023-02-01T00:00:00", "2023-03-01T00:00:00");
    check_period(PERIOD_MONTH, "2024-02-01T00:00:00", "2024-03-01T00:00:00");
    check_period(PERIOD_MONTH, "2000-02-01T00:00:00", "2000-03-01T00:00:00");
    check_period(PERIOD_MONTH, "2100-02-01T00:00:00", "2100-03-01T00:00:00");
    ck_assert_int_eq(ceiling_period_end(PERIOD_MONTH, at("2100-02-28T23:59:59", 999999)),
                     at("2100-03-01T00:00:00", 0));
}
END_TEST

static bool month_agrees(int64_t day)
{
    const int64_t day_us = 86400000000;
    time_t seconds = (time_t)(day * 86400);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    int64_t start_us = (day - tm.tm_mday + 1) * day_us;
    int64_t end_us = ceiling_period_end(PERIOD_MONTH, day * day_us);
    return ceiling_period_start(PERIOD_MONTH, day * day_us) == start_us &&
           ceiling_period_start(PERIOD_MONTH, (day + 1) * day_us - 1) == start_us &&
           ceiling_period_start(PERIOD_MONTH, end_us - 1) == start_us &&
           ceiling_period_start(PERIOD_MONTH, end_us) == end_us;
}

/* Every day of 800 years against the C library. */
START_TEST(months_agree_with_the_calendar)
{
    int64_t wrong = 0;
    for (int64_t day = -200 * 365; day < 600 * 365; day++)
        wrong += !month_agrees(day);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

static struct ceiling rule(const char *name, enum ceiling_who who_kind, const char *who, const char *meter,
                           enum ceiling_period period)
{
    return (struct ceiling){.name = text_of(name),
                            .version = 1,
                            .who_kind = who_kind,
                            .who = text_of(who),
                            .meter = text_of(meter),
                            .period = period,
                            .limit = 10,
                            .clear_level = 10};
}

static void check_walk(const struct ceiling_catalogue *catalogue, const char *meter, const char *customer_id,
                       uint32_t period_mask, const char *names)
{
    char found[200] = "";
    struct ceiling_walk walk = ceiling_walk(catalogue, text_of(meter), text_of(customer_id));
    ck_assert_uint_eq(walk.period_mask, period_mask);
    const struct ceiling *ceiling;
    while ((ceiling = ceiling_walk_next(&walk))) {
        strncat(found, ceiling->name.bytes, ceiling->name.length);
        strcat(found, " ");
    }
    ck_assert_str_eq(found, names);
}

START_TEST(a_customer_meets_its_ceilings_in_the_catalogues_order)
{
    const struct ceiling rules[] = {
        rule("own-day", WHO_CUSTOMER, "acme", "tokens", PERIOD_DAY),
        rule("all-month", WHO_EVERYONE, "", "tokens", PERIOD_MONTH),
        rule("other", WHO_CUSTOMER, "bolt", "tokens", PERIOD_HOUR),
        rule("own-month", WHO_CUSTOMER, "acme", "tokens", PERIOD_MONTH),
        rule("plan-day", WHO_PLAN, "pro", "tokens", PERIOD_DAY),
        rule("calls", WHO_EVERYONE, "", "tool_calls", PERIOD_HOUR),
    };
    struct ceiling_catalogue *catalogue = ceiling_catalogue_new(6);
    for (size_t i = 0; i < 6; i++)
        ck_assert(ceiling_catalogue_add(catalogue, &rules[i]));
    check_walk(catalogue, "tokens", "acme", 6, "own-day all-month own-month plan-day ");
    check_walk(catalogue, "tokens", "bolt", 7, "all-month other plan-day ");
    check_walk(catalogue, "tokens", "zed", 6, "all-month plan-day ");
    check_walk(catalogue, "tool_calls", "acme", 1, "calls ");
    check_walk(catalogue, "gpu_minutes", "acme", 0, "");
    check_walk(NULL, "tokens", "acme", 0, "");
    ceiling_catalogue_free(catalogue);
}
END_TEST

START_TEST(a_name_stands_for_one_ceiling_and_capacity_holds)
{
    struct ceiling_catalogue *catalogue = ceiling_catalogue_new(2);
    struct ceiling one = rule("one", WHO_EVERYONE, "", "tokens", PERIOD_DAY);
    ck_assert(ceiling_catalogue_add(catalogue, &one));
    ck_assert(!ceiling_catalogue_add(catalogue, &one));
    one.name = TEXT("two");
    ck_assert(ceiling_catalogue_add(catalogue, &one));
    one.name = TEXT("three");
    ck_assert(!ceiling_catalogue_add(catalogue, &one));
    ck_assert_ptr_eq(ceiling_catalogue_find(catalogue, TEXT("two")), &catalogue->ceilings[1]);
    ck_assert_ptr_null(ceiling_catalogue_find(catalogue, TEXT("three")));
    ceiling_catalogue_free(catalogue);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, periods_begin_and_end_on_utc_boundaries);
    tcase_add_test(tests, february_is_as_long_as_its_year_says);
    tcase_add_test(tests, months_agree_with_the_calendar);
    tcase_add_test(tests, a_customer_meets_its_ceilings_in_the_catalogues_order);
    tcase_add_test(tests, a_name_stands_for_one_ceiling_and_capacity_holds);
}

int main(void)
{
    return run_suite("ceiling", add_tests);
}
