#include "writer.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../consumer/system_clock.h"

struct job_list {
    struct store_job *first;
    struct store_job **end;
};

struct worker { /* of one link */
    struct writer *writer;
    pthread_t thread;
    bool started;
    pthread_cond_t wanted;
    struct job_list submitted; /* under the writer's lock */
};

struct writer {
    writer_perform perform;
    void *context;
    struct worker workers[STORE_LINKS];
    pthread_mutex_t lock;
    struct job_list finished; /* under the lock, as is `stopping` */
    bool stopping;
    int descriptor; /* an eventfd */
};

static void clear(struct job_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static void push(struct job_list *list, struct store_job *job)
{
    job->next = NULL;
    *list->end = job;
    list->end = &job->next;
}

static struct store_job *pop(struct job_list *list)
{
    struct store_job *job = list->first;
    if (!job)
        return NULL;
    list->first = job->next;
    if (!list->first)
        list->end = &list->first;
    job->next = NULL;
    return job;
}

/* NULL: the writer is being stopped. */
static struct store_job *wait_for_job(struct worker *worker)
{
    struct writer *writer = worker->writer;
    pthread_mutex_lock(&writer->lock);
    while (!writer->stopping && !worker->submitted.first)
        pthread_cond_wait(&worker->wanted, &writer->lock);
    struct store_job *job = writer->stopping ? NULL : pop(&worker->submitted);
    pthread_mutex_unlock(&writer->lock);
    return job;
}

/* The counter of an eventfd overflows at 2^64 - 1, so this write can only fail when a signal cuts in. */
static void wake(struct writer *writer)
{
    const uint64_t one = 1;
    while (write(writer->descriptor, &one, sizeof one) < 0)
        continue;
}

static void hand_back(struct writer *writer, struct store_job *job)
{
    pthread_mutex_lock(&writer->lock);
    push(&writer->finished, job);
    pthread_mutex_unlock(&writer->lock);
    wake(writer);
}

static void *work(void *self)
{
    struct worker *worker = self;
    struct writer *writer = worker->writer;
    struct store_job *job;
    while ((job = wait_for_job(worker))) {
        int64_t began_us = system_steady_us();
        writer->perform(writer->context, job);
        job->elapsed_us = system_steady_us() - began_us;
        hand_back(writer, job);
    }
    return NULL;
}

static void init_worker(struct writer *writer, struct worker *worker)
{
    worker->writer = writer;
    clear(&worker->submitted);
    pthread_cond_init(&worker->wanted, NULL);
}

/* Signals are the main thread's. */
static bool start_worker(struct worker *worker)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    worker->started = pthread_create(&worker->thread, NULL, work, worker) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (worker->started)
        pthread_setname_np(worker->thread, "writer"); /* for top and profilers */
    return worker->started;
}

static void stop_workers(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->stopping = true;
    for (size_t i = 0; i < STORE_LINKS; i++)
        pthread_cond_signal(&writer->workers[i].wanted);
    pthread_mutex_unlock(&writer->lock);
    for (size_t i = 0; i < STORE_LINKS; i++)
        if (writer->workers[i].started)
            pthread_join(writer->workers[i].thread, NULL);
}

static void writer_free(struct writer *writer)
{
    if (writer->descriptor >= 0)
        close(writer->descriptor);
    for (size_t i = 0; i < STORE_LINKS; i++)
        pthread_cond_destroy(&writer->workers[i].wanted);
    pthread_mutex_destroy(&writer->lock);
    free(writer);
}

struct writer *writer_start(writer_perform perform, void *context)
{
    struct writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return NULL;
    writer->perform = perform;
    writer->context = context;
    clear(&writer->finished);
    pthread_mutex_init(&writer->lock, NULL);
    for (size_t i = 0; i < STORE_LINKS; i++)
        init_worker(writer, &writer->workers[i]);
    writer->descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool started = writer->descriptor >= 0;
    for (size_t i = 0; started && i < STORE_LINKS; i++)
        started = start_worker(&writer->workers[i]);
    if (started)
        return writer;
    stop_workers(writer);
    writer_free(writer);
    return NULL;
}

static void submit(void *self, struct store_job *job)
{
    struct writer *writer = self;
    struct worker *worker = &writer->workers[job->link];
    pthread_mutex_lock(&writer->lock);
    push(&worker->submitted, job);
    pthread_cond_signal(&worker->wanted);
    pthread_mutex_unlock(&writer->lock);
}

/* The descriptor is emptied before the list is found empty: a job finished in between leaves it readable. */
static struct store_job *poll_finished(void *self)
{
    struct writer *writer = self;
    uint64_t count;
    ssize_t emptied = read(writer->descriptor, &count, sizeof count);
    pthread_mutex_lock(&writer->lock);
    struct store_job *job = pop(&writer->finished);
    bool more = writer->finished.first;
    pthread_mutex_unlock(&writer->lock);
    if (more && emptied > 0)
        wake(writer);
    return job;
}

struct store writer_store(struct writer *writer)
{
    return (struct store){.submit = submit, .poll = poll_finished, .self = writer};
}

int writer_descriptor(const struct writer *writer)
{
    return writer->descriptor;
}

static void give_back(struct writer *writer, struct worker *worker)
{
    for (struct store_job *job; (job = pop(&worker->submitted));) {
        job->status = STORE_LOST;
        snprintf(job->detail, sizeof job->detail, "stopped before this was begun");
        push(&writer->finished, job);
    }
}

struct store_job *writer_stop(struct writer *writer)
{
    stop_workers(writer);
    for (size_t i = 0; i < STORE_LINKS; i++)
        give_back(writer, &writer->workers[i]);
    struct store_job *left = writer->finished.first;
    writer_free(writer);
    return left;
}
