#include "keeper.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "../consumer/log.h"
#include "chore.h"
#include "migrate.h"
#include "old_counters.h"
#include "owner.h"
#include "repartition.h"
#include "seal.h"
#include "../consumer/system_clock.h"

enum { PAUSE_MS = 15000, REPARTITION_PAUSE_MS = 1000, LATE_S = 15 * 60, ALERT_EVERY_S = 3600 };
enum { COUNTERS_EVERY_S = 3600, COUNTERS_TRIES = 20 };

struct keeper {
    struct keeper_options options;
    struct chore *chore;
    int64_t alerted_at_s;  /* monotonic; 0: never */
    int64_t counters_at_s; /* likewise: when no old counters were left */

    pthread_mutex_t lock;
    struct keeper_report report;
};

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
    PG_RESULT *result =
        pg_query(pg,
                 "SELECT topic || '/' || kafka_partition || ', read up to ' || "
                 "to_char(seen_through, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') "
                 "FROM consumer_offset WHERE retired_at IS NULL ORDER BY seen_through LIMIT 1",
                 NULL, 0);
    snprintf(out, size, "%s", result && PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
}

static void alert_late(struct keeper *keeper, struct pg *pg, const struct seal_day *day)
{
    char slowest[400];
    int64_t now_s = system_steady_us() / 1000000;
    if (keeper->alerted_at_s != 0 && now_s - keeper->alerted_at_s < ALERT_EVERY_S)
        return;
    keeper->alerted_at_s = now_s;
    name_slowest(pg, slowest, sizeof slowest);
    log_warning("seals are delayed: keys of open days stay in memory", LOG_TEXT("day", day->date),
                LOG_INT("delay_s", day->overdue_s), LOG_TEXT("why", seal_state_why[day->state]),
                LOG_TEXT("slowest", slowest));
}

static bool seal_one(struct pg *pg, struct seal_day *day)
{
    log_info("sealing a day", LOG_TEXT("day", day->date));
    switch (seal_build(pg, day)) {
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
static void report_days(struct keeper *keeper, struct pg *pg, const struct seal_day *days, size_t count)
{
    const struct seal_day *late = NULL;
    int64_t duplicated = 0, unsealed = 0;
    for (size_t i = 0; i < count; i++) {
        duplicated += days[i].duplicates > 0 && days[i].state != SEAL_SEALED;
        unsealed += days[i].state != SEAL_SEALED && days[i].state != SEAL_NOT_OVER;
        if (!late && days[i].state == SEAL_UNREAD && days[i].overdue_s > LATE_S)
            late = &days[i];
    }
    pthread_mutex_lock(&keeper->lock);
    keeper->report.days_duplicated = duplicated;
    keeper->report.days_unsealed = unsealed;
    keeper->report.seal_delay_s = late ? late->overdue_s : 0;
    pthread_mutex_unlock(&keeper->lock);
    if (late)
        alert_late(keeper, pg, late);
}

static bool seal_due(struct chore *chore, struct pg *pg, struct seal_day *days, size_t count)
{
    for (size_t i = 0; i < count && !chore_is_stopping(chore); i++)
        if (days[i].state == SEAL_DUE && !seal_one(pg, &days[i]))
            return false;
    return true;
}

static bool seal_days(struct keeper *keeper, struct chore *chore, struct pg *pg)
{
    const struct seal_rules rules = {keeper->options.window_us, SEAL_IDLE_US, SEAL_BUSY_US, SEAL_RETRY_US};
    struct seal_day *days;
    size_t count;
    bool locked = false;
    if (!seal_lock(pg, &locked))
        return false;
    bool done = seal_survey(pg, &rules, NULL, &days, &count);
    if (done) {
        done = !locked || seal_due(chore, pg, days, count);
        if (done)
            report_days(keeper, pg, days, count);
        free(days);
    }
    if (locked)
        seal_unlock(pg);
    return done;
}

static void report_turn(struct keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->report.turned_at_us = system_wall_us();
    pthread_mutex_unlock(&keeper->lock);
}

/* Lanes stand still meanwhile. */
static bool rehome_lanes(struct chore *chore, struct pg *pg)
{
    struct repartition_progress progress;
    if (!repartition_advance(pg, &progress))
        return false;
    if (progress.under_way)
        chore_hurry(chore, REPARTITION_PAUSE_MS);
    if (progress.done)
        log_info("all lanes have come to their ends: customers are re-homed",
                 LOG_INT("from", progress.from_count), LOG_INT("to", progress.to_count));
    return true;
}

/* What is left goes with the next turn, so that seals don't wait. */
static bool drop_counters(struct keeper *keeper, struct chore *chore, struct pg *pg)
{
    int64_t now_s = system_steady_us() / 1000000;
    bool left = true;
    if (keeper->counters_at_s != 0 && now_s - keeper->counters_at_s < COUNTERS_EVERY_S)
        return true;
    for (int i = 0; i < COUNTERS_TRIES && left && !chore_is_stopping(chore); i++)
        if (!old_counters_drop(pg, &left))
            return false;
    if (!left)
        keeper->counters_at_s = now_s;
    return true;
}

/* What fails does not keep the others from being done. */
static bool turn(void *self, struct chore *chore, struct pg *pg)
{
    struct keeper *keeper = self;
    bool made = migrate_partitions(pg, log_said, NULL);
    bool rehomed = pg_is_open(pg) && rehome_lanes(chore, pg);
    bool sealed = pg_is_open(pg) && seal_days(keeper, chore, pg);
    bool dropped = pg_is_open(pg) && seal_drop_segments(pg, log_dropped, NULL);
    bool counters = pg_is_open(pg) && drop_counters(keeper, chore, pg);
    bool done = made && rehomed && sealed && dropped && counters;
    if (done)
        report_turn(keeper);
    return done;
}

struct keeper *keeper_start(const struct keeper_options *options)
{
    struct keeper *keeper = calloc(1, sizeof *keeper);
    if (!keeper)
        return NULL;
    keeper->options = *options;
    pthread_mutex_init(&keeper->lock, NULL);
    const struct chore_options chore = {.name = "usagebox keeper",
                                        .open = owner_open,
                                        .dsn = options->owner_dsn,
                                        .pause_ms = PAUSE_MS,
                                        .turn = turn,
                                        .self = keeper};
    keeper->chore = chore_start(&chore);
    if (keeper->chore)
        return keeper;
    keeper_stop(keeper);
    return NULL;
}

void keeper_stop(struct keeper *keeper)
{
    if (!keeper)
        return;
    chore_stop(keeper->chore);
    pthread_mutex_destroy(&keeper->lock);
    free(keeper);
}

struct keeper_report keeper_report(struct keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    struct keeper_report report = keeper->report;
    pthread_mutex_unlock(&keeper->lock);
    report.connected = chore_is_connected(keeper->chore);
    return report;
}
