/* Each call of libpq fails in turn while the store takes a lane over and writes batches to a real PostgreSQL:
 * before the server has seen it, after the server has done it, or in libpq itself. Whoever then does what the
 * engine does (recover, take the lane over, go on from where its offsets stand) ends with every event once.
 * Linked with a store whose calls of libpq are those below. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../consumer/ceiling_rows.h"
#include "store_fixture.h"

enum fault { CUT_BEFORE, CUT_AFTER, OUT_OF_MEMORY, FAULTS };
static const char *const fault_names[FAULTS] = {"cut before", "cut after", "out of memory"};

static struct {
    enum fault fault;
    const char *only; /* only calls of this function count; NULL: all do */
    int at;           /* the call that fails; 0: none */
    int calls;        /* since then */
} fate;

PGconn *failing_PQconnectdbParams(const char *const *names, const char *const *values, int expand);
PGresult *failing_PQexec(PGconn *connection, const char *sql);
PGresult *failing_PQexecParams(PGconn *connection, const char *sql, int count, const Oid *types,
                               const char *const *values, const int *lengths, const int *formats, int format);
int failing_PQsendQueryParams(PGconn *connection, const char *sql, int count, const Oid *types,
                              const char *const *values, const int *lengths, const int *formats, int format);
int failing_PQsetSingleRowMode(PGconn *connection);
PGresult *failing_PQgetResult(PGconn *connection);
int failing_PQputCopyData(PGconn *connection, const char *bytes, int length);
int failing_PQputCopyEnd(PGconn *connection, const char *error);

static void cut(PGconn *connection)
{
    shutdown(PQsocket(connection), SHUT_RDWR);
}

/* Whether this call is the one. If so, what is cut before is cut; out of memory libpq does nothing at all. */
static bool strikes(PGconn *connection, const char *function)
{
    if (fate.only && strcmp(fate.only, function) != 0)
        return false;
    if (++fate.calls != fate.at)
        return false;
    if (fate.fault == CUT_BEFORE && connection)
        cut(connection);
    return true;
}

/* Done, but nobody hears of it. */
static PGresult *unheard(PGconn *connection, PGresult *result)
{
    PQclear(result);
    cut(connection);
    return PQexec(connection, "SELECT 1");
}

PGconn *failing_PQconnectdbParams(const char *const *names, const char *const *values, int expand)
{
    bool fails = strikes(NULL, __func__);
    if (fails && fate.fault == OUT_OF_MEMORY)
        return NULL;
    if (fails && fate.fault == CUT_BEFORE)
        return PQconnectdb("host=127.0.0.1 port=1");
    PGconn *connection = PQconnectdbParams(names, values, expand);
    if (fails)
        cut(connection);
    return connection;
}

PGresult *failing_PQexec(PGconn *connection, const char *sql)
{
    if (!strikes(connection, __func__))
        return PQexec(connection, sql);
    PGresult *result = fate.fault == OUT_OF_MEMORY ? NULL : PQexec(connection, sql);
    return fate.fault == CUT_AFTER ? unheard(connection, result) : result;
}

PGresult *failing_PQexecParams(PGconn *connection, const char *sql, int count, const Oid *types,
                               const char *const *values, const int *lengths, const int *formats, int format)
{
    bool fails = strikes(connection, __func__);
    PGresult *result = NULL;
    if (!fails || fate.fault != OUT_OF_MEMORY)
        result = PQexecParams(connection, sql, count, types, values, lengths, formats, format);
    return fails && fate.fault == CUT_AFTER ? unheard(connection, result) : result;
}

int failing_PQsendQueryParams(PGconn *connection, const char *sql, int count, const Oid *types,
                              const char *const *values, const int *lengths, const int *formats, int format)
{
    bool fails = strikes(connection, __func__);
    if (fails && fate.fault == OUT_OF_MEMORY)
        return 0;
    int sent = PQsendQueryParams(connection, sql, count, types, values, lengths, formats, format);
    if (fails)
        cut(connection);
    return sent;
}

int failing_PQsetSingleRowMode(PGconn *connection)
{
    return strikes(connection, __func__) ? 0 : PQsetSingleRowMode(connection);
}

PGresult *failing_PQgetResult(PGconn *connection)
{
    if (!strikes(connection, __func__))
        return PQgetResult(connection);
    if (fate.fault == OUT_OF_MEMORY)
        return PQmakeEmptyPGresult(connection, PGRES_FATAL_ERROR);
    PGresult *result = PQgetResult(connection);
    return fate.fault == CUT_AFTER && result ? unheard(connection, result) : result;
}

