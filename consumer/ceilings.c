/* A new catalogue of ceilings, lane by lane: it counts in shadow from a batch boundary on, is given the sums
 * as they were at that boundary, and decides once the batch that adopts it is committed. */
#include "engine.h"

#include <stdlib.h>

const struct ceiling_catalogue *ceilings_newest(const struct pipeline *p)
{
    return p->catalogue_count ? p->catalogues[p->catalogue_count - 1] : NULL;
}

const struct ceiling_catalogue *ceilings_at(const struct pipeline *p, int64_t generation)
{
    for (size_t i = 0; i < p->catalogue_count; i++)
        if (p->catalogues[i]->generation == generation)
            return p->catalogues[i];
    return NULL;
}

void ceilings_loaded(struct pipeline *p, struct ceiling_catalogue *catalogue)
{
    if (!catalogue)
        return;
    size_t size = (p->catalogue_count + 1) * sizeof(struct ceiling_catalogue *);
    struct ceiling_catalogue **all =
        ceilings_at(p, catalogue->generation) ? NULL : realloc(p->catalogues, size);
    if (!all) { /* known already; or out of memory, and it comes again */
        ceiling_catalogue_free(catalogue);
        return;
    }
    p->catalogues = all;
    size_t place = p->catalogue_count++;
    for (; place > 0 && all[place - 1]->generation > catalogue->generation; place--)
        all[place] = all[place - 1];
    all[place] = catalogue;
}

static bool used(const struct pipeline *p, const struct ceiling_catalogue *catalogue)
{
    for (size_t i = 0; i < p->lane_count; i++)
        if (p->lanes[i] && lane_has_state(p->lanes[i]) &&
            ceiling_book_catalogue(p->lanes[i]->book) == catalogue)
            return true;
    return catalogue == ceilings_newest(p);
}

static void free_unused(struct pipeline *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->catalogue_count; i++) {
        if (used(p, p->catalogues[i]))
            p->catalogues[kept++] = p->catalogues[i];
        else
            ceiling_catalogue_free(p->catalogues[i]);
    }
    p->catalogue_count = kept;
}

static bool lags(const struct pipeline *p, const struct lane *lane)
{
    return engine_running(lane) && lane->ceilings_generation != ceilings_newest(p)->generation;
}

static bool any_lags(const struct pipeline *p)
{
    for (size_t i = 0; ceilings_newest(p) && i < p->lane_count; i++)
        if (p->lanes[i] && lags(p, p->lanes[i]))
            return true;
    return false;
}

static void begin_shadow(struct pipeline *p)
{
    p->ceilings_target = ceilings_newest(p);
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *lane = p->lanes[i];
        if (!lane || !lags(p, lane))
            continue;
        lane->shadowing = true;
        if (!ceiling_book_shadow(lane->book, p->ceilings_target))
            engine_out_of_memory(p);
    }
}

void ceilings_check(struct pipeline *p)
{
    if (p->ceilings_stage == CEILINGS_SETTLED && any_lags(p))
        p->ceilings_stage = CEILINGS_AT_BOUNDARY;
    if (p->ceilings_stage != CEILINGS_AT_BOUNDARY)
        return;
    if (!p->open)
        return;
    p->close_asked = true;
    if (!batching_idle(p) || settle_busy(p))
        return;
    begin_shadow(p); /* nothing is uncommitted: the boundary is here */
    p->ceilings_stage = CEILINGS_SEEDING;
}

void ceilings_closed(struct pipeline *p, struct batch *batch)
{
    if (p->ceilings_stage == CEILINGS_AT_BOUNDARY) {
        begin_shadow(p);
        p->ceilings_stage = CEILINGS_COMMITTING;
        p->ceilings_batch = batch->number;
    }
}

/* Lanes were re-homed: the batch is committed behind the flags of its lanes, and says so with their
 * adoptions, until all lanes have; then the former lanes bury what they held. */
static bool confirm(struct pipeline *p, struct batch *batch)
{
    if (p->settings.rehomed_batch == 0 || p->settings.flags_said || !ceilings_newest(p))
        return true;
    int64_t generation = ceilings_newest(p)->generation;
    for (size_t i = 0; generation > 0 && i < p->lane_count; i++) {
        struct lane *lane = p->lanes[i];
        bool reconciled = engine_running(lane) && lane->topics[0].row != SIZE_MAX && !lane->catching_up;
        if (reconciled && lane->ceilings_generation == generation &&
            !batch_adopt_ceilings(batch, lane->number, generation))
            return false;
    }
    return true;
}

bool ceilings_closing(struct pipeline *p, struct batch *batch)
{
    if (p->ceilings_stage == CEILINGS_SETTLED)
        return confirm(p, batch);
    if (p->ceilings_stage != CEILINGS_SEEDED)
        return true;
    p->ceilings_stage = CEILINGS_ADOPTING; /* from the first lane on: what follows may fail */
    p->ceilings_batch = batch->number;
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *lane = p->lanes[i];
        if (!lane || !lane->shadowing)
            continue;
        if (!ceiling_book_adopt(lane->book) ||
            !batch_adopt_ceilings(batch, lane->number, p->ceilings_target->generation))
            return false;
    }
    return true;
}

