/* PostgreSQL: serialised transactions, fencing by compare-and-set, commits whose outcome the client never
 * learns. */
#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    COPY_TIME = 0,
    COPY_OFFSET = 2,
    COPY_PARTITION = 3,
    COPY_QUANTITY = 4,
    COPY_CUSTOMER = 5,
    COPY_EVENT_ID = 6,
    COPY_METER = 8,
    COPY_TOPIC = 25,
    COPY_FIELDS = 27
};
#define POSTGRES_EPOCH_US INT64_C(946684800000000)

void *table_add(struct table *table, size_t row_bytes)
{
    if (table->count == table->capacity) {
        table->capacity = table->capacity ? table->capacity * 2 : 64;
        table->rows = realloc(table->rows, table->capacity * row_bytes);
        if (!table->rows)
            abort();
    }
    void *row = (char *)table->rows + table->count++ * row_bytes;
    memset(row, 0, row_bytes);
    return row;
}

void table_free(struct table *table)
{
    free(table->rows);
    *table = (struct table){0};
}

static void put(char out[WORLD_NAME_BYTES], struct text text)
{
    size_t length = text.length < WORLD_NAME_BYTES - 1 ? text.length : WORLD_NAME_BYTES - 1;
    memcpy(out, text.bytes, length);
    out[length] = 0;
}

/* --- rows of the binary COPY format --- */

static uint64_t big_endian(const uint8_t *bytes, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | bytes[i];
    return value;
}

static const uint8_t *parse_row(struct world *world, const uint8_t *at, const uint8_t *end,
                                struct sim_event *event)
{
    struct text fields[COPY_FIELDS] = {0};
    if (end - at < 2 || big_endian(at, 2) != COPY_FIELDS) {
        world_fail(world, "a COPY row has %d fields", (int)big_endian(at, 2));
        return end;
    }
    at += 2;
    for (int i = 0; i < COPY_FIELDS; i++) {
        int32_t length = (int32_t)big_endian(at, 4);
        at += 4;
        if (length < 0)
            continue;
        fields[i] = (struct text){(const char *)at, (uint32_t)length};
        at += length;
    }
    event->event_us = (int64_t)big_endian((const uint8_t *)fields[COPY_TIME].bytes, 8) + POSTGRES_EPOCH_US;
    event->offset = (int64_t)big_endian((const uint8_t *)fields[COPY_OFFSET].bytes, 8);
    event->partition = (int32_t)big_endian((const uint8_t *)fields[COPY_PARTITION].bytes, 4);
    event->topic = text_equal(fields[COPY_TOPIC], text_of(world_topics[1]));
    put(event->customer, fields[COPY_CUSTOMER]);
    put(event->event_id, fields[COPY_EVENT_ID]);
    put(event->meter, fields[COPY_METER]);
    if (!decimal_from_numeric((const uint8_t *)fields[COPY_QUANTITY].bytes, fields[COPY_QUANTITY].length,
                              &event->quantity))
        world_fail(world, "a COPY row has no quantity");
    return at;
}

static size_t store_rows(struct world *world, const struct buffer *rows)
{
    size_t count = 0;
    const uint8_t *at = rows->bytes, *end = rows->bytes + rows->size_bytes;
    for (; at < end && !world->failure; count++)
        at = parse_row(world, at, end, table_add(&world->database.events, sizeof(struct sim_event)));
    return count;
}

/* --- one transaction --- */

static struct sim_offset *offset_row(struct world *world, uint32_t topic, int32_t partition)
{
    return &world->database.offsets[topic][partition];
}

static bool fenced(struct world *world, const struct batch *batch, struct store_job *job)
{
    for (size_t i = 0; i < batch->partition_count; i++) {
        const struct batch_partition *part = &batch->partitions[i];
        struct sim_offset *row = offset_row(world, part->topic, part->partition);
        if (row->exists && row->epoch == part->epoch && row->next_offset == part->first_offset)
            continue;
        if (!job->fenced_lanes)
            job->fenced_lanes = calloc(batch->partition_count, sizeof *job->fenced_lanes);
        job->fenced_lanes[job->fenced_count++] = part->partition;
    }
    return job->fenced_count > 0;
}

static const struct sim_event *find_event(const struct world *world, const struct sim_event *wanted)
{
    const struct sim_event *events = world->database.events.rows;
    for (size_t i = 0; i < world->database.events.count; i++)
        if (events[i].event_us / WORLD_DAY_US == wanted->event_us / WORLD_DAY_US &&
            strcmp(events[i].event_id, wanted->event_id) == 0 &&
            strcmp(events[i].customer, wanted->customer) == 0 && strcmp(events[i].meter, wanted->meter) == 0)
            return &events[i];
    return NULL;
}

