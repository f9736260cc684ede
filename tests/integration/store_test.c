/* The PostgreSQL store against a real server: USAGEBOX_TEST_DSN names an empty database. */
#include "store_fixture.h"

#include <pthread.h>
#include <unistd.h>

/* --- commit --- */

START_TEST(a_batch_lands_in_all_its_tables_or_in_none)
{
    struct postgres_store *store = new_store();
    struct batch *batch = new_batch();
    struct taken taken;
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
    batch_free(batch);
    taken_free(&taken);
    postgres_store_free(store);
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
    struct postgres_store *store = new_store();
    struct batch *batch = new_batch();
    struct taken taken;
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
    batch_free(batch);
    postgres_store_free(store);
}
END_TEST

START_TEST(offsets_that_do_not_add_up_are_not_committed)
{
    struct postgres_store *store = new_store();
    struct batch *batch = new_batch();
    struct taken taken;
    struct store_job job;
    take(store, 3, &taken);
    open_batch(batch, &taken);
    struct event event = an_event("lost", this_day_us());
    accept_event(batch, &taken, &event);
    batch->partitions[0].next_offset++;
    ck_assert_int_eq(commit_job(store, batch, 0, &job), STORE_FATAL);
    ck_assert_ptr_nonnull(strstr(job.detail, "accounted"));
    ck_assert_sql("0", "SELECT count(*) FROM usage_event WHERE kafka_partition = 3");
    batch_free(batch);
    taken_free(&taken);
    postgres_store_free(store);
}
END_TEST

START_TEST(streamed_and_late_rows_land_together)
{
    struct postgres_store *store = new_store();
    struct batch *batch = new_batch();
    struct taken taken;
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
    batch_free(batch);
    taken_free(&taken);
    postgres_store_free(store);
}
END_TEST

/* The engine gives a batch up without telling the store; the next one streams into the same day. */
START_TEST(rows_streamed_for_a_batch_that_was_given_up_never_land)
{
    struct postgres_store *store = new_store();
    struct batch *batch = new_batch();
    struct taken taken;
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
    batch_free(batch);
    taken_free(&taken);
    postgres_store_free(store);
}
END_TEST

START_TEST(what_was_streamed_is_dropped_when_another_job_comes)
{
    struct postgres_store *store = new_store();
    struct batch *batch = new_batch();
    struct taken taken;
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
    batch_free(batch);
    taken_free(&taken);
    postgres_store_free(store);
}
END_TEST

START_TEST(a_row_that_postgresql_refuses_is_told_apart_from_other_errors)
{
    struct postgres_store *store = new_store();
    struct batch *batch = new_batch();
    struct taken taken;
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
    batch_free(batch);
    taken_free(&taken);
    postgres_store_free(store);
}
END_TEST

/* --- sealed days --- */

