#include "accumulator.h"

#include <assert.h>
#include <stdlib.h>

#include "json_text.h"
#include "row_hash.h"
#include "row_sort.h"

#define HOUR_US (INT64_C(3600) * 1000000)

enum { FIRST_ROWS = 64, ROWS_QUIET_RESETS = 64 };

/* Open addressing: from a key's hash to its row. */
struct slot {
    void *row;    /* in the arena, its texts right behind it; NULL: empty */
    uint32_t tag; /* the key's hash */
};
struct table {
    struct slot *slots;
    size_t slot_count; /* a power of two, at least twice the rows */
    size_t rows;
    struct sorted_row *sorted; /* room for half as many as there are slots */
    bool is_sorted;            /* all rows are there */
    struct row_prefix customers, runs;
};

struct hourly_entry {
    struct hourly_row row; /* first: it is what the table finds */
    struct text values[];  /* of the dimensions, as events say them */
};

struct accumulator {
    struct accumulator_rules rules; /* dimensions in the order of their names, each once */
    struct arena *arena;
    struct table hourly;
    struct table runs;
    unsigned quiet_resets; /* in a row, of batches that used little of the memory */
};

/* The next row whose key may have this tag. *probe is the tag at first and then says where to go on. NULL:
 * there is no other. */
static inline void *table_find(const struct table *table, uint32_t tag, size_t *probe)
{
    if (table->slot_count == 0)
        return NULL;
    for (;;) {
        const struct slot *slot = &table->slots[(*probe)++ & (table->slot_count - 1)];
        if (!slot->row || slot->tag == tag)
            return slot->row;
    }
}

static void table_put(struct table *table, struct slot slot)
{
    size_t probe = slot.tag & (table->slot_count - 1);
    while (table->slots[probe].row)
        probe = (probe + 1) & (table->slot_count - 1);
    table->slots[probe] = slot;
    table->rows++;
}

/* Makes room for one more row, in the array of sorted ones too. */
static bool table_reserve(struct table *table)
{
    if (table->rows * 2 < table->slot_count)
        return true;
    size_t slot_count = table->slot_count > 0 ? table->slot_count * 2 : FIRST_ROWS * 2;
    struct sorted_row *sorted = reallocarray(table->sorted, slot_count / 2, sizeof *sorted);
    if (!sorted)
        return false;
    table->sorted = sorted;
    struct table larger = *table;
    larger.slots = calloc(slot_count, sizeof *larger.slots);
    larger.slot_count = slot_count;
    larger.rows = 0;
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < table->slot_count; i++)
        if (table->slots[i].row)
            table_put(&larger, table->slots[i]);
    free(table->slots);
    *table = larger;
    return true;
}

static void table_clear(struct table *table)
{
    if (table->rows > 0)
        memset(table->slots, 0, table->slot_count * sizeof *table->slots);
    *table = (struct table){.slots = table->slots, .slot_count = table->slot_count, .sorted = table->sorted};
}

static void table_free(struct table *table)
{
    free(table->slots);
    free(table->sorted);
    *table = (struct table){0};
}

/* Of the names of two dimensions. */
static int compare_names(const void *a, const void *b)
{
    return strcmp(event_lifted_names[*(const enum event_lifted *)a],
                  event_lifted_names[*(const enum event_lifted *)b]);
}

static void rules_normalise(struct accumulator_rules *rules)
{
    assert(rules->dimension_count <= LIFTED_COUNT);
    qsort(rules->dimensions, rules->dimension_count, sizeof rules->dimensions[0], compare_names);
    size_t kept = 0;
    for (size_t i = 0; i < rules->dimension_count; i++)
        if (kept == 0 || rules->dimensions[kept - 1] != rules->dimensions[i])
            rules->dimensions[kept++] = rules->dimensions[i];
    rules->dimension_count = kept;
}

struct accumulator *accumulator_new(const struct accumulator_rules *rules, struct arena *arena)
{
    struct accumulator *accumulator = calloc(1, sizeof *accumulator);
    if (!accumulator)
        return NULL;
    accumulator->rules = *rules;
    rules_normalise(&accumulator->rules);
    accumulator->arena = arena;
    return accumulator;
}

static void free_rows(struct accumulator *accumulator)
{
    table_free(&accumulator->hourly);
    table_free(&accumulator->runs);
    accumulator->quiet_resets = 0;
}

void accumulator_free(struct accumulator *accumulator)
{
    if (accumulator)
        free_rows(accumulator);
    free(accumulator);
}

