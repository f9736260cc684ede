/* What goes wrong. Each kind is one small function; a run knows about half of the kinds, so that runs differ
 * in what they are about (swarm testing: Groce and others, ISSTA 2012). */
#include "world.h"

#include <inttypes.h>

const char *const fault_names[FAULT_KINDS] = {
    [FAULT_KILL] = "process killed",
    [FAULT_DRAIN] = "process stopped in good order",
    [FAULT_FREEZE] = "process frozen",
    [FAULT_EVICT] = "process thrown out of the group",
    [FAULT_CLOCK_STEP] = "wall clock stepped",
    [FAULT_TIME_LEAP] = "time leapt",
    [FAULT_LONG_LEAP] = "time leapt by days",
    [FAULT_TOPIC_LEFT_OUT] = "process without one of the topics",
    [FAULT_REBALANCE] = "rebalance",
    [FAULT_BROKERS_DOWN] = "brokers away",
    [FAULT_SLOW_FETCHES] = "slow fetches",
    [FAULT_STUCK_FETCH] = "stuck fetch",
    [FAULT_CORRUPT_BATCH] = "corrupt batch",
    [FAULT_SLOW_PROBE] = "slow probe",
    [FAULT_FAILED_PROBE] = "failed probe",
    [FAULT_ABORTED] = "aborted transaction",
    [FAULT_RETENTION] = "read records removed",
    [FAULT_LOSS] = "unread records removed",
    [FAULT_TRUNCATION] = "log truncated",
    [FAULT_RECREATION] = "topic made anew",
    [FAULT_PARTITION_ADDED] = "partition added",
    [FAULT_REPARTITION] = "customers re-homed",
    [FAULT_OLD_COUNT] = "brokers that know of no new partition",
    [FAULT_FLAGS_DOWN] = "enforcement topic away",
    [FAULT_FLAG_FAILED] = "flag not delivered",
    [FAULT_FLAG_QUEUE_FULL] = "flag queue full",
    [FAULT_FLAG_OF_ZOMBIE] = "late flag of a dead process",
    [FAULT_COMPACTION] = "enforcement topic compacted",
    [FAULT_DATABASE_DOWN] = "PostgreSQL away",
    [FAULT_LOST_BEFORE] = "connection lost before the commit",
    [FAULT_LOST_AFTER] = "outcome of the commit unknown",
    [FAULT_BACKEND_ENDED] = "backend ended by the next owner",
    [FAULT_SLOW_JOB] = "slow transaction",
    [FAULT_DISK_FULL] = "disk full",
    [FAULT_FATAL] = "error on another table",
    [FAULT_REFUSED_ROW] = "row refused",
    [FAULT_FAILOVER] = "failover to a stale replica",
    [FAULT_CEILINGS] = "ceilings changed",
    [FAULT_SEAL] = "day sealed",
    [FAULT_SEEK] = "partition sent elsewhere",
    [FAULT_SKIPPED_RECORDS] = "records skipped at the begin of an assignment",
    [FAULT_STALE_FETCH] = "records of the assignment before",
    [FAULT_REDELIVERED] = "records delivered again",
    [FAULT_PRODUCER_AHEAD] = "producer's clock ahead",
    [FAULT_RETIRED] = "topic set aside",
};

void fault_count(struct world *world, enum fault_kind kind)
{
    world->fault_counts[kind]++;
}

static bool enabled(const struct world *world, enum fault_kind kind)
{
    return world->faults && world->enabled & UINT64_C(1) << kind;
}

bool fault_strikes(struct world *world, enum fault_kind kind, double probability)
{
    if (!enabled(world, kind) || !random_chance(&world->random, probability))
        return false;
    fault_count(world, kind);
    return true;
}

static struct process *any_process(struct world *world)
{
    return &world->processes[random_below(&world->random, (uint64_t)world->process_count)];
}

static struct sim_log *any_log(struct world *world, int *topic, int *partition)
{
    *topic = (int)random_below(&world->random, (uint64_t)world->topic_count);
    *partition = (int)random_below(&world->random, (uint64_t)world->partition_count);
    return &world->logs[*topic][*partition];
}

/* --- processes --- */

static bool kill_one(struct world *world)
{
    struct process *process = any_process(world);
    if (process->alive)
        process_kill(process);
    return process->starts_us > world->now_us;
}

