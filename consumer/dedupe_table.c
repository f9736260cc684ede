#include "dedupe_table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void dedupe_memory_init(struct dedupe_memory *memory)
{
    *memory = (struct dedupe_memory){
        .small.block_bytes = SMALL_BLOCK_SLOTS * sizeof(struct dedupe_slot),
        .large.block_bytes = LARGE_BLOCK_SLOTS * sizeof(struct dedupe_slot),
    };
}

void dedupe_memory_free(struct dedupe_memory *memory)
{
    assert(memory->piece_bytes == 0);
    block_pool_free(&memory->small);
    block_pool_free(&memory->large);
}

size_t dedupe_memory_bytes(const struct dedupe_memory *memory)
{
    return memory->piece_bytes + memory->small.bytes + memory->large.bytes;
}

/* The number of slots that a capacity is a multiple of. */
static uint32_t step_of(uint64_t slots)
{
    if (slots > SMALL_LIMIT_SLOTS)
        return LARGE_BLOCK_SLOTS;
    return slots > TINY_LIMIT_SLOTS ? SMALL_BLOCK_SLOTS : TINY_STEP_SLOTS;
}

uint32_t dedupe_table_capacity(uint64_t slots)
{
    uint32_t step = step_of(slots);
    uint64_t capacity = (slots + step - 1) / step * step;
    assert(capacity <= UINT32_MAX);
    return (uint32_t)capacity;
}

static struct block_pool *pool_of(struct dedupe_memory *memory, uint32_t capacity)
{
    return capacity > SMALL_LIMIT_SLOTS ? &memory->large : &memory->small;
}

static size_t piece_bytes_of(uint32_t capacity)
{
    return capacity > TINY_LIMIT_SLOTS ? capacity / step_of(capacity) * sizeof(uint32_t)
                                       : capacity * sizeof(struct dedupe_slot);
}

static bool blocks_new(struct block_pool *pool, struct dedupe_table *table)
{
    uint32_t count = table->capacity / step_of(table->capacity);
    table->blocks = malloc(count * sizeof *table->blocks);
    if (table->blocks == NULL)
        return false;
    if (!block_pool_take(pool, table->blocks, count)) {
        free(table->blocks);
        return false;
    }
    for (uint32_t i = 0; i < count; i++)
        memset(block_pool_at(pool, table->blocks[i]), 0, pool->block_bytes);
    return true;
}

bool dedupe_table_new(struct dedupe_memory *memory, struct dedupe_table *table, uint32_t capacity)
{
    *table = (struct dedupe_table){.capacity = capacity};
    if (capacity > TINY_LIMIT_SLOTS) {
        if (!blocks_new(pool_of(memory, capacity), table))
            return false;
    } else if (capacity > 0) {
        table->slots = calloc(capacity, sizeof *table->slots);
        if (table->slots == NULL)
            return false;
    }
    memory->piece_bytes += piece_bytes_of(capacity);
    return true;
}

void dedupe_table_free(struct dedupe_memory *memory, struct dedupe_table *table)
{
    uint32_t capacity = table->capacity;
    memory->piece_bytes -= piece_bytes_of(capacity);
    if (capacity > TINY_LIMIT_SLOTS) {
        block_pool_give_back(pool_of(memory, capacity), table->blocks, capacity / step_of(capacity));
        free(table->blocks);
    } else {
        free(table->slots);
    }
    *table = (struct dedupe_table){.capacity = 0};
}

struct dedupe_cursor dedupe_cursor_at(const struct dedupe_memory *memory, const struct dedupe_table *table,
                                      uint32_t index)
{
    uint32_t run = table->capacity - index;
    if (table->capacity > TINY_LIMIT_SLOTS) {
        uint32_t block = table->capacity > SMALL_LIMIT_SLOTS ? LARGE_BLOCK_SLOTS : SMALL_BLOCK_SLOTS;
        run = block - index % block;
    }
    return (struct dedupe_cursor){dedupe_table_at(memory, table, index), index, run};
}

/* A part of the key's hash, scaled to the capacity, which therefore needs to be no power of two. */
static uint32_t home_of(const struct dedupe_slot *slot, uint32_t capacity)
{
    return (uint32_t)((uint64_t)slot->key[1] * capacity >> 32);
}

/* How far from its home a key stands. */
static uint32_t distance_of(const struct dedupe_slot *slot, uint32_t index, uint32_t capacity)
{
    uint32_t home = home_of(slot, capacity);
    return index >= home ? index - home : index + capacity - home;
}

static bool same_key(const struct dedupe_slot *a, const struct dedupe_slot *b)
{
    return a->key[0] == b->key[0] && a->key[1] == b->key[1] && a->key[2] == b->key[2] &&
           a->key_high == b->key_high;
}

