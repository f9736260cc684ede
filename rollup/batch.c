#include "batch.h"

#include <assert.h>
#include <sodium.h>

#include "batch_memory.h"
#include "json_text.h"

#define DAY_US (INT64_C(86400) * 1000000)

/* Event times are bounded by events.max_age and events.max_future, far within what a uint16_t counts. */
static uint16_t day_of(int64_t time_us)
{
    assert(time_us >= 0 && time_us / DAY_US <= UINT16_MAX);
    return (uint16_t)(time_us / DAY_US);
}

static struct batch_partition *part_of(struct batch *batch, size_t partition)
{
    assert(partition < batch->partition_count);
    return &batch->partitions[partition];
}

static bool keep_event(struct batch *batch, struct event *event)
{
    struct text *texts[7 + LIFTED_COUNT] = {&event->event_id, &event->customer_id, &event->meter,
                                            &event->corrects, &event->reason,      &event->model,
                                            &event->plan_tier};
    for (size_t i = 0; i < LIFTED_COUNT; i++)
        texts[7 + i] = &event->lifted[i];
    return batch_keep_texts(batch, texts, 7 + LIFTED_COUNT);
}

bool batch_add_partition(struct batch *batch, const struct batch_partition *partition)
{
    if (!LIST_ROOM(batch->partitions, batch->partition_count, batch->partition_capacity))
        return false;
    batch->partitions[batch->partition_count++] = *partition;
    return true;
}

bool batch_accept_at(struct batch *batch, size_t partition, const struct event *event,
                     const struct copy_origin *origin, const struct accumulator_place *place,
                     const struct digest *digest)
{
    struct batch_partition *part = part_of(batch, partition);
    uint32_t spare = copy_spare(event), left_out = batch->left_out & ~spare ? 0 : batch->left_out;
    struct batch_day *day = batch_day_of(batch, day_of(event->time_us), left_out);
    uint8_t *room = day ? row_queue_room(&day->rows, batch->pool, copy_row_bound(event, origin)) : NULL;
    if (!room || !accumulator_add_at(batch->accumulator, place, event))
        return false;
    row_queue_add(&day->rows, copy_row_without(event, origin, left_out, room));
    copy_census_add(&batch->census, spare);
    day->row_count++;
    part->digest.sum += digest->sum;
    part->accepted++;
    batch->row_count++;
    batch->event_count++;
    return true;
}

bool batch_accept(struct batch *batch, const struct identity_secret *secret, size_t partition,
                  const struct event *event, const struct copy_origin *origin)
{
    struct accumulator_place place = accumulator_locate(batch->accumulator, event);
    struct digest digest = {0};
    identity_digest_add(&digest, secret, origin->offset, origin->payload);
    return batch_accept_at(batch, partition, event, origin, &place, &digest);
}

bool batch_defer(struct batch *batch, size_t partition, const struct event *event,
                 const struct copy_origin *origin, bool counted)
{
    assert(partition < batch->partition_count);
    if (!LIST_ROOM(batch->sealed, batch->sealed_count, batch->sealed_capacity))
        return false;
    struct batch_sealed sealed = {.lane = (uint32_t)origin->partition,
                                  .partition_row = (uint32_t)partition,
                                  .day = day_of(event->time_us),
                                  .offset = origin->offset,
                                  .event = *event,
                                  .counted = counted};
    uint8_t *row = arena_alloc(batch->arena, copy_row_bound(event, origin));
    if (!row || !keep_event(batch, &sealed.event))
        return false;
    sealed.row = (struct text){(const char *)row, (uint32_t)copy_row(event, origin, row)};
    /* The row ends with the payload: one copy is enough. */
    sealed.payload =
        (struct text){sealed.row.bytes + sealed.row.length - origin->payload.length, origin->payload.length};
    batch->sealed[batch->sealed_count++] = sealed;
    batch->event_count++;
    return true;
}

bool batch_segment_add(struct batch *batch, int32_t lane, uint16_t day, struct dedupe_key key,
                       uint32_t content)
{
    struct batch_segment *segment = batch_segment_of(batch, lane, day);
    if (!segment || !buffer_reserve(&segment->keys, DEDUPE_SEGMENT_BYTES))
        return false;
    dedupe_segment_put(segment->keys.bytes + segment->keys.size_bytes, key, content);
    segment->keys.size_bytes += DEDUPE_SEGMENT_BYTES;
    return true;
}

/* A text that may be missing, which is not the same as empty. */
static bool keep_optional(struct batch *batch, struct text *text)
{
    if (!text->bytes)
        return true;
    *text = arena_text(batch->arena, *text);
    return text->bytes != NULL;
}

