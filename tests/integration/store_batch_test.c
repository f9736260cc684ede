/* Batches to a real PostgreSQL: what lands, what is refused, what is dropped. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "rollup/postgres_store_parts.h"
#include "one_lane.h"

START_TEST(a_batch_lands_in_all_its_tables_or_in_none)
{
    take(store, 1, &taken);
    ck_assert(taken.lane.offsets[0].fresh);
    open_batch(batch, &taken);
    struct event event = an_event("e1", this_day_us() + HOUR_US);
    event.lifted[LIFTED_RUN_ID] = TEXT("run-1");
    event.lifted[LIFTED_PROVIDER] = TEXT("anthropic");
    accept_event(batch, &taken, &event);
    event.event_id = TEXT("e2");
    event.time_us += HOUR_US;
    event.quantity = -DECIMAL_ONE / 2;
    event.kind = EVENT_CORRECTION;
    event.corrects = TEXT("e1");
    event.reason = TEXT("counted twice");
    accept_event(batch, &taken, &event);
    event.event_id = TEXT("e1");
    struct copy_origin origin = take_offset(batch, "{}");
    ck_assert(batch_conflict_add(batch, 0, &event, &origin));
    origin = take_offset(batch, "");
    struct record record = {.partition = 1,
                            .offset = origin.offset,
                            .time_ms = 1700000000123,
                            .key = TEXT("k\0\xff"),
                            .value = {NULL, 0},
                            .headers = &(struct record_header){TEXT("h"), TEXT("v")},
                            .header_count = 1};
    ck_assert(batch_dead(batch, &taken.job.settings.secret, 0, &record, REFUSAL_EMPTY_VALUE, "no value"));
    commit(store, batch, &taken);

    ck_assert_sql("2", "SELECT count(*) FROM usage_event WHERE kafka_partition = 1");
    ck_assert_sql("12449.5",
                  "SELECT trim_scale(sum(quantity)) FROM usage_hourly WHERE dimensions = '{\"provider\": "
                  "\"anthropic\"}'");
    ck_assert_sql("-0.5", "SELECT trim_scale(sum(adjustment)) FROM usage_hourly");
    ck_assert_sql("2", "SELECT events FROM usage_run WHERE run_id = 'run-1'");
    ck_assert_sql("acme-co", "SELECT customer_id FROM customer");
    ck_assert_sql("llm_tokens_in", "SELECT meter FROM meter");
    ck_assert_sql("empty_value|no value|\\x6b00ff|-|[[\"h\",\"dg==\"]]|1700000000.123",
                  "SELECT concat_ws('|', reason, detail, key, coalesce(payload::text, '-'), headers, "
                  "extract(epoch FROM "
                  "record_time)::numeric(20, 3)) FROM dead_letter WHERE kafka_partition = 1");
    ck_assert_sql("e1|2|-0.5|correction",
                  "SELECT concat_ws('|', event_id, kafka_offset, trim_scale(quantity), "
                  "kind) FROM event_conflict WHERE kafka_partition = 1");
    ck_assert_sql("0|4|2|1|1|0|0",
                  "SELECT concat_ws('|', first_offset, next_offset, accepted, duplicate, dead, hole, "
                  "gap) FROM batch_ledger WHERE kafka_partition = 1");
    ck_assert_sql(
        "4|3",
        "SELECT concat_ws('|', next_offset, last_offset) FROM consumer_offset WHERE topic = 'usage' AND "
        "kafka_partition = 1");
    ck_assert_sql(
        "0|-1",
        "SELECT concat_ws('|', next_offset, last_offset) FROM consumer_offset WHERE topic = 'usage-eu' "
        "AND kafka_partition = 1");
}
END_TEST

static struct ledger_row ledger_row_at(const char *where)
{
    struct ledger_row row = {.topic = TEXT("usage"), .reason = TEXT(""), .actor = TEXT("")};
    int partition;
    sscanf(ask_sql(
               "SELECT concat_ws(' ', kafka_partition, batch_id, epoch, first_offset, next_offset, accepted, "
               "duplicate, dead, hole, gap) FROM batch_ledger WHERE %s",
               where),
           "%d %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64
           " %" SCNd64,
           &partition, &row.batch_id, &row.epoch, &row.first_offset, &row.next_offset, &row.accepted,
           &row.duplicate, &row.dead, &row.hole, &row.gap);
    row.partition = partition;
    const char *hex = ask_sql("SELECT encode(digest, 'hex') FROM batch_ledger WHERE %s", where);
    for (int i = 0; i < 16; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        row.digest.sum = row.digest.sum << 8 | byte;
    }
    return row;
}

static void assert_chain(const struct ledger_chain *chain, const char *sql)
{
    char hex[2 * LEDGER_CHAIN_BYTES + 1];
    for (int i = 0; i < LEDGER_CHAIN_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", chain->bytes[i]);
    ck_assert_str_eq(ask_sql("%s", sql), hex);
}

START_TEST(the_ledger_is_chained_over_batches_and_owners)
{
    struct ledger_chain chain = {0};
    for (int i = 0; i < 3; i++) {
        char id[16], where[64], sql[128];
        if (i != 1) /* the second batch is the first owner's */
            take(store, 2, &taken);
        open_batch(batch, &taken);
        snprintf(id, sizeof id, "c%d", i);
        struct event event = an_event(id, this_day_us());
        accept_event(batch, &taken, &event);
        commit(store, batch, &taken);
        snprintf(where, sizeof where, "kafka_partition = 2 AND first_offset = %d", i);
        snprintf(sql, sizeof sql, "SELECT encode(chain, 'hex') FROM batch_ledger WHERE %s", where);
        struct ledger_row row = ledger_row_at(where);
        chain = ledger_chain(&chain, &row);
        assert_chain(&chain, sql);
        if (i != 0)
            taken_free(&taken);
    }
    assert_chain(
        &chain,
        "SELECT encode(chain, 'hex') FROM consumer_offset WHERE topic = 'usage' AND kafka_partition = 2");
}
END_TEST