int failing_PQputCopyData(PGconn *connection, const char *bytes, int length)
{
    bool fails = strikes(connection, __func__);
    if (fails && fate.fault == OUT_OF_MEMORY)
        return -1;
    int put = PQputCopyData(connection, bytes, length);
    if (fails)
        cut(connection);
    return put;
}

int failing_PQputCopyEnd(PGconn *connection, const char *error)
{
    bool fails = strikes(connection, __func__);
    if (fails && fate.fault == OUT_OF_MEMORY)
        return -1;
    int put = PQputCopyEnd(connection, error);
    if (fails)
        cut(connection);
    return put;
}

/* --- what the engine does --- */

enum { BATCHES = 2, BATCH_EVENTS = 5, BATCH_RECORDS = BATCH_EVENTS + 2, TRIES = 8, SEALED_DAYS_AGO = 200 };

struct attempt {
    struct postgres_store *store;
    struct batch *batch;
    int32_t lane;
    char customer[32];
    char said[600]; /* what the store said of the failure */
};

/* False: it failed, as a lost connection does, and was recovered from. */
static bool did(struct attempt *attempt, struct store_job *job)
{
    postgres_store_perform(attempt->store, job);
    if (job->status == STORE_DONE)
        return true;
    snprintf(attempt->said, sizeof attempt->said, "%s", job->detail);
    ck_assert_msg(job->status == STORE_LOST, "%s at call %d: status %d: %s", fault_names[fate.fault], fate.at,
                  (int)job->status, job->detail);
    ck_assert_msg(*job->detail, "%s at call %d: no reason given", fault_names[fate.fault], fate.at);
    for (int i = 0; i < TRIES; i++) {
        struct store_fact facts[] = {{.topic = 0, .partition = attempt->lane},
                                     {.topic = 1, .partition = attempt->lane}};
        struct store_job recovery = recover(attempt->store, facts, 2);
        if (recovery.status == STORE_DONE)
            return false;
    }
    ck_abort_msg("%s at call %d: never recovered", fault_names[fate.fault], fate.at);
}

static bool count_state(void *context, const struct ceiling_state *state)
{
    ck_assert(text_equal(state->flag, TEXT("{\"type\": \"flag\"}")));
    ++*(size_t *)context;
    return true;
}

/* All that was committed, whatever failed while it was read. */
static void check_restored(const struct store_lane *lane)
{
    size_t batches = lane->offsets[0].fresh ? 0 : (size_t)lane->offsets[0].next_offset / BATCH_RECORDS;
    size_t some = batches > 0, states = 0;
    ck_assert(ceiling_book_states(lane->book, count_state, &states));
    ck_assert_uint_eq(states, some);
    ck_assert_uint_eq(lane->book->counters.count, some);
    ck_assert_uint_eq(dedupe_count(lane->dedupe), 3 * batches);
    ck_assert_uint_eq(lane->pending_count, some); /* the batch before's was settled by this one */
    ck_assert_uint_eq(lane->sealed_day_count, some);
    ck_assert_int_eq(lane->ceilings_generation, (int64_t)some);
}

static bool took(struct attempt *attempt, struct taken *taken)
{
    *taken = (struct taken){0};
    taken->lane.lane = attempt->lane;
    taken->job = (struct store_job){.kind = STORE_TAKEOVER,
                                    .lanes = &taken->lane,
                                    .lane_count = 1,
                                    .known_generation = -1,
                                    .settings.partition_count = 64};
    if (did(attempt, &taken->job)) {
        check_restored(&taken->lane);
        return true;
    }
    taken_free(taken); /* as much of it as was restored */
    return false;
}

/* Two of today, one of them streamed early; one of a day of its own; two of a sealed day, the second a
 * repeat. */
static void fill(struct attempt *attempt, struct taken *taken, int64_t number)
{
    char id[32];
    for (int i = 0; i < BATCH_EVENTS; i++) {
        snprintf(id, sizeof id, "%" PRId64 ".%d", number, i < 4 ? i : 3);
        int64_t day = i < 2 ? 0 : i == 2 ? 20 + number : SEALED_DAYS_AGO;
        struct event event = an_event(id, this_day_us() - day * DAY_US);
        event.customer_id = text_of(attempt->customer);
        if (i < 3)
            accept_event(attempt->batch, taken, &event);
        else
            defer_event(attempt->batch, &event, true);
    }
}

