/* Lanes come and go: assignment, taking over, holding the log against what the store remembers, stopping. */
#include "engine.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BACKOFF_FIRST_US (ENGINE_SECOND_US / 4)
#define BACKOFF_LAST_US (30 * ENGINE_SECOND_US)
#define GATHER_US (3 * ENGINE_SECOND_US / 10)

static bool wholly_assigned(const struct pipeline *p, const struct source_event *event, int32_t number)
{
    size_t topics = 0;
    for (size_t i = 0; i < event->assigned_count; i++)
        topics += event->assigned[i].partition == number;
    return topics == p->options.topic_count;
}

/* It was fenced or dropped: with backoff. */
static void take_again(struct pipeline *p, struct lane *lane)
{
    lane_drop(lane);
    lane->phase = LANE_WAITING;
    lane->backoff_us = lane->backoff_us ? lane->backoff_us * 2 : BACKOFF_FIRST_US;
    if (lane->backoff_us > BACKOFF_LAST_US)
        lane->backoff_us = BACKOFF_LAST_US;
    lane->retry_at_us = p->steady_us + lane->backoff_us;
    p->consume_asked = true;
}

/* Without its state the lane knows nothing of what its flags stood for. */
static void begin_lane(struct pipeline *p, struct lane *lane)
{
    if (!lane->flags || !lane_has_state(lane)) {
        flag_book_free(lane->flags);
        lane->flags = flag_book_new(lane->number, lookup_seed(p->options.rollup.hash_seed));
        lane->flags_serial = ++p->next_serial;
        lane->flags_at_close = 0;
    }
    if (!lane->flags) {
        take_again(p, lane);
        return;
    }
    lane->winding_up = false;
    flag_book_read_again(lane->flags);
    lane->flags_caught_up = false;
    p->ports.flags.tail(p->ports.flags.self, lane->number);
    lane->phase = LANE_READING_FLAGS;
    probing_begin(p, lane);
}

/* A stopped lane goes on to send its flags: it is not taken over anew below a batch that waits for them. */
static bool may_begin(const struct pipeline *p, const struct lane *lane)
{
    if (p->steady_us < lane->retry_at_us)
        return false;
    if (lane->phase == LANE_STOPPED)
        return !lane->winding_up || flag_book_settled(lane->flags, lane->flags_at_close);
    return lane->phase == LANE_WAITING;
}

static void take_lane(struct pipeline *p, int32_t number)
{
    struct lane *lane = lanes_make(p, number);
    if (!lane)
        return;
    lane->assigned = true;
    if (lane->phase == LANE_IDLE)
        begin_lane(p, lane);
}

static void take_unmade(struct pipeline *p)
{
    int32_t number;
    while (lanes_next_unmade(p, &number))
        take_lane(p, number);
}

void takeover_assigned(struct pipeline *p, const struct source_event *event)
{
    p->consume_asked = true;
    p->gather_until_us = p->steady_us + GATHER_US;
    for (size_t i = 0; i < event->assigned_count; i++) {
        int32_t number = event->assigned[i].partition;
        if (!wholly_assigned(p, event, number)) {
            engine_note(p, NOTE_WARN, number,
                        "not all topics of this lane are assigned here: it is not consumed");
            continue;
        }
        take_lane(p, number);
    }
}

/* Puts every lane down. What is not committed by now is undone; where its commit may still be under way, the
 * whole state is forgotten. */
static void release(struct pipeline *p)
{
    bool unknown = p->closed_submitted || p->in_doubt;
    if (!batching_idle(p))
        settle_rewind(p, "the group took the lanes back");
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *lane = p->lanes[i];
        if (!lane || !lane->assigned)
            continue;
        lane->assigned = false;
        ceilings_leave(p, lane);
        if (unknown || p->lost || lane->phase != LANE_RUNNING)
            lane_drop(lane);
        lane->phase = LANE_IDLE;
        lane->backoff_us = 0;
        p->ports.flags.untail(p->ports.flags.self, lane->number);
    }
    p->unmade_count = 0;
    p->revoking = false;
    p->consume_asked = false;
    p->generation = 0;
    p->ports.source.release(p->ports.source.self);
}

void takeover_revoked(struct pipeline *p, const struct source_event *event)
{
    p->revoking = true;
    p->close_asked = true;
    p->revoke_by_us = event->lost ? p->steady_us : p->steady_us + ENGINE_REVOKE_US;
    if (event->lost)
        release(p);
}

void takeover_forget(struct pipeline *p, struct lane *lane)
{
    if (lane->assigned)
        take_again(p, lane);
    else
        lane_drop(lane);
}

