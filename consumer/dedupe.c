#include "dedupe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "dedupe_days.h"
#include "dedupe_table.h"

/* A shard's number is the key's top 12 bits; a slot holds 112 of the other 116. Bits 48 to 51 of the high
 * word are ignored: 124 bits tell keys apart. */
enum { SHARD_BITS = 12, SHARDS = 1 << SHARD_BITS };

struct shard {
    struct dedupe_table table;
    uint32_t used;  /* slots not empty, those of forgotten keys included */
    uint32_t swept; /* how many forgettings had happened when it was last swept */
};

struct dedupe {
    struct shard shards[SHARDS];
    struct dedupe_memory memory;
    struct dedupe_days days;
    size_t count;
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
enum { SWEEP_SLOTS = 4096, SWEEP_SHARD_SLOTS = 64 };

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
    return dedupe_table_capacity(full + full / GROWTH_PART);
}

static bool is_forgotten(const struct dedupe *dedupe, const struct shard *shard,
                         const struct dedupe_slot *slot)
{
    return dedupe_days_is_forgotten(&dedupe->days, slot->day, shard->swept);
}

static uint32_t count_live(const struct dedupe *dedupe, const struct shard *shard)
{
    if (shard->swept == dedupe->days.forgettings || shard->used == 0)
        return shard->used;
    const struct dedupe_table *table = &shard->table;
    uint32_t live = 0;
    struct dedupe_cursor at = dedupe_cursor_at(&dedupe->memory, table, 0);
    for (uint32_t i = 0; i < table->capacity; i++, dedupe_cursor_step(&dedupe->memory, table, &at))
        live += at.slot->day != 0 && !is_forgotten(dedupe, shard, at.slot);
    return live;
}

static void copy_live(struct dedupe *dedupe, const struct shard *shard, const struct dedupe_table *copy)
{
    const struct dedupe_memory *memory = &dedupe->memory;
    const struct dedupe_table *table = &shard->table;
    uint32_t next = 0;
    struct dedupe_cursor at = dedupe_cursor_at(memory, table, dedupe_table_first(memory, table));
    for (uint32_t i = 0; i < table->capacity; i++, dedupe_cursor_step(memory, table, &at))
        if (at.slot->day != 0 && !is_forgotten(dedupe, shard, at.slot))
            dedupe_table_append(memory, copy, &next, at.slot);
}

/* Moves the keys that are not forgotten to a table of another capacity. False: out of memory, nothing
 * changed. */
static bool rebuild(struct dedupe *dedupe, struct shard *shard, uint32_t capacity, uint32_t live)
{
    struct dedupe_table table;
    if (!dedupe_table_new(&dedupe->memory, &table, capacity))
        return false;
    if (live > 0)
        copy_live(dedupe, shard, &table);
    dedupe_table_free(&dedupe->memory, &shard->table);
    shard->table = table;
    shard->used = live;
    shard->swept = dedupe->days.forgettings;
    return true;
}

/* Needs no memory. A key that moves into the slot just emptied is looked at there; one that comes around from
 * the table's beginning was looked at before. */
