/* The dedupe table when memory runs out, and a model test that compares every answer with that of a naive map
 * while allocations fail now and then. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dedupe_loader.h"
#include "dedupe_fixture.h"
#include "failing_memory.h"
#include "suite.h"

enum { SWEPT_KEYS = 1500, SWEPT_SHARDS = 2 };

START_TEST(out_of_memory_leaves_the_table_intact)
{
    uint64_t refused = 0;
    for (uint64_t number = 0; refused == number; number++) {
        size_t before = held_bytes;
        struct dedupe *dedupe = new_dedupe();
        fail_allocations(number, 1);
        for (uint64_t i = 0; i < SWEPT_KEYS; i++) {
            struct dedupe_key key = key_in(i, SWEPT_SHARDS);
            uint16_t day = (uint16_t)(DAY + i % 9);
            enum dedupe_verdict verdict = dedupe_insert(dedupe, key, (uint32_t)i, day);
            assert_fast(dedupe_count(dedupe) == i + (verdict == DEDUPE_NEW));
            if (verdict == DEDUPE_NEW)
                continue;
            ck_assert_int_eq(verdict, DEDUPE_NO_MEMORY);
            refused++;
            for (uint64_t j = 0; j < i; j++)
                assert_insert(dedupe, key_in(j, SWEPT_SHARDS), (uint32_t)j, DAY, DEDUPE_REPEAT);
            ck_assert(!dedupe_remove(dedupe, key));
            assert_insert(dedupe, key, (uint32_t)i, day, DEDUPE_NEW);
        }
        fail_no_allocation();
        ck_assert_uint_eq(dedupe_bytes(dedupe), held_bytes - before);
        dedupe_free(dedupe);
        ck_assert_uint_eq(held_bytes, before);
    }
    /* Both shards grow some twenty times. */
    ck_assert_uint_ge(refused, 40);
}
END_TEST

START_TEST(forgetting_and_sweeping_need_no_memory)
{
    struct dedupe *dedupe = new_dedupe();
    for (uint64_t i = 0; i < 8000; i++)
        assert_insert(dedupe, key_in(i, 4), 0, (uint16_t)(DAY + mixed(i) % 3), DEDUPE_NEW);
    size_t kept = 8000 - dedupe_day_count(dedupe, DAY + 1);
    fail_allocations(0, UINT64_MAX);
    dedupe_forget(dedupe, DAY + 1);
    /* A shard that must be swept at once, in the way of an insertion: it makes its own room. */
    assert_insert(dedupe, key_in(9000, 4), 0, DAY + 1, DEDUPE_NEW);
    sweep_all(dedupe);
    ck_assert_uint_eq(dedupe_count(dedupe), kept + 1);
    fail_no_allocation();
    for (uint64_t i = 0; i < 8000; i++)
        assert_insert(dedupe, key_in(i, 4), 0, DAY, mixed(i) % 3 == 1 ? DEDUPE_NEW : DEDUPE_REPEAT);
    dedupe_free(dedupe);
}
END_TEST