/* One large batch shall not hold its memory for ever, nor shall every small one give it back. */
static bool give_back(struct accumulator *accumulator)
{
    size_t rows = accumulator->hourly.rows + accumulator->runs.rows;
    size_t slot_count = accumulator->hourly.slot_count + accumulator->runs.slot_count;
    bool quiet = slot_count > 32 * FIRST_ROWS && rows < slot_count / 16;
    accumulator->quiet_resets = quiet ? accumulator->quiet_resets + 1 : 0;
    return accumulator->quiet_resets >= ROWS_QUIET_RESETS;
}

void accumulator_reset(struct accumulator *accumulator)
{
    if (give_back(accumulator))
        free_rows(accumulator);
    table_clear(&accumulator->hourly);
    table_clear(&accumulator->runs);
}

size_t accumulator_bytes(const struct accumulator *accumulator)
{
    size_t hourly_slots = accumulator->hourly.slot_count, run_slots = accumulator->runs.slot_count;
    return sizeof *accumulator + (hourly_slots + run_slots) * sizeof(struct slot) +
           (hourly_slots + run_slots) / 2 * sizeof(struct sorted_row);
}

size_t accumulator_used_bytes(const struct accumulator *accumulator)
{
    size_t rows = accumulator->hourly.rows + accumulator->runs.rows;
    return rows * (2 * sizeof(struct slot) + sizeof(struct sorted_row));
}

static int64_t hour_of(int64_t time_us)
{
    int64_t into_hour_us = time_us % HOUR_US;
    if (into_hour_us < 0)
        into_hour_us += HOUR_US;
    return time_us - into_hour_us;
}

static int64_t earlier(int64_t a_us, int64_t b_us)
{
    return a_us < b_us ? a_us : b_us;
}

static int64_t later(int64_t a_us, int64_t b_us)
{
    return a_us > b_us ? a_us : b_us;
}

static char *put_member(char *out, const char *name, struct text value)
{
    size_t name_bytes = strlen(name);
    *out++ = '"';
    memcpy(out, name, name_bytes);
    out += name_bytes;
    memcpy(out, "\":\"", 3);
    out += 3;
    out = json_text_put(out, value);
    *out++ = '"';
    return out;
}

/* At least as long as what put_dimensions() writes. */
static size_t dimensions_bound(const struct accumulator_rules *rules, const struct event *event)
{
    size_t bound = 2;
    for (size_t i = 0; i < rules->dimension_count; i++)
        bound += strlen(event_lifted_names[rules->dimensions[i]]) + sizeof "\"\":\"\"," - 1 +
                 json_text_bytes(event->lifted[rules->dimensions[i]]);
    return bound;
}

/* Canonical: without blanks, in the order of names, without empty values. */
static struct text put_dimensions(const struct accumulator_rules *rules, const struct event *event, char *out)
{
    char *end = out;
    *end++ = '{';
    for (size_t i = 0; i < rules->dimension_count; i++) {
        struct text value = event->lifted[rules->dimensions[i]];
        if (value.length == 0)
            continue;
        if (end > out + 1)
            *end++ = ',';
        end = put_member(end, event_lifted_names[rules->dimensions[i]], value);
    }
    *end++ = '}';
    return (struct text){out, (uint32_t)(end - out)};
}

static size_t hourly_bound(const struct accumulator_rules *rules, const struct event *event)
{
    size_t bound = sizeof(struct hourly_entry) + rules->dimension_count * sizeof(struct text);
    bound += (size_t)event->customer_id.length + event->meter.length + event->model.length;
    for (size_t i = 0; i < rules->dimension_count; i++)
        bound += event->lifted[rules->dimensions[i]].length;
    return bound + dimensions_bound(rules, event);
}

static struct hourly_entry *hourly_insert(struct accumulator *accumulator, uint32_t tag,
                                          const struct event *event, int64_t hour_us)
{
    const struct accumulator_rules *rules = &accumulator->rules;
    bool room = table_reserve(&accumulator->hourly);
    struct hourly_entry *entry = room ? arena_alloc(accumulator->arena, hourly_bound(rules, event)) : NULL;
    if (!entry)
        return NULL;
    entry->row = (struct hourly_row){
        .hour_us = hour_us, .first_event_us = event->time_us, .last_event_us = event->time_us};
    char *at = (char *)(entry->values + rules->dimension_count);
    entry->row.customer_id = text_pack(&at, event->customer_id);
    entry->row.meter = text_pack(&at, event->meter);
    entry->row.model = text_pack(&at, event->model);
    for (size_t i = 0; i < rules->dimension_count; i++)
        entry->values[i] = text_pack(&at, event->lifted[rules->dimensions[i]]);
    entry->row.dimensions = put_dimensions(rules, event, at);
    row_prefix_see(&accumulator->hourly.customers, entry->row.customer_id);
    table_put(&accumulator->hourly, (struct slot){entry, tag});
    return entry;
}

