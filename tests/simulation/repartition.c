/* Partitions are added, and what `usagebox offsets repartition` and the keepers do about it. */
#include "world.h"

#include <inttypes.h>

static struct sim_repartition *last(struct sim_database *db)
{
    return db->repartition_count > 0 ? &db->repartitions[db->repartition_count - 1] : NULL;
}

bool sim_repartition_under_way(const struct sim_database *db)
{
    return db->repartition_count > 0 && !db->repartitions[db->repartition_count - 1].done;
}

bool world_is_whole(const struct world *world)
{
    return world->partition_count == world->database.partition_count &&
           !sim_repartition_under_way(&world->database);
}

int32_t world_lane_of(const char *customer, int32_t count)
{
    return partitioner_lane(PARTITIONER_MURMUR2, text_of(customer), count);
}

bool world_has_moved(const struct world *world, const struct sim_account *account)
{
    const struct sim_database *db = &world->database;
    const char *customer = world_record(world, account->serial)->customer;
    if (world_lane_of(customer, account->partition_count) == account->partition)
        return false;
    for (int i = 0; i < db->repartition_count; i++)
        if (db->repartitions[i].to <= account->partition_count &&
            account->offset < db->repartitions[i].ends[account->topic][account->partition] &&
            world_lane_of(customer, db->repartitions[i].from) == account->partition)
            return true;
    return false;
}

enum sim_outcome world_outcome(const struct world *world, const struct sim_account *account)
{
    const struct sim_record *record = world_record(world, account->serial);
    bool right = world_lane_of(record->customer, account->partition_count) == account->partition;
    if (!right && world_has_moved(world, account))
        right = !account->dead; /* a repeat of what was counted before: the oracle looks whether it was */
    return record->outcome == SIM_GOOD && !right ? SIM_BAD : record->outcome;
}

/* --- ordering one --- */

static void write_ends(struct world *world, struct sim_repartition *repartition)
{
    for (int t = 0; t < world->topic_count; t++)
        for (int i = 0; i < repartition->from; i++) {
            int64_t next = world->database.offsets[t][i].next_offset, end = world->logs[t][i].count;
            repartition->ends[t][i] = next > end ? next : end;
        }
}

static void order(struct world *world)
{
    struct sim_database *db = &world->database;
    if (!sim_repartition_under_way(db))
        db->repartition_count++;
    *last(db) = (struct sim_repartition){
        .id = ++world->repartition_ids, .from = db->partition_count, .to = world->partition_count};
    write_ends(world, last(db));
    db->partitioner = PARTITIONER_MURMUR2;
    for (int t = 0; t < world->topic_count; t++)
        for (int i = 0; i < WORLD_PARTITIONS; i++)
            db->offsets[t][i].epoch += db->offsets[t][i].exists;
    world_trace(world, "a repartition from %d to %d partitions is ordered", last(db)->from, last(db)->to);
}

void sim_repartition_moved(struct world *world, int topic, int partition)
{
    struct sim_database *db = &world->database;
    int64_t end = world->logs[topic][partition].count;
    if (sim_repartition_under_way(db) && last(db)->ends[topic][partition] > end)
        last(db)->ends[topic][partition] = end;
}

/* --- finishing it --- */

static bool all_have_come(const struct world *world, const struct sim_repartition *repartition)
{
    for (int t = 0; t < world->topic_count; t++)
        for (int i = 0; i < repartition->from; i++) {
            int64_t next = world->database.offsets[t][i].next_offset;
            if ((next < 0 ? 0 : next) < repartition->ends[t][i])
                return false;
        }
    return world->database.pending.count == 0;
}

static void raise_epochs(struct world *world, int lanes)
{
    struct sim_database *db = &world->database;
    int64_t epoch = 0;
    for (int t = 0; t < world->topic_count; t++)
        for (int i = 0; i < lanes; i++) {
            if (!db->offsets[t][i].exists)
                db->offsets[t][i] = (struct sim_offset){
                    .exists = true, .next_offset = -1, .last_offset = -1, .witness_offset = -1};
            if (db->offsets[t][i].epoch > epoch)
                epoch = db->offsets[t][i].epoch;
        }
    db->rehomed_epoch = epoch + 1;
    for (int t = 0; t < world->topic_count; t++)
        for (int i = 0; i < lanes; i++)
            db->offsets[t][i].epoch = db->rehomed_epoch;
}

static void adopt_all_seals(struct sim_database *db, int lanes)
{
    const uint16_t *days = db->sealed.rows;
    for (size_t d = 0; d < db->sealed.count; d++)
        for (int lane = 0; lane < lanes; lane++)
            *(struct sim_adoption *)table_add(&db->adoptions, sizeof(struct sim_adoption)) =
                (struct sim_adoption){lane, days[d]};
}

