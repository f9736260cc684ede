/* From records to the open batch: decode, judge the lane, dedupe, count. */
#include "engine.h"

#include <assert.h>
#include <stdio.h>

enum { MISPLACED_ALERT_RECORDS = 1000 };
#define TRICKLE_US (ENGINE_SECOND_US / 10) /* between two polls beyond the memory limit */

static bool over_memory(const struct pipeline *p)
{
    return p->options.memory_limit_bytes > 0 &&
           (int64_t)p->stats.dedupe_bytes > p->options.memory_limit_bytes;
}

void intake_watch_memory(struct pipeline *p)
{
    if (!over_memory(p)) {
        p->memory_alert_at_us = 0;
    } else if (p->steady_us >= p->memory_alert_at_us) {
        engine_note(p, NOTE_ALERT, -1,
                    "dedupe.memory_limit is reached: %zu keys of open days take %zu bytes, intake is slowed "
                    "down until "
                    "days are sealed; no key is forgotten",
                    p->stats.dedupe_keys, p->stats.dedupe_bytes);
        p->memory_alert_at_us = p->steady_us + 60 * ENGINE_SECOND_US;
    }
}

static size_t keys_ahead(const struct pipeline *p)
{
    size_t keys = 0;
    for (size_t i = 0; i < p->lane_count; i++)
        if (p->lanes[i])
            keys += (size_t)(p->lanes[i]->journal_next - p->lanes[i]->journal_first);
    return keys;
}

bool intake_wanted(const struct pipeline *p)
{
    if (p->draining || p->revoking || p->consume_asked || p->rewind_asked || !p->settings_known)
        return false;
    if (p->ceilings_stage == CEILINGS_ADOPTING || takeover_waits(p))
        return false;
    if (p->giving_way)
        return false;
    if (p->ahead)
        return keys_ahead(p) < ENGINE_AHEAD_KEYS;
    if (!p->open || batching_full(p, p->open))
        return false;
    return !over_memory(p) || p->steady_us >= p->trickle_at_us;
}

static const struct refused_row *find_refused(const struct pipeline *p, const struct record *record)
{
    for (size_t i = 0; i < p->refused_count; i++) {
        const struct ceiling_origin *origin = &p->refused[i].origin;
        if (origin->topic == record->topic && origin->partition == record->partition &&
            origin->offset == record->offset &&
            identity_fingerprint(&p->secret, record) == p->refused[i].fingerprint)
            return &p->refused[i];
    }
    return NULL;
}

struct intake {
    struct pipeline *p;
    struct lane *lane;
    struct lane_topic *topic;
    const struct record *record;
    bool moved; /* the record's customer: it came when there were fewer partitions, and he belonged here */
};

/* What lies here may have come when there were fewer partitions, and is read once more. */
static bool was_right(const struct intake *in)
{
    const struct lane_topic *topic = in->topic;
    for (size_t i = 0; i < topic->era_count; i++)
        if (in->record->offset < topic->eras[i].below)
            return partitioner_lane(in->p->partitioner, in->record->key, topic->eras[i].partition_count) ==
                   in->record->partition;
    return false;
}

static enum refusal refuse_lane(struct intake *in, char *detail, size_t size)
{
    const struct pipeline *p = in->p;
    const struct record *record = in->record;
    int32_t lane = partitioner_lane(p->partitioner, record->key, p->partition_count);
    in->moved = lane != record->partition && was_right(in);
    if (in->moved)
        snprintf(detail, size,
                 "it came when there were fewer partitions, and was passed over until its customer had moved "
                 "to partition %d of %d; replay it",
                 lane, p->partition_count);
    if (lane == record->partition || in->moved)
        return REFUSAL_NONE;
    snprintf(detail, size,
             "the key belongs to partition %d of %d by %s, but the record lies in partition %d; replay it, "
             "and let the producer partition by %s",
             lane, p->partition_count, partitioner_names[p->partitioner], record->partition,
             partitioner_names[p->partitioner]);
    return REFUSAL_WRONG_PARTITION;
}