static void refuse(struct batch *batch, const struct taken *taken)
{
    struct copy_origin origin = take_offset(batch, "");
    struct record record = {.partition = taken->lane.lane, .offset = origin.offset, .key = TEXT("key")};
    ck_assert(batch_dead(batch, &taken->job.settings.secret, 0, &record, REFUSAL_EMPTY_VALUE, "no value"));
}

static void contradict(struct batch *batch, const char *customer)
{
    struct event event = an_event("0.0", this_day_us());
    event.customer_id = text_of(customer);
    struct copy_origin origin = take_offset(batch, "{}");
    ck_assert(batch_conflict_add(batch, 0, &event, &origin));
}

static void decide(struct batch *batch, int32_t lane, int64_t transition)
{
    struct ceiling_change counter = {.lane = lane,
                                     .counter = {.customer_id = TEXT("acme-co"),
                                                 .meter = TEXT("seeded"),
                                                 .period = PERIOD_DAY,
                                                 .scope = TEXT("{}"),
                                                 .period_start_us = this_day_us(),
                                                 .used = transition * DECIMAL_ONE}};
    struct ceiling_change state = {.lane = lane,
                                   .is_state = true,
                                   .state = {.customer_id = TEXT("acme-co"),
                                             .ceiling = TEXT("daily"),
                                             .scope = TEXT("{}"),
                                             .period_start_us = this_day_us(),
                                             .period_end_us = this_day_us() + DAY_US,
                                             .version = 1,
                                             .transition = transition,
                                             .active = true}};
    snprintf(state.state.decision_id, sizeof state.state.decision_id, "%016x%016x", (unsigned)lane,
             (unsigned)transition);
    struct decision decision = {.lane = lane,
                                .customer_id = state.state.customer_id,
                                .ceiling = state.state.ceiling,
                                .scope = state.state.scope,
                                .meter = counter.counter.meter,
                                .version = 1,
                                .period = PERIOD_DAY,
                                .period_start_us = state.state.period_start_us,
                                .period_end_us = state.state.period_end_us,
                                .transition = transition,
                                .active = true,
                                .source = DECIDED_BY_CLOCK,
                                .decided_at_us = this_day_us(),
                                .trace = TEXT("{\"flag\": {\"type\": \"flag\"}}")},
                    *copy;
    memcpy(decision.id, state.state.decision_id, sizeof decision.id);
    ck_assert(batch_change(batch, &counter) && batch_change(batch, &state) &&
              batch_decide(batch, &decision, &copy));
}

/* Something for each of the tables. */
static void fill_the_rest(struct attempt *attempt, const struct taken *taken, int64_t number)
{
    struct batch *batch = attempt->batch;
    uint16_t sealed_day = (uint16_t)(this_day_us() / DAY_US - SEALED_DAYS_AGO);
    refuse(batch, taken);
    contradict(batch, attempt->customer);
    decide(batch, attempt->lane, 1 + number / BATCH_RECORDS);
    for (size_t i = 0; i < taken->lane.pending_count; i++) {
        const struct store_pending *pending = &taken->lane.pending[i];
        ck_assert(batch_settle(batch,
                               (struct ceiling_origin){pending->topic, pending->partition, pending->offset}));
    }
    ck_assert(batch_adopt_seal(batch, attempt->lane, sealed_day));
    ck_assert(batch_adopt_ceilings(batch, attempt->lane, 1));
    batch->learned = PARTITIONER_MURMUR2;
}

/* Each is given its turn. */
static int link_of(const struct attempt *attempt)
{
    return (int)(attempt->batch->number / 2 % STORE_LINKS);
}

/* The rows of the batch's first day. */
static bool streamed_some(struct attempt *attempt, uint16_t *day)
{
    struct batch_day *first = &attempt->batch->days[0];
    struct store_job job = {.kind = STORE_STREAM,
                            .link = link_of(attempt),
                            .rows = row_queue_take(&first->rows, SIZE_MAX),
                            .stream_day = *day = first->day,
                            .stream_batch = attempt->batch->number};
    bool done = did(attempt, &job);
    row_queue_reset(&job.rows, attempt->batch->pool);
    return done;
}

