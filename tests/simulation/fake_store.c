/* PostgreSQL as a process meets it: jobs that take their time, connections that break, a server that goes
 * away, fills its disk, or comes back as an older self. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

static void roll_back(struct sim_link *link)
{
    link->streamed.count = 0;
    link->in_transaction = false;
}

/* Nothing is under way on any link: all that had broken are made anew. */
static void recover(struct process *process, struct store_job *job)
{
    for (size_t i = 0; i < job->fact_count; i++) {
        struct store_fact *fact = &job->facts[i];
        const struct sim_offset *row = &process->world->database.offsets[fact->topic][fact->partition];
        fact->found = row->exists;
        fact->epoch = row->epoch;
        fact->next_offset = row->next_offset;
    }
    job->store_went_back = process->timeline != process->world->timeline;
    for (int i = 0; i < STORE_LINKS; i++) {
        roll_back(&process->links[i]);
        process->links[i].connected = true;
    }
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
    case STORE_GIVE_UP:
        roll_back(&process->links[job->link]);
        break;
    case STORE_TAKEOVER:
        for (size_t i = 0; i < job->lane_count; i++)
            sim_store_take_lane(process, &job->lanes[i]);
        sim_store_read_settings(process, job);
        sim_repartition_former(&process->world->database, job);
        break;
    case STORE_RECOVER:
        recover(process, job);
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

/* One connection breaks, or all do. */
static void lose(struct process *process, struct store_job *job, const char *why)
{
    bool all = random_chance(&process->world->random, 0.5);
    job->status = STORE_LOST;
    snprintf(job->detail, sizeof job->detail, "%s", why);
    for (int i = 0; i < STORE_LINKS; i++)
        if (all || i == job->link) {
            process->links[i].connected = false;
            roll_back(&process->links[i]);
        }
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

/* A connection that nobody uses just now may break, too: the next job that wants it finds out. */
static void break_unnoticed(struct process *process, const struct sim_link *used)
{
    struct sim_link *other = &process->links[used == process->links];
    if (other->job || !fault_strikes(process->world, FAULT_LOST_BEFORE, 0.01))
        return;
    other->connected = false;
    roll_back(other);
}

static bool may_be_unheard(const struct store_job *job)
{
    return job->kind == STORE_COMMIT || job->kind == STORE_TAKEOVER || job->kind == STORE_RECOVER;
}

static void finish_well(struct process *process, struct sim_link *link)
{
    struct store_job *job = link->job;
    do_job(process, job);
    if (link->fate == JOB_LOST_AFTER && may_be_unheard(job)) {
        forget_answer(job);
        lose(process, job, "the connection broke at the end");
        return;
    }
    if (job->kind == STORE_RECOVER) /* that it went back is said until it is heard */
        process->timeline = process->world->timeline;
    break_unnoticed(process, link);
}

static void finish_job(struct process *process, struct sim_link *link)
{
    struct store_job *job = link->job;
    struct world *world = process->world;
    job->status = STORE_DONE;
    if (world->now_us < world->database_back_us || (!link->connected && job->kind != STORE_RECOVER)) {
        lose(process, job, "the connection broke");
    } else if (link->fate == JOB_LOST_BEFORE) {
        lose(process, job, "the connection breaks");
    } else if (world->now_us < world->disk_full_until_us && writes(job)) {
        lose(process, job, "No space left on device");
    } else if (link->fate == JOB_FATAL && job->kind != STORE_GIVE_UP) {
        roll_back(link);
        job->status = STORE_FATAL;
        snprintf(job->detail, sizeof job->detail, "a table refuses");
    } else {
        finish_well(process, link);
    }
}

static bool done_alone(enum store_job_kind kind)
{
    return kind == STORE_TAKEOVER || kind == STORE_RECOVER || kind == STORE_SEED;
}

/* What store.h asks of who submits. */
static void check_order(struct process *process, const struct store_job *job)
{
    for (int i = 0; i < STORE_LINKS; i++) {
        const struct sim_link *link = &process->links[i];
        enum store_job_kind other = link->job ? link->job->kind : STORE_STREAM;
        if (link->job && i == job->link)
            world_fail(process->world, "a link is given a job while it has one");
        if (done_alone(other) || (done_alone(job->kind) && link->job))
            world_fail(process->world, "a job that is done alone meets another");
        if (done_alone(job->kind) && job->kind != STORE_RECOVER && link->in_transaction)
            world_fail(process->world, "a job that is done alone meets a transaction");
        if ((job->kind == STORE_COMMIT && other == STORE_COMMIT) ||
            (job->kind == STORE_COMMIT && other == STORE_CATALOGUE) ||
            (job->kind == STORE_CATALOGUE && other == STORE_COMMIT))
            world_fail(process->world, "a commit meets another, or a look at the catalogue");
    }
}

static void submit(void *self, struct store_job *job)
{
    struct process *process = self;
    struct world *world = process->world;
    struct sim_link *link = &process->links[job->link];
    check_order(process, job);
    link->job = job;
    link->began_us = world->now_us;
    link->done_us = world->now_us + 500 + (int64_t)random_below(&world->random, 30000);
    if (fault_strikes(world, FAULT_SLOW_JOB, 0.02))
        link->done_us += (int64_t)random_below(&world->random, 3 * WORLD_SECOND_US);
    link->fate = JOB_WELL;
    if (fault_strikes(world, FAULT_LOST_BEFORE, 0.02))
        link->fate = JOB_LOST_BEFORE;
    else if (fault_strikes(world, FAULT_LOST_AFTER, 0.02))
        link->fate = JOB_LOST_AFTER;
    else if (fault_strikes(world, FAULT_FATAL, 0.002))
        link->fate = JOB_FATAL;
}

/* Of two that are done, the one that was done first. */
static struct sim_link *next_done(struct process *process)
{
    struct sim_link *next = NULL;
    for (int i = 0; i < STORE_LINKS; i++) {
        struct sim_link *link = &process->links[i];
        if (link->job && process->world->now_us >= link->done_us && (!next || link->done_us < next->done_us))
            next = link;
    }
    return next;
}

static struct store_job *poll(void *self)
{
    struct process *process = self;
    struct sim_link *link = next_done(process);
    if (!link)
        return NULL;
    struct store_job *job = link->job;
    if (job->status != STORE_LOST) /* else its backend was ended meanwhile */
        finish_job(process, link);
    link->job = NULL;
    return job;
}

struct store sim_store_port(struct process *process)
{
    process->timeline = process->world->timeline;
    for (int i = 0; i < STORE_LINKS; i++) {
        process->links[i].connected = true;
        roll_back(&process->links[i]);
    }
    return (struct store){submit, poll, process};
}

/* The batches are the dying pipeline's: so this comes before the pipeline is freed. */
void sim_store_disconnect(struct process *process)
{
    for (int i = 0; i < STORE_LINKS; i++) {
        struct sim_link *link = &process->links[i];
        if (link->job && link->job->status != STORE_LOST && random_chance(&process->world->random, 0.5))
            finish_job(process, link);
        pipeline_abandon(process->pipeline, link->job);
        link->job = NULL;
        roll_back(link);
    }
}

/* The next owner does so. A commit that is under way is done, or is not; either way nobody is told. */
void sim_store_end_backends(struct process *process)
{
    for (int i = 0; i < STORE_LINKS; i++) {
        struct sim_link *link = &process->links[i];
        if (link->job && link->job->status != STORE_LOST) {
            if (link->job->kind == STORE_COMMIT && random_chance(&process->world->random, 0.5))
                finish_job(process, link);
            forget_answer(link->job);
            lose(process, link->job, "terminating connection due to administrator command");
        }
        link->connected = false;
        roll_back(link);
    }
    world_trace(process->world, "process %d's backends are ended", process->number);
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
        for (int l = 0; l < STORE_LINKS; l++) {
            if (process->links[l].job)
                process->links[l].fate = JOB_LOST_BEFORE;
            process->links[l].connected = false;
            roll_back(&process->links[l]);
        }
    }
    world_trace(world, "the replica is PostgreSQL now");
}