START_TEST(offsets_that_do_not_add_up_are_not_committed)
{
    struct store_job job;
    take(store, 3, &taken);
    open_batch(batch, &taken);
    struct event event = an_event("lost", this_day_us());
    accept_event(batch, &taken, &event);
    batch->partitions[0].next_offset++;
    ck_assert_int_eq(commit_job(store, batch, 0, &job), STORE_FATAL);
    ck_assert_ptr_nonnull(strstr(job.detail, "accounted"));
    ck_assert_sql("0", "SELECT count(*) FROM usage_event WHERE kafka_partition = 3");
}
END_TEST

START_TEST(streamed_and_late_rows_land_together)
{
    struct store_job job;
    take(store, 4, &taken);
    open_batch(batch, &taken);
    uint16_t day = 0;
    for (int i = 0; i < 3; i++) {
        char id[16];
        snprintf(id, sizeof id, "s%d", i);
        struct event event = an_event(id, this_day_us());
        accept_event(batch, &taken, &event);
        if (i < 2)
            day = stream(store, batch, STORE_DONE);
    }
    struct event late = an_event("late", this_day_us() - 90 * DAY_US); /* its leaf is not there yet */
    accept_event(batch, &taken, &late);
    ck_assert_sql("0", "SELECT count(*) FROM usage_event WHERE kafka_partition = 4");
    commit_job(store, batch, day, &job);
    ck_assert_done(job);
    ck_assert_sql("4", "SELECT count(*) FROM usage_event WHERE kafka_partition = 4");
}
END_TEST

/* The engine gives a batch up without telling the store; the next one streams into the same day. */
START_TEST(rows_streamed_for_a_batch_that_was_given_up_never_land)
{
    struct store_job job;
    take(store, 5, &taken);
    for (int i = 0; i < 2; i++) {
        open_batch(batch, &taken);
        struct event event = an_event(i == 0 ? "given-up" : "kept", this_day_us());
        accept_event(batch, &taken, &event);
        stream(store, batch, STORE_DONE);
    }
    ck_assert_int_eq(commit_job(store, batch, batch->days[0].day, &job), STORE_LOST);
    struct store_fact fact = {.topic = 0, .partition = 5};
    job = recover(store, &fact, 1);
    ck_assert_done(job);
    ck_assert_int_eq(fact.next_offset, -1);
    open_batch(batch, &taken);
    struct event event = an_event("kept", this_day_us());
    accept_event(batch, &taken, &event);
    commit(store, batch, &taken);
    ck_assert_sql("kept", "SELECT string_agg(event_id, ',') FROM usage_event WHERE kafka_partition = 5");
}
END_TEST

