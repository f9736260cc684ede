/* The engine while a backlog is drained: when its last batch closes, and what waits for flags. */
#include <check.h>
#include <stdio.h>

#include "engine_fixture.h"
#include "suite.h"

/* --- its end --- */

/* Of so many lanes, from 0 on, Kafka delivers what they have; of the others nothing yet. */
static void deliver(size_t lanes)
{
    world.consumed_count = lanes;
}

/* A backlog of more than two records, then, and a batch of sixteen is full. */
static struct pipeline_options options_for_a_backlog(void)
{
    struct pipeline_options options = default_options();
    options.max_rows = 16;
    options.max_delay_us = 2 * SECOND_US;
    return options;
}

static void put_events(int32_t lane, int count)
{
    static const char *const customers[] = {"ann", "cat"}; /* at home in lane 0 and 1 of two */
    char event_id[20];
    for (int i = 0; i < count; i++) {
        snprintf(event_id, sizeof event_id, "%zu", world.logs[0][lane].count);
        put_event(0, lane, customers[lane], event_id, 1);
    }
}

START_TEST(the_last_records_of_a_backlog_are_committed_as_soon_as_they_are_read)
{
    struct pipeline_options options = options_for_a_backlog();
    run_lanes(&options, 2);
    deliver(0);
    put_events(0, 16);
    put_events(1, 4);
    turns(120); /* its ends are asked for once a second */
    deliver(1);
    turns(5);
    ck_assert_int_eq(partition(0).committed, 16);
    deliver(2);
    turns(5);
    ck_assert_int_eq(partition(1).committed, 4);
}
END_TEST

/* All but two records, which are not delivered yet; their batch is due. */
static void read_most_of_a_backlog(void)
{
    struct pipeline_options options = options_for_a_backlog();
    run_lanes(&options, 2);
    deliver(0);
    put_events(0, 3);
    put_events(1, 2);
    turns(250);
    deliver(1);
}

START_TEST(what_little_is_left_of_a_backlog_joins_the_batch_that_was_due)
{
    read_most_of_a_backlog();
    turns(150);
    ck_assert_int_eq(partition(0).position, 3);
    ck_assert_int_eq(partition(0).committed, -1);
    deliver(2);
    turns(5);
    ck_assert_int_eq(partition(0).committed, 3);
    ck_assert_int_eq(partition(1).committed, 2);
}
END_TEST

START_TEST(what_little_is_left_of_a_backlog_holds_up_a_batch_for_max_delay_and_no_longer)
{
    read_most_of_a_backlog();
    turns(210);
    ck_assert_int_eq(partition(0).committed, 3);
    ck_assert_int_eq(partition(1).position, 0);
}
END_TEST

START_TEST(a_stream_that_has_caught_up_is_committed_by_its_age_again)
{
    struct pipeline_options options = options_for_a_backlog();
    run_lanes(&options, 1);
    deliver(0);
    put_events(0, 3);
    turns(120);
    deliver(1);
    turns(5);
    ck_assert_int_eq(partition(0).committed, 3);
    deliver(0);
    put_events(0, 1);
    turns(120);
    deliver(1);
    turns(5);
    ck_assert_int_eq(partition(0).position, 4);
    ck_assert_int_eq(partition(0).committed, 3);
    turns(100);
    ck_assert_int_eq(partition(0).committed, 4);
}
END_TEST

/* --- flags --- */

/* Ann's flag is out and a backlog is left: the next turns come at once. */
static void begin_with_a_flag_on_its_way(void)
{
    struct pipeline_options options = options_for_a_backlog();
    with_ceilings(1);
    world.unacknowledged = true;
    run_lanes(&options, 2);
    deliver(0);
    put_event(0, 0, "ann", "over", 11);
    put_events(1, 4);
    turns(120);
    deliver(2);
    pipeline_turn(world.engine, 0);
    ck_assert_uint_eq(world.sent_count, 1);
}