static void adopted(struct pipeline *p)
{
    p->ceilings_stage = CEILINGS_SETTLED;
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *lane = p->lanes[i];
        if (!lane || !lane->shadowing)
            continue;
        lane->shadowing = false;
        lane->ceilings_generation = p->ceilings_target->generation;
        struct enforce_context context = {p, lane, -1};
        if ((p->open || p->ahead) &&
            !ceiling_book_judge(lane->book, DECIDED_BY_CEILINGS, p->now_us, enforce_decided, &context))
            p->rewind_asked = "out of memory"; /* not now: the batch that adopted them is still looked at */
    }
    p->ceilings_target = NULL;
    free_unused(p);
}

void ceilings_committed(struct pipeline *p, const struct batch *batch)
{
    if (batch->number != p->ceilings_batch)
        return;
    if (p->ceilings_stage == CEILINGS_COMMITTING)
        p->ceilings_stage = CEILINGS_SEEDING;
    else if (p->ceilings_stage == CEILINGS_ADOPTING)
        adopted(p);
}

static void free_seed(struct store_job *job)
{
    if (job && job->arena)
        arena_free(job->arena);
    if (job)
        free(job->arena);
    free(job);
}

/* An adoption is not taken back in memory: the lane is read again. */
void ceilings_leave(struct pipeline *p, struct lane *lane)
{
    if (!lane->shadowing)
        return;
    lane->shadowing = false;
    if (p->ceilings_stage == CEILINGS_ADOPTING) {
        /* A batch that waits for the lane's flags would know of them no more. */
        if (p->closed && !p->closed_submitted && !flag_book_settled(lane->flags, lane->flags_at_close))
            p->rewind_asked = "a lane was stopped while it adopted ceilings";
        takeover_forget(p, lane);
    } else if (lane_has_state(lane))
        ceiling_book_cancel(lane->book);
}

void ceilings_failed(struct pipeline *p)
{
    for (size_t i = 0; i < p->lane_count; i++)
        if (p->lanes[i])
            ceilings_leave(p, p->lanes[i]);
    p->ceilings_stage = CEILINGS_SETTLED;
    p->ceilings_target = NULL;
    free_seed(p->ceilings_seed);
    p->ceilings_seed = NULL;
}

void ceilings_forget(struct pipeline *p)
{
    ceilings_failed(p);
    for (size_t i = 0; i < p->catalogue_count; i++)
        ceiling_catalogue_free(p->catalogues[i]);
    p->catalogue_count = 0;
}

struct store_job *ceilings_job(struct pipeline *p)
{
    if (p->ceilings_stage != CEILINGS_SEEDING || p->ceilings_seed || p->steady_us < p->ceilings_retry_at_us)
        return NULL;
    struct store_job *job = settle_new_job(p, STORE_SEED);
    if (job)
        job->seed_for = p->ceilings_target;
    return job;
}

static int32_t lane_by(const struct pipeline *p, int candidate, struct text customer_id)
{
    return partitioner_lane((enum partitioner)candidate, customer_id, p->partition_count);
}

/* Nothing has told the partitioners apart yet: so at least two of them put each customer seen where he is.
 * -1: no two agree. */
static int32_t agreed_lane(const struct pipeline *p, struct text customer_id)
{
    for (int a = PARTITIONER_UNKNOWN + 1; a < PARTITIONER_COUNT; a++)
        for (int b = a + 1; b < PARTITIONER_COUNT; b++)
            if (lane_by(p, a, customer_id) == lane_by(p, b, customer_id))
                return lane_by(p, a, customer_id);
    return -1;
}

/* Sums come for all customers; which of them are this lane's? */
static bool is_of(const struct pipeline *p, const struct lane *lane, struct text customer_id)
{
    if (p->partitioner != PARTITIONER_UNKNOWN)
        return lane_by(p, p->partitioner, customer_id) == lane->number;
    return agreed_lane(p, customer_id) == lane->number;
}

static bool seed_lane(struct pipeline *p, struct lane *lane, const struct store_job *job)
{
    for (size_t i = 0; i < job->sum_count; i++) {
        const struct ceiling_counter *sum = &job->sums[i];
        if (is_of(p, lane, sum->customer_id) && ceiling_book_wants_seed(lane->book, sum) &&
            !ceiling_book_seed(lane->book, sum))
            return false;
    }
    return true;
}

static void use_seed(struct pipeline *p, struct store_job *job)
{
    for (size_t i = 0; i < p->lane_count; i++)
        if (p->lanes[i] && p->lanes[i]->shadowing && !seed_lane(p, p->lanes[i], job))
            p->rewind_asked = "out of memory";
    p->ceilings_stage = CEILINGS_SEEDED;
    p->close_asked = true;
}

/* Which lane a customer is in is known to whoever committed his first event: settings read after the sums
 * tell. */
void ceilings_settings_read(struct pipeline *p)
{
    if (!p->ceilings_seed)
        return;
    use_seed(p, p->ceilings_seed);
    free_seed(p->ceilings_seed);
    p->ceilings_seed = NULL;
}

void ceilings_seeded(struct pipeline *p, struct store_job *job)
{
    if (job->status == STORE_DONE && p->ceilings_stage == CEILINGS_SEEDING) {
        if (p->partitioner == PARTITIONER_UNKNOWN && p->partition_count > 1 && job->sum_count > 0) {
            p->ceilings_seed = job;
            p->catalogue_at_us = p->steady_us;
            return;
        }
        use_seed(p, job);
    } else if (job->status != STORE_DONE && job->status != STORE_LOST) {
        engine_note(p, NOTE_ALERT, -1, "the sums for new ceilings can't be read: %s", job->detail);
        p->ceilings_retry_at_us = p->steady_us + ENGINE_SECOND_US;
    }
    free_seed(job);
}
