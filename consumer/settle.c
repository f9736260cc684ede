/* Batches to the store, and back: closing, committing, and the one recovery path, the rewind. */
#include "engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CATALOGUE_EVERY_US ENGINE_SECOND_US
enum { STREAM_MOST_BYTES = 4 << 20 }; /* in one trip to the store, behind which their memory serves again */

bool settle_busy(const struct pipeline *p)
{
    for (size_t i = 0; i < STORE_LINKS; i++)
        if (p->links[i].job || p->links[i].failed)
            return true;
    return false;
}

struct store_job *settle_new_job(struct pipeline *p, enum store_job_kind kind)
{
    struct store_job *job = calloc(1, sizeof *job);
    if (job)
        job->kind = kind;
    else
        engine_note(p, NOTE_ALERT, -1, "out of memory: a job for PostgreSQL has to wait");
    return job;
}

/* --- rewind --- */

static void undo_lane(struct pipeline *p, struct lane *lane)
{
    if (!lane || !lane_has_state(lane))
        return;
    if (lane->owes_pending)
        takeover_forget(p, lane);
    else
        lane_undo(lane);
}

static void forget_unstored_partitioner(struct pipeline *p)
{
    if (p->partitioner_stored || p->options.partitioner != PARTITIONER_UNKNOWN)
        return;
    p->partitioner = PARTITIONER_UNKNOWN;
    p->votes = (struct partitioner_votes){0};
}

/* Everything that is not committed never happened. */
void settle_undo(struct pipeline *p, const char *why)
{
    if (!p->lost)
        engine_note(p, NOTE_DEBUG, -1, "rewind: %s", why);
    p->stats.rewinds++;
    batching_discard(p, &p->open);
    batching_discard(p, &p->closed);
    p->closed_submitted = p->in_doubt = false;
    p->open_stream_day = p->closed_stream_day = 0;
    ceilings_failed(p);
    for (size_t i = 0; i < p->lane_count; i++)
        undo_lane(p, p->lanes[i]);
    forget_unstored_partitioner(p);
    p->rewind_asked = NULL;
    p->ahead = false;
    p->consume_asked = true;
    decoder_reset(p->decoder);
    batching_open(p);
}

/* Waits while the store has something of ours under way: what becomes of it decides what there is to undo. */
void settle_rewind(struct pipeline *p, const char *why)
{
    if (settle_busy(p))
        p->rewind_asked = why;
    else
        settle_undo(p, why);
}

/* --- what the store says --- */

static void adopted_seals(struct lane *lane, uint64_t batch)
{
    for (size_t i = 0; i < lane->adopting_count;) {
        if (lane->adopting[i].batch != batch) {
            i++;
            continue;
        }
        lane_seal(lane, lane->adopting[i].day);
        dedupe_forget(lane->dedupe, lane->adopting[i].day);
        lane->adopting[i] = lane->adopting[--lane->adopting_count];
        lane_forget_former(lane);
    }
}

static void partition_committed(struct pipeline *p, struct lane *lane, const struct batch_partition *row)
{
    struct lane_topic *topic = &lane->topics[row->topic];
    topic->committed = row->next_offset;
    topic->committed_last_offset = row->last_offset;
    topic->committed_fingerprint = row->last_fingerprint;
    topic->committed_through_us = row->seen_through_us;
    if (topic->witness.offset < 0)
        topic->witness = (struct lane_record){row->last_offset, row->last_fingerprint};
    p->stats.accepted += (uint64_t)row->accepted;
    p->stats.duplicates += (uint64_t)row->duplicate;
    p->stats.holes += (uint64_t)row->hole;
    p->stats.gaps += (uint64_t)row->gap;
}

static void tell_kafka(struct pipeline *p, const struct batch *batch)
{
    struct source_position *positions =
        arena_alloc(p->scratch, (batch->partition_count + 1) * sizeof *positions);
    if (!positions)
        return;
    for (size_t i = 0; i < batch->partition_count; i++)
        positions[i] = (struct source_position){batch->partitions[i].topic, batch->partitions[i].partition,
                                                batch->partitions[i].next_offset};
    p->ports.source.committed(p->ports.source.self, positions, batch->partition_count);
}

static void count_batch(struct pipeline *p, const struct batch *batch)
{
    for (size_t i = 0; i < batch->dead_letter_count; i++)
        p->stats.dead[batch->dead_letters[i].reason]++;
    p->stats.conflicts += batch->conflict_count;
    p->stats.batches++;
    p->stats.last_commit_us = p->now_us;
}

/* The lanes of a committed batch. With `undone`, what they decided since is undone before the rest of it is.
 */
