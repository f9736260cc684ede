#include "ceiling.h"

#include <assert.h>
#include <stdlib.h>

#include "lookup.h"

const char *const ceiling_period_names[PERIOD_COUNT] = {"hour", "day", "month"};
const char *const ceiling_policy_names[POLICY_COUNT] = {"alert", "throttle", "hard-stop"};
const char *const ceiling_who_names[WHO_COUNT] = {"everyone", "customer", "plan"};
const char *const ceiling_scope_names[SCOPE_COUNT] = {"customer"};

enum { ARENA_CHUNK_BYTES = 4096 };

/* The ceilings that look at one meter: those of one customer, or those for everyone and for plans. Chained in
 * the catalogue's order. */
struct group {
    uint32_t first, last;
    uint32_t period_mask;
};

struct ceiling_index {
    size_t capacity;
    struct lookup by_name;  /* rows: ceilings */
    struct lookup by_meter; /* rows: groups, by meter and customer */
    struct group *groups;
    size_t group_count;
    bool for_customers; /* some ceiling is for one customer */
    uint32_t *next;     /* by ceiling: the next one of its group */
};

static struct ceiling_index *index_new(size_t capacity)
{
    struct ceiling_index *index = calloc(1, sizeof *index);
    if (!index)
        return NULL;
    index->capacity = capacity;
    index->groups = calloc(capacity + 1, sizeof *index->groups);
    index->next = calloc(capacity + 1, sizeof *index->next);
    if (index->groups && index->next && lookup_reserve(&index->by_name, capacity) &&
        lookup_reserve(&index->by_meter, capacity))
        return index;
    free(index->groups);
    free(index->next);
    lookup_free(&index->by_name);
    free(index);
    return NULL;
}

static void index_free(struct ceiling_index *index)
{
    if (!index)
        return;
    free(index->groups);
    free(index->next);
    lookup_free(&index->by_name);
    lookup_free(&index->by_meter);
    free(index);
}

struct ceiling_catalogue *ceiling_catalogue_new(size_t capacity)
{
    assert(capacity < LOOKUP_END);
    struct ceiling_catalogue *catalogue = calloc(1, sizeof *catalogue);
    if (!catalogue)
        return NULL;
    catalogue->arena = malloc(sizeof *catalogue->arena);
    if (catalogue->arena)
        arena_init(catalogue->arena, ARENA_CHUNK_BYTES);
    catalogue->ceilings = calloc(capacity + 1, sizeof *catalogue->ceilings);
    catalogue->index = index_new(capacity);
    if (catalogue->arena && catalogue->ceilings && catalogue->index)
        return catalogue;
    ceiling_catalogue_free(catalogue);
    return NULL;
}

void ceiling_catalogue_free(struct ceiling_catalogue *catalogue)
{
    if (!catalogue)
        return;
    if (catalogue->arena)
        arena_free(catalogue->arena);
    free(catalogue->arena);
    free(catalogue->ceilings);
    index_free(catalogue->index);
    free(catalogue);
}

/* Whose group a ceiling is in: its customer's, or the shared one (empty). */
static struct text group_customer(const struct ceiling *ceiling)
{
    return ceiling->who_kind == WHO_CUSTOMER ? ceiling->who : TEXT("");
}

/* hash: of the meter, then of the customer. */
static struct group *group_find(const struct ceiling_catalogue *catalogue, struct text meter,
                                struct text customer_id, uint64_t hash)
{
    const struct ceiling_index *index = catalogue->index;
    struct lookup_walk walk = lookup_walk(&index->by_meter, hash);
    uint32_t row;
    while ((row = lookup_next(&index->by_meter, &walk)) != LOOKUP_END) {
        const struct ceiling *first = &catalogue->ceilings[index->groups[row].first];
        if (text_equal(first->meter, meter) && text_equal(group_customer(first), customer_id))
            return &index->groups[row];
    }
    return NULL;
}

static void index_add(struct ceiling_catalogue *catalogue, uint32_t row)
{
    struct ceiling_index *index = catalogue->index;
    const struct ceiling *ceiling = &catalogue->ceilings[row];
    struct text customer_id = group_customer(ceiling);
    uint64_t hash = lookup_text(lookup_text(0, ceiling->meter), customer_id);
    struct group *group = group_find(catalogue, ceiling->meter, customer_id, hash);
    if (group) {
        index->next[group->last] = row;
    } else {
        lookup_insert(&index->by_meter, hash, (uint32_t)index->group_count);
        group = &index->groups[index->group_count++];
        *group = (struct group){.first = row};
    }
    index->for_customers |= ceiling->who_kind == WHO_CUSTOMER;
    group->last = row;
    group->period_mask |= 1u << ceiling->period;
    index->next[row] = LOOKUP_END;
    lookup_insert(&index->by_name, lookup_text(0, ceiling->name), row);
}

