#include "chore.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../consumer/log.h"

enum { BACKOFF_FIRST_MS = 1000, BACKOFF_LAST_MS = 60000 };

struct chore {
    struct chore_options options;
    struct pg pg;
    int pause_ms; /* after this turn */
    pthread_t thread;

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t stop;
    bool stopping;
    int socket; /* a duplicate of the connection's, ours to shut down; -1: none */
};

bool chore_is_stopping(struct chore *chore)
{
    pthread_mutex_lock(&chore->lock);
    bool stopping = chore->stopping;
    pthread_mutex_unlock(&chore->lock);
    return stopping;
}

bool chore_is_connected(struct chore *chore)
{
    pthread_mutex_lock(&chore->lock);
    bool connected = chore->socket >= 0;
    pthread_mutex_unlock(&chore->lock);
    return connected;
}

void chore_hurry(struct chore *chore, int pause_ms)
{
    chore->pause_ms = pause_ms;
}

static void await_stop(struct chore *chore, int wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t nanoseconds = until.tv_nsec + wait_ms % 1000 * INT64_C(1000000);
    until.tv_sec += wait_ms / 1000 + nanoseconds / 1000000000;
    until.tv_nsec = nanoseconds % 1000000000;
    pthread_mutex_lock(&chore->lock);
    while (!chore->stopping && pthread_cond_timedwait(&chore->stop, &chore->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&chore->lock);
}

static void set_socket(struct chore *chore, int socket)
{
    pthread_mutex_lock(&chore->lock);
    if (chore->socket >= 0)
        close(chore->socket);
    chore->socket = socket;
    pthread_mutex_unlock(&chore->lock);
}

static void disconnect(struct chore *chore)
{
    set_socket(chore, -1);
    pg_close(&chore->pg);
}

/* The server is to notice when we are gone in the middle of a long statement; not every system lets it. */
static bool reconnect(struct chore *chore)
{
    struct pg *pg = &chore->pg;
    if (pg_is_open(pg))
        return true;
    disconnect(chore);
    if (!chore->options.open(pg, chore->options.dsn, chore->options.name))
        return false;
    set_socket(chore, dup(PQsocket(pg->connection)));
    if (!pg_run(pg, "SET client_connection_check_interval = '5s'"))
        log_debug("PostgreSQL does not watch its clients", LOG_TEXT("detail", pg->failure.detail));
    return pg_is_open(pg);
}

static void *work(void *self)
{
    struct chore *chore = self;
    int backoff_ms = BACKOFF_FIRST_MS;
    while (!chore_is_stopping(chore)) {
        chore->pause_ms = chore->options.pause_ms;
        if (reconnect(chore) && chore->options.turn(chore->options.self, chore, &chore->pg)) {
            backoff_ms = BACKOFF_FIRST_MS;
            await_stop(chore, chore->pause_ms);
        } else if (!chore_is_stopping(chore)) {
            log_warning("work beside the pipeline has to wait", LOG_TEXT("which", chore->options.name),
                        LOG_TEXT("detail", chore->pg.failure.detail), LOG_INT("retry_in_ms", backoff_ms));
            disconnect(chore);
            await_stop(chore, backoff_ms);
            backoff_ms = backoff_ms < BACKOFF_LAST_MS / 2 ? 2 * backoff_ms : BACKOFF_LAST_MS;
        }
    }
    disconnect(chore);
    return NULL;
}

static void release(struct chore *chore)
{
    pthread_cond_destroy(&chore->stop);
    pthread_mutex_destroy(&chore->lock);
    free(chore);
}

struct chore *chore_start(const struct chore_options *options)
{
    struct chore *chore = calloc(1, sizeof *chore);
    pthread_condattr_t attributes;
    if (!chore)
        return NULL;
    chore->options = *options;
    chore->socket = -1;
    pthread_mutex_init(&chore->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&chore->stop, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&chore->thread, NULL, work, chore) == 0)
        return chore;
    release(chore);
    return NULL;
}

void chore_stop(struct chore *chore)
{
    if (!chore)
        return;
    pthread_mutex_lock(&chore->lock);
    chore->stopping = true;
    pthread_cond_signal(&chore->stop);
    if (chore->socket >= 0)
        shutdown(chore->socket, SHUT_RDWR);
    pthread_mutex_unlock(&chore->lock);
    pthread_join(chore->thread, NULL);
    release(chore);
}
