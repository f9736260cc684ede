#include "batch_memory.h"

#include <assert.h>
#include <stdlib.h>

enum { ARENA_CHUNK_BYTES = 1 << 20 };
enum { LIST_FIRST_ITEMS = 16 };
enum { INDEX_FIRST_SLOTS = 64 };

/* A buffer doubles while that is cheap; from here on it grows by steps, which the system maps without
 * copying. */
enum { BUFFER_FIRST_BYTES = 64 << 10, BUFFER_STEP_BYTES = 32 << 20 };

/* One large batch shall not hold its memory for ever, nor shall every small one give it back: it goes after
 * so many batches in a row that used less than an eighth of it. Less memory than this always stays. */
enum { QUIET_RESETS = 64, BUFFER_KEPT_BYTES = 1 << 20, LISTS_KEPT_BYTES = 4 << 20 };

/* What lane and day a day or a segment is of: open addressing. */
enum { NO_LANE = -1, NO_LANE_ALL_COLUMNS = -2 }; /* a day's rows are all lanes' */
struct index_slot {
    uint64_t key;
    uint32_t item; /* number in days or segments, plus 1; 0: empty */
};
struct batch_index {
    struct index_slot *slots;
    size_t slot_count; /* a power of two, at least twice the used ones */
    size_t used;
};

static bool is_quiet(size_t used_bytes, size_t held_bytes, size_t kept_bytes)
{
    return held_bytes > kept_bytes && used_bytes < held_bytes / 8;
}

bool buffer_reserve(struct buffer *buffer, size_t more_bytes)
{
    if (buffer->capacity_bytes - buffer->size_bytes >= more_bytes)
        return true;
    if (more_bytes > PTRDIFF_MAX - buffer->size_bytes - BUFFER_STEP_BYTES)
        return false;
    size_t need_bytes = buffer->size_bytes + more_bytes;
    size_t capacity_bytes = buffer->capacity_bytes > 0 ? buffer->capacity_bytes : BUFFER_FIRST_BYTES;
    while (capacity_bytes < need_bytes)
        capacity_bytes += capacity_bytes < BUFFER_STEP_BYTES ? capacity_bytes : BUFFER_STEP_BYTES;
    uint8_t *bytes = realloc(buffer->bytes, capacity_bytes);
    if (!bytes)
        return false;
    buffer->bytes = bytes;
    buffer->capacity_bytes = capacity_bytes;
    return true;
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}

void buffer_reset(struct buffer *buffer)
{
    bool quiet = is_quiet(buffer->size_bytes, buffer->capacity_bytes, BUFFER_KEPT_BYTES);
    buffer->quiet_resets = quiet ? buffer->quiet_resets + 1 : 0;
    if (buffer->quiet_resets >= QUIET_RESETS)
        buffer_free(buffer);
    buffer->size_bytes = 0;
}

void *batch_list_grow(void *list, size_t count, size_t *capacity, size_t item_bytes)
{
    if (count < *capacity)
        return list;
    size_t larger = *capacity > 0 ? *capacity * 2 : LIST_FIRST_ITEMS;
    void *grown = reallocarray(list, larger, item_bytes);
    if (!grown)
        return NULL;
    memset((char *)grown + *capacity * item_bytes, 0, (larger - *capacity) * item_bytes);
    *capacity = larger;
    return grown;
}

static uint64_t index_key(int32_t lane, uint16_t day)
{
    return (uint64_t)(uint32_t)lane << 16 | day;
}

/* The key's slot, or the empty one where it belongs. */
static struct index_slot *index_slot_of(const struct batch_index *index, uint64_t key)
{
    size_t at = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32);
    for (;; at++) {
        struct index_slot *slot = &index->slots[at & (index->slot_count - 1)];
        if (slot->item == 0 || slot->key == key)
            return slot;
    }
}

static bool index_reserve(struct batch_index *index)
{
    if (index->used * 2 < index->slot_count)
        return true;
    size_t larger = index->slot_count > 0 ? index->slot_count * 2 : INDEX_FIRST_SLOTS;
    struct batch_index grown = {calloc(larger, sizeof *grown.slots), larger, index->used};
    if (!grown.slots)
        return false;
    for (size_t i = 0; i < index->slot_count; i++)
        if (index->slots[i].item != 0)
            *index_slot_of(&grown, index->slots[i].key) = index->slots[i];
    free(index->slots);
    *index = grown;
    return true;
}

