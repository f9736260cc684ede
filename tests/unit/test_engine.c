/* The engine among ports that do what a test says: what simulated deployments seldom or never come to. */
#include <check.h>
#include <stdio.h>

#include "engine_fixture.h"
#include "suite.h"

/* --- what it says of itself --- */

START_TEST(it_says_whether_its_lanes_run_and_the_store_answers)
{
    struct pipeline_options options = default_options();
    begin(&options);
    ck_assert_uint_eq(pipeline_partitions(world.engine), 0);
    ck_assert_ptr_null(pipeline_secret(world.engine));
    assign(1);
    turns(31);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert(pipeline_stats(world.engine)->store_up);
    ck_assert_mem_eq(pipeline_secret(world.engine)->bytes, secret.bytes, sizeof secret.bytes);
    world.answers[STORE_CATALOGUE] = STORE_LOST;
    world.silent[STORE_RECOVER] = true;
    turns(110);
    ck_assert(!pipeline_stats(world.engine)->store_up);
    world.silent[STORE_RECOVER] = false;
    turns(30);
    ck_assert(pipeline_stats(world.engine)->store_up);
}
END_TEST

START_TEST(a_lane_at_a_repartitions_limit_runs_and_waits)
{
    struct pipeline_options options = default_options();
    world.limits[0][0] = (struct store_lane_offset){.limited = true, .limit = 1};
    put_event(0, 0, "ann", "e1", 1);
    run_lanes(&options, 1);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert(partition(0).at_limit);
    ck_assert_uint_eq(pipeline_stats(world.engine)->lanes_at_limit, 1);
}
END_TEST

START_TEST(a_lane_of_another_process_does_not_matter)
{
    static const struct source_position second = {0, 1, 0};
    struct pipeline_options options = default_options();
    world.partition_count = 2;
    begin(&options);
    world.event = (struct source_event){.kind = SOURCE_ASSIGNED, .assigned = &second, .assigned_count = 1};
    turns(30);
    ck_assert_int_eq(phase(1), LANE_RUNNING);
    struct pipeline_partition none;
    ck_assert_msg(!pipeline_partition(world.engine, 0, &none), "never assigned here");
    world.event = (struct source_event){.kind = SOURCE_REVOKED};
    turns(30);
    ck_assert_int_eq(phase(1), LANE_IDLE);
}
END_TEST

/* --- records --- */

START_TEST(a_record_without_a_key_is_its_producers_fault)
{
    struct pipeline_options options = default_options();
    options.partitioner = PARTITIONER_UNKNOWN;
    put_event(0, 0, "ann", "e1", 1)->key = (struct text){NULL, 0};
    run_lanes(&options, 1);
    turns(150);
    ck_assert_uint_eq(pipeline_stats(world.engine)->dead[REFUSAL_KEY_MISMATCH], 1);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 0);
}
END_TEST

START_TEST(while_the_partitioner_is_not_known_a_record_is_misplaced_that_none_puts_there)
{
    static char customer_id[16];
    bool placed = true;
    for (int i = 0; placed; i++) {
        snprintf(customer_id, sizeof customer_id, "c%d", i);
        placed = false;
        for (enum partitioner p = PARTITIONER_MURMUR2; p < PARTITIONER_COUNT; p++)
            placed = placed || partitioner_lane(p, text_of(customer_id), 4) == 0;
    }
    struct pipeline_options options = default_options();
    options.partitioner = PARTITIONER_UNKNOWN;
    put_event(0, 0, customer_id, "e1", 1);
    run_lanes(&options, 4);
    turns(150);
    ck_assert_uint_eq(pipeline_stats(world.engine)->dead[REFUSAL_WRONG_PARTITION], 1);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 0);
}
END_TEST

START_TEST(at_its_memory_limit_it_takes_records_now_and_then_and_says_so_once_a_minute)
{
    struct pipeline_options options = default_options();
    options.memory_limit_bytes = 1;
    put_event(0, 0, "ann", "e1", 1);
    run_lanes(&options, 1);
    ck_assert_uint_eq(pipeline_stats(world.engine)->dedupe_keys, 1);
    turns(20);
    ck_assert_uint_eq(world.alerts, 1);
    ck_assert_msg(noted("dedupe.memory_limit is reached: 1 keys"), "%s", world.notes);
    int polls = 0;
    for (int i = 0; i < 50; i++) {
        int64_t before = partition(0).position;
        put_event(0, 0, "ann", i % 2 ? "e2" : "e3", 1);
        turns(1);
        polls += partition(0).position > before;
    }
    ck_assert_int_ge(polls, 4);
    ck_assert_int_le(polls, 6);
    turns(150);
    ck_assert_int_eq(partition(0).committed, 51);
    ck_assert_uint_eq(world.alerts, 1);
    pass(60 * SECOND_US);
    turns(20);
    ck_assert_uint_eq(world.alerts, 2);
}
END_TEST

