/* PostgreSQL as a process meets it: jobs that take their time, connections that break, a server that goes
 * away, fills its disk, or comes back as an older self. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

static void read_facts(struct process *process, struct store_job *job)
{
    for (size_t i = 0; i < job->fact_count; i++) {
        struct store_fact *fact = &job->facts[i];
        const struct sim_offset *row = &process->world->database.offsets[fact->topic][fact->partition];
        fact->found = row->exists;
        fact->epoch = row->epoch;
        fact->next_offset = row->next_offset;
    }
    job->store_went_back = process->timeline != process->world->timeline;
    process->timeline = process->world->timeline;
    process->connected = true;
}

static void do_job(struct process *process, struct store_job *job)
{
    switch (job->kind) {
    case STORE_COMMIT:
        sim_store_commit(process, job);
        break;
    case STORE_STREAM:
        if (!sim_store_stream(process, job))
            job->status = STORE_REFUSED;
        break;
    case STORE_TAKEOVER:
        for (size_t i = 0; i < job->lane_count; i++)
            sim_store_take_lane(process, &job->lanes[i]);
        sim_store_read_settings(process, job);
        sim_repartition_former(&process->world->database, job);
        break;
    case STORE_RECOVER:
        read_facts(process, job);
        break;
    case STORE_CATALOGUE:
        sim_store_read_settings(process, job);
        break;
    case STORE_SEED:
        sim_read_sums(process, job);
        break;
    }
}

static bool writes(const struct store_job *job)
{
    return job->kind == STORE_COMMIT || job->kind == STORE_STREAM || job->kind == STORE_TAKEOVER;
}

static void lose(struct process *process, struct store_job *job, const char *why)
{
    job->status = STORE_LOST;
    snprintf(job->detail, sizeof job->detail, "%s", why);
    process->connected = false;
    process->streamed.count = 0;
}

/* A job that was done, but whose answer is lost, leaves nothing for the engine. */
static void forget_answer(struct store_job *job)
{
    former_release(job->former);
    job->former = NULL;
    free(job->sealed_days);
    job->sealed_days = NULL;
    job->sealed_day_count = 0;
    ceiling_catalogue_free(job->catalogue);
    job->catalogue = NULL;
    free(job->fenced_lanes);
    job->fenced_lanes = NULL;
    job->fenced_count = 0;
    job->store_went_back = false;
}

static void finish_job(struct process *process)
{
    struct store_job *job = process->job;
    struct world *world = process->world;
    job->status = STORE_DONE;
    if (world->now_us < world->database_back_us || (!process->connected && job->kind != STORE_RECOVER)) {
        lose(process, job, "the connection broke");
    } else if (process->job_fate == JOB_LOST_BEFORE) {
        lose(process, job, "the connection breaks");
    } else if (world->now_us < world->disk_full_until_us && writes(job)) {
        lose(process, job, "No space left on device");
    } else if (process->job_fate == JOB_FATAL && job->kind == STORE_COMMIT) {
        process->streamed.count = 0;
        job->status = STORE_FATAL;
        snprintf(job->detail, sizeof job->detail, "another table refuses");
    } else {
        do_job(process, job);
        if (process->job_fate == JOB_LOST_AFTER &&
            (job->kind == STORE_COMMIT || job->kind == STORE_TAKEOVER)) {
            forget_answer(job);
            lose(process, job, "the connection broke at the end");
        }
    }
}

static void submit(void *self, struct store_job *job)
{
    struct process *process = self;
    struct world *world = process->world;
    process->job = job;
    process->job_began_us = world->now_us;
    process->job_done_us = world->now_us + 500 + (int64_t)random_below(&world->random, 30000);
    if (fault_strikes(world, FAULT_SLOW_JOB, 0.02))
        process->job_done_us += (int64_t)random_below(&world->random, 3 * WORLD_SECOND_US);
    process->job_fate = JOB_WELL;
    if (fault_strikes(world, FAULT_LOST_BEFORE, 0.02))
        process->job_fate = JOB_LOST_BEFORE;
    else if (fault_strikes(world, FAULT_LOST_AFTER, 0.02))
        process->job_fate = JOB_LOST_AFTER;
    else if (fault_strikes(world, FAULT_FATAL, 0.002))
        process->job_fate = JOB_FATAL;
}

static struct store_job *poll(void *self)
{
    struct process *process = self;
    struct store_job *job = process->job;
    if (!job || process->world->now_us < process->job_done_us)
        return NULL;
    if (job->status != STORE_LOST) /* else its backend was ended meanwhile */
        finish_job(process);
    process->job = NULL;
    return job;
}

struct store sim_store_port(struct process *process)
{
    process->connected = true;
    process->timeline = process->world->timeline;
    process->streamed.count = 0;
    return (struct store){submit, poll, process};
}

/* The batch is the dying pipeline's: so this comes before the pipeline is freed. */
void sim_store_disconnect(struct process *process)
{
    struct store_job *job = process->job;
    if (job && job->status != STORE_LOST && random_chance(&process->world->random, 0.5))
        finish_job(process);
    pipeline_abandon(process->pipeline, job);
    process->job = NULL;
    process->streamed.count = 0;
}

/* The next owner does so. A commit that is under way is done, or is not; either way nobody is told. */
void sim_store_end_backend(struct process *process)
{
    struct store_job *job = process->job;
    if (job && job->status != STORE_LOST) {
        if (job->kind == STORE_COMMIT && random_chance(&process->world->random, 0.5))
            finish_job(process);
        forget_answer(job);
        lose(process, job, "terminating connection due to administrator command");
    }
    process->connected = false;
    world_trace(process->world, "process %d's backend is ended", process->number);
}

bool sim_store_lag(struct world *world)
{
    if (world->replica_lags)
        return false;
    database_copy(&world->replica, &world->database);
    world->replica_lags = true;
    world->promoted_us = world_soon(world, 4 * WORLD_SECOND_US);
    world_trace(world, "the replica lags from here");
    return true;
}

/* What was committed since the copy is lost, on all its connections at once. */
void sim_store_fail_over(struct world *world)
{
    world->replica_lags = false;
    database_copy(&world->database, &world->replica);
    world->timeline++;
    for (int i = 0; i < world->process_count; i++) {
        struct process *process = &world->processes[i];
        if (process->job)
            process->job_fate = JOB_LOST_BEFORE;
        process->connected = false;
        process->streamed.count = 0;
    }
    world_trace(world, "the replica is PostgreSQL now");
}
