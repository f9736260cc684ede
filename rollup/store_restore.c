/* What lanes remember, read back in the takeover's snapshot: keys of open days, counters, states, pending
 * events. Big results are read row by row. */
#include "postgres_store_parts.h"

#include "../consumer/dedupe_loader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct restoring {
    struct store_link *link;
    struct store_job *job;
    uint16_t day; /* of the segments being read; 0: something else is */
    bool lacks;   /* the former keys that the engine has do not serve */
    struct dedupe_loader *loader;
    size_t *own_keys; /* by index in job->lanes: how many there are to restore */
    size_t former_keys;
};

static bool no_memory(struct restoring *r)
{
    return pg_fail(&r->link->pg, PG_PASSING, "out of memory");
}

/* NULL: kept as it is, or not ours. */
static struct store_lane *lane_of(const struct restoring *r, int32_t number)
{
    for (size_t i = 0; i < r->job->lane_count; i++)
        if (r->job->lanes[i].lane == number)
            return r->job->lanes[i].kept ? NULL : &r->job->lanes[i];
    return NULL;
}

static bool is_sealed(const struct store_lane *lane, uint16_t day)
{
    for (size_t i = 0; i < lane->sealed_day_count; i++)
        if (lane->sealed_days[i] == day)
            return true;
    return false;
}

/* The lanes to restore; of a segment's day, those for which it is open. */
static void put_lanes(struct pg_columns *c, const struct restoring *r)
{
    pg_columns_begin(c, "i");
    for (size_t i = 0; i < r->job->lane_count; i++) {
        const struct store_lane *lane = &r->job->lanes[i];
        if (!lane->kept && !(r->day && is_sealed(lane, r->day)))
            pg_put_int4(c, lane->lane);
    }
}

/* sql: $1 is an array of the lanes. With none left, nothing is asked: a day that all have adopted may have no
 * table any more. */
static bool each(struct restoring *r, const char *sql, bool (*row)(void *context, const PGresult *result))
{
    struct pg_columns lanes;
    put_lanes(&lanes, r);
    bool ok = (lanes.rows == 0 && !lanes.no_memory) || pg_columns_each(&r->link->pg, sql, &lanes, row, r);
    pg_columns_free(&lanes);
    if (!ok && r->link->pg.failure.trouble == PG_FINE)
        return no_memory(r);
    return ok;
}

static bool make_lanes(struct restoring *r)
{
    for (size_t i = 0; i < r->job->lane_count; i++) {
        struct store_lane *lane = &r->job->lanes[i];
        if (lane->kept)
            continue;
        lane->dedupe = dedupe_new();
        lane->book = ceiling_book_new(lane->lane, r->link->store->seed);
        if (!lane->dedupe || !lane->book)
            return no_memory(r);
    }
    return true;
}

/* --- seals and ceilings adopted --- */

static bool add_sealed_day(void *context, const PGresult *result)
{
    struct restoring *r = context;
    struct store_lane *lane = lane_of(r, pg_int4(result, 0, 0));
    uint16_t *days = arena_alloc(lane->arena, (lane->sealed_day_count + 1) * sizeof *days);
    if (!days)
        return no_memory(r);
    if (lane->sealed_day_count > 0)
        memcpy(days, lane->sealed_days, lane->sealed_day_count * sizeof *days);
    days[lane->sealed_day_count++] = pg_day(result, 0, 1);
    lane->sealed_days = days;
    return true;
}

static bool set_generation(void *context, const PGresult *result)
{
    lane_of(context, pg_int4(result, 0, 0))->ceilings_generation = pg_int8(result, 0, 1);
    return true;
}

/* --- dedupe --- */

/* What was written meanwhile is not in the snapshot, what was counted can't be fewer. */
static void note_restored(struct restoring *r, size_t keys)
{
    uint64_t remaining = atomic_load(&r->link->store->remaining_keys);
    atomic_fetch_add(&r->link->store->restored_keys, keys);
    atomic_store(&r->link->store->remaining_keys, keys < remaining ? remaining - keys : 0);
}

static size_t note_remaining(struct restoring *r, int64_t size_bytes)
{
    size_t keys = (size_t)size_bytes / DEDUPE_SEGMENT_BYTES;
    atomic_fetch_add(&r->link->store->remaining_keys, keys);
    return keys;
}

static bool note_own(void *context, const PGresult *result)
{
    struct restoring *r = context;
    const struct store_lane *lane = lane_of(r, pg_int4(result, 0, 0));
    r->own_keys[lane - r->job->lanes] += note_remaining(r, pg_int8(result, 0, 1));
    return true;
}

static bool note_former(void *context, const PGresult *result)
{
    struct restoring *r = context;
    r->former_keys = note_remaining(r, pg_int8(result, 0, 0));
    return true;
}