/* PostgreSQL takes only UTF-8, and a sentence may quote a bad record. */
static struct text clean(struct arena *arena, struct text text)
{
    static const char replacement[] = {'\xef', '\xbf', '\xbd'}; /* U+FFFD */
    char *bytes = arena_alloc(arena, (size_t)text.length * sizeof replacement);
    if (!bytes)
        return (struct text){NULL, 0};
    char *end = bytes;
    for (size_t i = 0; i < text.length;) {
        size_t length = utf8_sequence_bytes(text.bytes + i, text.length - i);
        memcpy(end, length > 0 ? text.bytes + i : replacement, length > 0 ? length : sizeof replacement);
        end += length > 0 ? length : sizeof replacement;
        i += length > 0 ? length : 1;
    }
    return (struct text){bytes, (uint32_t)(end - bytes)};
}

/* One header as JSON: ["name","base64"] or ["name",null]. */
static size_t header_bound(const struct record_header *header)
{
    return json_text_bytes(header->name) +
           sodium_base64_ENCODED_LEN(header->value.length, sodium_base64_VARIANT_ORIGINAL) +
           sizeof "[\"\",null],";
}

static char *put_header(char *out, const struct record_header *header)
{
    out = json_text_put(mempcpy(out, "[\"", 2), header->name);
    if (!header->value.bytes)
        return mempcpy(out, "\",null]", 7);
    out = mempcpy(out, "\",\"", 3);
    size_t bound = sodium_base64_ENCODED_LEN(header->value.length, sodium_base64_VARIANT_ORIGINAL);
    sodium_bin2base64(out, bound, (const unsigned char *)header->value.bytes, header->value.length,
                      sodium_base64_VARIANT_ORIGINAL);
    return mempcpy(out + strlen(out), "\"]", 2);
}

static struct text render_headers(struct arena *arena, const struct record *record)
{
    struct record_headers headers;
    size_t bound = 2;
    if (!record_headers(record, &headers))
        return (struct text){NULL, 0};
    for (size_t i = 0; i < headers.count; i++)
        bound += header_bound(&headers.list[i]);
    assert(bound <= UINT32_MAX);
    char *bytes = arena_alloc(arena, bound);
    if (!bytes)
        return (struct text){NULL, 0};
    char *end = bytes;
    *end++ = '[';
    for (size_t i = 0; i < headers.count; i++) {
        if (i > 0)
            *end++ = ',';
        end = put_header(end, &headers.list[i]);
    }
    *end++ = ']';
    return (struct text){bytes, (uint32_t)(end - bytes)};
}

static bool write_letter(struct batch *batch, const struct record *record, enum refusal reason,
                         const char *detail, struct batch_dead_letter *letter)
{
    assert(reason > REFUSAL_NONE && reason < REFUSAL_COUNT && reason != REFUSAL_NO_MEMORY);
    *letter = (struct batch_dead_letter){.topic = record->topic,
                                         .partition = record->partition,
                                         .offset = record->offset,
                                         .record_time_ms = record->time_ms,
                                         .reason = reason,
                                         .detail = clean(batch->arena, text_of(detail)),
                                         .key = record->key,
                                         .payload = record->value,
                                         .headers = render_headers(batch->arena, record)};
    return letter->detail.bytes && letter->headers.bytes && keep_optional(batch, &letter->key) &&
           keep_optional(batch, &letter->payload);
}

static bool add_letter(struct batch *batch, const struct identity_secret *secret, size_t partition,
                       const struct batch_dead_letter *letter)
{
    struct batch_partition *part = part_of(batch, partition);
    if (!LIST_ROOM(batch->dead_letters, batch->dead_letter_count, batch->dead_letter_capacity))
        return false;
    batch->dead_letters[batch->dead_letter_count++] = *letter;
    identity_digest_add(&part->digest, secret, letter->offset, letter->payload);
    part->dead++;
    return true;
}

bool batch_dead(struct batch *batch, const struct identity_secret *secret, size_t partition,
                const struct record *record, enum refusal reason, const char *detail)
{
    struct batch_dead_letter letter;
    if (!write_letter(batch, record, reason, detail, &letter) ||
        !add_letter(batch, secret, partition, &letter))
        return false;
    batch->event_count++;
    return true;
}

bool batch_defer_or_refuse(struct batch *batch, size_t partition, const struct event *event,
                           const struct copy_origin *origin, const struct record *record, enum refusal reason,
                           const char *detail)
{
    struct batch_dead_letter *letter = arena_alloc(batch->arena, sizeof *letter);
    if (!letter || !write_letter(batch, record, reason, detail, letter) ||
        !batch_defer(batch, partition, event, origin, false))
        return false;
    batch->sealed[batch->sealed_count - 1].otherwise = letter;
    return true;
}

bool batch_duplicate(struct batch *batch, size_t partition)
{
    part_of(batch, partition)->duplicate++;
    batch->event_count++;
    return true;
}

