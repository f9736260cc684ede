/* What must be true when all is quiet, worked out from what was produced and read, not from how the core
 * decided. Here: every offset ends once, and each event is accepted once. */
#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* --- every offset of the logs ends once --- */

/* Did an operator send the partition over it, and not back since? */
static bool is_passed_over(const struct world *world, int topic, int partition, int64_t offset)
{
    const struct sim_move *moves = world->database.moves.rows;
    bool over = false;
    for (size_t i = 0; i < world->database.moves.count; i++)
        if (moves[i].topic == topic && moves[i].partition == partition)
            over = moves[i].to > offset && (over || moves[i].from <= offset);
    return over;
}

/* Each record that a log holds was counted as itself, unless an operator passed it over; what lies below the
 * log's start was, or an operator declared it lost. */
static void check_log(struct world *world, int topic, int partition)
{
    const struct sim_log *log = &world->logs[topic][partition];
    const struct sim_offset *row = &world->database.offsets[topic][partition];
    int64_t *counted = database_counted_as(&world->database, topic, partition, log->count);
    if (row->next_offset != log->count)
        world_fail(world, "%s/%d is read to %" PRId64 " of %" PRId64, world_topics[topic], partition,
                   row->next_offset, log->count);
    for (int64_t at = log->low; at < log->count && !world->failure; at++)
        if (counted[at] != log->serials[at] &&
            (counted[at] >= 0 || !is_passed_over(world, topic, partition, at)))
            world_fail(world, "%s/%d@%" PRId64 " was %s", world_topics[topic], partition, at,
                       counted[at] < 0 ? "never counted" : "counted as another record");
    free(counted);
}

/* Offsets are not passed over: one commit begins where the last one, or an operator, ended. */
static void check_row(struct world *world, int topic, int partition)
{
    const struct sim_offset *row = &world->database.offsets[topic][partition];
    const struct sim_account *accounts = world->database.accounts.rows;
    int64_t bad = 0, markers = 0, records = 0;
    for (size_t i = 0; i < world->database.accounts.count; i++) {
        if (accounts[i].topic != topic || accounts[i].partition != partition)
            continue;
        enum sim_outcome outcome = world_outcome(world, &accounts[i]);
        bad += outcome == SIM_BAD || outcome == SIM_REFUSED;
        markers += outcome == SIM_MARKER;
        records += outcome == SIM_GOOD;
    }
    if (row->dead != bad || row->hole != markers || row->accepted + row->duplicate != records)
        world_fail(world, "%s/%d: %" PRId64 " dead of %" PRId64 ", %" PRId64 " holes of %" PRId64,
                   world_topics[topic], partition, row->dead, bad, row->hole, markers);
    if (row->next_offset >= 0 && bad + markers + records + row->gap != row->next_offset)
        world_fail(world, "%s/%d: %" PRId64 " offsets are not %" PRId64, world_topics[topic], partition,
                   bad + markers + records + row->gap, row->next_offset);
}

static void check_partitions(struct world *world)
{
    for (int t = 0; t < world->topic_count; t++)
        for (int i = 0; i < world->partition_count && !world->failure; i++) {
            if (world_is_whole(world))
                check_log(world, t, i);
            check_row(world, t, i);
        }
}

/* --- of records that say the same id, the first one is accepted, at any age --- */

struct expected {
    const struct sim_record *record;
    const struct sim_account *account;
    size_t order;
};

static int by_identity(const struct expected *a, const struct expected *b)
{
    int order = strcmp(a->record->event_id, b->record->event_id);
    if (order == 0)
        order = strcmp(a->record->customer, b->record->customer);
    return order ? order : a->record->meter - b->record->meter;
}

static int by_identity_and_order(const void *left, const void *right)
{
    const struct expected *a = left, *b = right;
    int order = by_identity(a, b);
    return order ? order : (a->order > b->order) - (a->order < b->order);
}

static int events_by_identity(const void *left, const void *right)
{
    const struct sim_event *a = left, *b = right;
    int order = strcmp(a->event_id, b->event_id);
    if (order == 0)
        order = strcmp(a->customer, b->customer);
    return order ? order : strcmp(a->meter, b->meter); /* llm_tokens_in < llm_tokens_out < tool_calls */
}

