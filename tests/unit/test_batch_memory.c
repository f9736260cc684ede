#include "rollup/batch.h"

#include <check.h>
#include <stdio.h>

#include "failing_memory.h"
#include "suite.h"

#define HOUR_US INT64_C(3600000000)

static const struct identity_secret secret = {.bytes = {1}};

static bool add_event(struct batch *batch, int i)
{
    char run[16];
    struct event event = {.event_id = TEXT("e"),
                          .customer_id = TEXT("acme"),
                          .meter = TEXT("tokens"),
                          .time_us = (20000 + i % 20) * 24 * HOUR_US + i % 500 * HOUR_US,
                          .quantity = i};
    snprintf(run, sizeof run, "run %d", i);
    event.lifted[LIFTED_RUN_ID] = text_of(run);
    event.lifted[LIFTED_PARENT_RUN_ID] = text_of("parent");
    struct copy_origin origin = {.topic = TEXT("usage"), .partition = 0, .offset = i, .payload = TEXT("{}")};
    return batch_accept(batch, &secret, 0, &event, &origin) &&
           batch_defer(batch, 0, &event, &origin, false) && batch_conflict_add(batch, 0, &event, &origin) &&
           batch_segment_add(batch, i % 3, (uint16_t)(i % 40), (struct dedupe_key){1, 2}, 3);
}

static bool add_others(struct batch *batch, int i)
{
    struct record_header header = {TEXT("name"), TEXT("value")};
    struct record record = {
        .offset = i, .key = TEXT("key"), .value = TEXT("value"), .headers = &header, .header_count = 1};
    const struct event event = {.event_id = TEXT("e"), .customer_id = TEXT("acme"), .meter = TEXT("tokens")};
    const struct copy_origin origin = {.topic = TEXT("usage"), .offset = i, .payload = TEXT("{}")};
    struct decision *copy;
    return batch_dead(batch, &secret, 0, &record, REFUSAL_NOT_JSON, "why") &&
           batch_change(batch, &(struct ceiling_change){.counter = {.customer_id = TEXT("acme")}}) &&
           batch_change(batch, &(struct ceiling_change){.is_state = true, .state = {.flag = TEXT("{}")}}) &&
           batch_decide(batch, &(struct decision){.customer_id = TEXT("acme")}, &copy) &&
           batch_adopt_seal(batch, 0, 20000) && batch_adopt_ceilings(batch, 0, 1) &&
           batch_settle(batch, (struct ceiling_origin){0, 0, i}) &&
           (i % 2 == 0 || batch_sealed_accepted(batch, &secret, batch->sealed_count - 1)) &&
           batch_defer_or_refuse(batch, 0, &event, &origin, &record, REFUSAL_WRONG_PARTITION, "why") &&
           batch_sealed_refused(batch, &secret, batch->sealed_count - 1);
}

static int events = 200;

static bool fill(struct batch *batch)
{
    bool ok = batch_add_partition(batch, &(struct batch_partition){.partition = 0});
    for (int i = 0; ok && i < events; i++)
        ok = add_event(batch, i) && add_others(batch, i);
    for (size_t i = 0; ok && i < (size_t)events / 10; i++)
        ok = batch_sealed_repeated(batch, 4 * i, true);
    return ok;
}

static struct row_pool pool;

static struct batch *new_batch(void)
{
    return batch_new(
        &(struct accumulator_rules){.runs = true, .dimensions = {LIFTED_RUN_ID}, .dimension_count = 1},
        &pool);
}

static void expect_full(struct batch *batch)
{
    size_t count;
    ck_assert_int_eq(batch->partitions[0].accepted, events * 3 / 2);
    accumulator_hourly(batch->accumulator, &count);
    ck_assert_int_eq((int)count, events);
    accumulator_runs(batch->accumulator, &count);
    ck_assert_int_eq((int)count, events);
}

static void fail_each_in_turn(void)
{
    bool filled = false;
    for (uint64_t fail_at = 0; !filled; fail_at++) {
        fail_allocations(fail_at, UINT64_MAX);
        struct batch *batch = new_batch();
        filled = batch && fill(batch);
        bool failed = allocations > fail_from;
        fail_no_allocation();
        ck_assert(filled != failed);
        if (batch) {
            batch_reset(batch);
            ck_assert(fill(batch));
            expect_full(batch);
            ck_assert_uint_ge(batch_bytes(batch), held_bytes);
        }
        batch_free(batch);
        row_pool_free(&pool);
        ck_assert_uint_eq(held_bytes, 0);
    }
}

START_TEST(every_failing_allocation_is_reported_and_a_reset_repairs_it)
{
    fail_each_in_turn();
}
END_TEST

START_TEST(every_piece_that_finds_no_memory_is_reported_and_a_reset_repairs_it)
{
    pieces_apart = true;
    events = 20;
    fail_each_in_turn();
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, every_failing_allocation_is_reported_and_a_reset_repairs_it);
    tcase_add_test(tests, every_piece_that_finds_no_memory_is_reported_and_a_reset_repairs_it);
}

int main(void)
{
    return run_suite("batch memory", add_tests);
}
