/* Batches to the store, and back: closing, committing, and the one recovery path, the rewind. */
#include "engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define RECOVER_FIRST_US (ENGINE_SECOND_US / 10)
#define RECOVER_LAST_US (5 * ENGINE_SECOND_US)
#define CATALOGUE_EVERY_US ENGINE_SECOND_US

struct store_job *settle_new_job(struct pipeline *p, enum store_job_kind kind)
{
    struct store_job *job = calloc(1, sizeof *job);
    if (job)
        job->kind = kind;
    else
        engine_note(p, NOTE_ALERT, -1, "out of memory: a job for PostgreSQL has to wait");
    return job;
}

/* --- the open batch --- */

bool settle_join(struct pipeline *p, struct lane *lane)
{
    lane->opened = lane_mark(lane);
    if (!p->open)
        return true;
    for (uint32_t i = 0; i < lane->topic_count; i++) {
        struct lane_topic *topic = &lane->topics[i];
        struct batch_partition row = {
            .topic = i,
            .partition = lane->number,
            .epoch = lane->epoch,
            .first_offset = topic->gap > 0 || topic->committed < 0 ? topic->committed : topic->position,
        };
        /* A fresh partition whose first batch is on its way has a row by the time this one is written. */
        if (p->closed && topic->committed < 0)
            row.first_offset = topic->position;
        topic->row = p->open->partition_count;
        if (!batch_add_partition(p->open, &row))
            return false;
    }
    return true;
}

static void adopt_seals(struct pipeline *p, struct lane *lane)
{
    for (size_t i = 0; i < p->sealed_day_count && lane->adopting_count < LANE_ADOPTING_LIMIT; i++) {
        uint16_t day = p->sealed_days[i];
        if (lane_day_sealed(lane, day) || lane_day_adopting(lane, day))
            continue;
        if (!batch_adopt_seal(p->open, lane->number, day)) {
            p->rewind_asked = "out of memory";
            return;
        }
        lane->adopting[lane->adopting_count].day = day;
        lane->adopting[lane->adopting_count++].batch = p->open->number;
    }
}

static void adopt_all_seals(struct pipeline *p)
{
    for (size_t i = 0; p->open && i < p->lane_count; i++)
        if (engine_running(p->lanes[i]))
            adopt_seals(p, p->lanes[i]);
}

bool settle_open(struct pipeline *p)
{
    if (p->open || p->ahead || p->lost)
        return p->open != NULL;
    struct batch *batch = p->closed == p->batches[0] ? p->batches[1] : p->batches[0];
    batch_reset(batch);
    batch->number = ++p->batch_number;
    batch->opened_at_us = p->now_us;
    p->open = batch;
    p->open_stream_day = 0;
    for (size_t i = 0; i < p->lane_count; i++)
        if (engine_running(p->lanes[i]) && !settle_join(p, p->lanes[i]))
            p->rewind_asked = "out of memory";
    adopt_all_seals(p);
    return true;
}

/* --- closing it --- */

static bool batch_says_something(struct pipeline *p, const struct batch *batch)
{
    if (batch->event_count || batch->adoption_count || batch->decision_count || batch->settled_count ||
        batch->ceilings_adopted_count || batch->learned != PARTITIONER_UNKNOWN ||
        p->ceilings_stage == CEILINGS_SEEDED)
        return true;
    for (size_t i = 0; i < batch->partition_count; i++) {
        const struct batch_partition *row = &batch->partitions[i];
        const struct lane_topic *topic = &p->lanes[row->partition]->topics[row->topic];
        if (topic->position != row->first_offset ||
            topic->seen_through_us - topic->noted_through_us >= ENGINE_SECOND_US)
            return true;
    }
    return false;
}

static bool batch_is_due(const struct pipeline *p, const struct batch *batch)
{
    int64_t age_us = p->now_us - batch->opened_at_us;
    size_t rows = batch->row_count + batch->sealed_count;
    if (p->close_asked || age_us < 0 || (int64_t)rows >= p->limit_rows ||
        (int64_t)batch->event_count >= p->options.max_rows || batch_bytes(batch) >= ENGINE_BATCH_BYTES)
        return true;
    return age_us >= (p->behind ? 3 : 1) * p->options.max_delay_us;
}

static bool collect_change(void *self, const struct ceiling_change *change)
{
    return batch_change(self, change);
}

