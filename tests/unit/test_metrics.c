#include "consumer/metrics.h"

#include <check.h>
#include <inttypes.h>
#include <stdlib.h>
#include <stdio.h>

#include "suite.h"

#define NOW_US INT64_C(1795608000000000)
#define S INT64_C(1000000)

static struct metrics_partition partitions[3];
static struct metrics_snapshot snapshot;

/* Two topics' partitions of lane 0, which runs, and one of lane 1. */
static void setup(void)
{
    partitions[0] = (struct metrics_partition){.topic = "usage",
                                               .phase = LANE_RUNNING,
                                               .committed = 90,
                                               .high_offset = 100,
                                               .seen_through_us = 5 * S / 2};
    partitions[1] = (struct metrics_partition){
        .topic = "more\"us\\age\n", .phase = LANE_RUNNING, .committed = 7, .high_offset = 7};
    partitions[2] = (struct metrics_partition){
        .topic = "usage", .partition = 1, .phase = LANE_RUNNING, .committed = 5, .high_offset = 5};
    snapshot = (struct metrics_snapshot){.published = true,
                                         .turned_us = 1000 * S,
                                         .clock_us = NOW_US,
                                         .partitions = partitions,
                                         .partition_count = 3,
                                         .stats = {.store_up = true, .last_commit_us = NOW_US - 3 * S / 2}};
}

static char *written;
static size_t written_bytes;

static void teardown(void)
{
    free(written);
    written = NULL;
}

static FILE *begin(void)
{
    teardown();
    FILE *out = open_memstream(&written, &written_bytes);
    ck_assert_ptr_nonnull(out);
    return out;
}

static void render(void)
{
    FILE *out = begin();
    metrics_render(&snapshot, NOW_US, out);
    fclose(out);
}

static bool ready(void)
{
    FILE *out = begin();
    bool answer = metrics_ready(&snapshot, 1000 * S, out);
    fclose(out);
    return answer;
}

static bool alive(int64_t now_us)
{
    FILE *out = begin();
    bool answer = metrics_alive(&snapshot, now_us, out);
    fclose(out);
    return answer;
}

static bool has_line(const char *line)
{
    size_t length = strlen(line);
    for (const char *at = written; (at = strstr(at, line)); at++)
        if ((at == written || at[-1] == '\n') && at[length] == '\n')
            return true;
    return false;
}

static void expect_line(const char *line)
{
    ck_assert_msg(has_line(line), "no line %s in\n%s", line, written);
}

static void expect_text(const char *text)
{
    ck_assert_msg(strstr(written, text) != NULL, "no %s in\n%s", text, written);
}

START_TEST(figures_are_the_engines)
{
    snapshot.stats.accepted = 12;
    snapshot.stats.dedupe_bytes = 320;
    snapshot.stats.flags_published = 9;
    snapshot.stats.flags_acknowledged = 6;
    snapshot.stats.flags_failed = 1;
    snapshot.rollbacks[STORE_LOST] = 4;
    render();
    expect_line("usagebox_events_accepted_total 12");
    expect_line("# TYPE usagebox_events_accepted_total counter");
    expect_line("usagebox_dedupe_bytes 320");
    expect_line("usagebox_flags_pending 2");
    expect_line("usagebox_store_up 1");
    expect_line("usagebox_rollbacks_total{cause=\"lost\"} 4");
    expect_line("usagebox_rollbacks_total{cause=\"fenced\"} 0");
    expect_line("usagebox_last_commit_age_seconds 1.500000");
}
END_TEST

START_TEST(every_reason_of_a_dead_letter_is_always_there)
{
    snapshot.stats.dead[REFUSAL_TOO_OLD] = 3;
    render();
    for (int reason = REFUSAL_NONE + 1; reason < REFUSAL_COUNT; reason++) {
        char line[200];
        if (reason == REFUSAL_NO_MEMORY)
            continue;
        snprintf(line, sizeof line, "usagebox_dead_letters_total{reason=\"%s\"} %d", refusal_names[reason],
                 reason == REFUSAL_TOO_OLD ? 3 : 0);
        expect_line(line);
    }
}
END_TEST

START_TEST(lag_is_told_by_partition_as_far_as_it_is_known)
{
    partitions[2].high_offset = -1;
    render();
    expect_line("usagebox_lag_records{topic=\"usage\",partition=\"0\"} 10");
    expect_line("usagebox_lag_records{topic=\"more\\\"us\\\\age\\n\",partition=\"0\"} 0");
    expect_line("usagebox_seen_through_timestamp_seconds{topic=\"usage\",partition=\"0\"} 2.500000");
    ck_assert_ptr_null(strstr(written, "partition=\"1\""));
}
END_TEST

