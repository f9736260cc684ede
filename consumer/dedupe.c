#include "dedupe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "block_pool.h"
#include "dedupe_days.h"

/* A shard's number is the key's top 12 bits; a slot holds 112 of the other 116. Bits 48 to 51 of the high
 * word are ignored: 124 bits tell keys apart. */
enum { SHARD_BITS = 12, SHARDS = 1 << SHARD_BITS };

struct slot {
    uint32_t key[3];
    uint16_t key_high;
    uint16_t day; /* 0: the slot is empty */
    uint32_t content;
};
_Static_assert(sizeof(struct slot) == 20, "slots are packed without padding");

/* Small tables are one piece of malloc's. Larger ones consist of blocks of the pool. */
enum { BLOCK_SLOTS = BLOCK_BYTES / sizeof(struct slot), SMALL_SLOTS = 256, SMALL_STEP_SLOTS = 4 };

struct table {
    union {
        struct slot *slots; /* up to SMALL_SLOTS */
        uint32_t *blocks;   /* over that */
    };
    uint32_t capacity; /* slots; 0: nothing is allocated */
};

struct shard {
    struct table table;
    uint32_t used;  /* slots not empty, those of forgotten keys included */
    uint32_t swept; /* how many forgettings had happened when it was last swept */
};

struct dedupe {
    struct shard shards[SHARDS];
    struct block_pool pool;
    struct dedupe_days days;
    size_t count;
    size_t table_bytes; /* small tables and lists of blocks */
    uint32_t sweep_next;
    uint32_t sweep_left; /* shards to visit until all were since the last forgetting */
};

/* A full shard grows by an eighth. The load at which it is full rises with its number across about one such
 * step: though all shards fill alike, at any moment each is at another point of its step, and few grow at
 * once. */
enum {
    LOAD_SCALE = 4096,
    LOWEST_LOAD = 3190 /* 0.78 */,
    LOAD_SPREAD = 374 /* up to 0.87 */,
    GROWTH_PART = 8
};

/* What one call of dedupe_sweep() works on: slots, where visiting a shard counts as some more. */
enum { SWEEP_SLOTS = 16384, SWEEP_SHARD_SLOTS = 64 };

static uint64_t full_load(uint32_t number)
{
    return LOWEST_LOAD + (uint64_t)number * LOAD_SPREAD / SHARDS;
}

static uint32_t most_keys(uint32_t number, uint32_t capacity)
{
    return (uint32_t)(capacity * full_load(number) / LOAD_SCALE);
}

/* The slots for a shard of so many keys that is to have room to grow. */
static uint32_t capacity_for(uint32_t number, uint32_t keys)
{
    uint64_t full = (uint64_t)keys * LOAD_SCALE / full_load(number) + (keys > 0);
    uint64_t roomy = full + full / GROWTH_PART;
    uint64_t step = roomy <= SMALL_SLOTS ? SMALL_STEP_SLOTS : BLOCK_SLOTS;
    return (uint32_t)((roomy + step - 1) / step * step);
}

static struct slot *slot_at(const struct dedupe *dedupe, const struct table *table, uint32_t i)
{
    if (table->capacity <= SMALL_SLOTS)
        return table->slots + i;
    return (struct slot *)block_pool_at(&dedupe->pool, table->blocks[i / BLOCK_SLOTS]) + i % BLOCK_SLOTS;
}

static uint32_t next_index(const struct table *table, uint32_t i)
{
    return i + 1 == table->capacity ? 0 : i + 1;
}

/* Where a key's search begins: its hash scaled to the capacity, which therefore needs to be no power of two.
 */
static uint32_t home_of(const struct slot *slot, uint32_t capacity)
{
    return (uint32_t)((uint64_t)slot->key[1] * capacity >> 32);
}

static bool same_key(const struct slot *a, const struct slot *b)
{
    return a->key[0] == b->key[0] && a->key[1] == b->key[1] && a->key[2] == b->key[2] &&
           a->key_high == b->key_high;
}

/* Where the key is, or else the empty slot where it would go. There always is one: no table is ever full. */
static uint32_t find(const struct dedupe *dedupe, const struct table *table, const struct slot *wanted)
{
    uint32_t i = home_of(wanted, table->capacity);
    for (;; i = next_index(table, i)) {
        const struct slot *slot = slot_at(dedupe, table, i);
        if (slot->day == 0 || same_key(slot, wanted))
            return i;
    }
}

