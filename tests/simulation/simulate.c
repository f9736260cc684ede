/* A run: processes start, die and sleep, producers produce, faults happen; then all must become quiet. */
#include "simulate.h"
#include "world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TURN_MIN_US = 500,
    TURN_SPREAD_US = 20000,
    LEAST_EVENTS = 1000,
    SPREAD_EVENTS = 5000,
    MOST_BURST = 8,
    LIVENESS_TURNS = 60000,
    CALM_TURNS = 300
};
#define FAULT_CHANCE 0.03 /* of a step */

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

int64_t world_soon(struct world *world, int64_t spread_us)
{
    return world->now_us + (int64_t)random_below(&world->random, (uint64_t)spread_us);
}

void *world_keep(struct world *world, const void *bytes, size_t size)
{
    char *copy = malloc(size + 1);
    if (!copy)
        abort();
    if (size > 0)
        memcpy(copy, bytes, size);
    copy[size] = 0;
    *(char **)table_add(&world->kept, sizeof(char *)) = copy;
    return copy;
}

/* --- begin, one step --- */

/* Logs that have lost their first records before anybody came to read them. */
static void begin_late(struct world *world)
{
    for (int i = 0; i < 200 && random_chance(&world->random, 0.95); i++)
        produce(world);
    for (int t = 0; t < world->topic_count; t++)
        for (int i = 0; i < world->partition_count; i++)
            world->logs[t][i].low =
                (int64_t)random_below(&world->random, (uint64_t)world->logs[t][i].count + 1);
}

static void init_world(struct world *world, struct random random, bool trace)
{
    *world = (struct world){.random = random, .trace = trace, .faults = true};
    world->start_us = world->now_us =
        INT64_C(1762776000000000) + (int64_t)random_below(&world->random, 20 * WORLD_DAY_US);
    world->topic_count = 1 + (int)random_below(&world->random, WORLD_TOPICS);
    world->partition_count = 1 + (int)random_below(&world->random, WORLD_PARTITIONS - 1);
    world->process_count = 1 + (int)random_below(&world->random, WORLD_PROCESSES);
    fault_choose(world);
    operator_new_ceilings(world);
    if (random_chance(&world->random, 0.3))
        begin_late(world);
    for (int i = 0; i < world->process_count; i++) {
        world->processes[i] = (struct process){.world = world, .number = i};
        process_start(&world->processes[i]);
    }
}

static void step(struct world *world)
{
    world->now_us += TURN_MIN_US + (int64_t)random_below(&world->random, TURN_SPREAD_US);
    if (world->replica_lags && world->now_us >= world->promoted_us)
        sim_store_fail_over(world);
    sim_flags_land(world);
    operator_look(world);
    for (int i = 0; i < world->process_count; i++) {
        struct process *process = &world->processes[i];
        if (!process->alive && world->now_us >= process->starts_us)
            process_start(process);
        if (process->alive && process->frozen_until_us <= world->now_us)
            process_turn(process);
    }
}

/* --- quiet --- */

static bool every_lane_runs(const struct world *world)
{
    for (int lane = 0; lane < world->partition_count; lane++) {
        int owners = 0;
        for (int i = 0; i < world->process_count; i++)
            owners += process_runs(&world->processes[i], lane);
        if (owners != 1)
            return false;
    }
    return true;
}

/* Each of these says what is not as it should be at the end; NULL: nothing. */
static const char *unwell(const struct world *world)
{
    for (int i = 0; i < world->process_count; i++) {
        const struct process *process = &world->processes[i];
        if (!process->alive || process->draining || process->frozen_until_us > world->now_us)
            return "a process is down";
        if (process->source.evicted)
            return "a process is not in the group";
    }
    return world->flights.count > 0 ? "flags are on their way"
           : world->replica_lags    ? "a failover is due"
                                    : NULL;
}

static const char *uncounted(const struct world *world)
{
    for (int i = 0; i < world->partition_count; i++)
        for (int t = 0; t < world->topic_count; t++) {
            if (world->database.offsets[t][i].next_offset != world->logs[t][i].count)
                return "a log is not read to its end";
            if (operator_mismatch(world, t, i) >= 0)
                return "a log that was rewritten is not read again";
            if (world->database.offsets[t][i].retired)
                return "a topic that is read is set aside";
        }
    for (int i = 0; i < world->partition_count; i++)
        if (world->database.lane_generation[i] != world->database.generation)
            return "a lane has not adopted the newest ceilings";
    return world->database.pending.count > 0 ? "late events are not held against their ceilings" : NULL;
}

static const char *unlearned(const struct world *world)
{
    const uint16_t *sealed = world->database.sealed.rows;
    for (int lane = 0; lane < world->partition_count; lane++)
        for (size_t i = 0; i < world->database.sealed.count; i++)
            if (!database_adopted(&world->database, lane, sealed[i]))
                return "a lane has not adopted a seal";
    bool told_apart = world->partition_count > 1 && world->database.events.count > 500;
    return told_apart && world->database.partitioner == PARTITIONER_UNKNOWN ? "the partitioner is not stored"
                                                                            : NULL;
}

