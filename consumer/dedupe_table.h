/* One shard's part of a dedupe table: open addressing with linear probing, in which the keys of a run stand
 * in the order of their homes (Celis, "Robin Hood hashing"): a search for a key that isn't there ends early,
 * and the keys are copied into a larger table from front to back. Any number of slots will do, so it can grow
 * by a little. */
#ifndef UB_DEDUPE_TABLE_H
#define UB_DEDUPE_TABLE_H

#include "block_pool.h"

/* Of a key's 128 bits, 112. */
struct dedupe_slot {
    uint32_t key[3];
    uint16_t key_high;
    uint16_t day; /* 0: the slot is empty */
    uint32_t content;
};
_Static_assert(sizeof(struct dedupe_slot) == 20, "slots are packed without padding");

/* Tiny tables are one piece of malloc's; others consist of blocks, small or large. The steps in which
 * capacities rise are small beside the tables that rise in them. */
enum {
    TINY_STEP_SLOTS = 8,
    TINY_LIMIT_SLOTS = 64,
    SMALL_BLOCK_SLOTS = 16,
    SMALL_LIMIT_SLOTS = 512,
    LARGE_BLOCK_SLOTS = 64,
};

/* Where the tables of all shards get their memory. */
struct dedupe_memory {
    struct block_pool small;
    struct block_pool large;
    size_t piece_bytes; /* got from malloc: tiny tables and lists of blocks */
};

struct dedupe_table {
    union {
        struct dedupe_slot *slots; /* up to TINY_LIMIT_SLOTS */
        uint32_t *blocks;          /* over that */
    };
    uint32_t capacity; /* slots; 0: nothing is allocated */
};

void dedupe_memory_init(struct dedupe_memory *memory);
void dedupe_memory_free(struct dedupe_memory *memory); /* after its tables */
size_t dedupe_memory_bytes(const struct dedupe_memory *memory);

/* The least capacity of so many slots or more. */
uint32_t dedupe_table_capacity(uint64_t slots);

/* A table of empty slots; capacity: of dedupe_table_capacity(). False: out of memory, *table is undefined. */
bool dedupe_table_new(struct dedupe_memory *memory, struct dedupe_table *table, uint32_t capacity);
void dedupe_table_free(struct dedupe_memory *memory, struct dedupe_table *table);

static inline struct dedupe_slot *dedupe_table_at(const struct dedupe_memory *memory,
                                                  const struct dedupe_table *table, uint32_t index)
{
    if (table->capacity > SMALL_LIMIT_SLOTS)
        return (struct dedupe_slot *)block_pool_at(&memory->large, table->blocks[index / LARGE_BLOCK_SLOTS]) +
               index % LARGE_BLOCK_SLOTS;
    if (table->capacity > TINY_LIMIT_SLOTS)
        return (struct dedupe_slot *)block_pool_at(&memory->small, table->blocks[index / SMALL_BLOCK_SLOTS]) +
               index % SMALL_BLOCK_SLOTS;
    return table->slots + index;
}

/* Where a search for the key begins. The table has slots. */
struct dedupe_slot *dedupe_table_home(const struct dedupe_memory *memory, const struct dedupe_table *table,
                                      const struct dedupe_slot *wanted);

struct dedupe_place {
    struct dedupe_slot *slot;
    uint32_t index;
    bool is_there; /* the key; else it would go here */
};

/* The table has slots, not all of them used. */
struct dedupe_place dedupe_table_find(const struct dedupe_memory *memory, const struct dedupe_table *table,
                                      const struct dedupe_slot *wanted);

/* Puts a key that isn't there where dedupe_table_find() said. Another slot stays empty. */
void dedupe_table_put(const struct dedupe_memory *memory, const struct dedupe_table *table,
                      struct dedupe_place place, const struct dedupe_slot *slot);

/* Empties a slot that is used and closes the gap: what comes after it in its run moves one slot back. */
void dedupe_table_remove(const struct dedupe_memory *memory, const struct dedupe_table *table,
                         uint32_t index);

/* Steps from slot to slot, around the table's end to its beginning. */
struct dedupe_cursor {
    struct dedupe_slot *slot;
    uint32_t index;
    uint32_t run; /* slots from here on that are next to each other in memory */
};
struct dedupe_cursor dedupe_cursor_at(const struct dedupe_memory *memory, const struct dedupe_table *table,
                                      uint32_t index);

static inline void dedupe_cursor_step(const struct dedupe_memory *memory, const struct dedupe_table *table,
                                      struct dedupe_cursor *cursor)
{
    cursor->slot++;
    cursor->index++;
    if (--cursor->run == 0)
        *cursor = dedupe_cursor_at(memory, table, cursor->index == table->capacity ? 0 : cursor->index);
}

/* From this index on, once around, keys are in the order of their homes. */
uint32_t dedupe_table_first(const struct dedupe_memory *memory, const struct dedupe_table *table);

/* Puts a key into a table that was empty, after all keys whose homes come before its own. *next: 0 at first.
 */
void dedupe_table_append(const struct dedupe_memory *memory, const struct dedupe_table *table, uint32_t *next,
                         const struct dedupe_slot *slot);

#endif