/* --- rows that PostgreSQL refuses --- */

static int64_t dead_offsets[8];
static size_t dead_count;
static bool refusing;

/* Refuses the batch that has a row, and remembers dead letters of those that are committed. */
static void refuse_rows(struct store_job *job)
{
    if (job->kind != STORE_COMMIT)
        return;
    if (refusing && job->batch->row_count > 0) {
        world.answers[STORE_COMMIT] = STORE_REFUSED;
        return;
    }
    for (size_t i = 0; i < job->batch->dead_letter_count; i++)
        dead_offsets[dead_count++] = job->batch->dead_letters[i].offset;
}

START_TEST(a_refused_row_is_found_and_becomes_a_dead_letter)
{
    struct pipeline_options options = default_options();
    world.before = refuse_rows;
    refusing = true;
    put_event(0, 0, "ann", "e1", 1);
    run_lanes(&options, 1);
    turns(500);
    ck_assert_uint_eq(dead_count, 1);
    ck_assert_int_eq(dead_offsets[0], 0);
    ck_assert_uint_eq(pipeline_stats(world.engine)->dead[REFUSAL_STORE_REFUSED], 1);
    ck_assert_uint_eq(pipeline_stats(world.engine)->refused_rows, 1);
}
END_TEST

/* Refuses the first row until it is known which it is, then whatever lies at its offset is welcome. */
static void refuse_until_known(struct store_job *job)
{
    refusing = pipeline_stats(world.engine)->refused_rows == 0;
    refuse_rows(job);
    if (job->kind != STORE_COMMIT || world.jobs[STORE_COMMIT] != 1)
        return;
    world.logs[0][0].count = 0; /* the log is cut, and written on */
    world.logs[0][0].high = 0;
    put_event(0, 0, "ann", "another", 1);
}

START_TEST(a_refused_row_is_known_by_its_fingerprint_and_not_by_its_offset_alone)
{
    struct pipeline_options options = default_options();
    world.before = refuse_until_known;
    put_event(0, 0, "ann", "e1", 1);
    run_lanes(&options, 1);
    turns(500);
    ck_assert_uint_eq(pipeline_stats(world.engine)->refused_rows, 1);
    ck_assert_uint_eq(dead_count, 0);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 1);
}
END_TEST

/* Refuses the batches that hold the record at offset 0. */
static void refuse_the_first(struct store_job *job)
{
    const struct batch *batch = job->batch;
    refusing = job->kind == STORE_COMMIT && batch->partitions[0].first_offset <= 0 &&
               (batch->dead_letter_count == 0 || batch->dead_letters[0].offset != 0);
    refuse_rows(job);
}

START_TEST(a_duplicate_is_not_taken_for_the_refused_row)
{
    struct pipeline_options options = default_options();
    world.before = refuse_the_first;
    put_event(0, 0, "ann", "e1", 1);
    put_event(0, 0, "ann", "e1", 1);
    run_lanes(&options, 1);
    turns(800);
    ck_assert_uint_eq(dead_count, 1);
    ck_assert_int_eq(dead_offsets[0], 0);
    ck_assert_uint_eq(pipeline_stats(world.engine)->refused_rows, 1);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 1);
}
END_TEST

/* --- flags --- */

START_TEST(after_half_a_minute_a_batch_is_committed_without_its_flags_acknowledged_and_that_is_said_once)
{
    struct pipeline_options options = default_options();
    with_ceilings(1);
    world.unacknowledged = true;
    put_event(0, 0, "ann", "e1", 11);
    run_lanes(&options, 1);
    turns(150);
    ck_assert_uint_eq(world.sent_count, 1);
    ck_assert_int_eq(partition(0).committed, -1);
    ck_assert_uint_eq(world.alerts, 0);
    pass(30 * SECOND_US);
    turns(30);
    ck_assert_int_eq(partition(0).committed, 1);
    ck_assert_uint_eq(world.alerts, 1);
    ck_assert_msg(noted("flags are not acknowledged after 30 s: the batch is committed without that"), "%s",
                  world.notes);
}
END_TEST

