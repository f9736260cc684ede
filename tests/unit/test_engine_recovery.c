/* The engine where something is thrown away, in doubt, taken over again or not what it was: each of these
 * needs two rare things to meet. */
#include <check.h>
#include <stdio.h>

#include "engine_fixture.h"
#include "suite.h"

/* --- what is thrown away --- */

START_TEST(what_a_log_lacks_at_its_begin_is_a_gap_after_a_rewind_too)
{
    struct pipeline_options options = default_options();
    world.logs[0][0].low = world.logs[0][0].high = 5;
    put_event(0, 0, "ann", "e1", 1);
    world.answers[STORE_COMMIT] = STORE_LOST;
    run_lanes(&options, 1);
    turns(300);
    ck_assert_uint_eq(pipeline_stats(world.engine)->store_losses, 1);
    ck_assert_int_eq(partition(0).committed, 6);
    ck_assert_uint_eq(pipeline_stats(world.engine)->gaps, 5);
    ck_assert_uint_eq(pipeline_stats(world.engine)->holes, 0);
}
END_TEST

static bool streaming[STORE_LINKS];

static void nothing_between_rows_and_commit(struct store_job *job)
{
    bool goes_on = job->kind == STORE_STREAM || job->kind == STORE_COMMIT;
    bool met = job->kind == STORE_CATALOGUE ? streaming[job->link] : streaming[0] || streaming[1];
    ck_assert_msg(goes_on || !met, "job %d", (int)job->kind);
    streaming[job->link] = job->kind == STORE_STREAM;
}

/* It would end the transaction that they are in. */
START_TEST(nothing_else_is_asked_of_the_store_while_rows_of_a_batch_are_on_their_way)
{
    static char ids[LOG_RECORDS][200];
    struct pipeline_options options = default_options();
    options.max_rows = 1000;
    options.max_delay_us = 5 * SECOND_US;
    options.max_batch_bytes = 1 << 16;
    world.before = nothing_between_rows_and_commit;
    run_lanes(&options, 1);
    for (int i = 0; i < LOG_RECORDS; i++) {
        snprintf(ids[i], sizeof ids[i], "%0100d", i);
        put_event(0, 0, "ann", ids[i], 1);
    }
    turns(700);
    ck_assert_uint_ge(world.jobs[STORE_STREAM], 1);
    ck_assert_int_eq(partition(0).committed, LOG_RECORDS);
}
END_TEST

static void refuse_rows(struct store_job *job)
{
    if (job->kind == STORE_COMMIT && job->batch->row_count > 0)
        world.answers[STORE_COMMIT] = STORE_REFUSED;
}

START_TEST(what_a_row_had_decided_that_postgresql_refuses_is_never_said)
{
    struct pipeline_options options = default_options();
    with_ceilings(1);
    world.queue_full = true; /* it was decided, and could not be sent yet */
    world.before = refuse_rows;
    put_event(0, 0, "ann", "e1", 11);
    run_lanes(&options, 1);
    for (int i = 0; i < 5; i++, turns(120))
        pass(30 * SECOND_US);
    ck_assert_uint_eq(pipeline_stats(world.engine)->dead[REFUSAL_STORE_REFUSED], 1);
    world.queue_full = false;
    turns(200);
    ck_assert_uint_eq(world.sent_count, 0);
}
END_TEST

/* Each time others: what is missing both times is none of it. */
START_TEST(records_that_a_client_skips_are_asked_for_until_two_answers_agree)
{
    struct pipeline_options options = default_options();
    run_lanes(&options, 1);
    struct fake_log *log = &world.logs[0][0];
    log->high = 5;
    for (int i = 0; i < 5; i++)
        put_event(0, 0, "ann", (const char *[]){"e5", "e6", "e7", "e8", "e9"}[i], 1);
    turns(1);
    for (int i = 0; i < 3; i++)
        log->records[i].offset = -1; /* skipped */
    turns(1);
    for (int i = 0; i < 3; i++)
        log->records[i].offset = 5 + i;
    turns(200);
    ck_assert_int_eq(partition(0).committed, 10);
    ck_assert_uint_eq(pipeline_stats(world.engine)->holes, 5);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 5);
}
END_TEST

/* --- what is in doubt --- */

