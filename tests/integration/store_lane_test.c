/* Lanes taken over, restored and fenced on a real PostgreSQL. */
#include <stdio.h>
#include <stdlib.h>

#include "consumer/system_clock.h"
#include "rollup/seal.h"
#include "one_lane.h"

/* --- fencing and takeover --- */

START_TEST(an_owner_that_was_followed_is_fenced)
{
    struct postgres_store *young = new_store();
    struct taken before, after;
    struct store_job job;
    take(store, 20, &before);
    /* as if the old owner's connection could not be ended */
    run_sql("UPDATE consumer_offset SET backend_pid = NULL, second_backend_pid = NULL WHERE kafka_partition "
            "= 20");
    take(young, 20, &after);
    ck_assert_int_gt(after.lane.epoch, before.lane.epoch);
    open_batch(batch, &before);
    struct event event = an_event("zombie", this_day_us());
    accept_event(batch, &before, &event);
    ck_assert_int_eq(commit_job(store, batch, 0, &job), STORE_FENCED);
    ck_assert_uint_eq(job.fenced_count, 1);
    ck_assert_int_eq(job.fenced_lanes[0], 20);
    free(job.fenced_lanes);
    ck_assert_sql("0", "SELECT count(*) FROM usage_event WHERE kafka_partition = 20");
    open_batch(batch, &after);
    accept_event(batch, &after, &event);
    commit(young, batch, &after);
    taken_free(&before);
    taken_free(&after);
    postgres_store_free(young);
}
END_TEST

START_TEST(a_former_owner_that_is_well_keeps_its_connection)
{
    struct postgres_store *young = new_store();
    struct taken kept, given, after;
    take(store, 26, &kept);
    take(store, 27, &given);
    take(young, 27, &after);
    open_batch(batch, &kept);
    struct event event = an_event("goes on", this_day_us());
    accept_event(batch, &kept, &event);
    commit(store, batch, &kept);
    taken_free(&kept);
    taken_free(&given);
    taken_free(&after);
    postgres_store_free(young);
}
END_TEST

/* Waits for both at once. */
START_TEST(taking_over_ends_the_connections_of_an_owner_that_stalls)
{
    struct postgres_store *young = new_store();
    struct taken before, after;
    struct store_job job;
    struct batch *next = new_batch();
    take(store, 21, &before);
    struct event event = an_event("stalled", this_day_us());
    open_batch(batch, &before);
    accept_event(batch, &before, &event);
    uint16_t day = stream(store, batch, STORE_DONE); /* and stalls inside COPY */
    open_batch(next, &before);
    next->number = 1;
    accept_event(next, &before, &event);
    stream_over(store, 1, next, STORE_DONE);
    int64_t began_us = system_steady_us();
    take(young, 21, &after);
    ck_assert_int_lt(system_steady_us() - began_us, 5000000);
    ck_assert_int_eq(commit_job(store, batch, day, &job), STORE_LOST);
    ck_assert_int_eq(commit_over(store, 1, next, day, &job), STORE_LOST);
    batch_free(next);
    struct store_fact fact = {.topic = 0, .partition = 21};
    job = recover(store, &fact, 1);
    ck_assert_done(job);
    ck_assert_int_eq(fact.epoch, after.lane.epoch);
    ck_assert(!job.store_went_back);
    ck_assert_str_eq(ask_sql("SELECT DISTINCT owner FROM consumer_offset WHERE kafka_partition = 21"),
                     postgres_store_owner(young));
    taken_free(&before);
    taken_free(&after);
    postgres_store_free(young);
}
END_TEST

START_TEST(the_epoch_is_above_every_one_that_was_seen)
{
    taken = (struct taken){.lane = {.lane = 22, .epoch_above = 41}};
    taken.job = (struct store_job){.kind = STORE_TAKEOVER, .lanes = &taken.lane, .lane_count = 1};
    postgres_store_perform(store, &taken.job);
    ck_assert_done(taken.job);
    ck_assert_int_eq(taken.lane.epoch, 42);
    ck_assert_sql("42", "SELECT min(epoch) FROM consumer_offset WHERE kafka_partition = 22");
    taken_free(&taken);
    run_sql("UPDATE consumer_offset SET epoch = 50 WHERE kafka_partition = 22 AND topic = 'usage-eu'");
    take(store, 22, &taken);
    ck_assert_int_eq(taken.lane.epoch, 51);
}
END_TEST

