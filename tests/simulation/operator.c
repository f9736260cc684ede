/* The people around it: they load ceilings, seal days (in truth the keeper does), and free lanes that have
 * stopped. */
#include "world.h"

#include <inttypes.h>
#include <stdlib.h>

enum { LOOK_EVERY_S = 4 };

void operator_new_ceilings(struct world *world)
{
    struct sim_database *db = &world->database;
    struct sim_ceilings *ceilings = &db->ceilings[++db->generation % WORLD_GENERATIONS];
    bool old = db->generation == 1 && random_chance(&world->random, 0.5);
    for (int i = 0; i < WORLD_CEILINGS; i++) {
        ceilings->in_force[i] = random_chance(&world->random, i == 0 ? 0.9 : 0.6);
        ceilings->limits[i] = 100 + (int64_t)random_below(&world->random, i == 0 ? 2000 : 8000);
        if (ceilings->in_force[i] && db->ceilings_since_us[i] == 0)
            db->ceilings_since_us[i] = old ? world->start_us - 3 * WORLD_DAY_US : world->now_us;
    }
    world_trace(world, "ceilings generation %" PRId64, db->generation);
}

void operator_seal_day(struct world *world)
{
    uint16_t day = (uint16_t)(world->now_us / WORLD_DAY_US - 2 - (int64_t)random_below(&world->random, 3));
    const uint16_t *days = world->database.sealed.rows;
    for (size_t i = 0; i < world->database.sealed.count; i++)
        if (days[i] == day)
            return;
    *(uint16_t *)table_add(&world->database.sealed, sizeof day) = day;
    uint16_t *all = world->database.sealed.rows; /* ascending, as the store reports them */
    for (size_t i = world->database.sealed.count - 1; i > 0 && all[i - 1] > all[i]; i--) {
        uint16_t swap = all[i];
        all[i] = all[i - 1];
        all[i - 1] = swap;
    }
    world_trace(world, "day %d is sealed", day);
}

static int64_t first_other(const struct world *world, int topic, int partition)
{
    const struct sim_log *log = &world->logs[topic][partition];
    int64_t next = world->database.offsets[topic][partition].next_offset, found = -1;
    int64_t *counted = database_counted_as(&world->database, topic, partition, log->count);
    for (int64_t at = log->low; found < 0 && at < log->count && at < next; at++)
        if (counted[at] != log->serials[at])
            found = at;
    free(counted);
    return found;
}

int64_t operator_mismatch(const struct world *world, int topic, int partition)
{
    const struct sim_log *log = &world->logs[topic][partition];
    if (!log->rewritten)
        return -1;
    int64_t other = first_other(world, topic, partition);
    if (other >= 0)
        return other;
    return world->database.offsets[topic][partition].next_offset > log->count ? log->count : -1;
}

/* What `offsets accept` and `offsets seek` do: whoever reads the lane is fenced. */
static void move(struct world *world, int topic, int partition, int64_t to)
{
    struct sim_offset *row = &world->database.offsets[topic][partition];
    *(struct sim_move *)table_add(&world->database.moves, sizeof(struct sim_move)) =
        (struct sim_move){topic, partition, row->next_offset, to};
    world_trace(world, "the operator moves %s/%d from %" PRId64 " to %" PRId64, world_topics[topic],
                partition, row->next_offset, to);
    sim_repartition_moved(world, topic, partition);
    row->gap += to - row->next_offset;
    row->next_offset = to;
    row->last_offset = -1;
    row->last_fingerprint = 0;
    row->witness_offset = -1;
    row->updated_us = world->now_us;
    int64_t epoch = 0;
    for (int t = 0; t < world->topic_count; t++)
        if (world->database.offsets[t][partition].epoch > epoch)
            epoch = world->database.offsets[t][partition].epoch;
    for (int t = 0; t < world->topic_count; t++)
        world->database.offsets[t][partition].epoch = epoch + 1;
}

