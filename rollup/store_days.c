/* Partitions, made as their owner over a passing connection of its own: DDL inside a batch's transaction
 * would hold its locks until the batch commits. */
#include "postgres_store_parts.h"

#include <stdio.h>
#include <time.h>

#include "../consumer/log.h"

#define AHEAD_EVERY_US (INT64_C(3600) * 1000000)
#define AHEAD_AGAIN_US (INT64_C(600) * 1000000)

void store_day_name(char name[STORE_NAME_BYTES], const char *prefix, uint16_t day)
{
    time_t seconds = (time_t)day * 86400;
    struct tm date;
    char digits[16];
    gmtime_r(&seconds, &date);
    strftime(digits, sizeof digits, "%Y%m%d", &date);
    snprintf(name, STORE_NAME_BYTES, "%s_%s", prefix, digits);
}

void store_forget_day(struct postgres_store *store, uint16_t day)
{
    store->days[day / 8] &= (uint8_t) ~(1u << (day % 8));
}

static bool query_as_owner(struct postgres_store *store, const char *sql, const char *parameter)
{
    struct pg owner = {0};
    PGresult *result = NULL;
    if (pg_open(&owner, store->options.owner_dsn, "usagebox partitions") &&
        pg_run(&owner, "SET ROLE usagebox_owner"))
        result = pg_query(&owner, sql, &parameter, parameter ? 1 : 0);
    if (!result)
        store->pg.failure = owner.failure;
    PQclear(result);
    pg_close(&owner);
    return result;
}

static bool is_there(struct postgres_store *store, const char *name, bool *there)
{
    PG_RESULT *result = pg_query(&store->pg, "SELECT to_regclass($1) IS NOT NULL", &name, 1);
    if (result)
        *there = pg_bool(result, 0, 0);
    return result;
}

bool store_need_day(struct postgres_store *store, uint16_t day)
{
    if (store_day_has(store->days, day))
        return true;
    char leaf[STORE_NAME_BYTES];
    bool there = false;
    store_day_name(leaf, "usage_event", day);
    if (!is_there(store, leaf, &there))
        return false;
    if (!there && !query_as_owner(store, "SELECT usagebox_make_day(to_date($1, 'YYYYMMDD'))",
                                  leaf + sizeof "usage_event_" - 1))
        return false;
    store_day_put(store->days, day);
    return true;
}

bool store_make_months(struct postgres_store *store)
{
    return query_as_owner(store,
                          "SELECT usagebox_make_month((now() AT TIME ZONE 'UTC')::date), "
                          "usagebox_make_month((now() AT TIME ZONE 'UTC' + interval '1 month')::date)",
                          NULL);
}

/* Asked without the owner's rights first: where somebody else makes partitions, none are needed here. */
static bool any_is_missing(struct postgres_store *store, bool *missing)
{
    PG_RESULT *result =
        pg_query(&store->pg,
                 "SELECT bool_or(to_regclass('usage_event_' || to_char(now() AT TIME ZONE 'UTC' + n * "
                 "interval '1 day', "
                 "'YYYYMMDD')) IS NULL) OR bool_or(to_regclass('batch_ledger_' || "
                 "to_char(date_trunc('month', now() AT "
                 "TIME ZONE 'UTC') + greatest(n, 0) / 2 * interval '1 month', 'YYYYMM')) IS NULL) "
                 "FROM generate_series(-1, 2) n",
                 NULL, 0);
    if (result)
        *missing = pg_bool(result, 0, 0);
    return result;
}

static bool make_ahead(struct postgres_store *store)
{
    bool missing = false;
    return any_is_missing(store, &missing) &&
           (!missing ||
            (store_make_months(store) && query_as_owner(store,
                                                        "SELECT usagebox_make_day((now() AT TIME ZONE "
                                                        "'UTC')::date + n) FROM generate_series(-1, 2) n",
                                                        NULL)));
}

void store_look_ahead(struct postgres_store *store)
{
    int64_t now_us = store_now_us();
    if (now_us < store->ahead_at_us && store->ahead_at_us - now_us <= AHEAD_EVERY_US)
        return;
    bool made = make_ahead(store);
    store->ahead_at_us = now_us + (made ? AHEAD_EVERY_US : AHEAD_AGAIN_US);
    if (!made)
        log_warning("partitions ahead can't be made", LOG_TEXT("reason", store->pg.failure.detail));
}
