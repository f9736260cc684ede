/* Lanes come and go: assignment, taking over, holding the log against what the store remembers, stopping. */
#include "engine.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BACKOFF_FIRST_US (ENGINE_SECOND_US / 4)
#define BACKOFF_LAST_US (30 * ENGINE_SECOND_US)
#define PROBE_LOST_US (120 * ENGINE_SECOND_US)

static bool wholly_assigned(const struct pipeline *p, const struct source_event *event, int32_t number)
{
    size_t topics = 0;
    for (size_t i = 0; i < event->assigned_count; i++)
        topics += event->assigned[i].partition == number;
    return topics == p->options.topic_count;
}

/* Beside the watermarks, one record may be asked for. */
enum asked { ASKED_NONE, ASKED_LAST, ASKED_WITNESS };

static struct lane_record record_of(const struct lane_topic *topic, enum asked asked)
{
    switch (asked) {
    case ASKED_LAST:
        return (struct lane_record){topic->committed_last_offset, topic->committed_fingerprint};
    case ASKED_WITNESS:
        return topic->witness;
    default:
        return (struct lane_record){-1, 0};
    }
}

/* While a lane is checked. */
static enum asked next_asked(const struct lane_topic *topic)
{
    return topic->last_checked ? ASKED_WITNESS : ASKED_LAST;
}

static void ask(struct pipeline *p, struct lane *lane, uint32_t topic_index, enum asked asked)
{
    struct lane_topic *topic = &lane->topics[topic_index];
    if (topic->probing && p->steady_us - topic->asked_at_us < PROBE_LOST_US)
        return;
    topic->probing = true;
    topic->question++;
    topic->asked_at_us = p->steady_us;
    topic->asked_position = topic->position;
    topic->heir = record_of(topic, ASKED_LAST);
    struct lane_record record = record_of(topic, asked);
    topic->asked_offset = record.offset;
    topic->asked_fingerprint = record.fingerprint;
    p->ports.source.probe(p->ports.source.self, topic_index, lane->number, topic->asked_offset,
                          topic->question);
}

static void enter(struct pipeline *p, struct lane *lane, enum lane_phase phase)
{
    lane->phase = phase;
    for (uint32_t i = 0; i < lane->topic_count; i++) {
        lane->topics[i].probed = lane->topics[i].last_checked = false;
        if (phase == LANE_READING_FLAGS || phase == LANE_CHECKING)
            ask(p, lane, i, phase == LANE_CHECKING ? ASKED_LAST : ASKED_NONE);
    }
}

