/* What is undone, and what is lost, where one or both of the jobs fail that are under way at once: each way
 * in which either can end, in each order, and with the lanes taken away meanwhile. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "links_fixture.h"
#include "suite.h"

static const struct pipeline_stats *stats(void)
{
    return pipeline_stats(world.engine);
}

struct said {
    const char *as;
    enum store_status status;
    bool unheard;
};
static const struct said commits[] = {
    {"done", STORE_DONE, false}, {"fenced", STORE_FENCED, false}, {"refused", STORE_REFUSED, false},
    {"lost", STORE_LOST, false}, {"unheard", STORE_LOST, true},   {"fatal", STORE_FATAL, false},
};
static const struct said streams[] = {
    {"done", STORE_DONE, false},
    {"refused", STORE_REFUSED, false},
    {"lost", STORE_LOST, false},
    {"fatal", STORE_FATAL, false},
};
static const struct said others[] = {
    {"done", STORE_DONE, false},
    {"lost", STORE_LOST, false},
    {"fatal", STORE_FATAL, false},
};

enum order { FIRST_THEN_SECOND, SECOND_THEN_FIRST, AT_ONCE, ORDERS };
enum taken { NOT_TAKEN, TAKEN_BEFORE, TAKEN_BETWEEN, TAKEN_TIMES };

/* Two jobs; if both fail, what the first says of it comes first. */
struct meeting {
    enum store_job_kind kinds[2];
    void (*arrange)(bool turned);
    const struct said *says[2];
    size_t counts[2];
};

static struct {
    struct said first, second;
    enum order order;
    enum taken taken;
    struct pipeline_stats before;
    char name[200];
} met;
#define IN_CASE(condition) ck_assert_msg(condition, "%s: " #condition, met.name)

static bool fails(const struct said *said)
{
    return said->status != STORE_DONE;
}

static void nothing_is_undone_yet(void)
{
    IN_CASE(stats()->rewinds == met.before.rewinds);
    IN_CASE(stats()->store_losses == met.before.store_losses);
    IN_CASE(stats()->store_up);
    IN_CASE(met.taken != NOT_TAKEN || phase(0) == LANE_RUNNING);
}

static void take_away(void)
{
    world.event = (struct source_event){.kind = SOURCE_REVOKED, .lost = true};
    turns(1);
    IN_CASE(world.released);
    IN_CASE(phase(0) == LANE_IDLE);
    nothing_is_undone_yet();
}

/* One is back, and the other is waited for. */
static void answer_one(const struct meeting *meeting)
{
    bool second = met.order == SECOND_THEN_FIRST;
    enum store_job_kind one = meeting->kinds[second], other = meeting->kinds[!second];
    world.silent[one] = false;
    for (int i = 0; i < 20; i++) {
        turns(1);
        nothing_is_undone_yet();
        if (fails(second ? &met.second : &met.first))
            for (int link = 0; link < STORE_LINKS; link++)
                IN_CASE(!world.under_way[link] || world.under_way[link]->kind == other);
    }
}

static bool decides(enum store_job_kind kind)
{
    return kind == STORE_COMMIT || kind == STORE_STREAM;
}

static void look_at_what_is_undone(const struct meeting *meeting)
{
    const struct said *first = &met.first, *second = &met.second;
    const struct said *leading = fails(first) ? first : second;
    bool of_rows = fails(leading) && decides(meeting->kinds[leading == second]);
    bool lost = first->status == STORE_LOST || second->status == STORE_LOST ||
                (meeting->kinds[1] == STORE_GIVE_UP && fails(second));
    bool undone = of_rows && leading->status != STORE_LOST;
    IN_CASE(stats()->store_up == !lost);
    IN_CASE(stats()->store_losses == met.before.store_losses + lost);
    uint64_t rewinds = stats()->rewinds - met.before.rewinds;
    IN_CASE(rewinds >= undone && rewinds <= (met.taken == NOT_TAKEN ? undone : 1));
    IN_CASE(met.taken != NOT_TAKEN ||
            (phase(0) == LANE_STOPPED) == (undone && leading->status == STORE_FATAL));
    IN_CASE(stats()->fenced == met.before.fenced + (first->status == STORE_FENCED));
    IN_CASE(met.taken != NOT_TAKEN || meeting->kinds[0] != STORE_COMMIT || fails(first) ||
            partition(0).committed == world.rows[0][0].next_offset);
}

