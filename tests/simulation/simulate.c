/* A run: processes start, die and sleep, producers produce, faults happen; then all must become quiet. */
#include "world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { TURN_MIN_US = 500, TURN_SPREAD_US = 20000, CUSTOMERS = 12, LIVENESS_TURNS = 40000, CALM_TURNS = 400 };

const char *const world_topics[WORLD_TOPICS] = {"usage", "usage-batch"};
const char *const world_meters[WORLD_METERS] = {"llm_tokens_in", "llm_tokens_out", "tool_calls"};

const struct identity_secret *world_secret(void)
{
    static const struct identity_secret secret = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
    return &secret;
}

void world_mix(struct world *world, uint64_t value)
{
    world->bytes_hash = (world->bytes_hash ^ value) * UINT64_C(0x100000001b3);
}

void world_trace(struct world *world, const char *format, ...)
{
    char line[700];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    for (int i = 0; i < length && i < (int)sizeof line - 1; i++)
        world_mix(world, (uint8_t)line[i]);
    world_mix(world, (uint64_t)world->now_us);
    if (world->trace)
        printf("%10.4f %s\n", (double)(world->now_us - world->start_us) / 1e6, line);
}

void world_fail(struct world *world, const char *format, ...)
{
    if (world->failure)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(world->failure_text, sizeof world->failure_text, format, arguments);
    va_end(arguments);
    world->failure = world->failure_text;
    world_trace(world, "FAILED: %s", world->failure);
}

/* --- ports --- */

static int64_t clock_us(void *self)
{
    return ((struct process *)self)->world->now_us;
}

static void note(void *self, enum note_level level, int32_t lane, const char *sentence)
{
    struct process *process = self;
    world_trace(process->world, "process %d note %d lane %d: %s", process->number, (int)level, lane,
                sentence);
}

static void batch_done(void *self, const struct store_job *job)
{
    struct process *process = self;
    world_trace(process->world, "process %d job done: status %d %s", process->number, (int)job->status,
                job->detail);
}

static void flag_done(void *self, int64_t since_decided_us, int64_t since_record_us)
{
    struct process *process = self;
    world_mix(process->world, (uint64_t)since_decided_us);
    world_mix(process->world, (uint64_t)since_record_us);
}

static void start_process(struct process *process)
{
    struct world *world = process->world;
    struct pipeline_options options = {
        .topics = world_topics,
        .topic_count = (size_t)world->topic_count,
        .rules = {.max_age_us = 400 * WORLD_DAY_US, .max_future_us = 300 * WORLD_SECOND_US},
        .max_rows = 50 + (int64_t)random_below(&world->random, 500),
        .max_delay_us = WORLD_SECOND_US,
        .max_batch_bytes = (size_t)2048 << random_below(&world->random, 8),
        .memory_limit_bytes = INT64_C(1) << 30};
    struct pipeline_ports ports = {sim_source_port(process),
                                   sim_store_port(process),
                                   sim_flag_port(process),
                                   {clock_us, clock_us, process},
                                   {note, batch_done, flag_done, process}};
    process->pipeline = pipeline_new(&options, &ports);
    if (!process->pipeline) {
        process->starts_us = world->now_us + WORLD_SECOND_US;
        world_trace(world, "process %d has no memory to start with", process->number);
        return;
    }
    process->alive = true;
    process->frozen_until_us = world->now_us;
    process->incarnation++;
    process->source.member = true;
    sim_group_rebalance(world);
    world_trace(world, "process %d starts", process->number);
}

static void kill_process(struct process *process)
{
    struct world *world = process->world;
    world_trace(world, "process %d is killed", process->number);
    sim_store_disconnect(process);
    pipeline_free(process->pipeline);
    process->pipeline = NULL;
    process->alive = false;
    process->source.member = false;
    process->source.evicted = false;
    process->starts_us = world->now_us + (int64_t)random_below(&world->random, 5 * WORLD_SECOND_US);
    sim_group_rebalance(world);
}

/* --- producers --- */

static int32_t lane_of(const struct world *world, const char *customer)
{
    return partitioner_lane(PARTITIONER_MURMUR2, text_of(customer), world->partition_count);
}

static void write_value(struct world *world, struct sim_record *record)
{
    const char *conflicting = record->outcome == SIM_BAD ? "not json " : "";
    record->value_length = (uint32_t)snprintf(
        record->value, sizeof record->value,
        "%s{\"event_id\":\"%s\",\"customer_id\":\"%s\",\"meter\":\"%s\",\"quantity\":%" PRId64
        ",\"timestamp\":%" PRId64 ",\"model\":\"m%d\",\"metadata\":{\"run_id\":\"r%d\"}}",
        conflicting, record->event_id, record->customer, world_meters[record->meter], record->quantity,
        record->event_us / 1000, record->meter, (int)random_below(&world->random, 5));
}

