/* Stores, batches and a second look at the database, for the tests of the PostgreSQL store. Each test has
 * lanes of its own, so that all share the database that USAGEBOX_TEST_DSN names; it is migrated first. */
#ifndef UB_STORE_FIXTURE_H
#define UB_STORE_FIXTURE_H

#include <check.h>

#include "rollup/ledger.h"
#include "rollup/pg.h"
#include "rollup/postgres_store.h"

#define HOUR_US (INT64_C(3600) * 1000000)
#define DAY_US (24 * HOUR_US)

extern const char *const topics[2];

const char *test_dsn(void);
const char *writer_dsn(void); /* who the stores are: somebody with no more than the writer's rights */
const char *writer_role(void);
int64_t this_day_us(void);

/* --- a second look --- */

void run_sql(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The first column of the first row, as text, until the next call; "" if there is none. */
const char *ask_sql(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define ck_assert_sql(expected, ...) ck_assert_str_eq(ask_sql(__VA_ARGS__), expected)

/* --- stores --- */

struct postgres_store *new_store(void);
struct store_job recover(struct postgres_store *store, struct store_fact *facts, size_t count);

#define ck_assert_done(job)                                                                                  \
    ck_assert_msg((job).status == STORE_DONE, "status %d: %s", (int)(job).status, (job).detail)

/* One lane taken over: its share of the job, and what else the job said. */
struct taken {
    struct store_job job;
    struct store_lane lane;
};
void take(struct postgres_store *store, int32_t lane, struct taken *taken);
void taken_free(struct taken *taken);

/* --- batches --- */

struct batch *new_batch(void);
void open_batch(struct batch *batch, const struct taken *taken); /* both topics' partitions as they stand */
void advance(struct taken *taken, const struct batch *batch);    /* what the next batch begins with */

struct event an_event(const char *event_id, int64_t time_us);
struct copy_origin take_offset(struct batch *batch, const char *payload); /* the next one */
void accept_event(struct batch *batch, const struct taken *taken, const struct event *event);
void defer_event(struct batch *batch, const struct event *event, bool counted);
void defer_or_refuse(struct batch *batch, const struct event *event); /* what may not be new any more */

/* Over link 0, unless it is said over which. */
enum store_status commit_over(struct postgres_store *store, int link, struct batch *batch,
                              uint16_t stream_day, struct store_job *job);
enum store_status commit_job(struct postgres_store *store, struct batch *batch, uint16_t stream_day,
                             struct store_job *job);
void commit(struct postgres_store *store, struct batch *batch, struct taken *taken);
/* Moves what the batch has of its first day to the store. Returns the day. */
uint16_t stream(struct postgres_store *store, struct batch *batch, enum store_status expected);
uint16_t stream_over(struct postgres_store *store, int link, struct batch *batch, enum store_status expected);

/* Migrates it, and makes the writer's role one. False: stderr says why. */
bool prepare_database(const char *dsn);

/* As run_suite() does, once the database is there. */
int run_store_tests(const char *name, void (*add_tests)(TCase *tests));

#endif