/* Without its state the lane knows nothing of what its flags stood for. */
static void begin_lane(struct pipeline *p, struct lane *lane)
{
    if (!lane->flags || !lane_has_state(lane)) {
        flag_book_free(lane->flags);
        lane->flags = flag_book_new(lane->number, lookup_seed(p->options.rollup.hash_seed));
        lane->flags_serial = ++p->next_serial;
    }
    if (!lane->flags) {
        takeover_again(p, lane);
        return;
    }
    flag_book_read_again(lane->flags);
    lane->flags_caught_up = false;
    p->ports.flags.tail(p->ports.flags.self, lane->number);
    enter(p, lane, LANE_READING_FLAGS);
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

void takeover_again(struct pipeline *p, struct lane *lane)
{
    lane_drop(lane);
    lane->phase = LANE_WAITING;
    lane->backoff_us = lane->backoff_us ? lane->backoff_us * 2 : BACKOFF_FIRST_US;
    if (lane->backoff_us > BACKOFF_LAST_US)
        lane->backoff_us = BACKOFF_LAST_US;
    lane->retry_at_us = p->steady_us + lane->backoff_us;
    p->consume_asked = true;
}

void takeover_forget(struct pipeline *p, struct lane *lane)
{
    if (lane->assigned)
        takeover_again(p, lane);
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
    if (strcmp(reason, lane->stop_reason) != 0 || lane->phase == LANE_RUNNING)
        engine_note(p, NOTE_ALERT, lane->number, "lane stopped: %s", reason);
    memcpy(lane->stop_reason, reason, sizeof reason);
    ceilings_leave(p, lane);
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

/* A record that was read stays a record until retention removes it, and all before it. */
static bool holds_another(const struct lane_topic *topic, int64_t low_offset, bool found,
                          uint64_t fingerprint)
{
    if (topic->asked_offset < low_offset || topic->asked_offset < 0)
        return false;
    return !found || fingerprint != topic->asked_fingerprint;
}

/* What the log lacks of what the store remembers; true if nothing. */
static bool log_matches(struct pipeline *p, struct lane *lane, struct lane_topic *topic, const char *name)
{
    bool fresh = topic->committed < 0;
    if (fresh) {
        topic->position = topic->gap = topic->low_offset;
    } else if (topic->high_offset < topic->committed) {
        takeover_stop(
            p, lane,
            "%s/%d ends at offset %" PRId64 ", but offsets up to %" PRId64
            " were read: the topic was recreated or truncated. Free the lane with `usagebox offsets seek`",
            name, lane->number, topic->high_offset, topic->committed);
        return false;
    } else if (topic->low_offset > topic->committed) {
        takeover_stop(p, lane,
                      "%s/%d begins at offset %" PRId64 ": %" PRId64 " records from offset %" PRId64
                      " on were removed before they were read. Free the lane with `usagebox offsets accept`",
                      name, lane->number, topic->low_offset, topic->low_offset - topic->committed,
                      topic->committed);
        return false;
    } else if (holds_another(topic, topic->low_offset, topic->found, topic->found_fingerprint)) {
        takeover_stop(p, lane,
                      "%s/%d holds something else at offset %" PRId64
                      " than the record that was read: the topic was recreated. Free the lane with `usagebox "
                      "offsets seek`",
                      name, lane->number, topic->asked_offset);
        return false;
    } else if (topic->asked_offset >= 0 && !topic->found) {
        engine_note(p, NOTE_WARN, lane->number,
                    "%s/%d: the last record read, at offset %" PRId64
                    ", is gone (retention): that this is the same topic can't be verified",
                    name, lane->number, topic->asked_offset);
    }
    return true;
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
        if (!log_matches(p, lane, &lane->topics[i], p->options.topics[i]))
            return;
    run_lane(p, lane);
}

/* While a lane runs: its watermarks once a second, and now and then whether its log still is the one that was
 * read. */
static void watch_lane(struct pipeline *p, struct lane *lane)
{
    for (uint32_t i = 0; i < lane->topic_count; i++) {
        struct lane_topic *topic = &lane->topics[i];
        if (p->steady_us - topic->asked_at_us < ENGINE_SECOND_US)
            continue;
        bool fingerprint = p->steady_us - topic->fingerprint_at_us >= ENGINE_FINGERPRINT_US;
        if (fingerprint && !topic->probing)
            topic->fingerprint_at_us = p->steady_us;
        ask(p, lane, i, fingerprint ? ASKED_WITNESS : ASKED_NONE);
    }
}

static void ask_again(struct pipeline *p, struct lane *lane)
{
    for (uint32_t i = 0; i < lane->topic_count; i++)
        if (!lane->topics[i].probed && p->steady_us - lane->topics[i].asked_at_us >= ENGINE_SECOND_US)
            ask(p, lane, i, lane->phase == LANE_CHECKING ? next_asked(&lane->topics[i]) : ASKED_NONE);
}

/* Everything that was read is behind a log's end that was asked for when nothing newer could be in it. */
static void watermarks_seen(struct pipeline *p, struct lane *lane, struct lane_topic *topic,
                            const struct source_probe *probe)
{
    if (probe->high_offset < topic->asked_position) {
        takeover_stop(
            p, lane,
            "the log ends at offset %" PRId64 ", but offsets up to %" PRId64
            " were read: the topic was recreated or truncated. Free the lane with `usagebox offsets seek`",
            probe->high_offset, topic->asked_position);
    } else if (holds_another(topic, probe->low_offset, probe->found, probe->fingerprint)) {
        takeover_stop(p, lane,
                      "something else stands at offset %" PRId64
                      " than the record that was read: the topic was "
                      "recreated. Free the lane with `usagebox offsets seek`",
                      topic->asked_offset);
    } else {
        topic->witness = topic->asked_offset >= 0 ? topic->heir : topic->witness;
        if (topic->position >= probe->high_offset && probe->asked_at_us > topic->seen_through_us)
            topic->seen_through_us = probe->asked_at_us;
    }
}

/* The last record read may be one of another log, made anew before that was noticed: an older one, found
 * again in the log that was read all along, has its say too. */
static bool witness_is_next(struct lane_topic *topic)
{
    topic->last_checked = !topic->last_checked && topic->witness.offset >= topic->low_offset &&
                          topic->witness.offset != topic->committed_last_offset &&
                          !holds_another(topic, topic->low_offset, topic->found, topic->found_fingerprint);
    return topic->last_checked;
}

void takeover_probed(struct pipeline *p, const struct source_event *event)
{
    struct lane *lane = engine_lane(p, event->partition);
    if (!lane)
        return;
    struct lane_topic *topic = &lane->topics[event->topic];
    /* After a long sleep, a question that was given up for lost may be answered after all: what it says is
     * not about the position and the record that the lane has by now. */
    if (event->probe.question != topic->question)
        return;
    topic->probing = false;
    if (event->probe_failed) {
        engine_note(p, NOTE_DEBUG, lane->number, "watermarks of %s: %s", p->options.topics[event->topic],
                    event->detail);
        return;
    }
    /* Asked before the lane came to this phase: CHECKING needs the fingerprint of what was restored. */
    bool checking = lane->phase == LANE_CHECKING;
    if (checking && topic->asked_offset != record_of(topic, next_asked(topic)).offset) {
        ask(p, lane, event->topic, next_asked(topic));
        return;
    }
    topic->low_offset = event->probe.low_offset;
    topic->high_offset = event->probe.high_offset;
    topic->partition_count = event->probe.partition_count;
    topic->found = event->probe.found;
    topic->found_fingerprint = event->probe.fingerprint;
    topic->probed = !checking || !witness_is_next(topic);
    if (!topic->probed)
        ask(p, lane, event->topic, ASKED_WITNESS);
    if (!engine_running(lane))
        return;
    if (rehome_fits(p, event->probe.partition_count))
        watermarks_seen(p, lane, topic, &event->probe);
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
    p->behind = backlog > p->options.max_rows / 8;
}

static size_t count_taking(const struct pipeline *p)
{
    size_t count = 0;
    for (size_t i = 0; i < p->lane_count; i++)
        count += p->lanes[i] && p->lanes[i]->assigned && p->lanes[i]->phase == LANE_TAKING;
    return count;
}

bool takeover_waits(const struct pipeline *p)
{
    return count_taking(p) > 0 && !(p->job && p->job->kind == STORE_TAKEOVER);
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
        if ((lane->phase == LANE_WAITING || lane->phase == LANE_STOPPED) && p->steady_us >= lane->retry_at_us)
            begin_lane(p, lane);
        else if (lane->phase == LANE_READING_FLAGS && lane->flags_caught_up && all_probed(lane))
            lane->phase = LANE_TAKING;
        else if (lane->phase == LANE_READING_FLAGS)
            ask_again(p, lane);
        else if (lane->phase == LANE_CHECKING)
            ask_again(p, lane), check_lane(p, lane);
        else if (lane->phase == LANE_RUNNING)
            watch_lane(p, lane);
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
    if (count == 0 || p->revoking || !batching_idle(p))
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
        if (flagged > topic->high_offset)
            flagged = topic->high_offset; /* of a log that is gone */
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
    struct lane *lane = engine_lane(p, taken->lane);
    bool wanted = lane && lane->assigned && lane->phase == LANE_TAKING;
    bool kept = wanted && still_ours(lane, taken);
    if (!wanted) {
        takeover_free(taken);
    } else if (!kept && (taken->kept || lane_has_state(lane) || !use_taken(p, lane, taken))) {
        /* The row is ours but not where we left it, or not ours any more, or memory is short. */
        takeover_free(taken);
        takeover_again(p, lane);
    } else if (!kept && !keep_pending(lane, taken)) {
        takeover_free(taken);
        takeover_again(p, lane);
    } else {
        takeover_free(taken);
        if (!kept)
            hold_former(lane, job);
        rehome_flags(p, lane);
        enter(p, lane, LANE_CHECKING);
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
    if (job->status == STORE_DONE)
        all_taken(p, job);
    former_release(job->former);
    former_release(job->former_known);
    for (size_t i = 0; i < job->lane_count; i++) {
        struct lane *lane = engine_lane(p, job->lanes[i].lane);
        if (job->status == STORE_FATAL && lane && lane->phase == LANE_TAKING)
            takeover_stop(p, lane, "PostgreSQL: %s", job->detail);
        else if (job->status == STORE_FENCED && lane && lane->phase == LANE_TAKING)
            takeover_again(p, lane);
        if (job->status != STORE_DONE)
            takeover_free(&job->lanes[i]);
    }
    free(job->lanes);
}

void takeover_consume(struct pipeline *p)
{
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