START_TEST(a_lane_that_is_still_ours_keeps_its_state)
{
    struct taken first, again;
    take(store, 23, &first);
    again = (struct taken){.lane = {.lane = 23, .kept_epoch = first.lane.epoch}};
    again.job = (struct store_job){.kind = STORE_TAKEOVER, .lanes = &again.lane, .lane_count = 1};
    postgres_store_perform(store, &again.job);
    ck_assert_done(again.job);
    ck_assert(again.lane.kept);
    ck_assert_int_eq(again.lane.epoch, first.lane.epoch);
    ck_assert_ptr_null(again.lane.dedupe);
    ck_assert_int_eq(again.lane.offsets[1].next_offset, -1);
    taken_free(&again);
    struct postgres_store *other = new_store();
    take(other, 23, &again);
    taken_free(&again);
    again = (struct taken){.lane = {.lane = 23, .kept_epoch = first.lane.epoch}};
    again.job = (struct store_job){.kind = STORE_TAKEOVER, .lanes = &again.lane, .lane_count = 1};
    postgres_store_perform(store, &again.job);
    ck_assert_done(again.job);
    ck_assert(!again.lane.kept);
    ck_assert_ptr_nonnull(again.lane.dedupe);
    taken_free(&first);
    taken_free(&again);
    postgres_store_free(other);
}
END_TEST

static void add_changes(int32_t lane)
{
    struct ceiling_change counter = {.lane = lane,
                                     .counter = {.customer_id = TEXT("acme-co"),
                                                 .meter = TEXT("llm_tokens_in"),
                                                 .period = PERIOD_DAY,
                                                 .scope = TEXT("{}"),
                                                 .period_start_us = this_day_us(),
                                                 .used = 1000417 * DECIMAL_ONE}};
    struct ceiling_change state = {.lane = lane,
                                   .is_state = true,
                                   .state = {.customer_id = TEXT("acme-co"),
                                             .ceiling = TEXT("daily"),
                                             .scope = TEXT("{}"),
                                             .period_start_us = this_day_us(),
                                             .period_end_us = this_day_us() + DAY_US,
                                             .version = 3,
                                             .transition = 1,
                                             .active = true,
                                             .decision_id = "0123456789abcdef0123456789abcdef"}};
    ck_assert(batch_change(batch, &counter));
    ck_assert(batch_change(batch, &state));
}

static void add_decision(int32_t lane)
{
    struct decision decision = {.id = "0123456789abcdef0123456789abcdef",
                                .lane = lane,
                                .customer_id = TEXT("acme-co"),
                                .ceiling = TEXT("daily"),
                                .scope = TEXT("{}"),
                                .meter = TEXT("llm_tokens_in"),
                                .version = 3,
                                .policy = POLICY_HARD_STOP,
                                .period = PERIOD_DAY,
                                .period_start_us = this_day_us(),
                                .period_end_us = this_day_us() + DAY_US,
                                .transition = 1,
                                .active = true,
                                .limit = 1000000 * DECIMAL_ONE,
                                .used = 1000417 * DECIMAL_ONE,
                                .source = DECIDED_BY_EVENT,
                                .event_id = TEXT("e"),
                                .event_time_us = this_day_us(),
                                .topic = 0,
                                .partition = lane,
                                .offset = 7,
                                .decided_at_us = this_day_us(),
                                .published = true,
                                .trace = TEXT("{\"flag\": {\"type\": \"flag\"}}")};
    struct decision *copy;
    ck_assert(batch_decide(batch, &decision, &copy));
}

static bool see_state(void *context, const struct ceiling_state *state)
{
    ck_assert(text_equal(state->flag, TEXT("{\"type\": \"flag\"}")));
    ck_assert_str_eq(state->decision_id, "0123456789abcdef0123456789abcdef");
    ck_assert(state->active);
    ck_assert_int_eq(state->version, 3);
    ++*(int *)context;
    return true;
}