/* While the partitioner is not known, a record is misplaced only if no candidate puts it where it is. */
static enum refusal refuse_unlearned(struct pipeline *p, const struct record *record, char *detail,
                                     size_t size)
{
    for (int c = PARTITIONER_UNKNOWN + 1; c < PARTITIONER_COUNT; c++)
        if (partitioner_lane((enum partitioner)c, record->key, p->partition_count) == record->partition)
            return REFUSAL_NONE;
    snprintf(detail, size, "no known partitioner puts this key into partition %d of %d", record->partition,
             p->partition_count);
    return REFUSAL_WRONG_PARTITION;
}

static enum refusal judge_lane(struct intake *in, const struct event *event, char *detail, size_t size)
{
    struct pipeline *p = in->p;
    const struct record *record = in->record;
    enum refusal refusal;
    in->moved = false;
    if (!record->key.bytes || !text_equal(record->key, event->customer_id)) {
        snprintf(detail, size,
                 "the record's key is not its customer_id; replay it, and let the producer use "
                 "customer_id as the key");
        refusal = REFUSAL_KEY_MISMATCH;
    } else if (p->partitioner == PARTITIONER_UNKNOWN) {
        refusal = refuse_unlearned(p, record, detail, size);
    } else {
        refusal = refuse_lane(in, detail, size);
    }
    if (refusal == REFUSAL_NONE)
        p->placed++;
    else
        p->misplaced++;
    return refusal;
}

static void alert_misplaced(struct pipeline *p)
{
    if (p->placed + p->misplaced < MISPLACED_ALERT_RECORDS)
        return;
    if (p->misplaced > p->placed)
        engine_note(
            p, NOTE_ALERT, -1,
            "more than half of the records lie in the wrong lane for partitioner %s: check kafka.partitioner "
            "and the producers",
            partitioner_names[p->partitioner]);
    p->placed = p->misplaced = 0;
}

/* What is found out about records before their turn comes, so that the memory they will need is on its way
 * by then: nothing here depends on what becomes of the records before. */
enum { GLIMPSES = 16 };
struct glimpse {
    struct event event; /* undefined, as all that follows, if it is refused */
    enum refusal refusal;
    bool sealed; /* its day: neither key nor place are known */
    uint16_t day;
    struct identity identity;
    struct digest digest;           /* unless deciding ahead, as the next */
    struct accumulator_place place; /* unless deciding ahead */
};

static bool refuse(struct intake *in, enum refusal reason, const char *detail)
{
    struct pipeline *p = in->p;
    if (p->ahead)
        return true;
    return batch_dead(p->open, &p->secret, in->topic->row, in->record, reason, detail);
}

static bool count(struct intake *in, const struct event *event, struct ceiling_origin origin,
                  int64_t record_ms)
{
    struct enforce_context context = {in->p, in->lane, record_ms};
    return ceiling_book_count(in->lane->book, event, origin, in->p->now_us, enforce_decided, &context);
}

bool intake_pending(struct pipeline *p, struct lane *lane, const struct event *event,
                    struct ceiling_origin origin)
{
    struct intake in = {.p = p, .lane = lane};
    return count(&in, event, origin, -1) && batch_settle(p->open, origin);
}

/* While a row that PostgreSQL refuses is searched for: should it be alone in its batch, it is this one. */
static void suspect(const struct intake *in)
{
    struct pipeline *p = in->p;
    if (p->limit_rows < p->options.max_rows)
        p->open->suspect =
            (struct batch_suspect){.known = true,
                                   .origin = {in->record->topic, in->record->partition, in->record->offset},
                                   .fingerprint = identity_fingerprint(&p->secret, in->record)};
}

static bool take_new(struct intake *in, const struct glimpse *glimpse, const struct copy_origin *origin)
{
    struct pipeline *p = in->p;
    if (!lane_journal(in->lane, glimpse->identity.key)) {
        dedupe_remove(in->lane->dedupe, glimpse->identity.key);
        return false;
    }
    if (!p->ahead && (!batch_accept_at(p->open, in->topic->row, &glimpse->event, origin, &glimpse->place,
                                       &glimpse->digest) ||
                      !batch_segment_add(p->open, in->lane->number, glimpse->day, glimpse->identity.key,
                                         glimpse->identity.content)))
        return false;
    if (!p->ahead)
        suspect(in);
    return count(in, &glimpse->event,
                 (struct ceiling_origin){in->record->topic, in->record->partition, in->record->offset},
                 in->record->time_ms);
}

