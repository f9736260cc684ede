/* One transaction: fenced by compare-and-set, and held against what the process was given to read. */
#include "flag.h"
#include "world.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    COPY_TIME = 0,
    COPY_OFFSET = 2,
    COPY_PARTITION = 3,
    COPY_QUANTITY = 4,
    COPY_CUSTOMER = 5,
    COPY_EVENT_ID = 6,
    COPY_METER = 8,
    COPY_SPARE = 9, /* the first one that may be left out */
    COPY_TOPIC = 25,
    COPY_FIELDS = 27
};
#define POSTGRES_EPOCH_US INT64_C(946684800000000)

static void put(char out[WORLD_NAME_BYTES], struct text text)
{
    size_t length = text.length < WORLD_NAME_BYTES - 1 ? text.length : WORLD_NAME_BYTES - 1;
    memcpy(out, text.bytes, length);
    out[length] = 0;
}

/* --- rows of the binary COPY format --- */

static uint64_t big_endian(const void *from, size_t size)
{
    const uint8_t *bytes = from;
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | bytes[i];
    return value;
}

static bool is_left_out(uint32_t left_out, int field)
{
    int bit = field - COPY_SPARE;
    return bit >= 0 && bit < COPY_SPARE_COLUMNS && left_out >> bit & 1;
}

static const uint8_t *split_row(const uint8_t *at, uint32_t left_out, struct text fields[COPY_FIELDS])
{
    at += 2;
    for (int i = 0; i < COPY_FIELDS; i++) {
        if (is_left_out(left_out, i))
            continue;
        int32_t length = (int32_t)big_endian(at, 4);
        at += 4;
        fields[i] = (struct text){(const char *)at, length < 0 ? 0 : (uint32_t)length};
        at += fields[i].length;
    }
    return at;
}

static const uint8_t *parse_row(struct world *world, const uint8_t *at, const uint8_t *end, uint32_t left_out,
                                struct sim_event *event)
{
    struct text fields[COPY_FIELDS] = {0};
    if (end - at < 2 || big_endian(at, 2) != (uint64_t)(COPY_FIELDS - __builtin_popcount(left_out))) {
        world_fail(world, "a COPY row has %d fields", (int)big_endian(at, 2));
        return end;
    }
    at = split_row(at, left_out, fields);
    event->event_us = (int64_t)big_endian(fields[COPY_TIME].bytes, 8) + POSTGRES_EPOCH_US;
    event->offset = (int64_t)big_endian(fields[COPY_OFFSET].bytes, 8);
    event->partition = (int32_t)big_endian(fields[COPY_PARTITION].bytes, 4);
    event->topic = text_equal(fields[COPY_TOPIC], text_of(world_topics[1]));
    put(event->customer, fields[COPY_CUSTOMER]);
    put(event->event_id, fields[COPY_EVENT_ID]);
    put(event->meter, fields[COPY_METER]);
    if (!decimal_from_numeric((const uint8_t *)fields[COPY_QUANTITY].bytes, fields[COPY_QUANTITY].length,
                              &event->quantity))
        world_fail(world, "a COPY row has no quantity");
    return at;
}

static int64_t serial_read(const struct process *process, int topic, int partition, int64_t offset)
{
    const struct sim_delivered *delivered = &process->source.delivered[topic][partition];
    return offset >= 0 && offset < delivered->count ? delivered->serials[offset] : -1;
}

static bool acceptable(const struct process *process, const struct sim_event *event)
{
    int64_t serial = serial_read(process, event->topic, event->partition, event->offset);
    return serial < 0 || world_record(process->world, serial)->outcome != SIM_REFUSED;
}

/* False: PostgreSQL refuses one of them. */
static bool stream_block(struct process *process, struct sim_link *link, const struct row_block *block,
                         uint32_t left_out)
{
    const uint8_t *at = block->bytes, *end = block->bytes + block->size_bytes;
    while (at < end && !process->world->failure) {
        struct sim_event *event = table_add(&link->streamed, sizeof *event);
        at = parse_row(process->world, at, end, left_out, event);
        if (!acceptable(process, event))
            return false;
    }
    return true;
}

static bool stream_rows(struct process *process, struct sim_link *link, const struct row_queue *rows,
                        uint32_t left_out)
{
    for (const struct row_block *block = rows->first; block; block = block->next)
        if (!stream_block(process, link, block, left_out))
            return false;
    return true;
}

bool sim_store_stream(struct process *process, struct store_job *job)
{
    struct sim_link *link = &process->links[job->link];
    if (link->in_transaction && link->batch != job->stream_batch)
        world_fail(process->world, "a batch is streamed into the transaction of another");
    link->in_transaction = true;
    link->batch = job->stream_batch;
    bool taken = stream_rows(process, link, &job->rows, job->stream_left_out);
    if (!taken) {
        link->streamed.count = 0;
        link->in_transaction = false;
    }
    return taken;
}