static bool hourly_is(const struct accumulator_rules *rules, const struct hourly_entry *entry,
                      const struct event *event, int64_t hour_us)
{
    const struct hourly_row *row = &entry->row;
    if (row->hour_us != hour_us || !text_equal(row->customer_id, event->customer_id) ||
        !text_equal(row->meter, event->meter) || !text_equal(row->model, event->model))
        return false;
    for (size_t i = 0; i < rules->dimension_count; i++)
        if (!text_equal(entry->values[i], event->lifted[rules->dimensions[i]]))
            return false;
    return true;
}

static struct hourly_entry *hourly_of(struct accumulator *accumulator, uint32_t tag,
                                      const struct event *event)
{
    const struct accumulator_rules *rules = &accumulator->rules;
    int64_t hour_us = hour_of(event->time_us);
    size_t probe = tag;
    struct hourly_entry *entry;
    while ((entry = table_find(&accumulator->hourly, tag, &probe)))
        if (hourly_is(rules, entry, event, hour_us))
            return entry;
    return hourly_insert(accumulator, tag, event, hour_us);
}

static bool hourly_add(struct accumulator *accumulator, uint32_t tag, const struct event *event)
{
    struct hourly_entry *entry = hourly_of(accumulator, tag, event);
    if (!entry)
        return false;
    struct hourly_row *row = &entry->row;
    row->events++;
    row->first_event_us = earlier(row->first_event_us, event->time_us);
    row->last_event_us = later(row->last_event_us, event->time_us);
    return decimal_add(&row->quantity, event->quantity) &&
           (event->kind == EVENT_USAGE || decimal_add(&row->adjustment, event->quantity));
}

static size_t run_bound(const struct event *event)
{
    const struct text *lifted = event->lifted;
    return sizeof(struct run_row) + event->customer_id.length + lifted[LIFTED_RUN_ID].length +
           lifted[LIFTED_AGENT_ID].length + lifted[LIFTED_USER_ID].length + event->meter.length +
           event->model.length;
}

static struct run_row *run_insert(struct accumulator *accumulator, uint32_t tag, const struct event *event)
{
    bool room = table_reserve(&accumulator->runs);
    struct run_row *row = room ? arena_alloc(accumulator->arena, run_bound(event)) : NULL;
    if (!row)
        return NULL;
    *row = (struct run_row){.first_event_us = event->time_us, .last_event_us = event->time_us};
    char *at = (char *)(row + 1);
    row->customer_id = text_pack(&at, event->customer_id);
    row->run_id = text_pack(&at, event->lifted[LIFTED_RUN_ID]);
    row->agent_id = text_pack(&at, event->lifted[LIFTED_AGENT_ID]);
    row->user_id = text_pack(&at, event->lifted[LIFTED_USER_ID]);
    row->meter = text_pack(&at, event->meter);
    row->model = text_pack(&at, event->model);
    row->parent_run_id = TEXT("");
    row_prefix_see(&accumulator->runs.customers, row->customer_id);
    row_prefix_see(&accumulator->runs.runs, row->run_id);
    table_put(&accumulator->runs, (struct slot){row, tag});
    return row;
}

static bool run_is(const struct run_row *row, const struct event *event)
{
    return text_equal(row->run_id, event->lifted[LIFTED_RUN_ID]) &&
           text_equal(row->customer_id, event->customer_id) && text_equal(row->meter, event->meter) &&
           text_equal(row->model, event->model) &&
           text_equal(row->agent_id, event->lifted[LIFTED_AGENT_ID]) &&
           text_equal(row->user_id, event->lifted[LIFTED_USER_ID]);
}

static struct run_row *run_of(struct accumulator *accumulator, uint32_t tag, const struct event *event)
{
    size_t probe = tag;
    struct run_row *row;
    while ((row = table_find(&accumulator->runs, tag, &probe)))
        if (run_is(row, event))
            return row;
    return run_insert(accumulator, tag, event);
}

static bool run_add(struct accumulator *accumulator, uint32_t tag, const struct event *event)
{
    struct run_row *row = run_of(accumulator, tag, event);
    if (!row)
        return false;
    if (row->parent_run_id.length == 0 && event->lifted[LIFTED_PARENT_RUN_ID].length > 0) {
        struct text parent = arena_text(accumulator->arena, event->lifted[LIFTED_PARENT_RUN_ID]);
        if (!parent.bytes)
            return false;
        row->parent_run_id = parent;
    }
    row->events++;
    row->first_event_us = earlier(row->first_event_us, event->time_us);
    row->last_event_us = later(row->last_event_us, event->time_us);
    return decimal_add(&row->quantity, event->quantity);
}

