/* What must be true when all is quiet, worked out from what was produced, not from how the core decided. */
#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* --- conservation: every offset ends as exactly one thing --- */

struct expected {
    const struct sim_record *record;
    int32_t topic, partition;
    int64_t offset;
};

static int by_identity(const void *left, const void *right)
{
    const struct expected *a = left, *b = right;
    int order = strcmp(a->record->customer, b->record->customer);
    if (order == 0)
        order = strcmp(a->record->event_id, b->record->event_id);
    if (order == 0)
        order = a->record->meter - b->record->meter;
    if (order == 0)
        order = (a->topic > b->topic) - (a->topic < b->topic);
    return order ? order : (a->offset > b->offset) - (a->offset < b->offset);
}

static bool same_identity(const struct expected *a, const struct expected *b)
{
    return strcmp(a->record->customer, b->record->customer) == 0 &&
           strcmp(a->record->event_id, b->record->event_id) == 0 && a->record->meter == b->record->meter;
}

static int by_place(const void *left, const void *right)
{
    const struct expected *a = left, *b = right;
    if (a->topic != b->topic)
        return a->topic - b->topic;
    if (a->partition != b->partition)
        return a->partition - b->partition;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

static int events_by_place(const void *left, const void *right)
{
    const struct sim_event *a = left, *b = right;
    if (a->topic != b->topic)
        return a->topic - b->topic;
    if (a->partition != b->partition)
        return a->partition - b->partition;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

/* The first of each identity, in the order of topic, partition and offset. */
static size_t first_ones(struct world *world, struct expected *all)
{
    size_t count = 0, kept = 0;
    for (int t = 0; t < world->topic_count; t++)
        for (int i = 0; i < world->partition_count; i++)
            for (int64_t at = world->logs[t][i].low; at < world->logs[t][i].count; at++)
                if (world->logs[t][i].records[at].outcome == SIM_GOOD)
                    all[count++] = (struct expected){&world->logs[t][i].records[at], t, i, at};
    qsort(all, count, sizeof *all, by_identity);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || !same_identity(&all[i], &all[kept - 1]))
            all[kept++] = all[i];
    qsort(all, kept, sizeof *all, by_place);
    return kept;
}

static void check_event(struct world *world, const struct expected *expected, const struct sim_event *event)
{
    const struct sim_record *record = expected->record;
    if (event->topic != expected->topic || event->partition != expected->partition ||
        event->offset != expected->offset)
        world_fail(world, "accepted: expected %s/%d@%" PRId64 ", found %s/%d@%" PRId64,
                   world_topics[expected->topic], expected->partition, expected->offset,
                   world_topics[event->topic], event->partition, event->offset);
    else if (strcmp(event->customer, record->customer) != 0 ||
             strcmp(event->event_id, record->event_id) != 0 ||
             event->quantity != record->quantity * DECIMAL_ONE || event->event_us != record->event_us)
        world_fail(world, "%s/%d@%" PRId64 " was stored as something else", world_topics[expected->topic],
                   expected->partition, expected->offset);
}

static void check_events(struct world *world)
{
    struct sim_database *db = &world->database;
    struct expected *all = calloc((size_t)world->produced + 1, sizeof *all);
    size_t count = first_ones(world, all);
    if (db->events.count)
        qsort(db->events.rows, db->events.count, sizeof(struct sim_event), events_by_place);
    for (size_t i = 0; i < count && i < db->events.count && !world->failure; i++)
        check_event(world, &all[i], &((struct sim_event *)db->events.rows)[i]);
    if (!world->failure && count != db->events.count)
        world_fail(world, "%zu events should be accepted, %zu are", count, db->events.count);
    free(all);
}

static void check_partition(struct world *world, int topic, int partition)
{
    const struct sim_log *log = &world->logs[topic][partition];
    const struct sim_offset *row = &world->database.offsets[topic][partition];
    int64_t bad = 0, markers = 0;
    for (int64_t i = log->low; i < log->count; i++) {
        bad += log->records[i].outcome == SIM_BAD;
        markers += log->records[i].outcome == SIM_MARKER;
    }
    if (row->next_offset != log->count)
        world_fail(world, "%s/%d is read to %" PRId64 " of %" PRId64, world_topics[topic], partition,
                   row->next_offset, log->count);
    else if (row->dead != bad || row->hole != markers)
        world_fail(world, "%s/%d: %" PRId64 " dead of %" PRId64 ", %" PRId64 " holes of %" PRId64,
                   world_topics[topic], partition, row->dead, bad, row->hole, markers);
}

/* --- rollups and counters equal sums over the raw events --- */

static int hours_by_key(const void *left, const void *right)
{
    const struct sim_hour *a = left, *b = right;
    int order = strcmp(a->customer, b->customer);
    if (order == 0)
        order = strcmp(a->meter, b->meter);
    return order ? order : (a->hour_us > b->hour_us) - (a->hour_us < b->hour_us);
}

static void check_hours(struct world *world)
{
    const struct table *events = &world->database.events, *stored = &world->database.hours;
    struct sim_hour *hours = calloc(events->count + 1, sizeof *hours);
    for (size_t i = 0; i < events->count; i++) {
        const struct sim_event *event = &((struct sim_event *)events->rows)[i];
        hours[i] = (struct sim_hour){.hour_us = event->event_us / (3600 * WORLD_SECOND_US) *
                                                (3600 * WORLD_SECOND_US),
                                     .events = 1,
                                     .quantity = event->quantity};
        memcpy(hours[i].customer, event->customer, sizeof event->customer);
        memcpy(hours[i].meter, event->meter, sizeof event->meter);
    }
    qsort(hours, events->count, sizeof *hours, hours_by_key);
    size_t kept = 0;
    for (size_t i = 0; i < events->count; i++) {
        if (kept && hours_by_key(&hours[kept - 1], &hours[i]) == 0) {
            hours[kept - 1].events++;
            hours[kept - 1].quantity += hours[i].quantity;
        } else {
            hours[kept++] = hours[i];
        }
    }
    if (stored->count)
        qsort(stored->rows, stored->count, sizeof *hours, hours_by_key);
    bool same = kept == stored->count;
    for (size_t i = 0; same && i < kept; i++) {
        const struct sim_hour *found = &((struct sim_hour *)stored->rows)[i];
        same = hours_by_key(found, &hours[i]) == 0 && found->events == hours[i].events &&
               found->quantity == hours[i].quantity;
    }
    if (!same)
        world_fail(world, "usage_hourly is not the sum of the raw events");
    free(hours);
}

static decimal_t sum_of(const struct world *world, const char *customer, const char *meter,
                        enum ceiling_period period, int64_t start_us)
{
    decimal_t sum = 0;
    const struct sim_hour *hours = world->database.hours.rows;
    for (size_t i = 0; i < world->database.hours.count; i++)
        if (strcmp(hours[i].customer, customer) == 0 && strcmp(hours[i].meter, meter) == 0 &&
            ceiling_period_start(period, hours[i].hour_us) == start_us)
            sum += hours[i].quantity;
    return sum;
}

static bool looked_at(const struct ceiling_catalogue *catalogue, const struct sim_counter *row)
{
    for (size_t i = 0; i < catalogue->count; i++)
        if (catalogue->ceilings[i].period == row->period &&
            text_equal(catalogue->ceilings[i].meter, text_of(row->meter)))
            return true;
    return false;
}

/* What no ceiling in force looks at is left as it was. */
static void check_counters(struct world *world)
{
    struct ceiling_catalogue *catalogue = sim_catalogue(world);
    const struct sim_counter *rows = world->database.counters.rows;
    for (size_t i = 0; i < world->database.counters.count; i++) {
        if (!looked_at(catalogue, &rows[i]))
            continue;
        decimal_t sum = sum_of(world, rows[i].customer, rows[i].meter, rows[i].period, rows[i].start_us);
        char used[DECIMAL_TEXT_BYTES], expected[DECIMAL_TEXT_BYTES];
        decimal_text(rows[i].used, used);
        decimal_text(sum, expected);
        if (rows[i].used != sum)
            world_fail(world, "lane %d counter %s %s %s at %.0f: %s of %s", rows[i].lane, rows[i].customer,
                       rows[i].meter, ceiling_period_names[rows[i].period],
                       (double)(rows[i].start_us - world->start_us) / 1e6, used, expected);
    }
    ceiling_catalogue_free(catalogue);
}

/* --- enforcement --- */

static void check_decisions(struct world *world)
{
    const struct table *decisions = &world->database.decisions, *states = &world->database.states;
    for (size_t i = 0; i < states->count; i++) {
        const struct sim_state *state = &((struct sim_state *)states->rows)[i];
        int64_t seen = 0;
        for (size_t d = 0; d < decisions->count; d++) {
            const struct sim_decision *decision = &((struct sim_decision *)decisions->rows)[d];
            if (decision->start_us != state->start_us || strcmp(decision->customer, state->customer) != 0 ||
                strcmp(decision->ceiling, state->ceiling) != 0)
                continue;
            if (decision->transition != ++seen || decision->active != (seen % 2 == 1))
                world_fail(world, "%s %s: transition %" PRId64 " comes as number %" PRId64, state->customer,
                           state->ceiling, decision->transition, seen);
        }
        if (seen != state->transition || state->active != (seen % 2 == 1))
            world_fail(world, "%s %s: %" PRId64 " transitions, %" PRId64 " decisions", state->customer,
                       state->ceiling, state->transition, seen);
    }
}

static const struct sim_state *find_state(const struct world *world, const char *customer,
                                          const char *ceiling, int64_t start_us)
{
    const struct sim_state *rows = world->database.states.rows;
    for (size_t i = 0; i < world->database.states.count; i++)
        if (rows[i].start_us == start_us && strcmp(rows[i].customer, customer) == 0 &&
            strcmp(rows[i].ceiling, ceiling) == 0)
            return &rows[i];
    return NULL;
}

static void check_ceiling(struct world *world, const struct ceiling *ceiling)
{
    const struct sim_hour *hours = world->database.hours.rows;
    char name[WORLD_NAME_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)ceiling->name.length, ceiling->name.bytes);
    for (size_t i = 0; i < world->database.hours.count && !world->failure; i++) {
        if (!text_equal(text_of(hours[i].meter), ceiling->meter))
            continue;
        int64_t start_us = ceiling_period_start(ceiling->period, hours[i].hour_us);
        bool over = ceiling_period_end(ceiling->period, hours[i].hour_us) <= world->now_us;
        bool crossed =
            sum_of(world, hours[i].customer, hours[i].meter, ceiling->period, start_us) > ceiling->limit;
        const struct sim_state *state = find_state(world, hours[i].customer, name, start_us);
        if (!over && crossed != (state && state->active))
            world_fail(world, "%s %s: crossed %d, but the state is %s", hours[i].customer, name, crossed,
                       !state          ? "missing"
                       : state->active ? "active"
                                       : "cleared");
        if (over && state && state->active)
            world_fail(world, "%s %s: still active after its period", hours[i].customer, name);
    }
}

