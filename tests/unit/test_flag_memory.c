/* Each allocation of a flag book's life fails in turn. Whoever is told so asks again, and then the same
 * messages leave. */
#include "consumer/flag.h"
#include "consumer/flag_book.h"

#include <check.h>
#include <stdio.h>

#include "failing_memory.h"
#include "suite.h"

#define NOW_US ((int64_t)1795372200000000)
static const char *const topics[] = {"usage"};
static struct arena arena; /* of the test: made when nothing fails */
static struct flag_book *book;
static struct text active[30], cleared[30];
static char keys[30][32], ids[30][33];

static void make_values(void)
{
    arena_init(&arena, 1 << 20);
    for (int i = 0; i < 30; i++) {
        struct decision decision = {.customer_id = TEXT("acme"),
                                    .ceiling = TEXT("cap"),
                                    .scope = TEXT("{}"),
                                    .active = true,
                                    .decided_at_us = NOW_US,
                                    .period_end_us = NOW_US};
        snprintf(keys[i], sizeof keys[i], "[\"c%d\",\"cap\",{}]", i);
        snprintf(ids[i], sizeof ids[i], "%032d", i);
        memcpy(decision.id, ids[i], sizeof decision.id);
        active[i] = flag_value(&arena, &decision, topics);
        decision.active = false;
        cleared[i] = flag_value(&arena, &decision, topics);
    }
}

static bool see(int i, struct text value, int64_t epoch)
{
    return flag_book_seen(book, text_of(keys[i]), value, true, (struct flag_sequence){epoch, i + 1});
}

static bool restore(int i)
{
    struct text jsonb = TEXT("{\"event\": null, \"type\": \"flag\", \"state\": \"active\", "
                             "\"decision_id\": \"00000000000000000000000000000007\", "
                             "\"expires_at\": \"2026-12-01T00:00:00Z\", "
                             "\"decided_at\": \"2026-11-22T18:30:00Z\"}");
    return flag_book_restore(book, text_of(keys[i]), i % 2 ? active[i] : jsonb, ids[i], true);
}

static bool decide(int i)
{
    return flag_book_decide(book, text_of(keys[i]), i % 3 ? active[i] : cleared[i], ids[i], i % 3, NOW_US);
}

/* About half of the customers are another lane's. */
static const struct flag_homes homes = {.partitioner = PARTITIONER_MURMUR2, .lanes = 2, .epoch = 4};
static size_t failures;

/* Asked again until it succeeds; only one allocation fails. */
#define INSIST(call)                                                                                         \
    do {                                                                                                     \
        while (!(call))                                                                                      \
            failures++;                                                                                      \
        ck_assert_uint_le(failures, 1);                                                                      \
    } while (0)

static void live(char *sent)
{
    for (int i = 0; i < 10; i++)
        INSIST(see(i, i % 2 ? active[i] : cleared[i], 4));
    for (int i = 5; i < 15; i++)
        INSIST(restore(i));
    INSIST(flag_book_homes(book, &homes));
    flag_book_epoch(book, 5);
    for (int i = 12; i < 30; i++)
        INSIST(decide(i));
    for (int i = 0; i < 5; i++)
        INSIST(see(i, active[i + 1], 3));
    INSIST(flag_book_reconcile(book, NOW_US));
    INSIST(flag_book_bury(book, NOW_US + 1, 1));
    struct flag_due due;
    while (flag_book_due(book, &due)) {
        sent += sprintf(sent, "%.*s %.*s\n", (int)due.key.length, due.key.bytes, (int)due.value.length,
                        due.value.bytes ? due.value.bytes : "");
        flag_book_published(book, due.cookie);
    }
    flag_book_undo(book);
    INSIST(flag_book_reconcile(book, NOW_US));
}

/* From where they differ on. */
static void expect_no_difference(uint64_t number, const char *sent, const char *expected)
{
    size_t same = 0;
    while (sent[same] != '\0' && sent[same] == expected[same])
        same++;
    if (sent[same] != expected[same])
        ck_abort_msg("allocation %lu made a difference: %.300s\nfor %.300s", (unsigned long)number,
                     sent + same, expected + same);
}

static void fail_each_in_turn(void)
{
    static char expected[100000], sent[100000];
    make_values();
    size_t before_bytes = held_bytes, survived = 0;
    book = flag_book_new(0, (struct lookup_seed){{1, 2}});
    live(expected);
    flag_book_free(book);
    for (uint64_t number = 0;; number++) {
        failures = 0;
        fail_allocations(number, 1);
        book = flag_book_new(0, (struct lookup_seed){{1, 2}});
        if (book)
            live(sent);
        bool failed = allocations > fail_from;
        fail_no_allocation();
        if (book)
            expect_no_difference(number, sent, expected);
        survived += failures;
        flag_book_free(book);
        if (held_bytes != before_bytes)
            ck_abort_msg("allocation %lu leaked", (unsigned long)number);
        if (!failed)
            break;
    }
    ck_assert_uint_gt(survived, 50);
    arena_free(&arena);
}

START_TEST(a_failed_allocation_changes_no_message)
{
    fail_each_in_turn();
}
END_TEST

START_TEST(a_piece_that_found_no_memory_changes_no_message)
{
    pieces_apart = true;
    fail_each_in_turn();
}
END_TEST

START_TEST(values_that_find_no_memory_are_none)
{
    struct decision decision = {.customer_id = TEXT("acme"), .ceiling = TEXT("cap"), .scope = TEXT("{}")};
    arena_init(&arena, 16);
    fail_allocations(0, UINT64_MAX);
    ck_assert_ptr_null(flag_value(&arena, &decision, topics).bytes);
    ck_assert_ptr_null(flag_key(&arena, decision.customer_id, decision.ceiling, decision.scope).bytes);
    ck_assert_ptr_null(flag_trace(&arena, &decision, TEXT("{}")).bytes);
    fail_no_allocation();
    arena_free(&arena);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_failed_allocation_changes_no_message);
    tcase_add_test(tests, a_piece_that_found_no_memory_changes_no_message);
    tcase_add_test(tests, values_that_find_no_memory_are_none);
}

int main(void)
{
    return run_suite("flag_memory", add_tests);
}