/* key: hash of what both kinds of rows have in common. */
static uint32_t hourly_tag(const struct accumulator_rules *rules, struct row_hash key,
                           const struct event *event)
{
    row_hash_word(&key, (uint64_t)hour_of(event->time_us));
    for (size_t i = 0; i < rules->dimension_count; i++)
        row_hash_text(&key, event->lifted[rules->dimensions[i]]);
    return (uint32_t)row_hash_end(key);
}

static uint32_t run_tag(struct row_hash key, const struct event *event)
{
    row_hash_text(&key, event->lifted[LIFTED_RUN_ID]);
    row_hash_text(&key, event->lifted[LIFTED_AGENT_ID]);
    row_hash_text(&key, event->lifted[LIFTED_USER_ID]);
    return (uint32_t)row_hash_end(key);
}

static void prefetch_slot(const struct table *table, uint32_t tag)
{
    if (table->slot_count > 0)
        __builtin_prefetch(&table->slots[tag & (table->slot_count - 1)]);
}

struct accumulator_place accumulator_locate(const struct accumulator *accumulator, const struct event *event)
{
    const struct accumulator_rules *rules = &accumulator->rules;
    struct row_hash key = row_hash_begin(rules->hash_seed);
    row_hash_text(&key, event->customer_id);
    row_hash_text(&key, event->meter);
    row_hash_text(&key, event->model);
    struct accumulator_place place = {.hourly_tag = hourly_tag(rules, key, event)};
    prefetch_slot(&accumulator->hourly, place.hourly_tag);
    place.in_run = rules->runs && event->lifted[LIFTED_RUN_ID].length > 0;
    if (place.in_run) {
        place.run_tag = run_tag(key, event);
        prefetch_slot(&accumulator->runs, place.run_tag);
    }
    return place;
}

/* A row and its texts, which follow it. */
static void prefetch_row(const struct table *table, uint32_t tag)
{
    enum { LINE_BYTES = 64, ROW_LINES = 4 };
    size_t probe = tag;
    const char *row = table_find(table, tag, &probe);
    for (int line = 0; row && line < ROW_LINES; line++)
        __builtin_prefetch(row + line * LINE_BYTES, 1);
}

void accumulator_prefetch(const struct accumulator *accumulator, const struct accumulator_place *place)
{
    prefetch_row(&accumulator->hourly, place->hourly_tag);
    if (place->in_run)
        prefetch_row(&accumulator->runs, place->run_tag);
}

bool accumulator_add_at(struct accumulator *accumulator, const struct accumulator_place *place,
                        const struct event *event)
{
    accumulator->hourly.is_sorted = accumulator->runs.is_sorted = false;
    return hourly_add(accumulator, place->hourly_tag, event) &&
           (!place->in_run || run_add(accumulator, place->run_tag, event));
}

bool accumulator_add(struct accumulator *accumulator, const struct event *event)
{
    struct accumulator_place place = accumulator_locate(accumulator, event);
    return accumulator_add_at(accumulator, &place, event);
}

static void sort_hourly(struct table *table)
{
    size_t count = 0;
    for (size_t i = 0; i < table->slot_count; i++) {
        const struct hourly_entry *entry = table->slots[i].row;
        if (entry)
            table->sorted[count++].hourly = &entry->row;
    }
    row_sort_hourly(table->sorted, count, table->customers.shared);
    table->is_sorted = true;
}

static void sort_runs(struct table *table)
{
    size_t count = 0;
    for (size_t i = 0; i < table->slot_count; i++)
        if (table->slots[i].row)
            table->sorted[count++].run = table->slots[i].row;
    row_sort_runs(table->sorted, count, table->customers.shared, table->runs.shared);
    table->is_sorted = true;
}

/* Asked more than once for each batch: to sort them early, for the names that are new, for the rollups. */
const struct sorted_row *accumulator_hourly(struct accumulator *accumulator, size_t *count)
{
    struct table *table = &accumulator->hourly;
    *count = table->rows;
    if (table->rows > 0 && !table->is_sorted)
        sort_hourly(table);
    return table->rows > 0 ? table->sorted : NULL;
}

const struct sorted_row *accumulator_runs(struct accumulator *accumulator, size_t *count)
{
    struct table *table = &accumulator->runs;
    *count = table->rows;
    if (table->rows > 0 && !table->is_sorted)
        sort_runs(table);
    return table->rows > 0 ? table->sorted : NULL;
}