static void close_partition(struct pipeline *p, struct batch_partition *row)
{
    struct lane_topic *topic = &p->lanes[row->partition]->topics[row->topic];
    row->next_offset = topic->position;
    row->last_offset = topic->last_offset;
    row->last_fingerprint = topic->last_fingerprint;
    row->seen_through_us = topic->seen_through_us;
    row->gap = topic->gap;
    topic->gap = 0;
    topic->noted_through_us = topic->seen_through_us;
    topic->row = SIZE_MAX;
}

static bool close_lane(struct pipeline *p, struct lane *lane, struct batch *batch)
{
    if (!ceiling_book_changes(lane->book, lane->opened.counters, collect_change, batch))
        return false;
    lane->opened = lane_mark(lane);
    lane->flags_at_close = flag_book_last_cookie(lane->flags);
    (void)p;
    return true;
}

static void close_batch(struct pipeline *p)
{
    struct batch *batch = p->open;
    bool ok = ceilings_closing(p, batch);
    for (size_t i = 0; ok && i < p->lane_count; i++)
        if (p->lanes[i] && lane_has_state(p->lanes[i]))
            ok = close_lane(p, p->lanes[i], batch);
    if (!ok) {
        p->rewind_asked = "out of memory";
        return;
    }
    for (size_t i = 0; i < batch->partition_count; i++)
        close_partition(p, &batch->partitions[i]);
    p->closed = batch;
    p->closed_stream_day = p->open_stream_day;
    p->closed_submitted = false;
    p->closed_at_us = p->now_us;
    p->flags_late = false;
    p->open = NULL;
    p->close_asked = false;
    ceilings_closed(p, batch);
    settle_open(p);
}

/* An empty batch has nothing to lose: it begins anew, with the lanes and the time of now. */
static void reopen(struct pipeline *p)
{
    if (p->open)
        batch_reset(p->open);
    p->open = NULL;
    settle_open(p);
}

static void close_if_due(struct pipeline *p)
{
    if (!p->open || p->closed || p->rewind_asked || !batch_is_due(p, p->open))
        return;
    /* The sums for new ceilings are to be read as they are at the last boundary. */
    if (p->ceilings_stage == CEILINGS_SEEDING && !p->revoking)
        return;
    if (batch_says_something(p, p->open)) {
        close_batch(p);
    } else {
        p->close_asked = false;
        p->open->opened_at_us = p->now_us;
    }
}

bool settle_idle(const struct pipeline *p)
{
    return !p->closed && !p->ahead && !p->rewind_asked &&
           (!p->open || !batch_says_something((struct pipeline *)p, p->open));
}

/* --- rewind --- */

static void discard_batches(struct pipeline *p)
{
    for (int i = 0; i < 2; i++)
        batch_reset(p->batches[i]);
    p->open = p->closed = NULL;
    p->closed_submitted = p->in_doubt = false;
    p->open_stream_day = p->closed_stream_day = 0;
}

static void forget_unstored_partitioner(struct pipeline *p)
{
    if (p->partitioner_stored || p->options.partitioner != PARTITIONER_UNKNOWN)
        return;
    p->partitioner = PARTITIONER_UNKNOWN;
    p->votes = (struct partitioner_votes){0};
}

/* Everything that is not committed never happened. */
static void undo_all(struct pipeline *p, const char *why)
{
    if (!p->lost)
        engine_note(p, NOTE_DEBUG, -1, "rewind: %s", why);
    p->stats.rewinds++;
    discard_batches(p);
    ceilings_failed(p);
    for (size_t i = 0; i < p->lane_count; i++)
        if (p->lanes[i] && lane_has_state(p->lanes[i]))
            lane_undo(p->lanes[i]);
    forget_unstored_partitioner(p);
    p->rewind_asked = NULL;
    p->ahead = false;
    p->consume_asked = true;
    decoder_reset(p->decoder);
    settle_open(p);
}

/* Waits while the store has something of ours under way: what becomes of it decides what there is to undo. */
void settle_rewind(struct pipeline *p, const char *why)
{
    if (p->closed_submitted || p->job)
        p->rewind_asked = why;
    else
        undo_all(p, why);
}

/* --- what the store says --- */

static void lose_store(struct pipeline *p, const struct store_job *job)
{
    if (!p->lost)
        engine_note(p, NOTE_ALERT, -1, "PostgreSQL is lost, trying again: %s", job->detail);
    p->lost = true;
    p->stats.store_losses++;
    p->in_doubt = job->kind == STORE_COMMIT;
    p->closed_submitted = false;
    p->recover_backoff_us = RECOVER_FIRST_US;
    p->recover_at_us = p->now_us;
    p->settings_known = p->secret.bytes[0] || p->settings_known;
    /* Decides on without keeping rows; all of it is undone when the store is back. */
    p->ahead = true;
    if (p->open)
        batch_reset(p->open);
    p->open = NULL;
    if (!p->in_doubt && p->closed)
        batch_reset(p->closed), p->closed = NULL;
}

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
    }
}

