#include "consumer/arena.h"

#include <check.h>
#include <stdint.h>

#include "suite.h"

static struct arena arena;

static void setup(void)
{
    arena_init(&arena, 256);
}

static void teardown(void)
{
    arena_free(&arena);
}

START_TEST(pieces_are_aligned_and_apart)
{
    char *piece[100];
    for (size_t i = 0; i < 100; i++) {
        piece[i] = arena_alloc(&arena, i);
        ck_assert_ptr_nonnull(piece[i]);
        ck_assert_uint_eq((uintptr_t)piece[i] % _Alignof(max_align_t), 0);
        memset(piece[i], (int)i, i);
    }
    for (size_t i = 0; i < 100; i++)
        for (size_t j = 0; j < i; j++)
            ck_assert_int_eq(piece[i][j], (int)i);
}
END_TEST

START_TEST(a_piece_larger_than_a_chunk_gets_its_own)
{
    char *large = arena_alloc(&arena, 10000);
    ck_assert_ptr_nonnull(large);
    memset(large, 1, 10000);
}
END_TEST

static void take_in_order(const size_t sizes[4])
{
    for (int i = 0; i < 4; i++)
        ck_assert_ptr_nonnull(arena_alloc(&arena, sizes[i]));
    arena_reset(&arena);
}

START_TEST(reset_keeps_the_memory_for_the_next_batch)
{
    take_in_order((size_t[]){100, 1000, 2000, 50});
    size_t held_bytes = arena_held_bytes(&arena);
    for (int round = 0; round < 10; round++)
        take_in_order((size_t[]){100, 1000, 2000, 50});
    ck_assert_uint_eq(arena_held_bytes(&arena), held_bytes);
}
END_TEST

START_TEST(changing_orders_of_sizes_do_not_grow_it_for_ever)
{
    size_t settled_bytes = 0;
    for (int round = 0; round < 1000; round++) {
        take_in_order((size_t[]){100, 1000, 2000, 50});
        take_in_order((size_t[]){2000, 50, 1000, 300});
        take_in_order((size_t[]){1000, 2000, 300, 300});
        if (round == 10)
            settled_bytes = arena_held_bytes(&arena);
    }
    ck_assert_uint_eq(arena_held_bytes(&arena), settled_bytes);
}
END_TEST

START_TEST(out_of_memory_leaves_what_was_taken)
{
    struct text kept = arena_text(&arena, TEXT("kept"));
    ck_assert_ptr_null(arena_alloc(&arena, SIZE_MAX));
    ck_assert_ptr_null(arena_alloc(&arena, SIZE_MAX - 64));
    ck_assert(text_equal(kept, TEXT("kept")));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, pieces_are_aligned_and_apart);
    tcase_add_test(tests, a_piece_larger_than_a_chunk_gets_its_own);
    tcase_add_test(tests, reset_keeps_the_memory_for_the_next_batch);
    tcase_add_test(tests, changing_orders_of_sizes_do_not_grow_it_for_ever);
    tcase_add_test(tests, out_of_memory_leaves_what_was_taken);
}

int main(void)
{
    return run_suite("arena", add_tests);
}
