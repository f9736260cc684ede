/* The open batch: opened with the rows of its lanes, closed when it is due. */
#include "engine.h"

enum { STREAM_BYTES = 256 << 10 }; /* so many rows are worth a trip to the store */

/* Many times batch.max_delay while there is a backlog: nothing that is looked at later is fresh, and a rollup
 * row is upserted once a batch, so that a slow PostgreSQL would get the most upserts for its rows. */
enum { DELAYS_BEHIND = 10 };

bool batching_join(struct pipeline *p, struct lane *lane)
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
            .first_offset = topic->stored,
        };
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

void batching_adopt_seals(struct pipeline *p)
{
    for (size_t i = 0; p->open && i < p->lane_count; i++)
        if (engine_running(p->lanes[i]))
            adopt_seals(p, p->lanes[i]);
}

bool batching_open(struct pipeline *p)
{
    if (p->open || p->ahead || p->lost)
        return p->open != NULL;
    struct batch *batch = p->closed == p->batches[0] ? p->batches[1] : p->batches[0];
    batch_reset(batch);
    batch->number = ++p->batch_number;
    batch->opened_at_us = p->steady_us;
    p->open = batch;
    p->open_stream_day = 0;
    for (size_t i = 0; i < p->lane_count; i++)
        if (engine_running(p->lanes[i]) && !batching_join(p, p->lanes[i]))
            p->rewind_asked = "out of memory";
    batching_adopt_seals(p);
    return true;
}

/* Late events that were counted in it are not read again from Kafka: their lanes are restored, for the store
 * knows which of them still have to be counted. */
void batching_discard(struct pipeline *p, struct batch **batch)
{
    if (!*batch)
        return;
    for (size_t i = 0; i < (*batch)->settled_count; i++) {
        struct lane *lane = engine_lane(p, (*batch)->settled[i].partition);
        if (lane)
            lane->owes_pending = true;
    }
    batch_reset(*batch);
    *batch = NULL;
}

/* --- closing it --- */

static const struct lane_topic *topic_of(const struct pipeline *p, const struct batch_partition *row)
{
    return &p->lanes[row->partition]->topics[row->topic];
}

/* Something that would have to be decided again if this batch were thrown away. */
static bool batch_decides_something(const struct pipeline *p, const struct batch *batch)
{
    if (batch->event_count || batch->adoption_count || batch->decision_count || batch->settled_count ||
        batch->ceilings_adopted_count || batch->learned != PARTITIONER_UNKNOWN ||
        p->ceilings_stage == CEILINGS_SEEDED)
        return true;
    for (size_t i = 0; i < batch->partition_count; i++)
        if (topic_of(p, &batch->partitions[i])->position != batch->partitions[i].first_offset)
            return true;
    return false;
}

static bool watermark_rose(const struct pipeline *p, const struct batch *batch)
{
    for (size_t i = 0; i < batch->partition_count; i++) {
        const struct lane_topic *topic = topic_of(p, &batch->partitions[i]);
        if (topic->seen_through_us - topic->noted_through_us >= ENGINE_SECOND_US)
            return true;
    }
    return false;
}

/* A lane that waits at its limit, with records beyond, has no watermark to write. That it was fenced, by a
 * person who sent it back, it would never learn without a commit. */
static bool waits_unheard(const struct pipeline *p, const struct batch *batch)
{
    for (size_t i = 0; i < batch->partition_count; i++)
        if (lane_at_limit(p->lanes[batch->partitions[i].partition]) &&
            p->steady_us - topic_of(p, &batch->partitions[i])->noted_at_us >= ENGINE_SECOND_US)
            return true;
    return false;
}

static bool batch_says_something(const struct pipeline *p, const struct batch *batch)
{
    bool leaving = p->draining || p->revoking; /* a watermark alone is not worth a last commit */
    return batch_decides_something(p, batch) ||
           (!leaving && (watermark_rose(p, batch) || waits_unheard(p, batch)));
}

static bool has_all_rows(const struct pipeline *p, const struct batch *batch)
{
    return (int64_t)(batch->row_count + batch->sealed_count) >= p->limit_rows ||
           (int64_t)batch->event_count >= p->options.max_rows;
}

/* The day whose rows leave for the store while the batch is still filled: the one that most of them are of.
 * None while the search for a refused row needs batches of exact size. */
static struct batch_day *stream_day_of(const struct pipeline *p, const struct batch *batch)
{
    struct batch_day *most = NULL;
    if (p->limit_rows < p->options.max_rows)
        return NULL;
    for (size_t i = 0; i < batch->day_count; i++) {
        struct batch_day *day = &batch->days[i];
        if (day->left_out != batch->left_out)
            continue; /* rare */
        if (p->open_stream_day == day->day)
            return day;
        if (!most || day->rows.size_bytes > most->rows.size_bytes)
            most = day;
    }
    return most;
}