/* Partitions were added: no lane runs, and each that is assigned says why. */
static bool every_lane_is_stopped(const struct world *world)
{
    for (int lane = 0; lane < world->partition_count; lane++) {
        bool stopped = false;
        for (int i = 0; i < world->process_count; i++) {
            if (process_runs(&world->processes[i], lane))
                return false;
            stopped = stopped || process_stopped(&world->processes[i], lane);
        }
        if (!stopped)
            return false;
    }
    return true;
}

static const char *unquiet(const struct world *world)
{
    if (!world_is_whole(world) && world->rehomes)
        return "lanes are not re-homed";
    if (!world_is_whole(world))
        return every_lane_is_stopped(world) ? unwell(world) : "lanes go on though partitions were added";
    if (!every_lane_runs(world))
        return "a lane has no owner, or two";
    const char *why = unwell(world);
    if (!why)
        why = uncounted(world);
    if (!why)
        why = unlearned(world);
    return why || oracle_all_buried(world) ? why : "a former lane has not buried its flags";
}

/* Not at all times: a watermark is committed every second. */
static bool all_is_committed(const struct world *world)
{
    for (int i = 0; i < world->process_count; i++)
        if (!world->processes[i].alive || !pipeline_clean(world->processes[i].pipeline))
            return false;
    return true;
}

/* An open transaction would keep days from being sealed, and VACUUM from its work. */
static bool some_transaction_is_open(const struct world *world)
{
    for (int i = 0; i < world->process_count; i++)
        for (int l = 0; l < STORE_LINKS; l++)
            if (world->processes[i].links[l].in_transaction)
                return true;
    return false;
}

/* Clocks and configurations are right again; what was sent on its way still arrives. */
static void end_faults(struct world *world)
{
    world->faults = false;
    for (int i = 0; i < world->process_count; i++) {
        struct process *process = &world->processes[i];
        process->clock_ahead_us = 0;
        if (process->alive && process->topic_count < world->topic_count)
            process_kill(process);
    }
    world_trace(world, "no more faults");
}

static void settle(struct world *world)
{
    end_faults(world);
    const char *why = NULL;
    int calm = 0;
    for (int turns = 0; turns < LIVENESS_TURNS && !world->failure; turns++) {
        step(world);
        why = unquiet(world);
        calm = why ? 0 : calm + 1;
        if (calm >= CALM_TURNS && all_is_committed(world)) {
            if (some_transaction_is_open(world))
                world_fail(world, "all is committed, and a transaction is open");
            return;
        }
    }
    world_fail(world, "%d turns after the last fault %s", LIVENESS_TURNS,
               why ? why : "something is not committed");
}

/* --- the end --- */

static void free_world(struct world *world)
{
    for (int i = 0; i < world->process_count; i++) {
        struct process *process = &world->processes[i];
        if (process->alive)
            process_kill(process);
        sim_source_free(&process->source);
        for (int l = 0; l < STORE_LINKS; l++)
            table_free(&process->links[l].streamed);
    }
    for (int t = 0; t < WORLD_TOPICS; t++)
        for (int i = 0; i < WORLD_PARTITIONS; i++)
            free(world->logs[t][i].serials);
    for (size_t i = 0; i < world->kept.count; i++)
        free(((char **)world->kept.rows)[i]);
    table_free(&world->kept);
    table_free(&world->records);
    sim_flags_free(world);
    database_free(&world->database);
    database_free(&world->replica);
}

/* Bytes that a fuzzer gives are used up; a seed gives numbers without end. */
static bool goes_on(const struct world *world, int64_t wanted)
{
    return world->random.bytes ? world->random.left > 0 : world->produced < wanted;
}

static struct sim_result result_of(const struct world *world)
{
    struct sim_result result = {
        .hash = world->bytes_hash, .events = (uint64_t)world->produced, .failed = world->failure != NULL};
    memcpy(result.failure, world->failure_text, sizeof result.failure);
    memcpy(result.fault_counts, world->fault_counts, sizeof result.fault_counts);
    for (int kind = 0; kind < FAULT_KINDS; kind++)
        result.faults += world->fault_counts[kind];
    return result;
}

struct sim_result sim_run(struct random random, bool trace)
{
    struct world *world = malloc(sizeof *world);
    if (!world)
        abort();
    init_world(world, random, trace);
    int64_t wanted = LEAST_EVENTS + (int64_t)random_below(&world->random, SPREAD_EVENTS);
    while (goes_on(world, wanted) && !world->failure) {
        for (uint64_t burst = random_below(&world->random, MOST_BURST); burst > 0; burst--)
            produce(world);
        if (random_chance(&world->random, FAULT_CHANCE))
            fault_inject(world);
        step(world);
    }
    settle(world);
    if (!world->failure)
        oracle_check(world);
    struct sim_result result = result_of(world);
    free_world(world);
    free(world);
    return result;
}
