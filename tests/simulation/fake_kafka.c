/* Brokers: logs that are fetched from, questions about them. */
#include "world.h"

#include <stdlib.h>

enum { POLL_RECORDS = 64, SLOW_RECORDS = 3 };

void sim_drop_fetched(struct sim_source *source)
{
    for (int t = 0; t < WORLD_TOPICS; t++)
        for (int i = 0; i < WORLD_PARTITIONS; i++) {
            source->position[t][i] = -1;
            source->ended[t][i] = false;
        }
}

static struct text value_of(const struct sim_record *record)
{
    return (struct text){record->value_length ? record->value : NULL, record->value_length};
}

/* --- questions --- */

static void find_record(const struct world *world, const struct sim_probe *probe, struct source_probe *answer)
{
    const struct sim_log *log = &world->logs[probe->topic][probe->partition];
    int64_t at = answer->asked_offset;
    if (at < log->low || at >= log->count)
        return;
    struct sim_record *stored = world_record(world, log->serials[at]);
    struct record record = {
        .time_ms = stored->time_ms, .key = text_of(stored->customer), .value = value_of(stored)};
    answer->found = stored->outcome != SIM_MARKER;
    answer->fingerprint = answer->found ? identity_fingerprint(world_secret(), &record) : 0;
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
        *event = (struct source_event){.kind = SOURCE_PROBED,
                                       .topic = probe.topic,
                                       .partition = probe.partition,
                                       .probe = probe.answer,
                                       .probe_failed = probe.failed || world->now_us < world->brokers_back_us,
                                       .detail = "no answer"};
        find_record(world, &probe, &event->probe);
        return true;
    }
    return false;
}

/* Watermarks are those of when it was asked: what they say may be old by the time of the answer. */
static void probe(void *self, uint32_t topic, int32_t partition, int64_t fingerprint_offset,
                  uint64_t question)
{
    struct process *process = self;
    struct world *world = process->world;
    const struct sim_log *log = &world->logs[topic][partition];
    struct sim_probe *asked = table_add(&process->source.probes, sizeof *asked);
    *asked =
        (struct sim_probe){.topic = topic, .partition = partition, .answer_us = world_soon(world, 20000)};
    asked->answer = (struct source_probe){.question = question,
                                          .low_offset = log->low,
                                          .high_offset = log->count,
                                          .asked_at_us = process_wall_us(process),
                                          .partition_count = world->now_us < world->count_known_us
                                                                 ? world->count_before
                                                                 : world->partition_count,
                                          .asked_offset = fingerprint_offset};
    asked->failed = fault_strikes(world, FAULT_FAILED_PROBE, 0.02);
    if (fault_strikes(world, FAULT_SLOW_PROBE, 0.01))
        asked->answer_us = world_soon(world, 200 * WORLD_SECOND_US);
}

/* --- fetching --- */

static void deliver(struct sim_delivered *delivered, int64_t offset, int64_t serial)
{
    if (offset >= delivered->count) {
        int64_t count = offset + 256;
        delivered->serials = realloc(delivered->serials, (size_t)count * sizeof *delivered->serials);
        if (!delivered->serials)
            abort();
        for (int64_t i = delivered->count; i < count; i++)
            delivered->serials[i] = -1;
        delivered->count = count;
    }
    delivered->serials[offset] = serial;
}

static size_t fill_records(struct process *process, int topic, int partition, size_t wanted)
{
    struct world *world = process->world;
    struct sim_source *source = &process->source;
    const struct sim_log *log = &world->logs[topic][partition];
    size_t count = 0;
    for (int64_t *at = &source->position[topic][partition]; *at < log->count && count < wanted; (*at)++) {
        struct sim_record *stored = world_record(world, log->serials[*at]);
        deliver(&source->delivered[topic][partition], *at, log->serials[*at]);
        if (stored->outcome == SIM_MARKER)
            continue;
        source->records[count++] = (struct record){.topic = (uint32_t)topic,
                                                   .partition = partition,
                                                   .offset = *at,
                                                   .time_ms = stored->time_ms,
                                                   .key = text_of(stored->customer),
                                                   .value = value_of(stored)};
    }
    return count;
}

/* It was asking for what lies beyond, and hears of it however fast the log has grown since. */
static bool was_cut(struct sim_source *source, int topic, int partition)
{
    int64_t cut_at = source->cut_at[topic][partition];
    source->cut_at[topic][partition] = -1;
    return cut_at >= 0 && source->position[topic][partition] > cut_at;
}

static bool break_off(struct process *process, int topic, int partition, struct source_event *event)
{
    struct world *world = process->world;
    const struct sim_log *log = &world->logs[topic][partition];
    int64_t *position = &process->source.position[topic][partition];
    bool corrupt = fault_strikes(world, FAULT_CORRUPT_BATCH, 0.001); /* reads well the next time */
    bool cut = was_cut(&process->source, topic, partition);
    if (!corrupt && !cut && *position >= log->low && *position <= log->count)
        return false;
    event->kind = SOURCE_BROKEN;
    event->detail = corrupt ? "a corrupt batch" : "offset out of range";
    *position = -1;
    return true;
}