static void move_ceilings(struct sim_database *db, const struct sim_repartition *repartition)
{
    struct sim_counter *counters = db->counters.rows;
    struct sim_state *states = db->states.rows;
    bool alike = true;
    for (int lane = 1; lane < repartition->from; lane++)
        alike = alike && db->lane_generation[lane] == db->lane_generation[0];
    for (int lane = 0; lane < repartition->to; lane++)
        db->lane_generation[lane] = alike ? db->lane_generation[0] : 0;
    if (!alike)
        db->counters.count = 0;
    for (size_t i = 0; i < db->counters.count; i++)
        counters[i].lane = world_lane_of(counters[i].customer, repartition->to);
    for (size_t i = 0; i < db->states.count; i++)
        states[i].lane = world_lane_of(states[i].customer, repartition->to);
}

static void finish(struct world *world)
{
    struct sim_database *db = &world->database;
    struct sim_repartition *repartition = last(db);
    raise_epochs(world, repartition->to);
    adopt_all_seals(db, repartition->to);
    move_ceilings(db, repartition);
    repartition->done = true;
    db->partition_count = repartition->to;
    db->rehomed_batch = ++db->batch;
    db->rehomed_us = world->now_us;
    world_trace(world, "customers are re-homed, epoch %" PRId64, db->rehomed_epoch);
}

void sim_repartition_look(struct world *world)
{
    struct sim_database *db = &world->database;
    int expected = sim_repartition_under_way(db) ? last(db)->to : db->partition_count;
    if (world->now_us < world->database_back_us || world->now_us < world->disk_full_until_us)
        return;
    bool due = world->rehomes && db->partition_count > 0 && world->partition_count != expected;
    bool done = !due && sim_repartition_under_way(db) && all_have_come(world, last(db));
    if ((due || done) && fault_strikes(world, FAULT_FAILOVER, 0.2))
        sim_store_lag(world); /* what is written now is lost */
    if (due)
        order(world);
    else if (done)
        finish(world);
}

/* --- what takeovers and looks at the settings read of it --- */

static bool flags_are_said(const struct world *world)
{
    const struct sim_database *db = &world->database;
    for (int lane = 0; lane < db->partition_count; lane++)
        if (db->lane_adopted_batch[lane] <= db->rehomed_batch)
            return false;
    return world->now_us - db->rehomed_us > 40 * WORLD_SECOND_US;
}

void sim_repartition_settings(struct world *world, struct store_settings *settings)
{
    struct sim_database *db = &world->database;
    if (sim_repartition_under_way(db)) {
        settings->repartition_id = last(db)->id;
        settings->repartition_to = last(db)->to;
    }
    settings->rehomed_batch = db->rehomed_batch;
    settings->rehomed_epoch = db->rehomed_epoch;
    settings->flags_said = flags_are_said(world);
}

void sim_repartition_limits(const struct sim_database *db, struct store_lane *lane,
                            struct store_lane_offset *offset)
{
    offset->eras = arena_alloc(lane->arena, WORLD_PARTITIONS * sizeof *offset->eras);
    for (int i = 0; i < db->repartition_count; i++) {
        const struct sim_repartition *repartition = &db->repartitions[i];
        int64_t end = repartition->ends[offset->topic][lane->lane];
        offset->limited = !repartition->done;
        offset->limit = end;
        if (repartition->done && end > 0)
            offset->eras[offset->era_count++] = (struct store_era){end, repartition->from};
    }
}

static bool adopted(const struct sim_database *db, int32_t lane, uint16_t day)
{
    const struct sim_adoption *rows = db->adoptions.rows;
    for (size_t i = 0; i < db->adoptions.count; i++)
        if (rows[i].lane == lane && rows[i].day == day)
            return true;
    return false;
}

static bool is_needed(const struct sim_database *db, const struct store_job *job, uint16_t day)
{
    for (size_t i = 0; i < job->lane_count; i++)
        if (!job->lanes[i].kept && !adopted(db, job->lanes[i].lane, day))
            return true;
    return false;
}

static bool holds(const struct former *former, uint16_t day)
{
    for (size_t i = 0; i < former->day_count; i++)
        if (former->days[i] == day)
            return true;
    return false;
}

static bool serves(const struct sim_database *db, const struct store_job *job)
{
    const struct sim_segment *rows = db->segments.rows;
    if (!job->former_known || job->former_known->batch != db->rehomed_batch)
        return false;
    for (size_t i = 0; i < db->segments.count; i++)
        if (rows[i].batch < db->rehomed_batch && is_needed(db, job, rows[i].day) &&
            !holds(job->former_known, rows[i].day))
            return false;
    return true;
}

void sim_repartition_former(const struct sim_database *db, struct store_job *job)
{
    const struct sim_segment *rows = db->segments.rows;
    if (db->rehomed_batch == 0 || serves(db, job))
        return;
    job->former = former_new(db->rehomed_batch);
    for (size_t i = 0; i < db->segments.count; i++) {
        if (rows[i].batch >= db->rehomed_batch || !is_needed(db, job, rows[i].day))
            continue;
        dedupe_segment_restore(job->former->keys, rows[i].day, rows[i].keys, rows[i].size_bytes);
        if (!holds(job->former, rows[i].day))
            former_add_day(job->former, rows[i].day);
    }
}
