/* PostgreSQL lost or slow, while a real one is at work: what the store says of it, and how it recovers. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "rollup/postgres_store_parts.h"
#include "one_lane.h"

static void end_connections(const char *application)
{
    run_sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '%s' AND datname = "
        "current_database()",
        application);
}

START_TEST(a_lost_connection_is_recovered_and_recorded_anew)
{
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
}
END_TEST

static void *perform(void *job)
{
    postgres_store_perform(store, job);
    return NULL;
}

/* By the time it returns, the job waits for a lock. */
static pthread_t perform_aside(struct store_job *job)
{
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, perform, job), 0);
    usleep(300000);
    return thread;
}

/* As a COMMIT would that was sent, and whose answer never came: its row lock is still held. */
START_TEST(a_commit_that_is_still_under_way_is_waited_out)
{
    take(store, 41, &taken);
    struct pg other = {0};
    ck_assert(pg_open(&other, test_dsn(), "somebody"));
    ck_assert(pg_run(&other, "BEGIN; UPDATE consumer_offset SET next_offset = 7 WHERE kafka_partition = 41"));
    struct store_fact fact = {.topic = 0, .partition = 41};
    struct store_job job = {.kind = STORE_RECOVER, .facts = &fact, .fact_count = 1};
    pthread_t thread = perform_aside(&job);
    ck_assert(pg_run(&other, "COMMIT"));
    pthread_join(thread, NULL);
    ck_assert_done(job);
    ck_assert_int_eq(fact.next_offset, 7);
    pg_close(&other);
}
END_TEST

/* As an owner that was followed might, at the very moment that the new one has found the run to be new. */
START_TEST(a_run_that_somebody_else_inserts_meanwhile_is_counted_when_the_batch_is_tried_again)
{
    struct store_job job = {.kind = STORE_COMMIT, .batch = batch};
    take(store, 44, &taken);
    open_batch(batch, &taken);
    struct event event = an_event("step", this_day_us());
    event.lifted[LIFTED_RUN_ID] = TEXT("contested");
    accept_event(batch, &taken, &event);
    struct pg other = {0};
    ck_assert(pg_open(&other, test_dsn(), "somebody"));
    ck_assert(pg_run(&other, "BEGIN; INSERT INTO usage_run SELECT 'acme-co', 'contested', '', '', "
                             "'llm_tokens_in', 'claude-4.5-sonnet', '', 1, 1, now(), now()"));
    pthread_t thread = perform_aside(&job);
    ck_assert(pg_run(&other, "COMMIT"));
    pthread_join(thread, NULL);
    ck_assert_msg(job.status == STORE_LOST, "status %d: %s", (int)job.status, job.detail);
    struct store_fact fact = {.topic = 0, .partition = 44};
    job = recover(store, &fact, 1);
    ck_assert_done(job);
    open_batch(batch, &taken);
    accept_event(batch, &taken, &event);
    commit(store, batch, &taken);
    ck_assert_sql("2", "SELECT events FROM usage_run WHERE run_id = 'contested'");
    pg_close(&other);
}
END_TEST

START_TEST(an_interrupt_ends_a_job_that_waits)
{
    take(store, 42, &taken);
    struct pg other = {0};
    ck_assert(pg_open(&other, test_dsn(), "somebody"));
    ck_assert(pg_run(&other, "BEGIN; UPDATE consumer_offset SET next_offset = 7 WHERE kafka_partition = 42"));
    struct store_fact fact = {.topic = 0, .partition = 42};
    struct store_job job = {.kind = STORE_RECOVER, .facts = &fact, .fact_count = 1};
    pthread_t thread = perform_aside(&job);
    postgres_store_interrupt(store);
    pthread_join(thread, NULL);
    ck_assert_int_eq(job.status, STORE_LOST);
    postgres_store_perform(store, &job);
    ck_assert_int_eq(job.status, STORE_LOST);
    pg_close(&other);
}
END_TEST

START_TEST(a_server_that_is_away_is_a_loss_and_not_an_error)
{
    const struct postgres_store_options options = {
        .dsn = "host=127.0.0.1 port=1 dbname=nowhere", .owner_dsn = "", .topics = topics, .topic_count = 2};
    struct postgres_store *nowhere = postgres_store_new(&options);
    struct store_job job = {.kind = STORE_CATALOGUE};
    postgres_store_perform(nowhere, &job);
    ck_assert_int_eq(job.status, STORE_LOST);
    ck_assert_ptr_nonnull(strstr(job.detail, "127.0.0.1"));
    postgres_store_free(nowhere);
}
END_TEST

/* While there is nothing to write, one of the two is used every second, the other hardly ever. */
START_TEST(a_connection_that_waits_for_its_turn_is_not_ended_for_it)
{
    run_sql("DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET idle_session_timeout = 200', "
            "current_database()); END $$");
    take(store, 47, &taken);
    usleep(500000);
    struct store_job job = {.kind = STORE_CATALOGUE, .link = 1, .known_generation = 0};
    postgres_store_perform(store, &job);
    free(job.sealed_days);
    run_sql(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I RESET idle_session_timeout', current_database()); "
        "END $$");
    ck_assert_done(job);
}
END_TEST

/* After a failover, with the former primary still there: the connection that was kept may be the wrong one.
 */
START_TEST(connections_that_lead_to_different_servers_are_all_made_anew)
{
    struct store_link *links = store->links;
    take(store, 46, &taken);
    store_disconnect(&links[1]);
    links[0].cluster.timeline--;
    ck_assert(!store_connect(&links[0]));
    ck_assert_ptr_nonnull(strstr(links[0].pg.failure.detail, "different servers"));
    struct store_fact fact = {.topic = 0, .partition = 46};
    ck_assert(!pg_is_open(&links[0].pg) && !pg_is_open(&links[1].pg));
    struct store_job job = recover(store, &fact, 1);
    ck_assert_done(job);
    ck_assert(pg_is_open(&links[0].pg) && pg_is_open(&links[1].pg));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, open_store, close_store);
    tcase_add_loop_test(tests, a_lost_connection_is_recovered_and_recorded_anew, 0, 2);
    tcase_add_test(tests, a_commit_that_is_still_under_way_is_waited_out);
    tcase_add_test(tests,
                   a_run_that_somebody_else_inserts_meanwhile_is_counted_when_the_batch_is_tried_again);
    tcase_add_test(tests, an_interrupt_ends_a_job_that_waits);
    tcase_add_test(tests, a_server_that_is_away_is_a_loss_and_not_an_error);
    tcase_add_test(tests, a_connection_that_waits_for_its_turn_is_not_ended_for_it);
    tcase_add_test(tests, connections_that_lead_to_different_servers_are_all_made_anew);
}

int main(void)
{
    return run_store_tests("store: losses", add_tests);
}
