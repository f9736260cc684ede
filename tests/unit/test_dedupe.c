/* The promises of dedupe.h, one by one. */
#include <check.h>

#include "dedupe_loader.h"
#include "dedupe_fixture.h"
#include "suite.h"

START_TEST(an_event_is_new_once)
{
    struct dedupe *dedupe = new_dedupe();
    assert_insert(dedupe, key_of(1), 7, DAY, DEDUPE_NEW);
    assert_insert(dedupe, key_of(1), 7, DAY, DEDUPE_REPEAT);
    assert_insert(dedupe, key_of(2), 7, DAY, DEDUPE_NEW);
    ck_assert_uint_eq(dedupe_count(dedupe), 2);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(an_event_that_says_something_else_is_a_conflict_and_changes_nothing)
{
    struct dedupe *dedupe = new_dedupe();
    assert_insert(dedupe, key_of(1), 7, DAY, DEDUPE_NEW);
    assert_insert(dedupe, key_of(1), 8, DAY, DEDUPE_CONFLICT);
    assert_insert(dedupe, key_of(1), 7, DAY, DEDUPE_REPEAT);
    ck_assert_uint_eq(dedupe_count(dedupe), 1);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(an_event_is_known_on_whichever_open_day_it_comes_again)
{
    struct dedupe *dedupe = new_dedupe();
    assert_insert(dedupe, key_of(1), 7, DAY, DEDUPE_NEW);
    assert_insert(dedupe, key_of(1), 7, DAY + 1, DEDUPE_REPEAT);
    assert_insert(dedupe, key_of(1), 8, DAY - 1, DEDUPE_CONFLICT);
    ck_assert_uint_eq(dedupe_day_count(dedupe, DAY), 1);
    ck_assert_uint_eq(dedupe_day_count(dedupe, DAY + 1), 0);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(what_is_found_is_what_was_said_until_its_day_is_forgotten)
{
    struct dedupe *dedupe = new_dedupe();
    uint32_t content = 0;
    uint16_t day = 0;
    ck_assert(!dedupe_find(dedupe, key_of(1), &content, &day));
    assert_insert(dedupe, key_of(1), 7, DAY, DEDUPE_NEW);
    ck_assert(dedupe_find(dedupe, key_of(1), &content, &day));
    ck_assert_uint_eq(content, 7);
    ck_assert_uint_eq(day, DAY);
    ck_assert(!dedupe_find(dedupe, key_of(2), &content, &day));
    dedupe_forget(dedupe, DAY);
    ck_assert(!dedupe_find(dedupe, key_of(1), &content, &day));
    ck_assert_uint_eq(dedupe_count(dedupe), 0);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(the_first_and_the_last_day_are_days_like_others)
{
    struct dedupe *dedupe = new_dedupe();
    assert_insert(dedupe, key_of(1), 0, 1, DEDUPE_NEW);
    assert_insert(dedupe, key_of(2), 0, 65535, DEDUPE_NEW);
    dedupe_forget(dedupe, 1);
    dedupe_forget(dedupe, 65535);
    assert_insert(dedupe, key_of(1), 0, 65535, DEDUPE_NEW);
    assert_insert(dedupe, key_of(2), 0, 1, DEDUPE_NEW);
    sweep_all(dedupe);
    ck_assert_uint_eq(dedupe_count(dedupe), 2);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(keys_that_differ_in_any_of_124_bits_are_different)
{
    struct dedupe *dedupe = new_dedupe();
    assert_insert(dedupe, ((struct dedupe_key){0, 0}), 0, DAY, DEDUPE_NEW);
    for (int bit = 0; bit < 64; bit++) {
        bool ignored = bit >= 48 && bit < 52;
        assert_insert(dedupe, ((struct dedupe_key){UINT64_C(1) << bit, 0}), 0, DAY, DEDUPE_NEW);
        assert_insert(dedupe, ((struct dedupe_key){0, UINT64_C(1) << bit}), 0, DAY,
                      ignored ? DEDUPE_REPEAT : DEDUPE_NEW);
    }
    dedupe_free(dedupe);
}
END_TEST

START_TEST(an_insertion_can_be_taken_back)
{
    struct dedupe *dedupe = new_dedupe();
    ck_assert(!dedupe_remove(dedupe, key_of(1)));
    assert_insert(dedupe, key_of(1), 7, DAY, DEDUPE_NEW);
    ck_assert(dedupe_remove(dedupe, key_of(1)));
    ck_assert(!dedupe_remove(dedupe, key_of(1)));
    ck_assert_uint_eq(dedupe_count(dedupe), 0);
    ck_assert_uint_eq(dedupe_day_count(dedupe, DAY), 0);
    assert_insert(dedupe, key_of(1), 8, DAY + 1, DEDUPE_NEW);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(a_forgotten_day_is_forgotten_at_once)
{
    struct dedupe *dedupe = new_dedupe();
    assert_insert(dedupe, key_of(1), 7, DAY, DEDUPE_NEW);
    assert_insert(dedupe, key_of(2), 7, DAY + 1, DEDUPE_NEW);
    dedupe_forget(dedupe, DAY);
    ck_assert_uint_eq(dedupe_count(dedupe), 1);
    ck_assert_uint_eq(dedupe_day_count(dedupe, DAY), 0);
    ck_assert(!dedupe_remove(dedupe, key_of(1)));
    assert_insert(dedupe, key_of(1), 8, DAY + 2, DEDUPE_NEW);
    assert_insert(dedupe, key_of(2), 7, DAY + 2, DEDUPE_REPEAT);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(a_forgotten_day_can_be_used_again_before_it_is_swept)
{
    struct dedupe *dedupe = new_dedupe();
    for (uint64_t i = 0; i < 3000; i++)
        assert_insert(dedupe, key_in(i, 2), 7, DAY, DEDUPE_NEW);
    dedupe_forget(dedupe, DAY);
    for (uint64_t i = 0; i < 100; i++)
        assert_insert(dedupe, key_in(i, 2), 8, DAY, DEDUPE_NEW);
    for (uint64_t i = 0; i < 100; i++)
        assert_insert(dedupe, key_in(i, 2), 8, DAY, DEDUPE_REPEAT);
    dedupe_forget(dedupe, DAY);
    for (uint64_t i = 0; i < 3000; i++)
        assert_insert(dedupe, key_in(i, 2), 9, DAY, DEDUPE_NEW);
    sweep_all(dedupe);
    ck_assert_uint_eq(dedupe_day_count(dedupe, DAY), 3000);
    for (uint64_t i = 0; i < 3000; i++)
        assert_insert(dedupe, key_in(i, 2), 9, DAY, DEDUPE_REPEAT);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(a_day_stays_forgotten_while_many_others_begin)
{
    struct dedupe *dedupe = new_dedupe();
    assert_insert(dedupe, key_of(0), 7, DAY, DEDUPE_NEW);
    dedupe_forget(dedupe, DAY);
    for (uint64_t i = 1; i < 100; i++)
        assert_insert(dedupe, key_of(i), 7, (uint16_t)(DAY + i), DEDUPE_NEW);
    assert_insert(dedupe, key_of(0), 7, DAY + 1, DEDUPE_NEW);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(a_segment_restores_what_was_put_into_it)
{
    uint8_t segment[100 * DEDUPE_SEGMENT_BYTES];
    for (uint64_t i = 0; i < 100; i++)
        dedupe_segment_put(segment + i * DEDUPE_SEGMENT_BYTES, key_of(i), (uint32_t)i);
    struct dedupe *dedupe = new_dedupe();
    assert_insert(dedupe, key_of(5), 77, DAY + 1, DEDUPE_NEW);
    ck_assert(dedupe_segment_restore(dedupe, DAY, segment, sizeof segment));
    ck_assert_uint_eq(dedupe_day_count(dedupe, DAY), 99);
    for (uint64_t i = 0; i < 100; i++)
        assert_insert(dedupe, key_of(i), i == 5 ? 77 : (uint32_t)i, DAY, DEDUPE_REPEAT);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(the_bytes_of_a_segment_never_change)
{
    static const uint8_t expected[DEDUPE_SEGMENT_BYTES] = {8,  7,  6,  5,  4,  3, 2,  1,  16, 15,
                                                           14, 13, 12, 11, 10, 9, 20, 19, 18, 17};
    uint8_t segment[DEDUPE_SEGMENT_BYTES];
    dedupe_segment_put(segment, (struct dedupe_key){0x0102030405060708, 0x090a0b0c0d0e0f10}, 0x11121314);
    ck_assert_mem_eq(segment, expected, sizeof expected);
}
END_TEST

START_TEST(a_malformed_segment_is_refused_whole)
{
    uint8_t segment[2 * DEDUPE_SEGMENT_BYTES] = {1};
    struct dedupe *dedupe = new_dedupe();
    ck_assert(!dedupe_segment_restore(dedupe, DAY, segment, sizeof segment - 1));
    ck_assert(!dedupe_segment_restore(dedupe, 0, segment, sizeof segment));
    ck_assert_uint_eq(dedupe_count(dedupe), 0);
    ck_assert(dedupe_segment_restore(dedupe, DAY, NULL, 0));
    dedupe_free(dedupe);
}
END_TEST

enum { LOADED_KEYS = 300000, LOADED_SEGMENT_KEYS = 700 };

/* More than are gathered at a time, for two tables and days in turns. */
static void load_all(struct dedupe_loader *loader, struct dedupe *const dedupes[2])
{
    static uint8_t segment[LOADED_SEGMENT_KEYS * DEDUPE_SEGMENT_BYTES];
    for (uint64_t first = 0; first < LOADED_KEYS; first += LOADED_SEGMENT_KEYS) {
        uint64_t count =
            LOADED_KEYS - first < LOADED_SEGMENT_KEYS ? LOADED_KEYS - first : LOADED_SEGMENT_KEYS;
        for (uint64_t i = 0; i < count; i++)
            dedupe_segment_put(segment + i * DEDUPE_SEGMENT_BYTES, key_of(first + i), (uint32_t)(first + i));
        uint16_t day = first > LOADED_KEYS - 10 * LOADED_SEGMENT_KEYS ? DAY + 1 : DAY;
        ck_assert(dedupe_loader_add(loader, dedupes[0], day, segment, count * DEDUPE_SEGMENT_BYTES));
        if (first % (100 * LOADED_SEGMENT_KEYS) == 0)
            ck_assert(dedupe_loader_add(loader, dedupes[1], day, segment, DEDUPE_SEGMENT_BYTES));
    }
    ck_assert(!dedupe_loader_add(loader, dedupes[0], DAY, segment, sizeof segment - 1));
    ck_assert(dedupe_loader_finish(loader));
    ck_assert(dedupe_loader_finish(loader));
}

START_TEST(keys_that_are_loaded_are_there_as_if_inserted_one_by_one)
{
    struct dedupe *const dedupes[] = {new_dedupe(), new_dedupe()};
    struct dedupe_loader *loader = dedupe_loader_new();
    ck_assert_ptr_nonnull(loader);
    assert_insert(dedupes[0], key_of(5), 77, DAY + 3, DEDUPE_NEW);
    load_all(loader, dedupes);
    dedupe_loader_free(loader);
    ck_assert_uint_eq(dedupe_count(dedupes[0]), LOADED_KEYS);
    ck_assert_uint_eq(dedupe_count(dedupes[1]), 5);
    for (uint64_t i = 0; i < LOADED_KEYS; i++) {
        uint32_t content;
        uint16_t day;
        bool found = dedupe_find(dedupes[0], key_of(i), &content, &day);
        if (!found || content != (i == 5 ? 77 : i))
            ck_abort_msg("key %d is not as it was stored", (int)i);
    }
    ck_assert_uint_gt(dedupe_day_count(dedupes[0], DAY + 1), LOADED_SEGMENT_KEYS);
    dedupe_free(dedupes[0]);
    dedupe_free(dedupes[1]);
}
END_TEST

START_TEST(a_table_with_room_reserved_hardly_grows)
{
    struct dedupe *dedupe = new_dedupe();
    for (uint64_t i = 0; i < 5000; i++)
        assert_insert(dedupe, key_of(i), 1, (uint16_t)(DAY + i % 2), DEDUPE_NEW);
    dedupe_forget(dedupe, DAY + 1);
    ck_assert(dedupe_reserve(dedupe, 1000000));
    size_t reserved_bytes = dedupe_bytes(dedupe);
    for (uint64_t i = 0; i < 1000000; i++)
        dedupe_insert(dedupe, key_of(i), 2, DAY);
    ck_assert_uint_eq(dedupe_count(dedupe), 1000000);
    ck_assert_uint_le(dedupe_bytes(dedupe), reserved_bytes + reserved_bytes / 20);
    ck_assert_uint_le(dedupe_bytes(dedupe), 32 * 1000000);
    ck_assert(dedupe_reserve(dedupe, 0));
    assert_insert(dedupe, key_of(2), 1, DAY, DEDUPE_REPEAT);
    assert_insert(dedupe, key_of(3), 2, DAY, DEDUPE_REPEAT);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(a_lane_of_few_keys_takes_little_memory)
{
    struct dedupe *dedupe = new_dedupe();
    for (uint64_t i = 0; i < 1000; i++)
        assert_insert(dedupe, key_of(i), 0, DAY, DEDUPE_NEW);
    ck_assert_uint_le(dedupe_bytes(dedupe), 256 * 1024);
    dedupe_free(dedupe);
}
END_TEST

/* What a table takes before its first key, and the slab of which it may have used one block only. */
enum { FIXED_BYTES = 128 * 1024, SLACK_BYTES = 3 * 1024 * 1024 };

START_TEST(a_key_takes_at_most_32_bytes)
{
    struct dedupe *dedupe = new_dedupe();
    for (uint64_t i = 1; i <= 400000; i++) {
        assert_insert(dedupe, key_in(i, 64), 0, DAY, DEDUPE_NEW);
        if (i % 1000 == 0)
            assert_fast(dedupe_bytes(dedupe) <= FIXED_BYTES + SLACK_BYTES + 32 * i);
    }
    dedupe_free(dedupe);
}
END_TEST

START_TEST(memory_of_forgotten_keys_comes_back)
{
    enum { KEYS = 400000 };
    struct dedupe *dedupe = new_dedupe();
    for (uint64_t i = 0; i < KEYS; i++)
        assert_insert(dedupe, key_in(i, 64), 0, (uint16_t)(DAY + i % 4), DEDUPE_NEW);
    for (uint16_t day = DAY; day < DAY + 3; day++)
        dedupe_forget(dedupe, day);
    sweep_all(dedupe);
    ck_assert_uint_eq(dedupe_count(dedupe), KEYS / 4);
    ck_assert_uint_le(dedupe_bytes(dedupe), FIXED_BYTES + SLACK_BYTES + 32 * KEYS / 4);
    dedupe_forget(dedupe, DAY + 3);
    sweep_all(dedupe);
    ck_assert_uint_le(dedupe_bytes(dedupe), FIXED_BYTES);
    dedupe_free(dedupe);
}
END_TEST

START_TEST(a_shard_of_keys_forgotten_and_used_again_does_not_grow)
{
    struct dedupe *dedupe = new_dedupe();
    size_t bytes = 0;
    for (uint64_t round = 0; round < 20; round++) {
        for (uint64_t i = 0; i < 5000; i++)
            assert_insert(dedupe, key_in(round * 5000 + i, 2), 0, (uint16_t)(DAY + round % 2), DEDUPE_NEW);
        if (round == 1)
            bytes = dedupe_bytes(dedupe);
        dedupe_forget(dedupe, (uint16_t)(DAY + (round + 1) % 2));
    }
    ck_assert_uint_le(dedupe_bytes(dedupe), bytes + bytes / 8);
    dedupe_free(dedupe);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, an_event_is_new_once);
    tcase_add_test(tests, an_event_that_says_something_else_is_a_conflict_and_changes_nothing);
    tcase_add_test(tests, an_event_is_known_on_whichever_open_day_it_comes_again);
    tcase_add_test(tests, what_is_found_is_what_was_said_until_its_day_is_forgotten);
    tcase_add_test(tests, the_first_and_the_last_day_are_days_like_others);
    tcase_add_test(tests, keys_that_differ_in_any_of_124_bits_are_different);
    tcase_add_test(tests, an_insertion_can_be_taken_back);
    tcase_add_test(tests, a_forgotten_day_is_forgotten_at_once);
    tcase_add_test(tests, a_forgotten_day_can_be_used_again_before_it_is_swept);
    tcase_add_test(tests, a_day_stays_forgotten_while_many_others_begin);
    tcase_add_test(tests, a_segment_restores_what_was_put_into_it);
    tcase_add_test(tests, the_bytes_of_a_segment_never_change);
    tcase_add_test(tests, a_malformed_segment_is_refused_whole);
    tcase_add_test(tests, keys_that_are_loaded_are_there_as_if_inserted_one_by_one);
    tcase_add_test(tests, a_table_with_room_reserved_hardly_grows);
    tcase_add_test(tests, a_lane_of_few_keys_takes_little_memory);
    tcase_add_test(tests, a_key_takes_at_most_32_bytes);
    tcase_add_test(tests, memory_of_forgotten_keys_comes_back);
    tcase_add_test(tests, a_shard_of_keys_forgotten_and_used_again_does_not_grow);
}

int main(void)
{
    return run_suite("dedupe", add_tests);
}
