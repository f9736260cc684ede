#include "engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { SCRATCH_CHUNK_BYTES = 64 << 10 };

static bool make_parts(struct pipeline *p)
{
    p->decoder = decoder_new(&p->options.rules);
    p->scratch = malloc(sizeof *p->scratch);
    for (size_t i = 0; i < STORE_LINKS; i++)
        p->batches[i] = batch_new(&p->options.rollup, &p->row_pool);
    p->refused = calloc(ENGINE_REFUSED_LIMIT, sizeof *p->refused);
    if (p->scratch)
        arena_init(p->scratch, SCRATCH_CHUNK_BYTES);
    return p->decoder && p->scratch && p->batches[0] && p->batches[1] && p->refused;
}

static void read_clocks(struct pipeline *p)
{
    p->now_us = clock_now_us(&p->ports.clock);
    p->steady_us = clock_steady_us(&p->ports.clock);
}

struct pipeline *pipeline_new(const struct pipeline_options *options, const struct pipeline_ports *ports)
{
    struct pipeline *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->options = *options;
    p->ports = *ports;
    p->partitioner = options->partitioner;
    p->limit_rows = options->max_rows;
    p->stats.store_up = true;
    read_clocks(p);
    p->stats.last_commit_us = p->now_us;
    if (!make_parts(p)) {
        pipeline_free(p);
        return NULL;
    }
    return p;
}

void pipeline_free(struct pipeline *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->lane_count; i++) {
        if (p->lanes[i])
            lane_clear(p->lanes[i]);
        free(p->lanes[i]);
    }
    free(p->lanes);
    pipeline_abandon(p, p->ceilings_seed);
    for (size_t i = 0; i < STORE_LINKS; i++)
        pipeline_abandon(p, p->links[i].failed);
    for (size_t i = 0; i < p->catalogue_count; i++)
        ceiling_catalogue_free(p->catalogues[i]);
    free(p->catalogues);
    decoder_free(p->decoder);
    if (p->scratch)
        arena_free(p->scratch);
    free(p->scratch);
    for (size_t i = 0; i < STORE_LINKS; i++)
        batch_free(p->batches[i]);
    free(p->refused);
    free(p->sealed_days);
    row_pool_free(&p->row_pool);
    free(p);
}

static void free_job(struct store_job *job)
{
    for (size_t i = 0; i < job->lane_count; i++)
        takeover_free(&job->lanes[i]);
    former_release(job->former);
    former_release(job->former_known);
    free(job->lanes);
    free(job->facts);
    free(job->fenced_lanes);
    free(job->sealed_days);
    ceiling_catalogue_free(job->catalogue);
    row_queue_free(&job->rows);
    if (job->arena)
        arena_free(job->arena);
    free(job->arena);
    free(job);
}

void pipeline_abandon(struct pipeline *p, struct store_job *jobs)
{
    for (size_t i = 0; p && i < STORE_LINKS; i++)
        p->links[i].job = NULL;
    while (jobs) {
        struct store_job *next = jobs->next;
        free_job(jobs);
        jobs = next;
    }
}

void engine_note(struct pipeline *p, enum note_level level, int32_t lane, const char *format, ...)
{
    char sentence[640];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    p->ports.observer.note(p->ports.observer.self, level, lane, sentence);
}

struct lane *engine_lane(struct pipeline *p, int32_t number)
{
    return number >= 0 && (size_t)number < p->lane_count ? p->lanes[number] : NULL;
}

bool engine_running(const struct lane *lane)
{
    return lane && lane->phase == LANE_RUNNING;
}

bool engine_enforcing(const struct lane *lane)
{
    return engine_running(lane) || (lane && lane->phase == LANE_STOPPED && lane->winding_up);
}

void engine_out_of_memory(struct pipeline *p)
{
    settle_rewind(p, "out of memory");
}