void settle_committed(struct pipeline *p, struct batch *batch)
{
    for (size_t i = 0; i < batch->partition_count; i++) {
        const struct batch_partition *row = &batch->partitions[i];
        struct lane *lane = p->lanes[row->partition];
        if (!lane_has_state(lane) || lane->epoch != row->epoch)
            continue;
        partition_committed(p, lane, row);
        if (row->topic > 0)
            continue;
        lane_commit(lane, lane->opened);
        adopted_seals(lane, batch->number);
    }
    if (batch->learned != PARTITIONER_UNKNOWN)
        p->partitioner_stored = true;
    enforce_committed(p, batch);
    count_batch(p, batch);
    ceilings_committed(p, batch);
    tell_kafka(p, batch);
}

/* Events of sealed days that PostgreSQL accepted: what they count and cause joins the batch that is open now.
 */
static void count_accepted_late(struct pipeline *p, struct batch *batch)
{
    for (size_t i = 0; i < batch->sealed_count; i++) {
        const struct batch_sealed *late = &batch->sealed[i];
        const struct batch_partition *row = &batch->partitions[late->partition_row];
        struct lane *lane = p->lanes[row->partition];
        if (!late->accepted || !late->counted || lane->epoch != row->epoch)
            continue;
        if (!engine_running(lane)) {
            /* The store will say what is pending when the lane is taken over again. What it has in the open
             * batch counts for ceilings that are forgotten with it. */
            takeover_forget(p, lane);
            p->rewind_asked = "a lane was stopped while its late events were decided";
            continue;
        }
        struct ceiling_origin origin = {row->topic, row->partition, late->offset};
        if (!intake_pending(p, lane, &late->event, origin)) {
            lane->owes_pending = true;
            p->rewind_asked = "out of memory";
        }
    }
}

static void finish_closed(struct pipeline *p)
{
    struct batch *batch = p->closed;
    p->closed_submitted = p->in_doubt = false;
    count_accepted_late(p, batch);
    for (size_t i = 0; i < p->lane_count; i++)
        if (p->lanes[i] && p->lanes[i]->late_batch == batch->number)
            p->lanes[i]->late_batch = 0;
    batch_reset(batch);
    p->closed = NULL;
    if (p->limit_rows < p->options.max_rows)
        p->limit_rows = p->limit_rows * 2 < p->options.max_rows ? p->limit_rows * 2 : p->options.max_rows;
    p->refused_count = p->limit_rows < p->options.max_rows ? p->refused_count : 0;
    batching_open(p);
}

static void batch_fenced(struct pipeline *p, const struct store_job *job)
{
    p->stats.fenced += job->fenced_count;
    for (size_t i = 0; i < job->fenced_count; i++) {
        struct lane *lane = p->lanes[job->fenced_lanes[i]];
        engine_note(p, NOTE_WARN, lane->number, "fenced: another process owns this lane now");
        takeover_forget(p, lane);
    }
    settle_undo(p, "fenced");
}

/* A refused row is found by bisection: half the rows, until the batch has only that one, and it is known
 * which that is. */
static void batch_refused(struct pipeline *p, const struct store_job *job)
{
    const struct batch *batch = job->batch ? job->batch : p->open;
    size_t rows = batch->row_count + batch->sealed_count;
    if (rows == 1 && job->batch && batch->suspect.known && p->refused_count < ENGINE_REFUSED_LIMIT) {
        struct ceiling_origin origin = batch->suspect.origin;
        struct refused_row *refused = &p->refused[p->refused_count++];
        refused->origin = origin;
        refused->fingerprint = batch->suspect.fingerprint;
        snprintf(refused->detail, sizeof refused->detail, "PostgreSQL refuses this row: %.200s", job->detail);
        p->stats.refused_rows++;
        p->limit_rows = 1;
        engine_note(p, NOTE_WARN, origin.partition, "%s: offset %" PRId64, refused->detail, origin.offset);
    } else {
        p->limit_rows = rows > 1 ? (int64_t)(rows / 2) : 1;
    }
    settle_undo(p, "a row was refused");
}

static void batch_fatal(struct pipeline *p, const struct store_job *job)
{
    for (size_t i = 0; i < p->lane_count; i++)
        if (engine_running(p->lanes[i]))
            takeover_stop(p, p->lanes[i], "PostgreSQL: %s", job->detail);
    settle_undo(p, "an error that a person has to look at");
}