START_TEST(keys_counters_states_and_adoptions_come_back)
{
    take(store, 24, &taken);
    open_batch(batch, &taken);
    struct event open_day = an_event("open", this_day_us()),
                 sealed_day = an_event("sealed", this_day_us() - 100 * DAY_US);
    accept_event(batch, &taken, &open_day);
    accept_event(batch, &taken, &sealed_day);
    add_changes(24);
    add_decision(24);
    ck_assert(batch_adopt_seal(batch, 24, (uint16_t)(sealed_day.time_us / DAY_US)));
    ck_assert(batch_adopt_ceilings(batch, 24, 5));
    commit(store, batch, &taken);
    struct identity_secret secret = taken.job.settings.secret;
    taken_free(&taken);

    struct postgres_store *young = new_store();
    take(young, 24, &taken);
    ck_assert(memcmp(&secret, &taken.job.settings.secret, sizeof secret) == 0);
    ck_assert_uint_eq(dedupe_count(taken.lane.dedupe), 1);
    ck_assert_int_eq(dedupe_insert(taken.lane.dedupe, identity_key(&secret, &open_day),
                                   identity_content(&secret, &open_day), (uint16_t)(this_day_us() / DAY_US)),
                     DEDUPE_REPEAT);
    ck_assert_uint_eq(taken.lane.sealed_day_count, 1);
    ck_assert_int_eq(taken.lane.sealed_days[0], sealed_day.time_us / DAY_US);
    ck_assert_int_eq(taken.lane.ceilings_generation, 5);
    ck_assert_int_eq(taken.lane.adopted->generation, 5); /* not in force any more */
    int states = 0;
    ck_assert(ceiling_book_states(taken.lane.book, see_state, &states));
    ck_assert_int_eq(states, 1);
    ck_assert_sql("1000417", "SELECT trim_scale(used) FROM ceiling_usage WHERE lane = 24 AND period = 'day'");
    ck_assert_sql("7|1|hard-stop|event",
                  "SELECT concat_ws('|', kafka_offset, transition, policy, source) FROM "
                  "policy_decision WHERE lane = 24");
    postgres_store_free(young);
}
END_TEST

START_TEST(the_witness_of_a_log_comes_back_beside_the_last_record_read)
{
    take(store, 28, &taken);
    ck_assert_int_eq(taken.lane.offsets[0].witness_offset, -1);
    open_batch(batch, &taken);
    struct event event = an_event("read", this_day_us());
    accept_event(batch, &taken, &event);
    accept_event(batch, &taken, &event);
    batch->partitions[0].last_fingerprint = 11;
    batch->partitions[0].witness_offset = 0;
    batch->partitions[0].witness_fingerprint = UINT64_MAX - 1;
    commit(store, batch, &taken);
    taken_free(&taken);
    take(store, 28, &taken);
    ck_assert_int_eq(taken.lane.offsets[0].last_offset, 1);
    ck_assert_uint_eq(taken.lane.offsets[0].last_fingerprint, 11);
    ck_assert_int_eq(taken.lane.offsets[0].witness_offset, 0);
    ck_assert_uint_eq(taken.lane.offsets[0].witness_fingerprint, UINT64_MAX - 1);
}
END_TEST

/* Such as one of a topic that is read since the repartition was ordered. */
START_TEST(a_partition_without_an_end_waits_for_the_repartition_from_its_begin_on)
{
    run_sql("INSERT INTO repartition (from_count, to_count, partitioner, actor) VALUES (64, 65, 'murmur2', "
            "'test'); "
            "INSERT INTO repartition_end (repartition_id, topic, kafka_partition, end_offset) SELECT "
            "repartition_id, 'usage', 29, 7 FROM repartition");
    take(store, 29, &taken);
    ck_assert(taken.lane.offsets[0].limited && taken.lane.offsets[1].limited);
    ck_assert_int_eq(taken.lane.offsets[0].limit, 7);
    ck_assert_int_eq(taken.lane.offsets[1].limit, 0);
    run_sql("DELETE FROM repartition_end; DELETE FROM repartition");
}
END_TEST

START_TEST(a_decision_is_kept_once)
{
    take(store, 25, &taken);
    for (int i = 0; i < 2; i++) {
        open_batch(batch, &taken);
        add_decision(25);
        commit(store, batch, &taken);
    }
    ck_assert_sql(
        "1", "SELECT count(*) FROM policy_decision WHERE decision_id = '0123456789abcdef0123456789abcdef'");
}
END_TEST

