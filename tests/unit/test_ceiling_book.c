#include "consumer/ceiling_book.h"

#include <check.h>
#include <stdio.h>

#include "ceiling_fixture.h"
#include "suite.h"

static struct ceiling_book *book;
static struct ceiling_catalogue *catalogue;

static void setup(void)
{
    book = ceiling_book_new(3, (struct lookup_seed){{1, 2}});
    catalogue = ceiling_catalogue_new(8);
    ck_assert(book && catalogue);
    ceiling_book_use(book, catalogue);
    heard_clear();
}

static void teardown(void)
{
    ceiling_book_free(book);
    ceiling_catalogue_free(catalogue);
}

static void rule(const char *name, const char *who, enum ceiling_period period, int limit)
{
    add_rule(catalogue, name, who, "tokens", period, limit, limit);
}

static void use(const char *customer_id, int quantity, int64_t time_us)
{
    ck_assert(count(book, customer_id, "tokens", "", quantity, time_us, NOW_US));
}

START_TEST(exactly_the_limit_is_not_crossed_and_one_above_is)
{
    rule("cap", "*", PERIOD_MONTH, 100);
    use("acme", 99, NOW_US);
    use("acme", 1, NOW_US);
    ck_assert_str_eq(heard(), "");
    use("acme", 1, NOW_US);
    ck_assert_str_eq(heard(), "acme/cap +1 100>101/100 event\n");
    use("acme", 1, NOW_US);
    ck_assert_str_eq(heard(), "acme/cap +1 100>101/100 event\n");
}
END_TEST

START_TEST(the_smallest_step_above_the_limit_crosses)
{
    rule("cap", "*", PERIOD_MONTH, 100);
    struct event event = event_of("acme", "tokens", "", 100, NOW_US);
    ck_assert(count_event(book, &event, NOW_US));
    event.quantity = 1;
    ck_assert(count_event(book, &event, NOW_US));
    ck_assert_uint_eq(heard_count(), 1);
}
END_TEST

START_TEST(a_correction_back_to_the_clear_level_clears)
{
    add_rule(catalogue, "cap", "*", "tokens", PERIOD_DAY, 100, 80);
    use("acme", 101, NOW_US);
    use("acme", -20, NOW_US);
    ck_assert_uint_eq(heard_count(), 1);
    use("acme", -1, NOW_US);
    use("acme", 20, NOW_US);
    use("acme", 1, NOW_US);
    ck_assert_str_eq(heard(), "acme/cap +1 0>101/100 event\n"
                              "acme/cap -2 81>80/100 event\n"
                              "acme/cap +3 100>101/100 event\n");
}
END_TEST

START_TEST(only_its_customer_meets_a_customers_ceiling)
{
    rule("own", "acme", PERIOD_DAY, 10);
    use("bolt", 11, NOW_US);
    use("acme", 11, NOW_US);
    ck_assert_str_eq(heard(), "acme/own +1 0>11/10 event\n");
    struct event event = event_of("bolt", "tokens", "", 1, NOW_US);
    ck_assert(!ceiling_book_counts(book, &event));
    event.customer_id = TEXT("acme");
    ck_assert(ceiling_book_counts(book, &event));
    event.meter = TEXT("calls");
    ck_assert(!ceiling_book_counts(book, &event));
}
END_TEST

START_TEST(a_plans_ceiling_is_judged_at_events_that_name_the_plan)
{
    rule("pro-cap", "plan:pro", PERIOD_DAY, 10);
    ck_assert(count(book, "acme", "tokens", "free", 20, NOW_US, NOW_US));
    ck_assert(count(book, "acme", "tokens", "", 1, NOW_US, NOW_US));
    ck_assert_str_eq(heard(), "");
    ck_assert(count(book, "acme", "tokens", "pro", 1, NOW_US, NOW_US));
    ck_assert_str_eq(heard(), "acme/pro-cap +1 21>22/10 event\n");
}
END_TEST