/* Whether it streams rows itself or not. */
START_TEST(a_batch_that_follows_one_that_was_given_up_is_committed_with_its_own_rows_alone)
{
    struct store_job job;
    int32_t lane = 43 + _i;
    take(store, lane, &taken);
    uint16_t day = 0;
    for (int i = 0; i < 2; i++) {
        open_batch(batch, &taken);
        batch->number = (uint64_t)i + 1;
        struct event event = an_event(i == 0 ? "given-up" : "kept", this_day_us());
        accept_event(batch, &taken, &event);
        day = i == 0 || _i == 0 ? stream(store, batch, STORE_DONE) : 0;
    }
    commit_job(store, batch, day, &job);
    ck_assert_done(job);
    ck_assert_sql("kept", "SELECT string_agg(event_id, ',') FROM usage_event WHERE kafka_partition = %d",
                  lane);
}
END_TEST

START_TEST(what_was_streamed_is_dropped_when_another_job_comes)
{
    take(store, 6, &taken);
    open_batch(batch, &taken);
    struct event event = an_event("given-up", this_day_us());
    accept_event(batch, &taken, &event);
    uint16_t day = stream(store, batch, STORE_DONE);
    struct store_job job = {.kind = STORE_CATALOGUE, .known_generation = 0};
    postgres_store_perform(store, &job);
    ck_assert_done(job);
    free(job.sealed_days);
    ck_assert_int_eq(commit_job(store, batch, day, &job), STORE_LOST);
    ck_assert_sql("0", "SELECT count(*) FROM usage_event WHERE kafka_partition = 6");
}
END_TEST

START_TEST(a_row_that_postgresql_refuses_is_told_apart_from_other_errors)
{
    struct store_job job;
    run_sql("ALTER TABLE usage_event ADD CONSTRAINT no_evil CHECK (event_id <> 'evil')");
    run_sql("ALTER TABLE usage_hourly ADD CONSTRAINT no_evil CHECK (customer_id <> 'evil')");
    take(store, 7, &taken);
    open_batch(batch, &taken);
    struct event event = an_event("evil", this_day_us());
    accept_event(batch, &taken, &event);
    ck_assert_int_eq(commit_job(store, batch, 0, &job), STORE_REFUSED);
    ck_assert_ptr_nonnull(strstr(job.detail, "no_evil"));
    open_batch(batch, &taken);
    event.event_id = TEXT("good");
    event.customer_id = TEXT("evil");
    accept_event(batch, &taken, &event);
    ck_assert_int_eq(commit_job(store, batch, 0, &job), STORE_FATAL);
    open_batch(batch, &taken);
    event.customer_id = TEXT("acme-co");
    accept_event(batch, &taken, &event);
    commit(store, batch, &taken); /* the store goes on */
    ck_assert_sql("good", "SELECT event_id FROM usage_event WHERE kafka_partition = 7");
    run_sql(
        "ALTER TABLE usage_event DROP CONSTRAINT no_evil; ALTER TABLE usage_hourly DROP CONSTRAINT no_evil");
}
END_TEST

/* --- sealed days --- */

static void commit_sealed(int64_t day_us)
{
    struct event first = an_event("first", day_us), other = first, defaulted = first, fresh = first;
    open_batch(batch, &taken);
    defer_event(batch, &first, true); /* a repeat */
    other.quantity++;
    defer_event(batch, &other, true); /* the same id says something else */
    defaulted.time_us += 1000;
    defaulted.time_defaulted = true;
    defer_event(batch, &defaulted, true); /* a repeat: its time is nobody's claim */
    fresh.event_id = TEXT("new");
    defer_event(batch, &fresh, true);
    defer_event(batch, &fresh, true); /* a repeat within the batch */
    fresh.event_id = TEXT("uncounted");
    defer_event(batch, &fresh, false);
    commit(store, batch, &taken);
}

static void check_sealed(int32_t lane)
{
    ck_assert_sql(
        "first,new,uncounted",
        "SELECT string_agg(event_id, ',' ORDER BY event_id) FROM usage_event WHERE kafka_partition = %d",
        lane);
    ck_assert_sql(
        "2|4|0",
        "SELECT concat_ws('|', accepted, duplicate, dead) FROM batch_ledger WHERE kafka_partition = %d "
        "AND first_offset = 1",
        lane);
    ck_assert_sql("first", "SELECT string_agg(event_id, ',') FROM event_conflict WHERE kafka_partition = %d",
                  lane);
    ck_assert_sql("new", "SELECT string_agg(event_id, ',') FROM ceiling_pending WHERE kafka_partition = %d",
                  lane);
}

