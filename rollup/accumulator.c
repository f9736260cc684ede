#include "accumulator.h"

#include <assert.h>
#include <stdlib.h>

#include "json_text.h"
#include "row_hash.h"

#define HOUR_US (INT64_C(3600) * 1000000)

enum { FIRST_ROWS = 64, QUIET_RESETS = 64 };
enum { NO_ROW = UINT32_MAX };

/* Open addressing: from a key's hash to the number of its row. */
struct slot {
    uint32_t tag; /* the key's hash */
    uint32_t row; /* NO_ROW: empty */
};
struct table {
    struct slot *slots;
    size_t slot_count; /* a power of two, at least twice the rows */
};

struct hourly_entry {
    struct hourly_row row;
    const struct text *values; /* of the dimensions, as events say them */
};

struct accumulator {
    struct accumulator_rules rules; /* dimensions in the order of their names, each once */
    struct arena *arena;
    unsigned quiet_resets; /* in a row, of batches that used little of the memory */

    struct table hourly_table;
    struct hourly_entry *hourly;
    struct hourly_row *hourly_sorted; /* room for as many */
    size_t hourly_count, hourly_capacity;

    struct table run_table;
    struct run_row *runs;
    struct run_row *runs_sorted;
    size_t run_count, run_capacity;
};

static void table_clear(struct table *table)
{
    memset(table->slots, 0xff, table->slot_count * sizeof *table->slots);
}

/* The next row whose key may have this tag. Starts where *probe says, tag at first, and leaves it behind the
 * row. NO_ROW: there is no other. */
static inline uint32_t table_find(const struct table *table, uint32_t tag, size_t *probe)
{
    if (table->slot_count == 0)
        return NO_ROW;
    for (;;) {
        struct slot slot = table->slots[(*probe)++ & (table->slot_count - 1)];
        if (slot.row == NO_ROW || slot.tag == tag)
            return slot.row;
    }
}

static void table_put(struct table *table, uint32_t tag, uint32_t row)
{
    size_t probe = tag & (table->slot_count - 1);
    while (table->slots[probe].row != NO_ROW)
        probe = (probe + 1) & (table->slot_count - 1);
    table->slots[probe] = (struct slot){tag, row};
}

