/* The engine whose logs are made anew under it: the witness, a record of before, tells. */
#include <check.h>

#include "engine_fixture.h"
#include "suite.h"

static uint64_t fingerprint_at(int64_t offset)
{
    return identity_fingerprint(&secret, record_at(&world.logs[0][0], offset));
}

static void make_anew(void)
{
    static const char *const ids[] = {"n1", "n2", "n3", "n4"};
    world.logs[0][0].count = 0;
    world.logs[0][0].high = 0;
    for (size_t i = 0; i < 4; i++)
        put_event(0, 0, "ann", ids[i], 1);
}

/* Two of the new one were read and committed, and the process died before it looked. */
START_TEST(of_a_log_made_anew_and_read_on_the_witness_tells)
{
    struct pipeline_options options = default_options();
    put_event(0, 0, "ann", "e1", 1);
    put_event(0, 0, "ann", "e2", 1);
    uint64_t witness = fingerprint_at(1);
    make_anew();
    world.rows[0][0] = (struct fake_row){true, 1, 4, 3, fingerprint_at(3), 1, witness};
    run_lanes(&options, 1);
    turns(100);
    ck_assert_int_eq(phase(0), LANE_STOPPED);
    ck_assert_msg(noted("usage/0 holds something else at offset 1 than the record that was read"), "%s",
                  world.notes);
}
END_TEST

START_TEST(a_log_made_anew_while_it_is_read_stops_the_lane_though_more_of_it_was_committed)
{
    struct pipeline_options options = default_options();
    read_two(&options);
    make_anew();
    turns(200);
    ck_assert_int_eq(partition(0).committed, 4);
    turns(1100);
    ck_assert_int_eq(phase(0), LANE_STOPPED);
    ck_assert_msg(noted("something else stands at offset 1 than the record that was read"), "%s",
                  world.notes);
}
END_TEST

/* Answers the question of the log as it was before. */
static void answer_of_before(const struct fake_probe *asked, int64_t high_offset, uint64_t fingerprint)
{
    world.event = (struct source_event){.kind = SOURCE_PROBED, .partition = asked->partition};
    world.event.probe = (struct source_probe){.question = asked->question,
                                              .high_offset = high_offset,
                                              .asked_at_us = world.now_us,
                                              .partition_count = 1,
                                              .asked_offset = asked->offset,
                                              .found = asked->offset >= 0,
                                              .fingerprint = fingerprint};
    turns(1);
}

START_TEST(a_record_read_after_the_question_is_no_witness)
{
    struct pipeline_options options = default_options();
    read_two(&options);
    uint64_t witness = fingerprint_at(1);
    world.probes_unanswered = true;
    for (int i = 0; i < 1500 && (world.probe_count == 0 || world.probes[0].offset < 0); i++) {
        world.probes_unanswered = world.probe_count == 0; /* else it asked for watermarks alone */
        turns(1);
    }
    world.probes_unanswered = true;
    ck_assert_uint_eq(world.probe_count, 1);
    ck_assert_int_eq(world.probes[0].offset, 1);
    const struct fake_probe asked = world.probes[0];
    make_anew();
    turns(200);
    ck_assert_int_eq(partition(0).committed, 4);
    world.probe_count = 0;
    answer_of_before(&asked, 4, witness);
    world.probes_unanswered = false;
    turns(1100);
    ck_assert_int_eq(phase(0), LANE_STOPPED);
}
END_TEST

/* It was given up for lost, and says what was so before the lane read on. */
START_TEST(the_answer_to_a_question_that_was_asked_anew_says_nothing)
{
    struct pipeline_options options = default_options();
    run_lanes(&options, 1);
    world.probes_unanswered = true;
    turns(200);
    ck_assert_uint_eq(world.probe_count, 1);
    put_event(0, 0, "ann", "e1", 1);
    turns(200);
    ck_assert_int_eq(partition(0).position, 1);
    pass(121 * SECOND_US);
    turns(10);
    ck_assert_uint_eq(world.probe_count, 2);
    const struct fake_probe asked = world.probes[0];
    answer_of_before(&asked, 0, 0);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert_uint_eq(world.alerts, 0);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, of_a_log_made_anew_and_read_on_the_witness_tells);
    tcase_add_test(tests, a_log_made_anew_while_it_is_read_stops_the_lane_though_more_of_it_was_committed);
    tcase_add_test(tests, a_record_read_after_the_question_is_no_witness);
    tcase_add_test(tests, the_answer_to_a_question_that_was_asked_anew_says_nothing);
}

int main(void)
{
    return run_suite("engine: witness", add_tests);
}