static void taken_and_committed_by_another(struct store_job *job)
{
    if (job->kind != STORE_RECOVER)
        return;
    world.rows[0][0].epoch++;
    world.rows[0][0].next_offset = 3;
}

START_TEST(an_offset_row_of_another_owner_says_nothing_of_the_batch_in_doubt)
{
    struct pipeline_options options = default_options();
    read_two(&options);
    put_event(0, 0, "ann", "e3", 1);
    world.answers[STORE_COMMIT] = STORE_LOST;
    world.before = taken_and_committed_by_another;
    turns(300);
    ck_assert_msg(noted("the batch in doubt was not committed"), "%s", world.notes);
    ck_assert_msg(noted("its offset row was changed by another hand"), "%s", world.notes);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 2);
    ck_assert_int_eq(partition(0).committed, 3);
}
END_TEST

/* It takes place, and its answer is lost. */
static void lose_answer(const struct store_job *commit)
{
    fake_commit(commit->batch);
    world.answers[STORE_COMMIT] = STORE_LOST;
}

static void commit_unheard(struct store_job *job)
{
    if (job->kind != STORE_COMMIT || job->batch->row_count == 0)
        return;
    lose_answer(job);
    world.before = NULL;
}

/* "cat" is of lane 1 of 2. */
START_TEST(lanes_without_a_record_in_the_batch_in_doubt_leave_the_answer_to_the_others)
{
    struct pipeline_options options = default_options();
    run_lanes(&options, 2);
    turns(200);
    size_t takeovers = world.jobs[STORE_TAKEOVER];
    world.before = commit_unheard;
    put_event(0, 1, "cat", "e1", 1);
    turns(300);
    ck_assert_msg(noted("the batch in doubt was committed"), "%s", world.notes);
    ck_assert_msg(!noted("the lane is taken over anew"), "%s", world.notes);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 1);
    ck_assert_uint_eq(world.jobs[STORE_TAKEOVER], takeovers);
}
END_TEST

static int64_t kept_epoch = -1;

static void note_kept_epoch(struct store_job *job)
{
    if (job->kind == STORE_TAKEOVER)
        kept_epoch = job->lanes[0].kept_epoch;
}

/* Committed with something of lane 0 that no offset tells of; then lane 1, whose record it was, is taken
 * over. */
static void committed_unheard_and_followed(struct store_job *job)
{
    static const uint16_t day = 20000;
    if (job->kind == STORE_COMMIT && job->batch->row_count > 0 && !world.answers[STORE_COMMIT]) {
        ck_assert(batch_adopt_seal(job->batch, 0, day));
        lose_answer(job);
    } else if (job->kind == STORE_RECOVER) {
        world.rows[0][1].epoch++;
    } else if (job->kind == STORE_TAKEOVER && job->lanes[0].lane == 0) {
        kept_epoch = job->lanes[0].kept_epoch;
    }
}

START_TEST(where_no_lane_is_left_that_can_tell_what_was_in_doubt_all_are_restored)
{
    struct pipeline_options options = default_options();
    run_lanes(&options, 2);
    turns(200);
    world.before = committed_unheard_and_followed;
    put_event(0, 1, "cat", "e1", 1);
    turns(300);
    ck_assert_msg(noted("the batch in doubt was not committed"), "%s", world.notes);
    ck_assert_int_eq(kept_epoch, 0);
}
END_TEST

/* Its commit is under way, or its connection was lost meanwhile. */
START_TEST(a_lane_revoked_while_its_commit_is_in_doubt_is_restored_and_not_continued)
{
    struct pipeline_options options = default_options();
    read_two(&options);
    put_event(0, 0, "ann", "e3", 1);
    world.silent[STORE_COMMIT] = _i == 0;
    world.silent[STORE_RECOVER] = true;
    world.answers[STORE_COMMIT] = _i == 0 ? STORE_DONE : STORE_LOST;
    turns(150);
    world.event = (struct source_event){.kind = SOURCE_REVOKED, .lost = true};
    turns(30);
    world.before = note_kept_epoch;
    world.silent[STORE_COMMIT] = world.silent[STORE_RECOVER] = false;
    assign(1);
    turns(300);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert_int_eq(kept_epoch, 0);
    ck_assert_int_eq(partition(0).committed, 3);
}
END_TEST