/* The kernel refuses to unmap when that would make more mappings than a process may have. */
START_TEST(pages_that_cannot_be_unmapped_do_no_harm)
{
    struct dedupe *dedupe = new_dedupe();
    for (uint64_t i = 0; i < 100000; i++)
        assert_insert(dedupe, key_in(i, 8), 0, (uint16_t)(DAY + (i > 1000)), DEDUPE_NEW);
    size_t bytes = dedupe_bytes(dedupe);
    fail_munmap = true;
    dedupe_forget(dedupe, DAY + 1);
    sweep_all(dedupe);
    fail_munmap = false;
    ck_assert_uint_lt(dedupe_bytes(dedupe), bytes / 2);
    for (uint64_t i = 0; i < 100000; i++)
        assert_insert(dedupe, key_in(i, 8), 0, DAY, i > 1000 ? DEDUPE_NEW : DEDUPE_REPEAT);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(no_memory_for_a_new_table_is_no_table)
{
    fail_allocations(0, 1);
    ck_assert_ptr_null(dedupe_new());
    dedupe_free(NULL);
}
END_TEST

START_TEST(no_memory_to_restore_is_said)
{
    uint8_t segment[DEDUPE_SEGMENT_BYTES] = {1};
    struct dedupe *dedupe = new_dedupe();
    fail_allocations(0, UINT64_MAX);
    ck_assert(!dedupe_segment_restore(dedupe, DAY, segment, sizeof segment));
    fail_no_allocation();
    ck_assert_uint_eq(dedupe_count(dedupe), 0);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(no_memory_for_the_loader_is_no_loader)
{
    fail_allocations(0, 1);
    ck_assert_ptr_null(dedupe_loader_new());
    fail_no_allocation();
    dedupe_loader_free(NULL);
}
END_TEST

START_TEST(no_memory_to_reserve_loses_no_key)
{
    struct dedupe *dedupe = new_dedupe();
    for (uint64_t i = 0; i < SWEPT_KEYS; i++)
        assert_insert(dedupe, key_in(i, SWEPT_SHARDS), 0, DAY, DEDUPE_NEW);
    for (uint64_t number = 0; number < 20; number++) {
        fail_allocations(number, UINT64_MAX);
        ck_assert(!dedupe_reserve(dedupe, 10000000));
        fail_no_allocation();
    }
    ck_assert(!dedupe_reserve(dedupe, SIZE_MAX / 2));
    for (uint64_t i = 0; i < SWEPT_KEYS; i++)
        assert_insert(dedupe, key_in(i, SWEPT_SHARDS), 0, DAY, DEDUPE_REPEAT);
    dedupe_free(dedupe);
}
END_TEST

/* The model: an array of what is known of each key. */

enum { MODEL_KEYS = 6000, MODEL_DAYS = 12, MODEL_STEPS = 200000 };

struct model {
    struct dedupe *dedupe;
    uint64_t random;
    uint64_t shards;
    size_t bytes_before;
    size_t count;
    size_t day_counts[MODEL_DAYS];
    struct {
        uint32_t content;
        uint16_t day; /* 0: not there */
    } known[MODEL_KEYS];
};

static uint64_t pick(struct model *model, uint64_t below)
{
    return mixed(model->random++) % below;
}

static uint16_t model_day(uint64_t day)
{
    return (uint16_t)(DAY + day);
}

/* What the table must say of an insertion; the model learns it. */
static enum dedupe_verdict model_insert(struct model *model, uint64_t number, uint32_t content, uint64_t day)
{
    if (model->known[number].day != 0)
        return model->known[number].content == content ? DEDUPE_REPEAT : DEDUPE_CONFLICT;
    model->known[number].day = model_day(day);
    model->known[number].content = content;
    model->count++;
    model->day_counts[day]++;
    return DEDUPE_NEW;
}

static void step_insert(struct model *model)
{
    uint64_t number = pick(model, MODEL_KEYS);
    uint64_t day = pick(model, MODEL_DAYS);
    uint32_t content = (uint32_t)pick(model, 2);
    struct dedupe_key key = key_in(number, model->shards);
    dedupe_prefetch(model->dedupe, key);
    /* Some are refused for want of memory: then nothing may have changed. */
    if (pick(model, 8) == 0)
        fail_allocations(0, 1 + pick(model, 3));
    enum dedupe_verdict verdict = dedupe_insert(model->dedupe, key, content, model_day(day));
    fail_no_allocation();
    if (verdict == DEDUPE_NO_MEMORY)
        assert_fast(model->known[number].day == 0);
    else
        assert_fast(verdict == model_insert(model, number, content, day));
}

static void step_remove(struct model *model)
{
    uint64_t number = pick(model, MODEL_KEYS);
    bool known = model->known[number].day != 0;
    assert_fast(dedupe_remove(model->dedupe, key_in(number, model->shards)) == known);
    if (!known)
        return;
    model->count--;
    model->day_counts[model->known[number].day - DAY]--;
    model->known[number].day = 0;
}

static void step_forget(struct model *model)
{
    uint64_t day = pick(model, MODEL_DAYS);
    dedupe_forget(model->dedupe, model_day(day));
    model->count -= model->day_counts[day];
    model->day_counts[day] = 0;
    for (int i = 0; i < MODEL_KEYS; i++)
        if (model->known[i].day == model_day(day))
            model->known[i].day = 0;
}

static void step_restore(struct model *model)
{
    enum { KEYS = 50 };
    uint8_t segment[KEYS * DEDUPE_SEGMENT_BYTES];
    uint64_t day = pick(model, MODEL_DAYS);
    for (int i = 0; i < KEYS; i++) {
        uint64_t number = pick(model, MODEL_KEYS);
        dedupe_segment_put(segment + i * DEDUPE_SEGMENT_BYTES, key_in(number, model->shards), 1);
        (void)model_insert(model, number, 1, day);
    }
    ck_assert(dedupe_segment_restore(model->dedupe, model_day(day), segment, sizeof segment));
}

static void check_model(struct model *model)
{
    assert_fast(dedupe_count(model->dedupe) == model->count);
    for (uint64_t day = 0; day < MODEL_DAYS; day++)
        assert_fast(dedupe_day_count(model->dedupe, model_day(day)) == model->day_counts[day]);
    assert_fast(dedupe_bytes(model->dedupe) == held_bytes - model->bytes_before);
}

static void check_every_key(struct model *model)
{
    for (uint64_t i = 0; i < MODEL_KEYS; i++)
        if (model->known[i].day != 0)
            assert_insert(model->dedupe, key_in(i, model->shards), model->known[i].content, DAY,
                          DEDUPE_REPEAT);
}

static void model_step(struct model *model, uint64_t step)
{
    /* It fills and empties by turns. */
    bool emptying = step / (MODEL_STEPS / 8) % 2 == 1;
    uint64_t choice = pick(model, 1000);
    if (choice < 5)
        step_forget(model);
    else if (choice < 8)
        step_restore(model);
    else if (choice < 60)
        (void)dedupe_sweep(model->dedupe);
    else if (choice < (emptying ? 700 : 200))
        step_remove(model);
    else
        step_insert(model);
}

START_TEST(every_answer_is_that_of_a_naive_map)
{
    const char *given = getenv("SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 100 + (uint64_t)_i;
    printf("every_answer_is_that_of_a_naive_map: SEED=%lu\n", (unsigned long)seed);
    static struct model model;
    model = (struct model){.bytes_before = held_bytes, .random = seed << 24, .shards = UINT64_C(1) << 3 * _i};
    model.dedupe = new_dedupe();
    for (uint64_t step = 0; step < MODEL_STEPS; step++) {
        model_step(&model, step);
        check_model(&model);
        if (step % (MODEL_STEPS / 16) == 0)
            check_every_key(&model);
    }
    sweep_all(model.dedupe);
    check_model(&model);
    check_every_key(&model);
    dedupe_free(model.dedupe);
    ck_assert_uint_eq(held_bytes, model.bytes_before);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, out_of_memory_leaves_the_table_intact);
    tcase_add_test(tests, forgetting_and_sweeping_need_no_memory);
    tcase_add_test(tests, pages_that_cannot_be_unmapped_do_no_harm);
    tcase_add_test(tests, no_memory_for_a_new_table_is_no_table);
    tcase_add_test(tests, no_memory_to_restore_is_said);
    tcase_add_test(tests, no_memory_for_the_loader_is_no_loader);
    tcase_add_test(tests, no_memory_to_reserve_loses_no_key);
    tcase_add_loop_test(tests, every_answer_is_that_of_a_naive_map, 0, 4);
}

int main(void)
{
    return run_suite("dedupe memory", add_tests);
}