static void index_put(struct batch_index *index, uint64_t key, size_t item)
{
    *index_slot_of(index, key) = (struct index_slot){key, (uint32_t)item + 1};
    index->used++;
}

struct batch_day *batch_day_of(struct batch *batch, uint16_t day, uint32_t left_out)
{
    if (!index_reserve(batch->index))
        return NULL;
    uint64_t key = index_key(left_out ? NO_LANE : NO_LANE_ALL_COLUMNS, day);
    uint32_t item = index_slot_of(batch->index, key)->item;
    if (item > 0)
        return &batch->days[item - 1];
    if (!LIST_ROOM(batch->days, batch->day_count, batch->day_capacity))
        return NULL;
    struct batch_day *made = &batch->days[batch->day_count];
    *made = (struct batch_day){.day = day, .left_out = left_out};
    index_put(batch->index, key, batch->day_count++);
    return made;
}

struct batch_segment *batch_segment_of(struct batch *batch, int32_t lane, uint16_t day)
{
    assert(lane >= 0);
    if (!index_reserve(batch->index))
        return NULL;
    uint32_t item = index_slot_of(batch->index, index_key(lane, day))->item;
    if (item > 0)
        return &batch->segments[item - 1];
    if (!LIST_ROOM(batch->segments, batch->segment_count, batch->segment_capacity))
        return NULL;
    struct batch_segment *made = &batch->segments[batch->segment_count];
    *made = (struct batch_segment){.lane = lane, .day = day, .keys = made->keys};
    index_put(batch->index, index_key(lane, day), batch->segment_count++);
    return made;
}

bool batch_keep_texts(struct batch *batch, struct text *const *texts, size_t count)
{
    size_t size_bytes = 0;
    for (size_t i = 0; i < count; i++)
        size_bytes += texts[i]->length;
    char *at = arena_alloc(batch->arena, size_bytes);
    if (!at)
        return false;
    for (size_t i = 0; i < count; i++)
        *texts[i] = text_pack(&at, *texts[i]);
    return true;
}

struct batch *batch_new(const struct accumulator_rules *rules, struct row_pool *pool)
{
    struct batch *batch = calloc(1, sizeof *batch);
    if (!batch)
        return NULL;
    batch->pool = pool;
    batch->index = calloc(1, sizeof *batch->index);
    batch->arena = malloc(sizeof *batch->arena);
    if (batch->arena) {
        arena_init(batch->arena, ARENA_CHUNK_BYTES);
        batch->accumulator = accumulator_new(rules, batch->arena);
    }
    if (!batch->index || !batch->accumulator) {
        batch_free(batch);
        return NULL;
    }
    return batch;
}

/* All lists but days and segments: segments' buffers live on. */
static void lists_free(struct batch *batch)
{
    free(batch->sealed);
    free(batch->dead_letters);
    free(batch->conflicts);
    free(batch->partitions);
    free(batch->changes);
    free(batch->decisions);
    free(batch->adoptions);
    free(batch->ceilings_adopted);
    free(batch->settled);
}

void batch_free(struct batch *batch)
{
    if (!batch)
        return;
    for (size_t i = 0; i < batch->day_count; i++)
        row_queue_reset(&batch->days[i].rows, batch->pool);
    for (size_t i = 0; i < batch->segment_capacity; i++)
        buffer_free(&batch->segments[i].keys);
    free(batch->days);
    free(batch->segments);
    lists_free(batch);
    accumulator_free(batch->accumulator);
    if (batch->arena)
        arena_free(batch->arena);
    free(batch->arena);
    if (batch->index)
        free(batch->index->slots);
    free(batch->index);
    free(batch);
}

static size_t lists_held_bytes(const struct batch *batch)
{
    return batch->sealed_capacity * sizeof *batch->sealed +
           batch->dead_letter_capacity * sizeof *batch->dead_letters +
           batch->conflict_capacity * sizeof *batch->conflicts +
           batch->partition_capacity * sizeof *batch->partitions +
           batch->change_capacity * sizeof *batch->changes +
           batch->decision_capacity * sizeof *batch->decisions +
           batch->adoption_capacity * sizeof *batch->adoptions +
           batch->ceilings_adopted_capacity * sizeof *batch->ceilings_adopted +
           batch->settled_capacity * sizeof *batch->settled;
}