START_TEST(a_lane_that_went_elsewhere_is_told_by_its_new_owner)
{
    partitions[2].phase = LANE_IDLE;
    render();
    ck_assert_ptr_null(strstr(written, "partition=\"1\""));
    expect_line("usagebox_lanes{state=\"idle\"} 1");
    expect_line("usagebox_lanes{state=\"running\"} 1");
    expect_line("usagebox_lanes{state=\"stopped\"} 0");
}
END_TEST

/* Observes and publishes what a histogram says. */
static void observe(enum metrics_histogram which, const int64_t *values, size_t count)
{
    struct metrics *metrics = metrics_new();
    for (size_t i = 0; i < count; i++)
        metrics_observe(metrics, which, values[i]);
    struct store_job lost = {.status = STORE_LOST};
    metrics_batch_done(metrics, &lost);
    metrics_observed(metrics, &snapshot);
    metrics_free(metrics);
}

START_TEST(buckets_are_cumulative_and_include_their_bounds)
{
    observe(METRICS_FLAG_DECIDED_SECONDS, (int64_t[]){-5, 1000, 1001, 59999999, 60000000, 60000001, 900 * S},
            7);
    render();
    expect_line("usagebox_flag_decided_seconds_bucket{le=\"0.0005\"} 1");
    expect_line("usagebox_flag_decided_seconds_bucket{le=\"0.001\"} 2");
    expect_line("usagebox_flag_decided_seconds_bucket{le=\"0.002\"} 3");
    expect_line("usagebox_flag_decided_seconds_bucket{le=\"10\"} 3");
    expect_line("usagebox_flag_decided_seconds_bucket{le=\"60\"} 5");
    expect_line("usagebox_flag_decided_seconds_bucket{le=\"+Inf\"} 7");
    expect_line("usagebox_flag_decided_seconds_count 7");
    expect_line("usagebox_flag_decided_seconds_sum 1080.002001");
    expect_line("usagebox_rollbacks_total{cause=\"lost\"} 1");
}
END_TEST

START_TEST(rows_are_counted_whole)
{
    observe(METRICS_BATCH_ROWS, (int64_t[]){0, 250000, 2000000}, 3);
    render();
    expect_line("usagebox_batch_rows_bucket{le=\"0\"} 1");
    expect_line("usagebox_batch_rows_bucket{le=\"250000\"} 2");
    expect_line("usagebox_batch_rows_bucket{le=\"1000000\"} 2");
    expect_line("usagebox_batch_rows_sum 2250000");
}
END_TEST

START_TEST(a_committed_batch_is_measured)
{
    struct batch_partition parts[] = {{.accepted = 3}, {.accepted = 4}};
    struct batch batch = {.partitions = parts, .partition_count = 2};
    struct store_job job = {.status = STORE_DONE, .batch = &batch, .elapsed_us = 7000};
    struct metrics *metrics = metrics_new();
    metrics_batch_done(metrics, &job);
    metrics_observed(metrics, &snapshot);
    metrics_free(metrics);
    render();
    expect_line("usagebox_batch_rows_sum 7");
    expect_line("usagebox_batch_commit_seconds_bucket{le=\"0.005\"} 0");
    expect_line("usagebox_batch_commit_seconds_bucket{le=\"0.01\"} 1");
    expect_line("usagebox_batch_commit_seconds_sum 0.007000");
}
END_TEST

/* Each sample follows its family's HELP and TYPE, and each family comes once. */
START_TEST(families_are_whole_and_come_once)
{
    char family[200] = "", type[210];
    render();
    for (char *line = written, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        *end = 0;
        if (sscanf(line, "# HELP %199s", family) == 1) {
            snprintf(type, sizeof type, "# TYPE %s ", family);
            ck_assert_int_eq(strncmp(end + 1, type, strlen(type)), 0);
            ck_assert_ptr_null(strstr(end + 2, type));
        } else if (line[0] != '#') {
            ck_assert_msg(strncmp(line, family, strlen(family)) == 0, "%s is not of %s", line, family);
        }
    }
}
END_TEST

START_TEST(before_the_first_turn_there_are_no_figures_but_the_process_own)
{
    snapshot = (struct metrics_snapshot){0};
    render();
    expect_text("usagebox_build_info{version=\"");
    expect_text("process_resident_memory_bytes ");
    expect_text("process_start_time_seconds ");
    ck_assert_ptr_null(strstr(written, "usagebox_events"));
    ck_assert(!alive(0));
    ck_assert(!ready());
}
END_TEST

START_TEST(an_engine_that_does_not_turn_is_not_alive)
{
    ck_assert(alive(1000 * S));
    ck_assert_str_eq(written, "{\"reasons\":[],\"alive\":true}\n");
    ck_assert(alive(1029 * S));
    ck_assert(!alive(1031 * S));
    ck_assert_str_eq(written, "{\"reasons\":[\"the engine has not turned for 31 s\"],\"alive\":false}\n");
}
END_TEST