static bool wrote(struct attempt *attempt, struct taken *taken)
{
    struct batch *batch = attempt->batch;
    uint16_t day = 0;
    open_batch(batch, taken);
    batch->number++;
    int64_t number = batch->partitions[0].first_offset < 0 ? 0 : batch->partitions[0].first_offset;
    fill(attempt, taken, number);
    fill_the_rest(attempt, taken, number);
    struct store_job job = {.kind = STORE_COMMIT, .link = link_of(attempt), .batch = batch};
    bool done = streamed_some(attempt, &day);
    job.stream_day = day;
    done = done && did(attempt, &job);
    free(job.fenced_lanes);
    return done;
}

/* All sums or none. */
static bool seeded(struct attempt *attempt, const struct ceiling_catalogue *catalogue)
{
    struct store_job job = {.kind = STORE_SEED, .seed_for = catalogue};
    bool done = did(attempt, &job);
    decimal_t total = 0;
    for (size_t i = 0; done && i < job.sum_count; i++)
        total += job.sums[i].used;
    ck_assert(!done || (job.sum_count == 8 && total == 92 * DECIMAL_ONE));
    if (job.arena)
        arena_free(job.arena);
    free(job.arena);
    return done;
}

static bool read_catalogue(struct attempt *attempt)
{
    struct store_job job = {.kind = STORE_CATALOGUE, .known_generation = -1};
    bool done = did(attempt, &job);
    ck_assert(!done || (job.catalogue->generation == 1 && job.settings.partition_count == 64));
    done = done && seeded(attempt, job.catalogue);
    free(job.sealed_days);
    ceiling_catalogue_free(job.catalogue);
    return done;
}

/* Rows were streamed for a batch that the engine then gives up. */
static bool gave_up(struct attempt *attempt, struct taken *taken)
{
    uint16_t day = 0;
    open_batch(attempt->batch, taken);
    fill(attempt, taken, 0);
    attempt->batch->number++;
    bool streamed = streamed_some(attempt, &day);
    batch_reset(attempt->batch);
    struct store_job job = {.kind = STORE_GIVE_UP, .link = link_of(attempt)};
    return streamed && did(attempt, &job) && read_catalogue(attempt);
}

/* True: the lane stands where it is to end. */
static bool went_on(struct attempt *attempt)
{
    struct taken taken;
    if (!took(attempt, &taken))
        return false;
    if (!gave_up(attempt, &taken)) {
        taken_free(&taken);
        return false;
    }
    int64_t next = taken.lane.offsets[0].fresh ? 0 : taken.lane.offsets[0].next_offset;
    bool end = next == BATCHES * BATCH_RECORDS;
    if (!end && wrote(attempt, &taken))
        advance(&taken, attempt->batch);
    taken_free(&taken);
    return end;
}

static void check_once(const struct attempt *attempt)
{
    const char *name = attempt->customer;
    ck_assert_sql(
        "8 8", "SELECT count(*) || ' ' || count(DISTINCT event_id) FROM usage_event WHERE customer_id = '%s'",
        name);
    ck_assert_sql("8 99600.000000000",
                  "SELECT sum(events) || ' ' || sum(quantity) FROM usage_hourly WHERE customer_id = '%s'",
                  name);
    ck_assert_sql(
        "8 4 2 14",
        "SELECT concat_ws(' ', sum(accepted), sum(duplicate), sum(dead + hole + gap), max(next_offset)) "
        "FROM batch_ledger WHERE topic = 'usage' AND kafka_partition = %d",
        attempt->lane);
    ck_assert_sql(
        "t",
        "SELECT chain = (SELECT chain FROM batch_ledger WHERE topic = 'usage' AND kafka_partition = %d "
        "ORDER BY next_offset DESC LIMIT 1) FROM consumer_offset WHERE topic = 'usage' AND "
        "kafka_partition = %d",
        attempt->lane, attempt->lane);
    ck_assert_sql("2 2 2 2 1",
                  "SELECT concat_ws(' ', (SELECT count(*) FROM dead_letter WHERE kafka_partition = %d), "
                  "(SELECT count(*) FROM event_conflict WHERE kafka_partition = %d), "
                  "(SELECT count(*) FROM policy_decision WHERE lane = %d), "
                  "(SELECT trim_scale(used) FROM ceiling_usage WHERE lane = %d AND meter <> ''), "
                  "(SELECT count(*) FROM ceiling_pending WHERE lane = %d))",
                  attempt->lane, attempt->lane, attempt->lane, attempt->lane, attempt->lane);
}

