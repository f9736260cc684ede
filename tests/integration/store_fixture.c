#include "store_fixture.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "rollup/migrate.h"
#include "tests/unit/suite.h"

const char *const topics[2] = {"usage", "usage-eu"};

const char *test_dsn(void)
{
    return getenv("USAGEBOX_TEST_DSN");
}

const char *writer_dsn(void)
{
    return getenv("USAGEBOX_TEST_WRITER_DSN");
}

const char *writer_role(void)
{
    static char role[PG_NAME_BYTES];
    PQconninfoOption *options = PQconninfoParse(writer_dsn(), NULL);
    for (const PQconninfoOption *option = options; option && option->keyword; option++)
        if (strcmp(option->keyword, "user") == 0)
            snprintf(role, sizeof role, "%s", option->val);
    PQconninfoFree(options);
    return role;
}

int64_t this_day_us(void)
{
    return (int64_t)time(NULL) * 1000000 / DAY_US * DAY_US;
}

/* --- a second look --- */

static PGresult *answer_to(const char *format, va_list arguments)
{
    char sql[2000];
    vsnprintf(sql, sizeof sql, format, arguments);
    struct pg pg = {0};
    ck_assert_msg(pg_open(&pg, test_dsn(), "test"), "%s", pg.failure.detail);
    PGresult *result = PQexec(pg.connection, sql);
    ExecStatusType status = PQresultStatus(result);
    ck_assert_msg(status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK, "%s: %s", sql,
                  PQresultErrorMessage(result));
    pg_close(&pg);
    return result;
}

void run_sql(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    PQclear(answer_to(format, arguments));
    va_end(arguments);
}

