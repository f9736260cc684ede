/* The engine and lanes that come: whether their logs are the ones that were read, and whether the store gives
 * them. */
#include <check.h>

#include "engine_fixture.h"
#include "suite.h"

/* --- logs that are not what was read --- */

static void assign_again(int32_t lanes)
{
    world.event = (struct source_event){.kind = SOURCE_REVOKED, .lost = true};
    turns(30);
    assign(lanes);
    turns(30);
}

START_TEST(a_hole_is_not_taken_for_retention)
{
    struct pipeline_options options = default_options();
    read_two(&options);
    world.logs[0][0].count = 1; /* made anew, by a transaction that ended at offset 2 */
    assign_again(1);
    ck_assert_int_eq(phase(0), LANE_STOPPED);
    ck_assert_msg(noted("usage/0 holds something else at offset 1 than the record that was read"), "%s",
                  world.notes);
}
END_TEST

/* A client skips some at first, others when it is asked again, and more when it is asked for what follows. */
START_TEST(only_what_is_missing_twice_from_the_same_offset_on_is_a_hole)
{
    struct pipeline_options options = default_options();
    const char *const event_ids[] = {"1", "2", "3", "4", "5", "6", "7", "8", "9"};
    world.logs[0][0].high = 1;
    for (int i = 0; i < 9; i++)
        put_event(0, 0, "ann", event_ids[i], 1);
    world.skips_to[3] = 5;
    world.skips_to[4] = 9;
    run_lanes(&options, 1);
    turns(150);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 9);
    ck_assert_uint_eq(pipeline_stats(world.engine)->holes, 1);
}
END_TEST

START_TEST(a_record_that_retention_removed_is_not_taken_for_another_log)
{
    struct pipeline_options options = default_options();
    read_two(&options);
    world.logs[0][0].count = 0;
    world.logs[0][0].low = 2;
    assign_again(1);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert_msg(noted("the last record read, at offset 1, is gone (retention)"), "%s", world.notes);
}
END_TEST

START_TEST(a_lane_stops_where_the_topics_have_unequal_partition_counts)
{
    struct pipeline_options options = default_options();
    options.topic_count = 2;
    world.second_partition_count = 3;
    run_lanes(&options, 1);
    ck_assert_int_eq(phase(0), LANE_STOPPED);
    ck_assert_msg(noted("unequal partition counts: usage has 1, usage-batch has 3"), "%s", world.notes);
    ck_assert_uint_eq(world.jobs[STORE_TAKEOVER], 0);
    world.second_partition_count = 1;
    turns(1100);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
}
END_TEST

/* By the former count its records would be of other lanes. */
START_TEST(a_partition_that_is_assigned_is_there_whatever_a_broker_says)
{
    struct pipeline_options options = default_options();
    put_event(0, 2, "cat", "when there are three", 1);
    world.settings.partition_count = world.partition_count = 2;
    begin(&options);
    assign(3);
    turns(150);
    ck_assert_msg(noted("the usage topics had 2 partitions and have 3 now"), "%s", world.notes);
    for (int32_t lane = 0; lane < 3; lane++)
        ck_assert_int_eq(phase(lane), LANE_STOPPED);
    ck_assert_uint_eq(pipeline_stats(world.engine)->dead[REFUSAL_WRONG_PARTITION], 0);
}
END_TEST

START_TEST(a_lane_is_consumed_only_with_all_its_topics)
{
    struct pipeline_options options = default_options();
    options.topic_count = 2;
    begin(&options);
    assign(1);
    world.event.assigned_count = 1;
    turns(30);
    ck_assert_msg(noted("not all topics of this lane are assigned here: it is not consumed"), "%s",
                  world.notes);
    ck_assert_uint_eq(world.consumed_count, 0);
}
END_TEST

/* What comes late, of a generation before or for a lane that does not run, says nothing. */
START_TEST(trouble_with_records_that_are_not_consumed_any_more_stops_no_lane)
{
    struct pipeline_options options = default_options();
    run_lanes(&options, 2);
    struct source_event broken = {
        .kind = SOURCE_BROKEN, .generation = world.generation - 1, .detail = "offset out of range"};
    world.event = broken;
    turns(1);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    broken.generation++;
    world.event = broken;
    turns(1);
    ck_assert_int_eq(phase(0), LANE_STOPPED);
    ck_assert_msg(noted("usage: offset out of range"), "%s", world.notes);
    forget_notes();
    broken.generation = world.generation;
    world.event = broken;
    turns(1);
    ck_assert_str_eq(world.notes, "");
}
END_TEST

