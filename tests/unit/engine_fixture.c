#include "engine_fixture.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

const char *const topic_names[TOPICS] = {"usage", "usage-batch"};
const struct identity_secret secret = {"sixteen bytes !"};
struct world world = {.now_us = START_US, .steady_us = SECOND_US, .allocate = malloc};

/* A port has memory whatever the test says: WELL_FED, until the function ends. */
static void hungry_again(const bool *before)
{
    if (world.fail_nowhere)
        *world.fail_nowhere = *before;
}

static bool feed(void)
{
    bool before = world.fail_nowhere && *world.fail_nowhere;
    if (world.fail_nowhere)
        *world.fail_nowhere = true;
    return before;
}
#define WELL_FED __attribute__((cleanup(hungry_again))) bool was_fed = feed()

void *fake_zeroed(size_t count, size_t size)
{
    return memset(world.allocate(count * size + 1), 0, count * size + 1);
}

/* --- time --- */

static int64_t fake_now(void *self)
{
    (void)self;
    return world.now_us;
}

static int64_t fake_steady(void *self)
{
    (void)self;
    return world.steady_us;
}

void pass(int64_t us)
{
    world.now_us += us;
    world.steady_us += us;
}

/* --- logs --- */

struct record *put(uint32_t topic, int32_t partition, const char *customer_id, const char *json)
{
    struct fake_log *log = &world.logs[topic][partition];
    struct record *record = &log->records[log->count++];
    if (log->count > LOG_RECORDS)
        abort();
    *record = (struct record){.topic = topic,
                              .partition = partition,
                              .offset = log->high++,
                              .time_ms = world.now_us / 1000,
                              .key = text_of(customer_id),
                              .value = text_of(json)};
    return record;
}

struct record *put_event(uint32_t topic, int32_t partition, const char *customer_id, const char *event_id,
                         int quantity)
{
    static char texts[1 << 16], *next = texts;
    char *json = next;
    next += 1 + snprintf(next, (size_t)(texts + sizeof texts - next),
                         "{\"event_id\":\"%s\",\"customer_id\":\"%s\",\"meter\":\"tokens\",\"quantity\":%d}",
                         event_id, customer_id, quantity);
    if (next >= texts + sizeof texts)
        abort();
    return put(topic, partition, customer_id, json);
}

const struct record *record_at(const struct fake_log *log, int64_t offset)
{
    for (size_t i = 0; i < log->count; i++)
        if (log->records[i].offset == offset)
            return &log->records[i];
    return NULL;
}

static bool fetch(struct source_position *position, struct source_event *event)
{
    struct fake_log *log = &world.logs[position->topic][position->partition];
    size_t first = 0;
    int64_t from = world.skips_to[world.generation % 8];
    while (first < log->count &&
           (log->records[first].offset < position->offset || log->records[first].offset < from))
        first++;
    if (position->offset >= log->high)
        return false;
    *event = (struct source_event){.kind = SOURCE_RECORDS,
                                   .topic = position->topic,
                                   .partition = position->partition,
                                   .generation = world.generation,
                                   .records = &log->records[first],
                                   .record_count = log->count - first};
    if (first == log->count) {
        event->kind = SOURCE_END;
        event->offset = log->high;
    }
    position->offset = log->high;
    return true;
}

static void answer_probe(struct source_event *event)
{
    const struct fake_probe probe = world.probes[0];
    memmove(world.probes, world.probes + 1, --world.probe_count * sizeof probe);
    const struct fake_log *log = &world.logs[probe.topic][probe.partition];
    const struct record *record = probe.offset < 0 ? NULL : record_at(log, probe.offset);
    *event = (struct source_event){.kind = SOURCE_PROBED, .topic = probe.topic, .partition = probe.partition};
    event->probe = (struct source_probe){.question = probe.question,
                                         .low_offset = log->low,
                                         .high_offset = log->high,
                                         .asked_at_us = world.now_us,
                                         .partition_count = probe.topic > 0 && world.second_partition_count
                                                                ? world.second_partition_count
                                                                : world.partition_count,
                                         .asked_offset = probe.offset,
                                         .found = record != NULL,
                                         .fingerprint = record ? identity_fingerprint(&secret, record) : 0};
}

static void source_poll(void *self, int timeout_ms, struct source_event *event)
{
    WELL_FED;
    (void)self, (void)timeout_ms;
    if (world.event.kind != SOURCE_NOTHING) {
        *event = world.event;
        world.event.kind = SOURCE_NOTHING;
        return;
    }
    if (world.probe_count > 0 && !world.probes_unanswered) {
        answer_probe(event);
        return;
    }
    for (size_t i = 0; i < world.consumed_count && !world.held; i++)
        if (fetch(&world.consumed[i], event))
            return;
}

