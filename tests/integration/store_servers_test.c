/* Two PostgreSQL servers, of which the dsn leads to one or the other, as a name or a proxy in front does. */
#include <stdio.h>
#include <stdlib.h>

#include "rollup/postgres_store_parts.h"
#include "store_fixture.h"

static char dsn[512]; /* of the store: where it leads changes */

static void lead_to(const char *server)
{
    snprintf(dsn, sizeof dsn, "%s", server);
}

static const char *other_dsn(void)
{
    return getenv("USAGEBOX_TEST_OTHER_WRITER_DSN");
}

static void end_link(const struct postgres_store *store, int link)
{
    run_sql("SELECT pg_terminate_backend(%d, 10000)", store->links[link].backend.pid);
}

static struct postgres_store *store_by_dsn(void)
{
    const struct postgres_store_options options = {
        .dsn = dsn, .owner_dsn = test_dsn(), .topics = topics, .topic_count = 2};
    struct postgres_store *store = postgres_store_new(&options);
    ck_assert_ptr_nonnull(store);
    return store;
}

static void write_batch(struct postgres_store *store, struct taken *taken)
{
    struct batch *batch = new_batch();
    open_batch(batch, taken);
    struct event event = an_event("before", this_day_us());
    accept_event(batch, taken, &event);
    commit(store, batch, taken);
    batch_free(batch);
}

/* One of its connections broke, and was made anew elsewhere; the other goes on where it was. */
START_TEST(links_that_lead_to_different_servers_are_both_made_anew)
{
    struct taken taken;
    struct store_fact fact = {.topic = 0, .partition = _i};
    lead_to(writer_dsn());
    struct postgres_store *store = store_by_dsn();
    take(store, _i, &taken);
    write_batch(store, &taken);
    lead_to(other_dsn());
    end_link(store, _i);
    struct store_job job = recover(store, &fact, 1);
    ck_assert_int_eq(job.status, STORE_LOST);
    ck_assert_msg(strstr(job.detail, "different servers"), "%s", job.detail);
    job = recover(store, &fact, 1);
    ck_assert_done(job);
    ck_assert(job.store_went_back && !fact.found);
    lead_to(writer_dsn());
    for (int link = 0; link < STORE_LINKS; link++)
        store_disconnect(&store->links[link]); /* as that server's end would */
    job = recover(store, &fact, 1);
    ck_assert_done(job);
    ck_assert(job.store_went_back && fact.found);
    ck_assert_int_eq(fact.next_offset, 1);
    job = recover(store, &fact, 1);
    ck_assert_done(job);
    ck_assert(!job.store_went_back);
    taken_free(&taken);
    postgres_store_free(store);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_loop_test(tests, links_that_lead_to_different_servers_are_both_made_anew, 0, STORE_LINKS);
}

int main(void)
{
    const char *there = getenv("USAGEBOX_TEST_OTHER_DSN");
    if (!there || !other_dsn() || !prepare_database(there)) {
        fprintf(stderr, "USAGEBOX_TEST_OTHER_DSN and USAGEBOX_TEST_OTHER_WRITER_DSN must name a database\n");
        return EXIT_FAILURE;
    }
    return run_store_tests("store: servers", add_tests);
}