static void commit_sealed(struct postgres_store *store, struct batch *batch, struct taken *taken,
                          int64_t day_us)
{
    struct event first = an_event("first", day_us), other = first, defaulted = first, fresh = first;
    open_batch(batch, taken);
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
    commit(store, batch, taken);
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

/* With the index, and without it, as on a day whose index could not be built. */
START_TEST(on_a_sealed_day_the_leaf_says_what_is_new)
{
    struct postgres_store *store = new_store();
    struct batch *batch = new_batch();
    struct taken taken;
    int32_t lane = 10 + _i;
    int64_t day_us = this_day_us() - (200 + _i) * DAY_US;
    take(store, lane, &taken);
    open_batch(batch, &taken);
    struct event first = an_event("first", day_us);
    accept_event(batch, &taken, &first);
    commit(store, batch, &taken);
    if (_i == 0)
        run_sql("DO $$ BEGIN EXECUTE format('CREATE UNIQUE INDEX ON usage_event_%%s (customer_id, meter, "
                "event_id)', "
                "to_char(to_timestamp(%" PRId64 "), 'YYYYMMDD')); END $$",
                day_us / 1000000);
    commit_sealed(store, batch, &taken, day_us);
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
    batch_free(batch);
    taken_free(&taken);
    postgres_store_free(store);
}
END_TEST

/* --- fencing and takeover --- */

START_TEST(an_owner_that_was_followed_is_fenced)
{
    struct postgres_store *old = new_store(), *young = new_store();
    struct batch *batch = new_batch();
    struct taken before, after;
    struct store_job job;
    take(old, 20, &before);
    /* as if the old owner's connection could not be ended */
    run_sql("UPDATE consumer_offset SET backend_pid = NULL WHERE kafka_partition = 20");
    take(young, 20, &after);
    ck_assert_int_gt(after.lane.epoch, before.lane.epoch);
    open_batch(batch, &before);
    struct event event = an_event("zombie", this_day_us());
    accept_event(batch, &before, &event);
    ck_assert_int_eq(commit_job(old, batch, 0, &job), STORE_FENCED);
    ck_assert_uint_eq(job.fenced_count, 1);
    ck_assert_int_eq(job.fenced_lanes[0], 20);
    free(job.fenced_lanes);
    ck_assert_sql("0", "SELECT count(*) FROM usage_event WHERE kafka_partition = 20");
    open_batch(batch, &after);
    accept_event(batch, &after, &event);
    commit(young, batch, &after);
    batch_free(batch);
    taken_free(&before);
    taken_free(&after);
    postgres_store_free(old);
    postgres_store_free(young);
}
END_TEST

START_TEST(taking_over_ends_the_former_owners_connection)
{
    struct postgres_store *old = new_store(), *young = new_store();
    struct batch *batch = new_batch();
    struct taken before, after;
    struct store_job job;
    take(old, 21, &before);
    open_batch(batch, &before);
    struct event event = an_event("stalled", this_day_us());
    accept_event(batch, &before, &event);
    uint16_t day = stream(old, batch, STORE_DONE); /* and stalls inside COPY */
    take(young, 21, &after);
    ck_assert_int_eq(commit_job(old, batch, day, &job), STORE_LOST);
    struct store_fact fact = {.topic = 0, .partition = 21};
    job = recover(old, &fact, 1);
    ck_assert_done(job);
    ck_assert_int_eq(fact.epoch, after.lane.epoch);
    ck_assert(!job.store_went_back);
    ck_assert_str_eq(ask_sql("SELECT DISTINCT owner FROM consumer_offset WHERE kafka_partition = 21"),
                     postgres_store_owner(young));
    batch_free(batch);
    taken_free(&before);
    taken_free(&after);
    postgres_store_free(old);
    postgres_store_free(young);
}
END_TEST

START_TEST(the_epoch_is_above_every_one_that_was_seen)
{
    struct postgres_store *store = new_store();
    struct taken taken = {.lane = {.lane = 22, .epoch_above = 41}};
    taken.job = (struct store_job){.kind = STORE_TAKEOVER, .lanes = &taken.lane, .lane_count = 1};
    postgres_store_perform(store, &taken.job);
    ck_assert_done(taken.job);
    ck_assert_int_eq(taken.lane.epoch, 42);
    ck_assert_sql("42", "SELECT min(epoch) FROM consumer_offset WHERE kafka_partition = 22");
    taken_free(&taken);
    run_sql("UPDATE consumer_offset SET epoch = 50 WHERE kafka_partition = 22 AND topic = 'usage-eu'");
    take(store, 22, &taken);
    ck_assert_int_eq(taken.lane.epoch, 51);
    taken_free(&taken);
    postgres_store_free(store);
}
END_TEST

START_TEST(a_lane_that_is_still_ours_keeps_its_state)
{
    struct postgres_store *store = new_store();
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
    struct store_fact fact = {.partition = 23};
    again.job = (struct store_job){.kind = STORE_TAKEOVER, .lanes = &again.lane, .lane_count = 1};
    ck_assert_int_eq(recover(store, &fact, 1).status, STORE_LOST); /* its connection was ended */
    ck_assert_int_eq(recover(store, &fact, 1).status, STORE_DONE);
    postgres_store_perform(store, &again.job);
    ck_assert_done(again.job);
    ck_assert(!again.lane.kept);
    ck_assert_ptr_nonnull(again.lane.dedupe);
    taken_free(&first);
    taken_free(&again);
    postgres_store_free(store);
    postgres_store_free(other);
}
END_TEST

static void add_changes(struct batch *batch, int32_t lane)
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

static void add_decision(struct batch *batch, int32_t lane)
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
    struct postgres_store *store = new_store();
    struct batch *batch = new_batch();
    struct taken taken;
    take(store, 24, &taken);
    open_batch(batch, &taken);
    struct event open_day = an_event("open", this_day_us()),
                 sealed_day = an_event("sealed", this_day_us() - 100 * DAY_US);
    accept_event(batch, &taken, &open_day);
    accept_event(batch, &taken, &sealed_day);
    add_changes(batch, 24);
    add_decision(batch, 24);
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
    int states = 0;
    ck_assert(ceiling_book_states(taken.lane.book, see_state, &states));
    ck_assert_int_eq(states, 1);
    ck_assert_sql("1000417", "SELECT trim_scale(used) FROM ceiling_usage WHERE lane = 24 AND period = 'day'");
    ck_assert_sql("7|1|hard-stop|event",
                  "SELECT concat_ws('|', kafka_offset, transition, policy, source) FROM "
                  "policy_decision WHERE lane = 24");
    batch_free(batch);
    taken_free(&taken);
    postgres_store_free(store);
    postgres_store_free(young);
}
END_TEST

