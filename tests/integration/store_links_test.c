/* Two batches at once, each over a link of its own: one is committed while the rows of the next are streamed.
 * What they are to each other, to recovery, to whoever takes over, and to threads. */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "consumer/system_clock.h"
#include "one_lane.h"
#include "rollup/postgres_store_parts.h"
#include "rollup/verify.h"
#include "rollup/writer.h"

static struct batch *pair[STORE_LINKS]; /* the batches of links 0 and 1 */
static char customer[32];               /* of the lane that was taken */
static struct pg other;                 /* somebody else */

static void open_both(void)
{
    run_sql("ALTER ROLE %s RESET default_transaction_isolation", writer_role()); /* a test may have failed */
    run_sql("ALTER ROLE %s CONNECTION LIMIT -1", writer_role());
    open_store();
    pair[0] = batch;
    pair[1] = new_batch();
    ck_assert_msg(pg_open(&other, test_dsn(), "somebody"), "%s", other.failure.detail);
}

static void close_both(void)
{
    pg_close(&other);
    batch_free(pair[1]);
    close_store();
}

static void take_lane(int32_t lane)
{
    snprintf(customer, sizeof customer, "of-lane-%d", lane);
    take(store, lane, &taken);
}

static const struct store_backend *backend(int link)
{
    return &store->links[link].backend;
}

/* --- batches --- */

static void count_event(int link, const char *event_id, int64_t time_us)
{
    struct event event = an_event(event_id, time_us);
    event.customer_id = text_of(customer);
    event.quantity = DECIMAL_ONE;
    event.lifted[LIFTED_RUN_ID] = TEXT("overlapping");
    accept_event(pair[link], &taken, &event);
}

/* One event in it. The batch after it begins where it ends, whether it is committed by then or not. */
static void fill(int link, const char *event_id)
{
    static uint64_t number;
    open_batch(pair[link], &taken);
    pair[link]->number = ++number;
    count_event(link, event_id, this_day_us());
    advance(&taken, pair[link]);
}

static struct store_job stream_of(int link)
{
    struct batch_day *day = &pair[link]->days[0];
    return (struct store_job){.kind = STORE_STREAM,
                              .link = link,
                              .rows = row_queue_take(&day->rows, SIZE_MAX),
                              .stream_day = day->day,
                              .stream_left_out = day->left_out,
                              .stream_batch = pair[link]->number};
}

/* With the rows that were streamed for it, if there are any. */
static struct store_job commit_of(int link)
{
    return (struct store_job){
        .kind = STORE_COMMIT, .link = link, .batch = pair[link], .stream_day = store->links[link].copy_day};
}

static void stream_on(int link)
{
    struct store_job job = stream_of(link);
    postgres_store_perform(store, &job);
    row_queue_reset(&job.rows, pair[link]->pool);
    ck_assert_done(job);
}

static void commit_on(int link)
{
    struct store_job job = commit_of(link);
    postgres_store_perform(store, &job);
    ck_assert_done(job);
}

static void write_on(int link, const char *event_id)
{
    fill(link, event_id);
    stream_on(link);
    commit_on(link);
}

static int64_t recovered(int32_t lane)
{
    struct store_fact fact = {.topic = 0, .partition = lane};
    struct store_job job = recover(store, &fact, 1);
    ck_assert_done(job);
    return fact.next_offset;
}

/* --- jobs in threads of their own --- */

struct aside {
    struct postgres_store *store;
    struct store_job *job;
    pthread_t thread;
};

static void *perform(void *context)
{
    struct aside *aside = context;
    postgres_store_perform(aside->store, aside->job);
    return NULL;
}

static void begin_aside(struct aside *aside, struct postgres_store *by, struct store_job *job)
{
    *aside = (struct aside){.store = by, .job = job};
    ck_assert_int_eq(pthread_create(&aside->thread, NULL, perform, aside), 0);
}

static void await_lock(int pid)
{
    for (int tries = 0; tries < 1000; tries++) {
        if (strcmp(ask_sql("SELECT wait_event_type FROM pg_stat_activity WHERE pid = %d", pid), "Lock") == 0)
            return;
        usleep(10000);
    }
    ck_abort_msg("it waits for no lock");
}

static const char *leaf(void) /* of today */
{
    return ask_sql("SELECT to_char(now() AT TIME ZONE 'UTC', '\"usage_event_\"YYYYMMDD')");
}

/* --- two batches --- */