START_TEST(two_ceilings_share_one_counter_and_answer_in_their_order)
{
    rule("low", "*", PERIOD_DAY, 10);
    rule("high", "acme", PERIOD_DAY, 20);
    rule("middle", "*", PERIOD_DAY, 15);
    use("acme", 12, NOW_US);
    use("acme", 9, NOW_US);
    ck_assert_str_eq(heard(), "acme/low +1 0>12/10 event\n"
                              "acme/high +1 12>21/20 event\n"
                              "acme/middle +1 12>21/15 event\n");
    ck_assert_str_eq(changes(book, 0), "acme tokens day 21\n"
                                       "acme/low 1 active\n"
                                       "acme/high 1 active\n"
                                       "acme/middle 1 active\n");
}
END_TEST

START_TEST(an_event_counts_in_the_period_of_its_own_time)
{
    rule("cap", "*", PERIOD_HOUR, 10);
    use("acme", 6, NOW_US);
    use("acme", 6, NOW_US - HOUR_US);
    use("acme", 6, NOW_US + HOUR_US);
    ck_assert_str_eq(heard(), "");
    use("acme", 5, NOW_US);
    ck_assert_uint_eq(heard_count(), 1);
}
END_TEST

START_TEST(a_late_event_that_crosses_a_past_period_is_kept_and_not_published)
{
    rule("cap", "*", PERIOD_HOUR, 10);
    use("acme", 11, NOW_US - 2 * HOUR_US);
    ck_assert_str_eq(heard(), "acme/cap +1 0>11/10 event unpublished\n");
    ck_assert(ceiling_book_tick(book, NOW_US, hear, NULL));
    ck_assert_str_eq(heard(), "acme/cap +1 0>11/10 event unpublished\n"
                              "acme/cap -2 11>11/10 clock over\n");
    use("acme", 1, NOW_US - 2 * HOUR_US); /* it was crossed already */
    ck_assert_uint_eq(heard_count(), 2);
    use("acme", -5, NOW_US - 2 * HOUR_US);
    use("acme", 5, NOW_US - 2 * HOUR_US);
    ck_assert_uint_eq(heard_count(), 3);
}
END_TEST

START_TEST(an_idle_customer_is_cleared_at_the_periods_end)
{
    rule("cap", "*", PERIOD_HOUR, 10);
    ck_assert_int_eq(ceiling_book_next_end_us(book), INT64_MAX);
    use("bolt", 11, NOW_US);
    use("acme", 12, NOW_US);
    int64_t end_us = ceiling_period_end(PERIOD_HOUR, NOW_US);
    ck_assert_int_eq(ceiling_book_next_end_us(book), end_us);
    ck_assert(ceiling_book_tick(book, end_us - 1, hear, NULL));
    ck_assert_uint_eq(heard_count(), 2);
    heard_clear();
    ck_assert(ceiling_book_tick(book, end_us, hear, NULL));
    ck_assert_str_eq(heard(), "acme/cap -2 12>12/10 clock over\nbolt/cap -2 11>11/10 clock over\n");
    ck_assert_int_eq(ceiling_book_next_end_us(book), INT64_MAX);
}
END_TEST

START_TEST(a_key_crossed_in_a_later_period_is_not_cleared_by_the_earlier_ones_end)
{
    rule("cap", "*", PERIOD_HOUR, 10);
    use("acme", 11, NOW_US);
    use("acme", 11, NOW_US + HOUR_US);
    heard_clear();
    ck_assert(ceiling_book_tick(book, ceiling_period_end(PERIOD_HOUR, NOW_US), hear, NULL));
    ck_assert_str_eq(heard(), "acme/cap -2 11>11/10 clock over unpublished\n");
    ck_assert(ceiling_book_tick(book, ceiling_period_end(PERIOD_HOUR, NOW_US) + HOUR_US, hear, NULL));
    ck_assert_str_eq(heard(), "acme/cap -2 11>11/10 clock over unpublished\n"
                              "acme/cap -2 11>11/10 clock over\n");
}
END_TEST

START_TEST(periods_that_ended_before_a_ceiling_was_made_are_not_judged)
{
    rule("cap", "*", PERIOD_HOUR, 10);
    catalogue->ceilings[0].created_at_us = ceiling_period_start(PERIOD_HOUR, NOW_US);
    use("acme", 11, NOW_US - HOUR_US);
    ck_assert_str_eq(heard(), "");
    use("acme", 11, NOW_US);
    ck_assert_uint_eq(heard_count(), 1);
}
END_TEST

