/* Brokers and the consumer group. */
#include "world.h"

#include <stdlib.h>

enum { POLL_RECORDS = 64 };
#define BROKEN_CHANCE 0.001 /* of a fetch: a corrupt batch, which reads well the next time */

static void drop_fetched(struct sim_source *source)
{
    for (int t = 0; t < WORLD_TOPICS; t++)
        for (int i = 0; i < WORLD_PARTITIONS; i++) {
            source->position[t][i] = -1;
            source->ended[t][i] = false;
        }
}

/* Range: lanes in order over the members in order; eager: everybody gives up everything first. */
void sim_group_rebalance(struct world *world)
{
    for (int i = 0; i < world->process_count; i++) {
        struct process *process = &world->processes[i];
        if (!process->source.member)
            continue;
        process->source.revoke_due = true;
        process->source.assign_due = true;
    }
}

static int members(const struct world *world, const struct process *self, int *rank)
{
    int count = 0;
    for (int i = 0; i < world->process_count; i++) {
        if (&world->processes[i] == self)
            *rank = count;
        count += world->processes[i].source.member;
    }
    return count;
}

static bool everybody_released(const struct world *world)
{
    for (int i = 0; i < world->process_count; i++)
        if (world->processes[i].source.member &&
            (world->processes[i].source.revoke_due || world->processes[i].source.rebalancing))
            return false;
    return true;
}

static void assign(struct process *process, struct source_event *event)
{
    struct world *world = process->world;
    struct sim_source *source = &process->source;
    int rank = 0, count = members(world, process, &rank);
    int share = world->partition_count / count, more = world->partition_count % count;
    int first = rank * share + (rank < more ? rank : more);
    int last = first + share + (rank < more);
    size_t listed = 0;
    for (int i = 0; i < world->partition_count; i++) {
        source->assigned[i] = i >= first && i < last;
        for (int t = 0; source->assigned[i] && t < world->topic_count; t++)
            source->assigned_list[listed++] = (struct source_position){(uint32_t)t, i, 0};
    }
    source->assign_due = false;
    *event = (struct source_event){
        .kind = SOURCE_ASSIGNED, .assigned = source->assigned_list, .assigned_count = listed};
    world_trace(world, "process %d is assigned %d..%d", process->number, first, last - 1);
}

static bool any_assigned(const struct sim_source *source)
{
    for (int i = 0; i < WORLD_PARTITIONS; i++)
        if (source->assigned[i])
            return true;
    return false;
}

static bool group_event(struct process *process, struct source_event *event)
{
    struct sim_source *source = &process->source;
    if (source->revoke_due && !any_assigned(source)) {
        source->revoke_due = false;
    } else if (source->revoke_due) {
        source->revoke_due = false;
        source->rebalancing = true;
        *event = (struct source_event){.kind = SOURCE_REVOKED};
        return true;
    }
    if (!source->assign_due || source->rebalancing || !everybody_released(process->world))
        return false;
    assign(process, event);
    return true;
}

static bool answer_probe(struct process *process, struct source_event *event)
{
    struct world *world = process->world;
    struct table *probes = &process->source.probes;
    struct sim_probe *all = probes->rows;
    for (size_t i = 0; i < probes->count; i++) {
        if (all[i].answer_us > world->now_us)
            continue;
        struct sim_probe probe = all[i];
        all[i] = all[--probes->count];
        const struct sim_log *log = &world->logs[probe.topic][probe.partition];
        *event =
            (struct source_event){.kind = SOURCE_PROBED, .topic = probe.topic, .partition = probe.partition};
        event->probe = (struct source_probe){.question = probe.question,
                                             .low_offset = log->low,
                                             .high_offset = log->count,
                                             .asked_at_us = probe.asked_us,
                                             .partition_count = world->partition_count};
        int64_t at = event->probe.asked_offset = probe.fingerprint_offset;
        if (at >= log->low && at < log->count && log->records[at].outcome != SIM_MARKER) {
            struct sim_record *stored = &log->records[at];
            struct record record = {.time_ms = stored->time_ms,
                                    .key = text_of(stored->customer),
                                    .value = {stored->value, stored->value_length}};
            event->probe.found = true;
            event->probe.fingerprint = identity_fingerprint(world_secret(), &record);
        }
        return true;
    }
    return false;
}