static void check_event(struct world *world, const struct expected *expected, const struct sim_event *event)
{
    const struct sim_record *record = expected->record;
    const struct sim_account *account = expected->account;
    if (strcmp(event->event_id, record->event_id) != 0 || strcmp(event->customer, record->customer) != 0)
        world_fail(world, "expected %s of %s, found %s of %s", record->event_id, record->customer,
                   event->event_id, event->customer);
    else if (event->topic != account->topic || event->partition != account->partition ||
             event->offset != account->offset)
        world_fail(world, "%s: expected %s/%d@%" PRId64 ", found %s/%d@%" PRId64, record->event_id,
                   world_topics[account->topic], account->partition, account->offset,
                   world_topics[event->topic], event->partition, event->offset);
    else if (event->quantity != record->quantity * DECIMAL_ONE || event->event_us != record->event_us)
        world_fail(world, "%s/%d@%" PRId64 " was stored as something else", world_topics[account->topic],
                   account->partition, account->offset);
}

/* Of a customer who has moved only a repeat is counted where he was: else his ceilings would be in two lanes.
 * The former lane knows of all that was counted before he moved; of later ones it may know. */
static void check_moved(struct world *world, const struct expected *moved, const struct expected *first)
{
    const struct sim_account *account = moved->account;
    bool known = first && first->order < moved->order;
    if (!account->dead && !known)
        world_fail(world, "%s/%d@%" PRId64 " is counted in the lane that its customer has left",
                   world_topics[account->topic], account->partition, account->offset);
    if (account->dead && known && first->account->partition_count < account->partition_count)
        world_fail(world, "%s/%d@%" PRId64 " became a dead letter, and is a repeat",
                   world_topics[account->topic], account->partition, account->offset);
}

/* An id is used in one topic only, and in one lane after the other: the order of commits is that of offsets.
 * What a customer left behind is never the first one. */
static size_t first_ones(struct world *world, struct expected *all)
{
    const struct sim_account *accounts = world->database.accounts.rows;
    size_t count = 0, kept = 0;
    for (size_t i = 0; i < world->database.accounts.count; i++) {
        const struct sim_record *record = world_record(world, accounts[i].serial);
        if (record->outcome == SIM_GOOD &&
            (world_outcome(world, &accounts[i]) == SIM_GOOD || world_has_moved(world, &accounts[i])))
            all[count++] = (struct expected){record, &accounts[i], i};
    }
    if (count > 0)
        qsort(all, count, sizeof *all, by_identity_and_order);
    for (size_t i = 0; i < count; i++) {
        struct expected *last = kept > 0 ? &all[kept - 1] : NULL;
        bool known = last && by_identity(&all[i], last) == 0;
        if (world_has_moved(world, all[i].account))
            check_moved(world, &all[i], known ? last : NULL);
        else if (!known)
            all[kept++] = all[i];
    }
    return kept;
}

static void check_events(struct world *world)
{
    struct table *events = &world->database.events;
    struct expected *all = calloc(world->database.accounts.count + 1, sizeof *all);
    size_t count = first_ones(world, all);
    if (events->count)
        qsort(events->rows, events->count, sizeof(struct sim_event), events_by_identity);
    for (size_t i = 0; i < count && i < events->count && !world->failure; i++)
        check_event(world, &all[i], &((struct sim_event *)events->rows)[i]);
    if (!world->failure && count != events->count)
        world_fail(world, "%zu events should be accepted, %zu are", count, events->count);
    free(all);
}

/* --- dead letters --- */

static void check_dead(struct world *world)
{
    const struct sim_account *dead = world->database.dead.rows;
    for (size_t i = 0; i < world->database.dead.count && !world->failure; i++) {
        enum sim_outcome outcome = dead[i].serial < 0 ? SIM_GOOD : world_outcome(world, &dead[i]);
        if (outcome != SIM_BAD && outcome != SIM_REFUSED)
            world_fail(world, "%s/%d@%" PRId64 " became a dead letter", world_topics[dead[i].topic],
                       dead[i].partition, dead[i].offset);
    }
}

void oracle_check(struct world *world)
{
    void (*const checks[])(struct world *) = {check_partitions, check_events, check_dead,
                                              oracle_check_rollups};
    for (size_t i = 0; i < sizeof checks / sizeof *checks && !world->failure; i++)
        checks[i](world);
    if (!world->failure && world_is_whole(world))
        oracle_check_enforcement(world);
}
