/* The engine where memory runs out in the middle of something: each allocation of it fails in turn, pieces of
 * arenas too, and whatever had begun is done in the end. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "consumer/flag.h"
#include "engine_fixture.h"
#include "failing_memory.h"
#include "links_fixture.h"
#include "suite.h"

enum { LIMIT = 10, CUSTOMERS = 40 };
static char customers[CUSTOMERS][8] = {"ann"};
static const struct world untouched = {
    .now_us = START_US, .steady_us = SECOND_US, .allocate = failing_malloc, .fail_nowhere = &fail_nowhere};

/* What the store was given, to be restored from. */
static struct {
    struct ceiling_state states[CUSTOMERS];
    char flags[CUSTOMERS][1000];
    bool pending;
    bool adopted[2]; /* the second generation, by lane */
} stored;
static bool sealed_now;
static int used_today = 4; /* by each of the two customers, before the new ceilings */

static int customer_of(struct text name)
{
    for (int i = 0; i < CUSTOMERS; i++)
        if (text_equal(name, text_of(customers[i])))
            return i;
    return -1;
}

/* Of the first generation a month's, of the second one a day's. */
static struct ceiling_catalogue *catalogue_of(int64_t generation)
{
    struct ceiling_catalogue *catalogue = ceiling_catalogue_new(1);
    const struct ceiling ceiling = {.name = TEXT("cap"),
                                    .version = generation,
                                    .who_kind = WHO_EVERYONE,
                                    .meter = TEXT("tokens"),
                                    .period = generation == 1 ? PERIOD_MONTH : PERIOD_DAY,
                                    .policy = POLICY_HARD_STOP,
                                    .limit = LIMIT * DECIMAL_ONE,
                                    .clear_level = 0};
    if (!catalogue || !ceiling_catalogue_add(catalogue, &ceiling))
        abort();
    catalogue->generation = generation;
    return catalogue;
}

static struct ceiling_catalogue *newest(void)
{
    return catalogue_of(world.catalogue_generation);
}

static struct store_pending *pending_event(struct store_lane *lane)
{
    struct store_pending *pending = arena_alloc(lane->arena, sizeof *pending);
    *pending = (struct store_pending){.topic = 0, .partition = lane->lane, .offset = 0};
    pending->event = (struct event){.event_id = TEXT("late"),
                                    .customer_id = TEXT("ann"),
                                    .meter = TEXT("tokens"),
                                    .quantity = (LIMIT + 1) * DECIMAL_ONE,
                                    .time_us = START_US - DAY_US};
    return pending;
}

static void restore_customer(struct store_lane *lane, int i)
{
    struct ceiling_state *state = &stored.states[i];
    if (state->transition == 0)
        return;
    state->flag = text_of(stored.flags[i]);
    ceiling_book_restore_state(lane->book, state);
    struct ceiling_counter counter = {.customer_id = state->customer_id,
                                      .meter = TEXT("tokens"),
                                      .period = PERIOD_MONTH,
                                      .scope = TEXT("{}"),
                                      .period_start_us = state->period_start_us,
                                      .used = (LIMIT + 1) * DECIMAL_ONE};
    ceiling_book_restore_counter(lane->book, &counter);
}

static void restore_lane(struct store_lane *lane)
{
    lane->ceilings_generation = stored.adopted[lane->lane] ? 2 : 1;
    if (lane->ceilings_generation != world.catalogue_generation)
        lane->adopted = catalogue_of(lane->ceilings_generation);
    for (int i = 0; lane->lane == 0 && i < CUSTOMERS; i++)
        restore_customer(lane, i);
    if (stored.pending && lane->lane == 0) {
        lane->pending = pending_event(lane);
        lane->pending_count = 1;
    }
}

static void keep_state(const struct ceiling_state *state)
{
    int i = customer_of(state->customer_id);
    if (i < 0)
        return;
    stored.states[i] = *state;
    stored.states[i].customer_id = text_of(customers[i]);
    stored.states[i].ceiling = TEXT("cap");
    stored.states[i].scope = TEXT("{}");
}