/* A flag may be out for it, from before its day was sealed: that is not withdrawn until it is decided again,
 * with the batch after this one; by events that are decided ahead of the store, not before it is back. */
static void await_decision(const struct intake *in)
{
    if (in->lane->catching_up && in->record->offset < in->topic->reached)
        in->lane->late_batch = in->p->ahead ? UINT64_MAX : in->p->open->number;
}

/* detail: of the dead letter, where the customer has moved. */
static bool defer(struct intake *in, const struct event *event, const struct copy_origin *origin,
                  const char *detail)
{
    struct pipeline *p = in->p;
    await_decision(in);
    if (p->ahead)
        return true;
    suspect(in);
    if (in->moved)
        return batch_defer_or_refuse(p->open, in->topic->row, event, origin, in->record,
                                     REFUSAL_WRONG_PARTITION, detail);
    return batch_defer(p->open, in->topic->row, event, origin, ceiling_book_counts(in->lane->book, event));
}

static bool take_repeat(struct intake *in, const struct event *event, const struct copy_origin *origin,
                        bool same)
{
    struct pipeline *p = in->p;
    if (p->ahead)
        return true;
    return same ? batch_duplicate(p->open, in->topic->row)
                : batch_conflict_add(p->open, in->topic->row, event, origin);
}

static struct copy_origin origin_of(const struct intake *in)
{
    const struct record *record = in->record;
    return (struct copy_origin){text_of(in->p->options.topics[record->topic]), record->partition,
                                record->offset, in->p->now_us, record->value};
}

/* What was counted of the customer before he moved is a repeat. What was passed over then is a dead letter:
 * only his lane of now knows what else was counted since, and what his ceilings stand at. */
static bool take_moved(struct intake *in, const struct glimpse *glimpse, const char *detail)
{
    struct copy_origin origin = origin_of(in);
    uint32_t former;
    if (glimpse->sealed)
        return defer(in, &glimpse->event, &origin, detail);
    if (lane_find_former(in->lane, glimpse->identity.key, &former))
        return take_repeat(in, &glimpse->event, &origin, former == glimpse->identity.content);
    return refuse(in, REFUSAL_WRONG_PARTITION, detail);
}

/* While a lane adopts a seal, its keys of that day are still there, but no new one joins them. */
static bool take_event(struct intake *in, const struct glimpse *glimpse)
{
    struct lane *lane = in->lane;
    const struct event *event = &glimpse->event;
    struct copy_origin origin = origin_of(in);
    if (glimpse->sealed)
        return defer(in, event, &origin, NULL);
    uint32_t former;
    if (lane_find_former(lane, glimpse->identity.key, &former))
        return take_repeat(in, event, &origin, former == glimpse->identity.content);
    switch (dedupe_insert(lane->dedupe, glimpse->identity.key, glimpse->identity.content, glimpse->day)) {
    case DEDUPE_NEW:
        if (!lane_day_adopting(lane, glimpse->day))
            return take_new(in, glimpse, &origin);
        dedupe_remove(lane->dedupe, glimpse->identity.key);
        return defer(in, event, &origin, NULL);
    case DEDUPE_REPEAT:
        return take_repeat(in, event, &origin, true);
    case DEDUPE_CONFLICT:
        return take_repeat(in, event, &origin, false);
    case DEDUPE_NO_MEMORY:
        break;
    }
    return false;
}

/* Says once more why, for the sentence is the decoder's last one only. */
static bool take_refused(struct intake *in)
{
    struct pipeline *p = in->p;
    struct event event;
    enum refusal refusal = event_decode(p->decoder, in->record, p->now_us, &event);
    if (refusal == REFUSAL_NO_MEMORY)
        return false;
    assert(refusal != REFUSAL_NONE);
    return refuse(in, refusal, decoder_detail(p->decoder));
}

