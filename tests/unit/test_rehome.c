/* Partitions were added, and customers have moved to other lanes: what a lane makes of records that came
 * before. */
#include <check.h>
#include <stdio.h>

#include "engine_fixture.h"
#include "suite.h"

/* What lanes had counted by then: the first records of the first log. */
static size_t former_count;

static void give_former_keys(struct store_job *job)
{
    if (job->kind != STORE_TAKEOVER || job->former_known)
        return;
    struct event_rules rules = default_options().rules;
    struct decoder *decoder = decoder_new(&rules);
    job->former = former_new(job->settings.rehomed_batch);
    for (size_t i = 0; i < former_count; i++) {
        struct event event;
        const struct record *record = &world.logs[0][0].records[i];
        ck_assert_int_eq(event_decode(decoder, record, world.now_us, &event), REFUSAL_NONE);
        uint16_t day = (uint16_t)(event.time_us / DAY_US);
        ck_assert_int_eq(dedupe_insert(job->former->keys, identity_key(&secret, &event),
                                       identity_content(&secret, &event), day),
                         DEDUPE_NEW);
        ck_assert(former_add_day(job->former, day));
    }
    decoder_free(decoder);
}

static void rehome(size_t counted)
{
    former_count = counted;
    world.settings = (struct store_settings){.rehomed_batch = 1, .flags_said = true};
    world.after = give_former_keys;
}

/* Of the two events, which another lane has counted, the first one's day is sealed. */
START_TEST(former_keys_are_held_until_the_last_of_their_days_is_sealed)
{
    struct pipeline_options options = default_options();
    put(0, 0, "ann",
        "{\"event_id\":\"e1\",\"customer_id\":\"ann\",\"meter\":\"tokens\",\"quantity\":1,"
        "\"timestamp\":\"2026-11-20T09:30:00Z\"}");
    put_event(0, 0, "ann", "e2", 1);
    world.logs[0][0].high = 0; /* they come later */
    rehome(2);
    world.sealed[0] = (uint16_t)(START_US / DAY_US - 2);
    world.sealed_count = 1;
    run_lanes(&options, 1);
    turns(200);
    ck_assert_uint_eq(pipeline_stats(world.engine)->dedupe_keys, 2);
    world.logs[0][0].high = 2;
    world.logs[0][0].records[0].offset = 1000; /* of it the index decides */
    world.logs[0][0].records[0] = world.logs[0][0].records[1];
    world.logs[0][0].records[0].offset = 0;
    turns(200);
    ck_assert_int_eq(partition(0).committed, 2);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 0);
    ck_assert_uint_eq(pipeline_stats(world.engine)->duplicates, 2);
}
END_TEST

/* --- records that are read once more, in lane 0 of 2: "cat" is of lane 1 --- */

static void one_lane_below(int64_t end_offset)
{
    static struct store_era era;
    era = (struct store_era){.below = end_offset, .partition_count = 1};
    world.limits[0][0] = (struct store_lane_offset){.eras = &era, .era_count = 1};
    ck_assert_int_eq(partitioner_lane(PARTITIONER_MURMUR2, TEXT("cat"), 2), 1);
}

static void read_again(void)
{
    struct pipeline_options options = default_options();
    run_lanes(&options, 2);
    turns(200);
    ck_assert_int_eq(partition(0).committed, world.logs[0][0].high);
}

/* The sentences of dead letters that are committed. */
static char letters[1000];

static void keep_letters(struct store_job *job)
{
    for (size_t i = 0; job->kind == STORE_COMMIT && i < job->batch->dead_letter_count; i++) {
        const struct batch_dead_letter *dead = &job->batch->dead_letters[i];
        size_t length = strlen(letters);
        snprintf(letters + length, sizeof letters - length, "%d@%d: %.*s\n", (int)dead->reason,
                 (int)dead->offset, (int)dead->detail.length, dead->detail.bytes);
    }
}

/* All of them were counted by some lane. */
START_TEST(a_record_from_before_partitions_were_added_is_judged_by_the_partition_count_of_then)
{
    static struct store_era eras[] = {{.below = 1, .partition_count = 1}, {.below = 2, .partition_count = 2}};
    one_lane_below(1);
    world.limits[0][0] = (struct store_lane_offset){.eras = eras, .era_count = 2};
    for (int i = 0; i < 3; i++)
        put_event(0, 0, "cat", "e1", 1); /* when there was one, when there were two, now */
    rehome(1);
    read_again();
    ck_assert_uint_eq(pipeline_stats(world.engine)->duplicates, 1);
    ck_assert_uint_eq(pipeline_stats(world.engine)->dead[REFUSAL_WRONG_PARTITION], 2);
}
END_TEST

START_TEST(what_was_counted_before_its_customer_moved_is_a_repeat_in_the_lane_that_he_left)
{
    one_lane_below(2);
    put_event(0, 0, "cat", "e1", 1);
    put_event(0, 0, "cat", "e1", 2);
    rehome(1);
    read_again();
    ck_assert_uint_eq(pipeline_stats(world.engine)->duplicates, 2);
    ck_assert_uint_eq(pipeline_stats(world.engine)->conflicts, 1);
    ck_assert_uint_eq(pipeline_stats(world.engine)->dead[REFUSAL_WRONG_PARTITION], 0);
}
END_TEST