/* What a reader ends up with: the highest sequence of each key. It must be what compaction keeps, too: the
 * last one. */
static void check_topic(struct world *world)
{
    for (int lane = 0; lane < world->partition_count; lane++) {
        const struct sim_flags *log = &world->flags[lane];
        for (size_t i = 0; i < log->count; i++) {
            const struct sim_message *message = &log->messages[i];
            bool last = true, highest = true;
            for (size_t j = 0; j < log->count; j++) {
                const struct sim_message *other = &log->messages[j];
                if (j == i || strcmp(other->key, message->key) != 0)
                    continue;
                last = last && j < i;
                highest = highest && (other->sequence.epoch < message->sequence.epoch ||
                                      (other->sequence.epoch == message->sequence.epoch &&
                                       other->sequence.count < message->sequence.count));
            }
            if (last != highest)
                world_fail(world, "lane %d: of %s the last message is not the one with the highest sequence",
                           lane, message->key);
        }
    }
}

static const struct sim_message *last_message(const struct world *world, int lane, const char *key)
{
    const struct sim_message *found = NULL;
    for (size_t i = 0; i < world->flags[lane].count; i++)
        if (strcmp(world->flags[lane].messages[i].key, key) == 0)
            found = &world->flags[lane].messages[i];
    return found;
}