/* --- taking over --- */

static void fail_every_takeover(struct store_job *job)
{
    if (job->kind == STORE_TAKEOVER)
        world.answers[STORE_TAKEOVER] = STORE_FATAL;
}

START_TEST(a_takeover_that_postgresql_refuses_stops_the_lane_and_is_tried_again)
{
    struct pipeline_options options = default_options();
    world.before = fail_every_takeover;
    run_lanes(&options, 2);
    ck_assert_int_eq(phase(0), LANE_STOPPED);
    ck_assert_int_eq(phase(1), LANE_STOPPED);
    ck_assert_str_eq(partition(1).stop_reason, "PostgreSQL: said the test");
    world.before = NULL;
    turns(1100);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert_int_eq(phase(1), LANE_RUNNING);
}
END_TEST

static void fence_every_takeover(struct store_job *job)
{
    if (job->kind == STORE_TAKEOVER)
        world.answers[STORE_TAKEOVER] = STORE_FENCED;
}

START_TEST(a_lane_that_another_owner_keeps_is_tried_again_every_half_minute_at_the_least)
{
    struct pipeline_options options = default_options();
    world.before = fence_every_takeover;
    run_lanes(&options, 1);
    for (int i = 0; i < 100; i++, turns(2))
        pass(SECOND_US);
    size_t before = world.jobs[STORE_TAKEOVER];
    ck_assert_uint_ge(before, 6);
    for (int i = 0; i < 100; i++, turns(2))
        pass(SECOND_US);
    ck_assert_uint_ge(world.jobs[STORE_TAKEOVER] - before, 2);
    ck_assert_uint_le(world.jobs[STORE_TAKEOVER] - before, 5);
    world.before = NULL;
    pass(30 * SECOND_US);
    turns(30);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
}
END_TEST

static void another_hand(struct store_job *job)
{
    if (job->kind == STORE_TAKEOVER && job->lanes[0].kept)
        job->lanes[0].offsets[0].next_offset = 0;
}

START_TEST(a_lane_whose_offset_was_moved_meanwhile_is_restored_and_not_continued)
{
    struct pipeline_options options = default_options();
    read_two(&options);
    world.event = (struct source_event){.kind = SOURCE_REVOKED};
    turns(30);
    ck_assert(world.released);
    world.after = another_hand;
    assign(1);
    turns(10);
    ck_assert_int_eq(phase(0), LANE_WAITING);
    world.rows[0][0].epoch++; /* so that it is not kept */
    turns(100);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert_uint_eq(pipeline_stats(world.engine)->dedupe_keys, 0);
}
END_TEST

/* The lane was lost and given back while its takeover was under way: what that kept is gone. */
START_TEST(the_answer_to_an_earlier_takeover_is_not_taken_for_state_that_was_dropped)
{
    struct pipeline_options options = default_options();
    read_two(&options);
    world.event = (struct source_event){.kind = SOURCE_REVOKED};
    turns(30);
    world.silent[STORE_TAKEOVER] = true;
    assign(1);
    turns(20);
    assign_again(1);
    ck_assert_int_eq(phase(0), LANE_TAKING);
    world.silent[STORE_TAKEOVER] = false;
    turns(100);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert_int_eq(partition(0).epoch, 2);
}
END_TEST

START_TEST(a_lane_does_not_run_without_the_ceilings_that_it_had_adopted)
{
    struct pipeline_options options = default_options();
    world.lane_generation = 5;
    run_lanes(&options, 1);
    turns(100);
    ck_assert_int_ne(phase(0), LANE_RUNNING);
    ck_assert_uint_ge(world.jobs[STORE_TAKEOVER], 2);
    world.lane_generation = 0;
    turns(1000);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
}
END_TEST

/* --- lanes that come together --- */

static struct fake_probe unanswered[LANES]; /* one at most of each, for a lane has one topic here */

/* Those of this lane and of all that follow. */
static void leave_unanswered(int32_t lane)
{
    size_t kept = 0;
    for (size_t i = 0; i < world.probe_count; i++)
        if (world.probes[i].partition >= lane)
            unanswered[world.probes[i].partition] = world.probes[i];
        else
            world.probes[kept++] = world.probes[i];
    world.probe_count = kept;
}

