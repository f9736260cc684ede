/* Decisions, the states that follow from them, and the flags on the enforcement topic. */
#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { KEY_BYTES = 96 };

/* --- decisions: numbered without gaps, taking turns --- */

static bool decides(const struct sim_decision *decision, const struct sim_state *state)
{
    return decision->start_us == state->start_us && strcmp(decision->customer, state->customer) == 0 &&
           strcmp(decision->ceiling, state->ceiling) == 0;
}

static void check_transitions(struct world *world, const struct sim_state *state)
{
    const struct sim_decision *decisions = world->database.decisions.rows;
    int64_t seen = 0;
    for (size_t i = 0; i < world->database.decisions.count; i++)
        if (decides(&decisions[i], state) &&
            (decisions[i].transition != ++seen || decisions[i].active != (seen % 2 == 1)))
            world_fail(world, "%s %s: transition %" PRId64 " comes as number %" PRId64, state->customer,
                       state->ceiling, decisions[i].transition, seen);
    if (seen != state->transition || state->active != (seen % 2 == 1))
        world_fail(world, "%s %s: %" PRId64 " transitions, %" PRId64 " decisions", state->customer,
                   state->ceiling, state->transition, seen);
}

static void check_decisions(struct world *world)
{
    const struct sim_state *states = world->database.states.rows;
    for (size_t i = 0; i < world->database.states.count && !world->failure; i++)
        check_transitions(world, &states[i]);
}

/* --- states: crossed is what is over the limit --- */

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

/* A clock that was ahead has ended the period too early; the next event crosses again. */
static bool ended_too_early(const struct world *world, const struct sim_state *state)
{
    const struct sim_decision *decisions = world->database.decisions.rows;
    for (size_t i = 0; state && world->clocks_stepped && i < world->database.decisions.count; i++)
        if (decides(&decisions[i], state) && decisions[i].transition == state->transition)
            return decisions[i].by_clock;
    return false;
}

static void check_state(struct world *world, const struct ceiling *ceiling, const char *name,
                        const struct sim_hour *hour)
{
    int64_t start_us = ceiling_period_start(ceiling->period, hour->hour_us);
    bool over = ceiling_period_end(ceiling->period, hour->hour_us) <= world->now_us;
    bool crossed = oracle_sum(world, hour->customer, hour->meter, ceiling->period, start_us) > ceiling->limit;
    const struct sim_state *state = find_state(world, hour->customer, name, start_us);
    bool active = state && state->active;
    if (!over && crossed != active && !ended_too_early(world, state))
        world_fail(world, "%s %s: crossed %d, but the state is %s", hour->customer, name, crossed,
                   !state   ? "missing"
                   : active ? "active"
                            : "cleared");
    if (over && active)
        world_fail(world, "%s %s: still active after its period", hour->customer, name);
}

static void check_states(struct world *world)
{
    struct ceiling_catalogue *catalogue = sim_catalogue(world);
    const struct sim_hour *hours = world->database.hours.rows;
    for (size_t c = 0; c < catalogue->count; c++) {
        const struct ceiling *ceiling = &catalogue->ceilings[c];
        char name[WORLD_NAME_BYTES];
        snprintf(name, sizeof name, "%.*s", (int)ceiling->name.length, ceiling->name.bytes);
        for (size_t i = 0; i < world->database.hours.count && !world->failure; i++)
            if (oracle_is_for(ceiling, hours[i].customer, hours[i].meter))
                check_state(world, ceiling, name, &hours[i]);
    }
    ceiling_catalogue_free(catalogue);
}

/* --- decisions, exactly: those that counting the accepted events in their order makes --- */

struct replay {
    const struct ceiling *ceiling;
    const struct sim_state *state; /* of whom and which period */
    decimal_t used;
    bool active;
    int64_t transition;
};