void takeover_stop(struct pipeline *p, struct lane *lane, const char *format, ...)
{
    char reason[sizeof lane->stop_reason];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    if (strcmp(reason, lane->stop_reason) != 0) /* a running lane has none */
        engine_note(p, NOTE_ALERT, lane->number, "lane stopped: %s", reason);
    memcpy(lane->stop_reason, reason, sizeof reason);
    ceilings_leave(p, lane);
    lane->winding_up = lane_has_state(lane) && (lane->winding_up || lane->phase == LANE_RUNNING);
    lane->phase = LANE_STOPPED;
    lane->retry_at_us = p->steady_us + ENGINE_STOPPED_RETRY_US;
    p->consume_asked = true;
}

/* Asks why: removed records, a shorter log and a corrupt batch read differently to a person. */
void takeover_broken(struct pipeline *p, const struct source_event *event)
{
    struct lane *lane = engine_lane(p, event->partition);
    if (event->generation != p->generation || !engine_running(lane))
        return;
    engine_note(p, NOTE_WARN, lane->number, "%s: %s", p->options.topics[event->topic], event->detail);
    takeover_stop(p, lane, "%s: %s", p->options.topics[event->topic], event->detail);
    lane->retry_at_us = p->steady_us + ENGINE_SECOND_US;
}

static bool count_pending(struct pipeline *p, struct lane *lane)
{
    struct store_lane *restored = lane->pending;
    if (!restored)
        return true;
    for (size_t i = 0; i < restored->pending_count; i++) {
        const struct store_pending *pending = &restored->pending[i];
        struct ceiling_origin origin = {pending->topic, pending->partition, pending->offset};
        if (!intake_pending(p, lane, &pending->event, origin))
            return false;
    }
    lane_release_pending(lane);
    return true;
}

static void run_lane(struct pipeline *p, struct lane *lane)
{
    lane->phase = LANE_RUNNING;
    lane->backoff_us = 0;
    lane->stop_reason[0] = 0;
    lane->catching_up = true;
    for (size_t i = 0; i < lane->topic_count; i++)
        lane_log_ends(&lane->topics[i], lane->topics[i].high_offset);
    p->consume_asked = true;
    struct enforce_context context = {p, lane, -1};
    bool judged = ceiling_book_catalogue(lane->book) != NULL; /* else once the newest ceilings are adopted */
    if (!batching_join(p, lane) || !count_pending(p, lane) ||
        (judged &&
         !ceiling_book_judge(lane->book, DECIDED_BY_CEILINGS, p->now_us, enforce_decided, &context))) {
        lane->owes_pending = true;
        engine_out_of_memory(p);
        return;
    }
    engine_note(p, NOTE_INFO, lane->number, "lane runs, epoch %" PRId64 ", %zu dedupe keys", lane->epoch,
                dedupe_count(lane->dedupe));
}

static bool all_probed(const struct lane *lane)
{
    for (size_t i = 0; i < lane->topic_count; i++)
        if (!lane->topics[i].probed)
            return false;
    return true;
}

static void check_lane(struct pipeline *p, struct lane *lane)
{
    if (!all_probed(lane) || !p->open)
        return;
    for (size_t i = 0; i < lane->topic_count; i++)
        if (!probing_log_matches(p, lane, &lane->topics[i], p->options.topics[i]))
            return;
    run_lane(p, lane);
}

/* What little is left of a backlog joins the batch that waits for it, which takes max_delay at most. With
 * nothing left, nobody waits any longer. */
static void judge_backlog(struct pipeline *p, int64_t backlog)
{
    if (backlog > p->options.max_rows / 8) {
        p->behind_until_us = p->steady_us + p->options.max_delay_us;
    } else if (backlog == 0) {
        p->close_asked = p->close_asked || p->behind;
        p->behind_until_us = p->steady_us;
    }
    p->behind = p->steady_us < p->behind_until_us;
}

static void measure_backlog(struct pipeline *p)
{
    int64_t backlog = 0;
    for (size_t i = 0; i < p->lane_count; i++)
        for (size_t t = 0; engine_running(p->lanes[i]) && t < p->options.topic_count; t++) {
            const struct lane_topic *topic = &p->lanes[i]->topics[t];
            int64_t end = topic->high_offset < topic->limit ? topic->high_offset : topic->limit;
            backlog += end > topic->position ? end - topic->position : 0;
        }
    judge_backlog(p, backlog);
}

static size_t count_taking(const struct pipeline *p)
{
    size_t count = 0;
    for (size_t i = 0; i < p->lane_count; i++)
        count += p->lanes[i] && p->lanes[i]->assigned && p->lanes[i]->phase == LANE_TAKING;
    return count;
}

