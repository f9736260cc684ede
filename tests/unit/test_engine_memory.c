/* The engine where memory runs out in the middle of something: each allocation of it fails in turn, pieces of
 * arenas too, and whatever had begun is done in the end. */
#include <check.h>

#include "failing_memory.h"

#include "consumer/flag.h"
#include "engine_fixture.h"

enum { LIMIT = 10 };
static const struct world untouched = {.now_us = START_US, .steady_us = SECOND_US};

/* What the store was given, to be restored from. */
static struct {
    struct ceiling_change state;
    char flag[1000];
    bool pending;
} stored;
static bool sealed_now;

static struct ceiling_catalogue *monthly(int64_t generation)
{
    struct ceiling_catalogue *catalogue = ceiling_catalogue_new(1);
    const struct ceiling ceiling = {.name = TEXT("monthly"),
                                    .version = generation,
                                    .who_kind = WHO_EVERYONE,
                                    .meter = TEXT("tokens"),
                                    .period = PERIOD_MONTH,
                                    .policy = POLICY_HARD_STOP,
                                    .limit = (generation == 1 ? LIMIT : LIMIT / 2) * DECIMAL_ONE,
                                    .clear_level = 0};
    if (!catalogue || !ceiling_catalogue_add(catalogue, &ceiling))
        abort();
    catalogue->generation = generation;
    return catalogue;
}

static struct ceiling_catalogue *newest(void)
{
    return monthly(world.catalogue_generation);
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

static void restore_lane(struct store_lane *lane)
{
    if (world.lane_generation != world.catalogue_generation)
        lane->adopted = monthly(world.lane_generation);
    if (stored.state.is_state && lane->lane == 0) {
        stored.state.state.flag = text_of(stored.flag);
        ceiling_book_restore_state(lane->book, &stored.state.state);
        struct ceiling_counter counter = {.customer_id = TEXT("ann"),
                                          .meter = TEXT("tokens"),
                                          .period = PERIOD_MONTH,
                                          .scope = TEXT("{}"),
                                          .period_start_us = stored.state.state.period_start_us,
                                          .used = (LIMIT + 1) * DECIMAL_ONE};
        ceiling_book_restore_counter(lane->book, &counter);
    }
    if (stored.pending && lane->lane == 0) {
        lane->pending = pending_event(lane);
        lane->pending_count = 1;
    }
}

static void keep(const struct batch *batch)
{
    struct arena arena;
    arena_init(&arena, 4096);
    for (size_t i = 0; i < batch->decision_count; i++) {
        struct text value = flag_value(&arena, &batch->decisions[i], topic_names);
        snprintf(stored.flag, sizeof stored.flag, "%.*s", (int)value.length, value.bytes);
    }
    arena_free(&arena);
    for (size_t i = 0; i < batch->change_count; i++)
        if (batch->changes[i].is_state && text_equal(batch->changes[i].state.customer_id, TEXT("ann"))) {
            stored.state = batch->changes[i];
            stored.state.state.customer_id = TEXT("ann");
            stored.state.state.ceiling = TEXT("monthly");
            stored.state.state.scope = TEXT("{}");
        }
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

static void remember(struct store_job *job)
{
    if (job->status != STORE_DONE)
        return;
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

static const char big_use[] =
    "{\"event_id\":\"e\",\"customer_id\":\"ann\",\"meter\":\"tokens\",\"quantity\":11}";

static void until_a_flag_is_about_to_be_committed(void)
{
    run(1);
    put(0, 0, "ann", big_use);
    world.silent[STORE_COMMIT] = true;
    turns(150);
    ck_assert_int_eq((int)world.job->kind, STORE_COMMIT);
    world.silent[STORE_COMMIT] = false;
}

/* A rewind finds out what was committed. */
static void a_rewind_withdraws_nothing(void)
{
    put(0, 0, "ann", "{\"event_id\":\"other\",\"customer_id\":\"ann\",\"meter\":\"tokens\",\"quantity\":1}");
    world.answers[STORE_COMMIT] = STORE_REFUSED;
    turns(400);
    ck_assert_uint_ge(sent_in("\"state\":\"active\""), 1);
    ck_assert_uint_eq(sent_in("\"state\":\"cleared\""), 0);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 2);
}

START_TEST(out_of_memory_while_a_flag_is_noted_as_committed_forgets_nothing)
{
    sealed_now = false;
    starve(until_a_flag_is_about_to_be_committed, a_rewind_withdraws_nothing);
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
    ck_assert_int_eq((int)world.job->kind, STORE_COMMIT);
    ck_assert_uint_eq(world.job->batch->sealed_count, 1);
    world.silent[STORE_COMMIT] = false;
}

static void it_is_held_against_its_ceiling(void)
{
    ck_assert(!stored.pending);
    ck_assert(stored.state.is_state && stored.state.state.active);
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

/* "cat" and "ann" are of two lanes. */
static void both_lanes_decide_by_them(void)
{
    for (int32_t lane = 0; lane < 2; lane++)
        ck_assert_int_eq(phase(lane), LANE_RUNNING);
    static const char ann[] =
        "{\"event_id\":\"e\",\"customer_id\":\"ann\",\"meter\":\"tokens\",\"quantity\":7}";
    static const char cat[] =
        "{\"event_id\":\"e\",\"customer_id\":\"cat\",\"meter\":\"tokens\",\"quantity\":7}";
    put(0, 0, "ann", ann);
    put(0, 1, "cat", cat);
    turns(300);
    ck_assert_int_eq(world.lane_generation, 2);
    ck_assert_uint_eq(pipeline_stats(world.engine)->accepted, 2);
    ck_assert_uint_eq(sent_in("\"state\":\"active\""), 2);
}

START_TEST(an_adoption_of_ceilings_that_was_half_done_when_memory_ran_out_is_done_again)
{
    sealed_now = false;
    starve(until_new_ceilings_come, both_lanes_decide_by_them);
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
    ck_assert(!pipeline_ready(world.engine));
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_memory");
    TCase *tcase = tcase_create("engine_memory");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, out_of_memory_while_a_flag_is_noted_as_committed_forgets_nothing);
    tcase_add_test(tcase, out_of_memory_while_late_events_are_noted_forgets_none);
    tcase_add_test(tcase, an_adoption_of_ceilings_that_was_half_done_when_memory_ran_out_is_done_again);
    tcase_add_test(tcase, what_there_is_no_memory_for_to_remember_is_said);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