static void seal_by_hand(int64_t day_us)
{
    run_sql(
        "DO $$ BEGIN EXECUTE format('CREATE UNIQUE INDEX ON usage_event_%%s (customer_id, meter, event_id)', "
        "to_char(to_timestamp(%" PRId64 "), 'YYYYMMDD')); END $$",
        day_us / 1000000);
}

/* With the index, and without it, as on a day whose index could not be built. */
START_TEST(on_a_sealed_day_the_leaf_says_what_is_new)
{
    int32_t lane = 10 + _i;
    int64_t day_us = this_day_us() - (200 + _i) * DAY_US;
    take(store, lane, &taken);
    open_batch(batch, &taken);
    struct event first = an_event("first", day_us);
    accept_event(batch, &taken, &first);
    commit(store, batch, &taken);
    if (_i == 0)
        seal_by_hand(day_us);
    commit_sealed(day_us);
    check_sealed(lane);
    taken_free(&taken);
    take(store, lane, &taken);
    ck_assert_uint_eq(taken.lane.pending_count, 1);
    ck_assert_int_eq(taken.lane.pending[0].offset, 4);
    ck_assert(text_equal(taken.lane.pending[0].event.event_id, TEXT("new")));
    ck_assert(taken.lane.pending[0].event.quantity == 12450 * DECIMAL_ONE);
    open_batch(batch, &taken);
    ck_assert(batch_settle(batch, (struct ceiling_origin){0, lane, 4}));
    commit(store, batch, &taken);
    ck_assert_sql("0", "SELECT count(*) FROM ceiling_pending WHERE lane = %d", lane);
}
END_TEST

/* Its transaction began first. It knows what the batch before has accepted, and is counted after it. */
START_TEST(a_batch_that_streams_while_the_one_before_is_committed_comes_after_it)
{
    struct store_job job;
    struct batch *next = new_batch();
    struct event late = an_event("late", this_day_us() - 204 * DAY_US), event = an_event("x", this_day_us());
    take(store, 14, &taken);
    open_batch(batch, &taken);
    accept_event(batch, &taken, &late);
    commit(store, batch, &taken);
    seal_by_hand(late.time_us);
    late.event_id = TEXT("later");
    open_batch(batch, &taken);
    batch->number = 1;
    defer_event(batch, &late, true);
    advance(&taken, batch);
    open_batch(next, &taken);
    next->number = 2;
    accept_event(next, &taken, &event);
    defer_event(next, &late, true);
    uint16_t day = stream_over(store, 1, next, STORE_DONE);
    ck_assert_int_eq(commit_over(store, 0, batch, 0, &job), STORE_DONE);
    ck_assert_int_eq(commit_over(store, 1, next, day, &job), STORE_DONE);
    ck_assert_sql(
        "1 1 0, 2 1 0, 4 1 1",
        "SELECT string_agg(concat_ws(' ', next_offset, accepted, duplicate), ', ' ORDER BY batch_id) "
        "FROM batch_ledger WHERE kafka_partition = 14");
    ck_assert_sql("1, 2, 4", "SELECT string_agg(next_offset::text, ', ' ORDER BY committed_at) FROM "
                             "batch_ledger WHERE kafka_partition = 14");
    batch_free(next);
}
END_TEST

/* Not even beside one that may be new, in the same batch. */
START_TEST(on_a_sealed_day_what_may_not_be_new_is_a_repeat_or_a_dead_letter)
{
    struct event first = an_event("first", this_day_us() - 203 * DAY_US), other = first;
    take(store, 13, &taken);
    open_batch(batch, &taken);
    accept_event(batch, &taken, &first);
    commit(store, batch, &taken);
    open_batch(batch, &taken);
    defer_or_refuse(batch, &first);
    other.quantity++;
    defer_or_refuse(batch, &other);
    other.event_id = TEXT("passed over");
    defer_or_refuse(batch, &other);
    defer_event(batch, &other, true);
    commit(store, batch, &taken);
    ck_assert_sql("1|2|1", "SELECT concat_ws('|', accepted, duplicate, dead) FROM batch_ledger WHERE "
                           "kafka_partition = 13 AND first_offset = 1");
    ck_assert_sql("4", "SELECT kafka_offset FROM usage_event WHERE kafka_partition = 13 AND event_id = "
                       "'passed over'");
    ck_assert_sql("wrong_partition|3|moved", "SELECT concat_ws('|', reason, kafka_offset, detail) FROM "
                                             "dead_letter WHERE kafka_partition = 13");
    ck_assert_sql("2", "SELECT kafka_offset FROM event_conflict WHERE kafka_partition = 13");
}
END_TEST

