#include "keeper.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../consumer/log.h"
#include "migrate.h"
#include "owner.h"
#include "seal.h"

enum { TURN_S = 15, BACKOFF_FIRST_S = 1, BACKOFF_LAST_S = 60, LATE_S = 15 * 60, ALERT_EVERY_S = 3600 };

struct keeper {
    struct keeper_options options;
    struct pg pg;
    pthread_t thread;
    int64_t alerted_at_s; /* monotonic; 0: never */

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t stop;
    bool stopping;
    int socket; /* a duplicate of the connection's, ours to shut down; -1: none */
    struct keeper_report report;
};

static int64_t monotonic_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static bool is_stopping(struct keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    bool stopping = keeper->stopping;
    pthread_mutex_unlock(&keeper->lock);
    return stopping;
}

static void await_stop(struct keeper *keeper, int seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += seconds;
    pthread_mutex_lock(&keeper->lock);
    while (!keeper->stopping && pthread_cond_timedwait(&keeper->stop, &keeper->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&keeper->lock);
}

static void set_socket(struct keeper *keeper, int socket)
{
    pthread_mutex_lock(&keeper->lock);
    if (keeper->socket >= 0)
        close(keeper->socket);
    keeper->socket = socket;
    keeper->report.connected = socket >= 0;
    pthread_mutex_unlock(&keeper->lock);
}

static void disconnect(struct keeper *keeper)
{
    set_socket(keeper, -1);
    pg_close(&keeper->pg);
}

/* The server is to notice when we are gone in the middle of building an index; not every system lets it. */
static bool connect_owner(struct keeper *keeper)
{
    if (pg_is_open(&keeper->pg))
        return true;
    disconnect(keeper);
    if (!owner_open(&keeper->pg, keeper->options.owner_dsn, "usagebox keeper"))
        return false;
    set_socket(keeper, dup(PQsocket(keeper->pg.connection)));
    if (!pg_run(&keeper->pg, "SET client_connection_check_interval = '5s'"))
        log_debug("PostgreSQL does not watch its clients", LOG_TEXT("detail", keeper->pg.failure.detail));
    return pg_is_open(&keeper->pg);
}

static void log_said(void *nothing, const char *sentence)
{
    (void)nothing;
    log_info(sentence);
}

static void log_dropped(void *nothing, const char *table)
{
    (void)nothing;
    log_info("all lanes have adopted the seal: dropped the day's dedupe segments", LOG_TEXT("table", table));
}

/* Which partition holds the watermark back; empty if nobody can tell. */
static void name_slowest(struct pg *pg, char *out, size_t size)
{
    PG_RESULT *result = pg_query(pg,
                                 "SELECT topic || '/' || kafka_partition || ', read up to ' || "
                                 "to_char(seen_through, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') "
                                 "FROM consumer_offset ORDER BY seen_through LIMIT 1",
                                 NULL, 0);
    snprintf(out, size, "%s", result && PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
}

static void alert_late(struct keeper *keeper, const struct seal_day *day)
{
    char slowest[400];
    if (keeper->alerted_at_s != 0 && monotonic_s() - keeper->alerted_at_s < ALERT_EVERY_S)
        return;
    keeper->alerted_at_s = monotonic_s();
    name_slowest(&keeper->pg, slowest, sizeof slowest);
    log_warning("seals are delayed: keys of open days stay in memory", LOG_TEXT("day", day->date),
                LOG_INT("delay_s", day->overdue_s), LOG_TEXT("why", seal_state_why[day->state]),
                LOG_TEXT("slowest", slowest));
}

static bool seal_one(struct keeper *keeper, struct seal_day *day)
{
    log_info("sealing a day", LOG_TEXT("day", day->date));
    switch (seal_build(&keeper->pg, day)) {
    case SEAL_DONE:
        day->state = SEAL_SEALED;
        log_info("sealed", LOG_TEXT("day", day->date));
        return true;
    case SEAL_DUPLICATES:
        day->state = SEAL_MARKED;
        log_error(
            "a day holds events twice and can't be sealed: sealed_day.report lists them, retractions put "
            "the figures right",
            LOG_TEXT("day", day->date), LOG_INT("duplicates", day->duplicates));
        return true;
    case SEAL_FAILED:
        break;
    }
    return false;
}

/* Oldest first, so the first one that is late is the latest. */
static void report_days(struct keeper *keeper, const struct seal_day *days, size_t count)
{
    const struct seal_day *late = NULL;
    int64_t duplicated = 0;
    for (size_t i = 0; i < count; i++) {
        duplicated += days[i].state == SEAL_MARKED;
        if (!late && days[i].state != SEAL_SEALED && days[i].state != SEAL_MARKED &&
            days[i].overdue_s > LATE_S)
            late = &days[i];
    }
    pthread_mutex_lock(&keeper->lock);
    keeper->report.days_duplicated = duplicated;
    keeper->report.seal_delay_s = late ? late->overdue_s : 0;
    pthread_mutex_unlock(&keeper->lock);
    if (late)
        alert_late(keeper, late);
}

static bool seal_due(struct keeper *keeper, struct seal_day *days, size_t count)
{
    for (size_t i = 0; i < count && !is_stopping(keeper); i++)
        if (days[i].state == SEAL_DUE && !seal_one(keeper, &days[i]))
            return false;
    return true;
}

static bool seal_days(struct keeper *keeper)
{
    const struct seal_rules rules = {keeper->options.window_us, SEAL_IDLE_US, SEAL_RETRY_US};
    struct seal_day *days;
    size_t count;
    bool locked = false;
    if (!seal_lock(&keeper->pg, &locked))
        return false;
    bool done = seal_survey(&keeper->pg, &rules, NULL, &days, &count);
    if (done) {
        done = !locked || seal_due(keeper, days, count);
        if (done)
            report_days(keeper, days, count);
        free(days);
    }
    if (locked)
        seal_unlock(&keeper->pg);
    return done;
}

/* What fails does not keep the others from being done. */
static bool turn(struct keeper *keeper)
{
    struct pg *pg = &keeper->pg;
    if (!connect_owner(keeper))
        return false;
    bool made = migrate_partitions(pg, log_said, NULL);
    bool sealed = pg_is_open(pg) && seal_days(keeper);
    bool dropped = pg_is_open(pg) && seal_drop_segments(pg, log_dropped, NULL);
    return made && sealed && dropped;
}

static void report_turn(struct keeper *keeper)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    pthread_mutex_lock(&keeper->lock);
    keeper->report.turned_at_us = now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
    pthread_mutex_unlock(&keeper->lock);
}

static void *keep(void *self)
{
    struct keeper *keeper = self;
    int backoff_s = BACKOFF_FIRST_S;
    while (!is_stopping(keeper)) {
        if (turn(keeper)) {
            backoff_s = BACKOFF_FIRST_S;
            report_turn(keeper);
            await_stop(keeper, TURN_S);
        } else if (!is_stopping(keeper)) {
            log_warning("partitions and seals have to wait", LOG_TEXT("detail", keeper->pg.failure.detail),
                        LOG_INT("retry_in_s", backoff_s));
            disconnect(keeper);
            await_stop(keeper, backoff_s);
            backoff_s = backoff_s < BACKOFF_LAST_S / 2 ? 2 * backoff_s : BACKOFF_LAST_S;
        }
    }
    disconnect(keeper);
    return NULL;
}

static void release(struct keeper *keeper)
{
    pthread_cond_destroy(&keeper->stop);
    pthread_mutex_destroy(&keeper->lock);
    free(keeper);
}

struct keeper *keeper_start(const struct keeper_options *options)
{
    struct keeper *keeper = calloc(1, sizeof *keeper);
    pthread_condattr_t attributes;
    if (!keeper)
        return NULL;
    keeper->options = *options;
    keeper->socket = -1;
    pthread_mutex_init(&keeper->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&keeper->stop, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&keeper->thread, NULL, keep, keeper) == 0)
        return keeper;
    release(keeper);
    return NULL;
}

void keeper_stop(struct keeper *keeper)
{
    if (!keeper)
        return;
    pthread_mutex_lock(&keeper->lock);
    keeper->stopping = true;
    pthread_cond_signal(&keeper->stop);
    if (keeper->socket >= 0)
        shutdown(keeper->socket, SHUT_RDWR);
    pthread_mutex_unlock(&keeper->lock);
    pthread_join(keeper->thread, NULL);
    release(keeper);
}

struct keeper_report keeper_report(struct keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    struct keeper_report report = keeper->report;
    pthread_mutex_unlock(&keeper->lock);
    return report;
}