/* As clients did that had just begun to fetch; asked for the same offset again, they do not. */
static void skip_some(struct process *process, int topic, int partition)
{
    struct world *world = process->world;
    struct sim_source *source = &process->source;
    int64_t *position = &source->position[topic][partition], *skipped = &source->skipped[topic][partition];
    bool fresh = source->fresh[topic][partition];
    source->fresh[topic][partition] = false;
    if (!fresh || *skipped == *position || *position >= world->logs[topic][partition].count ||
        !fault_strikes(world, FAULT_SKIPPED_RECORDS, 0.01))
        return;
    world_trace(world, "process %d skips records of %s/%d from %lld on", process->number, world_topics[topic],
                partition, (long long)*position);
    *skipped = *position;
    *position += 1 + (int64_t)random_below(&world->random,
                                           (uint64_t)(world->logs[topic][partition].count - *position));
}

/* As clients do that lost their leader in the middle of a fetch. */
static void repeat_some(struct process *process, int topic, int partition)
{
    struct world *world = process->world;
    int64_t *position = &process->source.position[topic][partition];
    int64_t most = *position - world->logs[topic][partition].low;
    if (most > 0 && fault_strikes(world, FAULT_REDELIVERED, 0.003))
        *position -=
            1 + (int64_t)random_below(&world->random, (uint64_t)(most < POLL_RECORDS ? most : POLL_RECORDS));
}

static bool fetch(struct process *process, int topic, int partition, struct source_event *event)
{
    struct world *world = process->world;
    struct sim_source *source = &process->source;
    *event = (struct source_event){
        .topic = (uint32_t)topic, .partition = partition, .generation = source->generation};
    if (break_off(process, topic, partition, event))
        return true;
    skip_some(process, topic, partition);
    repeat_some(process, topic, partition);
    int64_t from = source->position[topic][partition];
    bool slow = world->now_us < world->fetches_slow_until_us;
    size_t wanted = 1 + random_below(&world->random, slow ? SLOW_RECORDS : POLL_RECORDS - 1);
    event->records = source->records;
    event->record_count = fill_records(process, topic, partition, wanted);
    event->offset = source->position[topic][partition];
    event->kind = event->record_count > 0 ? SOURCE_RECORDS : SOURCE_END;
    bool new = event->record_count > 0 || event->offset > from || !source->ended[topic][partition];
    source->ended[topic][partition] = event->record_count == 0;
    return new;
}

static bool can_fetch(const struct process *process, int topic, int partition)
{
    const struct world *world = process->world;
    return process->source.position[topic][partition] >= 0 &&
           world->logs[topic][partition].stuck_until_us <= world->now_us &&
           world->brokers_back_us <= world->now_us;
}

static void fetch_any(struct process *process, struct source_event *event)
{
    struct world *world = process->world;
    int lanes = world->topic_count * world->partition_count;
    int first = (int)random_below(&world->random, (uint64_t)lanes);
    for (int i = 0; i < lanes; i++) {
        int lane = (first + i) % lanes;
        int topic = lane % world->topic_count, partition = lane / world->topic_count;
        if (can_fetch(process, topic, partition) && fetch(process, topic, partition, event))
            return;
    }
    *event = (struct source_event){.kind = SOURCE_NOTHING};
}

/* --- the port --- */

static void poll(void *self, int timeout_ms, struct source_event *event)
{
    struct process *process = self;
    struct sim_source *source = &process->source;
    (void)timeout_ms;
    *event = (struct source_event){.kind = SOURCE_NOTHING};
    if ((!source->member && !source->evicted) || sim_group_event(process, event) ||
        answer_probe(process, event))
        return;
    if (source->stale.kind != SOURCE_NOTHING) {
        *event = source->stale;
        source->stale.kind = SOURCE_NOTHING;
    } else if (!source->held) {
        fetch_any(process, event);
    }
}

/* What was fetched for the assignment before may still be on its way to the engine. */
static uint64_t consume(void *self, const struct source_position *positions, size_t count)
{
    struct process *process = self;
    if (fault_strikes(process->world, FAULT_STALE_FETCH, 0.05))
        fetch_any(process, &process->source.stale);
    sim_drop_fetched(&process->source);
    for (size_t i = 0; i < count; i++) {
        if (!process->source.assigned[positions[i].partition])
            world_fail(process->world, "process %d consumes lane %d, which is not its own", process->number,
                       positions[i].partition);
        process->source.position[positions[i].topic][positions[i].partition] = positions[i].offset;
        process->source.fresh[positions[i].topic][positions[i].partition] = true;
    }
    return ++process->source.generation;
}

static void hold(void *self, bool held)
{
    ((struct process *)self)->source.held = held;
}

static void release(void *self)
{
    struct process *process = self;
    process->source.rebalancing = false;
    sim_drop_fetched(&process->source);
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
    uint64_t generation = source->generation;
    sim_source_free(source);
    *source = (struct sim_source){.generation = generation};
    memset(source->cut_at, -1, sizeof source->cut_at);
    sim_drop_fetched(source);
    return (struct source){poll, consume, hold, probe, release, committed, process};
}

void sim_source_free(struct sim_source *source)
{
    table_free(&source->probes);
    for (int t = 0; t < WORLD_TOPICS; t++)
        for (int i = 0; i < WORLD_PARTITIONS; i++)
            free(source->delivered[t][i].serials);
    memset(source->delivered, 0, sizeof source->delivered);
}

void sim_append(struct world *world, int topic, int partition, const struct sim_record *record)
{
    struct sim_log *log = &world->logs[topic][partition];
    if (log->count == log->capacity) {
        log->capacity = log->capacity ? log->capacity * 2 : 256;
        log->serials = realloc(log->serials, (size_t)log->capacity * sizeof *log->serials);
        if (!log->serials)
            abort();
    }
    log->serials[log->count++] = (int64_t)world->records.count;
    *(struct sim_record *)table_add(&world->records, sizeof *record) = *record;
}