const char *ask_sql(const char *format, ...)
{
    static char answer[4000];
    va_list arguments;
    va_start(arguments, format);
    PGresult *result = answer_to(format, arguments);
    va_end(arguments);
    snprintf(answer, sizeof answer, "%s", PQntuples(result) ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return answer;
}

/* --- stores --- */

struct postgres_store *new_store(void)
{
    const struct postgres_store_options options = {
        .dsn = writer_dsn(), .owner_dsn = test_dsn(), .topics = topics, .topic_count = 2};
    struct postgres_store *store = postgres_store_new(&options);
    ck_assert_ptr_nonnull(store);
    return store;
}

void take(struct postgres_store *store, int32_t lane, struct taken *taken)
{
    *taken = (struct taken){0};
    taken->lane.lane = lane;
    taken->job = (struct store_job){.kind = STORE_TAKEOVER,
                                    .lanes = &taken->lane,
                                    .lane_count = 1,
                                    .known_generation = -1,
                                    .settings.partition_count = 64};
    postgres_store_perform(store, &taken->job);
    ck_assert_done(taken->job);
}

void taken_free(struct taken *taken)
{
    if (taken->lane.dedupe)
        dedupe_free(taken->lane.dedupe);
    if (taken->lane.book)
        ceiling_book_free(taken->lane.book);
    if (taken->lane.adopted)
        ceiling_catalogue_free(taken->lane.adopted);
    if (taken->lane.arena)
        arena_free(taken->lane.arena);
    free(taken->lane.arena);
    if (taken->job.catalogue)
        ceiling_catalogue_free(taken->job.catalogue);
    *taken = (struct taken){0};
}

/* --- batches --- */

struct batch *new_batch(void)
{
    const struct accumulator_rules rules = {
        .dimensions = {LIFTED_PROVIDER}, .dimension_count = 1, .runs = true, .hash_seed = {1, 2}};
    static struct row_pool pool;
    struct batch *batch = batch_new(&rules, &pool);
    ck_assert_ptr_nonnull(batch);
    return batch;
}

void open_batch(struct batch *batch, const struct taken *taken)
{
    batch_reset(batch);
    for (uint32_t topic = 0; topic < 2; topic++) {
        const struct store_lane_offset *offset = &taken->lane.offsets[topic];
        struct batch_partition part = {.topic = topic,
                                       .partition = taken->lane.lane,
                                       .epoch = taken->lane.epoch,
                                       .first_offset = offset->next_offset,
                                       .next_offset = offset->fresh ? 0 : offset->next_offset,
                                       .last_offset = offset->last_offset};
        ck_assert(batch_add_partition(batch, &part));
    }
}

void advance(struct taken *taken, const struct batch *batch)
{
    for (size_t i = 0; i < batch->partition_count; i++) {
        struct store_lane_offset *offset = &taken->lane.offsets[batch->partitions[i].topic];
        offset->next_offset = batch->partitions[i].next_offset;
        offset->last_offset = batch->partitions[i].last_offset;
        offset->fresh = false;
    }
}

struct event an_event(const char *event_id, int64_t time_us)
{
    return (struct event){.event_id = text_of(event_id),
                          .customer_id = TEXT("acme-co"),
                          .meter = TEXT("llm_tokens_in"),
                          .model = TEXT("claude-4.5-sonnet"),
                          .quantity = 12450 * DECIMAL_ONE,
                          .time_us = time_us};
}

struct copy_origin take_offset(struct batch *batch, const char *payload)
{
    struct batch_partition *part = &batch->partitions[0];
    part->last_offset = part->next_offset++;
    part->seen_through_us = this_day_us();
    return (struct copy_origin){.topic = text_of(topics[part->topic]),
                                .partition = part->partition,
                                .offset = part->last_offset,
                                .ingested_at_us = this_day_us(),
                                .payload = text_of(payload)};
}

void accept_event(struct batch *batch, const struct taken *taken, const struct event *event)
{
    const struct identity_secret *secret = &taken->job.settings.secret;
    struct copy_origin origin = take_offset(batch, "{\"payload\": 1}");
    ck_assert(batch_accept(batch, secret, 0, event, &origin));
    ck_assert(batch_segment_add(batch, taken->lane.lane, (uint16_t)(event->time_us / DAY_US),
                                identity_key(secret, event), identity_content(secret, event)));
}

void defer_event(struct batch *batch, const struct event *event, bool counted)
{
    struct copy_origin origin = take_offset(batch, "{\"payload\": 2}");
    ck_assert(batch_defer(batch, 0, event, &origin, counted));
}

void defer_or_refuse(struct batch *batch, const struct event *event)
{
    struct copy_origin origin = take_offset(batch, "{\"payload\": 3}");
    const struct record record = {.partition = origin.partition,
                                  .offset = origin.offset,
                                  .time_ms = -1,
                                  .key = event->customer_id,
                                  .value = origin.payload};
    ck_assert(batch_defer_or_refuse(batch, 0, event, &origin, &record, REFUSAL_WRONG_PARTITION, "moved"));
}

enum store_status commit_over(struct postgres_store *store, int link, struct batch *batch,
                              uint16_t stream_day, struct store_job *job)
{
    *job = (struct store_job){.kind = STORE_COMMIT, .link = link, .batch = batch, .stream_day = stream_day};
    postgres_store_perform(store, job);
    return job->status;
}

enum store_status commit_job(struct postgres_store *store, struct batch *batch, uint16_t stream_day,
                             struct store_job *job)
{
    return commit_over(store, 0, batch, stream_day, job);
}

void commit(struct postgres_store *store, struct batch *batch, struct taken *taken)
{
    struct store_job job;
    commit_job(store, batch, 0, &job);
    ck_assert_done(job);
    advance(taken, batch);
}

uint16_t stream_over(struct postgres_store *store, int link, struct batch *batch, enum store_status expected)
{
    struct store_job job = {.kind = STORE_STREAM,
                            .link = link,
                            .rows = row_queue_take(&batch->days[0].rows, SIZE_MAX),
                            .stream_day = batch->days[0].day,
                            .stream_left_out = batch->days[0].left_out,
                            .stream_batch = batch->number};
    postgres_store_perform(store, &job);
    ck_assert_msg(job.status == expected, "status %d: %s", (int)job.status, job.detail);
    row_queue_reset(&job.rows, batch->pool);
    return job.stream_day;
}

uint16_t stream(struct postgres_store *store, struct batch *batch, enum store_status expected)
{
    return stream_over(store, 0, batch, expected);
}

struct store_job recover(struct postgres_store *store, struct store_fact *facts, size_t count)
{
    struct store_job job = {.kind = STORE_RECOVER, .facts = facts, .fact_count = count};
    postgres_store_perform(store, &job);
    return job;
}

/* --- running --- */

static void say_nothing(void *context, const char *sentence)
{
    (void)context, (void)sentence;
}

static bool grant_writer(struct pg *pg)
{
    char sql[200];
    snprintf(sql, sizeof sql, "GRANT usagebox_writer TO %s", writer_role());
    return pg_run(pg, sql);
}

bool prepare_database(const char *dsn)
{
    struct pg pg = {0};
    bool ok =
        pg_open(&pg, dsn, "test") && migrate_run(&pg, migrations, 60, say_nothing, NULL) && grant_writer(&pg);
    if (!ok)
        fprintf(stderr, "%s\n", pg.failure.detail);
    pg_close(&pg);
    return ok;
}

int run_store_tests(const char *name, void (*add_tests)(TCase *tests))
{
    if (!test_dsn() || !writer_dsn()) {
        fprintf(stderr, "USAGEBOX_TEST_DSN and USAGEBOX_TEST_WRITER_DSN must name a database\n");
        return EXIT_FAILURE;
    }
    return prepare_database(test_dsn()) ? run_suite(name, add_tests) : EXIT_FAILURE;
}
