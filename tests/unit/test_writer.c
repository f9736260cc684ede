#include <check.h>
#include <poll.h>
#include <stdatomic.h>

#include "../../rollup/writer.h"
#include "suite.h"

static void number(void *context, struct store_job *job)
{
    atomic_int *count = context;
    job->known_generation = atomic_fetch_add(count, 1);
}

/* Holds the writer's thread until it is let go. */
static void wait_for_go(void *context, struct store_job *job)
{
    atomic_int *go = context;
    while (atomic_load(go) == 0)
        poll(NULL, 0, 1);
    job->status = STORE_DONE;
    job->known_generation = 1;
}

static struct store_job *next_job(struct writer *writer)
{
    struct store store = writer_store(writer);
    for (;;) {
        struct store_job *job = store.poll(store.self);
        if (job)
            return job;
        struct pollfd wait = {.fd = writer_descriptor(writer), .events = POLLIN};
        ck_assert_int_eq(poll(&wait, 1, 10000), 1);
    }
}

START_TEST(jobs_are_done_in_the_order_submitted)
{
    enum { JOBS = 1000 };
    static struct store_job jobs[JOBS];
    atomic_int count = 0;
    struct writer *writer = writer_start(number, &count);
    struct store store = writer_store(writer);
    for (int i = 0; i < JOBS; i++)
        store.submit(store.self, &jobs[i]);
    for (int i = 0; i < JOBS; i++) {
        struct store_job *job = next_job(writer);
        ck_assert_ptr_eq(job, &jobs[i]);
        ck_assert_int_eq(job->known_generation, i);
    }
    ck_assert_ptr_null(store.poll(store.self));
    ck_assert_ptr_null(writer_stop(writer));
}
END_TEST

START_TEST(the_descriptor_is_readable_while_finished_jobs_wait)
{
    atomic_int count = 0;
    struct store_job jobs[3] = {0};
    struct writer *writer = writer_start(number, &count);
    struct store store = writer_store(writer);
    struct pollfd wait = {.fd = writer_descriptor(writer), .events = POLLIN};
    ck_assert_int_eq(poll(&wait, 1, 0), 0);
    for (int i = 0; i < 3; i++)
        store.submit(store.self, &jobs[i]);
    while (atomic_load(&count) < 3)
        poll(NULL, 0, 1);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(poll(&wait, 1, 10000), 1);
        while (!store.poll(store.self))
            poll(NULL, 0, 1);
    }
    ck_assert_ptr_null(store.poll(store.self));
    ck_assert_int_eq(poll(&wait, 1, 0), 0);
    ck_assert_ptr_null(writer_stop(writer));
}
END_TEST

/* --- two links --- */

/* Plain memory: what may be touched by one thread at a time is found out by TSan. */
struct touched {
    int links[STORE_LINKS]; /* by the jobs of a link */
    int chain;              /* by commits */
};

static void touch(void *context, struct store_job *job)
{
    struct touched *touched = context;
    touched->links[job->link]++;
    if (job->kind == STORE_COMMIT)
        touched->chain++;
    job->known_generation++; /* the engine's, but for this while */
}

static void await_both(struct writer *writer, const struct store_job *one, const struct store_job *two)
{
    const struct store_job *first = next_job(writer);
    const struct store_job *second = next_job(writer);
    ck_assert((first == one && second == two) || (first == two && second == one));
}

/* As the engine submits: a batch is streamed beside the commit of the one before. */
START_TEST(batches_that_overlap_meet_nowhere)
{
    enum { BATCHES = 500 };
    struct touched touched = {0};
    struct store_job commits[STORE_LINKS], stream;
    struct writer *writer = writer_start(touch, &touched);
    struct store store = writer_store(writer);
    commits[1] = (struct store_job){.kind = STORE_COMMIT, .link = 1};
    store.submit(store.self, &commits[1]);
    for (int i = 0; i < BATCHES; i++) {
        int link = i % STORE_LINKS;
        stream = (struct store_job){.kind = STORE_STREAM, .link = link};
        store.submit(store.self, &stream);
        await_both(writer, &stream, &commits[1 - link]);
        commits[link] = stream;
        commits[link].kind = STORE_COMMIT;
        store.submit(store.self, &commits[link]);
    }
    ck_assert_int_eq(next_job(writer)->known_generation, 2);
    ck_assert_int_eq(touched.chain, BATCHES + 1);
    ck_assert_int_eq(touched.links[0] + touched.links[1], 2 * BATCHES + 1);
    ck_assert_ptr_null(writer_stop(writer));
}
END_TEST

static void hold_the_first_link(void *context, struct store_job *job)
{
    if (job->link == 0)
        wait_for_go(context, job);
}

START_TEST(a_link_that_is_held_up_holds_up_no_other)
{
    atomic_int go = 0;
    struct store_job held = {.link = 0}, other = {.link = 1};
    struct writer *writer = writer_start(hold_the_first_link, &go);
    struct store store = writer_store(writer);
    store.submit(store.self, &held);
    for (int i = 0; i < 100; i++) {
        store.submit(store.self, &other);
        ck_assert_ptr_eq(next_job(writer), &other);
    }
    atomic_store(&go, 1);
    ck_assert_ptr_eq(next_job(writer), &held);
    ck_assert_ptr_null(writer_stop(writer));
}
END_TEST

START_TEST(stopping_hands_back_what_waits_on_either_link)
{
    enum { JOBS = 6 };
    atomic_int go = 0;
    struct store_job jobs[JOBS] = {0};
    struct writer *writer = writer_start(wait_for_go, &go);
    struct store store = writer_store(writer);
    for (int i = 0; i < JOBS; i++) {
        jobs[i].link = i % STORE_LINKS;
        store.submit(store.self, &jobs[i]);
    }
    atomic_store(&go, 1);
    int handed_back = 0;
    for (struct store_job *left = writer_stop(writer); left; left = left->next, handed_back++)
        ck_assert_int_eq(left->status, left->known_generation == 1 ? STORE_DONE : STORE_LOST);
    ck_assert_int_eq(handed_back, JOBS);
}
END_TEST

START_TEST(stopping_hands_every_job_back_and_begins_no_other)
{
    atomic_int go = 0;
    struct store_job jobs[3] = {0};
    struct writer *writer = writer_start(wait_for_go, &go);
    struct store store = writer_store(writer);
    for (int i = 0; i < 3; i++)
        store.submit(store.self, &jobs[i]);
    atomic_store(&go, 1);
    struct store_job *left = writer_stop(writer);
    int handed_back = 0, begun = 0;
    for (; left; left = left->next, handed_back++) {
        ck_assert_ptr_eq(left, &jobs[handed_back]);
        begun += left->known_generation == 1;
        ck_assert_int_eq(left->status, left->known_generation == 1 ? STORE_DONE : STORE_LOST);
    }
    ck_assert_int_eq(handed_back, 3);
    ck_assert_int_le(begun, 3);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, jobs_are_done_in_the_order_submitted);
    tcase_add_test(tests, the_descriptor_is_readable_while_finished_jobs_wait);
    tcase_add_test(tests, batches_that_overlap_meet_nowhere);
    tcase_add_test(tests, a_link_that_is_held_up_holds_up_no_other);
    tcase_add_test(tests, stopping_hands_back_what_waits_on_either_link);
    tcase_add_test(tests, stopping_hands_every_job_back_and_begins_no_other);
}

int main(void)
{
    return run_suite("writer", add_tests);
}