static bool load(struct restoring *r, struct dedupe *dedupe, struct text keys)
{
    return dedupe_loader_add(r->loader, dedupe, r->day, (const uint8_t *)keys.bytes, keys.length) ||
           no_memory(r);
}

static bool add_segment(void *context, const PGresult *result)
{
    struct restoring *r = context;
    struct store_lane *lane = lane_of(r, pg_int4(result, 0, 0));
    struct text keys = pg_text(result, 0, 1);
    if (keys.length % DEDUPE_SEGMENT_BYTES != 0)
        return pg_fail(&r->link->pg, PG_OTHER, "a dedupe segment of lane %d is damaged", lane->lane);
    note_restored(r, keys.length / DEDUPE_SEGMENT_BYTES);
    return load(r, lane->dedupe, keys);
}

/* Days that all lanes have adopted have no table any more. */
static PGresult *list_segment_days(struct store_link *link)
{
    return pg_query(
        &link->pg,
        "SELECT to_date(right(relname, 8), 'YYYYMMDD') FROM pg_class WHERE relkind = 'r' AND relnamespace = "
        "'public'::regnamespace AND relname ~ '^dedupe_segment_[0-9]{8}$' ORDER BY 1",
        NULL, 0);
}

/* What lies before the lanes were re-homed is everybody's: restore_former(). */
static bool each_own(struct restoring *r, const char *column, const char *by_lane,
                     bool (*row)(void *context, const PGresult *result))
{
    char table[STORE_NAME_BYTES], sql[240];
    store_day_name(table, "dedupe_segment", r->day);
    snprintf(sql, sizeof sql, "SELECT lane, %s FROM %s WHERE lane = ANY ($1) AND batch_id > %" PRId64 " %s",
             column, table, r->job->settings.rehomed_batch, by_lane);
    return each(r, sql, row);
}

static bool restore_own(struct restoring *r)
{
    return each_own(r, "keys", "ORDER BY lane", add_segment);
}

#define SUM_BYTES "coalesce(sum(octet_length(keys)), 0)::bigint" /* keys are not read for it */

static bool count_own(struct restoring *r)
{
    return each_own(r, SUM_BYTES, "GROUP BY lane", note_own);
}

static bool finish_loading(struct restoring *r)
{
    return dedupe_loader_finish(r->loader) || no_memory(r);
}

static bool reserve_own(struct restoring *r)
{
    for (size_t i = 0; i < r->job->lane_count; i++)
        if (!r->job->lanes[i].kept && !dedupe_reserve(r->job->lanes[i].dedupe, r->own_keys[i]))
            return no_memory(r);
    return true;
}

static bool add_former(void *context, const PGresult *result)
{
    struct restoring *r = context;
    struct text keys = pg_text(result, 0, 0);
    if (keys.length % DEDUPE_SEGMENT_BYTES != 0)
        return pg_fail(&r->link->pg, PG_OTHER, "a dedupe segment of %d is damaged", r->day);
    note_restored(r, keys.length / DEDUPE_SEGMENT_BYTES);
    return load(r, r->job->former->keys, keys);
}

static bool is_open_for_any(const struct restoring *r)
{
    for (size_t i = 0; i < r->job->lane_count; i++)
        if (!r->job->lanes[i].kept && !is_sealed(&r->job->lanes[i], r->day))
            return true;
    return false;
}

/* sql: $1 is an array of the batch before which keys are everybody's. */
static bool each_former(struct restoring *r, const char *sql,
                        bool (*row)(void *context, const PGresult *result))
{
    struct pg_columns batch;
    pg_columns_begin(&batch, "j");
    pg_put_int8(&batch, r->job->settings.rehomed_batch);
    bool ok = pg_columns_each(&r->link->pg, sql, &batch, row, r);
    pg_columns_free(&batch);
    if (!ok && r->link->pg.failure.trouble == PG_FINE)
        return no_memory(r);
    return ok;
}

/* A day that is open for some lane here keeps its table as long as we look. */
static bool load_former_day(struct restoring *r)
{
    struct former *former = r->job->former;
    char table[STORE_NAME_BYTES], sql[160], sum[160];
    store_day_name(table, "dedupe_segment", r->day);
    snprintf(sql, sizeof sql, "SELECT keys FROM %s WHERE batch_id < ALL ($1)", table);
    snprintf(sum, sizeof sum, "SELECT " SUM_BYTES " FROM %s WHERE batch_id < ALL ($1)", table);
    if (!is_open_for_any(r))
        return true;
    if (!each_former(r, sum, note_former))
        return false;
    if (!dedupe_reserve(former->keys, r->former_keys))
        return no_memory(r);
    if (!each_former(r, sql, add_former) || !finish_loading(r))
        return false;
    return dedupe_day_count(former->keys, r->day) == 0 || former_add_day(former, r->day) || no_memory(r);
}