/* Lanes that come together go on together, but none waits long: each takeover closes the batch of those that
 * run already, and with each further lane that is to be consumed the source begins anew with all of them. */
static bool gathers(const struct pipeline *p, enum lane_phase phase)
{
    for (size_t i = 0; p->steady_us < p->gather_until_us && i < p->lane_count; i++)
        if (p->lanes[i] && p->lanes[i]->assigned && p->lanes[i]->phase == phase)
            return true;
    return false;
}

bool takeover_waits(const struct pipeline *p)
{
    return count_taking(p) > 0 && !gathers(p, LANE_READING_FLAGS) && !settle_does(p, STORE_TAKEOVER);
}

void takeover_advance(struct pipeline *p)
{
    if (p->revoking && (batching_idle(p) || p->steady_us >= p->revoke_by_us))
        release(p);
    p->close_asked = p->close_asked || p->revoking || p->draining;
    take_unmade(p);
    measure_backlog(p);
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *lane = p->lanes[i];
        if (!lane || !lane->assigned)
            continue;
        if (may_begin(p, lane))
            begin_lane(p, lane);
        else if (lane->phase == LANE_READING_FLAGS && lane->flags_caught_up && all_probed(lane))
            lane->phase = LANE_TAKING;
        else if (lane->phase == LANE_READING_FLAGS)
            probing_ask_again(p, lane);
        else if (lane->phase == LANE_CHECKING)
            probing_ask_again(p, lane), check_lane(p, lane);
        else if (lane->phase == LANE_RUNNING)
            probing_watch(p, lane);
    }
    /* Intake is held meanwhile: nobody shall wait until the batch is due, least of all flags. */
    p->close_asked = p->close_asked || takeover_waits(p);
}

/* 0: the topics disagree, and the lane was stopped for it. */
static int32_t lane_partition_count(struct pipeline *p, struct lane *lane)
{
    int32_t count = lane->topics[0].partition_count;
    for (size_t i = 1; i < lane->topic_count; i++)
        if (lane->topics[i].partition_count != count) {
            takeover_stop(
                p, lane,
                "the usage topics have unequal partition counts: %s has %d, %s has %d. Make them equal",
                p->options.topics[0], count, p->options.topics[i], lane->topics[i].partition_count);
            return 0;
        }
    return count;
}

/* Lanes are taken over when nothing of the old owner's (ourselves, perhaps) is under way. */
struct store_job *takeover_job(struct pipeline *p)
{
    size_t count = count_taking(p);
    if (count == 0 || gathers(p, LANE_READING_FLAGS) || p->revoking || !batching_idle(p))
        return NULL;
    struct store_job *job = settle_new_job(p, STORE_TAKEOVER);
    if (!job || !(job->lanes = calloc(count, sizeof *job->lanes))) {
        free(job);
        return NULL;
    }
    job->known_generation = ceilings_newest(p) ? ceilings_newest(p)->generation : -1;
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *lane = p->lanes[i];
        if (!lane || !lane->assigned || lane->phase != LANE_TAKING)
            continue;
        int32_t partitions = lane_partition_count(p, lane);
        if (partitions == 0)
            continue;
        job->settings.partition_count = partitions;
        job->lanes[job->lane_count++] = (struct store_lane){
            .lane = lane->number,
            .epoch_above = flag_book_highest_epoch(lane->flags),
            .kept_epoch = lane_has_state(lane) ? lane->epoch : 0,
        };
    }
    if (job->lane_count > 0) {
        batching_reopen(p); /* without the rows that these lanes had in it before */
        if (rehome_former(p))
            job->former_known = former_hold(rehome_former(p));
        return job;
    }
    free(job->lanes);
    free(job);
    return NULL;
}

/* Flags may be out for events that were decided but never committed, by us or by an earlier owner. */
static void set_reached(struct pipeline *p, struct lane *lane)
{
    for (size_t i = 0; i < lane->topic_count; i++) {
        struct lane_topic *topic = &lane->topics[i];
        int64_t flagged = flag_book_reached(lane->flags, text_of(p->options.topics[i]), lane->number) + 1;
        if (flagged > topic->reached)
            topic->reached = flagged;
    }
}

static bool still_ours(const struct lane *lane, const struct store_lane *taken)
{
    if (!taken->kept || !lane_has_state(lane) || lane->epoch != taken->kept_epoch)
        return false;
    for (size_t i = 0; i < lane->topic_count; i++)
        if (taken->offsets[i].next_offset != lane->topics[i].committed)
            return false;
    return true;
}

/* What the lane decides by; NULL: nothing yet. */
static const struct ceiling_catalogue *adopted_catalogue(struct pipeline *p, struct store_lane *taken)
{
    ceilings_loaded(p, taken->adopted);
    taken->adopted = NULL;
    return ceilings_at(p, taken->ceilings_generation);
}

