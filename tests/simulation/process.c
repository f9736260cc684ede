/* One usagebox process: the pipeline, and how it begins and ends. */
#include "world.h"

#include <stdlib.h>

int64_t process_wall_us(const struct process *process)
{
    return process->world->now_us + process->clock_ahead_us;
}

static int64_t wall_us(void *self)
{
    return process_wall_us(self);
}

static int64_t steady_us(void *self)
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
    if (since_decided_us < 0)
        world_fail(process->world, "a flag was acknowledged before it was decided");
    world_mix(process->world, (uint64_t)since_decided_us);
    world_mix(process->world, (uint64_t)since_record_us);
}

void process_start(struct process *process)
{
    struct world *world = process->world;
    process->topic_count = world->topic_count;
    if (world->topic_count > 1 && fault_strikes(world, FAULT_TOPIC_LEFT_OUT, 0.2))
        process->topic_count = 1;
    struct pipeline_options options = {
        .topics = world_topics,
        .topic_count = (size_t)process->topic_count,
        .rules = {.max_age_us = 400 * WORLD_DAY_US, .max_future_us = 300 * WORLD_SECOND_US},
        .max_rows = 50 + (int64_t)random_below(&world->random, 500),
        .max_delay_us = WORLD_SECOND_US,
        .max_batch_bytes = (size_t)2048 << random_below(&world->random, 8),
        .memory_limit_bytes = random_below(&world->random, 8) ? INT64_C(1) << 30 : 1 << 15};
    process->incarnation++;
    struct pipeline_ports ports = {sim_source_port(process),
                                   sim_store_port(process),
                                   sim_flag_port(process),
                                   {wall_us, steady_us, process},
                                   {note, batch_done, flag_done, process}};
    process->pipeline = pipeline_new(&options, &ports);
    if (!process->pipeline) {
        process->starts_us = world->now_us + WORLD_SECOND_US;
        world_trace(world, "process %d has no memory to start with", process->number);
        return;
    }
    process->alive = true;
    process->draining = false;
    process->frozen_until_us = world->now_us;
    process->source.member = true;
    sim_group_rebalance(world);
    world_trace(world, "process %d starts", process->number);
}

static void end_process(struct process *process)
{
    struct world *world = process->world;
    sim_store_disconnect(process);
    sim_flags_orphan(process);
    pipeline_free(process->pipeline);
    process->pipeline = NULL;
    process->alive = false;
    process->source.member = false;
    process->source.evicted = false;
    process->starts_us = world_soon(world, 5 * WORLD_SECOND_US);
    sim_group_rebalance(world);
}

void process_kill(struct process *process)
{
    world_trace(process->world, "process %d is killed", process->number);
    end_process(process);
}

void process_drain(struct process *process)
{
    world_trace(process->world, "process %d is asked to stop", process->number);
    pipeline_drain(process->pipeline);
    process->draining = true;
}

void process_turn(struct process *process)
{
    pipeline_turn(process->pipeline, 0);
    if (!process->draining || !pipeline_drained(process->pipeline))
        return;
    world_trace(process->world, "process %d has stopped%s", process->number,
                pipeline_clean(process->pipeline) ? "" : " without its last batch");
    end_process(process);
}

static bool in_phase(const struct process *process, int32_t lane, enum lane_phase phase)
{
    struct pipeline_partition partition;
    for (size_t i = 0; process->alive && i < pipeline_partitions(process->pipeline); i++)
        if (pipeline_partition(process->pipeline, i, &partition) && partition.partition == lane &&
            partition.phase == phase)
            return true;
    return false;
}

bool process_runs(const struct process *process, int32_t lane)
{
    return in_phase(process, lane, LANE_RUNNING);
}

bool process_stopped(const struct process *process, int32_t lane)
{
    return in_phase(process, lane, LANE_STOPPED);
}