static void partition_committed(struct pipeline *p, struct lane *lane, const struct batch_partition *row)
{
    struct lane_topic *topic = &lane->topics[row->topic];
    topic->committed = row->next_offset;
    topic->committed_last_offset = row->last_offset;
    topic->committed_fingerprint = row->last_fingerprint;
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
static void batch_committed(struct pipeline *p, struct batch *batch)
{
    for (size_t i = 0; i < batch->partition_count; i++) {
        const struct batch_partition *row = &batch->partitions[i];
        struct lane *lane = engine_lane(p, row->partition);
        if (!lane || !lane_has_state(lane) || lane->epoch != row->epoch)
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
        struct lane *lane = engine_lane(p, row->partition);
        if (!late->accepted || !late->counted || !engine_running(lane) || lane->epoch != row->epoch)
            continue;
        struct ceiling_origin origin = {row->topic, row->partition, late->offset};
        if (!p->open || !intake_pending(p, lane, &late->event, origin))
            p->rewind_asked = "out of memory";
    }
}

static void finish_closed(struct pipeline *p)
{
    struct batch *batch = p->closed;
    p->closed_submitted = p->in_doubt = false;
    count_accepted_late(p, batch);
    batch_reset(batch);
    p->closed = NULL;
    if (p->limit_rows < p->options.max_rows)
        p->limit_rows = p->limit_rows * 2 < p->options.max_rows ? p->limit_rows * 2 : p->options.max_rows;
    p->refused_count = p->limit_rows < p->options.max_rows ? p->refused_count : 0;
    settle_open(p);
}

static void batch_fenced(struct pipeline *p, const struct store_job *job)
{
    p->stats.fenced += job->fenced_count;
    for (size_t i = 0; i < job->fenced_count; i++) {
        struct lane *lane = engine_lane(p, job->fenced_lanes[i]);
        if (!lane)
            continue;
        engine_note(p, NOTE_WARN, lane->number, "fenced: another process owns this lane now");
        if (lane->assigned)
            takeover_again(p, lane);
        else
            lane_drop(lane);
    }
    undo_all(p, "fenced");
}

/* With a single row in the batch, it is the last record taken of the one partition that accepted something.
 */
static bool refused_origin(const struct batch *batch, struct ceiling_origin *origin)
{
    if (batch->row_count + batch->sealed_count != 1)
        return false;
    for (size_t i = 0; i < batch->partition_count; i++) {
        const struct batch_partition *row = &batch->partitions[i];
        bool sealed = batch->sealed_count == 1 && batch->sealed[0].partition_row == i;
        if (!sealed && row->accepted == 0)
            continue;
        *origin = (struct ceiling_origin){row->topic, row->partition,
                                          sealed ? batch->sealed[0].offset : row->last_offset};
        return true;
    }
    return false;
}

/* A refused row is found by bisection: half the rows, until the batch has only that one. */
static void batch_refused(struct pipeline *p, const struct store_job *job)
{
    const struct batch *batch = job->batch ? job->batch : p->closed ? p->closed : p->open;
    size_t rows = batch ? batch->row_count + batch->sealed_count : 0;
    struct ceiling_origin origin;
    if (batch && job->batch && refused_origin(batch, &origin) && p->refused_count < ENGINE_REFUSED_LIMIT) {
        struct refused_row *refused = &p->refused[p->refused_count++];
        refused->origin = origin;
        snprintf(refused->detail, sizeof refused->detail, "PostgreSQL refuses this row: %.200s", job->detail);
        p->stats.refused_rows++;
        p->limit_rows = 1;
        engine_note(p, NOTE_WARN, origin.partition, "%s: offset %" PRId64, refused->detail, origin.offset);
    } else {
        p->limit_rows = rows > 1 ? (int64_t)(rows / 2) : 1;
    }
    undo_all(p, "a row was refused");
}

static void batch_fatal(struct pipeline *p, const struct store_job *job)
{
    for (size_t i = 0; i < p->lane_count; i++)
        if (engine_running(p->lanes[i]))
            takeover_stop(p, p->lanes[i], "PostgreSQL: %s", job->detail);
    undo_all(p, "an error that a person has to look at");
}

static void batch_done(struct pipeline *p, struct store_job *job)
{
    if (job->kind == STORE_STREAM) {
        buffer_free(&p->spare);
        p->spare = job->rows;
        p->spare.size_bytes = 0;
    } else {
        p->ports.observer.batch_done(p->ports.observer.self, job);
    }
    switch (job->status) {
    case STORE_DONE:
        if (job->kind == STORE_COMMIT) {
            batch_committed(p, p->closed);
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
        lose_store(p, job);
        break;
    case STORE_FATAL:
        batch_fatal(p, job);
        break;
    }
}

/* --- recovery --- */

static const struct store_fact *fact_of(const struct store_job *job, uint32_t topic, int32_t partition)
{
    for (size_t i = 0; i < job->fact_count; i++)
        if (job->facts[i].topic == topic && job->facts[i].partition == partition)
            return &job->facts[i];
    return NULL;
}

static const struct batch_partition *doubtful_row(const struct pipeline *p, uint32_t topic, int32_t partition)
{
    for (size_t i = 0; p->in_doubt && p->closed && i < p->closed->partition_count; i++)
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
    bool after = row && row->epoch == lane->epoch && fact->next_offset == row->next_offset;
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

/* A lane that saw no record in the doubtful batch can't tell; one that did speaks for the whole transaction.
 */
static bool doubt_was_committed(const struct pipeline *p, const struct store_job *job)
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
        if (lane->assigned)
            takeover_again(p, lane);
        else
            lane_drop(lane);
    }
}

/* Counters and adoptions that no offset row tells of can be in doubt, too: then the lanes are restored. */
static bool doubt_is_idle(const struct pipeline *p)
{
    const struct batch *batch = p->closed;
    if (!p->in_doubt || !batch)
        return true;
    return !batch->decision_count && !batch->adoption_count && !batch->ceilings_adopted_count &&
           !batch->settled_count && !batch->change_count && batch->learned == PARTITIONER_UNKNOWN;
}

static bool any_row_moved(const struct pipeline *p)
{
    for (size_t i = 0; p->closed && i < p->closed->partition_count; i++)
        if (p->closed->partitions[i].next_offset != p->closed->partitions[i].first_offset)
            return true;
    return false;
}

static void drop_everything(struct pipeline *p)
{
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *lane = p->lanes[i];
        if (lane && lane_has_state(lane) && lane->assigned)
            takeover_again(p, lane);
        else if (lane)
            lane_drop(lane);
    }
}

