/* The enforcement topic: one log per lane. Messages take their time to land, some after their producer has
 * died, some never; whoever tails a lane reads it from its start. */
#include "world.h"

#include <stdlib.h>

static bool publish(void *self, int32_t lane, struct text key, struct text value,
                    struct flag_sequence sequence, uint64_t cookie)
{
    struct process *process = self;
    struct world *world = process->world;
    if (world->now_us < world->queue_full_until_us)
        return false;
    int64_t from_us = world->flags_back_us > world->now_us ? world->flags_back_us : world->now_us;
    int64_t lands_us = from_us + 500 + (int64_t)random_below(&world->random, 2000);
    if (lands_us < process->flags_landed_us)
        lands_us = process->flags_landed_us;
    process->flags_landed_us = lands_us;
    struct sim_flight *flight = table_add(&world->flights, sizeof *flight);
    *flight = (struct sim_flight){process->number,
                                  process->incarnation,
                                  lane,
                                  cookie,
                                  {false, world_keep(world, key.bytes, key.length),
                                   value.bytes ? world_keep(world, value.bytes, value.length) : NULL,
                                   key.length, value.length, sequence},
                                  world->now_us,
                                  lands_us,
                                  lands_us + 500 + (int64_t)random_below(&world->random, 2000),
                                  false,
                                  false,
                                  false};
    flight->failed = fault_strikes(world, FAULT_FLAG_FAILED, 0.03);
    flight->lost = flight->failed && random_chance(&world->random, 0.7);
    world_trace(world, "process %d publishes to lane %d: %.*s %.*s", process->number, lane, (int)key.length,
                key.bytes, (int)value.length, value.bytes ? value.bytes : "");
    return true;
}

static void land(struct world *world, struct sim_flight *flight)
{
    flight->landed = true;
    if (flight->lost)
        return;
    struct sim_message *message = table_add(&world->flags[flight->lane].messages, sizeof *message);
    *message = flight->message;
    const struct process *process = &world->processes[flight->process];
    if (process->incarnation == flight->incarnation && process->alive)
        return;
    fault_count(world, FAULT_FLAG_OF_ZOMBIE);
    world_trace(world, "a message of process %d lands after its death: %s", flight->process, message->key);
}

/* In the order of their sending, lane by lane; those whose producer has heard of them or is dead are done. */
void sim_flags_land(struct world *world)
{
    struct sim_flight *flights = world->flights.rows;
    size_t kept = 0;
    for (size_t i = 0; i < world->flights.count; i++) {
        const struct process *process = &world->processes[flights[i].process];
        if (!flights[i].landed && flights[i].lands_us <= world->now_us)
            land(world, &flights[i]);
        bool heard = process->incarnation != flights[i].incarnation || !process->alive;
        if (!flights[i].landed || !heard)
            flights[kept++] = flights[i];
    }
    world->flights.count = kept;
}

void sim_flags_orphan(struct process *process)
{
    struct world *world = process->world;
    struct sim_flight *flights = world->flights.rows;
    bool lost = random_chance(&world->random, 0.5);
    int64_t late_us =
        random_chance(&world->random, 0.5) ? (int64_t)random_below(&world->random, 10 * WORLD_SECOND_US) : 0;
    for (size_t i = 0; i < world->flights.count; i++) {
        if (flights[i].process != process->number || flights[i].incarnation != process->incarnation)
            continue;
        lost = lost || random_chance(&world->random, 0.1); /* and what follows it, too */
        flights[i].lost = flights[i].lost || lost;
        flights[i].lands_us += late_us;
    }
}

/* What became of the first message that is known about. */
static bool next_report(struct process *process, struct flag_event *event)
{
    struct world *world = process->world;
    struct sim_flight *flights = world->flights.rows;
    for (size_t i = 0; i < world->flights.count; i++) {
        if (flights[i].process != process->number || flights[i].incarnation != process->incarnation ||
            !flights[i].landed || flights[i].told_us > world->now_us)
            continue;
        *event = (struct flag_event){.kind = flights[i].failed ? FLAG_FAILED : FLAG_ACKNOWLEDGED,
                                     .lane = flights[i].lane,
                                     .cookie = flights[i].cookie,
                                     .acknowledged_at_us = process_wall_us(process),
                                     .acknowledged_steady_us = world->now_us,
                                     .detail = "timed out"};
        memmove(&flights[i], &flights[i + 1], (world->flights.count - i - 1) * sizeof *flights);
        world->flights.count--;
        return true;
    }
    return false;
}

static const struct sim_message *next_message(struct sim_tail *tail, const struct sim_flags *log)
{
    const struct sim_message *messages = log->messages.rows;
    while (tail->next < log->messages.count && messages[tail->next].gone)
        tail->next++;
    return tail->next < log->messages.count ? &messages[tail->next++] : NULL;
}

static bool next_seen(struct process *process, int32_t lane, struct flag_event *event)
{
    struct world *world = process->world;
    struct sim_tail *tail = &process->tails[lane];
    if (!tail->on || world->now_us < world->flags_back_us)
        return false;
    if (!tail->caught_up && tail->next >= tail->end_at_start) {
        tail->caught_up = true;
        *event = (struct flag_event){.kind = FLAG_CAUGHT_UP, .lane = lane};
        return true;
    }
    const struct sim_message *message = next_message(tail, &world->flags[lane]);
    if (!message)
        return false;
    *event = (struct flag_event){.kind = FLAG_SEEN,
                                 .lane = lane,
                                 .key = {message->key, message->key_length},
                                 .value = {message->value, message->value_length},
                                 .has_sequence = true,
                                 .sequence = message->sequence};
    return true;
}

static void poll(void *self, struct flag_event *event)
{
    struct process *process = self;
    event->kind = FLAG_NOTHING;
    if (next_report(process, event))
        return;
    for (int32_t lane = 0; lane < process->world->partition_count; lane++)
        if (next_seen(process, lane, event))
            return;
}

static void tail(void *self, int32_t lane)
{
    struct process *process = self;
    process->tails[lane] =
        (struct sim_tail){.on = true, .end_at_start = process->world->flags[lane].messages.count};
}

static void untail(void *self, int32_t lane)
{
    ((struct process *)self)->tails[lane].on = false;
}

struct flag_sink sim_flag_port(struct process *process)
{
    memset(process->tails, 0, sizeof process->tails);
    process->flags_landed_us = 0;
    return (struct flag_sink){publish, poll, tail, untail, process};
}

/* Up to some message, only the last one of each key stays; tombstones go, too. */
static void compact_lane(struct world *world, struct sim_flags *log)
{
    struct sim_message *messages = log->messages.rows;
    size_t end = random_below(&world->random, log->messages.count + 1);
    for (size_t i = 0; i < end; i++) {
        bool last = true;
        for (size_t j = i + 1; last && j < end; j++)
            last = messages[j].gone || strcmp(messages[j].key, messages[i].key) != 0;
        messages[i].gone = messages[i].gone || !last || !messages[i].value;
    }
}

void sim_flags_compact(struct world *world)
{
    for (int lane = 0; lane < world->partition_count; lane++)
        compact_lane(world, &world->flags[lane]);
    world_trace(world, "the enforcement topic is compacted");
}

void sim_flags_free(struct world *world)
{
    for (int i = 0; i < WORLD_PARTITIONS; i++)
        table_free(&world->flags[i].messages);
    table_free(&world->flights);
}