START_TEST(the_flags_of_a_lane_that_is_stopped_are_sent_and_awaited_before_its_last_batch_is_committed)
{
    struct pipeline_options options = default_options();
    with_ceilings(1);
    world.queue_full = world.unacknowledged = true;
    put_event(0, 0, "ann", "e1", 11);
    run_lanes(&options, 1);
    turns(5);
    world.partition_count = 2;
    turns(200);
    ck_assert_int_eq(phase(0), LANE_STOPPED);
    ck_assert_int_eq(partition(0).committed, -1);
    world.queue_full = false;
    turns(1500); /* it would be taken over anew by now */
    ck_assert_uint_eq(world.sent_count, 1);
    ck_assert_int_eq(phase(0), LANE_STOPPED);
    ck_assert_int_eq(partition(0).committed, -1);
    world.flag_events[world.flag_event_count++] =
        (struct flag_event){.kind = FLAG_ACKNOWLEDGED, .lane = 0, .cookie = world.sent[0].cookie};
    turns(5);
    ck_assert_int_eq(partition(0).committed, 1);
}
END_TEST

/* An election that loses records takes what a batch had read, and the batch is undone. */
static void cut_log_and_refuse(struct store_job *job)
{
    if (job->kind != STORE_COMMIT || job->batch->row_count == 0)
        return;
    world.answers[STORE_COMMIT] = STORE_REFUSED;
    world.logs[0][0].count = 0;
    world.logs[0][0].high = 0;
}

/* It may be said only once all is read that the former owner had read, which is when the batch is full. */
START_TEST(a_flag_that_differs_from_a_former_owners_is_awaited_by_the_batch_that_decides_it)
{
    struct pipeline_options options = default_options();
    options.max_rows = 1;
    with_ceilings(1);
    world.unacknowledged = true;
    world.on_topic = (struct flag_event){
        .kind = FLAG_SEEN,
        .key = TEXT("[\"ann\",\"daily\",{}]"),
        .value = TEXT("{\"type\":\"flag\",\"decision_id\":\"0123456789abcdef0123456789abcdef\","
                      "\"state\":\"active\",\"expires_at\":\"2026-11-23T00:00:00Z\","
                      "\"decided_at\":\"2026-11-22T09:00:00Z\","
                      "\"event\":{\"topic\":\"usage\",\"partition\":0,\"offset\":0}}"),
        .has_sequence = true,
        .sequence = {1, 1}};
    put_event(0, 0, "ann", "e1", 11);
    run_lanes(&options, 1);
    turns(150);
    ck_assert_uint_eq(world.sent_count, 1);
    ck_assert_int_eq(partition(0).committed, -1);
}
END_TEST

START_TEST(a_flag_that_a_lost_record_caused_is_withdrawn_while_the_lane_goes_on)
{
    struct pipeline_options options = default_options();
    with_ceilings(1);
    world.before = cut_log_and_refuse;
    put_event(0, 0, "ann", "e1", 11);
    run_lanes(&options, 1);
    turns(120);
    ck_assert_uint_ge(world.sent_count, 1);
    ck_assert_ptr_nonnull(strstr(world.sent[0].value, "\"active\""));
    turns(300);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert_uint_gt(world.sent_count, 1);
    ck_assert_ptr_null(strstr(world.sent[world.sent_count - 1].value, "\"active\""));
}
END_TEST

START_TEST(trouble_with_the_enforcement_topic_is_said_and_strange_lanes_are_left_alone)
{
    struct pipeline_options options = default_options();
    run_lanes(&options, 1);
    world.flag_events[world.flag_event_count++] =
        (struct flag_event){.kind = FLAG_TROUBLE, .lane = -1, .detail = "brokers are away"};
    world.flag_events[world.flag_event_count++] =
        (struct flag_event){.kind = FLAG_SEEN, .lane = 77, .key = TEXT("k"), .value = TEXT("v")};
    turns(1);
    ck_assert_msg(noted("enforcement topic: brokers are away"), "%s", world.notes);
    ck_assert_uint_eq(world.flag_event_count, 0);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
}
END_TEST

/* --- the store is lost --- */