/* Whatever the role's transactions are by default: its own was begun before the other's commit. */
START_TEST(a_batch_sees_what_was_committed_while_it_was_streamed)
{
    static const char *const defaults[] = {"read committed", "repeatable read", "serializable"};
    run_sql("ALTER ROLE %s SET default_transaction_isolation = '%s'", writer_role(), defaults[_i]);
    take_lane(1 + _i);
    fill(0, "before");
    stream_on(0);
    fill(1, "after");
    stream_on(1);
    commit_on(0);
    commit_on(1);
    ck_assert_sql("1|2|2",
                  "SELECT concat_ws('|', count(*), sum(events), trim_scale(sum(quantity))) FROM "
                  "usage_hourly WHERE customer_id = '%s'",
                  customer);
    ck_assert_sql("1|2|2",
                  "SELECT concat_ws('|', count(*), sum(events), trim_scale(sum(quantity))) FROM "
                  "usage_run WHERE customer_id = '%s'",
                  customer);
}
END_TEST

/* A transaction's begin says nothing of its place. */
START_TEST(numbers_of_batches_rise_with_their_offsets)
{
    take_lane(4);
    fill(0, "before");
    fill(1, "after");
    stream_on(1);
    commit_on(0);
    commit_on(1);
    ck_assert_sql("0,1", "SELECT string_agg(first_offset::text, ',' ORDER BY batch_id) FROM batch_ledger "
                         "WHERE topic = 'usage' AND kafka_partition = 4");
}
END_TEST

/* The leaf of a late event's day is not there yet; to make it must not wait for the rows that are streamed.
 */
START_TEST(a_day_is_made_for_a_batch_beside_the_rows_of_the_next)
{
    take_lane(5);
    open_batch(pair[0], &taken);
    count_event(0, "today", this_day_us());
    count_event(0, "late", this_day_us() - 91 * DAY_US);
    advance(&taken, pair[0]);
    fill(1, "after");
    stream_on(1);
    struct store_job job = commit_of(0);
    postgres_store_perform(store, &job);
    ck_assert_done(job);
    commit_on(1);
    ck_assert_sql("3", "SELECT count(*) FROM usage_event WHERE kafka_partition = 5");
}
END_TEST

/* The batch waits for somebody who waits for the next batch's rows: no cycle that PostgreSQL can see. */
START_TEST(a_lock_between_two_batches_is_a_loss_and_passes)
{
    char lock[64];
    take_lane(6);
    write_on(0, "first");
    fill(1, "after");
    stream_on(1);
    snprintf(lock, sizeof lock, "BEGIN; LOCK TABLE %s", leaf());
    ck_assert(PQsendQuery(other.connection, lock));
    await_lock(PQbackendPID(other.connection));
    fill(0, "before");
    struct store_job job = commit_of(0);
    PGresult *limit = PQexec(store->links[0].pg.connection, "SHOW lock_timeout");
    ck_assert_str_eq(PQgetvalue(limit, 0, 0), "30s"); /* which would be long for a test */
    PQclear(limit);
    ck_assert(pg_run(&store->links[0].pg, "SET lock_timeout = '300ms'"));
    postgres_store_perform(store, &job);
    ck_assert_int_eq(job.status, STORE_LOST);
    ck_assert_int_eq(recovered(6), 1);
    for (PGresult *result; (result = PQgetResult(other.connection)); PQclear(result))
        ck_assert_msg(PQresultStatus(result) == PGRES_COMMAND_OK, "%s", PQresultErrorMessage(result));
}
END_TEST

/* --- giving up --- */

static bool leaf_is_free(void)
{
    char lock[100];
    snprintf(lock, sizeof lock, "BEGIN; LOCK TABLE %s IN SHARE MODE NOWAIT", leaf());
    bool is_free = pg_run(&other, lock);
    ck_assert(pg_run(&other, "ROLLBACK"));
    return is_free;
}

START_TEST(a_batch_that_is_given_up_leaves_no_transaction_and_no_lock)
{
    struct store_job job = {.kind = STORE_GIVE_UP, .link = _i};
    int32_t lane = 7 + _i;
    take_lane(lane);
    fill(_i, "given-up");
    stream_on(_i);
    ck_assert(!leaf_is_free());
    postgres_store_perform(store, &job);
    ck_assert_done(job);
    ck_assert(leaf_is_free());
    ck_assert_sql("0", "SELECT count(*) FROM pg_stat_activity WHERE pid IN (%d, %d) AND state <> 'idle'",
                  backend(0)->pid, backend(1)->pid);
    postgres_store_perform(store, &job); /* nothing is left to be given up */
    ck_assert_done(job);
    taken.lane.offsets[0].fresh = true;
    taken.lane.offsets[0].next_offset = -1;
    taken.lane.offsets[1] = taken.lane.offsets[0];
    write_on(_i, "kept");
    ck_assert_sql("kept", "SELECT string_agg(event_id, ',') FROM usage_event WHERE kafka_partition = %d",
                  lane);
}
END_TEST