/* --- settings --- */

START_TEST(whoever_learned_another_partitioner_reads_again)
{
    struct postgres_store *two = new_store();
    struct taken mine, theirs;
    struct store_job job;
    take(store, 30, &mine);
    take(two, 31, &theirs);
    open_batch(batch, &mine);
    batch->learned = PARTITIONER_MURMUR2;
    commit(store, batch, &mine);
    open_batch(batch, &theirs);
    batch->learned = PARTITIONER_CRC32;
    ck_assert_int_eq(commit_job(two, batch, 0, &job), STORE_LOST);
    struct store_fact fact = {.partition = 31};
    job = recover(two, &fact, 1);
    ck_assert_done(job);
    job = (struct store_job){.kind = STORE_CATALOGUE, .known_generation = 0};
    postgres_store_perform(two, &job);
    ck_assert_done(job);
    ck_assert_int_eq(job.settings.partitioner, PARTITIONER_MURMUR2);
    ck_assert_int_eq(job.settings.partition_count, 64);
    free(job.sealed_days);
    taken_free(&mine);
    taken_free(&theirs);
    postgres_store_free(two);
}
END_TEST

static void apply_ceilings(void)
{
    run_sql(
        "INSERT INTO ceiling (name, version, who_kind, who, scope, meter, period, limit_quantity, "
        "clear_level, policy, "
        "generation, created_at, retired_at, retired_generation) VALUES "
        "('all', 1, 'everyone', '', 'customer', 'seeded', 'day', 100, 100, 'alert', 1, now() - interval "
        "'3 days', now(), 2), "
        "('all', 2, 'everyone', '', 'customer', 'seeded', 'day', 200, 150, 'hard-stop', 2, now(), NULL, "
        "NULL), "
        "('own', 1, 'customer', 'c1', 'customer', 'seeded', 'month', 9, 9, 'throttle', 2, now(), NULL, "
        "NULL), "
        "('own-too', 1, 'customer', 'c1', 'customer', 'seeded', 'day', 9, 9, 'alert', 2, now(), NULL, NULL)");
    run_sql("INSERT INTO setting (name, value) VALUES ('ceilings_generation', '2')");
    run_sql(
        "INSERT INTO usage_hourly (customer_id, hour, meter, events, quantity, adjustment, first_event_at, "
        "last_event_at) SELECT c, date_trunc('day', now()) - d * interval '1 day', 'seeded', 1, 10 + d, 0, "
        "now(), "
        "now() FROM unnest('{c1,c2}'::text[]) c, generate_series(0, 5) d");
    run_sql("INSERT INTO ceiling_pending (topic, kafka_partition, kafka_offset, lane, customer_id, event_id, "
            "meter, quantity, event_time) VALUES ('usage', 33, 0, 33, 'c1', 'late', 'seeded', 3, "
            "date_trunc('day', now()))");
}

static const char *sums_of(const struct store_job *job, const char *customer, enum ceiling_period period,
                           char *out)
{
    int days[8] = {0};
    size_t count = 0;
    for (size_t i = 0; i < job->sum_count; i++)
        if (text_equal(job->sums[i].customer_id, text_of(customer)) && job->sums[i].period == period)
            days[count++] = (int)(job->sums[i].used / DECIMAL_ONE);
    for (size_t i = 0; i < count; i++) /* few: sorted by hand */
        for (size_t j = i + 1; j < count; j++)
            if (days[j] < days[i]) {
                int swap = days[i];
                days[i] = days[j];
                days[j] = swap;
            }
    out[0] = '\0';
    for (size_t i = 0; i < count; i++)
        sprintf(out + strlen(out), "%d ", days[i]);
    return out;
}