static bool sealed_acceptable(const struct process *process, const struct batch *batch)
{
    for (size_t i = 0; i < batch->sealed_count; i++) {
        struct sim_event event = {0};
        const uint8_t *row = (const uint8_t *)batch->sealed[i].row.bytes;
        if (batch->sealed[i].otherwise)
            continue; /* it is only looked for */
        parse_row(process->world, row, row + batch->sealed[i].row.length, 0, &event);
        if (!acceptable(process, &event))
            return false;
    }
    return true;
}

/* --- fencing --- */

static bool fenced(struct world *world, const struct batch *batch, struct store_job *job)
{
    for (size_t i = 0; i < batch->partition_count; i++) {
        const struct batch_partition *part = &batch->partitions[i];
        const struct sim_offset *row = &world->database.offsets[part->topic][part->partition];
        if (row->exists && row->epoch == part->epoch && row->next_offset == part->first_offset)
            continue;
        if (!job->fenced_lanes)
            job->fenced_lanes = calloc(batch->partition_count, sizeof *job->fenced_lanes);
        job->fenced_lanes[job->fenced_count++] = part->partition;
    }
    return job->fenced_count > 0;
}

/* --- events of sealed days --- */

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
        parse_row(world, row, row + late->row.length, 0, &event);
        const struct sim_event *first = find_event(world, &event);
        if (first) {
            batch_sealed_repeated(batch, i, first->quantity != event.quantity);
            continue;
        }
        if (late->otherwise) {
            batch_sealed_refused(batch, world_secret(), i);
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

/* --- rollups, counters, decisions --- */

static void store_hours(struct world *world, struct batch *batch)
{
    size_t count;
    const struct sorted_row *rows = accumulator_hourly(batch->accumulator, &count);
    for (size_t i = 0; i < count; i++) {
        struct sim_hour key = {.hour_us = rows[i].hourly->hour_us}, *found = NULL;
        put(key.customer, rows[i].hourly->customer_id);
        put(key.meter, rows[i].hourly->meter);
        struct sim_hour *hours = world->database.hours.rows;
        for (size_t h = 0; !found && h < world->database.hours.count; h++)
            if (hours[h].hour_us == key.hour_us && strcmp(hours[h].customer, key.customer) == 0 &&
                strcmp(hours[h].meter, key.meter) == 0)
                found = &hours[h];
        if (!found)
            *(found = table_add(&world->database.hours, sizeof key)) = key;
        found->events += rows[i].hourly->events;
        found->quantity += rows[i].hourly->quantity;
        found->adjustment += rows[i].hourly->adjustment;
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
        if (strcmp(rows[i].id, decision->id) == 0)
            world_fail(world, "decision %s is made twice", decision->id);
    struct sim_decision *row = table_add(&world->database.decisions, sizeof *row);
    *row = (struct sim_decision){.start_us = decision->period_start_us,
                                 .transition = decision->transition,
                                 .active = decision->active,
                                 .published = decision->published,
                                 .by_event = decision->source == DECIDED_BY_EVENT,
                                 .by_clock = decision->source == DECIDED_BY_CLOCK,
                                 .topic = (int32_t)decision->topic,
                                 .partition = decision->partition,
                                 .offset = decision->offset};
    memcpy(row->id, decision->id, sizeof row->id);
    put(row->customer, decision->customer_id);
    put(row->ceiling, decision->ceiling);
    struct arena arena;
    arena_init(&arena, 4096);
    struct text value = flag_value(&arena, decision, world_topics);
    row->flag = world_keep(world, value.bytes, value.length);
    arena_free(&arena);
}

/* A flag whose decision is committed is on the topic, unless Kafka was away for the 30 s that a batch waits.
 * What differs from what a former owner said waits until all is read that he had read, however. */
static void check_flag(const struct process *process, const struct decision *decision)
{
    struct world *world = process->world;
    const struct sim_flight *flights = world->flights.rows;
    if (world->clocks_stepped || world->now_us - decision->decided_at_us > 30 * WORLD_SECOND_US)
        return;
    bool on_its_way = false;
    for (size_t i = 0; i < world->flights.count; i++) {
        const struct sim_flight *flight = &flights[i];
        if (flight->process == process->number && flight->incarnation == process->incarnation &&
            !flight->landed && flight->sent_us < process->commit_began_us && flight->message.value &&
            strstr(flight->message.value, decision->id))
            on_its_way = true;
    }
    const struct table *landed = &world->flags[decision->lane].messages;
    for (size_t i = 0; on_its_way && i < landed->count; i++) {
        const struct sim_message *message = &((const struct sim_message *)landed->rows)[i];
        on_its_way = !message->value || !strstr(message->value, decision->id);
    }
    if (on_its_way)
        world_fail(world, "decision %s is committed, and its flag is still on its way", decision->id);
}

static void store_enforcement(struct process *process, const struct batch *batch)
{
    struct world *world = process->world;
    for (size_t i = 0; i < batch->decision_count; i++)
        if (batch->decisions[i].published)
            check_flag(process, &batch->decisions[i]);
    for (size_t i = 0; i < batch->change_count; i++) {
        const struct ceiling_change *change = &batch->changes[i];
        if (change->is_state)
            store_state(world, change->lane, &change->state);
        else
            store_counter(world, change->lane, &change->counter);
    }
    for (size_t i = 0; i < batch->decision_count; i++)
        store_decision(world, &batch->decisions[i]);
    for (size_t i = 0; i < batch->ceilings_adopted_count; i++) {
        world->database.lane_generation[batch->ceilings_adopted[i]] = batch->ceilings_generation;
        world->database.lane_adopted_batch[batch->ceilings_adopted[i]] = world->database.batch;
    }
}

/* --- offsets --- */

static bool is_dead(const struct batch *batch, const struct batch_partition *part, int64_t offset)
{
    for (size_t i = 0; i < batch->dead_letter_count; i++)
        if (batch->dead_letters[i].topic == part->topic &&
            batch->dead_letters[i].partition == part->partition && batch->dead_letters[i].offset == offset)
            return true;
    return false;
}

/* Every offset counted is one that this process was given to read; a gap is the engine's only where a
 * partition is fresh. Returns how many of them are holes. */
static int64_t account(struct process *process, const struct batch *batch, const struct batch_partition *part)
{
    struct world *world = process->world;
    int64_t first = part->first_offset < 0 ? part->gap : part->first_offset, markers = 0;
    if (part->first_offset >= 0 && part->gap != 0)
        world_fail(world, "%s/%d: the engine made a gap of %" PRId64, world_topics[part->topic],
                   part->partition, part->gap);
    for (int64_t at = first; at < part->next_offset; at++) {
        int64_t serial = serial_read(process, (int)part->topic, part->partition, at);
        if (serial < 0) {
            world_fail(world, "%s/%d@%" PRId64 " is counted and was not read", world_topics[part->topic],
                       part->partition, at);
            return 0;
        }
        markers += world_record(world, serial)->outcome == SIM_MARKER;
        *(struct sim_account *)table_add(&world->database.accounts, sizeof(struct sim_account)) =
            (struct sim_account){
                (int32_t)part->topic,    part->partition, at, serial, world->database.partition_count,
                is_dead(batch, part, at)};
    }
    return markers;
}

/* Every record that Kafka took in before then is counted. Clocks that are wrong make it wrong, but never
 * later than they say themselves. A log that was cut and has grown to the same length since looks read to its
 * end, until its records are looked at; one that was sent back, as far as it was read before. */
static void check_watermark(struct process *process, const struct batch_partition *part)
{
    struct world *world = process->world;
    const struct sim_log *log = &world->logs[part->topic][part->partition];
    if (world->clocks_stepped)
        return;
    if (part->seen_through_us > world->now_us)
        world_fail(world, "the watermark of lane %d is ahead of all clocks", part->partition);
    if (log->rewritten || world->fault_counts[FAULT_PRODUCER_AHEAD] > 0 ||
        world->fault_counts[FAULT_SEEK] > 0)
        return;
    for (int64_t at = part->next_offset; at < log->count; at++) {
        const struct sim_record *record = world_record(world, log->serials[at]);
        if (record->outcome != SIM_MARKER && record->appended_us < part->seen_through_us)
            world_fail(world, "%s/%d@%" PRId64 " came before the watermark, and is not counted",
                       world_topics[part->topic], part->partition, at);
    }
}

static void store_offset(struct process *process, const struct batch *batch,
                         const struct batch_partition *part)
{
    struct world *world = process->world;
    struct sim_offset *row = &world->database.offsets[part->topic][part->partition];
    int64_t first = part->first_offset < 0 ? 0 : part->first_offset;
    int64_t counted = part->accepted + part->duplicate + part->dead + part->hole + part->gap;
    if (counted != part->next_offset - first)
        world_fail(world, "topic %u lane %d: %" PRId64 " offsets from %" PRId64 " on are counted as %" PRId64,
                   part->topic, part->partition, part->next_offset - first, first, counted);
    if (account(process, batch, part) != part->hole)
        world_fail(world, "%s/%d from %" PRId64 " on: %" PRId64 " holes", world_topics[part->topic],
                   part->partition, first, part->hole);
    /* Of a commit that said nothing else nobody can tell afterwards: PostgreSQL keeps the later one. */
    if (part->seen_through_us < row->seen_through_us && world->fault_counts[FAULT_LOST_AFTER] == 0)
        world_fail(world, "the watermark of lane %d went back", part->partition);
    check_watermark(process, part);
    if (part->last_offset >= part->next_offset)
        world_fail(world, "%s/%d: the last record is at %" PRId64 ", the next one too, or before",
                   world_topics[part->topic], part->partition, part->last_offset);
    row->next_offset = part->next_offset;
    row->last_offset = part->last_offset;
    row->last_fingerprint = part->last_fingerprint;
    row->witness_offset = part->witness_offset;
    row->witness_fingerprint = part->witness_fingerprint;
    if (part->seen_through_us > row->seen_through_us)
        row->seen_through_us = part->seen_through_us;
    row->accepted += part->accepted;
    row->duplicate += part->duplicate;
    row->dead += part->dead;
    row->hole += part->hole;
    row->gap += part->gap;
    row->owner = process->number;
    row->updated_us = world->now_us;
    if (row->retired)
        world_fail(world, "%s/%d is counted, and was set aside", world_topics[part->topic], part->partition);
}

/* --- the transaction --- */

/* Segments of a day go once every lane has adopted its seal. */
static void store_segments(struct world *world, const struct batch *batch)
{
    for (size_t i = 0; i < batch->segment_count; i++) {
        const struct batch_segment *segment = &batch->segments[i];
        if (segment->keys.size_bytes > 0 && database_adopted(&world->database, segment->lane, segment->day))
            world_fail(world, "lane %d keeps keys of day %d, which it has adopted", segment->lane,
                       segment->day);
        *(struct sim_segment *)table_add(&world->database.segments, sizeof(struct sim_segment)) =
            (struct sim_segment){segment->lane, segment->day,
                                 world_keep(world, segment->keys.bytes, segment->keys.size_bytes),
                                 segment->keys.size_bytes, world->database.batch};
    }
    for (size_t i = 0; i < batch->adoption_count; i++)
        *(struct sim_adoption *)table_add(&world->database.adoptions, sizeof(struct sim_adoption)) =
            (struct sim_adoption){batch->adoptions[i].lane, batch->adoptions[i].day};
}

static void store_dead(struct process *process, const struct batch *batch)
{
    for (size_t i = 0; i < batch->dead_letter_count; i++) {
        const struct batch_dead_letter *dead = &batch->dead_letters[i];
        *(struct sim_account *)table_add(&process->world->database.dead, sizeof(struct sim_account)) =
            (struct sim_account){(int32_t)dead->topic,
                                 dead->partition,
                                 dead->offset,
                                 serial_read(process, (int)dead->topic, dead->partition, dead->offset),
                                 process->world->database.partition_count,
                                 true};
    }
}

static void write_batch(struct process *process, const struct sim_link *link, struct batch *batch)
{
    struct world *world = process->world;
    world->database.batch++;
    if (batch->learned != PARTITIONER_UNKNOWN)
        world->database.partitioner = batch->learned;
    const struct sim_event *rows = link->streamed.rows;
    for (size_t i = 0; i < link->streamed.count; i++)
        *(struct sim_event *)table_add(&world->database.events, sizeof *rows) = rows[i];
    store_sealed(world, batch);
    store_hours(world, batch);
    store_segments(world, batch);
    settle_pending(world, batch);
    store_enforcement(process, batch);
    store_dead(process, batch);
    for (size_t i = 0; i < batch->partition_count; i++)
        store_offset(process, batch, &batch->partitions[i]);
    for (size_t i = 0; i < batch->ceilings_adopted_count; i++) {
        int32_t lane = batch->ceilings_adopted[i];
        world->database.adopted_at[lane] = world->database.offsets[0][lane].next_offset;
    }
    world_trace(world, "process %d commits batch %" PRIu64 ": %zu events", process->number, batch->number,
                batch->event_count);
}

void sim_store_commit(struct process *process, struct store_job *job)
{
    struct batch *batch = job->batch;
    struct sim_link *link = &process->links[job->link];
    if (link->in_transaction != (job->stream_day != 0) ||
        (link->in_transaction && link->batch != batch->number))
        world_fail(process->world, "what was streamed is of another batch than the one that is committed");
    process->commit_began_us = link->began_us;
    bool acceptable_rows = sealed_acceptable(process, batch);
    for (size_t i = 0; acceptable_rows && i < batch->day_count; i++)
        acceptable_rows = stream_rows(process, link, &batch->days[i].rows, batch->days[i].left_out);
    if (!acceptable_rows)
        job->status = STORE_REFUSED;
    else if (fenced(process->world, batch, job))
        job->status = STORE_FENCED;
    else
        write_batch(process, link, batch);
    link->streamed.count = 0;
    link->in_transaction = false;
}