/* --- losses --- */

static void end_backend(const struct store_backend *ended)
{
    run_sql("SELECT pg_terminate_backend(%d, 10000)", ended->pid);
}

/* Nothing was under way on it, so that nobody has noticed. */
START_TEST(a_recovery_finds_the_link_that_broke_unnoticed_and_records_the_new_one)
{
    int32_t lane = 10 + _i;
    take_lane(lane);
    write_on(0, "before");
    const struct store_backend was[] = {*backend(0), *backend(1)};
    end_backend(backend(_i));
    ck_assert_int_eq(recovered(lane), 1);
    ck_assert_int_eq(backend(1 - _i)->pid, was[1 - _i].pid);
    ck_assert_int_ne(backend(_i)->pid, was[_i].pid);
    ck_assert_sql(
        "t",
        "SELECT bool_and((backend_pid, second_backend_pid) = (%d, %d) AND EXISTS (SELECT FROM "
        "pg_stat_activity WHERE (pid, backend_start) = (o.backend_pid, o.backend_start)) AND EXISTS "
        "(SELECT FROM pg_stat_activity WHERE (pid, backend_start) = (o.second_backend_pid, "
        "o.second_backend_start))) FROM consumer_offset o WHERE kafka_partition = %d",
        backend(0)->pid, backend(1)->pid, lane);
    write_on(_i, "after");
    ck_assert_int_eq(recovered(lane), 2);
}
END_TEST

/* Both batches are undone together: neither leaves a transaction behind. */
START_TEST(a_recovery_ends_what_both_links_have_open)
{
    take_lane(12);
    fill(0, "before");
    stream_on(0);
    fill(1, "after");
    stream_on(1);
    ck_assert_int_eq(recovered(12), -1);
    ck_assert_sql("0", "SELECT count(*) FROM pg_stat_activity WHERE pid IN (%d, %d) AND state <> 'idle'",
                  backend(0)->pid, backend(1)->pid);
    ck_assert(leaf_is_free());
}
END_TEST

static void expect_full(const struct store_job *job)
{
    ck_assert_int_eq(job->status, STORE_LOST);
    ck_assert_msg(strstr(job->detail, "too many connections for role"), "%s", job->detail);
}

START_TEST(without_room_for_both_links_the_store_says_so_and_goes_on_once_there_is)
{
    struct store_fact fact = {.topic = 0, .partition = 13};
    struct store_job job = {.kind = STORE_CATALOGUE, .known_generation = 0};
    run_sql("ALTER ROLE %s CONNECTION LIMIT 1", writer_role());
    postgres_store_perform(store, &job);
    expect_full(&job);
    job = recover(store, &fact, 1);
    expect_full(&job);
    run_sql("ALTER ROLE %s CONNECTION LIMIT -1", writer_role());
    job = recover(store, &fact, 1);
    ck_assert_done(job);
    take_lane(13);
    write_on(0, "before");
    fill(1, "in-doubt");
    stream_on(1);
    run_sql("ALTER ROLE %s CONNECTION LIMIT 1", writer_role());
    end_backend(backend(0));
    end_backend(backend(1));
    job = commit_of(1);
    postgres_store_perform(store, &job);
    ck_assert_int_eq(job.status, STORE_LOST);
    job = recover(store, &fact, 1);
    expect_full(&job);
    run_sql("ALTER ROLE %s CONNECTION LIMIT -1", writer_role());
    ck_assert_int_eq(recovered(13), 1);
    ck_assert_sql("before", "SELECT string_agg(event_id, ',') FROM usage_event WHERE kafka_partition = 13");
    taken.lane.offsets[0].next_offset = 1;
    write_on(1, "after");
    ck_assert_sql("before,after", "SELECT string_agg(event_id, ',' ORDER BY kafka_offset) FROM usage_event "
                                  "WHERE kafka_partition = 13");
}
END_TEST