static void keep(const struct batch *batch)
{
    for (size_t i = 0; i < batch->ceilings_adopted_count; i++)
        stored.adopted[batch->ceilings_adopted[i]] = batch->ceilings_generation == 2;
    struct arena arena;
    arena_init(&arena, 4096);
    for (size_t i = 0; i < batch->decision_count; i++) {
        int number = customer_of(batch->decisions[i].customer_id);
        struct text value = flag_value(&arena, &batch->decisions[i], topic_names);
        if (number >= 0)
            snprintf(stored.flags[number], sizeof stored.flags[0], "%.*s", (int)value.length, value.bytes);
    }
    arena_free(&arena);
    for (size_t i = 0; i < batch->change_count; i++)
        if (batch->changes[i].is_state)
            keep_state(&batch->changes[i].state);
    for (size_t i = 0; i < batch->sealed_count; i++)
        stored.pending |= batch->sealed[i].accepted && batch->sealed[i].counted;
    if (batch->settled_count > 0)
        stored.pending = false;
}

static void accept_late(struct store_job *job)
{
    for (size_t i = 0; job->kind == STORE_COMMIT && i < job->batch->sealed_count; i++)
        job->batch->sealed[i].accepted = true;
}

static void tell_sums(struct store_job *job)
{
    job->arena = fake_zeroed(1, sizeof *job->arena);
    arena_init(job->arena, 4096);
    job->sums = arena_alloc(job->arena, 2 * sizeof *job->sums);
    for (job->sum_count = 0; job->sum_count < 2; job->sum_count++)
        job->sums[job->sum_count] =
            (struct ceiling_counter){.customer_id = job->sum_count ? TEXT("cat") : TEXT("ann"),
                                     .meter = TEXT("tokens"),
                                     .period = PERIOD_DAY,
                                     .scope = TEXT("{}"),
                                     .period_start_us = ceiling_period_start(PERIOD_DAY, START_US),
                                     .used = used_today * DECIMAL_ONE};
}

static void remember(struct store_job *job)
{
    if (job->status != STORE_DONE)
        return;
    if (job->kind == STORE_SEED)
        tell_sums(job);
    if (job->kind == STORE_COMMIT)
        keep(job->batch);
    for (size_t i = 0; i < job->lane_count; i++)
        if (job->kind == STORE_TAKEOVER && !job->lanes[i].kept)
            restore_lane(&job->lanes[i]);
}

/* Lanes that run by the ceilings of generation 1. */
static void run(int32_t lanes)
{
    struct pipeline_options options = default_options();
    world = untouched;
    memset(&stored, 0, sizeof stored);
    pieces_apart = true;
    world.catalogue = newest;
    world.catalogue_generation = world.lane_generation = 1;
    world.before = accept_late;
    world.after = remember;
    if (sealed_now) {
        world.sealed[world.sealed_count++] = (uint16_t)(START_US / DAY_US - 1);
        world.adopts_seals = true;
    }
    run_lanes(&options, lanes);
    ck_assert_int_eq(phase(lanes - 1), LANE_RUNNING);
}

static size_t sent_in(const char *state)
{
    size_t count = 0;
    for (size_t i = 0; i < world.sent_count && i < 64; i++)
        count += strstr(world.sent[i].value, state) != NULL;
    return count;
}

/* Does `prepare`, then lets one allocation of what follows fail, until none is left that could: then
 * `expect`. */
static void starve(void (*prepare)(void), void (*expect)(void))
{
    size_t failed = 0;
    for (uint64_t number = 0;; number++) {
        prepare();
        fail_allocations(number, 1 + number % 2 * 3);
        turns(150);
        bool reached = allocations > fail_from;
        fail_no_allocation();
        turns(600);
        expect();
        end();
        world.engine = NULL;
        failed += reached;
        if (!reached)
            break;
    }
    ck_assert_uint_ge(failed, 2);
}

/* --- flags of a batch that was committed --- */

static void until_flags_are_about_to_be_committed(void)
{
    static char uses[CUSTOMERS][200];
    run(1);
    for (int i = 0; i < CUSTOMERS; i++) {
        if (i > 0)
            snprintf(customers[i], sizeof customers[i], "c%d", i);
        snprintf(uses[i], sizeof uses[i],
                 "{\"event_id\":\"e\",\"customer_id\":\"%s\",\"meter\":\"tokens\",\"quantity\":11}",
                 customers[i]);
        put(0, 0, customers[i], uses[i]);
    }
    world.silent[STORE_COMMIT] = true;
    turns(150);
    ck_assert_ptr_nonnull(job_under_way(STORE_COMMIT));
    ck_assert_uint_eq(sent_in("\"state\":\"active\""), CUSTOMERS);
    world.silent[STORE_COMMIT] = false;
}