static void batch_done(struct pipeline *p, struct store_job *job)
{
    if (job->kind == STORE_STREAM) {
        row_queue_reset(&job->rows, &p->row_pool);
    } else {
        p->ports.observer.batch_done(p->ports.observer.self, job);
    }
    switch (job->status) {
    case STORE_DONE:
        if (job->kind == STORE_COMMIT) {
            settle_committed(p, p->closed);
            finish_closed(p);
        }
        break;
    case STORE_FENCED:
        batch_fenced(p, job);
        break;
    case STORE_REFUSED:
        batch_refused(p, job);
        break;
    case STORE_LOST:
        recover_lose(p, job);
        break;
    case STORE_FATAL:
        batch_fatal(p, job);
        break;
    }
}

/* --- the rest of the store's answers --- */

static void catalogue_done(struct pipeline *p, struct store_job *job)
{
    p->catalogue_at_us = p->steady_us + CATALOGUE_EVERY_US;
    if (job->status == STORE_LOST) {
        recover_lose(p, job);
    } else if (job->status != STORE_DONE) {
        engine_note(p, NOTE_ALERT, -1, "PostgreSQL: %s", job->detail);
    } else {
        rehome_settings(p, &job->settings);
        p->settings_known = true;
        free(p->sealed_days);
        p->sealed_days = job->sealed_days;
        p->sealed_day_count = job->sealed_day_count;
        ceilings_loaded(p, job->catalogue);
        ceilings_settings_read(p);
        batching_open(p);
        batching_adopt_seals(p);
        return;
    }
    free(job->sealed_days);
}

static void free_job(struct store_job *job)
{
    free(job->fenced_lanes);
    free(job);
}

static void take_job(struct pipeline *p, struct store_job *job)
{
    switch (job->kind) {
    case STORE_COMMIT:
    case STORE_STREAM:
        batch_done(p, job);
        break;
    case STORE_GIVE_UP:
        if (job->status != STORE_DONE)
            recover_lose(p, job);
        break;
    case STORE_TAKEOVER:
        takeover_done(p, job);
        if (job->status == STORE_LOST)
            recover_lose(p, job);
        break;
    case STORE_RECOVER:
        recover_done(p, job);
        break;
    case STORE_CATALOGUE:
        catalogue_done(p, job);
        break;
    case STORE_SEED:
        if (job->status == STORE_LOST)
            recover_lose(p, job);
        ceilings_seeded(p, job);
        return;
    }
    free_job(job);
}

/* A batch's transaction is over after its commit, and after whatever fails. */
static void note_transaction(struct engine_link *link, const struct store_job *job)
{
    if (job->kind != STORE_STREAM || job->status != STORE_DONE)
        link->streams = 0;
}

/* Of the batch after the one that failed, or beside it: what that means is undone already, and done again.
 * But a connection that is lost has to be known. */
static void take_lesser_failure(struct pipeline *p, struct store_job *job)
{
    if (job->kind == STORE_STREAM)
        row_queue_reset(&job->rows, &p->row_pool);
    if (!p->lost && (job->status == STORE_LOST || job->kind == STORE_GIVE_UP))
        recover_lose(p, job);
    free_job(job);
}

/* The commit's first, which decides what there is to undo; then the next batch's. Kinds are in this order. */
static void take_failures(struct pipeline *p)
{
    struct store_job *first = p->links[0].failed, *second = p->links[1].failed;
    p->links[0].failed = p->links[1].failed = NULL;
    if (!first || (second && second->kind < first->kind)) {
        struct store_job *lesser = first;
        first = second;
        second = lesser;
    }
    if (first)
        take_job(p, first);
    if (second)
        take_lesser_failure(p, second);
}

/* A failure undoes what other links may still be at work on: it waits for them. */
static void take_finished(struct pipeline *p)
{
    struct store_job *job;
    while ((job = p->ports.store.poll(p->ports.store.self))) {
        struct engine_link *link = &p->links[job->link];
        link->job = NULL;
        note_transaction(link, job);
        if (job->status == STORE_DONE)
            take_job(p, job);
        else
            link->failed = job;
    }
    if (!p->links[0].job && !p->links[1].job)
        take_failures(p);
}

/* --- what the store does next --- */

static bool flags_settled(struct pipeline *p)
{
    for (size_t i = 0; i < p->lane_count; i++) {
        const struct lane *lane = p->lanes[i];
        if (engine_enforcing(lane) && !flag_book_settled(lane->flags, lane->flags_at_close))
            return false;
    }
    return true;
}

static struct store_job *commit_job(struct pipeline *p)
{
    if (!flags_settled(p)) {
        if (p->steady_us - p->closed_at_us < ENGINE_FLAG_WAIT_US)
            return NULL;
        if (!p->flags_late)
            engine_note(p, NOTE_ALERT, -1,
                        "flags are not acknowledged after 30 s: the batch is committed without that");
        p->flags_late = true;
    }
    struct store_job *job = settle_new_job(p, STORE_COMMIT);
    if (!job)
        return NULL;
    job->batch = p->closed;
    job->stream_day = p->closed_stream_day;
    p->closed_submitted = true;
    return job;
}