static struct ceiling_catalogue *other_catalogue(const char *name, const char *who, int limit)
{
    struct ceiling_catalogue *other = ceiling_catalogue_new(2);
    ck_assert_ptr_nonnull(other);
    if (name[0] != '\0')
        add_rule(other, name, who, "tokens", PERIOD_DAY, limit, limit);
    for (size_t i = 0; i < other->count; i++)
        other->ceilings[i].version = 2;
    return other;
}

static void change_to(struct ceiling_catalogue *other)
{
    heard_clear();
    ck_assert(ceiling_book_shadow(book, other));
    ck_assert(ceiling_book_adopt(book));
    ck_assert(ceiling_book_judge(book, DECIDED_BY_CEILINGS, NOW_US, hear, NULL));
    ceiling_book_commit(book, ceiling_book_mark(book));
}

START_TEST(a_limit_raised_while_crossed_clears)
{
    rule("cap", "*", PERIOD_DAY, 10);
    use("acme", 11, NOW_US);
    struct ceiling_catalogue *raised = other_catalogue("cap", "*", 11);
    change_to(raised);
    ck_assert_str_eq(heard(), "acme/cap -2 11>11/11 ceilings\n");
    use("acme", 1, NOW_US);
    ck_assert_uint_eq(heard_count(), 2);
    ceiling_catalogue_free(raised);
}
END_TEST

START_TEST(a_lowered_limit_crosses_in_an_order_of_its_own)
{
    rule("cap", "*", PERIOD_DAY, 10);
    use("zed", 9, NOW_US);
    use("acme", 10, NOW_US);
    use("bolt", 8, NOW_US);
    use("gone", 10, NOW_US - 86400 * 1000000LL);
    struct ceiling_catalogue *lowered = other_catalogue("cap", "*", 8);
    change_to(lowered);
    ck_assert_str_eq(heard(), "acme/cap +1 10>10/8 ceilings\nzed/cap +1 9>9/8 ceilings\n");
    ceiling_catalogue_free(lowered);
}
END_TEST

START_TEST(a_ceiling_that_is_gone_clears_what_it_had_crossed)
{
    rule("cap", "*", PERIOD_DAY, 10);
    use("acme", 11, NOW_US);
    struct ceiling_catalogue *none = other_catalogue("", "", 0);
    change_to(none);
    ck_assert_str_eq(heard(), "acme/cap -2 11>11/10 ceilings gone\n");
    use("acme", 11, NOW_US);
    ck_assert_uint_eq(heard_count(), 1);
    ceiling_catalogue_free(none);
}
END_TEST

START_TEST(a_ceiling_given_to_another_customer_clears_the_first)
{
    rule("cap", "acme", PERIOD_DAY, 10);
    use("acme", 11, NOW_US);
    struct ceiling_catalogue *moved = other_catalogue("cap", "bolt", 10);
    change_to(moved);
    ck_assert_str_eq(heard(), "acme/cap -2 11>11/10 ceilings gone\n");
    ceiling_catalogue_free(moved);
}
END_TEST

START_TEST(a_judgement_taken_back_is_made_again_by_the_next_tick)
{
    rule("cap", "*", PERIOD_DAY, 10);
    use("acme", 11, NOW_US);
    struct ceiling_catalogue *raised = other_catalogue("cap", "*", 20);
    ck_assert(ceiling_book_shadow(book, raised));
    ck_assert(ceiling_book_adopt(book));
    uint64_t mark = ceiling_book_mark(book);
    ceiling_book_commit(book, mark);
    heard_clear();
    ck_assert(ceiling_book_judge(book, DECIDED_BY_CEILINGS, NOW_US, hear, NULL));
    ceiling_book_undo(book, 0);
    ck_assert_int_le(ceiling_book_next_end_us(book), NOW_US);
    ck_assert(ceiling_book_tick(book, NOW_US, hear, NULL));
    ck_assert_str_eq(heard(), "acme/cap -2 11>11/20 ceilings\nacme/cap -2 11>11/20 ceilings\n");
    ck_assert_int_gt(ceiling_book_next_end_us(book), NOW_US);
    ceiling_catalogue_free(raised);
}
END_TEST

