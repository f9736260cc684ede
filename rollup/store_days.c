/* Partitions, made as their owner over a passing connection of its own: DDL inside a batch's transaction
 * would hold its locks until the batch commits. */
#include "postgres_store_parts.h"

#include <stdio.h>
#include <time.h>

#include "../consumer/log.h"
#include "migrate.h"
#include "owner.h"

void store_day_name(char name[STORE_NAME_BYTES], const char *prefix, uint16_t day)
{
    time_t seconds = (time_t)day * 86400;
    struct tm date;
    char digits[16];
    gmtime_r(&seconds, &date);
    strftime(digits, sizeof digits, "%Y%m%d", &date);
    snprintf(name, STORE_NAME_BYTES, "%s_%s", prefix, digits);
}

static bool make_day(struct store_link *link, const char *date)
{
    struct pg owner = {0};
    PGresult *result = NULL;
    if (owner_open(&owner, link->store->options.owner_dsn, "usagebox partitions"))
        result = pg_query(&owner, "SELECT usagebox_make_day(to_date($1, 'YYYYMMDD'))", &date, 1);
    if (!result)
        link->pg.failure = owner.failure;
    PQclear(result);
    pg_close(&owner);
    return result;
}

static bool is_there(struct store_link *link, const char *name, bool *there)
{
    PG_RESULT *result = pg_query(&link->pg, "SELECT to_regclass($1) IS NOT NULL", &name, 1);
    if (result)
        *there = pg_bool(result, 0, 0);
    return result;
}

bool store_need_day(struct store_link *link, uint16_t day)
{
    if (day_set_has(&link->days, day))
        return true;
    char leaf[STORE_NAME_BYTES];
    bool there = false;
    store_day_name(leaf, "usage_event", day);
    if (!is_there(link, leaf, &there))
        return false;
    if (!there && !make_day(link, leaf + sizeof "usage_event_" - 1))
        return false;
    day_set_add(&link->days, day);
    return true;
}

static void log_made(void *nothing, const char *sentence)
{
    (void)nothing;
    log_info(sentence);
}

bool store_make_partitions(struct store_link *link)
{
    struct pg owner = {0};
    bool made = owner_open(&owner, link->store->options.owner_dsn, "usagebox partitions") &&
                migrate_partitions(&owner, log_made, NULL);
    if (!made)
        link->pg.failure = owner.failure;
    pg_close(&owner);
    return made;
}