static bool table_resize(struct table *table, size_t slot_count)
{
    struct table larger = {malloc(slot_count * sizeof *larger.slots), slot_count};
    if (!larger.slots)
        return false;
    table_clear(&larger);
    for (size_t i = 0; i < table->slot_count; i++)
        if (table->slots[i].row != NO_ROW)
            table_put(&larger, table->slots[i].tag, table->slots[i].row);
    free(table->slots);
    *table = larger;
    return true;
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

static void hourly_free(struct accumulator *accumulator)
{
    free(accumulator->hourly_table.slots);
    free(accumulator->hourly);
    free(accumulator->hourly_sorted);
    accumulator->hourly_table = (struct table){NULL, 0};
    accumulator->hourly = NULL;
    accumulator->hourly_sorted = NULL;
    accumulator->hourly_capacity = 0;
}

static void runs_free(struct accumulator *accumulator)
{
    free(accumulator->run_table.slots);
    free(accumulator->runs);
    free(accumulator->runs_sorted);
    accumulator->run_table = (struct table){NULL, 0};
    accumulator->runs = NULL;
    accumulator->runs_sorted = NULL;
    accumulator->run_capacity = 0;
}

void accumulator_free(struct accumulator *accumulator)
{
    if (!accumulator)
        return;
    hourly_free(accumulator);
    runs_free(accumulator);
    free(accumulator);
}

/* One large batch shall not hold its memory for ever, nor shall every small one give it back. */
static bool give_back(struct accumulator *accumulator)
{
    size_t rows = accumulator->hourly_count + accumulator->run_count;
    size_t capacity = accumulator->hourly_capacity + accumulator->run_capacity;
    bool quiet = capacity > 16 * FIRST_ROWS && rows < capacity / 8;
    accumulator->quiet_resets = quiet ? accumulator->quiet_resets + 1 : 0;
    return accumulator->quiet_resets >= QUIET_RESETS;
}

void accumulator_reset(struct accumulator *accumulator)
{
    if (give_back(accumulator)) {
        hourly_free(accumulator);
        runs_free(accumulator);
    }
    if (accumulator->hourly_count > 0 && accumulator->hourly_table.slots)
        table_clear(&accumulator->hourly_table);
    if (accumulator->run_count > 0 && accumulator->run_table.slots)
        table_clear(&accumulator->run_table);
    accumulator->hourly_count = 0;
    accumulator->run_count = 0;
}

size_t accumulator_bytes(const struct accumulator *accumulator)
{
    size_t slots = accumulator->hourly_table.slot_count + accumulator->run_table.slot_count;
    return sizeof *accumulator + slots * sizeof(struct slot) +
           accumulator->hourly_capacity * (sizeof(struct hourly_entry) + sizeof(struct hourly_row)) +
           accumulator->run_capacity * 2 * sizeof(struct run_row);
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

/* Canonical: without blanks, in the order of names, without empty values. */
static struct text render_dimensions(const struct accumulator *accumulator, const struct event *event)
{
    const struct accumulator_rules *rules = &accumulator->rules;
    size_t size_bytes = 2;
    for (size_t i = 0; i < rules->dimension_count; i++)
        size_bytes += strlen(event_lifted_names[rules->dimensions[i]]) + sizeof "\"\":\"\"," - 1 +
                      json_text_bytes(event->lifted[rules->dimensions[i]]);
    char *bytes = arena_alloc(accumulator->arena, size_bytes);
    if (!bytes)
        return (struct text){NULL, 0};
    char *end = bytes;
    *end++ = '{';
    for (size_t i = 0; i < rules->dimension_count; i++) {
        struct text value = event->lifted[rules->dimensions[i]];
        if (value.length == 0)
            continue;
        if (end > bytes + 1)
            *end++ = ',';
        end = put_member(end, event_lifted_names[rules->dimensions[i]], value);
    }
    *end++ = '}';
    return (struct text){bytes, (uint32_t)(end - bytes)};
}

static const struct text *pack_values(const struct accumulator *accumulator, const struct event *event)
{
    const struct accumulator_rules *rules = &accumulator->rules;
    size_t size_bytes = rules->dimension_count * sizeof(struct text);
    for (size_t i = 0; i < rules->dimension_count; i++)
        size_bytes += event->lifted[rules->dimensions[i]].length;
    struct text *values = arena_alloc(accumulator->arena, size_bytes);
    if (!values)
        return NULL;
    char *at = (char *)(values + rules->dimension_count);
    for (size_t i = 0; i < rules->dimension_count; i++)
        values[i] = text_pack(&at, event->lifted[rules->dimensions[i]]);
    return values;
}

/* Room for one more row, in the table too. */
static bool hourly_reserve(struct accumulator *accumulator)
{
    if (accumulator->hourly_count < accumulator->hourly_capacity)
        return true;
    size_t capacity = accumulator->hourly_capacity ? accumulator->hourly_capacity * 2 : FIRST_ROWS;
    struct hourly_entry *entries = reallocarray(accumulator->hourly, capacity, sizeof *entries);
    if (!entries)
        return false;
    accumulator->hourly = entries;
    struct hourly_row *sorted = reallocarray(accumulator->hourly_sorted, capacity, sizeof *sorted);
    if (!sorted)
        return false;
    accumulator->hourly_sorted = sorted;
    if (!table_resize(&accumulator->hourly_table, capacity * 2))
        return false;
    accumulator->hourly_capacity = capacity;
    return true;
}

static struct hourly_entry *hourly_insert(struct accumulator *accumulator, uint32_t tag,
                                          const struct event *event, int64_t hour_us)
{
    if (!hourly_reserve(accumulator))
        return NULL;
    char *at = arena_alloc(accumulator->arena,
                           (size_t)event->customer_id.length + event->meter.length + event->model.length);
    struct hourly_entry entry = {.values = pack_values(accumulator, event)};
    entry.row.dimensions = render_dimensions(accumulator, event);
    if (!at || !entry.values || !entry.row.dimensions.bytes)
        return NULL;
    entry.row.customer_id = text_pack(&at, event->customer_id);
    entry.row.meter = text_pack(&at, event->meter);
    entry.row.model = text_pack(&at, event->model);
    entry.row.hour_us = hour_us;
    entry.row.first_event_us = event->time_us;
    entry.row.last_event_us = event->time_us;
    table_put(&accumulator->hourly_table, tag, (uint32_t)accumulator->hourly_count);
    accumulator->hourly[accumulator->hourly_count] = entry;
    return &accumulator->hourly[accumulator->hourly_count++];
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

/* key: hash of what both kinds of rows have in common. */
static struct hourly_entry *hourly_of(struct accumulator *accumulator, struct row_hash key,
                                      const struct event *event)
{
    const struct accumulator_rules *rules = &accumulator->rules;
    int64_t hour_us = hour_of(event->time_us);
    row_hash_word(&key, (uint64_t)hour_us);
    for (size_t i = 0; i < rules->dimension_count; i++)
        row_hash_text(&key, event->lifted[rules->dimensions[i]]);
    uint32_t tag = (uint32_t)row_hash_end(key);
    size_t probe = tag;
    uint32_t row;
    while ((row = table_find(&accumulator->hourly_table, tag, &probe)) != NO_ROW)
        if (hourly_is(rules, &accumulator->hourly[row], event, hour_us))
            return &accumulator->hourly[row];
    return hourly_insert(accumulator, tag, event, hour_us);
}

static bool hourly_add(struct accumulator *accumulator, struct row_hash key, const struct event *event)
{
    struct hourly_entry *entry = hourly_of(accumulator, key, event);
    if (!entry)
        return false;
    struct hourly_row *row = &entry->row;
    row->events++;
    row->first_event_us = earlier(row->first_event_us, event->time_us);
    row->last_event_us = later(row->last_event_us, event->time_us);
    return decimal_add(&row->quantity, event->quantity) &&
           (event->kind == EVENT_USAGE || decimal_add(&row->adjustment, event->quantity));
}

static bool runs_reserve(struct accumulator *accumulator)
{
    if (accumulator->run_count < accumulator->run_capacity)
        return true;
    size_t capacity = accumulator->run_capacity ? accumulator->run_capacity * 2 : FIRST_ROWS;
    struct run_row *runs = reallocarray(accumulator->runs, capacity, sizeof *runs);
    if (!runs)
        return false;
    accumulator->runs = runs;
    struct run_row *sorted = reallocarray(accumulator->runs_sorted, capacity, sizeof *sorted);
    if (!sorted)
        return false;
    accumulator->runs_sorted = sorted;
    if (!table_resize(&accumulator->run_table, capacity * 2))
        return false;
    accumulator->run_capacity = capacity;
    return true;
}

static struct run_row *run_insert(struct accumulator *accumulator, uint32_t tag, const struct event *event)
{
    const struct text *lifted = event->lifted;
    if (!runs_reserve(accumulator))
        return NULL;
    char *at =
        arena_alloc(accumulator->arena, (size_t)event->customer_id.length + lifted[LIFTED_RUN_ID].length +
                                            lifted[LIFTED_AGENT_ID].length + lifted[LIFTED_USER_ID].length +
                                            event->meter.length + event->model.length);
    if (!at)
        return NULL;
    struct run_row *row = &accumulator->runs[accumulator->run_count];
    *row = (struct run_row){.first_event_us = event->time_us, .last_event_us = event->time_us};
    row->customer_id = text_pack(&at, event->customer_id);
    row->run_id = text_pack(&at, lifted[LIFTED_RUN_ID]);
    row->agent_id = text_pack(&at, lifted[LIFTED_AGENT_ID]);
    row->user_id = text_pack(&at, lifted[LIFTED_USER_ID]);
    row->meter = text_pack(&at, event->meter);
    row->model = text_pack(&at, event->model);
    row->parent_run_id = TEXT("");
    table_put(&accumulator->run_table, tag, (uint32_t)accumulator->run_count++);
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

static struct run_row *run_of(struct accumulator *accumulator, struct row_hash key, const struct event *event)
{
    row_hash_text(&key, event->lifted[LIFTED_RUN_ID]);
    row_hash_text(&key, event->lifted[LIFTED_AGENT_ID]);
    row_hash_text(&key, event->lifted[LIFTED_USER_ID]);
    uint32_t tag = (uint32_t)row_hash_end(key);
    size_t probe = tag;
    uint32_t row;
    while ((row = table_find(&accumulator->run_table, tag, &probe)) != NO_ROW)
        if (run_is(&accumulator->runs[row], event))
            return &accumulator->runs[row];
    return run_insert(accumulator, tag, event);
}

static bool run_add(struct accumulator *accumulator, struct row_hash key, const struct event *event)
{
    struct run_row *row = run_of(accumulator, key, event);
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

bool accumulator_add(struct accumulator *accumulator, const struct event *event)
{
    struct row_hash key = row_hash_begin(accumulator->rules.hash_seed);
    row_hash_text(&key, event->customer_id);
    row_hash_text(&key, event->meter);
    row_hash_text(&key, event->model);
    if (!hourly_add(accumulator, key, event))
        return false;
    bool in_run = accumulator->rules.runs && event->lifted[LIFTED_RUN_ID].length > 0;
    return !in_run || run_add(accumulator, key, event);
}

/* Bytewise, as COLLATE "C" sorts. */
static int compare_texts(struct text a, struct text b)
{
    uint32_t common = a.length < b.length ? a.length : b.length;
    int order = common > 0 ? memcmp(a.bytes, b.bytes, common) : 0;
    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

static int compare_hourly(const void *left, const void *right)
{
    const struct hourly_row *a = left, *b = right;
    int order = compare_texts(a->customer_id, b->customer_id);
    if (order == 0)
        order = (a->hour_us > b->hour_us) - (a->hour_us < b->hour_us);
    if (order == 0)
        order = compare_texts(a->meter, b->meter);
    if (order == 0)
        order = compare_texts(a->model, b->model);
    return order != 0 ? order : compare_texts(a->dimensions, b->dimensions);
}

static int compare_runs(const void *left, const void *right)
{
    const struct run_row *a = left, *b = right;
    int order = compare_texts(a->customer_id, b->customer_id);
    if (order == 0)
        order = compare_texts(a->run_id, b->run_id);
    if (order == 0)
        order = compare_texts(a->agent_id, b->agent_id);
    if (order == 0)
        order = compare_texts(a->user_id, b->user_id);
    if (order == 0)
        order = compare_texts(a->meter, b->meter);
    return order != 0 ? order : compare_texts(a->model, b->model);
}

const struct hourly_row *accumulator_hourly(struct accumulator *accumulator, size_t *count)
{
    *count = accumulator->hourly_count;
    for (size_t i = 0; i < accumulator->hourly_count; i++)
        accumulator->hourly_sorted[i] = accumulator->hourly[i].row;
    if (accumulator->hourly_count > 0)
        qsort(accumulator->hourly_sorted, accumulator->hourly_count, sizeof *accumulator->hourly_sorted,
              compare_hourly);
    return accumulator->hourly_count > 0 ? accumulator->hourly_sorted : NULL;
}

const struct run_row *accumulator_runs(struct accumulator *accumulator, size_t *count)
{
    *count = accumulator->run_count;
    for (size_t i = 0; i < accumulator->run_count; i++)
        accumulator->runs_sorted[i] = accumulator->runs[i];
    if (accumulator->run_count > 0)
        qsort(accumulator->runs_sorted, accumulator->run_count, sizeof *accumulator->runs_sorted,
              compare_runs);
    return accumulator->run_count > 0 ? accumulator->runs_sorted : NULL;
}