static bool drain_one(struct world *world)
{
    struct process *process = any_process(world);
    if (!process->alive || process->draining || process->frozen_until_us > world->now_us)
        return false;
    process_drain(process);
    return true;
}

static void evict(struct process *process)
{
    process->source.member = false;
    process->source.evicted = true;
    process->source.zombie_polls = (int)random_below(&process->world->random, 30);
    sim_group_rebalance(process->world);
    world_trace(process->world, "process %d is thrown out of the group", process->number);
}

static bool evict_one(struct world *world)
{
    struct process *process = any_process(world);
    if (!process->alive || !process->source.member || process->source.rebalancing)
        return false;
    evict(process);
    return true;
}

static bool freeze_one(struct world *world)
{
    struct process *process = any_process(world);
    if (!process->alive || process->frozen_until_us > world->now_us)
        return false;
    process->frozen_until_us = world_soon(world, 20 * WORLD_SECOND_US);
    int64_t for_us = process->frozen_until_us - world->now_us;
    world_trace(world, "process %d stops for %" PRId64 " ms", process->number, for_us / 1000);
    if (for_us > 6 * WORLD_SECOND_US && process->source.member && !process->source.rebalancing)
        evict(process);
    return true;
}

static bool step_clock(struct world *world)
{
    struct process *process = any_process(world);
    process->clock_ahead_us = (int64_t)random_below(&world->random, 240 * WORLD_SECOND_US);
    process->clock_ahead_us -= 120 * WORLD_SECOND_US;
    world->clocks_stepped = true;
    world_trace(world, "process %d's clock is %" PRId64 " ms ahead", process->number,
                process->clock_ahead_us / 1000);
    return true;
}

static bool leap(struct world *world)
{
    world->now_us = world_soon(world, 3000 * WORLD_SECOND_US); /* periods end */
    world_trace(world, "time leaps");
    operator_retire(world);
    return true;
}

/* No event of days ago is counted for ceilings any more, and what they held is forgotten. */
static bool leap_far(struct world *world)
{
    world->now_us = world_soon(world, 10 * WORLD_DAY_US);
    world_trace(world, "time leaps by days");
    return true;
}

/* --- brokers --- */

static bool rebalance(struct world *world)
{
    sim_group_rebalance(world);
    return true;
}

static bool brokers_down(struct world *world)
{
    world->brokers_back_us = world_soon(world, 8 * WORLD_SECOND_US);
    world_trace(world, "brokers are away");
    return true;
}

static bool slow_fetches(struct world *world)
{
    world->fetches_slow_until_us = world_soon(world, 20 * WORLD_SECOND_US);
    return true;
}

static bool stick_fetch(struct world *world)
{
    int topic, partition;
    any_log(world, &topic, &partition)->stuck_until_us = world_soon(world, 15 * WORLD_SECOND_US);
    world_trace(world, "%s/%d is stuck", world_topics[topic], partition);
    return true;
}

static bool abort_transaction(struct world *world)
{
    produce_aborted(world);
    return true;
}

/* Up to where everything is committed: no loss. Where a log was rewritten, retention could remove the record
 * that tells so: that limit is known, and the engine warns of it. */
static bool remove_read(struct world *world)
{
    int topic, partition;
    struct sim_log *log = any_log(world, &topic, &partition);
    int64_t committed = world->database.offsets[topic][partition].next_offset;
    int64_t most = committed < log->count ? committed : log->count;
    if (log->rewritten || most <= log->low ||
        (world->replica_lags && most > world->replica.offsets[topic][partition].next_offset))
        return false;
    log->low += 1 + (int64_t)random_below(&world->random, (uint64_t)(most - log->low));
    world_trace(world, "%s/%d begins at %" PRId64, world_topics[topic], partition, log->low);
    return true;
}

static bool remove_unread(struct world *world)
{
    int topic, partition;
    struct sim_log *log = any_log(world, &topic, &partition);
    int64_t committed = world->database.offsets[topic][partition].next_offset;
    int64_t least = committed > log->low ? committed : log->low;
    if (log->rewritten || committed < 0 || log->count <= least)
        return false;
    log->low = least + 1 + (int64_t)random_below(&world->random, (uint64_t)(log->count - least));
    world_trace(world, "%s/%d begins at %" PRId64 ", %" PRId64 " was next", world_topics[topic], partition,
                log->low, committed);
    return true;
}

