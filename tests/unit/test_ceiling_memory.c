/* Each allocation of a book's life fails in turn. What fails is undone and done again, and then nothing
 * differs from a life in which none failed. */
#include <check.h>
#include <stdio.h>

#include "ceiling_fixture.h"
#include "failing_memory.h"
#include "suite.h"

static struct ceiling_catalogue *first, *second;
static struct ceiling_book *book;
static char customer_ids[40][16];

static bool make_catalogues(void)
{
    first = ceiling_catalogue_new(4);
    second = ceiling_catalogue_new(4);
    if (!first || !second)
        return false;
    uint64_t from = fail_from, before = allocations;
    fail_no_allocation(); /* another test's affair */
    add_rule(first, "day", "*", "tokens", PERIOD_DAY, 10, 10);
    add_rule(second, "month", "*", "tokens", PERIOD_MONTH, 60, 50);
    add_rule(second, "day", "*", "tokens", PERIOD_DAY, 20, 15);
    allocations = before;
    if (from != UINT64_MAX)
        fail_allocations(from - before, 1);
    return true;
}

static bool make_book(void)
{
    book = ceiling_book_new(0, (struct lookup_seed){{1, 2}});
    return book;
}

static bool restore_rows(void)
{
    const struct ceiling_counter counter = {.customer_id = TEXT("old"),
                                            .meter = TEXT("tokens"),
                                            .period = PERIOD_DAY,
                                            .scope = TEXT("{}"),
                                            .period_start_us = ceiling_period_start(PERIOD_DAY, NOW_US),
                                            .used = 12 * DECIMAL_ONE};
    const struct ceiling_state state = {.customer_id = TEXT("old"),
                                        .ceiling = TEXT("gone"),
                                        .scope = TEXT("{}"),
                                        .period_start_us = counter.period_start_us,
                                        .period_end_us = ceiling_period_end(PERIOD_DAY, NOW_US),
                                        .version = 1,
                                        .transition = 1,
                                        .active = true,
                                        .flag = TEXT("{\"meter\": \"tokens\"}")};
    return ceiling_book_restore_counter(book, &counter) && ceiling_book_restore_state(book, &state);
}

static bool use_first(void)
{
    ceiling_book_use(book, first);
    return ceiling_book_judge(book, DECIDED_BY_CEILINGS, NOW_US, hear, NULL);
}

static bool count_all(void)
{
    for (int i = 0; i < 40; i++) {
        snprintf(customer_ids[i], sizeof customer_ids[i], "c%d", i);
        if (!count(book, customer_ids[i], "tokens", "", i, NOW_US - i % 3 * HOUR_US, NOW_US))
            return false;
    }
    return true;
}

static bool shadow(void)
{
    return ceiling_book_shadow(book, second);
}

static bool seed(void)
{
    struct ceiling_counter sum = {.customer_id = TEXT("c1"),
                                  .meter = TEXT("tokens"),
                                  .period = PERIOD_MONTH,
                                  .scope = TEXT("{}"),
                                  .period_start_us = ceiling_period_start(PERIOD_MONTH, NOW_US),
                                  .used = DECIMAL_ONE};
    return ceiling_book_seed(book, &sum);
}

static bool adopt(void)
{
    return ceiling_book_adopt(book);
}

static bool judge(void)
{
    return ceiling_book_judge(book, DECIDED_BY_CEILINGS, NOW_US, hear, NULL);
}

static bool tick(void)
{
    return ceiling_book_tick(book, NOW_US + 24 * HOUR_US, hear, NULL);
}

static bool list_states(void)
{
    return strcmp(states(book), "failed") != 0;
}

static bool (*const steps[])(void) = {restore_rows, use_first, count_all, shadow, seed,
                                      count_all,    adopt,     judge,     tick,   list_states};
enum { STEPS = sizeof steps / sizeof *steps };