static void acknowledge(size_t flag)
{
    world.flag_events[world.flag_event_count++] =
        (struct flag_event){.kind = FLAG_ACKNOWLEDGED, .cookie = world.sent[flag].cookie};
}

static void turns_at_once(int count)
{
    for (int i = 0; i < count; i++)
        pipeline_turn(world.engine, 0);
}

START_TEST(a_backlog_waits_for_a_flag_that_is_on_its_way)
{
    begin_with_a_flag_on_its_way();
    turns_at_once(5);
    ck_assert_int_eq(partition(1).position, 0);
    ck_assert(pipeline_stats(world.engine)->holding);
    acknowledge(0);
    turns_at_once(2);
    ck_assert_int_eq(partition(1).position, 4);
}
END_TEST

START_TEST(a_backlog_waits_five_milliseconds_for_a_flag_and_no_longer)
{
    begin_with_a_flag_on_its_way();
    pass(4900);
    turns_at_once(2);
    ck_assert_int_eq(partition(1).position, 0);
    pass(100);
    turns_at_once(2);
    ck_assert_int_eq(partition(1).position, 4);
}
END_TEST

static int64_t took_us, waited_us;

static void one_millisecond(void)
{
    pass(1000);
    pipeline_turn(world.engine, 0);
    took_us += 1000;
    waited_us += pipeline_stats(world.engine)->holding ? 1000 : 0;
}

/* One flag after the other, four milliseconds each; a tenth of a second's waiting is saved up at first. */
START_TEST(a_backlog_waits_for_flags_half_of_the_time_at_most)
{
    enum { FLAGS = 60 };
    static char customers[FLAGS][8];
    struct pipeline_options options = options_for_a_backlog();
    options.topic_count = 2;
    with_ceilings(1);
    world.unacknowledged = true;
    run_lanes(&options, 1);
    deliver(0);
    for (int i = 0; i < 4; i++)
        put_event(1, 0, "ann", "left", 1);
    turns(120);
    deliver(1);
    took_us = waited_us = 0;
    for (size_t i = 0; i < FLAGS; i++) {
        snprintf(customers[i], sizeof customers[i], "c%zu", i);
        put_event(0, 0, customers[i], "over", 11);
        while (world.sent_count == i)
            one_millisecond();
        for (int ms = 0; ms < 3; ms++)
            one_millisecond();
        acknowledge(i);
    }
    ck_assert_int_gt(waited_us, SECOND_US / 10);
    ck_assert_int_le(waited_us, (took_us + SECOND_US / 10) / 2 + 5000);
}
END_TEST

/* A stream without a backlog leaves cores enough. */
START_TEST(a_stream_does_not_wait_for_flags)
{
    struct pipeline_options options = options_for_a_backlog();
    with_ceilings(1);
    world.unacknowledged = true;
    run_lanes(&options, 2);
    put_event(0, 0, "ann", "over", 11);
    turns_at_once(3);
    ck_assert_uint_eq(world.sent_count, 1);
    put_events(1, 2);
    turns_at_once(2);
    ck_assert_int_eq(partition(1).position, 2);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, the_last_records_of_a_backlog_are_committed_as_soon_as_they_are_read);
    tcase_add_test(tests, what_little_is_left_of_a_backlog_joins_the_batch_that_was_due);
    tcase_add_test(tests, what_little_is_left_of_a_backlog_holds_up_a_batch_for_max_delay_and_no_longer);
    tcase_add_test(tests, a_stream_that_has_caught_up_is_committed_by_its_age_again);
    tcase_add_test(tests, a_backlog_waits_for_a_flag_that_is_on_its_way);
    tcase_add_test(tests, a_backlog_waits_five_milliseconds_for_a_flag_and_no_longer);
    tcase_add_test(tests, a_backlog_waits_for_flags_half_of_the_time_at_most);
    tcase_add_test(tests, a_stream_does_not_wait_for_flags);
}

int main(void)
{
    return run_suite("engine: backlog", add_tests);
}