/* --- late events --- */

static void seal_today(void)
{
    world.sealed[0] = (uint16_t)(START_US / DAY_US);
    world.sealed_count = 1;
    world.adopts_seals = true;
}

static void stop_lane(void)
{
    world.event = (struct source_event){
        .kind = SOURCE_BROKEN, .generation = world.generation, .detail = "offset out of range"};
    turns(1);
    ck_assert_int_eq(phase(0), LANE_STOPPED);
}

static void accept_late(struct store_job *job)
{
    note_kept_epoch(job);
    for (size_t i = 0; job->kind == STORE_COMMIT && i < job->batch->sealed_count; i++)
        ck_assert(batch_sealed_accepted(job->batch, &secret, i));
}

/* The store knows them as pending, and says so to whoever takes the lane over. */
START_TEST(late_events_accepted_after_their_lane_was_stopped_are_counted_once_it_is_taken_over_anew)
{
    struct pipeline_options options = default_options();
    with_ceilings(1);
    seal_today();
    world.silent[STORE_COMMIT] = true;
    world.before = accept_late;
    put_event(0, 0, "ann", "late", 1);
    run_lanes(&options, 1);
    turns(150);
    stop_lane();
    world.silent[STORE_COMMIT] = false;
    turns(300);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert_uint_eq(world.jobs[STORE_TAKEOVER], 2);
    ck_assert_int_eq(kept_epoch, 0);
}
END_TEST

static void accept_late_unheard(struct store_job *job)
{
    accept_late(job);
    if (job->kind != STORE_COMMIT || job->batch->sealed_count == 0)
        return;
    lose_answer(job);
    world.before = note_kept_epoch;
}

/* As far as the engine knows they may not be: they are pending in the store. */
START_TEST(late_events_of_a_batch_in_doubt_that_was_committed_are_left_to_a_takeover)
{
    struct pipeline_options options = default_options();
    with_ceilings(1);
    seal_today();
    world.before = accept_late_unheard;
    put_event(0, 0, "ann", "late", 1);
    run_lanes(&options, 1);
    turns(300);
    ck_assert_msg(noted("the batch in doubt was committed"), "%s", world.notes);
    ck_assert_uint_eq(world.jobs[STORE_TAKEOVER], 2);
    ck_assert_int_eq(kept_epoch, 0);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
}
END_TEST

/* Its flag is out, and it was not committed before its day was sealed. */
START_TEST(a_flag_is_not_withdrawn_before_its_event_is_decided_again_as_a_late_one)
{
    static char value[sizeof world.sent[0].value];
    struct pipeline_options options = default_options();
    with_ceilings(1);
    world.silent[STORE_COMMIT] = true;
    put_event(0, 0, "ann", "e1", 11);
    run_lanes(&options, 1);
    ck_assert_uint_eq(world.sent_count, 1);
    memcpy(value, world.sent[0].value, sizeof value);
    end();
    world.silent[STORE_COMMIT] = false;
    world.on_topic = (struct flag_event){.kind = FLAG_SEEN,
                                         .key = TEXT("[\"ann\",\"daily\",{}]"),
                                         .value = text_of(value),
                                         .has_sequence = true,
                                         .sequence = {1, 1}};
    seal_today();
    world.before = accept_late;
    begin(&options);
    assign(1);
    turns(500);
    ck_assert_int_eq(world.rows[0][0].next_offset, 1);
    ck_assert_uint_eq(pipeline_stats(world.engine)->decisions, 1);
    ck_assert_uint_eq(world.sent_count, 1);
    put_event(0, 0, "bob", "e1", 11); /* all is as usual from then on */
    turns(500);
    ck_assert_uint_eq(world.sent_count, 2);
}
END_TEST

/* --- flags --- */