static size_t table_own_bytes(uint32_t capacity)
{
    return capacity <= SMALL_SLOTS ? capacity * sizeof(struct slot)
                                   : capacity / BLOCK_SLOTS * sizeof(uint32_t);
}

static void table_free(struct dedupe *dedupe, struct table *table)
{
    dedupe->table_bytes -= table_own_bytes(table->capacity);
    if (table->capacity <= SMALL_SLOTS) {
        free(table->slots);
    } else {
        block_pool_give_back(&dedupe->pool, table->blocks, table->capacity / BLOCK_SLOTS);
        free(table->blocks);
    }
    *table = (struct table){.capacity = 0};
}

static bool large_table_new(struct dedupe *dedupe, struct table *table)
{
    uint32_t count = table->capacity / BLOCK_SLOTS;
    table->blocks = malloc(count * sizeof *table->blocks);
    if (table->blocks == NULL)
        return false;
    if (!block_pool_take(&dedupe->pool, table->blocks, count)) {
        free(table->blocks);
        return false;
    }
    for (uint32_t i = 0; i < count; i++)
        memset(block_pool_at(&dedupe->pool, table->blocks[i]), 0, BLOCK_BYTES);
    return true;
}

/* A table of empty slots. False: out of memory, nothing changed. */
static bool table_new(struct dedupe *dedupe, struct table *table, uint32_t capacity)
{
    *table = (struct table){.capacity = capacity};
    if (capacity > SMALL_SLOTS) {
        if (!large_table_new(dedupe, table))
            return false;
    } else if (capacity > 0) {
        table->slots = calloc(capacity, sizeof *table->slots);
        if (table->slots == NULL)
            return false;
    }
    dedupe->table_bytes += table_own_bytes(capacity);
    return true;
}

static bool is_forgotten(const struct dedupe *dedupe, const struct shard *shard, const struct slot *slot)
{
    return dedupe_days_is_forgotten(&dedupe->days, slot->day, shard->swept);
}

static uint32_t count_live(const struct dedupe *dedupe, const struct shard *shard)
{
    if (shard->swept == dedupe->days.forgettings)
        return shard->used;
    uint32_t live = 0;
    for (uint32_t i = 0; i < shard->table.capacity; i++) {
        const struct slot *slot = slot_at(dedupe, &shard->table, i);
        live += slot->day != 0 && !is_forgotten(dedupe, shard, slot);
    }
    return live;
}

/* Moves the keys that are not forgotten to a table of another capacity. False: out of memory, nothing
 * changed. */
static bool rebuild(struct dedupe *dedupe, struct shard *shard, uint32_t capacity, uint32_t live)
{
    struct table table;
    if (!table_new(dedupe, &table, capacity))
        return false;
    for (uint32_t i = 0; i < shard->table.capacity; i++) {
        const struct slot *slot = slot_at(dedupe, &shard->table, i);
        if (slot->day != 0 && !is_forgotten(dedupe, shard, slot))
            *slot_at(dedupe, &table, find(dedupe, &table, slot)) = *slot;
    }
    table_free(dedupe, &shard->table);
    shard->table = table;
    shard->used = live;
    shard->swept = dedupe->days.forgettings;
    return true;
}

/* Empties a slot and closes the gap: moves back each key of the run that follows which may stand there. */
static void empty_slot(struct dedupe *dedupe, struct shard *shard, uint32_t gap)
{
    const struct table *table = &shard->table;
    struct slot *gap_slot = slot_at(dedupe, table, gap);
    for (uint32_t i = next_index(table, gap);; i = next_index(table, i)) {
        struct slot *slot = slot_at(dedupe, table, i);
        if (slot->day == 0)
            break;
        uint32_t home = home_of(slot, table->capacity);
        bool home_is_after_gap = gap < i ? gap < home && home <= i : gap < home || home <= i;
        if (home_is_after_gap)
            continue;
        *gap_slot = *slot;
        gap_slot = slot;
        gap = i;
    }
    *gap_slot = (struct slot){.day = 0};
    shard->used--;
}