/* The epoch is ours both times: the offsets tell. */
START_TEST(a_batch_is_not_committed_twice)
{
    struct store_job job;
    take(store, 40, &taken);
    for (int i = 0; i < 2; i++) {
        open_batch(batch, &taken);
        struct event event = an_event("once", this_day_us());
        accept_event(batch, &taken, &event);
        ck_assert_int_eq(commit_job(store, batch, 0, &job), i == 0 ? STORE_DONE : STORE_FENCED);
        free(job.fenced_lanes);
    }
    ck_assert_sql("1", "SELECT count(*) FROM usage_event WHERE kafka_partition = 40");
}
END_TEST

START_TEST(a_batch_adds_to_every_sum_of_those_before)
{
    take(store, 41, &taken);
    for (int i = 0; i < 2; i++) {
        char usage[] = "u0", correction[] = "c0";
        usage[1] = correction[1] = (char)('0' + i);
        open_batch(batch, &taken);
        struct event event = an_event(usage, this_day_us());
        event.customer_id = TEXT("adder");
        event.lifted[LIFTED_RUN_ID] = TEXT("run-41");
        accept_event(batch, &taken, &event);
        event.event_id = text_of(correction);
        event.kind = EVENT_CORRECTION;
        event.corrects = text_of(usage);
        event.reason = TEXT("counted too much");
        event.quantity = -DECIMAL_ONE;
        accept_event(batch, &taken, &event);
        commit(store, batch, &taken);
    }
    ck_assert_sql("4|24898|-2", "SELECT concat_ws('|', events, trim_scale(quantity), trim_scale(adjustment)) "
                                "FROM usage_hourly WHERE customer_id = 'adder'");
    ck_assert_sql(
        "4|24898",
        "SELECT concat_ws('|', events, trim_scale(quantity)) FROM usage_run WHERE run_id = 'run-41'");
}
END_TEST

/* They are remembered so that they need not be written with each batch. */
START_TEST(names_of_a_batch_that_failed_are_written_with_the_next)
{
    struct store_job job;
    take(store, 42, &taken);
    for (int i = 0; i < 2; i++) {
        open_batch(batch, &taken);
        struct event event = an_event("named", this_day_us());
        event.customer_id = TEXT("newcomer");
        event.meter = TEXT("new_meter");
        accept_event(batch, &taken, &event);
        batch->partitions[0].next_offset += i == 0; /* does not add up */
        ck_assert_int_eq(commit_job(store, batch, 0, &job), i == 0 ? STORE_FATAL : STORE_DONE);
    }
    ck_assert_sql("1", "SELECT count(*) FROM customer WHERE customer_id = 'newcomer'");
    ck_assert_sql("1", "SELECT count(*) FROM meter WHERE meter = 'new_meter'");
}
END_TEST

/* COMMIT of a transaction that failed succeeds, too. */
START_TEST(a_commit_that_rolled_back_is_none)
{
    struct store_link *link = &store->links[0];
    struct pg *pg = &link->pg;
    ck_assert_msg(store_connect(link) && store_begin(link, "BEGIN"), "%s", pg->failure.detail);
    seen_set_add(&link->customers, TEXT("nobody"));
    ck_assert(!pg_run(pg, "SELECT 1 / 0"));
    ck_assert(!store_end(link));
    ck_assert_msg(seen_set_add(&link->customers, TEXT("nobody")), "the row of a name was rolled back");
    ck_assert_msg(strstr(pg->failure.detail, "rolled"), "%s", pg->failure.detail);
    ck_assert(store_begin(link, "BEGIN") && store_end(link));
}
END_TEST