static void meet(const struct meeting *meeting, bool turned)
{
    meeting->arrange(turned);
    world.silent[STORE_RECOVER] = world.silent[STORE_TAKEOVER] = true;
    met.before = *stats();
    world.answers[meeting->kinds[0]] = met.first.status;
    world.answers[meeting->kinds[1]] = met.second.status;
    commit_unheard = met.first.unheard;
    if (met.taken == TAKEN_BEFORE)
        take_away();
    if (met.order != AT_ONCE)
        answer_one(meeting);
    if (met.taken == TAKEN_BETWEEN)
        take_away();
    world.silent[meeting->kinds[0]] = world.silent[meeting->kinds[1]] = false;
    turns(1);
    look_at_what_is_undone(meeting);
    memset(world.silent, 0, sizeof world.silent);
    if (met.taken != NOT_TAKEN)
        assign(world.partition_count);
    pass(11 * SECOND_US); /* a lane that was stopped is tried again */
    turns(300);
    use(0, 2);
    turns(250);
    all_is_counted_once(met.name);
    end();
    world.engine = NULL;
}

static void meet_in_every_way(const struct meeting *meeting, bool turned)
{
    size_t ways = meeting->counts[0] * meeting->counts[1] * ORDERS * TAKEN_TIMES;
    for (size_t i = 0; i < ways; i++) {
        size_t way = i;
        met.order = (enum order)(way % ORDERS), way /= ORDERS;
        met.taken = (enum taken)(way % TAKEN_TIMES), way /= TAKEN_TIMES;
        met.second = meeting->says[1][way % meeting->counts[1]], way /= meeting->counts[1];
        met.first = meeting->says[0][way];
        snprintf(met.name, sizeof met.name, "%s beside %s, order %d, taken %d", met.first.as, met.second.as,
                 (int)met.order, (int)met.taken);
        meet(meeting, turned);
    }
}

START_TEST(a_commit_and_the_next_batches_rows_are_undone_once_both_are_back_and_no_more_than_failed)
{
    static const struct meeting meeting = {
        {STORE_COMMIT, STORE_STREAM}, commit_beside_a_stream, {commits, streams}, {6, 4}};
    meet_in_every_way(&meeting, _i == 1);
}
END_TEST

START_TEST(rows_that_fail_beside_a_look_at_the_catalogue_that_fails_are_undone_all_the_same)
{
    static const struct meeting meeting = {
        {STORE_STREAM, STORE_CATALOGUE}, stream_beside_a_catalogue, {streams, others}, {4, 3}};
    meet_in_every_way(&meeting, _i == 1);
}
END_TEST

START_TEST(rows_that_fail_while_a_batch_is_given_up_are_undone_and_a_batch_that_cannot_be_given_up_is_lost)
{
    static const struct meeting meeting = {
        {STORE_STREAM, STORE_GIVE_UP}, stream_beside_a_given_up_batch, {streams, others}, {4, 3}};
    meet_in_every_way(&meeting, false);
}
END_TEST

START_TEST(a_commit_that_fails_while_a_batch_is_given_up_is_undone_and_one_that_took_place_counts)
{
    static const struct meeting meeting = {
        {STORE_COMMIT, STORE_GIVE_UP}, commit_beside_a_given_up_batch, {commits, others}, {6, 3}};
    meet_in_every_way(&meeting, false);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_set_timeout(tests, 600); /* seconds of computing, on a machine that may be busy */
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_loop_test(
        tests, a_commit_and_the_next_batches_rows_are_undone_once_both_are_back_and_no_more_than_failed, 0,
        2);
    tcase_add_loop_test(
        tests, rows_that_fail_beside_a_look_at_the_catalogue_that_fails_are_undone_all_the_same, 0, 2);
    tcase_add_test(
        tests,
        rows_that_fail_while_a_batch_is_given_up_are_undone_and_a_batch_that_cannot_be_given_up_is_lost);
    tcase_add_test(tests,
                   a_commit_that_fails_while_a_batch_is_given_up_is_undone_and_one_that_took_place_counts);
}

int main(void)
{
    return run_suite("engine: failures", add_tests);
}
