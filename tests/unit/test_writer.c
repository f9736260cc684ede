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
    tcase_add_test(tests, stopping_hands_every_job_back_and_begins_no_other);
}

int main(void)
{
    return run_suite("writer", add_tests);
}