static bool note_lack(void *context, const PGresult *result)
{
    struct restoring *r = context;
    r->lacks = r->lacks || pg_bool(result, 0, 0);
    return true;
}

static bool look_for_day(struct restoring *r)
{
    const struct former *known = r->job->former_known;
    char table[STORE_NAME_BYTES], sql[160];
    store_day_name(table, "dedupe_segment", r->day);
    snprintf(sql, sizeof sql, "SELECT EXISTS (SELECT FROM %s WHERE batch_id < ALL ($1))", table);
    bool there = false;
    for (size_t i = 0; i < known->day_count; i++)
        there = there || known->days[i] == r->day;
    return there || !is_open_for_any(r) || each_former(r, sql, note_lack);
}

static bool each_day(struct restoring *r, const PGresult *days, bool (*day)(struct restoring *r))
{
    for (int row = 0; row < PQntuples(days); row++) {
        r->day = pg_day(days, row, 0);
        if (!day(r))
            return false;
    }
    r->day = 0;
    return true;
}

/* What the engine has serves if it holds the keys of all days that are open for some lane here. */
static bool restore_former(struct restoring *r, const PGresult *days)
{
    const struct former *known = r->job->former_known;
    int64_t batch = r->job->settings.rehomed_batch;
    if (batch == 0)
        return true;
    r->lacks = !known || known->batch != batch;
    if (!r->lacks && !each_day(r, days, look_for_day))
        return false;
    if (!r->lacks)
        return true;
    r->job->former = former_new(batch);
    if (!r->job->former)
        return no_memory(r);
    if (!each_day(r, days, load_former_day))
        return false;
    if (r->job->former->day_count == 0) {
        former_release(r->job->former);
        r->job->former = NULL;
    }
    return true;
}

static bool load_keys(struct restoring *r)
{
    PG_RESULT *days = list_segment_days(r->link);
    return days && each_day(r, days, count_own) && reserve_own(r) && each_day(r, days, restore_own) &&
           finish_loading(r) && restore_former(r, days);
}

static bool restore_keys(struct restoring *r)
{
    r->loader = dedupe_loader_new();
    r->own_keys = calloc(r->job->lane_count, sizeof *r->own_keys);
    atomic_store(&r->link->store->remaining_keys, 0);
    bool restored = r->loader && r->own_keys ? load_keys(r) : no_memory(r);
    atomic_store(&r->link->store->remaining_keys, 0);
    free(r->own_keys);
    dedupe_loader_free(r->loader);
    return restored;
}

/* --- ceilings --- */

static int index_of(struct text name, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (text_equal(name, text_of(names[i])))
            return i;
    return -1;
}

static bool is_current(const struct restoring *r, const struct store_lane *lane)
{
    const struct ceiling_catalogue *newest = r->job->catalogue;
    return lane->ceilings_generation == (newest ? newest->generation : r->job->known_generation);
}

/* Lanes go on deciding by what they have adopted until they adopt what is in force now. */
static bool read_adopted(struct restoring *r)
{
    for (size_t i = 0; i < r->job->lane_count; i++) {
        struct store_lane *lane = &r->job->lanes[i];
        if (!lane->kept && lane->ceilings_generation > 0 && !is_current(r, lane) &&
            !store_read_catalogue(r->link, lane->ceilings_generation, &lane->adopted))
            return false;
    }
    return true;
}

static bool add_counter(void *context, const PGresult *result)
{
    struct restoring *r = context;
    struct store_lane *lane = lane_of(r, pg_int4(result, 0, 0));
    if (!is_current(r, lane) && !lane->adopted)
        return true;
    int period = index_of(pg_text(result, 0, 3), ceiling_period_names, PERIOD_COUNT);
    struct ceiling_counter counter = {
        .customer_id = pg_text(result, 0, 1),
        .meter = pg_text(result, 0, 2),
        .period = (enum ceiling_period)period,
        .scope = pg_text(result, 0, 4),
        .period_start_us = pg_time_us(result, 0, 5),
    };
    if (period < 0 || !pg_numeric(result, 0, 6, &counter.used))
        return pg_fail(&r->link->pg, PG_OTHER,
                       "ceiling_usage holds a row that this program can't read, of lane %d", lane->lane);
    return ceiling_book_restore_counter(lane->book, &counter) || no_memory(r);
}

static bool add_state(void *context, const PGresult *result)
{
    struct restoring *r = context;
    struct store_lane *lane = lane_of(r, pg_int4(result, 0, 0));
    struct ceiling_state state = {
        .customer_id = pg_text(result, 0, 1),
        .ceiling = pg_text(result, 0, 2),
        .scope = pg_text(result, 0, 3),
        .period_start_us = pg_time_us(result, 0, 4),
        .period_end_us = pg_time_us(result, 0, 5),
        .version = pg_int8(result, 0, 6),
        .transition = pg_int8(result, 0, 7),
        .active = pg_bool(result, 0, 8),
        .flag = pg_text(result, 0, 10),
    };
    snprintf(state.decision_id, sizeof state.decision_id, "%s", PQgetvalue(result, 0, 9));
    return ceiling_book_restore_state(lane->book, &state) || no_memory(r);
}