START_TEST(an_adoption_taken_back_leaves_the_former_ceilings_and_the_seeded_shadow)
{
    rule("cap", "*", PERIOD_HOUR, 10);
    use("acme", 5, NOW_US);
    uint64_t mark = ceiling_book_mark(book);
    struct ceiling_catalogue *other = other_catalogue("day", "*", 10);
    ck_assert(ceiling_book_shadow(book, other));
    ceiling_book_commit(book, mark);
    use("acme", 1, NOW_US);
    struct ceiling_counter sum = {.customer_id = TEXT("acme"),
                                  .meter = TEXT("tokens"),
                                  .period = PERIOD_DAY,
                                  .scope = TEXT("{}"),
                                  .used = 5 * DECIMAL_ONE,
                                  .period_start_us = ceiling_period_start(PERIOD_DAY, NOW_US)};
    struct ceiling_counter counted = sum;
    counted.period = PERIOD_HOUR;
    ck_assert(ceiling_book_wants_seed(book, &sum) && !ceiling_book_wants_seed(book, &counted));
    ck_assert(ceiling_book_seed(book, &sum));
    ck_assert_str_eq(changes(book, mark), "acme tokens hour 6\n");
    ck_assert(ceiling_book_adopt(book));
    ck_assert_str_eq(changes(book, mark), "acme tokens hour 6\nacme tokens day 6\n");
    ceiling_book_undo(book, mark);
    ck_assert_ptr_eq(ceiling_book_catalogue(book), catalogue);
    use("acme", 1, NOW_US);
    use("acme", 5, NOW_US);
    ck_assert_str_eq(heard(), "acme/cap +1 6>11/10 event\n");
    ck_assert(ceiling_book_adopt(book));
    heard_clear();
    ck_assert(ceiling_book_judge(book, DECIDED_BY_CEILINGS, NOW_US, hear, NULL));
    ck_assert_str_eq(heard(), "acme/cap -2 11>11/10 ceilings gone\nacme/day +1 11>11/10 ceilings\n");
    ceiling_book_commit(book, ceiling_book_mark(book));
    ck_assert_ptr_eq(ceiling_book_catalogue(book), other);
    ceiling_book_free(book); /* before the catalogue that it was given */
    book = NULL;
    ceiling_catalogue_free(other);
}
END_TEST

/* What was used before is known to nobody: the sums begin with the first period that is judged. */
START_TEST(periods_that_ended_before_all_ceilings_are_counted_once_an_older_ceiling_comes)
{
    rule("cap", "*", PERIOD_HOUR, 10);
    catalogue->ceilings[0].created_at_us = ceiling_period_start(PERIOD_HOUR, NOW_US);
    uint64_t begin = ceiling_book_mark(book);
    struct event late = event_of("acme", "tokens", "", 4, NOW_US - HOUR_US);
    ck_assert(!ceiling_book_counts(book, &late));
    ck_assert(count_event(book, &late, NOW_US));
    ck_assert_str_eq(changes(book, begin), "");

    struct ceiling_catalogue *older = ceiling_catalogue_new(1);
    add_rule(older, "older", "*", "tokens", PERIOD_HOUR, 10, 10);
    ck_assert(ceiling_book_shadow(book, older));
    ck_assert(ceiling_book_counts(book, &late));
    use("acme", 5, NOW_US);
    use("acme", 3, NOW_US - HOUR_US);
    struct ceiling_counter sum = {.customer_id = TEXT("acme"),
                                  .meter = TEXT("tokens"),
                                  .period = PERIOD_HOUR,
                                  .scope = TEXT("{}"),
                                  .used = 4 * DECIMAL_ONE,
                                  .period_start_us = ceiling_period_start(PERIOD_HOUR, NOW_US - HOUR_US)};
    ck_assert(ceiling_book_seed(book, &sum));
    sum.period_start_us = ceiling_period_start(PERIOD_HOUR, NOW_US);
    ck_assert(ceiling_book_seed(book, &sum)); /* counted all along */
    ck_assert(ceiling_book_adopt(book));
    ck_assert_str_eq(changes(book, begin), "acme tokens hour 5\nacme tokens hour 7\n");
    ceiling_book_free(book); /* before the catalogue that it was given */
    book = NULL;
    ceiling_catalogue_free(older);
}
END_TEST