START_TEST(what_a_lane_decided_before_it_was_stopped_is_committed_behind_its_flags_too)
{
    struct pipeline_options options = default_options();
    with_ceilings(1);
    world.unacknowledged = true;
    world.queue_full = _i == 1; /* one that was not even sent */
    put_event(0, 0, "ann", "e1", 11);
    run_lanes(&options, 1);
    stop_lane();
    turns(300);
    ck_assert_msg(world.rows[0][0].next_offset < 0, "committed before its flag is on the topic");
    ck_assert_uint_eq(world.jobs[STORE_TAKEOVER], 1);
    world.queue_full = false;
    turns(10);
    ck_assert_uint_eq(world.sent_count, 1);
    ck_assert_int_lt(world.rows[0][0].next_offset, 0);
    world.flag_events[world.flag_event_count++] =
        (struct flag_event){.kind = FLAG_ACKNOWLEDGED, .cookie = world.sent[0].cookie};
    turns(300);
    ck_assert_int_eq(world.rows[0][0].next_offset, 1);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
}
END_TEST

/* It forgets its flags then: nobody would wait for what the adopting batch had decided. */
START_TEST(
    what_a_lane_decided_before_it_was_stopped_while_it_adopts_ceilings_is_committed_behind_its_flags_too)
{
    struct pipeline_options options = default_options();
    with_ceilings(1);
    run_lanes(&options, 1);
    world.unacknowledged = world.silent[STORE_SEED] = true;
    world.catalogue_generation = 2;
    turns(300);
    put_event(0, 0, "ann", "e1", 11);
    turns(10);
    ck_assert_uint_eq(world.sent_count, 1);
    world.silent[STORE_SEED] = false;
    turns(100);
    ck_assert_uint_eq(world.jobs[STORE_SEED], 1);
    stop_lane();
    turns(300);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert_msg(world.rows[0][0].next_offset < 1, "committed before its flag is on the topic");
    ck_assert_uint_eq(world.sent_count, 2);
    world.flag_events[world.flag_event_count++] =
        (struct flag_event){.kind = FLAG_ACKNOWLEDGED, .cookie = world.sent[1].cookie};
    turns(300);
    ck_assert_int_eq(world.rows[0][0].next_offset, 1);
    ck_assert_int_eq(world.lane_generation, 2);
}
END_TEST

/* A store that was lost may have taken its epochs with it: who published under them may still. */
START_TEST(a_lane_is_taken_over_with_an_epoch_above_all_on_the_enforcement_topic)
{
    struct pipeline_options options = default_options();
    begin(&options);
    assign(1);
    world.flag_events[world.flag_event_count++] = (struct flag_event){
        .kind = FLAG_SEEN, .key = TEXT("[\"ann\",\"daily\",{}]"), .has_sequence = true, .sequence = {41, 1}};
    turns(30);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
    ck_assert_int_eq(partition(0).epoch, 42);
}
END_TEST

static size_t confirmed;

static void note_confirmed(struct store_job *job)
{
    if (job->kind == STORE_COMMIT)
        confirmed += job->batch->ceilings_adopted_count;
}

/* A flag is out for a record that the first topic's log holds, and that is not read yet. */
START_TEST(a_rehomed_lane_says_that_its_flags_are_out_only_once_it_has_compared_them)
{
    static char value[sizeof world.sent[0].value];
    struct pipeline_options options = default_options();
    options.topic_count = 2;
    with_ceilings(1);
    world.silent[STORE_COMMIT] = true;
    put_event(0, 0, "ann", "e1", 11);
    run_lanes(&options, 1);
    ck_assert_uint_eq(world.sent_count, 1);
    memcpy(value, world.sent[0].value, sizeof value);
    end();
    world.silent[STORE_COMMIT] = false;
    world.settings.rehomed_batch = 1;
    world.before = note_confirmed;
    put_event(1, 0, "bob", "e1", 1);
    begin(&options);
    assign(1);
    world.flag_events[world.flag_event_count++] = (struct flag_event){.kind = FLAG_SEEN,
                                                                      .key = TEXT("[\"ann\",\"daily\",{}]"),
                                                                      .value = text_of(value),
                                                                      .has_sequence = true,
                                                                      .sequence = {1, 1}};
    for (int i = 0; i < 300; i++) {
        turns(1);
        for (size_t c = 0; c < world.consumed_count; c++)
            if (world.consumed[c].topic == 0)
                world.consumed[c].offset = 1; /* no record comes */
    }
    ck_assert_int_eq(world.rows[1][0].next_offset, 1);
    ck_assert_int_lt(world.rows[0][0].next_offset, 1);
    ck_assert_uint_eq(confirmed, 0);
    for (size_t c = 0; c < world.consumed_count; c++)
        world.consumed[c].offset = 0;
    turns(300);
    ck_assert_int_eq(world.rows[0][0].next_offset, 1);
    ck_assert_uint_ge(confirmed, 1);
}
END_TEST