static size_t stream_bytes(const struct pipeline *p)
{
    size_t part_bytes = p->options.max_batch_bytes / 8;
    return part_bytes < STREAM_BYTES ? part_bytes : STREAM_BYTES;
}

struct batch_day *batching_day_to_stream(const struct pipeline *p)
{
    struct batch_day *day = p->open ? stream_day_of(p, p->open) : NULL;
    return day && day->rows.size_bytes >= stream_bytes(p) ? day : NULL;
}

/* Rows that leave without a batch having to be closed for it. */
static size_t leaving_bytes(const struct pipeline *p, const struct batch *batch)
{
    const struct batch_day *streamed = stream_day_of(p, batch);
    return streamed ? streamed->rows.size_bytes : 0;
}

/* More rows than a quarter of the memory would only wait for the store. */
bool batching_full(const struct pipeline *p, const struct batch *batch)
{
    return has_all_rows(p, batch) || leaving_bytes(p, batch) >= p->options.max_batch_bytes / 4 ||
           batch_used_bytes(batch) >= p->options.max_batch_bytes;
}

/* Rows that can be streamed only have to wait for the store: closing would not make room for them. With half
 * of the memory for all else, a batch that is full either has rows to stream or is due. */
static bool holds_too_much(const struct pipeline *p, const struct batch *batch)
{
    return batch_used_bytes(batch) - leaving_bytes(p, batch) >= p->options.max_batch_bytes / 2;
}

static bool batch_is_due(const struct pipeline *p, const struct batch *batch)
{
    int64_t age_us = p->steady_us - batch->opened_at_us;
    if (p->close_asked || has_all_rows(p, batch) || holds_too_much(p, batch))
        return true;
    return age_us >= (p->behind ? DELAYS_BEHIND : 1) * p->options.max_delay_us;
}

static bool collect_change(void *self, const struct ceiling_change *change)
{
    return batch_change(self, change);
}

static void close_partition(struct pipeline *p, struct batch_partition *row)
{
    struct lane_topic *topic = &p->lanes[row->partition]->topics[row->topic];
    row->next_offset = topic->stored = topic->position;
    row->witness_offset = topic->witness.offset;
    row->witness_fingerprint = topic->witness.fingerprint;
    row->last_offset = topic->last_offset;
    row->last_fingerprint = topic->last_fingerprint;
    row->seen_through_us = topic->seen_through_us;
    row->gap = topic->gap;
    topic->gap = 0;
    topic->noted_through_us = topic->seen_through_us;
    topic->noted_at_us = p->steady_us;
    topic->row = SIZE_MAX;
}

static bool close_lane(struct lane *lane, struct batch *batch)
{
    if (!ceiling_book_changes(lane->book, lane->opened.counters, collect_change, batch))
        return false;
    lane->opened = lane_mark(lane);
    lane->flags_at_close = flag_book_last_cookie(lane->flags);
    return true;
}

static void close_batch(struct pipeline *p)
{
    struct batch *batch = p->open;
    bool ok = ceilings_closing(p, batch);
    for (size_t i = 0; ok && i < p->lane_count; i++)
        if (p->lanes[i] && lane_has_state(p->lanes[i]) && p->lanes[i]->topics[0].row != SIZE_MAX)
            ok = close_lane(p->lanes[i], batch);
    if (!ok) {
        p->rewind_asked = "out of memory";
        return;
    }
    for (size_t i = 0; i < batch->partition_count; i++)
        close_partition(p, &batch->partitions[i]);
    p->closed = batch;
    p->closed_stream_day = p->open_stream_day;
    p->closed_submitted = false;
    p->closed_at_us = p->steady_us;
    p->flags_late = false;
    p->open = NULL;
    p->close_asked = false;
    ceilings_closed(p, batch);
    batching_open(p);
}

/* An empty batch has nothing to lose: it begins anew, with the lanes and the time of now. */
void batching_reopen(struct pipeline *p)
{
    if (p->open)
        batch_reset(p->open);
    p->open = NULL;
    batching_open(p);
}

void batching_close_if_due(struct pipeline *p)
{
    if (!p->open || p->closed || p->rewind_asked || !batch_is_due(p, p->open))
        return;
    /* The sums for new ceilings are to be read as they are at the last boundary. */
    if (p->ceilings_stage == CEILINGS_SEEDING && !p->revoking)
        return;
    if (p->ceilings_stage == CEILINGS_SEEDING)
        ceilings_failed(p); /* no time for that: whoever owns the lanes next begins anew */
    if (batch_says_something(p, p->open)) {
        close_batch(p);
    } else {
        p->close_asked = false;
        p->open->opened_at_us = p->steady_us;
    }
}

bool batching_idle(const struct pipeline *p)
{
    return !p->closed && !p->ahead && !p->rewind_asked && (!p->open || !batch_says_something(p, p->open));
}

bool batching_clean(const struct pipeline *p)
{
    return !p->closed && !p->ahead && !p->rewind_asked && (!p->open || !batch_decides_something(p, p->open));
}