static void store_sealed(struct world *world, struct batch *batch)
{
    for (size_t i = 0; i < batch->sealed_count; i++) {
        struct batch_sealed *late = &batch->sealed[i];
        struct sim_event event = {0};
        const uint8_t *row = (const uint8_t *)late->row.bytes;
        parse_row(world, row, row + late->row.length, &event);
        const struct sim_event *first = find_event(world, &event);
        if (first) {
            batch_sealed_repeated(batch, i, first->quantity != event.quantity);
            continue;
        }
        batch_sealed_accepted(batch, world_secret(), i);
        *(struct sim_event *)table_add(&world->database.events, sizeof event) = event;
        if (!late->counted)
            continue;
        struct sim_pending *pending = table_add(&world->database.pending, sizeof *pending);
        *pending = (struct sim_pending){event, event.partition};
    }
}

static void store_hours(struct world *world, struct batch *batch)
{
    size_t count;
    const struct hourly_row *rows = accumulator_hourly(batch->accumulator, &count);
    for (size_t i = 0; i < count; i++) {
        struct sim_hour key = {.hour_us = rows[i].hour_us}, *found = NULL;
        put(key.customer, rows[i].customer_id);
        put(key.meter, rows[i].meter);
        struct sim_hour *hours = world->database.hours.rows;
        for (size_t h = 0; !found && h < world->database.hours.count; h++)
            if (hours[h].hour_us == key.hour_us && strcmp(hours[h].customer, key.customer) == 0 &&
                strcmp(hours[h].meter, key.meter) == 0)
                found = &hours[h];
        if (!found)
            *(found = table_add(&world->database.hours, sizeof key)) = key;
        found->events += rows[i].events;
        found->quantity += rows[i].quantity;
    }
}

static void store_counter(struct world *world, int32_t lane, const struct ceiling_counter *counter)
{
    struct sim_counter row = {.lane = lane, .period = counter->period, .start_us = counter->period_start_us};
    put(row.customer, counter->customer_id);
    put(row.meter, counter->meter);
    struct sim_counter *rows = world->database.counters.rows, *found = NULL;
    for (size_t i = 0; !found && i < world->database.counters.count; i++)
        if (rows[i].lane == lane && rows[i].period == row.period && rows[i].start_us == row.start_us &&
            strcmp(rows[i].customer, row.customer) == 0 && strcmp(rows[i].meter, row.meter) == 0)
            found = &rows[i];
    if (!found)
        *(found = table_add(&world->database.counters, sizeof row)) = row;
    found->used = counter->used;
}

static void store_state(struct world *world, int32_t lane, const struct ceiling_state *state)
{
    struct sim_state row = {.lane = lane,
                            .start_us = state->period_start_us,
                            .end_us = state->period_end_us,
                            .version = state->version,
                            .transition = state->transition,
                            .active = state->active};
    put(row.customer, state->customer_id);
    put(row.ceiling, state->ceiling);
    memcpy(row.decision_id, state->decision_id, sizeof row.decision_id);
    struct sim_state *rows = world->database.states.rows, *found = NULL;
    for (size_t i = 0; !found && i < world->database.states.count; i++)
        if (rows[i].lane == lane && rows[i].start_us == row.start_us &&
            strcmp(rows[i].customer, row.customer) == 0 && strcmp(rows[i].ceiling, row.ceiling) == 0)
            found = &rows[i];
    if (!found)
        found = table_add(&world->database.states, sizeof row);
    *found = row;
}

static void store_decision(struct world *world, const struct decision *decision)
{
    struct sim_decision *rows = world->database.decisions.rows;
    for (size_t i = 0; i < world->database.decisions.count; i++)
        if (strcmp(rows[i].id, decision->id) == 0) {
            world_fail(world, "decision %s is made twice", decision->id);
            return;
        }
    struct sim_decision *row = table_add(&world->database.decisions, sizeof *row);
    memcpy(row->id, decision->id, sizeof row->id);
    put(row->customer, decision->customer_id);
    put(row->ceiling, decision->ceiling);
    row->start_us = decision->period_start_us;
    row->transition = decision->transition;
    row->active = decision->active;
    row->published = decision->published;
    struct arena arena;
    arena_init(&arena, 4096);
    struct text value = flag_value(&arena, decision, world_topics);
    row->flag = strndup(value.bytes, value.length);
    arena_free(&arena);
}