static void recovered(struct pipeline *p, struct store_job *job)
{
    bool in_doubt = p->in_doubt && p->closed;
    bool committed = in_doubt && doubt_was_committed(p, job);
    engine_note(p, NOTE_INFO, -1, "PostgreSQL is back%s",
                !in_doubt   ? ""
                : committed ? ": the batch in doubt was committed"
                            : ": the batch in doubt was not committed");
    struct batch *doubtful = p->closed;
    if (in_doubt && !committed && !any_row_moved(p) && !doubt_is_idle(p))
        drop_everything(p);
    drop_gone(p, job, committed);
    if (committed)
        batch_committed(p, doubtful);
    p->lost = false;
    p->catalogue_at_us = p->now_us;
    if (committed) { /* keep the batch until its late events are counted */
        p->closed = doubtful;
        p->in_doubt = false;
        p->open = NULL;
    }
    struct batch *kept = committed ? doubtful : NULL;
    bool late = kept && kept->sealed_count > 0;
    if (late)
        drop_everything(p); /* their ceilings are pending rows in the store: restored with the lanes */
    undo_all(p, "PostgreSQL is back");
}

static void recover_done(struct pipeline *p, struct store_job *job)
{
    if (job->status == STORE_DONE) {
        recovered(p, job);
    } else {
        if (job->status == STORE_FATAL)
            engine_note(p, NOTE_ALERT, -1, "PostgreSQL: %s", job->detail);
        p->recover_at_us = p->now_us + p->recover_backoff_us;
        p->recover_backoff_us =
            p->recover_backoff_us * 2 < RECOVER_LAST_US ? p->recover_backoff_us * 2 : RECOVER_LAST_US;
    }
    free(job->facts);
}