static uint64_t source_consume(void *self, const struct source_position *positions, size_t count)
{
    (void)self;
    memcpy(world.consumed, positions, count * sizeof *positions);
    world.consumed_count = count;
    return ++world.generation;
}

static void source_hold(void *self, bool held)
{
    (void)self;
    world.held = held;
}

static void source_probe(void *self, uint32_t topic, int32_t partition, int64_t fingerprint_offset,
                         uint64_t question)
{
    (void)self;
    world.probes[world.probe_count++ % 16] =
        (struct fake_probe){topic, partition, fingerprint_offset, question};
}

static void source_release(void *self)
{
    (void)self;
    world.released = true;
    world.consumed_count = 0;
}

static void source_committed(void *self, const struct source_position *positions, size_t count)
{
    (void)self, (void)positions, (void)count;
}

/* --- the store --- */

void fake_commit(const struct batch *batch)
{
    for (size_t i = 0; i < batch->partition_count; i++) {
        const struct batch_partition *row = &batch->partitions[i];
        world.rows[row->topic][row->partition] = (struct fake_row){true,
                                                                   row->epoch,
                                                                   row->next_offset,
                                                                   row->last_offset,
                                                                   row->last_fingerprint,
                                                                   row->witness_offset,
                                                                   row->witness_fingerprint};
    }
    if (batch->ceilings_adopted_count > 0)
        world.lane_generation = batch->ceilings_generation;
}

static void take_lane(struct store_lane *lane)
{
    lane->arena = fake_zeroed(1, sizeof *lane->arena);
    arena_init(lane->arena, 4096);
    lane->offsets = arena_alloc(lane->arena, TOPICS * sizeof *lane->offsets);
    lane->kept = lane->kept_epoch > 0 && lane->kept_epoch == world.rows[0][lane->lane].epoch;
    world.epochs = lane->epoch_above > world.epochs ? lane->epoch_above : world.epochs;
    lane->epoch = lane->kept ? lane->kept_epoch : ++world.epochs;
    for (uint32_t t = 0; t < world.topics; t++) {
        struct fake_row *row = &world.rows[t][lane->lane];
        if (!row->exists)
            *row = (struct fake_row){true, 0, -1, -1, 0, -1, 0};
        row->epoch = lane->epoch;
        lane->offsets[t] = world.limits[t][lane->lane];
        lane->offsets[t].topic = t;
        lane->offsets[t].fresh = row->next_offset < 0;
        lane->offsets[t].next_offset = row->next_offset;
        lane->offsets[t].last_offset = row->last_offset;
        lane->offsets[t].last_fingerprint = row->fingerprint;
        lane->offsets[t].witness_offset = row->witness_offset;
        lane->offsets[t].witness_fingerprint = row->witness_fingerprint;
    }
    if (lane->kept)
        return;
    lane->dedupe = dedupe_new();
    lane->book = ceiling_book_new(lane->lane, (struct lookup_seed){{1, 2}});
    lane->ceilings_generation = world.lane_generation;
    lane->sealed_days = world.sealed;
    lane->sealed_day_count = world.adopts_seals ? world.sealed_count : 0;
}

static void read_settings(struct store_job *job)
{
    if (world.settings.partition_count == 0)
        world.settings.partition_count = job->settings.partition_count;
    job->settings = world.settings;
    if (world.catalogue && job->known_generation != world.catalogue_generation)
        job->catalogue = world.catalogue();
    if (job->kind != STORE_CATALOGUE)
        return;
    job->sealed_days = fake_zeroed(4, sizeof *job->sealed_days);
    memcpy(job->sealed_days, world.sealed, sizeof world.sealed);
    job->sealed_day_count = world.sealed_count;
}

static void do_job(struct store_job *job)
{
    if (job->kind == STORE_COMMIT)
        fake_commit(job->batch);
    for (size_t i = 0; i < job->lane_count; i++)
        take_lane(&job->lanes[i]);
    if (job->kind == STORE_TAKEOVER || job->kind == STORE_CATALOGUE)
        read_settings(job);
    for (size_t i = 0; i < job->fact_count; i++) {
        const struct fake_row *row = &world.rows[job->facts[i].topic][job->facts[i].partition];
        job->facts[i].found = row->exists;
        job->facts[i].epoch = row->epoch;
        job->facts[i].next_offset = row->next_offset;
    }
}

static bool done_alone(enum store_job_kind kind)
{
    return kind == STORE_TAKEOVER || kind == STORE_RECOVER || kind == STORE_SEED;
}