static bool belongs(const struct replay *replay, const struct sim_event *event)
{
    return strcmp(event->customer, replay->state->customer) == 0 &&
           text_equal(text_of(event->meter), replay->ceiling->meter) &&
           ceiling_period_start(replay->ceiling->period, event->event_us) == replay->state->start_us;
}

static void replay_event(struct world *world, struct replay *replay, const struct sim_event *event)
{
    replay->used += event->quantity;
    if (event->offset < world->database.adopted_at[event->partition])
        return; /* counted, and judged when the ceilings were adopted */
    bool over = replay->used > replay->ceiling->limit;
    if (over == replay->active)
        return;
    replay->active = over;
    replay->transition++;
    const struct sim_decision *decisions = world->database.decisions.rows;
    for (size_t i = 0; i < world->database.decisions.count; i++)
        if (decides(&decisions[i], replay->state) && decisions[i].transition == replay->transition) {
            if (decisions[i].offset != event->offset)
                world_fail(world, "%s %s: transition %" PRId64 " is due at offset %" PRId64 ", not %" PRId64,
                           replay->state->customer, replay->state->ceiling, replay->transition, event->offset,
                           decisions[i].offset);
            return;
        }
    world_fail(world, "%s %s: transition %" PRId64 ", at offset %" PRId64 ", is missing",
               replay->state->customer, replay->state->ceiling, replay->transition, event->offset);
}

static bool all_by_events(const struct world *world, const struct sim_state *state)
{
    const struct sim_decision *decisions = world->database.decisions.rows;
    for (size_t i = 0; i < world->database.decisions.count; i++)
        if (decides(&decisions[i], state) && !decisions[i].by_event)
            return false;
    return true;
}

static const struct ceiling *ceiling_of(const struct ceiling_catalogue *catalogue,
                                        const struct sim_state *state)
{
    for (size_t i = 0; i < catalogue->count; i++)
        if (text_equal(catalogue->ceilings[i].name, text_of(state->ceiling)))
            return &catalogue->ceilings[i];
    return NULL;
}