/* Counted here, it would stand beside what his own lane has counted: eleven are more than ten a day. */
START_TEST(what_was_passed_over_before_its_customer_moved_is_not_counted_in_the_lane_that_he_left)
{
    one_lane_below(1);
    put_event(0, 0, "cat", "passed over", 11);
    with_ceilings(1);
    rehome(0);
    world.before = keep_letters;
    read_again();
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 0);
    ck_assert_uint_eq(pipeline_stats(world.engine)->decisions, 0);
    ck_assert_uint_eq(world.sent_count, 0);
    char expected[200];
    snprintf(expected, sizeof expected,
             "%d@0: it came when there were fewer partitions, and was passed over until its customer had "
             "moved to partition 1 of 2; replay it\n",
             REFUSAL_WRONG_PARTITION);
    ck_assert_str_eq(letters, expected);
}
END_TEST

/* Says of the first event that it is there, of the second one that it is not. */
static void answer_from_the_index(struct store_job *job)
{
    if (job->kind != STORE_COMMIT || job->batch->sealed_count == 0)
        return;
    ck_assert_uint_eq(job->batch->sealed_count, 2);
    for (size_t i = 0; i < 2; i++)
        ck_assert(job->batch->sealed[i].otherwise && !job->batch->sealed[i].counted);
    ck_assert(batch_sealed_repeated(job->batch, 0, false));
    ck_assert(batch_sealed_refused(job->batch, &secret, 1));
    keep_letters(job);
}

START_TEST(on_a_sealed_day_the_index_tells_what_was_counted_before_its_customer_moved)
{
    one_lane_below(2);
    put_event(0, 0, "cat", "counted", 11);
    put_event(0, 0, "cat", "passed over", 11);
    with_ceilings(1);
    rehome(0);
    world.sealed[0] = (uint16_t)(START_US / DAY_US);
    world.sealed_count = 1;
    world.adopts_seals = true;
    world.before = answer_from_the_index;
    read_again();
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 0);
    ck_assert_uint_eq(pipeline_stats(world.engine)->duplicates, 1);
    ck_assert_uint_eq(pipeline_stats(world.engine)->dead[REFUSAL_WRONG_PARTITION], 1);
    ck_assert_uint_eq(pipeline_stats(world.engine)->decisions, 0);
    ck_assert_ptr_nonnull(strstr(letters, "@1: it came when there were fewer partitions"));
}
END_TEST

/* --- lanes that wait for each other --- */

static void fence(struct store_job *job)
{
    if (job->kind != STORE_COMMIT || world.rows[0][0].epoch == job->batch->partitions[0].epoch)
        return;
    world.answers[STORE_COMMIT] = STORE_FENCED;
    job->fenced_lanes = fake_zeroed(1, sizeof *job->fenced_lanes);
    job->fenced_count = 1;
}

/* A person sends it back meanwhile. What lies beyond keeps its watermark from rising. */
START_TEST(a_lane_that_waits_at_its_limit_learns_that_it_was_sent_elsewhere)
{
    struct pipeline_options options = default_options();
    world.settings = (struct store_settings){.partition_count = 1, .repartition_id = 1, .repartition_to = 2};
    world.limits[0][0] = (struct store_lane_offset){.limited = true, .limit = 2};
    put_event(0, 0, "ann", "e1", 1);
    put_event(0, 0, "ann", "e2", 1);
    put_event(0, 0, "ann", "beyond", 1);
    world.before = fence;
    world.partition_count = 2;
    begin(&options);
    assign(1);
    turns(500);
    ck_assert_int_eq(partition(0).committed, 2);
    world.rows[0][0].next_offset = 1;
    world.rows[0][0].epoch = ++world.epochs;
    turns(1000);
    ck_assert_msg(noted("fenced: another process owns this lane now"), "%s", world.notes);
    ck_assert_int_eq(world.rows[0][0].next_offset, 2);
    ck_assert_int_eq(world.rows[0][0].epoch, world.epochs);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 3); /* keys are this store's to give back */
}
END_TEST

/* They have nothing to commit, so that nobody fences them. */
START_TEST(lanes_are_taken_over_anew_once_a_repartition_has_begun)
{
    struct pipeline_options options = default_options();
    world.settings.partition_count = 1;
    read_two(&options);
    size_t takeovers = world.jobs[STORE_TAKEOVER];
    world.settings.repartition_id = 1;
    world.settings.repartition_to = 2;
    world.partition_count = 2;
    turns(1000);
    ck_assert_msg(noted("a repartition from 1 to 2 partitions"), "%s", world.notes);
    ck_assert_uint_eq(world.jobs[STORE_TAKEOVER], takeovers + 1);
    ck_assert_int_eq(phase(0), LANE_RUNNING);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, former_keys_are_held_until_the_last_of_their_days_is_sealed);
    tcase_add_test(tests,
                   a_record_from_before_partitions_were_added_is_judged_by_the_partition_count_of_then);
    tcase_add_test(tests, what_was_counted_before_its_customer_moved_is_a_repeat_in_the_lane_that_he_left);
    tcase_add_test(tests,
                   what_was_passed_over_before_its_customer_moved_is_not_counted_in_the_lane_that_he_left);
    tcase_add_test(tests, on_a_sealed_day_the_index_tells_what_was_counted_before_its_customer_moved);
    tcase_add_test(tests, a_lane_that_waits_at_its_limit_learns_that_it_was_sent_elsewhere);
    tcase_add_test(tests, lanes_are_taken_over_anew_once_a_repartition_has_begun);
}

int main(void)
{
    return run_suite("engine: customers who move", add_tests);
}