static void turns_without_answer(int count, int32_t lane)
{
    while (count-- > 0) {
        turns(1);
        leave_unanswered(lane);
    }
}

START_TEST(lanes_that_come_together_are_taken_over_and_consumed_together)
{
    struct pipeline_options options = default_options();
    run_lanes(&options, LANES);
    ck_assert_int_eq(phase(LANES - 1), LANE_RUNNING);
    ck_assert_uint_eq(world.jobs[STORE_TAKEOVER], 1);
    ck_assert_uint_eq(world.generation, 2); /* nothing at first, then all */
    ck_assert_uint_eq(world.consumed_count, LANES);
}
END_TEST

START_TEST(a_lane_is_not_kept_from_a_takeover_for_long_by_another)
{
    struct pipeline_options options = default_options();
    world.partition_count = 2;
    begin(&options);
    assign(2);
    turns_without_answer(20, 1);
    ck_assert_uint_eq(world.jobs[STORE_TAKEOVER], 0);
    turns_without_answer(30, 1);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert_int_eq(phase(1), LANE_READING_FLAGS);
}
END_TEST

START_TEST(a_lane_is_not_kept_from_its_records_for_long_by_another)
{
    struct pipeline_options options = default_options();
    world.partition_count = 2;
    put_event(0, 0, "ann", "e1", 1);
    begin(&options);
    assign(2);
    while (world.jobs[STORE_TAKEOVER] == 0)
        turns(1);
    leave_unanswered(1);
    turns_without_answer(20, 1);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert_int_eq(partition(0).position, 0);
    turns_without_answer(20, 1);
    ck_assert_int_eq(phase(1), LANE_CHECKING);
    ck_assert_int_eq(partition(0).position, 1);
}
END_TEST

START_TEST(lanes_that_come_later_wait_for_the_batch_of_those_that_run)
{
    struct pipeline_options options = default_options();
    world.partition_count = 3;
    put_event(0, 0, "bob", "e1", 1); /* at home in lane 0 of three */
    begin(&options);
    assign(3);
    while (partition(0).position == 0)
        turns_without_answer(1, 1);
    ck_assert_uint_eq(world.jobs[STORE_TAKEOVER], 1);
    world.probes[world.probe_count++] = unanswered[1];
    turns_without_answer(60, 2);
    ck_assert_int_eq(phase(1), LANE_RUNNING);
    ck_assert_int_eq(phase(2), LANE_READING_FLAGS);
    ck_assert_int_eq(partition(0).committed, 1);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 1);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, a_hole_is_not_taken_for_retention);
    tcase_add_test(tests, only_what_is_missing_twice_from_the_same_offset_on_is_a_hole);
    tcase_add_test(tests, a_record_that_retention_removed_is_not_taken_for_another_log);
    tcase_add_test(tests, a_lane_stops_where_the_topics_have_unequal_partition_counts);
    tcase_add_test(tests, a_partition_that_is_assigned_is_there_whatever_a_broker_says);
    tcase_add_test(tests, a_lane_is_consumed_only_with_all_its_topics);
    tcase_add_test(tests, trouble_with_records_that_are_not_consumed_any_more_stops_no_lane);
    tcase_add_test(tests, a_takeover_that_postgresql_refuses_stops_the_lane_and_is_tried_again);
    tcase_add_test(tests, a_lane_that_another_owner_keeps_is_tried_again_every_half_minute_at_the_least);
    tcase_add_test(tests, a_lane_whose_offset_was_moved_meanwhile_is_restored_and_not_continued);
    tcase_add_test(tests, the_answer_to_an_earlier_takeover_is_not_taken_for_state_that_was_dropped);
    tcase_add_test(tests, a_lane_does_not_run_without_the_ceilings_that_it_had_adopted);
    tcase_add_test(tests, lanes_that_come_together_are_taken_over_and_consumed_together);
    tcase_add_test(tests, a_lane_is_not_kept_from_a_takeover_for_long_by_another);
    tcase_add_test(tests, a_lane_is_not_kept_from_its_records_for_long_by_another);
    tcase_add_test(tests, lanes_that_come_later_wait_for_the_batch_of_those_that_run);
}

int main(void)
{
    return run_suite("engine: takeover", add_tests);
}