/* What is known of a run decides how its rows are written, never what they say. */
START_TEST(runs_that_begin_and_runs_that_go_on_are_counted_alike)
{
    static const char *const runs[][3] = {
        {"r1", "r2", "r2"}, {"r2", "r3", "r2"}, {"r1", "r4", "r4"}, {"r0", "r5", "r6"}};
    take(store, 43, &taken);
    for (int i = 0; i < 4 * 3; i++) {
        char id[16];
        snprintf(id, sizeof id, "g%d", i);
        struct event event = an_event(id, this_day_us() + i);
        event.customer_id = TEXT("runner");
        event.quantity = DECIMAL_ONE;
        event.lifted[LIFTED_RUN_ID] = text_of(runs[i / 3][i % 3]);
        event.meter = i == 5 ? TEXT("another") : TEXT("steps"); /* of a run that is known */
        if (i % 3 == 0)
            open_batch(batch, &taken);
        accept_event(batch, &taken, &event);
        if (i % 3 == 2)
            commit(store, batch, &taken);
    }
    ck_assert_sql(
        "r0 steps 1, r1 steps 2, r2 another 1, r2 steps 3, r3 steps 1, r4 steps 2, r5 steps 1, "
        "r6 steps 1",
        "SELECT string_agg(concat_ws(' ', run_id, meter, events), ', ' ORDER BY run_id, meter) FROM "
        "usage_run WHERE customer_id = 'runner' AND quantity = events");
}
END_TEST

START_TEST(rows_say_the_same_whether_columns_are_left_out_or_not)
{
    struct store_job job;
    uint16_t day = 0;
    take(store, 45, &taken);
    open_batch(batch, &taken);
    for (int i = 0; i < 6; i++) {
        char id[16];
        snprintf(id, sizeof id, "n%d", i);
        struct event event = an_event(id, this_day_us() - (i == 5 ? DAY_US : 0));
        event.lifted[LIFTED_USER_ID] = TEXT("u1");
        if (i == 0)
            batch->left_out = copy_spare(&event);
        if (i == 2)
            event.lifted[LIFTED_CONTEXT_WINDOW] = TEXT("200k");
        event.has_credit_balance = i == 3;
        accept_event(batch, &taken, &event);
        if (i == 1)
            day = stream(store, batch, STORE_DONE);
    }
    ck_assert_uint_eq(batch->day_count, 3);
    commit_job(store, batch, day, &job);
    ck_assert_done(job);
    ck_assert_sql("n0|u1|, n1|u1|, n2|u1|200k, n3|u1||0.000000000, n4|u1|, n5|u1|",
                  "SELECT string_agg(concat_ws('|', event_id, user_id, context_window, credit_balance), ', ' "
                  "ORDER BY event_id) FROM usage_event WHERE kafka_partition = 45 AND plan_tier || corrects "
                  "|| reason = '' AND contractual_cap IS NULL AND model = 'claude-4.5-sonnet'");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, open_store, close_store);
    tcase_add_test(tests, a_batch_lands_in_all_its_tables_or_in_none);
    tcase_add_test(tests, the_ledger_is_chained_over_batches_and_owners);
    tcase_add_test(tests, offsets_that_do_not_add_up_are_not_committed);
    tcase_add_test(tests, streamed_and_late_rows_land_together);
    tcase_add_test(tests, rows_streamed_for_a_batch_that_was_given_up_never_land);
    tcase_add_loop_test(
        tests, a_batch_that_follows_one_that_was_given_up_is_committed_with_its_own_rows_alone, 0, 2);
    tcase_add_test(tests, what_was_streamed_is_dropped_when_another_job_comes);
    tcase_add_test(tests, a_batch_is_not_committed_twice);
    tcase_add_test(tests, a_batch_adds_to_every_sum_of_those_before);
    tcase_add_test(tests, names_of_a_batch_that_failed_are_written_with_the_next);
    tcase_add_test(tests, a_commit_that_rolled_back_is_none);
    tcase_add_test(tests, runs_that_begin_and_runs_that_go_on_are_counted_alike);
    tcase_add_test(tests, rows_say_the_same_whether_columns_are_left_out_or_not);
    tcase_add_test(tests, a_row_that_postgresql_refuses_is_told_apart_from_other_errors);
    tcase_add_loop_test(tests, on_a_sealed_day_the_leaf_says_what_is_new, 0, 2);
    tcase_add_test(tests, on_a_sealed_day_what_may_not_be_new_is_a_repeat_or_a_dead_letter);
    tcase_add_test(tests, a_batch_that_streams_while_the_one_before_is_committed_comes_after_it);
}

int main(void)
{
    return run_store_tests("store: batches", add_tests);
}