static void cut(struct world *world, int topic, int partition, int64_t count)
{
    struct sim_log *log = &world->logs[topic][partition];
    log->count = count;
    log->rewritten = true;
    for (int i = 0; i < world->process_count; i++) {
        int64_t *cut_at = &world->processes[i].source.cut_at[topic][partition];
        *cut_at = *cut_at < 0 || *cut_at > count ? count : *cut_at;
    }
    world_trace(world, "%s/%d ends at %" PRId64, world_topics[topic], partition, count);
}

/* Is it known of a log which one was read? Not where no record of it was, or none since an operator moved it:
 * what cannot be told apart by any record is a limit that is known. */
static bool is_known(const struct world *world, const struct sim_database *db, int topic, int partition)
{
    const struct sim_offset *row = &db->offsets[topic][partition];
    bool untouched = !row->exists || row->next_offset <= 0;
    return untouched ? world->logs[topic][partition].low == 0 : row->last_offset >= 0;
}

/* Not where the former count holds for some offsets: a log that is made anew knows nothing of it. */
static bool can_rewrite(const struct world *world, int topic, int partition)
{
    return !world->grown && is_known(world, &world->database, topic, partition) &&
           (!world->replica_lags || is_known(world, &world->replica, topic, partition));
}

/* An unclean election: the new leader lacks the last records. */
static bool truncate_log(struct world *world)
{
    int topic, partition;
    struct sim_log *log = any_log(world, &topic, &partition);
    int64_t most = log->count - log->low;
    if (most < 2 || !can_rewrite(world, topic, partition))
        return false;
    cut(world, topic, partition,
        log->count - 1 - (int64_t)random_below(&world->random, (uint64_t)(most < 200 ? most : 200)));
    return true;
}

static bool recreate_topic(struct world *world)
{
    int topic, partition;
    any_log(world, &topic, &partition);
    for (partition = 0; partition < world->partition_count; partition++)
        if (!can_rewrite(world, topic, partition))
            return false;
    for (partition = 0; partition < world->partition_count; partition++) {
        world->logs[topic][partition].low = 0;
        cut(world, topic, partition, 0);
    }
    return true;
}

static bool any_rewritten(const struct world *world)
{
    for (int t = 0; t < world->topic_count; t++)
        for (int i = 0; i < world->partition_count; i++)
            if (world->logs[t][i].rewritten)
                return true;
    return false;
}

/* Else the new count is taken for the first one, or records that have moved for ones that have not. */
static bool knows_lanes(const struct sim_database *db)
{
    return db->partition_count == 1 || (db->partition_count > 0 && db->partitioner != PARTITIONER_UNKNOWN);
}

/* Only where no log is cut: what was passed over there would be another's offsets later. */
static bool may_pass_over(const struct world *world)
{
    return !enabled(world, FAULT_TRUNCATION) && !enabled(world, FAULT_RECREATION);
}

/* Again where lanes are re-homed: else it stops everything for good. */
static bool add_partition(struct world *world)
{
    world->rehomes = enabled(world, FAULT_REPARTITION);
    bool due = world->rehomes || world_is_whole(world);
    bool known = knows_lanes(&world->database) && (!world->replica_lags || knows_lanes(&world->replica));
    if (!due || !known || (world->rehomes && any_rewritten(world)) ||
        world->partition_count == WORLD_PARTITIONS ||
        !random_chance(&world->random, world->rehomes ? 0.5 : 0.2))
        return false;
    if (world->rehomes)
        fault_count(world, FAULT_REPARTITION);
    int topic, partition;
    any_log(world, &topic, &partition);
    if (world->rehomes && may_pass_over(world) && fault_strikes(world, FAULT_SEEK, 0.5))
        operator_seek(world, topic, partition, true);
    if (fault_strikes(world, FAULT_OLD_COUNT, 0.5))
        world->count_known_us = world_soon(world, 20 * WORLD_SECOND_US);
    world->count_before = world->partition_count++;
    world->grown = true;
    sim_group_rebalance(world);
    world_trace(world, "the topics have %d partitions", world->partition_count);
    return true;
}

/* --- the enforcement topic --- */