/* --- without its store --- */

enum { AT_ONCE = 4096, AHEAD_KEYS = 1 << 20 };

static void feed(int64_t first_offset)
{
    static struct record records[AT_ONCE];
    static char texts[AT_ONCE][80];
    for (int i = 0; i < AT_ONCE; i++) {
        snprintf(texts[i], sizeof texts[i],
                 "{\"event_id\":\"%lld\",\"customer_id\":\"ann\",\"meter\":\"tokens\",\"quantity\":1}",
                 (long long)first_offset + i);
        records[i] = (struct record){.offset = first_offset + i,
                                     .time_ms = world.now_us / 1000,
                                     .key = TEXT("ann"),
                                     .value = text_of(texts[i])};
    }
    world.event = (struct source_event){
        .kind = SOURCE_RECORDS, .generation = world.generation, .records = records, .record_count = AT_ONCE};
    turns(1);
}

START_TEST(without_its_store_it_decides_a_million_events_ahead_and_no_more)
{
    struct pipeline_options options = default_options();
    run_lanes(&options, 1);
    world.answers[STORE_CATALOGUE] = STORE_LOST;
    world.silent[STORE_RECOVER] = true;
    turns(150);
    ck_assert(pipeline_stats(world.engine)->ahead);
    int64_t offset = 0;
    for (; !world.held && offset < 2 * AHEAD_KEYS; offset += AT_ONCE)
        feed(offset);
    ck_assert_int_ge(offset, AHEAD_KEYS);
    ck_assert_int_le(offset, AHEAD_KEYS + AT_ONCE);
    ck_assert_uint_eq(pipeline_stats(world.engine)->dedupe_keys, (size_t)offset);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_set_timeout(tests, 600); /* one computes for seconds, on a machine that may be busy */
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, what_a_log_lacks_at_its_begin_is_a_gap_after_a_rewind_too);
    tcase_add_test(tests, nothing_else_is_asked_of_the_store_while_rows_of_a_batch_are_on_their_way);
    tcase_add_test(tests, what_a_row_had_decided_that_postgresql_refuses_is_never_said);
    tcase_add_test(tests, records_that_a_client_skips_are_asked_for_until_two_answers_agree);
    tcase_add_test(tests, an_offset_row_of_another_owner_says_nothing_of_the_batch_in_doubt);
    tcase_add_test(tests, lanes_without_a_record_in_the_batch_in_doubt_leave_the_answer_to_the_others);
    tcase_add_test(tests, where_no_lane_is_left_that_can_tell_what_was_in_doubt_all_are_restored);
    tcase_add_loop_test(tests, a_lane_revoked_while_its_commit_is_in_doubt_is_restored_and_not_continued, 0,
                        2);
    tcase_add_test(tests,
                   late_events_accepted_after_their_lane_was_stopped_are_counted_once_it_is_taken_over_anew);
    tcase_add_test(tests, late_events_of_a_batch_in_doubt_that_was_committed_are_left_to_a_takeover);
    tcase_add_test(tests, a_flag_is_not_withdrawn_before_its_event_is_decided_again_as_a_late_one);
    tcase_add_loop_test(tests, what_a_lane_decided_before_it_was_stopped_is_committed_behind_its_flags_too, 0,
                        2);
    tcase_add_test(
        tests,
        what_a_lane_decided_before_it_was_stopped_while_it_adopts_ceilings_is_committed_behind_its_flags_too);
    tcase_add_test(tests, a_lane_is_taken_over_with_an_epoch_above_all_on_the_enforcement_topic);
    tcase_add_test(tests, a_rehomed_lane_says_that_its_flags_are_out_only_once_it_has_compared_them);
    tcase_add_test(tests, without_its_store_it_decides_a_million_events_ahead_and_no_more);
}

int main(void)
{
    return run_suite("engine: recovery", add_tests);
}