static void free_partition(struct world *world, int topic, int partition)
{
    const struct sim_log *log = &world->logs[topic][partition];
    int64_t next = world->database.offsets[topic][partition].next_offset;
    int64_t mismatch = operator_mismatch(world, topic, partition);
    if (next >= 0 && next < log->low)
        move(world, topic, partition, log->low);
    else if (mismatch >= 0)
        move(world, topic, partition, mismatch > log->low ? mismatch : log->low);
}

/* A log that was cut is for the one who frees its lane. */
static bool may_seek(const struct world *world, int topic, int partition)
{
    const struct sim_log *log = &world->logs[topic][partition];
    return !log->rewritten && world->database.offsets[topic][partition].next_offset >= log->low &&
           world->now_us >= world->database_back_us;
}

bool operator_seek(struct world *world, int topic, int partition, bool forward)
{
    const struct sim_log *log = &world->logs[topic][partition];
    int64_t next = world->database.offsets[topic][partition].next_offset;
    if (!may_seek(world, topic, partition))
        return false;
    int64_t most = forward ? log->count - next : next - log->low;
    if (most <= 0)
        return false;
    int64_t by = 1 + (int64_t)random_below(&world->random, (uint64_t)(most < 300 ? most : 300));
    move(world, topic, partition, forward ? next + by : next - by);
    return true;
}

/* Who reads a partition writes its row every second; a time leap leaves all rows old, as after a long sleep.
 */
static bool may_retire(const struct world *world, int topic)
{
    enum { READ_LATELY_S = 15 };
    int64_t lately_us = world->now_us - READ_LATELY_S * WORLD_SECOND_US;
    bool any = false;
    for (int i = 0; i < world->partition_count; i++) {
        const struct sim_offset *row = &world->database.offsets[topic][i];
        if (row->exists && row->updated_us > lately_us)
            return false;
        any = any || (row->exists && !row->retired);
    }
    return any && world->now_us >= world->database_back_us;
}

/* What `offsets retire` does, of a topic that some processes know nothing of. */
void operator_retire(struct world *world)
{
    int topic = world->topic_count - 1;
    if (topic == 0 || !may_retire(world, topic) || !fault_strikes(world, FAULT_RETIRED, 0.5))
        return;
    world_trace(world, "the operator sets %s aside", world_topics[topic]);
    for (int i = 0; i < world->partition_count; i++) {
        struct sim_offset *row = &world->database.offsets[topic][i];
        row->epoch += row->exists && !row->retired;
        row->retired = row->exists;
    }
}

/* Of what was passed over and is still there, the last: back to its first offset. */
static bool seek_what_was_passed_over(struct world *world)
{
    const struct sim_move *moves = world->database.moves.rows;
    for (size_t i = world->database.moves.count; i-- > 0;) {
        const struct sim_move *over = &moves[i];
        int64_t low = world->logs[over->topic][over->partition].low;
        int64_t to = over->from > low ? over->from : low;
        if (to >= over->to || to >= world->database.offsets[over->topic][over->partition].next_offset ||
            !may_seek(world, over->topic, over->partition))
            continue;
        move(world, over->topic, over->partition, to);
        return true;
    }
    return false;
}

static bool stopped(const struct world *world, int lane)
{
    for (int i = 0; i < world->process_count; i++)
        if (process_stopped(&world->processes[i], lane))
            return true;
    return false;
}

void operator_look(struct world *world)
{
    if (world->now_us < world->operator_at_us || world->now_us < world->database_back_us ||
        (!world_is_whole(world) && !world->rehomes))
        return;
    world->operator_at_us = world_soon(world, LOOK_EVERY_S * WORLD_SECOND_US);
    operator_retire(world);
    sim_repartition_look(world);
    if (world->database.rehomed_batch > 0 && fault_strikes(world, FAULT_SEEK, 0.1))
        seek_what_was_passed_over(world);
    for (int lane = 0; lane < world->partition_count; lane++)
        for (int topic = 0; stopped(world, lane) && topic < world->topic_count; topic++)
            free_partition(world, topic, lane);
}