START_TEST(an_interrupt_ends_what_waits_on_either_link)
{
    struct aside asides[STORE_LINKS];
    struct store_job jobs[STORE_LINKS];
    take_lane(14);
    for (int link = 0; link < STORE_LINKS; link++)
        fill(link, "waits");
    ck_assert(pg_run(&other, "BEGIN; LOCK TABLE usage_event"));
    jobs[0] = commit_of(0);
    jobs[1] = stream_of(1);
    for (int link = 0; link < STORE_LINKS; link++)
        begin_aside(&asides[link], store, &jobs[link]);
    for (int link = 0; link < STORE_LINKS; link++)
        await_lock(backend(link)->pid);
    int64_t began_us = system_steady_us();
    postgres_store_interrupt(store);
    for (int link = 0; link < STORE_LINKS; link++) {
        pthread_join(asides[link].thread, NULL);
        ck_assert_int_eq(jobs[link].status, STORE_LOST);
    }
    ck_assert_int_lt(system_steady_us() - began_us, 20000000); /* PostgreSQL would end it after 30 */
    row_queue_reset(&jobs[1].rows, pair[1]->pool);
}
END_TEST

/* --- taking over --- */

/* In the midst of its commit, so that rows are locked; the link that stands first is idle. */
START_TEST(taking_over_ends_the_second_link_of_an_owner_that_stalls_there_and_no_other)
{
    struct aside stalling;
    struct taken after;
    struct postgres_store *young = new_store();
    take_lane(15);
    fill(1, "stalled");
    stream_on(1);
    /* comes after the sums */
    ck_assert(pg_run(&other, "BEGIN; LOCK TABLE batch_ledger IN SHARE MODE"));
    struct store_job job = commit_of(1);
    int pids[] = {backend(0)->pid, backend(1)->pid};
    begin_aside(&stalling, store, &job);
    await_lock(pids[1]);
    take(young, 15, &after);
    ck_assert_sql("1", "SELECT count(*) FROM pg_stat_activity WHERE pid = %d", pids[0]);
    ck_assert_sql("0", "SELECT count(*) FROM pg_stat_activity WHERE pid = %d", pids[1]);
    pthread_join(stalling.thread, NULL);
    ck_assert_int_eq(job.status, STORE_LOST);
    ck_assert(pg_run(&other, "ROLLBACK"));
    ck_assert_int_eq(after.lane.offsets[0].next_offset, -1);
    taken_free(&after);
    postgres_store_free(young);
}
END_TEST

static void *take_the_second(void *after)
{
    struct postgres_store *young = new_store();
    take(young, 18, after);
    postgres_store_free(young);
    return NULL;
}

/* It goes on with another lane. The one that takes over waits for what both links have open to be over. */
START_TEST(a_former_owner_that_is_well_keeps_both_links)
{
    struct taken given, after;
    pthread_t taking;
    take(store, 18, &given);
    take_lane(17);
    const struct store_backend was[] = {*backend(0), *backend(1)};
    fill(0, "before");
    stream_on(0);
    fill(1, "after");
    stream_on(1);
    ck_assert_int_eq(pthread_create(&taking, NULL, take_the_second, &after), 0);
    usleep(300000);
    commit_on(0);
    usleep(300000);
    commit_on(1);
    pthread_join(taking, NULL);
    write_on(0, "goes-on");
    write_on(1, "and-on");
    for (int link = 0; link < STORE_LINKS; link++)
        ck_assert_int_eq(backend(link)->pid, was[link].pid);
    ck_assert_sql("4", "SELECT count(*) FROM usage_event WHERE kafka_partition = 17");
    taken_free(&given);
    taken_free(&after);
}
END_TEST

/* --- threads --- */

static void nothing_begins(void *context, const char *check, uint64_t total)
{
    (void)context, (void)check, (void)total;
}

static void no_progress(void *context, uint64_t done)
{
    (void)context, (void)done;
}

static bool print_difference(void *context, const struct verify_difference *difference)
{
    if (!difference->is_note)
        fprintf(stderr, "%s: %.*s: %.*s\n", difference->check, (int)difference->where.length,
                difference->where.bytes, (int)difference->what.length, difference->what.bytes);
    *(int *)context += !difference->is_note;
    return true;
}

static bool take_outcome(void *context, const struct verify_outcome *outcome)
{
    (void)context, (void)outcome;
    return true;
}

