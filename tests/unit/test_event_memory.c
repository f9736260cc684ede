/* A decoder where memory runs out: no record is taken for bad because of that, and once there is some again
 * it is read as ever. */
#include "consumer/event.h"

#include <check.h>

#include "failing_memory.h"
#include "suite.h"

#define NOW_US ((int64_t)1795339800000000)

/* operator new(size_t, std::nothrow_t const &), by which simdjson's memory is asked for. */
void *_Znwm(size_t size);
void *_ZnwmRKSt9nothrow_t(size_t size, const void *nothrow);

void *_ZnwmRKSt9nothrow_t(size_t size, const void *nothrow)
{
    (void)nothrow;
    return next_fails() ? NULL : _Znwm(size);
}

/* Each string has an escape: it is copied. */
static const char json[] =
    "{\"event_id\":\"e\\u0031\",\"customer_id\":\"a\\u0062c\",\"meter\":\"t\\u006fkens\",\"quantity\":1.5,"
    "\"metadata\":{\"model\":\"l\\u0061rge\",\"run_id\":\"r\\u0031\"},\"extra\":[1,{\"x\":null}]}";

static enum refusal decode(struct decoder *decoder, struct event *event)
{
    struct record record = {.time_ms = NOW_US / 1000, .value = text_of(json)};
    return event_decode(decoder, &record, NOW_US, event);
}

static void expect_read(struct decoder *decoder)
{
    struct event event;
    ck_assert_int_eq(decode(decoder, &event), REFUSAL_NONE);
    ck_assert(text_equal(event.customer_id, TEXT("abc")));
    ck_assert(text_equal(event.model, TEXT("large")));
}

static void fail_each_in_turn(void)
{
    const struct event_rules rules = {.max_age_us = INT64_C(86400000000), .max_future_us = 1000000};
    size_t made = 0, refused = 0;
    for (uint64_t number = 0;; number++) {
        fail_allocations(number, 1);
        struct decoder *decoder = decoder_new(&rules);
        struct event event;
        enum refusal refusal = decoder ? decode(decoder, &event) : REFUSAL_NO_MEMORY;
        bool failed = allocations > fail_from;
        fail_no_allocation();
        ck_assert_int_eq(refusal, failed ? REFUSAL_NO_MEMORY : REFUSAL_NONE);
        made += decoder != NULL;
        refused += decoder && failed;
        if (decoder)
            expect_read(decoder);
        decoder_free(decoder);
        ck_assert_uint_eq(held_bytes, 0);
        if (!failed)
            break;
    }
    ck_assert_uint_ge(made, 2);
    ck_assert_uint_ge(refused, 1);
}

START_TEST(a_record_that_finds_no_memory_is_not_bad)
{
    fail_each_in_turn();
}
END_TEST

START_TEST(a_text_that_finds_no_memory_does_not_make_its_record_bad)
{
    pieces_apart = true;
    fail_each_in_turn();
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_record_that_finds_no_memory_is_not_bad);
    tcase_add_test(tests, a_text_that_finds_no_memory_does_not_make_its_record_bad);
}

int main(void)
{
    return run_suite("event_memory", add_tests);
}