static size_t lists_used_bytes(const struct batch *batch)
{
    return batch->sealed_count * sizeof *batch->sealed +
           batch->dead_letter_count * sizeof *batch->dead_letters +
           batch->conflict_count * sizeof *batch->conflicts +
           batch->partition_count * sizeof *batch->partitions + batch->change_count * sizeof *batch->changes +
           batch->decision_count * sizeof *batch->decisions +
           batch->adoption_count * sizeof *batch->adoptions +
           batch->ceilings_adopted_count * sizeof *batch->ceilings_adopted +
           batch->settled_count * sizeof *batch->settled;
}

/* Counts how long lists and arena were hardly used; true: give them back. */
static bool lists_rest(struct batch *batch)
{
    size_t used_bytes = lists_used_bytes(batch) + arena_used_bytes(batch->arena);
    size_t held_bytes = lists_held_bytes(batch) + arena_held_bytes(batch->arena);
    batch->quiet_resets = is_quiet(used_bytes, held_bytes, LISTS_KEPT_BYTES) ? batch->quiet_resets + 1 : 0;
    return batch->quiet_resets >= QUIET_RESETS;
}

/* Leaves what a batch is made of, and forgets all that was put in. */
static void empty(struct batch *batch, bool keep_lists)
{
    struct batch fresh = {.arena = batch->arena,
                          .pool = batch->pool,
                          .accumulator = batch->accumulator,
                          .index = batch->index,
                          .left_out = copy_census_left_out(&batch->census, batch->left_out),
                          .days = batch->days,
                          .day_capacity = batch->day_capacity,
                          .segments = batch->segments,
                          .segment_capacity = batch->segment_capacity};
    if (keep_lists) {
        fresh.quiet_resets = batch->quiet_resets;
#define KEEP(list, capacity) (fresh.list = batch->list, fresh.capacity = batch->capacity)
        KEEP(sealed, sealed_capacity);
        KEEP(dead_letters, dead_letter_capacity);
        KEEP(conflicts, conflict_capacity);
        KEEP(partitions, partition_capacity);
        KEEP(changes, change_capacity);
        KEEP(decisions, decision_capacity);
        KEEP(adoptions, adoption_capacity);
        KEEP(ceilings_adopted, ceilings_adopted_capacity);
        KEEP(settled, settled_capacity);
#undef KEEP
    }
    *batch = fresh;
}

void batch_reset(struct batch *batch)
{
    bool keep_lists = !lists_rest(batch);
    for (size_t i = 0; i < batch->day_count; i++)
        row_queue_reset(&batch->days[i].rows, batch->pool);
    row_pool_rest(batch->pool);
    for (size_t i = 0; i < batch->segment_capacity; i++)
        buffer_reset(&batch->segments[i].keys);
    if (batch->index->used > 0)
        memset(batch->index->slots, 0, batch->index->slot_count * sizeof *batch->index->slots);
    batch->index->used = 0;
    accumulator_reset(batch->accumulator);
    if (keep_lists) {
        arena_reset(batch->arena);
    } else {
        lists_free(batch);
        arena_free(batch->arena);
    }
    empty(batch, keep_lists);
}

size_t batch_bytes(const struct batch *batch)
{
    size_t held_bytes = sizeof *batch + sizeof *batch->arena + sizeof *batch->index;
    held_bytes += batch->index->slot_count * sizeof *batch->index->slots;
    held_bytes +=
        arena_held_bytes(batch->arena) + accumulator_bytes(batch->accumulator) + lists_held_bytes(batch);
    held_bytes +=
        batch->day_capacity * sizeof *batch->days + batch->segment_capacity * sizeof *batch->segments;
    for (size_t i = 0; i < batch->day_count; i++)
        held_bytes += row_queue_held_bytes(&batch->days[i].rows);
    for (size_t i = 0; i < batch->segment_capacity; i++)
        held_bytes += batch->segments[i].keys.capacity_bytes;
    return held_bytes;
}

size_t batch_used_bytes(const struct batch *batch)
{
    size_t used_bytes =
        arena_used_bytes(batch->arena) + accumulator_used_bytes(batch->accumulator) + lists_used_bytes(batch);
    for (size_t i = 0; i < batch->day_count; i++)
        used_bytes += batch->days[i].rows.size_bytes;
    for (size_t i = 0; i < batch->segment_count; i++)
        used_bytes += batch->segments[i].keys.size_bytes;
    return used_bytes;
}
