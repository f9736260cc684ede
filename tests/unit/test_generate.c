/* What `produce --generate` makes is what it says, and the same each time. */
#include <check.h>
#include <jansson.h>
#include <stdlib.h>

#include "event.h"
#include "generate.h"
#include "timestamp.h"
#include "suite.h"

static const struct generate_plan plan = {
    .seed = 42,
    .count = 20000,
    .first_time_us = INT64_C(1790000000123456),
    .span_us = INT64_C(3600000000),
    .customers = 200,
    .duplicate_share = 0.02,
    .late_share = 0.02,
    .bad_share = 0.01,
};

START_TEST(the_same_plan_makes_the_same_bytes_in_any_order)
{
    struct generator *forth = generator_new(&plan), *back = generator_new(&plan);
    for (uint64_t i = 0; i < 3000; i++) {
        generator_make(back, plan.count - 1 - i);
        struct generated a = generator_make(forth, i), b = generator_make(back, i);
        ck_assert_int_eq(a.kind, b.kind);
        ck_assert(text_equal(a.key, b.key) && text_equal(a.value, b.value));
    }
    generator_free(forth);
    generator_free(back);
}
END_TEST

START_TEST(another_seed_makes_other_events)
{
    struct generate_plan other_plan = plan;
    other_plan.seed++;
    struct generator *one = generator_new(&plan), *other = generator_new(&other_plan);
    for (uint64_t i = 0; i < 100; i++)
        ck_assert(!text_equal(generator_make(one, i).value, generator_make(other, i).value));
    generator_free(one);
    generator_free(other);
}
END_TEST

/* Texts kept to be compared later. */
struct kept {
    char **items;
    uint64_t count;
};

static void keep(struct kept *kept, struct text text)
{
    kept->items[kept->count++] = strndup(text.bytes, text.length);
}

static bool is_among_the_last_thousand(const struct kept *kept, struct text text)
{
    for (uint64_t i = kept->count; i-- > 0;) {
        if (strlen(kept->items[i]) == text.length && memcmp(kept->items[i], text.bytes, text.length) == 0)
            return true;
    }
    return false;
}

START_TEST(a_duplicate_repeats_an_event_before_it_and_nothing_else_does)
{
    struct generate_plan few = plan;
    few.count = 5000;
    struct generator *generator = generator_new(&few);
    struct kept kept = {calloc(few.count, sizeof *kept.items), 0};
    uint64_t duplicates = 0;
    for (uint64_t i = 0; i < few.count; i++) {
        struct generated event = generator_make(generator, i);
        if (event.kind != GENERATED_BAD)
            ck_assert_int_eq(is_among_the_last_thousand(&kept, event.value),
                             event.kind == GENERATED_DUPLICATE);
        duplicates += event.kind == GENERATED_DUPLICATE;
        keep(&kept, event.value);
    }
    ck_assert_uint_ge(duplicates, 50);
    ck_assert_uint_le(duplicates, 150);
    while (kept.count > 0)
        free(kept.items[--kept.count]);
    free(kept.items);
    generator_free(generator);
}
END_TEST

static enum refusal judge(struct decoder *decoder, const struct generated *event)
{
    struct event decoded;
    struct record record = {.key = event->key, .value = event->value, .time_ms = plan.first_time_us / 1000};
    decoder_reset(decoder);
    return event_decode(decoder, &record, plan.first_time_us + plan.span_us, &decoded);
}

START_TEST(only_what_is_called_bad_is_refused)
{
    const struct event_rules rules = {.max_age_us = INT64_C(34560000000000), .max_future_us = 300000000};
    struct decoder *decoder = decoder_new(&rules);
    struct generator *generator = generator_new(&plan);
    bool seen[REFUSAL_COUNT] = {false};
    for (uint64_t i = 0; i < plan.count; i++) {
        struct generated event = generator_make(generator, i);
        enum refusal refusal = judge(decoder, &event);
        ck_assert_msg((refusal != REFUSAL_NONE) == (event.kind == GENERATED_BAD), "%.*s",
                      (int)event.value.length, event.value.bytes);
        seen[refusal] = true;
    }
    int ways = 0;
    for (int i = REFUSAL_NONE + 1; i < REFUSAL_COUNT; i++)
        ways += seen[i];
    ck_assert_int_ge(ways, 5);
    generator_free(generator);
    decoder_free(decoder);
}
END_TEST

START_TEST(shares_are_kept_and_few_customers_use_most)
{
    struct generator *generator = generator_new(&plan);
    uint64_t kinds[GENERATED_KINDS] = {0}, first = 0, bytes = 0;
    for (uint64_t i = 0; i < plan.count; i++) {
        struct generated event = generator_make(generator, i);
        kinds[event.kind]++;
        bytes += event.value.length;
        first += text_equal(event.key, TEXT("cust_00001"));
    }
    ck_assert_uint_ge(kinds[GENERATED_DUPLICATE], plan.count / 66);
    ck_assert_uint_le(kinds[GENERATED_DUPLICATE], plan.count / 40);
    ck_assert_uint_ge(kinds[GENERATED_LATE], plan.count / 66);
    ck_assert_uint_ge(kinds[GENERATED_BAD], plan.count / 150);
    ck_assert_uint_ge(first, plan.count / 10);
    ck_assert_uint_ge(bytes / plan.count, 250);
    ck_assert_uint_le(bytes / plan.count, 400);
    generator_free(generator);
}
END_TEST

static int64_t time_of(struct text value)
{
    int64_t time_us = 0;
    json_t *json = json_loadb(value.bytes, value.length, 0, NULL);
    ck_assert(
        timestamp_from_rfc3339(text_of(json_string_value(json_object_get(json, "timestamp"))), &time_us));
    json_decref(json);
    return time_us;
}

START_TEST(times_rise_over_the_span_and_late_ones_lie_an_hour_back)
{
    struct generator *generator = generator_new(&plan);
    int64_t last_us = 0;
    for (uint64_t i = 0; i < plan.count; i++) {
        struct generated event = generator_make(generator, i);
        if (event.kind == GENERATED_FRESH) {
            int64_t time_us = time_of(event.value);
            ck_assert_int_ge(time_us, last_us);
            ck_assert_int_ge(time_us, plan.first_time_us - 1000);
            ck_assert_int_le(time_us, plan.first_time_us + plan.span_us);
            last_us = time_us;
        } else if (event.kind == GENERATED_LATE) {
            ck_assert_int_le(time_of(event.value), last_us - INT64_C(3500000000));
        }
    }
    generator_free(generator);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, the_same_plan_makes_the_same_bytes_in_any_order);
    tcase_add_test(tests, another_seed_makes_other_events);
    tcase_add_test(tests, a_duplicate_repeats_an_event_before_it_and_nothing_else_does);
    tcase_add_test(tests, only_what_is_called_bad_is_refused);
    tcase_add_test(tests, shares_are_kept_and_few_customers_use_most);
    tcase_add_test(tests, times_rise_over_the_span_and_late_ones_lie_an_hour_back);
}

int main(void)
{
    return run_suite("generate", add_tests);
}