static bool may_meet(enum store_job_kind one, enum store_job_kind other)
{
    return !done_alone(one) && !done_alone(other) &&
           (one != STORE_COMMIT || other == STORE_STREAM || other == STORE_GIVE_UP);
}

static uint64_t batch_of(const struct store_job *job)
{
    return job->kind == STORE_COMMIT ? job->batch->number : job->stream_batch;
}

/* What store.h asks of who submits. */
static void check_order(const struct store_job *job)
{
    uint64_t open = world.streamed[job->link];
    ck_assert_msg(!world.under_way[job->link], "a link is given job %d while it has one", (int)job->kind);
    for (size_t i = 0; i < STORE_LINKS; i++) {
        const struct store_job *other = world.under_way[i];
        ck_assert_msg(!other || (may_meet(job->kind, other->kind) && may_meet(other->kind, job->kind)),
                      "job %d meets job %d", (int)job->kind, (int)other->kind);
        ck_assert_msg(!done_alone(job->kind) || job->kind == STORE_RECOVER || !world.streamed[i],
                      "job %d meets a transaction", (int)job->kind);
    }
    if (job->kind == STORE_STREAM)
        ck_assert_msg(!open || open == batch_of(job), "rows are streamed into another batch's transaction");
    if (job->kind == STORE_COMMIT)
        ck_assert_msg(open == (job->stream_day ? batch_of(job) : 0), "another transaction is committed");
    if (job->kind == STORE_CATALOGUE)
        ck_assert_msg(!open, "a transaction is ended by a look at the catalogue");
    if (job->kind == STORE_GIVE_UP)
        ck_assert_msg(open, "there is nothing to give up");
}

static void store_submit(void *self, struct store_job *job)
{
    WELL_FED;
    (void)self;
    check_order(job);
    world.under_way[job->link] = job;
}

/* A connection is lost with its transaction; what fails is rolled back. */
static void note_transaction(const struct store_job *job)
{
    bool open = job->kind == STORE_STREAM && job->status == STORE_DONE;
    world.streamed[job->link] = open ? job->stream_batch : 0;
    for (size_t i = 0; job->kind == STORE_RECOVER && i < STORE_LINKS; i++)
        world.streamed[i] = 0;
}

static struct store_job *next_answered(void)
{
    for (size_t i = 0; i < STORE_LINKS; i++) {
        struct store_job *job = world.under_way[i];
        if (!job || world.silent[job->kind])
            continue;
        world.under_way[i] = NULL;
        return job;
    }
    return NULL;
}

static struct store_job *store_poll(void *self)
{
    WELL_FED;
    (void)self;
    struct store_job *job = next_answered();
    if (!job)
        return NULL;
    if (world.before)
        world.before(job);
    job->status = world.answers[job->kind];
    world.answers[job->kind] = STORE_DONE;
    if (job->status == STORE_DONE)
        do_job(job);
    else
        snprintf(job->detail, sizeof job->detail, "said the test");
    note_transaction(job);
    world.jobs[job->kind]++;
    if (world.after)
        world.after(job);
    return job;
}

struct store_job *job_under_way(enum store_job_kind kind)
{
    for (size_t i = 0; i < STORE_LINKS; i++)
        if (world.under_way[i] && world.under_way[i]->kind == kind)
            return world.under_way[i];
    return NULL;
}

/* --- flags --- */

static bool flags_publish(void *self, int32_t lane, struct text key, struct text value,
                          struct flag_sequence sequence, uint64_t cookie)
{
    (void)self, (void)key, (void)sequence;
    if (world.queue_full)
        return false;
    struct fake_flag *flag = &world.sent[world.sent_count++ % 64];
    *flag = (struct fake_flag){.lane = lane, .cookie = cookie};
    snprintf(flag->value, sizeof flag->value, "%.*s", (int)value.length, value.bytes ? value.bytes : "");
    if (!world.unacknowledged)
        world.flag_events[world.flag_event_count++] = (struct flag_event){
            .kind = FLAG_ACKNOWLEDGED, .lane = lane, .cookie = cookie, .acknowledged_at_us = world.now_us};
    return true;
}

static void flags_poll(void *self, struct flag_event *event)
{
    (void)self;
    if (world.flag_event_count == 0)
        return;
    *event = world.flag_events[0];
    memmove(world.flag_events, world.flag_events + 1, --world.flag_event_count * sizeof *event);
}

static void flags_tail(void *self, int32_t lane)
{
    (void)self;
    if (world.on_topic.kind == FLAG_SEEN)
        world.flag_events[world.flag_event_count++] = world.on_topic;
    world.flag_events[world.flag_event_count++] = (struct flag_event){.kind = FLAG_CAUGHT_UP, .lane = lane};
}