static struct store_job *recover_job(struct pipeline *p)
{
    if (!p->lost || p->now_us < p->recover_at_us)
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

/* --- the rest of the store's answers --- */

static void catalogue_done(struct pipeline *p, struct store_job *job)
{
    p->catalogue_at_us = p->now_us + CATALOGUE_EVERY_US;
    if (job->status == STORE_LOST) {
        lose_store(p, job);
    } else if (job->status != STORE_DONE) {
        engine_note(p, NOTE_ALERT, -1, "PostgreSQL: %s", job->detail);
    } else {
        p->secret = job->settings.secret;
        if (p->partition_count == 0)
            p->partition_count = job->settings.partition_count;
        if (p->options.partitioner == PARTITIONER_UNKNOWN &&
            job->settings.partitioner != PARTITIONER_UNKNOWN) {
            p->partitioner = job->settings.partitioner;
            p->partitioner_stored = true;
        }
        p->settings_known = true;
        free(p->sealed_days);
        p->sealed_days = job->sealed_days;
        p->sealed_day_count = job->sealed_day_count;
        ceilings_loaded(p, job->catalogue);
        settle_open(p);
        adopt_all_seals(p);
        return;
    }
    free(job->sealed_days);
}

static void take_job(struct pipeline *p, struct store_job *job)
{
    p->job = NULL;
    switch (job->kind) {
    case STORE_COMMIT:
    case STORE_STREAM:
        batch_done(p, job);
        break;
    case STORE_TAKEOVER:
        takeover_done(p, job);
        if (job->status == STORE_LOST)
            lose_store(p, job);
        else
            reopen(p);
        break;
    case STORE_RECOVER:
        recover_done(p, job);
        break;
    case STORE_CATALOGUE:
        catalogue_done(p, job);
        break;
    case STORE_SEED:
        if (job->status == STORE_LOST)
            lose_store(p, job);
        ceilings_seeded(p, job);
        break;
    }
    free(job->fenced_lanes);
    free(job);
}

/* --- what the store does next --- */

static bool flags_settled(struct pipeline *p)
{
    for (size_t i = 0; i < p->lane_count; i++) {
        const struct lane *lane = p->lanes[i];
        if (engine_running(lane) && !flag_book_settled(lane->flags, lane->flags_at_close))
            return false;
    }
    return true;
}

static struct store_job *commit_job(struct pipeline *p)
{
    if (!p->closed || p->lost)
        return NULL;
    if (!flags_settled(p)) {
        if (p->now_us - p->closed_at_us < ENGINE_FLAG_WAIT_US)
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

static struct batch_day *day_to_stream(struct pipeline *p)
{
    for (size_t i = 0; i < p->open->day_count; i++) {
        struct batch_day *day = &p->open->days[i];
        if (day->rows.size_bytes >= ENGINE_STREAM_BYTES &&
            (p->open_stream_day == 0 || p->open_stream_day == day->day))
            return day;
    }
    return NULL;
}

static struct store_job *stream_job(struct pipeline *p)
{
    struct batch_day *day =
        !p->open || p->closed || p->lost || p->limit_rows < p->options.max_rows ? NULL : day_to_stream(p);
    struct store_job *job = day ? settle_new_job(p, STORE_STREAM) : NULL;
    if (!job)
        return NULL;
    job->stream_day = p->open_stream_day = day->day;
    job->rows = day->rows;
    day->rows = p->spare;
    p->spare = (struct buffer){0};
    day->rows_taken = day->row_count;
    return job;
}

static struct store_job *catalogue_job(struct pipeline *p)
{
    if (p->now_us < p->catalogue_at_us && p->catalogue_at_us - p->now_us <= CATALOGUE_EVERY_US)
        return NULL;
    struct store_job *job = settle_new_job(p, STORE_CATALOGUE);
    if (job)
        job->known_generation = ceilings_newest(p) ? ceilings_newest(p)->generation : -1;
    return job;
}

/* Jobs that must not meet a transaction that is under way. */
static struct store_job *quiet_job(struct pipeline *p)
{
    if (p->closed || p->open_stream_day)
        return NULL;
    struct store_job *job = ceilings_job(p);
    if (!job)
        job = catalogue_job(p);
    if (!job && p->settings_known)
        job = takeover_job(p);
    return job;
}

void settle_store(struct pipeline *p)
{
    struct store_job *job = p->ports.store.poll(p->ports.store.self);
    if (job)
        take_job(p, job);
    if (p->job)
        return;
    if (p->rewind_asked && !p->lost)
        undo_all(p, p->rewind_asked);
    settle_open(p);
    close_if_due(p);
    job = p->lost ? recover_job(p) : commit_job(p);
    if (!job && !p->lost)
        job = quiet_job(p);
    if (!job && !p->lost)
        job = stream_job(p);
    if (!job)
        return;
    p->job = job;
    p->ports.store.submit(p->ports.store.self, job);
}