struct dedupe_slot *dedupe_table_home(const struct dedupe_memory *memory, const struct dedupe_table *table,
                                      const struct dedupe_slot *wanted)
{
    return dedupe_table_at(memory, table, home_of(wanted, table->capacity));
}

/* Of two keys at the same place: the nearer is to its home, the later it comes, and of one home, by the hash:
 * so that their order is the same whatever the capacity. */
static bool comes_after(const struct dedupe_slot *wanted, uint32_t wanted_distance,
                        const struct dedupe_slot *resident, uint32_t resident_distance)
{
    if (resident_distance != wanted_distance)
        return resident_distance < wanted_distance;
    return resident->key[1] > wanted->key[1];
}

struct dedupe_place dedupe_table_find(const struct dedupe_memory *memory, const struct dedupe_table *table,
                                      const struct dedupe_slot *wanted)
{
    uint32_t capacity = table->capacity;
    struct dedupe_cursor at = dedupe_cursor_at(memory, table, home_of(wanted, capacity));
    for (uint32_t distance = 0;; distance++) {
        if (at.slot->day != 0 && same_key(at.slot, wanted))
            return (struct dedupe_place){at.slot, at.index, true};
        if (at.slot->day == 0 ||
            comes_after(wanted, distance, at.slot, distance_of(at.slot, at.index, capacity)))
            return (struct dedupe_place){at.slot, at.index, false};
        dedupe_cursor_step(memory, table, &at);
    }
}

/* Moves the slots from index on, up to the empty slot at gap, by one. Goes back from the gap in runs that are
 * next to each other in memory. */
static void shift_on(const struct dedupe_memory *memory, const struct dedupe_table *table, uint32_t index,
                     uint32_t gap)
{
    uint32_t block = table->capacity > SMALL_LIMIT_SLOTS  ? LARGE_BLOCK_SLOTS
                     : table->capacity > TINY_LIMIT_SLOTS ? SMALL_BLOCK_SLOTS
                                                          : TINY_LIMIT_SLOTS;
    while (gap != index) {
        uint32_t first = gap - gap % block;
        if (index < gap && index > first)
            first = index;
        struct dedupe_slot *slots = dedupe_table_at(memory, table, first);
        memmove(slots + 1, slots, (gap - first) * sizeof *slots);
        gap = first;
        if (gap == index)
            return;
        uint32_t before = gap == 0 ? table->capacity - 1 : gap - 1;
        *slots = *dedupe_table_at(memory, table, before);
        gap = before;
    }
}

void dedupe_table_put(const struct dedupe_memory *memory, const struct dedupe_table *table,
                      struct dedupe_place place, const struct dedupe_slot *slot)
{
    if (place.slot->day != 0) {
        struct dedupe_cursor gap = dedupe_cursor_at(memory, table, place.index);
        while (gap.slot->day != 0)
            dedupe_cursor_step(memory, table, &gap);
        shift_on(memory, table, place.index, gap.index);
    }
    *place.slot = *slot;
}

void dedupe_table_remove(const struct dedupe_memory *memory, const struct dedupe_table *table, uint32_t index)
{
    struct dedupe_cursor gap = dedupe_cursor_at(memory, table, index);
    struct dedupe_cursor next = gap;
    dedupe_cursor_step(memory, table, &next);
    while (next.slot->day != 0 && distance_of(next.slot, next.index, table->capacity) > 0) {
        *gap.slot = *next.slot;
        gap = next;
        dedupe_cursor_step(memory, table, &next);
    }
    *gap.slot = (struct dedupe_slot){.day = 0};
}

uint32_t dedupe_table_first(const struct dedupe_memory *memory, const struct dedupe_table *table)
{
    /* The last homes' keys may have come around the end. */
    uint32_t index = 0;
    const struct dedupe_slot *slot = dedupe_table_at(memory, table, 0);
    while (slot->day != 0 && home_of(slot, table->capacity) > index)
        slot = dedupe_table_at(memory, table, ++index);
    return index;
}

void dedupe_table_append(const struct dedupe_memory *memory, const struct dedupe_table *table, uint32_t *next,
                         const struct dedupe_slot *slot)
{
    uint32_t home = home_of(slot, table->capacity);
    uint32_t index = home > *next ? home : *next;
    if (index < table->capacity) {
        *dedupe_table_at(memory, table, index) = *slot;
        *next = index + 1;
    } else {
        dedupe_table_put(memory, table, dedupe_table_find(memory, table, slot), slot);
        *next = table->capacity;
    }
}