/* Beside the commit of the batch before; not while the ceilings change, which is done from one committed
 * batch to the next. While the sums for new ones are to be read, no transaction begins: they would wait for
 * it, and it for them. */
static bool may_stream(const struct pipeline *p)
{
    if (p->giving_way)
        return false;
    return p->closed ? p->ceilings_stage == CEILINGS_SETTLED : p->ceilings_stage != CEILINGS_SEEDING;
}

static struct store_job *stream_job(struct pipeline *p)
{
    struct batch_day *day = may_stream(p) ? batching_day_to_stream(p) : NULL;
    struct store_job *job = day ? settle_new_job(p, STORE_STREAM) : NULL;
    if (!job)
        return NULL;
    job->stream_day = p->open_stream_day = day->day;
    job->stream_left_out = day->left_out;
    job->stream_batch = p->open->number;
    job->rows = row_queue_take(&day->rows, STREAM_MOST_BYTES);
    return job;
}

bool settle_does(const struct pipeline *p, enum store_job_kind kind)
{
    for (size_t i = 0; i < STORE_LINKS; i++)
        if (p->links[i].job && p->links[i].job->kind == kind)
            return true;
    return false;
}

static bool catalogue_due(const struct pipeline *p)
{
    return !p->closed && p->steady_us >= p->catalogue_at_us;
}

static struct store_job *catalogue_job(struct pipeline *p)
{
    bool wanted = catalogue_due(p) && !settle_does(p, STORE_CATALOGUE);
    struct store_job *job = wanted ? settle_new_job(p, STORE_CATALOGUE) : NULL;
    if (job)
        job->known_generation = ceilings_newest(p) ? ceilings_newest(p)->generation : -1;
    return job;
}

/* Jobs that are done alone: no transaction of a batch is open. */
static struct store_job *lone_job(struct pipeline *p)
{
    if (settle_busy(p))
        return NULL;
    if (p->lost)
        return recover_job(p);
    if (p->closed || p->links[0].streams || p->links[1].streams)
        return NULL;
    struct store_job *job = ceilings_job(p);
    return job || !p->settings_known ? job : takeover_job(p);
}

static size_t link_of(const struct pipeline *p, const struct batch *batch)
{
    return batch == p->batches[0] ? 0 : 1;
}

static bool is_given_up(const struct pipeline *p, uint64_t batch)
{
    return batch && !(p->open && p->open->number == batch) && !(p->closed && p->closed->number == batch);
}

/* The closed batch is committed over its link while the open one is streamed over the other, which looks at
 * the catalogue when there is none. */
static struct store_job *job_for(struct pipeline *p, size_t link)
{
    if (is_given_up(p, p->links[link].streams))
        return settle_new_job(p, STORE_GIVE_UP);
    if (p->closed && link_of(p, p->closed) == link)
        return commit_job(p);
    if (p->open && link_of(p, p->open) == link)
        return stream_job(p);
    return catalogue_job(p);
}

static void submit(struct pipeline *p, size_t link, struct store_job *job)
{
    if (!job)
        return;
    job->link = (int)link;
    p->links[link].job = job;
    if (job->kind == STORE_STREAM)
        p->links[link].streams = job->stream_batch;
    p->ports.store.submit(p->ports.store.self, job);
}

/* Not while rows of it are on their way, nor beside a look at the catalogue, which a batch that is always due
 * shall not keep from its turn. */
static void close_open(struct pipeline *p)
{
    if (p->open && !p->links[link_of(p, p->open)].job && !catalogue_due(p))
        batching_close_if_due(p);
}

static bool is_alone(const struct pipeline *p)
{
    return settle_does(p, STORE_TAKEOVER) || settle_does(p, STORE_RECOVER) || settle_does(p, STORE_SEED);
}

void settle_store(struct pipeline *p)
{
    take_finished(p);
    bool undo = p->rewind_asked && !p->lost;
    if (is_alone(p) || p->links[0].failed || p->links[1].failed || (undo && settle_busy(p)))
        return;
    if (undo)
        settle_undo(p, p->rewind_asked);
    batching_open(p);
    close_open(p);
    submit(p, 0, lone_job(p));
    for (size_t i = 0; i < STORE_LINKS && !is_alone(p); i++)
        if (!p->links[i].job && !p->lost)
            submit(p, i, job_for(p, i));
}