static bool any_active(const struct world *world, const struct sim_state *like)
{
    const struct sim_state *rows = world->database.states.rows;
    for (size_t i = 0; i < world->database.states.count; i++)
        if (rows[i].active && strcmp(rows[i].customer, like->customer) == 0 &&
            strcmp(rows[i].ceiling, like->ceiling) == 0)
            return true;
    return false;
}

static void check_flags(struct world *world)
{
    const struct sim_state *rows = world->database.states.rows;
    for (size_t i = 0; i < world->database.states.count; i++) {
        char key[SIM_KEY_BYTES];
        snprintf(key, sizeof key, "[\"%s\",\"%s\",{}]", rows[i].customer, rows[i].ceiling);
        const struct sim_message *message = last_message(world, rows[i].lane, key);
        bool flagged = message && message->value && strstr(message->value, "\"state\":\"active\"");
        if (flagged != any_active(world, &rows[i]))
            world_fail(world, "%s: the topic says %s, the store says otherwise", key,
                       flagged ? "active" : "not active");
    }
    check_topic(world);
}

void oracle_check(struct world *world)
{
    for (int t = 0; t < world->topic_count; t++)
        for (int i = 0; i < world->partition_count; i++)
            if (!world->failure)
                check_partition(world, t, i);
    void (*const checks[])(struct world *) = {check_events, check_hours, check_counters, check_decisions,
                                              check_flags};
    for (size_t i = 0; i < sizeof checks / sizeof *checks && !world->failure; i++)
        checks[i](world);
    if (!world->failure && world->database.pending.count > 0)
        world_fail(world, "%zu events of sealed days were never held against their ceilings",
                   world->database.pending.count);
    struct ceiling_catalogue *catalogue = sim_catalogue(world);
    for (size_t i = 0; i < catalogue->count && !world->failure; i++)
        check_ceiling(world, &catalogue->ceilings[i]);
    ceiling_catalogue_free(catalogue);
}