static int by_offset(const void *left, const void *right)
{
    const struct sim_event *a = left, *b = right;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

static void check_replay(struct world *world, const struct ceiling *ceiling, const struct sim_state *state)
{
    struct replay replay = {.ceiling = ceiling, .state = state};
    const struct sim_event *events = world->database.events.rows;
    for (size_t i = 0; i < world->database.events.count && !world->failure; i++)
        if (belongs(&replay, &events[i]))
            replay_event(world, &replay, &events[i]);
    if (!world->failure && replay.transition != state->transition)
        world_fail(world, "%s %s: %" PRId64 " transitions instead of %" PRId64, state->customer,
                   state->ceiling, state->transition, replay.transition);
}

/* Only where the order of a customer's events is that of one log's offsets, and neither people nor clocks
 * decide. */
static void check_replays(struct world *world)
{
    for (int i = 0; i < world->partition_count; i++)
        if (world->logs[0][i].rewritten)
            return;
    if (world->topic_count > 1 || world->ceilings_changed || world->clocks_stepped ||
        world->database.repartition_count > 0 || world->fault_counts[FAULT_SEEK] > 0)
        return;
    if (world->database.events.count)
        qsort(world->database.events.rows, world->database.events.count, sizeof(struct sim_event), by_offset);
    struct ceiling_catalogue *catalogue = sim_catalogue(world);
    const struct sim_state *states = world->database.states.rows;
    for (size_t i = 0; i < world->database.states.count && !world->failure; i++) {
        const struct ceiling *ceiling = ceiling_of(catalogue, &states[i]);
        if (ceiling && ceiling->period != PERIOD_MONTH && states[i].end_us > world->now_us &&
            all_by_events(world, &states[i]))
            check_replay(world, ceiling, &states[i]);
    }
    ceiling_catalogue_free(catalogue);
}

/* --- the topic --- */

static bool lower(struct flag_sequence a, struct flag_sequence b)
{
    return a.epoch < b.epoch || (a.epoch == b.epoch && a.count < b.count);
}

static const struct sim_message *last_message(const struct world *world, int lane, const char *key)
{
    const struct sim_message *messages = world->flags[lane].messages.rows, *found = NULL;
    for (size_t i = 0; i < world->flags[lane].messages.count; i++)
        if (!messages[i].gone && strcmp(messages[i].key, key) == 0)
            found = &messages[i];
    return found;
}

static bool is_active(const struct sim_message *message)
{
    return message && message->value && strstr(message->value, "\"state\":\"active\"");
}

static const struct sim_message *highest_of(const struct world *world, int lane, const char *key)
{
    const struct sim_message *messages = world->flags[lane].messages.rows, *found = NULL;
    for (size_t i = 0; i < world->flags[lane].messages.count; i++)
        if (!messages[i].gone && strcmp(messages[i].key, key) == 0 &&
            (!found || !lower(messages[i].sequence, found->sequence)))
            found = &messages[i];
    return found;
}

/* What a reader ends up with is the highest sequence of each key. What compaction keeps, the last one, must
 * say the same; a clearing is like another. */
static void check_last(struct world *world, int lane)
{
    const struct sim_message *messages = world->flags[lane].messages.rows;
    for (size_t i = 0; i < world->flags[lane].messages.count && !world->failure; i++) {
        const struct sim_message *last = last_message(world, lane, messages[i].key);
        const struct sim_message *highest = highest_of(world, lane, messages[i].key);
        if (!messages[i].gone && last != highest && (is_active(last) || is_active(highest)))
            world_fail(world, "lane %d: of %s the last message is not the one with the highest sequence",
                       lane, messages[i].key);
    }
}

/* By a clock that was ahead its period was over as it was crossed, so that nobody was told; the clock was set
 * right before that cleared it. */
static bool taken_for_over(const struct world *world, const struct sim_state *state)
{
    const struct sim_decision *decisions = world->database.decisions.rows;
    for (size_t i = 0; world->clocks_stepped && i < world->database.decisions.count; i++)
        if (decides(&decisions[i], state) && decisions[i].transition == state->transition)
            return decisions[i].by_event && !decisions[i].published;
    return false;
}

static bool is_of(const struct sim_state *state, const char *key)
{
    char its[KEY_BYTES];
    snprintf(its, sizeof its, "[\"%s\",\"%s\",{}]", state->customer, state->ceiling);
    return strcmp(its, key) == 0;
}

static bool active_state(const struct world *world, const char *key, const char *decision_id)
{
    const struct sim_state *rows = world->database.states.rows;
    for (size_t i = 0; i < world->database.states.count; i++)
        if (rows[i].active && is_of(&rows[i], key) &&
            (!decision_id || strstr(decision_id, rows[i].decision_id)))
            return true;
    return false;
}

static bool said_state(const struct world *world, const char *key)
{
    const struct sim_state *rows = world->database.states.rows;
    for (size_t i = 0; i < world->database.states.count; i++)
        if (rows[i].active && is_of(&rows[i], key) && !taken_for_over(world, &rows[i]))
            return true;
    return false;
}

/* Active in the store: active on the topic, by a decision that holds. */
static void check_flags_of_states(struct world *world)
{
    const struct sim_state *rows = world->database.states.rows;
    for (size_t i = 0; i < world->database.states.count && !world->failure; i++) {
        char key[KEY_BYTES];
        snprintf(key, sizeof key, "[\"%s\",\"%s\",{}]", rows[i].customer, rows[i].ceiling);
        if (rows[i].active && !taken_for_over(world, &rows[i]) &&
            !is_active(last_message(world, rows[i].lane, key)))
            world_fail(world, "%s: active in the store, not on the topic", key);
    }
}

/* Active on the topic: active in the store. */
static void check_states_of_flags(struct world *world, int lane)
{
    const struct sim_message *messages = world->flags[lane].messages.rows;
    for (size_t i = 0; i < world->flags[lane].messages.count && !world->failure; i++) {
        if (messages[i].gone || !is_active(&messages[i]) ||
            last_message(world, lane, messages[i].key) != &messages[i])
            continue;
        if (!active_state(world, messages[i].key, NULL))
            world_fail(world, "%s: active on the topic, not in the store", messages[i].key);
        else if (!active_state(world, messages[i].key, messages[i].value))
            world_fail(world, "%s: the topic names another decision than the store", messages[i].key);
    }
}

static bool is_decided(const struct world *world, const char *value)
{
    const struct sim_decision *decisions = world->database.decisions.rows;
    for (size_t i = 0; i < world->database.decisions.count; i++)
        if (strstr(value, decisions[i].id))
            return true;
    return false;
}

/* Cleared on the topic: by a decision that is in the store, or withdrawn. Others are buried at once; where
 * lanes were re-homed, once all have said their flags. What a dead process says late may stay: it is cleared.
 */
static void check_cleared(struct world *world, int lane)
{
    const struct sim_message *messages = world->flags[lane].messages.rows;
    if (world->database.rehomed_batch > 0 || world->fault_counts[FAULT_FLAG_OF_ZOMBIE] > 0)
        return;
    for (size_t i = 0; i < world->flags[lane].messages.count && !world->failure; i++) {
        const char *value = messages[i].value;
        if (!messages[i].gone && value && last_message(world, lane, messages[i].key) == &messages[i] &&
            highest_of(world, lane, messages[i].key) == &messages[i] && !strstr(value, "Withdrawn") &&
            !is_decided(world, value))
            world_fail(world, "%s: the topic names a decision that nobody made", messages[i].key);
    }
}

static bool is_home(const struct world *world, int lane, const char *key)
{
    char customer[WORLD_NAME_BYTES] = "";
    return sscanf(key, "[\"%23[^\"]", customer) == 1 &&
           world_lane_of(customer, world->partition_count) == lane;
}

bool oracle_all_buried(const struct world *world)
{
    for (int lane = 0; world->database.rehomed_batch > 0 && lane < world->partition_count; lane++) {
        const struct sim_message *messages = world->flags[lane].messages.rows;
        for (size_t i = 0; i < world->flags[lane].messages.count; i++) {
            const struct sim_message *left = last_message(world, lane, messages[i].key);
            if (!is_home(world, lane, messages[i].key) && left && left->value)
                return false;
        }
    }
    return true;
}

/* Of all lanes' messages, as gateways read them. */
static const struct sim_message *highest_message(const struct world *world, const char *key)
{
    const struct sim_message *found = NULL;
    for (int lane = 0; lane < world->partition_count; lane++) {
        const struct sim_message *its = highest_of(world, lane, key);
        if (its && (!found || lower(found->sequence, its->sequence)))
            found = its;
    }
    return found;
}

static void check_readers(struct world *world, int lane)
{
    const struct sim_message *messages = world->flags[lane].messages.rows;
    for (size_t i = 0; i < world->flags[lane].messages.count && !world->failure; i++)
        if (is_active(highest_message(world, messages[i].key)) ? !active_state(world, messages[i].key, NULL)
                                                               : said_state(world, messages[i].key))
            world_fail(world, "%s: a gateway that reads all lanes does not see what the store says",
                       messages[i].key);
}

static void check_topic(struct world *world)
{
    check_flags_of_states(world);
    for (int lane = 0; lane < world->partition_count && !world->failure; lane++) {
        check_states_of_flags(world, lane);
        check_cleared(world, lane);
        check_last(world, lane);
        check_readers(world, lane);
    }
}

void oracle_check_enforcement(struct world *world)
{
    void (*const checks[])(struct world *) = {check_decisions, check_states, check_topic, check_replays};
    for (size_t i = 0; i < sizeof checks / sizeof *checks && !world->failure; i++)
        checks[i](world);
    if (!world->failure && world->database.pending.count > 0)
        world_fail(world, "%zu events of sealed days were never held against their ceilings",
                   world->database.pending.count);
}