START_TEST(new_ceilings_come_with_the_sums_that_they_begin_with)
{
    char sums[100];
    apply_ceilings();
    struct store_job job = {.kind = STORE_CATALOGUE, .known_generation = -1};
    postgres_store_perform(store, &job);
    ck_assert_done(job);
    free(job.sealed_days);
    struct ceiling_catalogue *catalogue = job.catalogue;
    ck_assert_ptr_nonnull(catalogue);
    ck_assert_int_eq(catalogue->generation, 2);
    ck_assert_uint_eq(catalogue->count, 3);
    const struct ceiling *all = ceiling_catalogue_find(catalogue, TEXT("all"));
    ck_assert_int_eq(all->version, 2);
    ck_assert_int_eq(all->policy, POLICY_HARD_STOP);
    ck_assert(all->limit == 200 * DECIMAL_ONE && all->clear_level == 150 * DECIMAL_ONE);
    ck_assert_int_lt(all->created_at_us, this_day_us() - 2 * DAY_US); /* of its first version */
    job = (struct store_job){.kind = STORE_SEED, .seed_for = catalogue};
    postgres_store_perform(store, &job);
    ck_assert_done(job);
    /* four days are judged, the one of the first version too; what is pending is counted when it is settled
     */
    ck_assert_str_eq(sums_of(&job, "c1", PERIOD_DAY, sums), "7 11 12 13 ");
    ck_assert_str_eq(sums_of(&job, "c2", PERIOD_DAY, sums), "10 11 12 13 ");
    ck_assert_str_ne(sums_of(&job, "c1", PERIOD_MONTH, sums), "");
    ck_assert_str_eq(sums_of(&job, "c2", PERIOD_MONTH, sums), "");
    arena_free(job.arena);
    free(job.arena);
    job = (struct store_job){.kind = STORE_CATALOGUE, .known_generation = 2};
    postgres_store_perform(store, &job);
    ck_assert_done(job);
    ck_assert_ptr_null(job.catalogue);
    free(job.sealed_days);
    ceiling_catalogue_free(catalogue);
    run_sql("DELETE FROM ceiling; DELETE FROM ceiling_pending; DELETE FROM setting WHERE name = "
            "'ceilings_generation'");
}
END_TEST

static void note_dropped(void *context, const char *table)
{
    snprintf(context, 64, "%s", table);
}

START_TEST(dedupe_segments_stay_until_the_last_lane_has_adopted_the_seal)
{
    struct pg pg = {0};
    take(store, 0, &taken);
    run_sql("CREATE TABLE dedupe_segment_20200101 (LIKE dedupe_segment_%s)",
            ask_sql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')"));
    run_sql("INSERT INTO sealed_day (day, duplicates) VALUES ('2020-01-01', 0)");
    ck_assert(pg_open(&pg, test_dsn(), "test"));
    for (int lane = 0; lane < 64; lane++) {
        char dropped[64] = "";
        run_sql("INSERT INTO sealed_day_adoption (day, lane, batch_id) VALUES ('2020-01-01', %d, 1)", lane);
        ck_assert_msg(seal_drop_segments(&pg, note_dropped, dropped), "%s", pg.failure.detail);
        ck_assert_str_eq(dropped, lane < 63 ? "" : "dedupe_segment_20200101");
    }
    pg_close(&pg);
    run_sql("DELETE FROM sealed_day_adoption WHERE day = '2020-01-01'; DELETE FROM sealed_day WHERE day = "
            "'2020-01-01'");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, open_store, close_store);
    tcase_add_test(tests, an_owner_that_was_followed_is_fenced);
    tcase_add_test(tests, taking_over_ends_the_connections_of_an_owner_that_stalls);
    tcase_add_test(tests, a_former_owner_that_is_well_keeps_its_connection);
    tcase_add_test(tests, the_epoch_is_above_every_one_that_was_seen);
    tcase_add_test(tests, a_lane_that_is_still_ours_keeps_its_state);
    tcase_add_test(tests, keys_counters_states_and_adoptions_come_back);
    tcase_add_test(tests, the_witness_of_a_log_comes_back_beside_the_last_record_read);
    tcase_add_test(tests, a_partition_without_an_end_waits_for_the_repartition_from_its_begin_on);
    tcase_add_test(tests, a_decision_is_kept_once);
    tcase_add_test(tests, whoever_learned_another_partitioner_reads_again);
    tcase_add_test(tests, new_ceilings_come_with_the_sums_that_they_begin_with);
    tcase_add_test(tests, dedupe_segments_stay_until_the_last_lane_has_adopted_the_seal);
}

int main(void)
{
    return run_store_tests("store: lanes", add_tests);
}