static void purge_in_place(struct dedupe *dedupe, struct shard *shard)
{
    for (uint32_t i = 0; i < shard->table.capacity; i++) {
        const struct dedupe_slot *slot = dedupe_table_at(&dedupe->memory, &shard->table, i);
        while (slot->day != 0 && is_forgotten(dedupe, shard, slot)) {
            dedupe_table_remove(&dedupe->memory, &shard->table, i);
            shard->used--;
        }
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

bool dedupe_reserve(struct dedupe *dedupe, size_t keys)
{
    size_t by_shard = keys / SHARDS + (keys % SHARDS > 0);
    if (by_shard > UINT32_MAX / 2)
        return false;
    for (uint32_t number = 0; number < SHARDS; number++) {
        struct shard *shard = &dedupe->shards[number];
        uint32_t live = count_live(dedupe, shard);
        uint32_t capacity = capacity_for(number, live + (uint32_t)by_shard);
        if (capacity > shard->table.capacity && !rebuild(dedupe, shard, capacity, live))
            return false;
    }
    return true;
}

static uint32_t shard_number(struct dedupe_key key)
{
    return (uint32_t)(key.high >> (64 - SHARD_BITS));
}

static struct dedupe_slot slot_of(struct dedupe_key key, uint32_t content, uint16_t day)
{
    return (struct dedupe_slot){.key = {(uint32_t)key.low, (uint32_t)(key.low >> 32), (uint32_t)key.high},
                                .key_high = (uint16_t)(key.high >> 32),
                                .day = day,
                                .content = content};
}

struct dedupe *dedupe_new(void)
{
    struct dedupe *dedupe = calloc(1, sizeof *dedupe);
    if (dedupe != NULL)
        dedupe_memory_init(&dedupe->memory);
    return dedupe;
}

void dedupe_free(struct dedupe *dedupe)
{
    if (dedupe == NULL)
        return;
    for (uint32_t i = 0; i < SHARDS; i++)
        dedupe_table_free(&dedupe->memory, &dedupe->shards[i].table);
    dedupe_memory_free(&dedupe->memory);
    dedupe_days_free(&dedupe->days);
    free(dedupe);
}

enum { CACHE_LINE_BYTES = 64 };

void dedupe_approach(const struct dedupe *dedupe, struct dedupe_key key)
{
    __builtin_prefetch(&dedupe->shards[shard_number(key)], 1);
}

void dedupe_prefetch(const struct dedupe *dedupe, struct dedupe_key key)
{
    const struct dedupe_table *table = &dedupe->shards[shard_number(key)].table;
    if (table->capacity == 0)
        return;
    struct dedupe_slot wanted = slot_of(key, 0, 0);
    const char *home = (const char *)dedupe_table_home(&dedupe->memory, table, &wanted);
    /* What most insertions read and move. */
    for (int line = 0; line < 4; line++)
        __builtin_prefetch(home + line * CACHE_LINE_BYTES, 1);
}

/* Where the key is or would go; slot NULL: the shard has no table yet. */
static struct dedupe_place look_up(const struct dedupe *dedupe, const struct shard *shard,
                                   const struct dedupe_slot *wanted)
{
    if (shard->table.capacity == 0)
        return (struct dedupe_place){.slot = NULL};
    return dedupe_table_find(&dedupe->memory, &shard->table, wanted);
}

/* Adds a key that is not in the shard. False: out of memory, nothing changed. */
static bool add(struct dedupe *dedupe, uint32_t number, struct dedupe_place place,
                const struct dedupe_slot *slot)
{
    struct shard *shard = &dedupe->shards[number];
    if (shard->used >= most_keys(number, shard->table.capacity)) {
        if (!grow(dedupe, number))
            return false;
        place = look_up(dedupe, shard, slot);
    }
    dedupe_table_put(&dedupe->memory, &shard->table, place, slot);
    shard->used++;
    return true;
}

enum dedupe_verdict dedupe_insert(struct dedupe *dedupe, struct dedupe_key key, uint32_t content,
                                  uint16_t day)
{
    assert(day != 0);
    uint32_t number = shard_number(key);
    struct shard *shard = &dedupe->shards[number];
    struct dedupe_slot wanted = slot_of(key, content, day);
    struct dedupe_day *row = dedupe_days_find(&dedupe->days, day);
    /* Once there is a new key of a forgotten day, nothing could tell the old ones from it. */
    if (row != NULL && row->forgotten > shard->swept)
        sweep_shard(dedupe, number);

    struct dedupe_place place = look_up(dedupe, shard, &wanted);
    if (place.is_there && !is_forgotten(dedupe, shard, place.slot))
        return place.slot->content == content ? DEDUPE_REPEAT : DEDUPE_CONFLICT;
    if (row == NULL && (row = dedupe_days_add(&dedupe->days, day)) == NULL)
        return DEDUPE_NO_MEMORY;
    /* A key takes over the slot of its forgotten self: there is never a second slot of one key. */
    if (place.is_there)
        *place.slot = wanted;
    else if (!add(dedupe, number, place, &wanted))
        return DEDUPE_NO_MEMORY;
    row->count++;
    dedupe->count++;
    return DEDUPE_NEW;
}

bool dedupe_find(const struct dedupe *dedupe, struct dedupe_key key, uint32_t *content, uint16_t *day)
{
    const struct shard *shard = &dedupe->shards[shard_number(key)];
    struct dedupe_slot wanted = slot_of(key, 0, 0);
    struct dedupe_place place = look_up(dedupe, shard, &wanted);
    if (!place.is_there || is_forgotten(dedupe, shard, place.slot))
        return false;
    *content = place.slot->content;
    *day = place.slot->day;
    return true;
}

bool dedupe_remove(struct dedupe *dedupe, struct dedupe_key key)
{
    struct shard *shard = &dedupe->shards[shard_number(key)];
    struct dedupe_slot wanted = slot_of(key, 0, 0);
    struct dedupe_place place = look_up(dedupe, shard, &wanted);
    if (!place.is_there || is_forgotten(dedupe, shard, place.slot))
        return false;
    dedupe_days_find(&dedupe->days, place.slot->day)->count--;
    dedupe->count--;
    dedupe_table_remove(&dedupe->memory, &shard->table, place.index);
    shard->used--;
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
    return sizeof *dedupe + dedupe_memory_bytes(&dedupe->memory) +
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