static bool use_taken(struct pipeline *p, struct lane *lane, struct store_lane *taken)
{
    if (!lane_restore(lane, taken))
        return false;
    flag_book_epoch(lane->flags, lane->epoch);
    const struct ceiling_catalogue *catalogue = adopted_catalogue(p, taken);
    if (catalogue)
        ceiling_book_use(lane->book, catalogue);
    else if (taken->ceilings_generation > 0)
        return false; /* out of memory, for the store knows them all */
    else
        lane->ceilings_generation = -1; /* counted anew from usage_hourly */
    ceiling_book_forget(lane->book, p->now_us - CEILING_COUNTED_US);
    set_reached(p, lane);
    return enforce_restore(p, lane);
}

void takeover_free(struct store_lane *taken)
{
    dedupe_free(taken->dedupe);
    ceiling_book_free(taken->book);
    if (taken->adopted)
        ceiling_catalogue_free(taken->adopted);
    if (taken->arena)
        arena_free(taken->arena);
    free(taken->arena);
    taken->arena = NULL;
}

static bool keep_pending(struct lane *lane, struct store_lane *taken)
{
    if (taken->pending_count == 0)
        return true;
    lane->pending = malloc(sizeof *lane->pending);
    if (!lane->pending)
        return false;
    *lane->pending = *taken;
    taken->arena = NULL;
    return true;
}

/* What came with the job, or what the other lanes have. */
static void hold_former(struct lane *lane, const struct store_job *job)
{
    struct former *former = job->former ? job->former : job->former_known;
    if (former && former->batch == job->settings.rehomed_batch)
        lane->former = former_hold(former);
}

static void lane_taken(struct pipeline *p, const struct store_job *job, struct store_lane *taken)
{
    struct lane *lane = p->lanes[taken->lane];
    bool wanted = lane->assigned && lane->phase == LANE_TAKING;
    bool kept = wanted && still_ours(lane, taken);
    if (!wanted) {
        takeover_free(taken);
    } else if (!kept && (taken->kept || lane_has_state(lane) || !use_taken(p, lane, taken))) {
        /* The row is ours but not where we left it, or not ours any more, or memory is short. */
        takeover_free(taken);
        take_again(p, lane);
    } else if ((!kept && !keep_pending(lane, taken)) || !rehome_flags(p, lane)) {
        takeover_free(taken);
        take_again(p, lane);
    } else {
        takeover_free(taken);
        if (!kept)
            hold_former(lane, job);
        lane->phase = LANE_CHECKING;
        probing_begin(p, lane);
    }
}

static void all_taken(struct pipeline *p, struct store_job *job)
{
    rehome_settings(p, &job->settings);
    ceilings_loaded(p, job->catalogue);
    for (size_t i = 0; i < p->lane_count; i++)
        if (p->lanes[i] && p->lanes[i]->phase == LANE_TAKING &&
            !rehome_fits(p, p->lanes[i]->topics[0].partition_count))
            break;
    for (size_t i = 0; i < job->lane_count; i++)
        lane_taken(p, job, &job->lanes[i]);
}

void takeover_done(struct pipeline *p, struct store_job *job)
{
    p->gather_until_us = p->steady_us + GATHER_US;
    if (job->status == STORE_DONE)
        all_taken(p, job);
    former_release(job->former);
    former_release(job->former_known);
    for (size_t i = 0; i < job->lane_count; i++) {
        struct lane *lane = p->lanes[job->lanes[i].lane];
        if (job->status == STORE_FATAL && lane->phase == LANE_TAKING)
            takeover_stop(p, lane, "PostgreSQL: %s", job->detail);
        else if (job->status == STORE_FENCED && lane->phase == LANE_TAKING)
            take_again(p, lane);
        if (job->status != STORE_DONE)
            takeover_free(&job->lanes[i]);
    }
    free(job->lanes);
}

void takeover_consume(struct pipeline *p)
{
    if (gathers(p, LANE_CHECKING))
        return;
    size_t count = 0;
    struct source_position *positions =
        arena_alloc(p->scratch, (p->lane_count * p->options.topic_count + 1) * sizeof *positions);
    if (!positions)
        return;
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *lane = p->lanes[i];
        for (uint32_t t = 0; engine_running(lane) && t < lane->topic_count; t++) {
            if (lane->topics[t].position < lane->topics[t].limit)
                positions[count++] = (struct source_position){t, lane->number, lane->topics[t].position};
            lane->topics[t].jumps_trusted = false;
        }
    }
    p->generation = p->ports.source.consume(p->ports.source.self, positions, count);
    p->consume_asked = false;
}