static void produce_new(struct world *world, struct sim_record *record, int topic)
{
    *record = (struct sim_record){.time_ms = world->now_us / 1000};
    snprintf(record->customer, sizeof record->customer, "c%d", (int)random_below(&world->random, CUSTOMERS));
    snprintf(record->event_id, sizeof record->event_id, "e%d-%" PRId64, topic, world->produced);
    record->meter = (int)random_below(&world->random, WORLD_METERS);
    record->quantity = 1 + (int64_t)random_below(&world->random, 50);
    int64_t age_us = (int64_t)random_below(&world->random, 600 * WORLD_SECOND_US);
    if (random_chance(&world->random, 0.03))
        age_us = (int64_t)random_below(&world->random, 4 * WORLD_DAY_US);
    record->event_us = (world->now_us - age_us) / 1000 * 1000;
    record->outcome = random_chance(&world->random, 0.01) ? SIM_BAD : SIM_GOOD;
}

/* Repeats one of the same topic and lane; now and then it says something else. */
static bool produce_repeat(struct world *world, struct sim_record *record, int topic)
{
    int lane = (int)random_below(&world->random, (uint64_t)world->partition_count);
    const struct sim_log *log = &world->logs[topic][lane];
    if (log->count == 0)
        return false;
    *record = log->records[random_below(&world->random, (uint64_t)log->count)];
    record->time_ms = world->now_us / 1000;
    if (record->outcome == SIM_GOOD && random_chance(&world->random, 0.2))
        record->quantity++;
    return record->outcome != SIM_MARKER;
}

static void produce(struct world *world)
{
    int topic = (int)random_below(&world->random, (uint64_t)world->topic_count);
    struct sim_record record;
    if (random_chance(&world->random, 0.01)) {
        record = (struct sim_record){.outcome = SIM_MARKER};
        sim_append(world, topic, (int)random_below(&world->random, (uint64_t)world->partition_count),
                   &record);
        world->produced++;
        return;
    }
    if (!random_chance(&world->random, 0.05) || !produce_repeat(world, &record, topic))
        produce_new(world, &record, topic);
    write_value(world, &record);
    sim_append(world, topic, lane_of(world, record.customer), &record);
    world->produced++;
}

/* --- faults --- */

static void evict(struct process *process)
{
    process->source.member = false;
    process->source.evicted = true;
    process->source.zombie_polls = (int)random_below(&process->world->random, 30);
    sim_group_rebalance(process->world);
    world_trace(process->world, "process %d is thrown out of the group", process->number);
}

static void freeze(struct process *process)
{
    struct world *world = process->world;
    int64_t for_us = (int64_t)random_below(&world->random, 20 * WORLD_SECOND_US);
    process->frozen_until_us = world->now_us + for_us;
    world_trace(world, "process %d stops for %" PRId64 " ms", process->number, for_us / 1000);
    if (for_us > 6 * WORLD_SECOND_US && process->source.member && !process->source.rebalancing)
        evict(process);
}

static void new_ceilings(struct world *world)
{
    struct sim_database *db = &world->database;
    db->generation++;
    db->ceiling_count = 1 + (int)random_below(&world->random, 4);
    for (int i = 0; i < db->ceiling_count; i++)
        db->limits[i] = 100 + (int64_t)random_below(&world->random, i == 0 ? 2000 : 8000);
    world_trace(world, "ceilings generation %" PRId64, db->generation);
}

static void seal_day(struct world *world)
{
    uint16_t day = (uint16_t)(world->now_us / WORLD_DAY_US - 2 - (int64_t)random_below(&world->random, 3));
    const uint16_t *days = world->database.sealed.rows;
    for (size_t i = 0; i < world->database.sealed.count; i++)
        if (days[i] == day)
            return;
    *(uint16_t *)table_add(&world->database.sealed, sizeof day) = day;
    /* adopt in ascending order, as the store reports them */
    uint16_t *all = world->database.sealed.rows;
    for (size_t i = world->database.sealed.count - 1; i > 0 && all[i - 1] > all[i]; i--) {
        uint16_t swap = all[i];
        all[i] = all[i - 1];
        all[i - 1] = swap;
    }
    world_trace(world, "day %d is sealed", day);
}

static void inject(struct world *world)
{
    struct process *process = &world->processes[random_below(&world->random, (uint64_t)world->process_count)];
    world->fault_count++;
    switch (random_below(&world->random, 8)) {
    case 0:
        if (process->alive)
            kill_process(process);
        break;
    case 1:
        if (process->alive && process->frozen_until_us <= world->now_us)
            freeze(process);
        break;
    case 2:
        world->database_up = false;
        world->database_back_us = world->now_us + (int64_t)random_below(&world->random, 10 * WORLD_SECOND_US);
        world_trace(world, "PostgreSQL is down");
        break;
    case 3:
        world->flags_up = false;
        world->flags_back_us = world->now_us + (int64_t)random_below(&world->random, 8 * WORLD_SECOND_US);
        break;
    case 4:
        new_ceilings(world);
        break;
    case 5:
        seal_day(world);
        break;
    case 6:
        world->now_us +=
            (int64_t)random_below(&world->random, 3000 * WORLD_SECOND_US); /* time passes, periods end */
        world_trace(world, "time leaps");
        break;
    default:
        sim_group_rebalance(world);
        break;
    }
}