START_TEST(a_decision_is_kept_once)
{
    struct postgres_store *store = new_store();
    struct batch *batch = new_batch();
    struct taken taken;
    take(store, 25, &taken);
    for (int i = 0; i < 2; i++) {
        open_batch(batch, &taken);
        add_decision(batch, 25);
        commit(store, batch, &taken);
    }
    ck_assert_sql(
        "1", "SELECT count(*) FROM policy_decision WHERE decision_id = '0123456789abcdef0123456789abcdef'");
    batch_free(batch);
    taken_free(&taken);
    postgres_store_free(store);
}
END_TEST

/* --- settings --- */

START_TEST(whoever_learned_another_partitioner_reads_again)
{
    struct postgres_store *one = new_store(), *two = new_store();
    struct batch *batch = new_batch();
    struct taken mine, theirs;
    struct store_job job;
    take(one, 30, &mine);
    take(two, 31, &theirs);
    open_batch(batch, &mine);
    batch->learned = PARTITIONER_MURMUR2;
    commit(one, batch, &mine);
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
    batch_free(batch);
    taken_free(&mine);
    taken_free(&theirs);
    postgres_store_free(one);
    postgres_store_free(two);
}
END_TEST

static void apply_ceilings(void)
{
    run_sql("INSERT INTO ceiling (name, version, who_kind, who, scope, meter, period, limit_quantity, "
            "clear_level, policy, "
            "generation, created_at, retired_at) VALUES "
            "('all', 1, 'everyone', '', 'customer', 'seeded', 'day', 100, 100, 'alert', 1, now() - interval "
            "'3 days', now()), "
            "('all', 2, 'everyone', '', 'customer', 'seeded', 'day', 200, 150, 'hard-stop', 2, now(), NULL), "
            "('own', 1, 'customer', 'c1', 'customer', 'seeded', 'month', 9, 9, 'throttle', 2, now(), NULL), "
            "('own-too', 1, 'customer', 'c1', 'customer', 'seeded', 'day', 9, 9, 'alert', 2, now(), NULL)");
    run_sql("INSERT INTO setting (name, value) VALUES ('ceilings_generation', '2')");
    run_sql(
        "INSERT INTO usage_hourly (customer_id, hour, meter, events, quantity, adjustment, first_event_at, "
        "last_event_at) SELECT c, date_trunc('day', now()) - d * interval '1 day', 'seeded', 1, 10 + d, 0, "
        "now(), "
        "now() FROM unnest('{c1,c2}'::text[]) c, generate_series(0, 5) d");
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
    struct postgres_store *store = new_store();
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
    /* four days are judged, the one of the first version too */
    ck_assert_str_eq(sums_of(&job, "c1", PERIOD_DAY, sums), "10 11 12 13 ");
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
    postgres_store_free(store);
    run_sql("DELETE FROM ceiling; DELETE FROM setting WHERE name = 'ceilings_generation'");
}
END_TEST

