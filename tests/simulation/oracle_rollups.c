/* Rollups and counters are sums over the raw events. */
#include "world.h"

#include <stdlib.h>

static int hours_by_key(const void *left, const void *right)
{
    const struct sim_hour *a = left, *b = right;
    int order = strcmp(a->customer, b->customer);
    if (order == 0)
        order = strcmp(a->meter, b->meter);
    return order ? order : (a->hour_us > b->hour_us) - (a->hour_us < b->hour_us);
}

/* A correction's id begins with a k. */
static struct sim_hour hour_of(const struct sim_event *event)
{
    struct sim_hour hour = {.hour_us = event->event_us / WORLD_HOUR_US * WORLD_HOUR_US,
                            .events = 1,
                            .quantity = event->quantity,
                            .adjustment = event->event_id[0] == 'k' ? event->quantity : 0};
    memcpy(hour.customer, event->customer, sizeof event->customer);
    memcpy(hour.meter, event->meter, sizeof event->meter);
    return hour;
}

static size_t sum_up(const struct table *events, struct sim_hour *hours)
{
    size_t kept = 0;
    for (size_t i = 0; i < events->count; i++)
        hours[i] = hour_of(&((struct sim_event *)events->rows)[i]);
    if (events->count)
        qsort(hours, events->count, sizeof *hours, hours_by_key);
    for (size_t i = 0; i < events->count; i++) {
        if (kept && hours_by_key(&hours[kept - 1], &hours[i]) == 0) {
            hours[kept - 1].events++;
            hours[kept - 1].quantity += hours[i].quantity;
            hours[kept - 1].adjustment += hours[i].adjustment;
        } else {
            hours[kept++] = hours[i];
        }
    }
    return kept;
}

static void check_hours(struct world *world)
{
    const struct table *events = &world->database.events, *stored = &world->database.hours;
    struct sim_hour *hours = calloc(events->count + 1, sizeof *hours);
    size_t count = sum_up(events, hours);
    if (stored->count)
        qsort(stored->rows, stored->count, sizeof *hours, hours_by_key);
    bool same = count == stored->count;
    for (size_t i = 0; same && i < count; i++) {
        const struct sim_hour *found = &((struct sim_hour *)stored->rows)[i];
        same = hours_by_key(found, &hours[i]) == 0 && found->events == hours[i].events &&
               found->quantity == hours[i].quantity && found->adjustment == hours[i].adjustment;
    }
    if (!same)
        world_fail(world, "usage_hourly is not the sum of the raw events");
    free(hours);
}

decimal_t oracle_sum(const struct world *world, const char *customer, const char *meter,
                     enum ceiling_period period, int64_t start_us)
{
    decimal_t sum = 0;
    const struct sim_hour *hours = world->database.hours.rows;
    for (size_t i = 0; i < world->database.hours.count; i++)
        if (strcmp(hours[i].customer, customer) == 0 && strcmp(hours[i].meter, meter) == 0 &&
            ceiling_period_start(period, hours[i].hour_us) == start_us)
            sum += hours[i].quantity;
    return sum;
}

bool oracle_is_for(const struct ceiling *ceiling, const char *customer, const char *meter)
{
    return text_equal(ceiling->meter, text_of(meter)) &&
           (ceiling->who_kind == WHO_EVERYONE || text_equal(ceiling->who, text_of(customer)));
}

static bool looked_at(const struct world *world, const struct ceiling_catalogue *catalogue,
                      const struct sim_counter *row)
{
    for (size_t i = 0; i < catalogue->count; i++)
        if (catalogue->ceilings[i].period == row->period &&
            oracle_is_for(&catalogue->ceilings[i], row->customer, row->meter) &&
            ceiling_period_end(row->period, row->start_us) > catalogue->ceilings[i].created_at_us)
            return ceiling_period_end(row->period, row->start_us) >
                   world->now_us - CEILING_COUNTED_US + WORLD_HOUR_US;
    return false;
}

static void check_counter(struct world *world, const struct sim_counter *row)
{
    decimal_t sum = oracle_sum(world, row->customer, row->meter, row->period, row->start_us);
    char used[DECIMAL_TEXT_BYTES], expected[DECIMAL_TEXT_BYTES];
    decimal_text(row->used, used);
    decimal_text(sum, expected);
    if (row->used != sum)
        world_fail(world, "lane %d counter %s %s %s at %.0f: %s of %s", row->lane, row->customer, row->meter,
                   ceiling_period_names[row->period], (double)(row->start_us - world->start_us) / 1e6, used,
                   expected);
}

/* What no ceiling in force looks at, or began after, is left as it was, and so is what is days old; what
 * waits to be counted is not in yet. */
static void check_counters(struct world *world)
{
    struct ceiling_catalogue *catalogue = sim_catalogue(world);
    const struct sim_counter *rows = world->database.counters.rows;
    bool whole = world->database.pending.count == 0 && world_is_whole(world);
    for (size_t i = 0; whole && i < world->database.counters.count; i++)
        if (looked_at(world, catalogue, &rows[i]))
            check_counter(world, &rows[i]);
    ceiling_catalogue_free(catalogue);
}

void oracle_check_rollups(struct world *world)
{
    check_hours(world);
    if (!world->failure)
        check_counters(world);
}
