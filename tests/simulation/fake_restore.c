/* Taking lanes over: their former owner's backend is ended, epochs rise, and what the tables hold of them is
 * read back. */
#include "world.h"

#include <inttypes.h>
#include <stdlib.h>

enum { LOST_EPOCHS = 1000 };

static void restore_keys(const struct world *world, struct store_lane *lane)
{
    lane->dedupe = dedupe_new();
    const struct sim_segment *rows = world->database.segments.rows;
    for (size_t i = 0; i < world->database.segments.count; i++)
        if (rows[i].lane == lane->lane && rows[i].batch > world->database.rehomed_batch &&
            !database_adopted(&world->database, lane->lane, rows[i].day))
            dedupe_segment_restore(lane->dedupe, rows[i].day, rows[i].keys, rows[i].size_bytes);
    lane->sealed_days = arena_alloc(lane->arena, (world->database.sealed.count + 1) * sizeof(uint16_t));
    const uint16_t *sealed = world->database.sealed.rows;
    for (size_t i = 0; i < world->database.sealed.count; i++)
        if (database_adopted(&world->database, lane->lane, sealed[i]))
            lane->sealed_days[lane->sealed_day_count++] = sealed[i];
}

static struct text flag_of(const struct world *world, const char *decision_id)
{
    const struct sim_decision *rows = world->database.decisions.rows;
    for (size_t i = 0; i < world->database.decisions.count; i++)
        if (strcmp(rows[i].id, decision_id) == 0)
            return text_of(rows[i].flag);
    return TEXT("");
}

/* A period's rows are needed as long as its events are counted, and a day more. */
static bool is_needed(const struct world *world, int64_t end_us)
{
    return end_us > world->now_us - CEILING_COUNTED_US - WORLD_DAY_US;
}

static void restore_counters(const struct world *world, struct store_lane *lane)
{
    const struct sim_counter *counters = world->database.counters.rows;
    for (size_t i = 0; i < world->database.counters.count; i++) {
        if (counters[i].lane != lane->lane ||
            !is_needed(world, ceiling_period_end(counters[i].period, counters[i].start_us)))
            continue;
        struct ceiling_counter row = {text_of(counters[i].customer),
                                      text_of(counters[i].meter),
                                      counters[i].period,
                                      TEXT("{}"),
                                      counters[i].start_us,
                                      counters[i].used};
        ceiling_book_restore_counter(lane->book, &row);
    }
}

static void restore_states(const struct world *world, struct store_lane *lane)
{
    const struct sim_state *states = world->database.states.rows;
    for (size_t i = 0; i < world->database.states.count; i++) {
        if (states[i].lane != lane->lane || !(states[i].active || is_needed(world, states[i].end_us)))
            continue;
        struct ceiling_state row = {.customer_id = text_of(states[i].customer),
                                    .ceiling = text_of(states[i].ceiling),
                                    .scope = TEXT("{}"),
                                    .period_start_us = states[i].start_us,
                                    .period_end_us = states[i].end_us,
                                    .version = states[i].version,
                                    .transition = states[i].transition,
                                    .active = states[i].active,
                                    .flag = flag_of(world, states[i].decision_id)};
        memcpy(row.decision_id, states[i].decision_id, sizeof row.decision_id);
        ceiling_book_restore_state(lane->book, &row);
    }
}

static void restore_ceilings(const struct world *world, struct store_lane *lane)
{
    lane->book = ceiling_book_new(lane->lane, (struct lookup_seed){{1, 2}});
    lane->ceilings_generation = world->database.lane_generation[lane->lane];
    if (lane->ceilings_generation > 0 && lane->ceilings_generation != world->database.generation)
        lane->adopted = sim_catalogue_of(world, lane->ceilings_generation);
    if (lane->adopted || lane->ceilings_generation == world->database.generation)
        restore_counters(world, lane);
    restore_states(world, lane);
}

static void restore_pending(const struct process *process, struct store_lane *lane)
{
    const struct world *world = process->world;
    struct sim_pending *rows = world->database.pending.rows;
    lane->pending = arena_alloc(lane->arena, (world->database.pending.count + 1) * sizeof *lane->pending);
    for (size_t i = 0; i < world->database.pending.count; i++) {
        const struct sim_event *event = &rows[i].event;
        if (rows[i].lane != lane->lane || event->topic >= process->topic_count)
            continue;
        struct store_pending *pending = &lane->pending[lane->pending_count++];
        *pending = (struct store_pending){
            .topic = (uint32_t)event->topic, .partition = event->partition, .offset = event->offset};
        pending->event = (struct event){.customer_id = arena_text(lane->arena, text_of(event->customer)),
                                        .event_id = arena_text(lane->arena, text_of(event->event_id)),
                                        .meter = arena_text(lane->arena, text_of(event->meter)),
                                        .quantity = event->quantity,
                                        .time_us = event->event_us};
    }
}