/* --- losing PostgreSQL --- */

static void end_connections(const char *application)
{
    run_sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '%s' AND datname = "
        "current_database()",
        application);
}

START_TEST(a_lost_connection_is_recovered_and_recorded_anew)
{
    struct postgres_store *store = new_store();
    struct batch *batch = new_batch();
    struct taken taken;
    struct store_job job;
    int32_t lane = 43 + _i;
    take(store, lane, &taken);
    open_batch(batch, &taken);
    struct event event = an_event("once", this_day_us());
    accept_event(batch, &taken, &event);
    uint16_t day = _i == 0 ? 0 : stream(store, batch, STORE_DONE);
    end_connections("usagebox run");
    ck_assert_int_eq(commit_job(store, batch, day, &job), STORE_LOST);
    ck_assert_int_eq(commit_job(store, batch, day, &job), STORE_LOST); /* nothing but a recovery goes on */
    struct store_fact facts[] = {
        {.topic = 0, .partition = lane}, {.topic = 1, .partition = lane}, {.partition = 999}};
    job = recover(store, facts, 3);
    ck_assert_done(job);
    ck_assert(facts[0].found && facts[1].found && !facts[2].found);
    ck_assert_int_eq(facts[0].next_offset, -1);
    ck_assert_sql(
        "1",
        "SELECT count(*) FROM pg_stat_activity a JOIN (SELECT DISTINCT backend_pid, backend_start FROM "
        "consumer_offset WHERE kafka_partition = %d) o ON a.pid = o.backend_pid AND a.backend_start = "
        "o.backend_start",
        lane);
    open_batch(batch, &taken);
    accept_event(batch, &taken, &event);
    commit(store, batch, &taken);
    ck_assert_sql("1", "SELECT count(*) FROM usage_event WHERE kafka_partition = %d", lane);
    batch_free(batch);
    taken_free(&taken);
    postgres_store_free(store);
}
END_TEST

static void *perform(void *context)
{
    void **pair = context;
    postgres_store_perform(pair[0], pair[1]);
    return NULL;
}

/* As a COMMIT would that was sent, and whose answer never came: its row lock is still held. */
START_TEST(a_commit_that_is_still_under_way_is_waited_out)
{
    struct postgres_store *store = new_store();
    struct taken taken;
    take(store, 41, &taken);
    struct pg other = {0};
    ck_assert(pg_open(&other, test_dsn(), "somebody"));
    ck_assert(pg_run(&other, "BEGIN; UPDATE consumer_offset SET next_offset = 7 WHERE kafka_partition = 41"));
    struct store_fact fact = {.topic = 0, .partition = 41};
    struct store_job job = {.kind = STORE_RECOVER, .facts = &fact, .fact_count = 1};
    void *pair[] = {store, &job};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, perform, pair), 0);
    usleep(300000);
    ck_assert(pg_run(&other, "COMMIT"));
    pthread_join(thread, NULL);
    ck_assert_done(job);
    ck_assert_int_eq(fact.next_offset, 7);
    pg_close(&other);
    taken_free(&taken);
    postgres_store_free(store);
}
END_TEST