static size_t fetch(struct process *process, int topic, int partition, struct source_event *event)
{
    struct world *world = process->world;
    struct sim_source *source = &process->source;
    struct sim_log *log = &world->logs[topic][partition];
    int64_t *position = &source->position[topic][partition];
    size_t wanted = 1 + random_below(&world->random, POLL_RECORDS - 1), count = 0;
    bool broken = world->faults && random_chance(&world->random, BROKEN_CHANCE);
    if (*position < log->low || broken) {
        *event = (struct source_event){.kind = SOURCE_BROKEN,
                                       .topic = (uint32_t)topic,
                                       .partition = partition,
                                       .generation = source->generation,
                                       .detail = broken ? "a corrupt batch" : "offset out of range"};
        *position = -1;
        return 1;
    }
    int64_t from = *position;
    for (; *position < log->count && count < wanted; (*position)++) {
        struct sim_record *stored = &log->records[*position];
        if (stored->outcome == SIM_MARKER)
            continue;
        source->records[count++] = (struct record){.topic = (uint32_t)topic,
                                                   .partition = partition,
                                                   .offset = *position,
                                                   .time_ms = stored->time_ms,
                                                   .key = text_of(stored->customer),
                                                   .value = {stored->value, stored->value_length}};
    }
    if (count > 0) {
        source->ended[topic][partition] = false;
        *event = (struct source_event){.kind = SOURCE_RECORDS,
                                       .topic = (uint32_t)topic,
                                       .partition = partition,
                                       .generation = source->generation,
                                       .records = source->records,
                                       .record_count = count};
    } else if (!source->ended[topic][partition] || *position > from) {
        source->ended[topic][partition] = true;
        *event = (struct source_event){.kind = SOURCE_END,
                                       .topic = (uint32_t)topic,
                                       .partition = partition,
                                       .generation = source->generation,
                                       .offset = *position};
        return 1;
    }
    return count;
}

static bool fetch_any(struct process *process, struct source_event *event)
{
    struct world *world = process->world;
    int lanes = world->topic_count * world->partition_count;
    int first = (int)random_below(&world->random, (uint64_t)lanes);
    for (int i = 0; i < lanes; i++) {
        int lane = (first + i) % lanes;
        int topic = lane % world->topic_count, partition = lane / world->topic_count;
        if (process->source.position[topic][partition] >= 0 && fetch(process, topic, partition, event) > 0)
            return true;
    }
    return false;
}

static void poll(void *self, int timeout_ms, struct source_event *event)
{
    struct process *process = self;
    (void)timeout_ms;
    *event = (struct source_event){.kind = SOURCE_NOTHING};
    struct sim_source *source = &process->source;
    if (source->evicted && source->zombie_polls-- <= 0) {
        source->evicted = false;
        source->rebalancing = true;
        source->member = true;
        *event = (struct source_event){.kind = SOURCE_REVOKED, .lost = true};
        sim_group_rebalance(process->world);
        source->revoke_due = false;
        return;
    }
    if (!source->member && !source->evicted)
        return;
    if ((!source->evicted && group_event(process, event)) || answer_probe(process, event))
        return;
    if (!process->source.held)
        fetch_any(process, event);
}

static uint64_t consume(void *self, const struct source_position *positions, size_t count)
{
    struct process *process = self;
    drop_fetched(&process->source);
    for (size_t i = 0; i < count; i++) {
        if (!process->source.assigned[positions[i].partition])
            world_fail(process->world, "process %d consumes lane %d, which is not its own", process->number,
                       positions[i].partition);
        process->source.position[positions[i].topic][positions[i].partition] = positions[i].offset;
    }
    return ++process->source.generation;
}

static void hold(void *self, bool held)
{
    ((struct process *)self)->source.held = held;
}

static void probe(void *self, uint32_t topic, int32_t partition, int64_t fingerprint_offset,
                  uint64_t question)
{
    struct process *process = self;
    struct sim_probe *asked = table_add(&process->source.probes, sizeof *asked);
    *asked =
        (struct sim_probe){topic,
                           partition,
                           fingerprint_offset,
                           question,
                           process->world->now_us,
                           process->world->now_us + (int64_t)random_below(&process->world->random, 20000)};
}

static void release(void *self)
{
    struct process *process = self;
    process->source.rebalancing = false;
    drop_fetched(&process->source);
    memset(process->source.assigned, 0, sizeof process->source.assigned);
}

static void committed(void *self, const struct source_position *positions, size_t count)
{
    (void)self;
    (void)positions;
    (void)count;
}

struct source sim_source_port(struct process *process)
{
    struct sim_source *source = &process->source;
    table_free(&source->probes);
    uint64_t generation = source->generation;
    *source = (struct sim_source){.generation = generation};
    drop_fetched(source);
    return (struct source){poll, consume, hold, probe, release, committed, process};
}

void sim_append(struct world *world, int topic, int partition, const struct sim_record *record)
{
    struct sim_log *log = &world->logs[topic][partition];
    if (log->count == log->capacity) {
        log->capacity = log->capacity ? log->capacity * 2 : 256;
        log->records = realloc(log->records, (size_t)log->capacity * sizeof *log->records);
        if (!log->records)
            abort();
    }
    log->records[log->count++] = *record;
}
