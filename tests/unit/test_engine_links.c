/* The engine while both links of the store are at work: what streams beside a commit, and who waits for whom.
 */
#include <check.h>
#include <stdio.h>

#include "links_fixture.h"
#include "suite.h"

static const struct pipeline_stats *stats(void)
{
    return pipeline_stats(world.engine);
}

static void run(int32_t lanes)
{
    const struct pipeline_options options = small_batches();
    links_begin(&options, lanes);
}

/* --- what runs beside what --- */

START_TEST(a_batch_streams_over_one_link_while_the_one_before_is_committed_over_the_other)
{
    commit_beside_a_stream(_i == 1);
    const struct store_job *commit = job_under_way(STORE_COMMIT), *stream = job_under_way(STORE_STREAM);
    int link = stream->link;
    uint64_t number = stream->stream_batch;
    ck_assert_int_ne(commit->link, link);
    ck_assert_uint_eq(commit->batch->number + 1, number);
    world.silent[STORE_STREAM] = false;
    turns(3);
    ck_assert_uint_eq(world.streamed[link], number);
    world.silent[STORE_COMMIT] = false;
    turns(1);
    world.silent[STORE_COMMIT] = true;
    use(0, ROWS_FULL - ROWS_WORTH);
    turns(3);
    commit = job_under_way(STORE_COMMIT);
    ck_assert_ptr_nonnull(commit);
    ck_assert_int_eq(commit->link, link);
    ck_assert_uint_eq(commit->batch->number, number);
    ck_assert_uint_ne(commit->stream_day, 0);
}
END_TEST

START_TEST(a_batch_is_not_closed_while_rows_of_it_are_on_their_way)
{
    run(1);
    world.silent[STORE_STREAM] = true;
    use(0, ROWS_WORTH);
    turns(3);
    ck_assert_ptr_nonnull(job_under_way(STORE_STREAM));
    use(0, ROWS_FULL - ROWS_WORTH);
    turns(30);
    ck_assert_uint_eq(world.jobs[STORE_COMMIT], 0);
    use(0, 1);
    turns(3);
    ck_assert_int_eq(partition(0).position, ROWS_FULL);
    world.silent[STORE_STREAM] = false;
    turns(150);
    all_is_counted_once("in the end");
}
END_TEST

/* That is done from one committed batch to the next. */
START_TEST(no_rows_stream_beside_a_commit_while_ceilings_change)
{
    struct pipeline_options options = small_batches();
    options.max_delay_us = 10 * SECOND_US;
    with_ceilings(1);
    run_lanes(&options, 1);
    world.catalogue_generation = 2;
    world.silent[STORE_COMMIT] = true;
    use(0, ROWS_FULL - ROWS_WORTH);
    turns(120);
    ck_assert_ptr_nonnull(job_under_way(STORE_COMMIT));
    use(0, ROWS_WORTH);
    turns(30);
    ck_assert_int_eq(partition(0).position, ROWS_FULL);
    ck_assert_uint_eq(world.jobs[STORE_STREAM], 0);
    ck_assert_ptr_null(job_under_way(STORE_STREAM));
    world.silent[STORE_COMMIT] = false;
    turns(300);
    ck_assert_int_eq(world.lane_generation, 2);
    world.silent[STORE_COMMIT] = true;
    use(0, ROWS_FULL);
    turns(3);
    use(0, ROWS_WORTH);
    turns(3);
    ck_assert_uint_eq(world.jobs[STORE_STREAM], 1);
}
END_TEST

/* They would wait for the transaction, and it for them. */
START_TEST(no_rows_stream_while_the_sums_for_new_ceilings_are_still_to_be_read)
{
    struct pipeline_options options = small_batches();
    with_ceilings(1);
    run_lanes(&options, 1);
    world.catalogue_generation = 2;
    world.answers[STORE_SEED] = STORE_FATAL;
    turns(100);
    ck_assert_uint_eq(world.jobs[STORE_SEED], 1);
    use(0, ROWS_WORTH);
    turns(50);
    ck_assert_int_eq(partition(0).position, ROWS_WORTH);
    ck_assert_uint_eq(world.jobs[STORE_SEED], 1);
    ck_assert_uint_eq(world.jobs[STORE_STREAM], 0);
    turns(200);
    ck_assert_int_eq(world.lane_generation, 2);
    ck_assert_int_eq(partition(0).committed, ROWS_WORTH);
}
END_TEST