/* Needs no memory. A key that moves into the slot just emptied is looked at there; one that comes around from
 * the table's beginning was looked at before. */
static void purge_in_place(struct dedupe *dedupe, struct shard *shard)
{
    for (uint32_t i = 0; i < shard->table.capacity; i++) {
        const struct slot *slot = slot_at(dedupe, &shard->table, i);
        while (slot->day != 0 && is_forgotten(dedupe, shard, slot))
            empty_slot(dedupe, shard, i);
    }
    shard->swept = dedupe->days.forgettings;
}

static void sweep_shard(struct dedupe *dedupe, uint32_t number)
{
    struct shard *shard = &dedupe->shards[number];
    uint32_t live = count_live(dedupe, shard);
    uint32_t capacity = capacity_for(number, live);
    if (capacity > shard->table.capacity)
        capacity = shard->table.capacity;
    if (live < shard->used && !rebuild(dedupe, shard, capacity, live))
        purge_in_place(dedupe, shard);
    shard->swept = dedupe->days.forgettings;
}

static bool grow(struct dedupe *dedupe, uint32_t number)
{
    struct shard *shard = &dedupe->shards[number];
    uint32_t live = count_live(dedupe, shard);
    return rebuild(dedupe, shard, capacity_for(number, live + 1), live);
}

static uint32_t shard_number(struct dedupe_key key)
{
    return (uint32_t)(key.high >> (64 - SHARD_BITS));
}

static struct slot slot_of(struct dedupe_key key, uint32_t content, uint16_t day)
{
    return (struct slot){.key = {(uint32_t)key.low, (uint32_t)(key.low >> 32), (uint32_t)key.high},
                         .key_high = (uint16_t)(key.high >> 32),
                         .day = day,
                         .content = content};
}

struct dedupe *dedupe_new(void)
{
    return calloc(1, sizeof(struct dedupe));
}

void dedupe_free(struct dedupe *dedupe)
{
    if (dedupe == NULL)
        return;
    for (uint32_t i = 0; i < SHARDS; i++)
        table_free(dedupe, &dedupe->shards[i].table);
    block_pool_free(&dedupe->pool);
    dedupe_days_free(&dedupe->days);
    free(dedupe);
}

void dedupe_prefetch(const struct dedupe *dedupe, struct dedupe_key key)
{
    const struct table *table = &dedupe->shards[shard_number(key)].table;
    if (table->capacity == 0)
        return;
    struct slot wanted = slot_of(key, 0, 0);
    const char *home = (const char *)slot_at(dedupe, table, home_of(&wanted, table->capacity));
    __builtin_prefetch(home, 1);
    __builtin_prefetch(home + 64, 1);
}

/* The key's slot or the empty one where it would go; NULL: the shard has no table yet. */
static struct slot *look_up(const struct dedupe *dedupe, const struct shard *shard, const struct slot *wanted)
{
    const struct table *table = &shard->table;
    return table->capacity == 0 ? NULL : slot_at(dedupe, table, find(dedupe, table, wanted));
}

enum dedupe_verdict dedupe_insert(struct dedupe *dedupe, struct dedupe_key key, uint32_t content,
                                  uint16_t day)
{
    assert(day != 0);
    uint32_t number = shard_number(key);
    struct shard *shard = &dedupe->shards[number];
    struct slot wanted = slot_of(key, content, day);
    struct dedupe_day *row = dedupe_days_find(&dedupe->days, day);
    /* Once there is a new key of a forgotten day, nothing could tell the old ones from it. */
    if (row != NULL && row->forgotten > shard->swept)
        sweep_shard(dedupe, number);

    struct slot *slot = look_up(dedupe, shard, &wanted);
    bool is_there = slot != NULL && slot->day != 0;
    if (is_there && !is_forgotten(dedupe, shard, slot))
        return slot->content == content ? DEDUPE_REPEAT : DEDUPE_CONFLICT;

    if (row == NULL && (row = dedupe_days_add(&dedupe->days, day)) == NULL)
        return DEDUPE_NO_MEMORY;
    if (!is_there && shard->used >= most_keys(number, shard->table.capacity)) {
        if (!grow(dedupe, number))
            return DEDUPE_NO_MEMORY;
        slot = look_up(dedupe, shard, &wanted);
    }
    /* A forgotten key's slot is taken over by the same key; there is never a second slot of one key. */
    shard->used += !is_there;
    *slot = wanted;
    row->count++;
    dedupe->count++;
    return DEDUPE_NEW;
}