START_TEST(a_recovery_that_needs_a_person_is_said_and_tried_again)
{
    struct pipeline_options options = default_options();
    read_two(&options);
    world.answers[STORE_CATALOGUE] = STORE_LOST;
    world.answers[STORE_RECOVER] = STORE_FATAL;
    turns(110);
    ck_assert_msg(noted("PostgreSQL: said the test"), "%s", world.notes);
    turns(100);
    ck_assert_msg(noted("PostgreSQL is back"), "%s", world.notes);
    ck_assert_uint_eq(world.jobs[STORE_RECOVER], 2);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert_uint_eq(pipeline_stats(world.engine)->dedupe_keys, 2);
}
END_TEST

START_TEST(records_of_an_earlier_assignment_are_not_taken)
{
    struct pipeline_options options = default_options();
    const struct record stale = *put_event(0, 0, "ann", "e1", 1);
    world.logs[0][0].count = 0;
    world.logs[0][0].high = 0;
    run_lanes(&options, 1);
    world.event = (struct source_event){
        .kind = SOURCE_RECORDS, .generation = world.generation - 1, .records = &stale, .record_count = 1};
    turns(10);
    ck_assert_int_eq(partition(0).position, 0);
}
END_TEST

/* They would be counted by the old ceilings and judged by none. */
START_TEST(no_records_are_taken_between_the_batch_that_adopts_ceilings_and_its_commit)
{
    struct pipeline_options options = default_options();
    with_ceilings(1);
    run_lanes(&options, 1);
    world.silent[STORE_SEED] = true;
    world.catalogue_generation = 2;
    turns(300);
    world.silent[STORE_SEED] = false;
    world.silent[STORE_COMMIT] = true;
    turns(100);
    ck_assert_uint_eq(world.jobs[STORE_SEED], 1);
    put_event(0, 0, "ann", "e1", 1);
    turns(100);
    ck_assert_int_eq(partition(0).position, 0);
    world.silent[STORE_COMMIT] = false;
    turns(300);
    ck_assert_int_eq(partition(0).committed, 1);
}
END_TEST

START_TEST(a_customer_who_uses_nothing_more_is_cleared_when_his_period_ends)
{
    struct pipeline_options options = default_options();
    with_ceilings(1);
    put_event(0, 0, "ann", "e1", 11);
    run_lanes(&options, 1);
    turns(200);
    ck_assert_uint_eq(world.sent_count, 1);
    pass(DAY_US);
    turns(200);
    ck_assert_uint_eq(world.sent_count, 2);
    ck_assert_ptr_nonnull(
        strstr(world.sent[1].value, "\"state\":\"cleared\",\"reason\":\"The period is over\""));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, it_says_whether_its_lanes_run_and_the_store_answers);
    tcase_add_test(tests, a_lane_at_a_repartitions_limit_runs_and_waits);
    tcase_add_test(tests, a_lane_of_another_process_does_not_matter);
    tcase_add_test(tests, a_record_without_a_key_is_its_producers_fault);
    tcase_add_test(tests, while_the_partitioner_is_not_known_a_record_is_misplaced_that_none_puts_there);
    tcase_add_test(tests, at_its_memory_limit_it_takes_records_now_and_then_and_says_so_once_a_minute);
    tcase_add_test(tests, a_refused_row_is_found_and_becomes_a_dead_letter);
    tcase_add_test(tests, a_refused_row_is_known_by_its_fingerprint_and_not_by_its_offset_alone);
    tcase_add_test(tests, a_duplicate_is_not_taken_for_the_refused_row);
    tcase_add_test(
        tests, after_half_a_minute_a_batch_is_committed_without_its_flags_acknowledged_and_that_is_said_once);
    tcase_add_test(
        tests, the_flags_of_a_lane_that_is_stopped_are_sent_and_awaited_before_its_last_batch_is_committed);
    tcase_add_test(tests, a_flag_that_differs_from_a_former_owners_is_awaited_by_the_batch_that_decides_it);
    tcase_add_test(tests, a_flag_that_a_lost_record_caused_is_withdrawn_while_the_lane_goes_on);
    tcase_add_test(tests, trouble_with_the_enforcement_topic_is_said_and_strange_lanes_are_left_alone);
    tcase_add_test(tests, a_recovery_that_needs_a_person_is_said_and_tried_again);
    tcase_add_test(tests, records_of_an_earlier_assignment_are_not_taken);
    tcase_add_test(tests, no_records_are_taken_between_the_batch_that_adopts_ceilings_and_its_commit);
    tcase_add_test(tests, a_customer_who_uses_nothing_more_is_cleared_when_his_period_ends);
}

int main(void)
{
    return run_suite("engine", add_tests);
}