START_TEST(a_ceiling_that_now_means_another_period_starts_anew)
{
    int64_t midnight_us = ceiling_period_start(PERIOD_DAY, NOW_US);
    rule("cap", "*", PERIOD_HOUR, 10);
    ck_assert(count(book, "acme", "tokens", "", 11, midnight_us, midnight_us));
    struct ceiling_catalogue *other = other_catalogue("cap", "*", 10);
    heard_clear();
    ck_assert(ceiling_book_shadow(book, other));
    struct ceiling_counter sum = {.customer_id = TEXT("acme"),
                                  .meter = TEXT("tokens"),
                                  .period = PERIOD_DAY,
                                  .scope = TEXT("{}"),
                                  .used = 11 * DECIMAL_ONE,
                                  .period_start_us = midnight_us};
    ck_assert(ceiling_book_seed(book, &sum));
    ck_assert(ceiling_book_adopt(book));
    ck_assert(ceiling_book_judge(book, DECIDED_BY_CEILINGS, midnight_us, hear, NULL));
    ck_assert_str_eq(heard(), "acme/cap -2 11>11/10 ceilings gone\nacme/cap +3 11>11/10 ceilings\n");
    ck_assert(ceiling_book_tick(book, midnight_us + HOUR_US, hear, NULL));
    ck_assert_uint_eq(heard_count(), 2);
    ck_assert_int_eq(ceiling_book_next_end_us(book), midnight_us + 24 * HOUR_US);
    ceiling_book_free(book);
    book = NULL;
    ceiling_catalogue_free(other);
}
END_TEST

START_TEST(a_cancelled_shadow_leaves_no_trace)
{
    rule("cap", "*", PERIOD_HOUR, 10);
    struct ceiling_catalogue *other = other_catalogue("day", "*", 10);
    for (int round = 0; round < 3; round++) {
        uint64_t mark = ceiling_book_mark(book);
        ck_assert(ceiling_book_shadow(book, other));
        use("acme", 3, NOW_US);
        ceiling_book_cancel(book);
        if (round == 0)
            ceiling_book_undo(book, mark);
        else
            ceiling_book_commit(book, ceiling_book_mark(book));
    }
    ck_assert(ceiling_book_shadow(book, other));
    use("acme", 3, NOW_US);
    ck_assert(ceiling_book_adopt(book));
    ck_assert_str_eq(changes(book, 0), "acme tokens hour 9\nacme tokens day 3\n");
    ceiling_book_free(book);
    book = NULL;
    ceiling_catalogue_free(other);
}
END_TEST

START_TEST(undo_restores_counters_and_states_and_the_next_decision_is_the_same)
{
    rule("cap", "*", PERIOD_DAY, 10);
    use("acme", 5, NOW_US);
    uint64_t mark = ceiling_book_mark(book);
    ceiling_book_commit(book, mark);
    use("acme", 6, NOW_US);
    use("acme", -6, NOW_US);
    use("acme", 7, NOW_US);
    use("bolt", 7, NOW_US);
    char first[2000];
    strcpy(first, heard_ids());
    heard_clear();
    ceiling_book_undo(book, mark);
    ck_assert_str_eq(changes(book, mark), "");
    ck_assert_int_eq(ceiling_book_next_end_us(book), INT64_MAX);
    use("acme", 6, NOW_US);
    use("acme", -6, NOW_US);
    use("acme", 7, NOW_US);
    ck_assert_str_eq(heard_ids(), first);
    ck_assert_str_eq(changes(book, mark), "acme tokens day 12\nacme/cap 3 active\n");
}
END_TEST

START_TEST(changes_are_handed_out_since_a_mark_and_once_each)
{
    rule("cap", "*", PERIOD_DAY, 10);
    use("acme", 5, NOW_US);
    use("acme", 5, NOW_US);
    uint64_t mark = ceiling_book_mark(book);
    use("bolt", 1, NOW_US);
    use("bolt", 1, NOW_US);
    ck_assert_str_eq(changes(book, mark), "bolt tokens day 2\n");
    use("acme", 5, NOW_US);
    ck_assert_str_eq(changes(book, mark), "bolt tokens day 2\nacme tokens day 15\nacme/cap 1 active\n");
    ck_assert_str_eq(changes(book, 0), "acme tokens day 15\nbolt tokens day 2\nacme/cap 1 active\n");
    ceiling_book_commit(book, mark);
    ck_assert_str_eq(changes(book, mark), "bolt tokens day 2\nacme tokens day 15\nacme/cap 1 active\n");
}
END_TEST