bool dedupe_remove(struct dedupe *dedupe, struct dedupe_key key)
{
    struct shard *shard = &dedupe->shards[shard_number(key)];
    if (shard->table.capacity == 0)
        return false;
    struct slot wanted = slot_of(key, 0, 0);
    uint32_t at = find(dedupe, &shard->table, &wanted);
    const struct slot *slot = slot_at(dedupe, &shard->table, at);
    if (slot->day == 0 || is_forgotten(dedupe, shard, slot))
        return false;
    dedupe_days_find(&dedupe->days, slot->day)->count--;
    dedupe->count--;
    empty_slot(dedupe, shard, at);
    return true;
}

void dedupe_forget(struct dedupe *dedupe, uint16_t day)
{
    struct dedupe_day *row = dedupe_days_find(&dedupe->days, day);
    if (row == NULL || row->count == 0)
        return;
    dedupe->count -= dedupe_days_forget(&dedupe->days, row);
    dedupe->sweep_left = SHARDS;
}

bool dedupe_sweep(struct dedupe *dedupe)
{
    for (uint32_t looked_at = 0; dedupe->sweep_left > 0 && looked_at < SWEEP_SLOTS; dedupe->sweep_left--) {
        looked_at += dedupe->shards[dedupe->sweep_next].table.capacity + SWEEP_SHARD_SLOTS;
        sweep_shard(dedupe, dedupe->sweep_next);
        dedupe->sweep_next = (dedupe->sweep_next + 1) % SHARDS;
    }
    if (dedupe->sweep_left == 0 && dedupe->days.newest_forgotten != 0)
        dedupe_days_settle(&dedupe->days);
    return dedupe->sweep_left > 0;
}

size_t dedupe_count(const struct dedupe *dedupe)
{
    return dedupe->count;
}

size_t dedupe_day_count(const struct dedupe *dedupe, uint16_t day)
{
    const struct dedupe_day *row = dedupe_days_find(&dedupe->days, day);
    return row == NULL ? 0 : row->count;
}

size_t dedupe_bytes(const struct dedupe *dedupe)
{
    return sizeof *dedupe + dedupe->table_bytes + dedupe->pool.bytes +
           dedupe->days.row_limit * sizeof *dedupe->days.rows;
}

static void put_little_endian(uint8_t *out, uint64_t value, int size_bytes)
{
    for (int i = 0; i < size_bytes; i++, value >>= 8)
        out[i] = (uint8_t)value;
}

static uint64_t get_little_endian(const uint8_t *bytes, int size_bytes)
{
    uint64_t value = 0;
    for (int i = size_bytes - 1; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

void dedupe_segment_put(uint8_t out[DEDUPE_SEGMENT_BYTES], struct dedupe_key key, uint32_t content)
{
    put_little_endian(out, key.low, 8);
    put_little_endian(out + 8, key.high, 8);
    put_little_endian(out + 16, content, 4);
}

static struct dedupe_key segment_key(const uint8_t *entry)
{
    return (struct dedupe_key){.low = get_little_endian(entry, 8), .high = get_little_endian(entry + 8, 8)};
}

bool dedupe_segment_restore(struct dedupe *dedupe, uint16_t day, const uint8_t *bytes, size_t size_bytes)
{
    enum { AHEAD_BYTES = 16 * DEDUPE_SEGMENT_BYTES };
    if (day == 0 || size_bytes % DEDUPE_SEGMENT_BYTES != 0)
        return false;
    for (size_t at = 0; at < size_bytes; at += DEDUPE_SEGMENT_BYTES) {
        if (size_bytes - at > AHEAD_BYTES)
            dedupe_prefetch(dedupe, segment_key(bytes + at + AHEAD_BYTES));
        uint32_t content = (uint32_t)get_little_endian(bytes + at + 16, 4);
        if (dedupe_insert(dedupe, segment_key(bytes + at), content, day) == DEDUPE_NO_MEMORY)
            return false;
    }
    return true;
}
