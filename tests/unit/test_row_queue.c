#include "rollup/row_queue.h"

#include <check.h>
#include <string.h>

#include "suite.h"

static struct row_pool pool;
static struct row_queue queue;

static void teardown(void)
{
    row_queue_reset(&queue, &pool);
    ck_assert_uint_eq(pool.used_count, 0);
    row_pool_free(&pool);
}

/* Rows of so many bytes, each of its number's low byte, written where twice as many would have had room. */
static void put_rows(int first, int count, size_t size_bytes)
{
    for (int i = first; i < first + count; i++) {
        uint8_t *room = row_queue_room(&queue, &pool, 2 * size_bytes);
        ck_assert_ptr_nonnull(room);
        memset(room, i & 0xff, size_bytes);
        row_queue_add(&queue, size_bytes);
    }
}

/* Holds whole rows alone, from `first` on; returns the number behind the last one. */
static int expect_rows(const struct row_queue *rows, int first, size_t size_bytes)
{
    size_t seen_bytes = 0;
    for (const struct row_block *block = rows->first; block; block = block->next) {
        ck_assert_uint_eq(block->size_bytes % size_bytes, 0);
        ck_assert_uint_le(block->size_bytes, block->capacity_bytes);
        bool same = true;
        for (size_t at = 0; at < block->size_bytes; at++)
            same = same && block->bytes[at] == (uint8_t)(first + (int)(at / size_bytes));
        ck_assert(same);
        first += (int)(block->size_bytes / size_bytes);
        seen_bytes += block->size_bytes;
        ck_assert(block->next || block == rows->last);
    }
    ck_assert_uint_eq(seen_bytes, rows->size_bytes);
    return first;
}

START_TEST(rows_come_out_as_they_went_in)
{
    put_rows(0, 1000, 300);
    ck_assert_uint_eq(queue.size_bytes, 300000);
    ck_assert_int_eq(expect_rows(&queue, 0, 300), 1000);
    ck_assert_uint_ge(row_queue_held_bytes(&queue), 300000);
    ck_assert_uint_le(row_queue_held_bytes(&queue), 300000 + 2 * ROW_BLOCK_BYTES);
}
END_TEST

START_TEST(the_first_rows_are_moved_out_and_the_rest_goes_on)
{
    put_rows(0, 1000, 300);
    struct row_queue none = row_queue_take(&queue, 0);
    ck_assert_ptr_null(none.first);
    struct row_queue taken = row_queue_take(&queue, 100000);
    ck_assert_uint_ge(taken.size_bytes, 100000);
    ck_assert_uint_le(taken.size_bytes, 100000 + ROW_BLOCK_BYTES);
    put_rows(1000, 10, 300);
    int next = expect_rows(&taken, 0, 300);
    ck_assert_int_eq(expect_rows(&queue, next, 300), 1010);
    row_queue_reset(&taken, &pool);
    taken = row_queue_take(&queue, SIZE_MAX);
    ck_assert_int_eq(expect_rows(&taken, next, 300), 1010);
    ck_assert_uint_eq(queue.size_bytes, 0);
    ck_assert_ptr_null(row_queue_take(&queue, SIZE_MAX).first);
    put_rows(0, 1, 300);
    ck_assert_int_eq(expect_rows(&queue, 0, 300), 1);
    row_queue_reset(&taken, &pool);
}
END_TEST

START_TEST(a_steady_stream_uses_the_same_memory_over_and_over)
{
    put_rows(0, 500, 300);
    size_t blocks = pool.used_count;
    for (int i = 0; i < 100; i++) {
        struct row_queue taken = row_queue_take(&queue, SIZE_MAX);
        row_queue_reset(&taken, &pool);
        put_rows(0, 500, 300);
        row_pool_rest(&pool);
        ck_assert_uint_eq(pool.used_count + pool.free_count, blocks);
    }
}
END_TEST

START_TEST(memory_that_no_batch_has_needed_for_long_is_given_back)
{
    put_rows(0, 10000, 300);
    for (int i = 0; i < 200; i++) {
        row_queue_reset(&queue, &pool);
        put_rows(0, 300, 300);
        row_pool_rest(&pool);
    }
    ck_assert_uint_le(pool.used_count + pool.free_count, 2);
}
END_TEST

START_TEST(a_row_larger_than_a_block_has_one_of_its_own)
{
    put_rows(0, 3, 300);
    put_rows(3, 2, 300000);
    put_rows(5, 1, 300);
    ck_assert_uint_eq(pool.used_count, 3);
    ck_assert_uint_ge(row_queue_held_bytes(&queue), 2 * 600000);
    row_queue_reset(&queue, &pool);
    ck_assert_uint_eq(pool.free_count, 1);
    ck_assert_ptr_null(row_queue_room(&queue, &pool, SIZE_MAX));
    ck_assert_ptr_null(queue.first);
}
END_TEST

START_TEST(rows_can_outlive_their_pool)
{
    put_rows(0, 1000, 300);
    struct row_queue taken = row_queue_take(&queue, SIZE_MAX);
    pool = (struct row_pool){0};
    ck_assert_int_eq(expect_rows(&taken, 0, 300), 1000);
    row_queue_free(&taken);
    ck_assert_ptr_null(taken.first);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, rows_come_out_as_they_went_in);
    tcase_add_test(tests, the_first_rows_are_moved_out_and_the_rest_goes_on);
    tcase_add_test(tests, a_steady_stream_uses_the_same_memory_over_and_over);
    tcase_add_test(tests, memory_that_no_batch_has_needed_for_long_is_given_back);
    tcase_add_test(tests, a_row_larger_than_a_block_has_one_of_its_own);
    tcase_add_test(tests, rows_can_outlive_their_pool);
}

int main(void)
{
    return run_suite("row queue", add_tests);
}