/* --- a run --- */

static void init_world(struct world *world, struct random random, bool trace)
{
    *world = (struct world){
        .random = random, .trace = trace, .database_up = true, .flags_up = true, .faults = true};
    world->start_us = world->now_us =
        INT64_C(1762776000000000) + (int64_t)random_below(&world->random, 20 * WORLD_DAY_US);
    world->topic_count = 1 + (int)random_below(&world->random, WORLD_TOPICS);
    world->partition_count = 1 + (int)random_below(&world->random, WORLD_PARTITIONS);
    world->process_count = 1 + (int)random_below(&world->random, WORLD_PROCESSES);
    new_ceilings(world);
    for (int i = 0; i < world->process_count; i++) {
        world->processes[i] = (struct process){.world = world, .number = i};
        start_process(&world->processes[i]);
    }
}

static void step(struct world *world)
{
    world->now_us += TURN_MIN_US + (int64_t)random_below(&world->random, TURN_SPREAD_US);
    if (!world->database_up && world->now_us >= world->database_back_us)
        world->database_up = true;
    if (world->now_us >= world->flags_back_us)
        world->flags_up = true;
    for (int i = 0; i < world->process_count; i++) {
        struct process *process = &world->processes[i];
        if (!process->alive && world->now_us >= process->starts_us)
            start_process(process);
        if (process->alive && process->frozen_until_us <= world->now_us)
            pipeline_turn(process->pipeline, 0);
    }
}

static bool runs(const struct process *process, int32_t lane)
{
    struct pipeline_partition partition;
    for (size_t i = 0; process->alive && i < pipeline_partitions(process->pipeline); i++)
        if (pipeline_partition(process->pipeline, i, &partition) && partition.partition == lane &&
            partition.phase == LANE_RUNNING)
            return true;
    return false;
}

static bool every_lane_runs(const struct world *world)
{
    for (int lane = 0; lane < world->partition_count; lane++) {
        int owners = 0;
        for (int i = 0; i < world->process_count; i++)
            owners += runs(&world->processes[i], lane);
        if (owners != 1)
            return false;
    }
    return true;
}

static bool quiet(const struct world *world)
{
    if (!every_lane_runs(world))
        return false;
    for (int t = 0; t < world->topic_count; t++)
        for (int i = 0; i < world->partition_count; i++)
            if (world->database.offsets[t][i].next_offset != world->logs[t][i].count)
                return false;
    for (int i = 0; i < world->partition_count; i++)
        if (world->database.lane_generation[i] != world->database.generation)
            return false;
    for (int i = 0; i < world->process_count; i++)
        if (!world->processes[i].alive || world->processes[i].frozen_until_us > world->now_us ||
            world->processes[i].acks.count > 0)
            return false;
    return world->database.pending.count == 0;
}

static bool everything_committed(const struct world *world)
{
    for (int i = 0; i < world->process_count; i++)
        if (!pipeline_clean(world->processes[i].pipeline))
            return false;
    return true;
}

static void settle(struct world *world)
{
    world->faults = false;
    int turns = 0, calm = 0;
    for (; turns < LIVENESS_TURNS && !world->failure; turns++) {
        step(world);
        calm = quiet(world) ? calm + 1 : 0;
        if (calm >= CALM_TURNS && everything_committed(world))
            return;
    }
    if (!world->failure)
        world_fail(world, "not everything was taken in within %d turns of quiet", LIVENESS_TURNS);
}

static void free_world(struct world *world)
{
    for (int i = 0; i < world->process_count; i++) {
        struct process *process = &world->processes[i];
        if (process->alive)
            kill_process(process);
        table_free(&process->acks);
        table_free(&process->source.probes);
        table_free(&process->streamed);
    }
    for (int t = 0; t < WORLD_TOPICS; t++)
        for (int i = 0; i < WORLD_PARTITIONS; i++)
            free(world->logs[t][i].records);
    sim_flags_free(world);
    sim_database_free(world);
}

/* Bytes that a fuzzer gives are used up; a seed gives numbers without end. */
static bool goes_on(const struct world *world, int64_t wanted)
{
    return world->random.bytes ? world->random.left > 0 : world->produced < wanted;
}

struct sim_result sim_run(struct random random, bool trace)
{
    struct world *world = malloc(sizeof *world);
    init_world(world, random, trace);
    int64_t wanted = 500 + (int64_t)random_below(&world->random, 3000);
    while (goes_on(world, wanted) && !world->failure) {
        for (uint64_t burst = random_below(&world->random, 6); burst > 0; burst--)
            produce(world);
        if (random_chance(&world->random, 0.02))
            inject(world);
        step(world);
    }
    settle(world);
    if (!world->failure)
        oracle_check(world);
    struct sim_result result = {world->bytes_hash, world->fault_count, (uint64_t)world->produced,
                                world->failure != NULL, ""};
    memcpy(result.failure, world->failure_text, sizeof result.failure);
    free_world(world);
    free(world);
    return result;
}