/* --- epochs --- */

static void choose_epoch(struct process *process, struct store_lane *lane)
{
    int64_t epoch = lane->epoch_above;
    lane->kept = lane->kept_epoch != 0;
    for (int t = 0; t < process->topic_count; t++) {
        const struct sim_offset *row = &process->world->database.offsets[t][lane->lane];
        if (row->epoch > epoch)
            epoch = row->epoch;
        lane->kept =
            lane->kept && row->exists && row->owner == process->number && row->epoch == lane->kept_epoch;
    }
    lane->epoch = lane->kept ? lane->kept_epoch : epoch + 1;
}

static void own_rows(struct process *process, struct store_lane *lane)
{
    for (int t = 0; t < process->topic_count; t++) {
        struct sim_offset *row = &process->world->database.offsets[t][lane->lane];
        if (!row->exists)
            *row = (struct sim_offset){
                .exists = true, .next_offset = -1, .last_offset = -1, .witness_offset = -1};
        row->epoch = lane->epoch;
        row->owner = process->number;
        row->updated_us = process->world->now_us;
        row->retired = false;
        lane->offsets[t] = (struct store_lane_offset){.topic = (uint32_t)t,
                                                      .fresh = row->next_offset < 0,
                                                      .next_offset = row->next_offset,
                                                      .last_offset = row->last_offset,
                                                      .last_fingerprint = row->last_fingerprint,
                                                      .witness_offset = row->witness_offset,
                                                      .witness_fingerprint = row->witness_fingerprint,
                                                      .seen_through_us = row->seen_through_us};
        sim_repartition_limits(&process->world->database, lane, &lane->offsets[t]);
    }
}

/* Epochs that were given out and lost are not given out again. */
static void rise_above_lost_epochs(struct world *world)
{
    if (world->database.timeline_met == world->timeline)
        return;
    world->database.timeline_met = world->timeline;
    for (int t = 0; t < world->topic_count; t++)
        for (int i = 0; i < world->partition_count; i++)
            world->database.offsets[t][i].epoch += LOST_EPOCHS;
}

static void end_former_owner(struct process *process, const struct store_lane *lane)
{
    struct world *world = process->world;
    const struct sim_offset *row = &world->database.offsets[0][lane->lane];
    struct process *former = &world->processes[row->owner];
    bool busy = former->links[0].job || former->links[1].job;
    if (!row->exists || former == process || !former->alive || !busy)
        return;
    if (fault_strikes(world, FAULT_BACKEND_ENDED, 0.5))
        sim_store_end_backends(former);
}

void sim_store_take_lane(struct process *process, struct store_lane *lane)
{
    struct world *world = process->world;
    lane->arena = malloc(sizeof *lane->arena);
    arena_init(lane->arena, 4096);
    lane->offsets = arena_alloc(lane->arena, WORLD_TOPICS * sizeof *lane->offsets);
    end_former_owner(process, lane);
    rise_above_lost_epochs(world);
    choose_epoch(process, lane);
    own_rows(process, lane);
    world_trace(world, "process %d takes lane %d over, epoch %" PRId64 "%s", process->number, lane->lane,
                lane->epoch, lane->kept ? " (kept)" : "");
    if (lane->kept)
        return;
    restore_keys(world, lane);
    restore_ceilings(world, lane);
    restore_pending(process, lane);
}

void sim_store_read_settings(struct process *process, struct store_job *job)
{
    struct sim_database *db = &process->world->database;
    if (db->partition_count == 0 && job->kind == STORE_TAKEOVER)
        db->partition_count = job->settings.partition_count;
    job->settings = (struct store_settings){
        .secret = *world_secret(), .partitioner = db->partitioner, .partition_count = db->partition_count};
    sim_repartition_settings(process->world, &job->settings);
    if (job->known_generation != db->generation)
        job->catalogue = sim_catalogue(process->world);
    if (job->kind != STORE_CATALOGUE)
        return;
    job->sealed_days = malloc((db->sealed.count + 1) * sizeof(uint16_t));
    if (db->sealed.count)
        memcpy(job->sealed_days, db->sealed.rows, db->sealed.count * sizeof(uint16_t));
    job->sealed_day_count = db->sealed.count;
}