static bool flags_down(struct world *world)
{
    world->flags_back_us =
        world_soon(world, random_chance(&world->random, 0.1) ? 50 * WORLD_SECOND_US : 8 * WORLD_SECOND_US);
    world_trace(world, "the enforcement topic is away");
    return true;
}

static bool fill_queue(struct world *world)
{
    world->queue_full_until_us = world_soon(world, 3 * WORLD_SECOND_US);
    return true;
}

static bool compact(struct world *world)
{
    sim_flags_compact(world);
    return true;
}

/* --- PostgreSQL --- */

static bool database_down(struct world *world)
{
    world->database_back_us = world_soon(world, 10 * WORLD_SECOND_US);
    world_trace(world, "PostgreSQL is away");
    return true;
}

static bool fill_disk(struct world *world)
{
    world->disk_full_until_us = world_soon(world, 8 * WORLD_SECOND_US);
    world_trace(world, "PostgreSQL's disk is full");
    return true;
}

static bool fail_over(struct world *world)
{
    return sim_store_lag(world);
}

/* --- people --- */

static bool change_ceilings(struct world *world)
{
    operator_new_ceilings(world);
    world->ceilings_changed = true;
    return true;
}

static bool seal(struct world *world)
{
    operator_seal_day(world);
    return true;
}

static bool seek(struct world *world)
{
    int topic, partition;
    any_log(world, &topic, &partition);
    return operator_seek(world, topic, partition, may_pass_over(world) && random_chance(&world->random, 0.3));
}

/* Kinds without a function are decided about where they happen: at each fetch, job, flag … */
static const struct {
    enum fault_kind kind;
    int weight;
    bool (*inject)(struct world *world); /* false: not now */
} kinds[] = {
    {FAULT_KILL, 6, kill_one},
    {FAULT_DRAIN, 4, drain_one},
    {FAULT_FREEZE, 6, freeze_one},
    {FAULT_EVICT, 3, evict_one},
    {FAULT_CLOCK_STEP, 3, step_clock},
    {FAULT_TIME_LEAP, 3, leap},
    {FAULT_LONG_LEAP, 1, leap_far},
    {FAULT_REBALANCE, 6, rebalance},
    {FAULT_BROKERS_DOWN, 3, brokers_down},
    {FAULT_SLOW_FETCHES, 2, slow_fetches},
    {FAULT_STUCK_FETCH, 4, stick_fetch},
    {FAULT_ABORTED, 8, abort_transaction},
    {FAULT_RETENTION, 3, remove_read},
    {FAULT_LOSS, 1, remove_unread},
    {FAULT_TRUNCATION, 1, truncate_log},
    {FAULT_RECREATION, 1, recreate_topic},
    {FAULT_PARTITION_ADDED, 2, add_partition},
    {FAULT_FLAGS_DOWN, 4, flags_down},
    {FAULT_FLAG_QUEUE_FULL, 2, fill_queue},
    {FAULT_COMPACTION, 3, compact},
    {FAULT_DATABASE_DOWN, 5, database_down},
    {FAULT_DISK_FULL, 3, fill_disk},
    {FAULT_FAILOVER, 2, fail_over},
    {FAULT_CEILINGS, 4, change_ceilings},
    {FAULT_SEAL, 4, seal},
    {FAULT_SEEK, 2, seek},
};
enum { INJECTED_KINDS = sizeof kinds / sizeof *kinds };

void fault_choose(struct world *world)
{
    for (int kind = 0; kind < FAULT_RETIRED; kind++)
        if (random_chance(&world->random, 0.5))
            world->enabled |= UINT64_C(1) << kind;
    if (enabled(world, FAULT_TOPIC_LEFT_OUT))
        world->enabled |= UINT64_C(1) << FAULT_RETIRED;
}

void fault_inject(struct world *world)
{
    int total = 0;
    for (int i = 0; i < INJECTED_KINDS; i++)
        total += enabled(world, kinds[i].kind) ? kinds[i].weight : 0;
    int at = (int)random_below(&world->random, (uint64_t)total);
    for (int i = 0; total > 0 && i < INJECTED_KINDS; i++) {
        at -= enabled(world, kinds[i].kind) ? kinds[i].weight : 0;
        if (at >= 0)
            continue;
        if (kinds[i].inject(world))
            fault_count(world, kinds[i].kind);
        return;
    }
}