/* A rewind finds out what was committed. */
static void a_rewind_withdraws_nothing(void)
{
    put(0, 0, "ann", "{\"event_id\":\"other\",\"customer_id\":\"ann\",\"meter\":\"tokens\",\"quantity\":1}");
    world.answers[STORE_COMMIT] = STORE_REFUSED;
    turns(400);
    ck_assert_uint_eq(sent_in("\"state\":\"cleared\""), 0);
    ck_assert_int_eq(partition(0).committed, CUSTOMERS + 1);
}

START_TEST(out_of_memory_while_flags_are_noted_as_committed_forgets_none)
{
    sealed_now = false;
    starve(until_flags_are_about_to_be_committed, a_rewind_withdraws_nothing);
}
END_TEST

/* --- late events that the store accepted --- */

static void until_a_late_event_is_about_to_be_accepted(void)
{
    static char late[200];
    run(1);
    snprintf(late, sizeof late,
             "{\"event_id\":\"late\",\"customer_id\":\"ann\",\"meter\":\"tokens\",\"quantity\":11,"
             "\"timestamp\":%lld}",
             (long long)((START_US - DAY_US) / SECOND_US));
    put(0, 0, "ann", late);
    world.silent[STORE_COMMIT] = true;
    turns(150);
    ck_assert_ptr_nonnull(job_under_way(STORE_COMMIT));
    ck_assert_uint_eq(job_under_way(STORE_COMMIT)->batch->sealed_count, 1);
    world.silent[STORE_COMMIT] = false;
}

static void it_is_held_against_its_ceiling(void)
{
    ck_assert(!stored.pending);
    ck_assert(stored.states[0].active);
    ck_assert_uint_ge(sent_in("\"state\":\"active\""), 1);
    ck_assert_uint_eq(sent_in("\"state\":\"cleared\""), 0);
}

START_TEST(out_of_memory_while_late_events_are_noted_forgets_none)
{
    sealed_now = true;
    starve(until_a_late_event_is_about_to_be_accepted, it_is_held_against_its_ceiling);
}
END_TEST

/* --- new ceilings --- */

static void until_new_ceilings_come(void)
{
    run(2);
    world.catalogue_generation = 2;
}

/* Both customers, who are of two lanes, use `quantity` more. */
static void use_each(const char *quantity)
{
    static char uses[4][200];
    static int next;
    for (int32_t lane = 0; lane < 2; lane++) {
        char *json = uses[next++ % 4];
        const char *customer = lane ? "cat" : "ann";
        snprintf(json, sizeof uses[0],
                 "{\"event_id\":\"%s\",\"customer_id\":\"%s\",\"meter\":\"tokens\",\"quantity\":%s}",
                 quantity, customer, quantity);
        put(0, lane, customer, json);
    }
    turns(300);
}

/* By 4 that were used before, each counted once. */
static void both_lanes_decide_by_them(void)
{
    ck_assert(stored.adopted[0] && stored.adopted[1]);
    use_each("5");
    ck_assert_uint_eq(sent_in("\"state\":\"active\""), 0);
    use_each("2");
    ck_assert_uint_eq(sent_in("\"used\":\"11\""), 2);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 4);
}

START_TEST(an_adoption_of_ceilings_that_was_half_done_when_memory_ran_out_is_done_again)
{
    sealed_now = false;
    starve(until_new_ceilings_come, both_lanes_decide_by_them);
}
END_TEST

/* Each crossed them before they came, and uses nothing more. */
static void both_customers_are_told(void)
{
    ck_assert(stored.adopted[0] && stored.adopted[1]);
    ck_assert(stored.states[0].active);
    ck_assert_uint_ge(sent_in("\"used\":\"11\""), 2);
    ck_assert_uint_eq(sent_in("\"state\":\"cleared\""), 0);
}

