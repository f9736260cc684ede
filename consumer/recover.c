/* The store is lost: what it had under way is in doubt until its offset rows say what became of it. */
#include "engine.h"

#include <inttypes.h>
#include <stdlib.h>

#define RECOVER_FIRST_US (ENGINE_SECOND_US / 10)
#define RECOVER_LAST_US (5 * ENGINE_SECOND_US)

void recover_lose(struct pipeline *p, const struct store_job *job)
{
    engine_note(p, NOTE_ALERT, -1, "PostgreSQL is lost, trying again: %s", job->detail);
    p->lost = true;
    p->stats.store_losses++;
    p->in_doubt = job->kind == STORE_COMMIT;
    p->closed_submitted = false;
    p->links[0].streams = p->links[1].streams = 0; /* recovery ends them */
    p->recover_backoff_us = RECOVER_FIRST_US;
    p->recover_at_us = p->steady_us;
    /* Decides on without keeping rows; all of it is undone when the store is back. */
    p->ahead = true;
    batching_discard(p, &p->open);
    if (!p->in_doubt)
        batching_discard(p, &p->closed);
}

static const struct store_fact *fact_of(const struct store_job *job, uint32_t topic, int32_t partition)
{
    for (size_t i = 0; i < job->fact_count; i++)
        if (job->facts[i].topic == topic && job->facts[i].partition == partition)
            return &job->facts[i];
    return NULL;
}

static const struct batch_partition *doubtful_row(const struct pipeline *p, uint32_t topic, int32_t partition)
{
    for (size_t i = 0; p->in_doubt && i < p->closed->partition_count; i++)
        if (p->closed->partitions[i].topic == topic && p->closed->partitions[i].partition == partition)
            return &p->closed->partitions[i];
    return NULL;
}

enum fate { FATE_GONE, FATE_UNCHANGED, FATE_COMMITTED, FATE_EITHER };

/* The offset row says what became of the batch in doubt; anything else than before or after it means another
 * hand. */
static enum fate fate_of(const struct pipeline *p, const struct store_job *job, const struct lane *lane,
                         uint32_t topic)
{
    const struct store_fact *fact = fact_of(job, topic, lane->number);
    const struct batch_partition *row = doubtful_row(p, topic, lane->number);
    if (!fact || !fact->found || fact->epoch != lane->epoch)
        return FATE_GONE;
    bool before = fact->next_offset == lane->topics[topic].committed;
    /* A lane that joined after the batch in doubt was closed says nothing of it. */
    bool after = row ? row->epoch == lane->epoch && fact->next_offset == row->next_offset : before;
    return before && after ? FATE_EITHER : after ? FATE_COMMITTED : before ? FATE_UNCHANGED : FATE_GONE;
}

static enum fate lane_fate(const struct pipeline *p, const struct store_job *job, const struct lane *lane)
{
    enum fate fate = FATE_EITHER;
    for (uint32_t i = 0; i < lane->topic_count; i++) {
        enum fate one = fate_of(p, job, lane, i);
        if (one == FATE_GONE || (one != FATE_EITHER && fate != FATE_EITHER && one != fate))
            return FATE_GONE;
        if (one != FATE_EITHER)
            fate = one;
    }
    return fate;
}

/* A lane that saw no record in the doubtful batch can't tell, nor can one that somebody else has taken over;
 * one that did speaks for the whole transaction. Nobody may be left who can. */
static bool doubt_was_committed(const struct pipeline *p, const struct store_job *job, bool *told)
{
    bool committed = false, unchanged = false;
    for (size_t i = 0; i < p->lane_count; i++) {
        const struct lane *lane = p->lanes[i];
        if (!lane || !lane_has_state(lane))
            continue;
        enum fate fate = lane_fate(p, job, lane);
        committed |= fate == FATE_COMMITTED;
        unchanged |= fate == FATE_UNCHANGED;
    }
    *told = committed || unchanged;
    return committed && !unchanged;
}

static void drop_gone(struct pipeline *p, const struct store_job *job, bool committed)
{
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *lane = p->lanes[i];
        if (!lane || !lane_has_state(lane))
            continue;
        enum fate fate = lane_fate(p, job, lane);
        if (!job->store_went_back && fate != FATE_GONE &&
            (fate == FATE_EITHER || committed == (fate == FATE_COMMITTED)))
            continue;
        engine_note(p, NOTE_WARN, lane->number, "%s: the lane is taken over anew",
                    job->store_went_back ? "PostgreSQL went back in time"
                                         : "its offset row was changed by another hand");
        takeover_forget(p, lane);
    }
}

/* Counters and adoptions that no offset row tells of can be in doubt, too: then the lanes are restored. */
static bool doubt_is_idle(const struct pipeline *p)
{
    const struct batch *batch = p->closed;
    return !batch->decision_count && !batch->adoption_count && !batch->ceilings_adopted_count &&
           !batch->settled_count && !batch->change_count && batch->learned == PARTITIONER_UNKNOWN;
}

static void drop_everything(struct pipeline *p)
{
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *lane = p->lanes[i];
        if (lane && lane_has_state(lane))
            takeover_forget(p, lane);
    }
}

/* What was read of the store may be of a time that never was: another set of ceilings can have the same
 * generation now. No lane has any state left. */
static void forget_settings(struct pipeline *p)
{
    p->partitioner_stored = false;
    p->sealed_day_count = 0;
    ceilings_forget(p);
}

static void recovered(struct pipeline *p, struct store_job *job)
{
    bool in_doubt = p->in_doubt, told = false;
    bool committed = in_doubt && doubt_was_committed(p, job, &told);
    engine_note(p, NOTE_INFO, -1, "PostgreSQL is back%s",
                !in_doubt   ? ""
                : committed ? ": the batch in doubt was committed"
                            : ": the batch in doubt was not committed");
    if (in_doubt && !told && !doubt_is_idle(p))
        drop_everything(p);
    drop_gone(p, job, committed);
    if (committed) {
        settle_committed(p, p->closed);
        if (p->closed->sealed_count > 0)
            drop_everything(p); /* what its late events count for is pending in the store */
        p->closed->settled_count = 0;
    }
    p->lost = false;
    p->catalogue_at_us = p->steady_us;
    if (job->store_went_back)
        forget_settings(p);
    settle_undo(p, "PostgreSQL is back");
}

void recover_done(struct pipeline *p, struct store_job *job)
{
    if (job->status == STORE_DONE) {
        recovered(p, job);
    } else {
        if (job->status == STORE_FATAL)
            engine_note(p, NOTE_ALERT, -1, "PostgreSQL: %s", job->detail);
        p->recover_at_us = p->steady_us + p->recover_backoff_us;
        p->recover_backoff_us =
            p->recover_backoff_us * 2 < RECOVER_LAST_US ? p->recover_backoff_us * 2 : RECOVER_LAST_US;
    }
    free(job->facts);
}

struct store_job *recover_job(struct pipeline *p)
{
    if (p->steady_us < p->recover_at_us)
        return NULL;
    struct store_job *job = settle_new_job(p, STORE_RECOVER);
    size_t capacity = p->lane_count * p->options.topic_count + 1;
    if (!job || !(job->facts = calloc(capacity, sizeof *job->facts))) {
        free(job);
        return NULL;
    }
    for (size_t i = 0; i < p->lane_count; i++)
        for (uint32_t t = 0; p->lanes[i] && lane_has_state(p->lanes[i]) && t < p->options.topic_count; t++)
            job->facts[job->fact_count++] = (struct store_fact){.topic = t, .partition = p->lanes[i]->number};
    return job;
}