static int32_t new_lane(void)
{
    return atoi(ask_sql("SELECT coalesce(max(kafka_partition) + 1, 0) FROM consumer_offset"));
}

/* How many of the calls that count it took. What waits for ever is ended by a signal. */
static int run_lane(enum fault fault, int at)
{
    enum { HANGS_S = 60 };
    alarm(HANGS_S);
    struct attempt attempt = {.store = new_store(), .batch = new_batch(), .lane = new_lane()};
    snprintf(attempt.customer, sizeof attempt.customer, "customer-%d", attempt.lane);
    fate.fault = fault;
    fate.at = at;
    fate.calls = 0;
    int turns = 0;
    while (!went_on(&attempt))
        ck_assert_msg(turns++ < 2 * TRIES, "%s at call %d: no progress: %s", fault_names[fault], at,
                      attempt.said);
    int calls = fate.calls;
    fate.at = 0;
    check_once(&attempt);
    batch_free(attempt.batch);
    postgres_store_free(attempt.store);
    alarm(0);
    return calls;
}

/* Four days of two customers are summed up for it. */
static void make_ceiling(void)
{
    run_sql("INSERT INTO ceiling (name, version, who_kind, who, scope, meter, period, limit_quantity, "
            "clear_level, policy, generation, created_at) VALUES ('daily', 1, 'everyone', '', 'customer', "
            "'seeded', 'day', 100, 100, 'alert', 1, now() - interval '3 days') ON CONFLICT DO NOTHING");
    run_sql("INSERT INTO setting (name, value) VALUES ('ceilings_generation', '1') ON CONFLICT DO NOTHING");
    run_sql("INSERT INTO usage_hourly (customer_id, hour, meter, events, quantity, adjustment, "
            "first_event_at, last_event_at) SELECT c, date_trunc('day', now()) - d * interval '1 day', "
            "'seeded', 1, 10 + d, 0, now(), now() FROM unnest('{c1,c2}'::text[]) c, generate_series(0, 5) d "
            "ON CONFLICT DO NOTHING");
}

static void seal_the_day(void)
{
    int64_t day_us = this_day_us() - SEALED_DAYS_AGO * DAY_US;
    make_ceiling();
    run_lane(CUT_BEFORE, 0); /* makes the leaf */
    run_sql(
        "DO $$ BEGIN EXECUTE format('CREATE UNIQUE INDEX ON usage_event_%%s (customer_id, meter, event_id)', "
        "to_char(to_timestamp(%" PRId64 "), 'YYYYMMDD')); END $$",
        day_us / 1000000);
}

static int number_from(const char *variable)
{
    const char *given = getenv(variable);
    return given ? atoi(given) : 1;
}

/* STEP=N tries every Nth call only, beginning with FIRST. */
START_TEST(each_call_of_libpq_failing_in_turn_loses_nothing_and_counts_nothing_twice)
{
    int step = number_from("STEP"), first = number_from("FIRST");
    seal_the_day();
    for (enum fault fault = 0; fault < FAULTS; fault++) {
        int calls = INT32_MAX;
        for (int at = first; at <= calls; at += step)
            calls = run_lane(fault, at);
        printf("%s: each of %d calls\n", fault_names[fault], calls);
        fflush(stdout);
    }
}
END_TEST

/* Rows that libpq did not take, a COPY that it did not end: both are to be noticed at once, or the connection
 * is waited on for ever, and good rows are taken for bad. */
START_TEST(a_copy_that_libpq_can_neither_feed_nor_end_nor_give_up_is_begun_again)
{
    static const char *const functions[] = {"failing_PQputCopyData", "failing_PQputCopyEnd"};
    seal_the_day();
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        fate.only = functions[i];
        int calls = INT32_MAX;
        for (int at = 1; at <= calls; at++)
            calls = run_lane(OUT_OF_MEMORY, at);
        printf("%s: each of %d calls\n", functions[i], calls);
        fflush(stdout);
    }
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_set_timeout(tests, 0); /* whoever runs it has one */
    tcase_add_test(tests, a_copy_that_libpq_can_neither_feed_nor_end_nor_give_up_is_begun_again);
    tcase_add_test(tests, each_call_of_libpq_failing_in_turn_loses_nothing_and_counts_nothing_twice);
}

int main(void)
{
    return run_store_tests("store: failing libpq", add_tests);
}