/* All that this and other tests have written. */
static void check_record(void)
{
    int differences = 0;
    const struct verify_options options = {.since_us = INT64_MIN,
                                           .partition = -1,
                                           .dimensions = {LIFTED_PROVIDER},
                                           .dimension_count = 1,
                                           .runs = true,
                                           .context = &differences,
                                           .begins = nothing_begins,
                                           .progress = no_progress,
                                           .differs = print_difference,
                                           .ended = take_outcome};
    ck_assert_msg(verify_run(&other, &options), "%s", other.failure.detail);
    ck_assert_int_eq(differences, 0);
}

/* The next job that is handed back, which must be this one. */
static void await_job(struct writer *writer, const struct store_job *expected)
{
    struct store port = writer_store(writer);
    struct store_job *job;
    while (!(job = port.poll(port.self))) {
        struct pollfd wait = {.fd = writer_descriptor(writer), .events = POLLIN};
        ck_assert_int_eq(poll(&wait, 1, 60000), 1);
    }
    ck_assert_ptr_eq(job, expected);
    ck_assert_done(*job);
}

/* Holds commits up, once each has written its sums, until the next batch's rows have been streamed. */
static void hold_commits(bool held)
{
    ck_assert(pg_run(&other, held ? "BEGIN; LOCK TABLE batch_ledger IN SHARE MODE" : "COMMIT"));
}

START_TEST(batches_that_overlap_in_threads_leave_one_chain_and_every_sum)
{
    enum { BATCHES = 12 };
    struct store_job commits[STORE_LINKS];
    take_lane(20);
    struct writer *writer = writer_start(postgres_store_perform, store);
    ck_assert_ptr_nonnull(writer);
    struct store port = writer_store(writer);
    for (int i = 0; i < BATCHES; i++) {
        int link = i % STORE_LINKS;
        char ids[2][32];
        snprintf(ids[0], sizeof ids[0], "%d-early", i);
        snprintf(ids[1], sizeof ids[1], "%d-late", i);
        fill(link, ids[0]);
        struct store_job streamed = stream_of(link);
        port.submit(port.self, &streamed); /* beside the commit of the batch before */
        await_job(writer, &streamed);
        row_queue_reset(&streamed.rows, pair[link]->pool);
        count_event(link, ids[1], this_day_us() - i % 3 * DAY_US);
        advance(&taken, pair[link]);
        if (i > 0) {
            hold_commits(false);
            await_job(writer, &commits[1 - link]);
        }
        hold_commits(true);
        commits[link] = commit_of(link);
        port.submit(port.self, &commits[link]);
    }
    hold_commits(false);
    await_job(writer, &commits[(BATCHES - 1) % STORE_LINKS]);
    ck_assert_ptr_null(writer_stop(writer));
    ck_assert_sql("12|24", "SELECT concat_ws('|', count(*), sum(accepted)) FROM batch_ledger WHERE "
                           "kafka_partition = 20 AND topic = 'usage'");
    ck_assert_sql("t", "SELECT array_agg(batch_id ORDER BY batch_id) = array_agg(batch_id ORDER BY "
                       "first_offset) FROM batch_ledger WHERE topic = 'usage' AND kafka_partition = 20");
    check_record();
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, open_both, close_both);
    tcase_add_loop_test(tests, a_batch_sees_what_was_committed_while_it_was_streamed, 0, 3);
    tcase_add_test(tests, numbers_of_batches_rise_with_their_offsets);
    tcase_add_test(tests, a_day_is_made_for_a_batch_beside_the_rows_of_the_next);
    tcase_add_test(tests, a_lock_between_two_batches_is_a_loss_and_passes);
    tcase_add_loop_test(tests, a_batch_that_is_given_up_leaves_no_transaction_and_no_lock, 0, STORE_LINKS);
    tcase_add_loop_test(tests, a_recovery_finds_the_link_that_broke_unnoticed_and_records_the_new_one, 0,
                        STORE_LINKS);
    tcase_add_test(tests, a_recovery_ends_what_both_links_have_open);
    tcase_add_test(tests, without_room_for_both_links_the_store_says_so_and_goes_on_once_there_is);
    tcase_add_test(tests, an_interrupt_ends_what_waits_on_either_link);
    tcase_add_test(tests, taking_over_ends_the_second_link_of_an_owner_that_stalls_there_and_no_other);
    tcase_add_test(tests, a_former_owner_that_is_well_keeps_both_links);
    tcase_add_test(tests, batches_that_overlap_in_threads_leave_one_chain_and_every_sum);
}

int main(void)
{
    return run_store_tests("store: links", add_tests);
}