static bool take_record(struct intake *in, const struct glimpse *glimpse)
{
    struct pipeline *p = in->p;
    char detail[320];
    const struct refused_row *refused = find_refused(p, in->record);
    if (refused)
        return refuse(in, REFUSAL_STORE_REFUSED, refused->detail);
    if (glimpse->refusal == REFUSAL_NO_MEMORY)
        return false;
    if (glimpse->refusal != REFUSAL_NONE)
        return take_refused(in);
    enum refusal refusal = judge_lane(in, &glimpse->event, detail, sizeof detail);
    if (refusal != REFUSAL_NONE)
        return refuse(in, refusal, detail);
    return in->moved ? take_moved(in, glimpse, detail) : take_event(in, glimpse);
}

static void glimpse_at(const struct intake *in, const struct record *record, struct glimpse *glimpse)
{
    const struct pipeline *p = in->p;
    glimpse->refusal = event_decode(p->decoder, record, p->now_us, &glimpse->event);
    if (glimpse->refusal != REFUSAL_NONE)
        return;
    glimpse->day = (uint16_t)(glimpse->event.time_us / ENGINE_DAY_US);
    glimpse->sealed = lane_day_sealed(in->lane, glimpse->day);
    if (glimpse->sealed)
        return;
    if (!p->ahead)
        glimpse->place = accumulator_locate(p->open->accumulator, &glimpse->event);
}

/* Those whose keys are of use. */
static bool is_looked_up(const struct glimpse *glimpse)
{
    return glimpse->refusal == REFUSAL_NONE && !glimpse->sealed;
}

static void hash_glimpses(const struct pipeline *p, const struct record *records, size_t count,
                          struct glimpse *glimpses)
{
    const struct event *events[IDENTITY_SIDES];
    struct identity identities[IDENTITY_SIDES];
    struct digest digests[IDENTITY_SIDES];
    size_t hashed = 0;
    for (size_t i = 0; i < count; i++)
        if (is_looked_up(&glimpses[i]))
            events[hashed++] = &glimpses[i].event;
    if (hashed == 0)
        return;
    identity_many(&p->secret, events, hashed, identities);
    if (!p->ahead)
        identity_digests(&p->secret, records, count, digests);
    hashed = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_looked_up(&glimpses[i]))
            continue;
        glimpses[i].identity = identities[hashed++];
        if (!p->ahead)
            glimpses[i].digest = digests[i];
    }
}

/* Several at a time: they are hashed, and fetched from memory, side by side. */
static void take_glimpses(const struct intake *in, const struct record *records, size_t count,
                          struct glimpse glimpses[GLIMPSES])
{
    for (size_t i = 0; i < count; i++)
        glimpse_at(in, &records[i], &glimpses[i]);
    for (size_t i = 0; i < count; i += IDENTITY_SIDES)
        hash_glimpses(in->p, records + i, count - i < IDENTITY_SIDES ? count - i : IDENTITY_SIDES,
                      glimpses + i);
    for (size_t i = 0; i < count; i++) {
        if (!is_looked_up(&glimpses[i]))
            continue;
        dedupe_approach(in->lane->dedupe, glimpses[i].identity.key);
        if (!in->p->ahead)
            accumulator_prefetch(in->p->open->accumulator, &glimpses[i].place);
    }
    for (size_t i = 0; i < count; i++)
        if (is_looked_up(&glimpses[i]))
            dedupe_prefetch(in->lane->dedupe, glimpses[i].identity.key);
}

/* How far a jump from position to offset is over offsets that hold no record for us: a transaction's marker
 * or aborted ones. A client that just started fetching may have skipped some, each time others: so what is
 * missing is asked for again, from the same offset, and what is missing then, too, counts. */
static int64_t sure_of_jump(const struct lane_topic *topic, int64_t offset, bool again)
{
    if (topic->jumps_trusted)
        return offset;
    if (!again)
        return topic->position;
    return offset < topic->jumped_to ? offset : topic->jumped_to;
}