static void take_step(size_t step, size_t *failures)
{
    uint64_t mark = ceiling_book_mark(book);
    const struct recorded before = record_of_decisions;
    while (!steps[step]()) {
        ++*failures;
        ck_assert_uint_le(*failures, 1);
        ceiling_book_undo(book, mark);
        record_of_decisions = before;
    }
}

/* False: the failure came before there was a book. */
static bool live(size_t *failures)
{
    heard_clear();
    if (make_catalogues() && make_book()) {
        for (size_t step = 0; step < STEPS; step++)
            take_step(step, failures);
        return true;
    }
    return false;
}

static void end_life(void)
{
    ceiling_book_free(book);
    ceiling_catalogue_free(first);
    ceiling_catalogue_free(second);
    book = NULL;
    first = second = NULL;
}

static void fail_each_in_turn(void)
{
    static char decisions[sizeof record_of_decisions.ids], rows[20000];
    size_t failures = 0, survived = 0;
    ck_assert(live(&failures));
    strcpy(decisions, heard_ids());
    strcpy(rows, changes(book, 0));
    end_life();
    ck_assert_uint_eq(held_bytes, 0);
    for (uint64_t number = 0;; number++) {
        failures = 0;
        fail_allocations(number, 1);
        bool lived = live(&failures);
        bool failed = allocations > fail_from;
        fail_no_allocation();
        if (lived) {
            if (strcmp(heard_ids(), decisions) != 0 || strcmp(changes(book, 0), rows) != 0)
                ck_abort_msg("allocation %lu made a difference", (unsigned long)number);
            survived += failures;
        }
        end_life();
        if (held_bytes != 0)
            ck_abort_msg("allocation %lu leaked", (unsigned long)number);
        if (!failed)
            break;
    }
    ck_assert_uint_gt(survived, 50);
}

START_TEST(a_failed_allocation_changes_nothing_that_undo_leaves)
{
    fail_each_in_turn();
}
END_TEST

START_TEST(a_piece_that_found_no_memory_changes_nothing_that_undo_leaves)
{
    pieces_apart = true;
    fail_each_in_turn();
}
END_TEST

/* Wherever it fails: the journal, too, is full after some number of events. */
START_TEST(a_judgement_that_finds_no_memory_is_owed_once_it_is_undone)
{
    enum { EVENTS = 100 };
    ck_assert(make_catalogues());
    for (int events = 0; events < EVENTS; events++) {
        ck_assert(make_book());
        ceiling_book_use(book, first);
        for (int i = 0; i < events; i++)
            ck_assert(count(book, "c1", "tokens", "", 0, NOW_US, NOW_US));
        uint64_t mark = ceiling_book_mark(book);
        fail_allocations(0, UINT64_MAX);
        bool judged = judge();
        fail_no_allocation();
        ceiling_book_undo(book, mark);
        ck_assert_msg(ceiling_book_next_end_us(book) == INT64_MIN, "after %d events, judged %d", events,
                      judged);
        ceiling_book_free(book);
    }
    book = NULL;
    end_life();
}
END_TEST

START_TEST(ceilings_that_find_no_memory_are_not_added)
{
    struct ceiling_catalogue *catalogue = ceiling_catalogue_new(2);
    struct ceiling ceiling = {.name = TEXT("name"), .who = TEXT(""), .meter = TEXT("tokens")};
    fail_allocations(0, 1);
    ck_assert(!ceiling_catalogue_add(catalogue, &ceiling));
    ck_assert_uint_eq(catalogue->count, 0);
    ck_assert(ceiling_catalogue_add(catalogue, &ceiling));
    ceiling_catalogue_free(catalogue);
    ck_assert_uint_eq(held_bytes, 0);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_failed_allocation_changes_nothing_that_undo_leaves);
    tcase_add_test(tests, a_piece_that_found_no_memory_changes_nothing_that_undo_leaves);
    tcase_add_test(tests, a_judgement_that_finds_no_memory_is_owed_once_it_is_undone);
    tcase_add_test(tests, ceilings_that_find_no_memory_are_not_added);
}

int main(void)
{
    return run_suite("ceiling_memory", add_tests);
}
