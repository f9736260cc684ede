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

struct writer {
    writer_perform perform;
    void *context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wanted;
    struct job_list submitted; /* under the lock, as all that follows */
    struct job_list finished;
    bool stopping;
    int descriptor; /* an eventfd */
};

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
static struct store_job *wait_for_job(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    while (!writer->stopping && !writer->submitted.first)
        pthread_cond_wait(&writer->wanted, &writer->lock);
    struct store_job *job = writer->stopping ? NULL : pop(&writer->submitted);
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
    struct writer *writer = self;
    struct store_job *job;
    while ((job = wait_for_job(writer))) {
        int64_t began_us = system_steady_us();
        writer->perform(writer->context, job);
        job->elapsed_us = system_steady_us() - began_us;
        hand_back(writer, job);
    }
    return NULL;
}

/* Signals are the main thread's. */
static bool start_thread(struct writer *writer)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    bool started = pthread_create(&writer->thread, NULL, work, writer) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started)
        pthread_setname_np(writer->thread, "writer"); /* for top and profilers */
    return started;
}

static void writer_free(struct writer *writer)
{
    if (writer->descriptor >= 0)
        close(writer->descriptor);
    pthread_cond_destroy(&writer->wanted);
    pthread_mutex_destroy(&writer->lock);
    free(writer);
}

struct writer *writer_start(writer_perform perform, void *context)
{
    struct writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return NULL;
    *writer = (struct writer){.perform = perform, .context = context};
    writer->submitted.end = &writer->submitted.first;
    writer->finished.end = &writer->finished.first;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->wanted, NULL);
    writer->descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (writer->descriptor >= 0 && start_thread(writer))
        return writer;
    writer_free(writer);
    return NULL;
}

static void submit(void *self, struct store_job *job)
{
    struct writer *writer = self;
    pthread_mutex_lock(&writer->lock);
    push(&writer->submitted, job);
    pthread_cond_signal(&writer->wanted);
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

struct store_job *writer_stop(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->stopping = true;
    pthread_cond_signal(&writer->wanted);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    for (struct store_job *job; (job = pop(&writer->submitted));) {
        job->status = STORE_LOST;
        snprintf(job->detail, sizeof job->detail, "stopped before this was begun");
        push(&writer->finished, job);
    }
    struct store_job *left = writer->finished.first;
    writer_free(writer);
    return left;
}