START_TEST(running_lanes_are_ready)
{
    ck_assert(ready());
    ck_assert_str_eq(written, "{\"reasons\":[],\"ready\":true}\n");
}
END_TEST

START_TEST(a_lane_that_does_not_run_is_named_once)
{
    partitions[0].phase = partitions[1].phase = LANE_STOPPED;
    snprintf(partitions[0].stop_reason, sizeof partitions[0].stop_reason, "the topic \"usage\" is new \xc3");
    partitions[2].phase = LANE_TAKING;
    ck_assert(!ready());
    ck_assert_str_eq(written,
                     "{\"reasons\":[\"lane 0 is stopped: the topic \\\"usage\\\" is new \xef\xbf\xbd\","
                     "\"lane 1 is being taken over: its state is read from PostgreSQL\"],"
                     "\"ready\":false}\n");
}
END_TEST

START_TEST(a_process_without_lanes_is_not_ready)
{
    partitions[0].phase = partitions[1].phase = partitions[2].phase = LANE_IDLE;
    ck_assert(!ready());
    expect_text("no lane is assigned to this process");
    snapshot.stats.lanes_unmade = 2;
    ck_assert(!ready());
    expect_text("2 lanes can't be taken over for want of memory");
}
END_TEST

START_TEST(a_process_that_does_not_get_on_is_not_ready)
{
    snapshot.stats.last_commit_us = NOW_US - 125 * S;
    ck_assert(!ready());
    expect_text("records wait, and nothing was committed for 125 s");
    partitions[0].committed = 100;
    ck_assert(ready());
    snapshot.stats.store_up = false;
    ck_assert(!ready());
    expect_text("PostgreSQL does not answer");
}
END_TEST

START_TEST(many_reasons_are_cut_short)
{
    struct metrics_partition many[100];
    for (int i = 0; i < 100; i++)
        many[i] = (struct metrics_partition){.partition = i, .phase = LANE_WAITING};
    snapshot.partitions = many;
    snapshot.partition_count = 100;
    ck_assert(!ready());
    expect_text("\"and 80 more\"]");
    ck_assert_uint_lt(written_bytes, 2000);
}
END_TEST

START_TEST(a_published_snapshot_is_the_readers_own)
{
    struct metrics *metrics = metrics_new();
    for (size_t count = 0; count <= 3; count++) {
        snapshot.partition_count = count;
        snapshot.stats.accepted = count;
        ck_assert(metrics_publish_snapshot(metrics, &snapshot));
        struct metrics_snapshot *copy = metrics_snapshot(metrics);
        ck_assert(metrics_publish_snapshot(metrics, &(struct metrics_snapshot){0}));
        ck_assert_uint_eq(copy->stats.accepted, count);
        ck_assert_uint_eq(copy->partition_count, count);
        if (count > 0)
            ck_assert_str_eq(copy->partitions[count - 1].topic, partitions[count - 1].topic);
        metrics_snapshot_free(copy);
    }
    metrics_free(metrics);
}
END_TEST

START_TEST(a_snapshot_is_due_again_after_a_while)
{
    struct metrics *metrics = metrics_new();
    ck_assert(metrics_due(metrics, 0));
    ck_assert(metrics_publish_snapshot(metrics, &snapshot));
    ck_assert(!metrics_due(metrics, snapshot.turned_us - 1));
    ck_assert(metrics_due(metrics, snapshot.turned_us));
    metrics_free(metrics);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, figures_are_the_engines);
    tcase_add_test(tests, every_reason_of_a_dead_letter_is_always_there);
    tcase_add_test(tests, lag_is_told_by_partition_as_far_as_it_is_known);
    tcase_add_test(tests, a_lane_that_went_elsewhere_is_told_by_its_new_owner);
    tcase_add_test(tests, buckets_are_cumulative_and_include_their_bounds);
    tcase_add_test(tests, rows_are_counted_whole);
    tcase_add_test(tests, a_committed_batch_is_measured);
    tcase_add_test(tests, families_are_whole_and_come_once);
    tcase_add_test(tests, before_the_first_turn_there_are_no_figures_but_the_process_own);
    tcase_add_test(tests, an_engine_that_does_not_turn_is_not_alive);
    tcase_add_test(tests, running_lanes_are_ready);
    tcase_add_test(tests, a_lane_that_does_not_run_is_named_once);
    tcase_add_test(tests, a_process_without_lanes_is_not_ready);
    tcase_add_test(tests, a_process_that_does_not_get_on_is_not_ready);
    tcase_add_test(tests, many_reasons_are_cut_short);
    tcase_add_test(tests, a_published_snapshot_is_the_readers_own);
    tcase_add_test(tests, a_snapshot_is_due_again_after_a_while);
}

int main(void)
{
    return run_suite("metrics", add_tests);
}