static void store_enforcement(struct world *world, const struct batch *batch)
{
    for (size_t i = 0; i < batch->change_count; i++) {
        const struct ceiling_change *change = &batch->changes[i];
        if (change->is_state)
            store_state(world, change->lane, &change->state);
        else
            store_counter(world, change->lane, &change->counter);
    }
    for (size_t i = 0; i < batch->decision_count; i++)
        store_decision(world, &batch->decisions[i]);
    for (size_t i = 0; i < batch->ceilings_adopted_count; i++)
        world->database.lane_generation[batch->ceilings_adopted[i]] = batch->ceilings_generation;
}

static void settle_pending(struct world *world, const struct batch *batch)
{
    struct table *pending = &world->database.pending;
    for (size_t s = 0; s < batch->settled_count; s++) {
        bool found = false;
        struct sim_pending *rows = pending->rows;
        for (size_t i = 0; !found && i < pending->count; i++) {
            if (rows[i].event.topic != (int32_t)batch->settled[s].topic ||
                rows[i].lane != batch->settled[s].partition ||
                rows[i].event.offset != batch->settled[s].offset)
                continue;
            rows[i] = rows[--pending->count];
            found = true;
        }
        if (!found)
            world_fail(world, "a pending event is settled twice");
    }
}

static void store_offset(struct world *world, const struct batch_partition *part, int owner)
{
    struct sim_offset *row = offset_row(world, part->topic, part->partition);
    int64_t first = part->first_offset < 0 ? 0 : part->first_offset;
    int64_t counted = part->accepted + part->duplicate + part->dead + part->hole + part->gap;
    if (counted != part->next_offset - first)
        world_fail(world, "topic %u lane %d: %" PRId64 " offsets from %" PRId64 " on are counted as %" PRId64,
                   part->topic, part->partition, part->next_offset - first, first, counted);
    if (part->seen_through_us < row->seen_through_us)
        world_fail(world, "the watermark of lane %d went back", part->partition);
    row->next_offset = part->next_offset;
    row->last_offset = part->last_offset;
    row->last_fingerprint = part->last_fingerprint;
    row->seen_through_us = part->seen_through_us;
    row->accepted += part->accepted;
    row->duplicate += part->duplicate;
    row->dead += part->dead;
    row->hole += part->hole;
    row->gap += part->gap;
    row->owner = owner;
}

static void write_batch(struct process *process, struct store_job *job)
{
    struct world *world = process->world;
    struct sim_database *db = &world->database;
    struct batch *batch = job->batch;
    if (batch->learned != PARTITIONER_UNKNOWN)
        db->partitioner = batch->learned;
    for (size_t i = 0; i < process->streamed.count; i++)
        store_rows(world, &((struct buffer *)process->streamed.rows)[i]);
    for (size_t i = 0; i < batch->day_count; i++)
        store_rows(world, &batch->days[i].rows);
    store_sealed(world, batch);
    store_hours(world, batch);
    for (size_t i = 0; i < batch->segment_count; i++) {
        struct sim_segment *row = table_add(&db->segments, sizeof *row);
        *row = (struct sim_segment){batch->segments[i].lane, batch->segments[i].day, NULL,
                                    batch->segments[i].keys.size_bytes};
        row->keys = malloc(row->size_bytes + 1);
        memcpy(row->keys, batch->segments[i].keys.bytes, row->size_bytes);
    }
    settle_pending(world, batch);
    store_enforcement(world, batch);
    for (size_t i = 0; i < batch->adoption_count; i++)
        *(struct sim_adoption *)table_add(&db->adoptions, sizeof(struct sim_adoption)) =
            (struct sim_adoption){batch->adoptions[i].lane, batch->adoptions[i].day};
    for (size_t i = 0; i < batch->dead_letter_count; i++)
        *(struct sim_event *)table_add(&db->dead, sizeof(struct sim_event)) =
            (struct sim_event){.topic = (int32_t)batch->dead_letters[i].topic,
                               .partition = batch->dead_letters[i].partition,
                               .offset = batch->dead_letters[i].offset};
    for (size_t i = 0; i < batch->partition_count; i++)
        store_offset(world, &batch->partitions[i], process->number);
    db->transactions++;
    world_trace(world, "process %d commits batch %" PRIu64 ": %zu events", process->number, batch->number,
                batch->event_count);
}

static void drop_streamed(struct process *process)
{
    struct buffer *buffers = process->streamed.rows;
    for (size_t i = 0; i < process->streamed.count; i++)
        buffer_free(&buffers[i]);
    process->streamed.count = 0;
}

/* As in PostgreSQL: what was streamed for a batch that was given up is rolled back by the next one. */
static void stream(struct process *process, struct store_job *job)
{
    if (process->streamed_batch != job->stream_batch)
        drop_streamed(process);
    process->streamed_batch = job->stream_batch;
    *(struct buffer *)table_add(&process->streamed, sizeof(struct buffer)) = job->rows;
    job->rows = (struct buffer){0};
}