/* It takes place, and its answer is lost. */
static void lose_the_adoption(struct store_job *job)
{
    if (job->kind != STORE_COMMIT || job->batch->ceilings_adopted_count == 0)
        return;
    world.before = accept_late;
    fake_commit(job->batch);
    keep(job->batch);
    world.answers[STORE_COMMIT] = STORE_LOST;
}

/* With a record of each lane, so that the offsets tell what became of it. */
static void until_new_ceilings_come_unheard(void)
{
    until_new_ceilings_come();
    world.silent[STORE_SEED] = true;
    turns(150);
    ck_assert_ptr_nonnull(job_under_way(STORE_SEED));
    put(0, 0, "ann", "{\"event_id\":\"1\",\"customer_id\":\"ann\",\"meter\":\"tokens\",\"quantity\":0}");
    put(0, 1, "cat", "{\"event_id\":\"1\",\"customer_id\":\"cat\",\"meter\":\"tokens\",\"quantity\":0}");
    turns(3);
    world.silent[STORE_SEED] = false;
    world.before = lose_the_adoption;
}

START_TEST(out_of_memory_while_new_ceilings_decide_for_the_first_time_leaves_nobody_out)
{
    sealed_now = false;
    used_today = LIMIT + 1;
    starve(_i == 0 ? until_new_ceilings_come : until_new_ceilings_come_unheard, both_customers_are_told);
}
END_TEST

/* --- two links --- */

static const struct {
    enum store_status commit, stream;
} * links_end, links_ends[] = {
                   {STORE_DONE, STORE_DONE},    {STORE_REFUSED, STORE_DONE}, {STORE_FENCED, STORE_DONE},
                   {STORE_DONE, STORE_REFUSED}, {STORE_LOST, STORE_REFUSED}, {STORE_REFUSED, STORE_LOST},
};

static void until_both_links_are_at_work(void)
{
    world = untouched;
    pieces_apart = true;
    commit_beside_a_stream(false);
    world.answers[STORE_COMMIT] = links_end->commit;
    world.answers[STORE_STREAM] = links_end->stream;
    world.silent[STORE_COMMIT] = world.silent[STORE_STREAM] = false;
}

static void nothing_is_lost_or_counted_twice(void)
{
    all_is_counted_once("out of memory");
}

START_TEST(out_of_memory_while_both_links_are_at_work_loses_nothing_and_counts_nothing_twice)
{
    links_end = &links_ends[_i];
    starve(until_both_links_are_at_work, nothing_is_lost_or_counted_twice);
}
END_TEST

/* --- lanes --- */

START_TEST(what_there_is_no_memory_for_to_remember_is_said)
{
    enum { MANY = 300 };
    struct pipeline_options options = default_options();
    static struct source_position assigned[MANY];
    for (int32_t i = 0; i < MANY; i++)
        assigned[i] = (struct source_position){0, i, 0};
    world = untouched;
    begin(&options);
    world.event =
        (struct source_event){.kind = SOURCE_ASSIGNED, .assigned = assigned, .assigned_count = MANY};
    fail_allocations(0, UINT64_MAX);
    turns(1);
    fail_no_allocation();
    ck_assert_msg(noted("0: out of memory: the lane can't be taken over yet"), "%.300s", world.notes);
    ck_assert_msg(noted("299: out of memory: the lane can't be taken over; restart this process"), "%.300s",
                  world.notes);
    ck_assert_uint_ge(world.alerts, MANY);
    ck_assert_uint_gt(pipeline_stats(world.engine)->lanes_unmade, 0);
    end();
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, out_of_memory_while_flags_are_noted_as_committed_forgets_none);
    tcase_add_test(tests, out_of_memory_while_late_events_are_noted_forgets_none);
    tcase_add_test(tests, an_adoption_of_ceilings_that_was_half_done_when_memory_ran_out_is_done_again);
    tcase_add_loop_test(tests, out_of_memory_while_new_ceilings_decide_for_the_first_time_leaves_nobody_out,
                        0, 2);
    tcase_add_loop_test(tests,
                        out_of_memory_while_both_links_are_at_work_loses_nothing_and_counts_nothing_twice, 0,
                        sizeof links_ends / sizeof *links_ends);
    tcase_add_test(tests, what_there_is_no_memory_for_to_remember_is_said);
}

int main(void)
{
    return run_suite("engine_memory", add_tests);
}