START_TEST(a_restored_book_goes_on_where_the_other_one_was)
{
    rule("cap", "*", PERIOD_DAY, 10);
    use("acme", 11, NOW_US);
    struct ceiling_book *heir = ceiling_book_new(3, (struct lookup_seed){{1, 2}});
    ck_assert(restore_all(heir, book));
    ceiling_book_use(heir, catalogue);
    ck_assert(ceiling_book_judge(heir, DECIDED_BY_CEILINGS, NOW_US, hear, NULL));
    ck_assert_uint_eq(heard_count(), 1);
    heard_clear();
    use("acme", -1, NOW_US);
    char here[1000];
    strcpy(here, heard_ids());
    heard_clear();
    ck_assert(count(heir, "acme", "tokens", "", -1, NOW_US, NOW_US));
    ck_assert_str_eq(heard_ids(), here);
    ceiling_book_free(heir);
}
END_TEST

START_TEST(a_restored_state_without_its_ceiling_is_cleared_as_its_flag_says)
{
    struct ceiling_state state = {
        .customer_id = TEXT("acme"),
        .ceiling = TEXT("cap"),
        .scope = TEXT("{}"),
        .period_start_us = ceiling_period_start(PERIOD_DAY, NOW_US),
        .period_end_us = ceiling_period_end(PERIOD_DAY, NOW_US),
        .version = 4,
        .transition = 1,
        .active = true,
        .decision_id = "0123456789abcdef0123456789abcdef",
        .flag =
            TEXT("{\"used\": \"13.5\", \"limit\": \"12\", \"meter\": \"calls\", \"policy\": \"hard-stop\"}")};
    ck_assert(ceiling_book_restore_state(book, &state));
    ck_assert(ceiling_book_judge(book, DECIDED_BY_CEILINGS, NOW_US, hear, NULL));
    ck_assert_str_eq(heard(), "acme/cap -2 13.5>13.5/12 ceilings gone\n");
}
END_TEST

START_TEST(of_each_key_the_latest_crossed_period_counts)
{
    rule("cap", "*", PERIOD_HOUR, 10);
    use("acme", 11, NOW_US - 2 * HOUR_US);
    use("acme", 11, NOW_US - HOUR_US);
    use("acme", 11, NOW_US);
    use("acme", -1, NOW_US);
    use("bolt", 11, NOW_US - HOUR_US);
    use("bolt", -1, NOW_US - HOUR_US);
    use("bolt", 11, NOW_US);
    use("bolt", -1, NOW_US);
    char expected[200];
    snprintf(expected, sizeof expected, "acme/cap 1 active %ld\nbolt/cap 2 cleared %ld\n",
             (long)(ceiling_period_start(PERIOD_HOUR, NOW_US) - HOUR_US),
             (long)ceiling_period_start(PERIOD_HOUR, NOW_US));
    ck_assert_str_eq(states(book), expected);
}
END_TEST

START_TEST(forgotten_periods_are_not_counted_again_from_nothing)
{
    rule("cap", "*", PERIOD_HOUR, 10);
    use("acme", 11, NOW_US - 2 * HOUR_US);
    use("acme", 4, NOW_US);
    ck_assert(ceiling_book_tick(book, NOW_US, hear, NULL));
    int64_t before_us = ceiling_period_start(PERIOD_HOUR, NOW_US);
    ceiling_book_forget(book, before_us); /* the journal holds all of it still */
    ck_assert_str_eq(changes(book, 0), "acme tokens hour 11\nacme/cap 2 cleared\nacme tokens hour 4\n");
    uint64_t mark = ceiling_book_mark(book);
    ceiling_book_commit(book, mark);
    ceiling_book_forget(book, before_us);
    ck_assert_str_eq(states(book), "");
    heard_clear();
    use("acme", 11, NOW_US - 2 * HOUR_US);
    ck_assert_str_eq(heard(), "");
    ck_assert_str_eq(changes(book, mark), "");
    use("acme", 7, NOW_US);
    ck_assert_str_eq(heard(), "acme/cap +1 4>11/10 event\n");
}
END_TEST

