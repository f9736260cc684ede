#include "links_fixture.h"

#include <check.h>
#include <stdio.h>

int64_t rows_committed;
bool commit_unheard;
int32_t fenced_lane;

struct pipeline_options small_batches(void)
{
    struct pipeline_options options = default_options();
    options.max_rows = ROWS_FULL;
    options.max_batch_bytes = 1 << 14;
    return options;
}

/* Long ones. */
void use(int32_t lane, int count)
{
    static const char *const customers[] = {"ann", "cat"}; /* at home in lane 0 and 1 of two */
    static char texts[2][LOG_RECORDS][250];
    for (int i = 0; i < count; i++) {
        size_t number = world.logs[0][lane].count;
        snprintf(texts[lane][number], sizeof texts[0][0],
                 "{\"event_id\":\"%0120zu\",\"customer_id\":\"%s\",\"meter\":\"tokens\",\"quantity\":1}",
                 number, customers[lane]);
        put(0, lane, customers[lane], texts[lane][number]);
    }
}

static void commit(const struct batch *batch)
{
    for (size_t i = 0; i < batch->partition_count; i++) {
        const struct batch_partition *row = &batch->partitions[i];
        int64_t stands_at = world.rows[0][row->partition].next_offset;
        ck_assert_int_eq(row->first_offset < 0 ? 0 : row->first_offset, stands_at < 0 ? 0 : stands_at);
        rows_committed += row->accepted;
    }
}

static void fence(struct store_job *job)
{
    job->fenced_lanes = fake_zeroed(1, sizeof *job->fenced_lanes);
    job->fenced_lanes[job->fenced_count++] = fenced_lane;
    world.rows[0][fenced_lane].epoch = ++world.epochs;
}

void answer_commit(struct store_job *job)
{
    if (job->kind != STORE_COMMIT)
        return;
    enum store_status status = world.answers[STORE_COMMIT];
    bool took_place = status == STORE_DONE || (status == STORE_LOST && commit_unheard);
    if (took_place)
        commit(job->batch);
    if (took_place && commit_unheard)
        fake_commit(job->batch);
    if (status == STORE_FENCED)
        fence(job);
    commit_unheard = false;
}

void links_begin(const struct pipeline_options *options, int32_t lanes)
{
    world = (struct world){.now_us = START_US,
                           .steady_us = SECOND_US,
                           .allocate = world.allocate,
                           .fail_nowhere = world.fail_nowhere};
    rows_committed = 0;
    commit_unheard = false;
    fenced_lane = 0;
    world.before = answer_commit;
    run_lanes(options, lanes);
}

static void run(int32_t lanes)
{
    const struct pipeline_options options = small_batches();
    links_begin(&options, lanes);
}

/* Batches take turns with the links: `turned`, the next one has the second. */
static void run_turned(bool turned)
{
    run(1);
    if (!turned)
        return;
    use(0, ROWS_FULL);
    turns(3);
    ck_assert_int_eq(partition(0).committed, ROWS_FULL);
}

void all_is_counted_once(const char *when)
{
    int64_t high = world.logs[0][0].high;
    ck_assert_msg(partition(0).committed == high, "%s: %lld of %lld are committed", when,
                  (long long)partition(0).committed, (long long)high);
    ck_assert_msg(rows_committed == high, "%s: %lld of %lld are counted", when, (long long)rows_committed,
                  (long long)high);
    ck_assert_msg(pipeline_stats(world.engine)->duplicates == 0, "%s: a record was taken for a repeat", when);
}

void commit_beside_a_stream(bool turned)
{
    run_turned(turned);
    world.silent[STORE_COMMIT] = world.silent[STORE_STREAM] = true;
    use(0, ROWS_FULL);
    turns(3);
    ck_assert_ptr_nonnull(job_under_way(STORE_COMMIT));
    use(0, ROWS_WORTH);
    turns(3);
    ck_assert_ptr_nonnull(job_under_way(STORE_STREAM));
}

void stream_beside_a_catalogue(bool turned)
{
    run_turned(turned);
    world.silent[STORE_STREAM] = world.silent[STORE_CATALOGUE] = true;
    use(0, ROWS_WORTH);
    turns(3);
    ck_assert_ptr_nonnull(job_under_way(STORE_STREAM));
    turns(100);
    ck_assert_ptr_nonnull(job_under_way(STORE_CATALOGUE));
}

/* The second lane is fenced while rows of the next batch are there already; the first lane goes on. */
static void give_up_rows(int first_rows, int64_t max_rows, int wait)
{
    struct pipeline_options options = small_batches();
    options.max_rows = max_rows;
    links_begin(&options, 2);
    world.silent[STORE_COMMIT] = true;
    use(0, first_rows);
    turns(wait);
    ck_assert_ptr_nonnull(job_under_way(STORE_COMMIT));
    use(0, ROWS_WORTH);
    turns(3);
    ck_assert_uint_eq(world.jobs[STORE_STREAM], 1);
    world.silent[STORE_STREAM] = world.silent[STORE_GIVE_UP] = true;
    world.silent[STORE_COMMIT] = false;
    world.answers[STORE_COMMIT] = STORE_FENCED;
    fenced_lane = 1;
    turns(1);
    ck_assert_ptr_nonnull(job_under_way(STORE_GIVE_UP));
    world.silent[STORE_COMMIT] = true;
    fenced_lane = 0;
    turns(3);
}

void stream_beside_a_given_up_batch(bool turned)
{
    (void)turned;
    give_up_rows(2, LOG_RECORDS, 110);
    ck_assert_ptr_nonnull(job_under_way(STORE_STREAM));
}

void commit_beside_a_given_up_batch(bool turned)
{
    (void)turned;
    give_up_rows(ROWS_FULL, ROWS_FULL, 3);
    ck_assert_ptr_nonnull(job_under_way(STORE_COMMIT));
}