static void commit(struct process *process, struct store_job *job)
{
    if (!job->stream_day)
        drop_streamed(process);
    else if (process->streamed_batch != job->batch->number)
        world_fail(process->world, "what was streamed is of another batch than the one that is committed");
    if (fenced(process->world, job->batch, job))
        job->status = STORE_FENCED;
    else
        write_batch(process, job);
    drop_streamed(process);
}

/* --- takeover --- */

static bool adopted(const struct world *world, int32_t lane, uint16_t day)
{
    const struct sim_adoption *rows = world->database.adoptions.rows;
    for (size_t i = 0; i < world->database.adoptions.count; i++)
        if (rows[i].lane == lane && rows[i].day == day)
            return true;
    return false;
}

static void restore_keys(const struct world *world, struct store_lane *lane)
{
    lane->dedupe = dedupe_new();
    const struct sim_segment *rows = world->database.segments.rows;
    for (size_t i = 0; i < world->database.segments.count; i++)
        if (rows[i].lane == lane->lane && !adopted(world, lane->lane, rows[i].day))
            dedupe_segment_restore(lane->dedupe, rows[i].day, rows[i].keys, rows[i].size_bytes);
    lane->sealed_days = arena_alloc(lane->arena, (world->database.sealed.count + 1) * sizeof(uint16_t));
    const uint16_t *sealed = world->database.sealed.rows;
    for (size_t i = 0; i < world->database.sealed.count; i++)
        if (adopted(world, lane->lane, sealed[i]))
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

static void restore_ceilings(const struct world *world, struct store_lane *lane)
{
    lane->book = ceiling_book_new(lane->lane);
    lane->ceilings_generation = world->database.lane_generation[lane->lane];
    bool current = lane->ceilings_generation == world->database.generation;
    const struct sim_counter *counters = world->database.counters.rows;
    for (size_t i = 0; current && i < world->database.counters.count; i++) {
        if (counters[i].lane != lane->lane)
            continue;
        struct ceiling_counter row = {text_of(counters[i].customer),
                                      text_of(counters[i].meter),
                                      counters[i].period,
                                      TEXT("{}"),
                                      counters[i].start_us,
                                      counters[i].used};
        ceiling_book_restore_counter(lane->book, &row);
    }
    const struct sim_state *states = world->database.states.rows;
    for (size_t i = 0; i < world->database.states.count; i++) {
        if (states[i].lane != lane->lane)
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

static void restore_pending(struct world *world, struct store_lane *lane)
{
    struct sim_pending *rows = world->database.pending.rows;
    lane->pending = arena_alloc(lane->arena, (world->database.pending.count + 1) * sizeof *lane->pending);
    for (size_t i = 0; i < world->database.pending.count; i++) {
        const struct sim_event *event = &rows[i].event;
        if (rows[i].lane != lane->lane)
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

static void take_lane(struct process *process, struct store_lane *lane)
{
    struct world *world = process->world;
    lane->arena = malloc(sizeof *lane->arena);
    arena_init(lane->arena, 4096);
    lane->offsets = arena_alloc(lane->arena, WORLD_TOPICS * sizeof *lane->offsets);
    int64_t epoch = lane->epoch_above;
    lane->kept = lane->kept_epoch != 0;
    for (uint32_t t = 0; t < (uint32_t)world->topic_count; t++) {
        struct sim_offset *row = offset_row(world, t, lane->lane);
        if (row->epoch > epoch)
            epoch = row->epoch;
        lane->kept = lane->kept && row->exists && row->epoch == lane->kept_epoch;
    }
    lane->epoch = lane->kept ? lane->kept_epoch : epoch + 1;
    for (uint32_t t = 0; t < (uint32_t)world->topic_count; t++) {
        struct sim_offset *row = offset_row(world, t, lane->lane);
        if (!row->exists)
            *row = (struct sim_offset){.exists = true, .next_offset = -1, .last_offset = -1};
        row->epoch = lane->epoch;
        row->owner = process->number;
        lane->offsets[t] = (struct store_lane_offset){.topic = t,
                                                      .fresh = row->next_offset < 0,
                                                      .next_offset = row->next_offset,
                                                      .last_offset = row->last_offset,
                                                      .last_fingerprint = row->last_fingerprint,
                                                      .seen_through_us = row->seen_through_us};
    }
    world_trace(world, "process %d takes lane %d over, epoch %" PRId64 "%s", process->number, lane->lane,
                lane->epoch, lane->kept ? " (kept)" : "");
    if (lane->kept)
        return;
    restore_keys(world, lane);
    restore_ceilings(world, lane);
    restore_pending(world, lane);
}

static void read_settings(struct process *process, struct store_job *job)
{
    struct world *world = process->world;
    struct sim_database *db = &world->database;
    if (db->partition_count == 0 && job->kind == STORE_TAKEOVER)
        db->partition_count = job->settings.partition_count;
    job->settings = (struct store_settings){
        .secret = *world_secret(), .partitioner = db->partitioner, .partition_count = db->partition_count};
    if (job->known_generation != db->generation)
        job->catalogue = sim_catalogue(world);
    if (job->kind != STORE_CATALOGUE)
        return;
    job->sealed_days = malloc((db->sealed.count + 1) * sizeof(uint16_t));
    if (db->sealed.count)
        memcpy(job->sealed_days, db->sealed.rows, db->sealed.count * sizeof(uint16_t));
    job->sealed_day_count = db->sealed.count;
}

static void read_facts(struct process *process, struct store_job *job)
{
    for (size_t i = 0; i < job->fact_count; i++) {
        struct store_fact *fact = &job->facts[i];
        const struct sim_offset *row = offset_row(process->world, fact->topic, fact->partition);
        fact->found = row->exists;
        fact->epoch = row->epoch;
        fact->next_offset = row->next_offset;
    }
    process->connected = true;
}

/* --- jobs --- */

static void do_job(struct process *process, struct store_job *job)
{
    switch (job->kind) {
    case STORE_COMMIT:
        commit(process, job);
        break;
    case STORE_STREAM:
        stream(process, job);
        break;
    case STORE_TAKEOVER:
        for (size_t i = 0; i < job->lane_count; i++)
            take_lane(process, &job->lanes[i]);
        read_settings(process, job);
        break;
    case STORE_RECOVER:
        read_facts(process, job);
        break;
    case STORE_CATALOGUE:
        read_settings(process, job);
        break;
    case STORE_SEED:
        sim_read_sums(process, job);
        break;
    }
}

static void lose(struct process *process, struct store_job *job)
{
    job->status = STORE_LOST;
    snprintf(job->detail, sizeof job->detail, "the connection broke");
    process->connected = false;
    drop_streamed(process);
}

static void finish_job(struct process *process)
{
    struct store_job *job = process->job;
    bool reachable = process->world->database_up && (process->connected || job->kind == STORE_RECOVER);
    job->status = STORE_DONE;
    if (!reachable || process->job_fails) {
        lose(process, job);
    } else {
        do_job(process, job);
        if (process->job_fails_after && job->kind == STORE_COMMIT)
            lose(process, job);
    }
}

static void submit(void *self, struct store_job *job)
{
    struct process *process = self;
    struct world *world = process->world;
    process->job = job;
    process->job_done_us = world->now_us + 500 + (int64_t)random_below(&world->random, 30000);
    if (random_chance(&world->random, 0.01))
        process->job_done_us += (int64_t)random_below(&world->random, 3000000);
    process->job_fails = world->faults && random_chance(&world->random, 0.01);
    process->job_fails_after = world->faults && random_chance(&world->random, 0.01);
    world->fault_count += process->job_fails + process->job_fails_after;
}

static struct store_job *poll(void *self)
{
    struct process *process = self;
    struct store_job *job = process->job;
    if (!job || process->world->now_us < process->job_done_us)
        return NULL;
    finish_job(process);
    process->job = NULL;
    return job;
}

struct store sim_store_port(struct process *process)
{
    process->connected = true;
    process->streamed.count = 0;
    return (struct store){submit, poll, process};
}

/* The batch is the dying pipeline's: so this comes before the pipeline is freed. */
void sim_store_disconnect(struct process *process)
{
    struct store_job *job = process->job;
    if (job && random_chance(&process->world->random, 0.5))
        finish_job(process);
    pipeline_abandon(process->pipeline, job);
    process->job = NULL;
    drop_streamed(process);
}

void sim_database_free(struct world *world)
{
    struct sim_database *db = &world->database;
    for (size_t i = 0; i < db->segments.count; i++)
        free(((struct sim_segment *)db->segments.rows)[i].keys);
    for (size_t i = 0; i < db->decisions.count; i++)
        free(((struct sim_decision *)db->decisions.rows)[i].flag);
    struct table *all[] = {&db->events,    &db->hours,     &db->segments, &db->counters, &db->states,
                           &db->decisions, &db->adoptions, &db->pending,  &db->dead,     &db->sealed};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        table_free(all[i]);
}