static void take_source_event(struct pipeline *p, const struct source_event *event)
{
    switch (event->kind) {
    case SOURCE_NOTHING:
        break;
    case SOURCE_RECORDS:
        intake_records(p, event);
        break;
    case SOURCE_END:
        intake_end(p, event);
        break;
    case SOURCE_ASSIGNED:
        takeover_assigned(p, event);
        break;
    case SOURCE_REVOKED:
        takeover_revoked(p, event);
        break;
    case SOURCE_PROBED:
        probing_answered(p, event);
        break;
    case SOURCE_BROKEN:
        takeover_broken(p, event);
        break;
    case SOURCE_TROUBLE:
        engine_note(p, NOTE_WARN, -1, "Kafka: %s", event->detail);
        break;
    }
}

static void poll_source(struct pipeline *p, int timeout_ms)
{
    bool held = !intake_wanted(p);
    if (held != p->held)
        p->ports.source.hold(p->ports.source.self, held);
    p->held = held;
    p->stats.holding = held;
    struct source_event event = {0};
    p->ports.source.poll(p->ports.source.self, timeout_ms, &event);
    read_clocks(p);
    take_source_event(p, &event);
}

/* Polls without sleeping while records keep coming and something else waits, and sleeps otherwise. */
void pipeline_turn(struct pipeline *p, int timeout_ms)
{
    arena_reset(p->scratch);
    read_clocks(p);
    poll_source(p, timeout_ms);
    enforce_catch_up(p);
    enforce_send(p);
    enforce_poll(p);
    enforce_give_way(p);
    settle_store(p);
    takeover_advance(p);
    ceilings_check(p);
    enforce_tick(p);
    enforce_send(p);
    if (p->consume_asked)
        takeover_consume(p);
}

void pipeline_drain(struct pipeline *p)
{
    p->draining = true;
    p->close_asked = true;
}

bool pipeline_drained(const struct pipeline *p)
{
    return p->draining && !settle_busy(p) && (batching_idle(p) || p->lost);
}

bool pipeline_clean(const struct pipeline *p)
{
    return batching_clean(p) && !p->lost;
}

const struct identity_secret *pipeline_secret(const struct pipeline *p)
{
    return p->settings_known ? &p->secret : NULL;
}

static void measure(struct pipeline *p)
{
    p->stats.dedupe_keys = p->stats.dedupe_bytes = p->stats.ceiling_bytes = 0;
    for (size_t i = 0; i < p->lane_count; i++) {
        const struct lane *lane = p->lanes[i];
        if (!lane || !lane_has_state(lane))
            continue;
        p->stats.dedupe_keys += dedupe_count(lane->dedupe);
        p->stats.dedupe_bytes += dedupe_bytes(lane->dedupe);
        p->stats.ceiling_bytes += ceiling_book_bytes(lane->book);
    }
    const struct former *former = rehome_former(p);
    if (former) {
        p->stats.dedupe_keys += dedupe_count(former->keys);
        p->stats.dedupe_bytes += dedupe_bytes(former->keys);
    }
    rehome_measure(p);
    p->stats.lanes_unmade = p->unmade_count;
    p->stats.ahead = p->ahead;
    p->stats.store_up = !p->lost;
    /* A batch that the store has is the store's to look at. */
    p->stats.batch_bytes = p->open ? batch_bytes(p->open) : 0;
}

const struct pipeline_stats *pipeline_stats(struct pipeline *p)
{
    measure(p);
    return &p->stats;
}

size_t pipeline_partitions(const struct pipeline *p)
{
    return p->lane_count * p->options.topic_count;
}

bool pipeline_partition(const struct pipeline *p, size_t index, struct pipeline_partition *out)
{
    const struct lane *lane = p->lanes[index / p->options.topic_count];
    if (!lane)
        return false;
    const struct lane_topic *topic = &lane->topics[index % p->options.topic_count];
    *out = (struct pipeline_partition){
        .topic = (uint32_t)(index % p->options.topic_count),
        .partition = lane->number,
        .phase = lane->phase,
        .epoch = lane->epoch,
        .committed = topic->committed,
        .position = topic->position,
        .high_offset = topic->high_offset,
        .seen_through_us = topic->seen_through_us,
        .at_limit = lane->phase == LANE_RUNNING && topic->position >= topic->limit,
        .stop_reason = lane->phase == LANE_STOPPED ? lane->stop_reason : "",
    };
    return true;
}