START_TEST(no_look_at_the_catalogue_runs_beside_a_commit_and_no_commit_beside_one)
{
    run(1);
    world.silent[STORE_COMMIT] = true;
    use(0, ROWS_FULL);
    size_t looks = world.jobs[STORE_CATALOGUE];
    turns(300);
    ck_assert_uint_eq(world.jobs[STORE_CATALOGUE], looks);
    world.silent[STORE_COMMIT] = false;
    world.silent[STORE_CATALOGUE] = true;
    turns(3);
    ck_assert_ptr_nonnull(job_under_way(STORE_CATALOGUE));
    use(0, ROWS_WORTH);
    turns(3);
    ck_assert_uint_eq(world.jobs[STORE_STREAM], 1);
    use(0, ROWS_FULL);
    turns(300);
    ck_assert_int_eq(partition(0).committed, ROWS_FULL);
    world.silent[STORE_CATALOGUE] = false;
    turns(3);
    all_is_counted_once("in the end");
}
END_TEST

START_TEST(batches_that_are_always_due_leave_the_catalogue_its_turn)
{
    char event_id[20];
    struct pipeline_options options = small_batches();
    options.max_rows = 1;
    links_begin(&options, 1);
    size_t looks = world.jobs[STORE_CATALOGUE];
    for (int i = 0; i < 500; i++) {
        snprintf(event_id, sizeof event_id, "%d", i);
        world.logs[0][0].count = 0;
        put_event(0, 0, "ann", event_id, 1);
        turns(1);
    }
    ck_assert_uint_ge(world.jobs[STORE_CATALOGUE], looks + 4);
    ck_assert_uint_ge(world.jobs[STORE_COMMIT], 400);
}
END_TEST

static void begin_takeover(void)
{
    world.silent[STORE_TAKEOVER] = true;
    assign(2);
}

static void begin_recovery(void)
{
    world.silent[STORE_RECOVER] = true;
    world.answers[STORE_CATALOGUE] = STORE_LOST;
}

static void begin_seed(void)
{
    world.silent[STORE_SEED] = true;
    world.catalogue_generation = 2;
}

START_TEST(what_is_done_alone_meets_nothing_on_any_link)
{
    static void (*const begin_job[])(void) = {begin_takeover, begin_recovery, begin_seed};
    static const enum store_job_kind kinds[] = {STORE_TAKEOVER, STORE_RECOVER, STORE_SEED};
    const struct pipeline_options options = small_batches();
    world.before = answer_commit;
    with_ceilings(1);
    world.partition_count = 2;
    begin(&options);
    assign(1);
    turns(30);
    begin_job[_i]();
    turns(120);
    ck_assert_ptr_nonnull(job_under_way(kinds[_i]));
    use(0, ROWS_WORTH);
    for (int i = 0; i < 300; i++) {
        turns(1);
        for (int link = 0; link < STORE_LINKS; link++)
            ck_assert(!world.under_way[link] || world.under_way[link]->kind == kinds[_i]);
    }
    world.silent[kinds[_i]] = false;
    turns(300);
    all_is_counted_once("in the end");
}
END_TEST

/* --- a transaction that is given up --- */

START_TEST(rows_streamed_for_a_batch_that_is_undone_are_given_up_before_a_job_that_is_done_alone)
{
    const struct pipeline_options options = small_batches();
    world.before = answer_commit;
    world.partition_count = 2;
    begin(&options);
    assign(1);
    turns(30);
    world.silent[STORE_COMMIT] = true;
    use(0, ROWS_FULL);
    turns(3);
    use(0, ROWS_WORTH);
    turns(3);
    ck_assert_uint_eq(world.jobs[STORE_STREAM], 1);
    assign(2);
    turns(20);
    ck_assert_int_eq(phase(1), LANE_TAKING);
    world.answers[STORE_COMMIT] = STORE_REFUSED;
    world.silent[STORE_COMMIT] = false;
    world.silent[STORE_GIVE_UP] = true;
    turns(1);
    ck_assert_ptr_nonnull(job_under_way(STORE_GIVE_UP));
    turns(30);
    ck_assert_uint_eq(world.jobs[STORE_TAKEOVER], 1);
    world.silent[STORE_GIVE_UP] = false;
    turns(300);
    ck_assert_int_eq(phase(1), LANE_RUNNING);
    all_is_counted_once("in the end");
}
END_TEST