bool ceiling_catalogue_add(struct ceiling_catalogue *catalogue, const struct ceiling *ceiling)
{
    if (catalogue->count >= catalogue->index->capacity || ceiling_catalogue_find(catalogue, ceiling->name))
        return false;
    struct ceiling copy = *ceiling;
    copy.name = arena_text(catalogue->arena, ceiling->name);
    copy.who = arena_text(catalogue->arena, ceiling->who);
    copy.meter = arena_text(catalogue->arena, ceiling->meter);
    if (!copy.name.bytes || !copy.who.bytes || !copy.meter.bytes)
        return false;
    catalogue->ceilings[catalogue->count] = copy;
    index_add(catalogue, (uint32_t)catalogue->count++);
    return true;
}

const struct ceiling *ceiling_catalogue_find(const struct ceiling_catalogue *catalogue, struct text name)
{
    if (!catalogue)
        return NULL;
    struct lookup_walk walk = lookup_walk(&catalogue->index->by_name, lookup_text(0, name));
    uint32_t row;
    while ((row = lookup_next(&catalogue->index->by_name, &walk)) != LOOKUP_END)
        if (text_equal(catalogue->ceilings[row].name, name))
            return &catalogue->ceilings[row];
    return NULL;
}

struct ceiling_walk ceiling_walk(const struct ceiling_catalogue *catalogue, struct text meter,
                                 struct text customer_id)
{
    struct ceiling_walk walk = {.catalogue = catalogue, .shared = LOOKUP_END, .own = LOOKUP_END};
    if (!catalogue)
        return walk;
    uint64_t hash = lookup_text(0, meter);
    const struct group *shared = group_find(catalogue, meter, TEXT(""), lookup_text(hash, TEXT("")));
    const struct group *own = NULL;
    if (catalogue->index->for_customers)
        own = group_find(catalogue, meter, customer_id, lookup_text(hash, customer_id));
    if (shared)
        walk.shared = shared->first;
    if (own)
        walk.own = own->first;
    walk.period_mask = (shared ? shared->period_mask : 0) | (own ? own->period_mask : 0);
    return walk;
}

const struct ceiling *ceiling_walk_next(struct ceiling_walk *walk)
{
    uint32_t *side = walk->shared < walk->own ? &walk->shared : &walk->own;
    if (*side == LOOKUP_END)
        return NULL;
    const struct ceiling *ceiling = &walk->catalogue->ceilings[*side];
    *side = walk->catalogue->index->next[*side];
    return ceiling;
}

bool ceiling_walk_judges(struct ceiling_walk walk, enum ceiling_period period, int64_t time_us)
{
    if (!(walk.period_mask >> period & 1))
        return false;
    int64_t end_us = ceiling_period_end(period, time_us);
    const struct ceiling *ceiling;
    while ((ceiling = ceiling_walk_next(&walk)))
        if (ceiling->period == period && ceiling->created_at_us < end_us)
            return true;
    return false;
}

static const int64_t hour_us = 3600000000, day_us = 86400000000;

static int64_t floor_to(int64_t time_us, int64_t unit_us)
{
    int64_t rest_us = time_us % unit_us;
    return time_us - (rest_us < 0 ? rest_us + unit_us : rest_us);
}

/* Days since 1970 of the first of a month; month counts from 0 and may be 12. Years begin in March here, so
 * that the leap day is the last of its year, and 153 days make five months from there on. */
static int64_t month_first_day(int64_t year, int64_t month)
{
    year += (month + 10) / 12 - 1;
    int64_t since_march = (month + 10) % 12;
    return year * 365 + year / 4 - year / 100 + year / 400 + (since_march * 153 + 2) / 5 - 719468;
}

/* Year and month by an estimate that is never late, and at most one month early, mended. Valid from year 1
 * on. */
static int64_t month_start(int64_t time_us, int64_t months_later)
{
    int64_t day = floor_to(time_us, day_us) / day_us;
    int64_t month = (day + 719468) * 4800 / 146097 + 1; /* since the year 0; 4800 months are 146097 days */
    while (month_first_day((month + 1) / 12, (month + 1) % 12) <= day)
        month++;
    month += months_later;
    return month_first_day(month / 12, month % 12) * day_us;
}

int64_t ceiling_period_start(enum ceiling_period period, int64_t time_us)
{
    switch (period) {
    case PERIOD_HOUR:
        return floor_to(time_us, hour_us);
    case PERIOD_DAY:
        return floor_to(time_us, day_us);
    default:
        return month_start(time_us, 0);
    }
}

int64_t ceiling_period_end(enum ceiling_period period, int64_t time_us)
{
    switch (period) {
    case PERIOD_HOUR:
        return floor_to(time_us, hour_us) + hour_us;
    case PERIOD_DAY:
        return floor_to(time_us, day_us) + day_us;
    default:
        return month_start(time_us, 1);
    }
}
