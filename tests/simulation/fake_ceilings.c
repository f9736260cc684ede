/* PostgreSQL, continued: the ceilings in force, and the sums that seed their counters. */
#include "world.h"

#include <stdlib.h>

struct ceiling_catalogue *sim_catalogue(const struct world *world)
{
    return sim_catalogue_of(world, world->database.generation);
}

/* Three count the same hours, one of them for one customer: they share counters, though one may be older. */
static const struct {
    const char *name;
    int meter;
    enum ceiling_period period;
    const char *customer; /* NULL: each */
} kinds[WORLD_CEILINGS] = {{"hourly-a", 0, PERIOD_HOUR, NULL},   {"daily-a", 0, PERIOD_DAY, NULL},
                           {"monthly-a", 0, PERIOD_MONTH, NULL}, {"hourly-b", 1, PERIOD_HOUR, NULL},
                           {"hourly-c", 0, PERIOD_HOUR, NULL},   {"hourly-own", 0, PERIOD_HOUR, "c3"}};

struct ceiling_catalogue *sim_catalogue_of(const struct world *world, int64_t generation)
{
    const struct sim_ceilings *ceilings = &world->database.ceilings[generation % WORLD_GENERATIONS];
    struct ceiling_catalogue *catalogue = ceiling_catalogue_new(WORLD_CEILINGS);
    catalogue->generation = generation;
    for (int i = 0; i < WORLD_CEILINGS; i++) {
        struct ceiling ceiling = {.name = text_of(kinds[i].name),
                                  .version = generation,
                                  .who_kind = kinds[i].customer ? WHO_CUSTOMER : WHO_EVERYONE,
                                  .who = text_of(kinds[i].customer ? kinds[i].customer : ""),
                                  .meter = text_of(world_meters[kinds[i].meter]),
                                  .period = kinds[i].period,
                                  .policy = POLICY_HARD_STOP,
                                  .limit = ceilings->limits[i] * DECIMAL_ONE,
                                  .clear_level = ceilings->limits[i] * DECIMAL_ONE,
                                  .created_at_us = world->database.ceilings_since_us[i]};
        if (ceilings->in_force[i])
            ceiling_catalogue_add(catalogue, &ceiling);
    }
    return catalogue;
}

/* From the first period on that one of them judges, as far back as events are counted. */
static bool is_needed(const struct world *world, const struct ceiling_catalogue *catalogue,
                      const struct sim_hour *hour, enum ceiling_period period)
{
    int64_t counted_us = world->now_us - CEILING_COUNTED_US;
    for (size_t i = 0; i < catalogue->count; i++) {
        const struct ceiling *ceiling = &catalogue->ceilings[i];
        if (ceiling->period == period && text_equal(ceiling->meter, text_of(hour->meter)) &&
            hour->hour_us >= ceiling_period_start(period, ceiling->created_at_us > counted_us
                                                              ? ceiling->created_at_us
                                                              : counted_us))
            return true;
    }
    return false;
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

static void add_hour(const struct world *world, struct store_job *job, const struct sim_hour *hour,
                     decimal_t quantity)
{
    for (enum ceiling_period period = 0; period < PERIOD_COUNT; period++)
        if (is_needed(world, job->seed_for, hour, period))
            sum_of(job, hour, period)->used += quantity;
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
        add_hour(process->world, job, &hour, -event->quantity);
    }
}

void sim_read_sums(struct process *process, struct store_job *job)
{
    const struct table *hours = &process->world->database.hours;
    job->arena = malloc(sizeof *job->arena);
    arena_init(job->arena, 4096);
    job->sums = arena_alloc(job->arena, (hours->count * PERIOD_COUNT + 1) * sizeof *job->sums);
    for (size_t i = 0; i < hours->count; i++) {
        const struct sim_hour *hour = &((struct sim_hour *)hours->rows)[i];
        add_hour(process->world, job, hour, hour->quantity);
    }
    take_pending_off(process, job);
}