/* --- leaving --- */

START_TEST(it_is_drained_once_both_batches_are_committed)
{
    commit_beside_a_stream(_i == 1);
    pipeline_drain(world.engine);
    turns(50);
    ck_assert(!pipeline_drained(world.engine));
    world.silent[STORE_STREAM] = false;
    turns(50);
    ck_assert(!pipeline_drained(world.engine));
    world.silent[STORE_COMMIT] = false;
    turns(5);
    ck_assert(pipeline_drained(world.engine));
    all_is_counted_once("in the end");
}
END_TEST

START_TEST(lanes_that_are_revoked_are_let_go_once_both_batches_are_committed)
{
    commit_beside_a_stream(_i == 1);
    world.event = (struct source_event){.kind = SOURCE_REVOKED};
    turns(50);
    ck_assert(!world.released);
    world.silent[STORE_STREAM] = world.silent[STORE_COMMIT] = false;
    turns(5);
    ck_assert(world.released);
    ck_assert_uint_eq(stats()->rewinds, 0);
    all_is_counted_once("in the end");
}
END_TEST

START_TEST(lanes_that_are_revoked_are_let_go_after_two_seconds_whatever_is_under_way)
{
    commit_beside_a_stream(_i == 1);
    world.event = (struct source_event){.kind = SOURCE_REVOKED};
    turns(210);
    ck_assert(world.released);
    ck_assert_uint_eq(stats()->rewinds, 0);
    world.silent[STORE_STREAM] = world.silent[STORE_COMMIT] = false;
    turns(5);
    ck_assert_uint_eq(stats()->rewinds, 1);
    assign(1);
    turns(150);
    all_is_counted_once("in the end");
}
END_TEST

/* LeakSanitizer looks on. */
START_TEST(what_failed_and_was_not_looked_at_yet_is_freed_with_the_engine)
{
    static void (*const arrange[])(bool) = {commit_beside_a_stream, commit_beside_a_stream,
                                            stream_beside_a_catalogue, commit_beside_a_given_up_batch};
    static const enum store_job_kind kinds[] = {STORE_COMMIT, STORE_STREAM, STORE_CATALOGUE, STORE_GIVE_UP};
    arrange[_i](false);
    world.answers[kinds[_i]] = kinds[_i] == STORE_COMMIT ? STORE_FENCED : STORE_LOST;
    world.silent[kinds[_i]] = false;
    turns(1);
    ck_assert_ptr_null(job_under_way(kinds[_i]));
    ck_assert(stats()->store_up);
    end();
    world.engine = NULL;
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_loop_test(tests, a_batch_streams_over_one_link_while_the_one_before_is_committed_over_the_other,
                        0, 2);
    tcase_add_test(tests, a_batch_is_not_closed_while_rows_of_it_are_on_their_way);
    tcase_add_test(tests, no_rows_stream_beside_a_commit_while_ceilings_change);
    tcase_add_test(tests, no_rows_stream_while_the_sums_for_new_ceilings_are_still_to_be_read);
    tcase_add_test(tests, no_look_at_the_catalogue_runs_beside_a_commit_and_no_commit_beside_one);
    tcase_add_test(tests, batches_that_are_always_due_leave_the_catalogue_its_turn);
    tcase_add_loop_test(tests, what_is_done_alone_meets_nothing_on_any_link, 0, 3);
    tcase_add_test(tests,
                   rows_streamed_for_a_batch_that_is_undone_are_given_up_before_a_job_that_is_done_alone);
    tcase_add_loop_test(tests, it_is_drained_once_both_batches_are_committed, 0, 2);
    tcase_add_loop_test(tests, lanes_that_are_revoked_are_let_go_once_both_batches_are_committed, 0, 2);
    tcase_add_loop_test(tests, lanes_that_are_revoked_are_let_go_after_two_seconds_whatever_is_under_way, 0,
                        2);
    tcase_add_loop_test(tests, what_failed_and_was_not_looked_at_yet_is_freed_with_the_engine, 0, 4);
}

int main(void)
{
    return run_suite("engine: links", add_tests);
}