/* A period's counters are needed as long as its events are counted; a day more for clocks that disagree. A
 * state that is still active has to be cleared, however old. */
static bool restore_ceilings(struct restoring *r)
{
    char counters[512], states[700], since[64];
    snprintf(since, sizeof since, "> now() - interval '%lld seconds' - interval '1 day'",
             (long long)(CEILING_COUNTED_US / 1000000));
    snprintf(counters, sizeof counters,
             "SELECT lane, customer_id, meter, period, scope, period_start, used FROM ceiling_usage WHERE "
             "lane = ANY "
             "($1) AND period_start + ('1 ' || period)::interval %s",
             since);
    snprintf(
        states, sizeof states,
        "SELECT s.lane, s.customer_id, s.ceiling, s.scope, s.period_start, s.period_end, s.version, "
        "s.transition, "
        "s.active, s.decision_id, coalesce((d.decision_trace->'flag')::text, '') FROM ceiling_state s LEFT "
        "JOIN "
        "policy_decision d USING (decision_id) WHERE s.lane = ANY ($1) AND (s.active OR s.period_end %s)",
        since);
    return each(r, counters, add_counter) && each(r, states, add_state);
}

/* --- events of sealed days that no ceiling has counted yet --- */

static bool read_pending(const PGresult *result, struct arena *arena, struct event *event)
{
    struct text *const texts[] = {&event->customer_id,
                                  &event->event_id,
                                  &event->meter,
                                  &event->model,
                                  &event->lifted[LIFTED_USER_ID],
                                  &event->lifted[LIFTED_AGENT_ID],
                                  &event->plan_tier};
    for (int i = 0; i < (int)(sizeof texts / sizeof *texts); i++) {
        *texts[i] = arena_text(arena, pg_text(result, 0, 4 + i));
        if (!texts[i]->bytes)
            return false;
    }
    event->time_us = pg_time_us(result, 0, 12);
    event->has_credit_balance =
        !PQgetisnull(result, 0, 13) && pg_numeric(result, 0, 13, &event->credit_balance);
    event->has_contractual_cap =
        !PQgetisnull(result, 0, 14) && pg_numeric(result, 0, 14, &event->contractual_cap);
    return true;
}

static bool add_pending(void *context, const PGresult *result)
{
    struct restoring *r = context;
    struct store_lane *lane = lane_of(r, pg_int4(result, 0, 0));
    struct store_pending pending = {.partition = pg_int4(result, 0, 2), .offset = pg_int8(result, 0, 3)};
    if (!store_topic_index(r->link, pg_text(result, 0, 1), &pending.topic))
        return true;
    if (!pg_numeric(result, 0, 11, &pending.event.quantity))
        return pg_fail(&r->link->pg, PG_OTHER,
                       "ceiling_pending holds a row that this program can't read, of lane %d", lane->lane);
    /* Twice as much room at each power of two. */
    if ((lane->pending_count & (lane->pending_count - 1)) == 0) {
        size_t capacity = lane->pending_count ? 2 * lane->pending_count : 1;
        struct store_pending *grown = arena_alloc(lane->arena, capacity * sizeof *grown);
        if (!grown)
            return no_memory(r);
        if (lane->pending_count > 0)
            memcpy(grown, lane->pending, lane->pending_count * sizeof *grown);
        lane->pending = grown;
    }
    if (!read_pending(result, lane->arena, &pending.event))
        return no_memory(r);
    lane->pending[lane->pending_count++] = pending;
    return true;
}

bool store_restore(struct store_link *link, struct store_job *job)
{
    struct restoring r = {.link = link, .job = job};
    return make_lanes(&r) &&
           each(&r, "SELECT lane, day FROM sealed_day_adoption WHERE lane = ANY ($1) ORDER BY day",
                add_sealed_day) &&
           each(&r, "SELECT lane, generation FROM ceiling_adoption WHERE lane = ANY ($1)", set_generation) &&
           read_adopted(&r) && restore_keys(&r) && restore_ceilings(&r) &&
           each(&r,
                "SELECT lane, topic, kafka_partition, kafka_offset, customer_id, event_id, meter, model, "
                "user_id, "
                "agent_id, plan_tier, quantity, event_time, credit_balance, contractual_cap FROM "
                "ceiling_pending WHERE "
                "lane = ANY ($1) ORDER BY topic, kafka_partition, kafka_offset",
                add_pending);
}