static bool take_jump(struct pipeline *p, struct lane_topic *topic, int64_t offset)
{
    if (offset <= topic->position)
        return true;
    bool again = topic->jumped_at == topic->position;
    int64_t sure = sure_of_jump(topic, offset, again);
    if (!p->ahead)
        p->open->partitions[topic->row].hole += sure - topic->position;
    topic->position = sure;
    topic->jumps_trusted = sure == offset;
    if (topic->jumps_trusted)
        return true;
    topic->jumped_at = again ? -1 : sure; /* beyond, it was missing only once */
    topic->jumped_to = offset;
    p->consume_asked = true;
    return false;
}

static void learn_partitioner(struct pipeline *p, const struct source_event *event)
{
    for (size_t i = 0; i < event->record_count; i++)
        if (event->records[i].key.bytes)
            partitioner_vote(&p->votes, event->records[i].key, event->partition, p->partition_count);
    p->partitioner = partitioner_elect(&p->votes);
    if (p->partitioner == PARTITIONER_UNKNOWN)
        return;
    engine_note(p, NOTE_INFO, -1, "producers partition by %s", partitioner_names[p->partitioner]);
    if (!p->ahead)
        p->open->learned = p->partitioner;
}

static void see_through(struct lane_topic *topic, int64_t time_us, int64_t now_us)
{
    if (time_us > now_us)
        time_us = now_us;
    if (time_us > topic->seen_through_us)
        topic->seen_through_us = time_us;
}

/* True: all went in. False: the batch is full before its records are, or memory is short. */
static bool take_records(struct pipeline *p, struct intake *in, const struct source_event *event)
{
    struct glimpse glimpses[GLIMPSES];
    for (size_t i = 0; i < event->record_count; i++) {
        const struct record *record = in->record = &event->records[i];
        size_t left = event->record_count - i;
        if (i % GLIMPSES == 0)
            take_glimpses(in, record, left < GLIMPSES ? left : GLIMPSES, glimpses);
        if (record->offset < in->topic->position)
            continue;
        if (!take_jump(p, in->topic, record->offset < in->topic->limit ? record->offset : in->topic->limit))
            return true;
        if (record->offset >= in->topic->limit) {
            p->consume_asked = true; /* no more of this partition */
            return true;
        }
        if (!take_record(in, &glimpses[i % GLIMPSES])) {
            engine_out_of_memory(p);
            return false;
        }
        in->topic->position = record->offset + 1;
        in->topic->last_offset = record->offset;
        in->topic->jumps_trusted = true;
        see_through(in->topic, record->time_ms * 1000, p->now_us);
        /* Only the search for a refused row needs batches of exact size. */
        if (!p->ahead && p->limit_rows < p->options.max_rows && batching_full(p, p->open)) {
            p->consume_asked = i + 1 < event->record_count;
            break;
        }
    }
    return true;
}

/* What can't be taken now is asked for again. Before a rewind nothing is: the open batch may lack a lane's
 * rows. */
static bool can_take(struct pipeline *p, const struct lane *lane, const struct source_event *event)
{
    if (event->generation != p->generation || !engine_running(lane) || p->rewind_asked)
        return false;
    p->consume_asked = p->consume_asked || (!p->ahead && !p->open);
    return !p->consume_asked;
}

void intake_records(struct pipeline *p, const struct source_event *event)
{
    struct lane *lane = engine_lane(p, event->partition);
    if (!can_take(p, lane, event))
        return;
    struct lane_topic *topic = &lane->topics[event->topic];
    struct intake in = {.p = p, .lane = lane, .topic = topic};
    p->trickle_at_us = p->steady_us + TRICKLE_US;
    if (p->partitioner == PARTITIONER_UNKNOWN)
        learn_partitioner(p, event);
    int64_t last_before = topic->last_offset;
    if (!take_records(p, &in, event))
        return;
    if (topic->last_offset != last_before)
        topic->last_fingerprint = identity_fingerprint(
            &p->secret, in.record->offset == topic->last_offset ? in.record : in.record - 1);
    decoder_reset(p->decoder);
    alert_misplaced(p);
}

void intake_end(struct pipeline *p, const struct source_event *event)
{
    struct lane *lane = engine_lane(p, event->partition);
    if (!can_take(p, lane, event))
        return;
    struct lane_topic *topic = &lane->topics[event->topic];
    take_jump(p, topic, event->offset < topic->limit ? event->offset : topic->limit);
}