/* Whoever takes over late forgets first. */
START_TEST(what_is_crossed_is_cleared_however_old)
{
    rule("cap", "*", PERIOD_HOUR, 10);
    use("acme", 11, NOW_US);
    ceiling_book_commit(book, ceiling_book_mark(book));
    heard_clear();
    ceiling_book_forget(book, NOW_US + 24 * HOUR_US);
    ck_assert(ceiling_book_tick(book, NOW_US + 24 * HOUR_US, hear, NULL));
    ck_assert_str_eq(heard(), "acme/cap -2 11>11/10 clock over\n");
}
END_TEST

START_TEST(more_than_128_bits_are_refused_and_can_be_undone)
{
    rule("cap", "*", PERIOD_HOUR, 10);
    struct event event = event_of("acme", "tokens", "", 1, NOW_US);
    event.quantity = ((decimal_t)1 << 126) - 1;
    uint64_t mark = ceiling_book_mark(book);
    ck_assert(count_event(book, &event, NOW_US));
    ck_assert(count_event(book, &event, NOW_US));
    ck_assert(!count_event(book, &event, NOW_US));
    ceiling_book_undo(book, mark);
    heard_clear();
    use("acme", 10, NOW_US);
    ck_assert_str_eq(heard(), "");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, exactly_the_limit_is_not_crossed_and_one_above_is);
    tcase_add_test(tests, the_smallest_step_above_the_limit_crosses);
    tcase_add_test(tests, a_correction_back_to_the_clear_level_clears);
    tcase_add_test(tests, only_its_customer_meets_a_customers_ceiling);
    tcase_add_test(tests, a_plans_ceiling_is_judged_at_events_that_name_the_plan);
    tcase_add_test(tests, two_ceilings_share_one_counter_and_answer_in_their_order);
    tcase_add_test(tests, an_event_counts_in_the_period_of_its_own_time);
    tcase_add_test(tests, a_late_event_that_crosses_a_past_period_is_kept_and_not_published);
    tcase_add_test(tests, an_idle_customer_is_cleared_at_the_periods_end);
    tcase_add_test(tests, a_key_crossed_in_a_later_period_is_not_cleared_by_the_earlier_ones_end);
    tcase_add_test(tests, periods_that_ended_before_a_ceiling_was_made_are_not_judged);
    tcase_add_test(tests, a_limit_raised_while_crossed_clears);
    tcase_add_test(tests, a_lowered_limit_crosses_in_an_order_of_its_own);
    tcase_add_test(tests, a_ceiling_that_is_gone_clears_what_it_had_crossed);
    tcase_add_test(tests, a_ceiling_given_to_another_customer_clears_the_first);
    tcase_add_test(tests, undo_restores_counters_and_states_and_the_next_decision_is_the_same);
    tcase_add_test(tests, changes_are_handed_out_since_a_mark_and_once_each);
    tcase_add_test(tests, a_restored_book_goes_on_where_the_other_one_was);
    tcase_add_test(tests, a_restored_state_without_its_ceiling_is_cleared_as_its_flag_says);
    tcase_add_test(tests, of_each_key_the_latest_crossed_period_counts);
    tcase_add_test(tests, forgotten_periods_are_not_counted_again_from_nothing);
    tcase_add_test(tests, what_is_crossed_is_cleared_however_old);
    tcase_add_test(tests, more_than_128_bits_are_refused_and_can_be_undone);
    tcase_add_test(tests, a_judgement_taken_back_is_made_again_by_the_next_tick);
    tcase_add_test(tests, an_adoption_taken_back_leaves_the_former_ceilings_and_the_seeded_shadow);
    tcase_add_test(tests, periods_that_ended_before_all_ceilings_are_counted_once_an_older_ceiling_comes);
    tcase_add_test(tests, a_ceiling_that_now_means_another_period_starts_anew);
    tcase_add_test(tests, a_cancelled_shadow_leaves_no_trace);
}

int main(void)
{
    return run_suite("ceiling_book", add_tests);
}