static void flags_untail(void *self, int32_t lane)
{
    (void)self, (void)lane;
}

/* --- what is observed --- */

static void observe_note(void *self, enum note_level level, int32_t lane, const char *sentence)
{
    (void)self;
    size_t length = strlen(world.notes);
    snprintf(world.notes + length, sizeof world.notes - length, "%d: %s\n", lane, sentence);
    world.alerts += level == NOTE_ALERT;
}

static void observe_batch(void *self, const struct store_job *job)
{
    (void)self, (void)job;
}

static void observe_flag(void *self, int64_t since_decided_us, int64_t since_record_us)
{
    (void)self, (void)since_decided_us, (void)since_record_us;
}

bool noted(const char *part)
{
    return strstr(world.notes, part) != NULL;
}

void forget_notes(void)
{
    world.notes[0] = '\0';
    world.alerts = 0;
}

/* --- the engine --- */

struct pipeline_options default_options(void)
{
    return (struct pipeline_options){.topics = topic_names,
                                     .topic_count = 1,
                                     .rules = {.max_age_us = 400 * DAY_US, .max_future_us = 300 * SECOND_US},
                                     .partitioner = PARTITIONER_MURMUR2,
                                     .max_rows = 50,
                                     .max_delay_us = SECOND_US,
                                     .max_batch_bytes = 1 << 20};
}

struct pipeline *begin(const struct pipeline_options *options)
{
    const struct pipeline_ports ports = {.source = {source_poll, source_consume, source_hold, source_probe,
                                                    source_release, source_committed, NULL},
                                         .store = {store_submit, store_poll, NULL},
                                         .flags = {flags_publish, flags_poll, flags_tail, flags_untail, NULL},
                                         .clock = {fake_now, fake_steady, NULL},
                                         .observer = {observe_note, observe_batch, observe_flag, NULL}};
    world.topics = options->topic_count;
    world.partition_count = world.partition_count ? world.partition_count : 1;
    world.settings.secret = secret;
    return world.engine = pipeline_new(options, &ports);
}

void turns(int count)
{
    for (int i = 0; i < count; i++) {
        pass(SECOND_US / 100);
        pipeline_turn(world.engine, 0);
    }
}

void assign(int32_t lanes)
{
    static struct source_position assigned[TOPICS * LANES];
    size_t count = 0;
    for (uint32_t t = 0; t < world.topics; t++)
        for (int32_t i = 0; i < lanes; i++)
            assigned[count++] = (struct source_position){t, i, 0};
    world.event =
        (struct source_event){.kind = SOURCE_ASSIGNED, .assigned = assigned, .assigned_count = count};
}

void run_lanes(const struct pipeline_options *options, int32_t lanes)
{
    world.partition_count = lanes;
    begin(options);
    assign(lanes);
    turns(30);
}

struct pipeline_partition partition(size_t index)
{
    struct pipeline_partition found = {.phase = LANE_IDLE};
    if (index < pipeline_partitions(world.engine))
        pipeline_partition(world.engine, index, &found);
    return found;
}

enum lane_phase phase(int32_t lane)
{
    return partition((size_t)lane * world.topics).phase;
}

void read_two(const struct pipeline_options *options)
{
    put_event(0, 0, "ann", "e1", 1);
    put_event(0, 0, "ann", "e2", 1);
    run_lanes(options, 1);
    turns(200);
    ck_assert_int_eq(partition(0).committed, 2);
}

static struct ceiling_catalogue *one_ceiling(void)
{
    struct ceiling_catalogue *catalogue = ceiling_catalogue_new(1);
    const struct ceiling ceiling = {.name = TEXT("daily"),
                                    .version = 1,
                                    .who_kind = WHO_EVERYONE,
                                    .meter = TEXT("tokens"),
                                    .period = PERIOD_DAY,
                                    .policy = POLICY_HARD_STOP,
                                    .limit = 10 * DECIMAL_ONE,
                                    .clear_level = 10 * DECIMAL_ONE};
    if (!catalogue || !ceiling_catalogue_add(catalogue, &ceiling))
        abort();
    catalogue->generation = world.catalogue_generation;
    return catalogue;
}

void with_ceilings(int64_t generation)
{
    world.catalogue = one_ceiling;
    world.catalogue_generation = world.lane_generation = generation;
}

void end(void)
{
    for (size_t i = 0; i < STORE_LINKS; i++) {
        pipeline_abandon(world.engine, world.under_way[i]);
        world.under_way[i] = NULL;
        world.streamed[i] = 0;
    }
    pipeline_free(world.engine);
}

void teardown(void)
{
    if (world.engine)
        end();
}