bool batch_conflict_add(struct batch *batch, size_t partition, const struct event *event,
                        const struct copy_origin *origin)
{
    struct batch_partition *part = part_of(batch, partition);
    if (!LIST_ROOM(batch->conflicts, batch->conflict_count, batch->conflict_capacity))
        return false;
    struct batch_conflict conflict = {.topic = part->topic,
                                      .partition = part->partition,
                                      .offset = origin->offset,
                                      .event = *event,
                                      .payload = arena_text(batch->arena, origin->payload)};
    if (!conflict.payload.bytes || !keep_event(batch, &conflict.event))
        return false;
    batch->conflicts[batch->conflict_count++] = conflict;
    return batch_duplicate(batch, partition);
}

bool batch_change(struct batch *batch, const struct ceiling_change *change)
{
    if (!LIST_ROOM(batch->changes, batch->change_count, batch->change_capacity))
        return false;
    struct ceiling_change kept = *change;
    struct ceiling_counter *counter = &kept.counter;
    struct ceiling_state *state = &kept.state;
    bool ok =
        kept.is_state
            ? batch_keep_texts(
                  batch, (struct text *[]){&state->customer_id, &state->ceiling, &state->scope, &state->flag},
                  4)
            : batch_keep_texts(batch,
                               (struct text *[]){&counter->customer_id, &counter->meter, &counter->scope}, 3);
    if (ok)
        batch->changes[batch->change_count++] = kept;
    return ok;
}

bool batch_decide(struct batch *batch, const struct decision *decision, struct decision **copy)
{
    if (!LIST_ROOM(batch->decisions, batch->decision_count, batch->decision_capacity))
        return false;
    struct decision *kept = &batch->decisions[batch->decision_count];
    *kept = *decision;
    struct text *texts[] = {&kept->customer_id, &kept->ceiling,   &kept->scope, &kept->meter,
                            &kept->event_id,    &kept->plan_tier, &kept->trace};
    if (!batch_keep_texts(batch, texts, sizeof texts / sizeof *texts))
        return false;
    batch->decision_count++;
    *copy = kept;
    return true;
}

bool batch_adopt_seal(struct batch *batch, int32_t lane, uint16_t day)
{
    if (!LIST_ROOM(batch->adoptions, batch->adoption_count, batch->adoption_capacity))
        return false;
    batch->adoptions[batch->adoption_count++] = (struct batch_adoption){lane, day};
    return true;
}

bool batch_adopt_ceilings(struct batch *batch, int32_t lane, int64_t generation)
{
    assert(batch->ceilings_adopted_count == 0 || batch->ceilings_generation == generation);
    if (!LIST_ROOM(batch->ceilings_adopted, batch->ceilings_adopted_count, batch->ceilings_adopted_capacity))
        return false;
    batch->ceilings_adopted[batch->ceilings_adopted_count++] = lane;
    batch->ceilings_generation = generation;
    return true;
}

bool batch_settle(struct batch *batch, struct ceiling_origin origin)
{
    if (!LIST_ROOM(batch->settled, batch->settled_count, batch->settled_capacity))
        return false;
    batch->settled[batch->settled_count++] = origin;
    return true;
}

bool batch_sealed_accepted(struct batch *batch, const struct identity_secret *secret, size_t sealed)
{
    assert(sealed < batch->sealed_count && !batch->sealed[sealed].accepted);
    struct batch_sealed *event = &batch->sealed[sealed];
    struct batch_partition *part = part_of(batch, event->partition_row);
    if (!accumulator_add(batch->accumulator, &event->event))
        return false;
    identity_digest_add(&part->digest, secret, event->offset, event->payload);
    part->accepted++;
    event->accepted = true;
    return true;
}

bool batch_sealed_repeated(struct batch *batch, size_t sealed, bool conflict)
{
    assert(sealed < batch->sealed_count && !batch->sealed[sealed].accepted);
    const struct batch_sealed *event = &batch->sealed[sealed];
    struct batch_partition *part = part_of(batch, event->partition_row);
    if (conflict) {
        if (!LIST_ROOM(batch->conflicts, batch->conflict_count, batch->conflict_capacity))
            return false;
        batch->conflicts[batch->conflict_count++] = (struct batch_conflict){.topic = part->topic,
                                                                            .partition = part->partition,
                                                                            .offset = event->offset,
                                                                            .event = event->event,
                                                                            .payload = event->payload};
    }
    part->duplicate++;
    return true;
}

bool batch_sealed_refused(struct batch *batch, const struct identity_secret *secret, size_t sealed)
{
    assert(sealed < batch->sealed_count && batch->sealed[sealed].otherwise);
    const struct batch_sealed *event = &batch->sealed[sealed];
    return add_letter(batch, secret, event->partition_row, event->otherwise);
}
