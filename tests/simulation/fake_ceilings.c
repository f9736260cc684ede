/* PostgreSQL, continued: the ceilings in force, and the sums that seed their counters. */
#include "world.h"

#include <stdlib.h>

struct ceiling_catalogue *sim_catalogue(const struct world *world)
{
    return sim_catalogue_of(world, world->database.generation);
}

struct ceiling_catalogue *sim_catalogue_of(const struct world *world, int64_t generation)
{
    const struct sim_ceilings *ceilings = &world->database.ceilings[generation % WORLD_GENERATIONS];
    static const char *const names[] = {"hourly-a", "daily-a", "monthly-a", "hourly-b"};
    struct ceiling_catalogue *catalogue = ceiling_catalogue_new(8);
    catalogue->generation = generation;
    for (int i = 0; i < ceilings->count; i++) {
        struct ceiling ceiling = {.name = text_of(names[i]),
                                  .version = generation,
                                  .who_kind = WHO_EVERYONE,
                                  .who = TEXT(""),
                                  .meter = text_of(world_meters[i == 3]),
                                  .period = (enum ceiling_period)(i % 3),
                                  .policy = POLICY_HARD_STOP,
                                  .limit = ceilings->limits[i] * DECIMAL_ONE,
                                  .clear_level = ceilings->limits[i] * DECIMAL_ONE,
                                  .created_at_us = world->start_us - 3 * WORLD_DAY_US};
        ceiling_catalogue_add(catalogue, &ceiling);
    }
    return catalogue;
}

static struct ceiling_counter *sum_of(struct store_job *job, const struct sim_hour *hour,
                                      enum ceiling_period period)
{
    int64_t start_us = ceiling_period_start(period, hour->hour_us);
    for (size_t i = 0; i < job->sum_count; i++)
        if (job->sums[i].period == period && job->sums[i].period_start_us == start_us &&
            text_equal(job->sums[i].customer_id, text_of(hour->customer)) &&
            text_equal(job->sums[i].meter, text_of(hour->meter)))
            return &job->sums[i];
    struct ceiling_counter *sum = &job->sums[job->sum_count++];
    *sum = (struct ceiling_counter){arena_text(job->arena, text_of(hour->customer)),
                                    arena_text(job->arena, text_of(hour->meter)),
                                    period,
                                    TEXT("{}"),
                                    start_us,
                                    0};
    return sum;
}

/* Pending events are in the hours already, and will be counted when they are settled. */
static void take_pending_off(struct process *process, struct store_job *job)
{
    const struct table *pending = &process->world->database.pending;
    for (size_t i = 0; i < pending->count; i++) {
        const struct sim_event *event = &((struct sim_pending *)pending->rows)[i].event;
        struct sim_hour hour = {.hour_us = ceiling_period_start(PERIOD_HOUR, event->event_us)};
        memcpy(hour.customer, event->customer, sizeof hour.customer);
        memcpy(hour.meter, event->meter, sizeof hour.meter);
        for (int period = 0; period < PERIOD_COUNT; period++)
            sum_of(job, &hour, (enum ceiling_period)period)->used -= event->quantity;
    }
}

void sim_read_sums(struct process *process, struct store_job *job)
{
    const struct table *hours = &process->world->database.hours;
    job->arena = malloc(sizeof *job->arena);
    arena_init(job->arena, 4096);
    job->sums = arena_alloc(job->arena, (hours->count * PERIOD_COUNT + 1) * sizeof *job->sums);
    for (size_t i = 0; i < hours->count; i++)
        for (int period = 0; period < PERIOD_COUNT; period++) {
            const struct sim_hour *hour = &((struct sim_hour *)hours->rows)[i];
            sum_of(job, hour, (enum ceiling_period)period)->used += hour->quantity;
        }
    take_pending_off(process, job);
}