START_TEST(an_interrupt_ends_a_job_that_waits)
{
    struct postgres_store *store = new_store();
    struct taken taken;
    take(store, 42, &taken);
    struct pg other = {0};
    ck_assert(pg_open(&other, test_dsn(), "somebody"));
    ck_assert(pg_run(&other, "BEGIN; UPDATE consumer_offset SET next_offset = 7 WHERE kafka_partition = 42"));
    struct store_fact fact = {.topic = 0, .partition = 42};
    struct store_job job = {.kind = STORE_RECOVER, .facts = &fact, .fact_count = 1};
    void *pair[] = {store, &job};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, perform, pair), 0);
    usleep(300000);
    postgres_store_interrupt(store);
    pthread_join(thread, NULL);
    ck_assert_int_eq(job.status, STORE_LOST);
    postgres_store_perform(store, &job);
    ck_assert_int_eq(job.status, STORE_LOST);
    pg_close(&other);
    taken_free(&taken);
    postgres_store_free(store);
}
END_TEST

START_TEST(a_server_that_is_away_is_a_loss_and_not_an_error)
{
    const struct postgres_store_options options = {
        .dsn = "host=127.0.0.1 port=1 dbname=nowhere", .owner_dsn = "", .topics = topics, .topic_count = 2};
    struct postgres_store *store = postgres_store_new(&options);
    struct store_job job = {.kind = STORE_CATALOGUE};
    postgres_store_perform(store, &job);
    ck_assert_int_eq(job.status, STORE_LOST);
    ck_assert_ptr_nonnull(strstr(job.detail, "127.0.0.1"));
    postgres_store_free(store);
}
END_TEST

static void say_nothing(void *context, const char *sentence)
{
    (void)context, (void)sentence;
}

static bool prepare(void)
{
    struct pg pg = {0};
    if (!test_dsn()) {
        fprintf(stderr, "USAGEBOX_TEST_DSN must name an empty database\n");
        return false;
    }
    bool ok = pg_open(&pg, test_dsn(), "test") && migrate_run(&pg, migrations, 60, say_nothing, NULL);
    if (!ok)
        fprintf(stderr, "%s\n", pg.failure.detail);
    pg_close(&pg);
    return ok;
}

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_batch_lands_in_all_its_tables_or_in_none);
    tcase_add_test(tests, the_ledger_is_chained_over_batches_and_owners);
    tcase_add_test(tests, offsets_that_do_not_add_up_are_not_committed);
    tcase_add_test(tests, streamed_and_late_rows_land_together);
    tcase_add_test(tests, rows_streamed_for_a_batch_that_was_given_up_never_land);
    tcase_add_test(tests, what_was_streamed_is_dropped_when_another_job_comes);
    tcase_add_test(tests, a_row_that_postgresql_refuses_is_told_apart_from_other_errors);
    tcase_add_loop_test(tests, on_a_sealed_day_the_leaf_says_what_is_new, 0, 2);
    tcase_add_test(tests, an_owner_that_was_followed_is_fenced);
    tcase_add_test(tests, taking_over_ends_the_former_owners_connection);
    tcase_add_test(tests, the_epoch_is_above_every_one_that_was_seen);
    tcase_add_test(tests, a_lane_that_is_still_ours_keeps_its_state);
    tcase_add_test(tests, keys_counters_states_and_adoptions_come_back);
    tcase_add_test(tests, a_decision_is_kept_once);
    tcase_add_test(tests, whoever_learned_another_partitioner_reads_again);
    tcase_add_test(tests, new_ceilings_come_with_the_sums_that_they_begin_with);
    tcase_add_loop_test(tests, a_lost_connection_is_recovered_and_recorded_anew, 0, 2);
    tcase_add_test(tests, a_commit_that_is_still_under_way_is_waited_out);
    tcase_add_test(tests, an_interrupt_ends_a_job_that_waits);
    tcase_add_test(tests, a_server_that_is_away_is_a_loss_and_not_an_error);
}

int main(void)
{
    if (!prepare())
        return EXIT_FAILURE;
    TCase *tests = tcase_create("store");
    tcase_set_timeout(tests, 60);
    add_tests(tests);
    Suite *suite = suite_create("store");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
