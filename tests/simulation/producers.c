/* What producers send: new events, late ones, corrections, repeats, repeats that say something else, records
 * that are none. */
#include "world.h"

#include <inttypes.h>
#include <stdio.h>

enum { CUSTOMERS = 12 };

/* Of bad records, some are tombstones, and some are of another customer than their key says. */
static void write_value(struct world *world, struct sim_record *record)
{
    char correction[96] = "";
    if (record->corrects[0])
        snprintf(correction, sizeof correction,
                 "\"kind\":\"correction\",\"corrects\":\"%s\",\"reason\":\"r\",", record->corrects);
    bool bad = record->outcome == SIM_BAD, alien = bad && record->quantity % 4 == 1;
    record->value_length = (uint32_t)snprintf(
        record->value, sizeof record->value,
        "%s{\"event_id\":\"%s\",\"customer_id\":\"%s%s\",%s\"meter\":\"%s\",\"quantity\":%" PRId64
        ",\"timestamp\":%" PRId64 ",\"model\":\"m%d\",\"metadata\":{\"run_id\":\"r%d\"}}",
        bad && !alien ? "not json " : "", record->event_id, record->customer, alien ? "-x" : "", correction,
        world_meters[record->meter], record->quantity, record->event_us / 1000, record->meter,
        (int)random_below(&world->random, 5));
    if (bad && record->quantity % 4 == 0)
        record->value_length = 0;
}

static void new_event(struct world *world, struct sim_record *record, int topic)
{
    *record = (struct sim_record){.time_ms = world->now_us / 1000};
    snprintf(record->customer, sizeof record->customer, "c%d", (int)random_below(&world->random, CUSTOMERS));
    snprintf(record->event_id, sizeof record->event_id, "e%d-%" PRId64, topic, world->produced);
    record->meter = (int)random_below(&world->random, WORLD_METERS);
    record->quantity = 1 + (int64_t)random_below(&world->random, 50);
    int64_t age_us = (int64_t)random_below(&world->random, 600 * WORLD_SECOND_US);
    if (random_chance(&world->random, 0.03))
        age_us = (int64_t)random_below(&world->random, 4 * WORLD_DAY_US);
    record->event_us = (world->now_us - age_us) / 1000 * 1000;
    record->outcome = random_chance(&world->random, 0.01) ? SIM_BAD : SIM_GOOD;
    if (record->outcome == SIM_GOOD && fault_strikes(world, FAULT_REFUSED_ROW, 0.001))
        record->outcome = SIM_REFUSED;
}

/* One of those that the log of the topic and some lane holds; false: none, or a marker. */
static bool pick(struct world *world, struct sim_record *record, int topic)
{
    int lane = (int)random_below(&world->random, (uint64_t)world->partition_count);
    const struct sim_log *log = &world->logs[topic][lane];
    if (log->count == 0)
        return false;
    *record = *world_record(world, log->serials[random_below(&world->random, (uint64_t)log->count)]);
    record->time_ms = world->now_us / 1000;
    return record->outcome != SIM_MARKER;
}

static bool repeat(struct world *world, struct sim_record *record, int topic)
{
    if (!pick(world, record, topic))
        return false;
    if (record->outcome == SIM_GOOD && random_chance(&world->random, 0.2))
        record->quantity++;
    return true;
}

static bool correct(struct world *world, struct sim_record *record, int topic)
{
    if (!pick(world, record, topic) || record->outcome != SIM_GOOD || record->corrects[0])
        return false;
    memcpy(record->corrects, record->event_id, sizeof record->corrects);
    snprintf(record->event_id, sizeof record->event_id, "k%d-%" PRId64, topic, world->produced);
    record->quantity = -1 - (int64_t)random_below(&world->random, (uint64_t)record->quantity);
    return true;
}

static void append(struct world *world, int topic, struct sim_record *record)
{
    record->appended_us = world->now_us;
    if (fault_strikes(world, FAULT_PRODUCER_AHEAD, 0.001))
        record->time_ms += (int64_t)random_below(&world->random, 3600 * 1000);
    sim_append(world, topic, world_lane_of(record->customer, world->partition_count), record);
    world->produced++;
}

void produce(struct world *world)
{
    int topic = (int)random_below(&world->random, (uint64_t)world->topic_count);
    struct sim_record record;
    uint64_t kind = random_below(&world->random, 100);
    bool made = kind < 5 ? repeat(world, &record, topic) : kind < 8 && correct(world, &record, topic);
    if (!made)
        new_event(world, &record, topic);
    write_value(world, &record);
    append(world, topic, &record);
    if (random_chance(&world->random, 0.01)) {
        record = (struct sim_record){.outcome = SIM_MARKER};
        sim_append(world, topic, (int)random_below(&world->random, (uint64_t)world->partition_count),
                   &record);
    }
}

void produce_aborted(struct world *world)
{
    int topic = (int)random_below(&world->random, (uint64_t)world->topic_count);
    int lane = (int)random_below(&world->random, (uint64_t)world->partition_count);
    const struct sim_record record = {.outcome = SIM_MARKER};
    for (uint64_t left = 2 + random_below(&world->random, 30); left > 0; left--)
        sim_append(world, topic, lane, &record);
}
