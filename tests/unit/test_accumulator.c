#include "rollup/accumulator.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "suite.h"

#define HOUR_US INT64_C(3600000000)
#define NOON_US (INT64_C(1795608000) * 1000000) /* 2026-11-25T12:00:00Z */

static struct arena arena;
static struct accumulator *accumulator;

static void start(const struct accumulator_rules *rules)
{
    arena_init(&arena, 4096);
    accumulator = accumulator_new(rules, &arena);
    ck_assert_ptr_nonnull(accumulator);
}

static void setup(void)
{
    start(&(struct accumulator_rules){.runs = true, .hash_seed = {1, 2}});
}

static void teardown(void)
{
    accumulator_free(accumulator);
    arena_free(&arena);
}

static void restart(const struct accumulator_rules *rules)
{
    teardown();
    start(rules);
}

static struct event usage(const char *customer, int64_t time_us, int64_t quantity)
{
    return (struct event){.customer_id = text_of(customer),
                          .meter = TEXT("tokens"),
                          .time_us = time_us,
                          .quantity = DECIMAL_ONE * quantity};
}

static void add(struct event event)
{
    ck_assert(accumulator_add(accumulator, &event));
}

static const struct sorted_row *hourly(size_t expected_count)
{
    size_t count;
    const struct sorted_row *rows = accumulator_hourly(accumulator, &count);
    ck_assert_uint_eq(count, expected_count);
    return rows;
}

static const struct sorted_row *runs(size_t expected_count)
{
    size_t count;
    const struct sorted_row *rows = accumulator_runs(accumulator, &count);
    ck_assert_uint_eq(count, expected_count);
    return rows;
}

START_TEST(events_of_one_key_and_hour_become_one_row)
{
    add(usage("acme", NOON_US + 5, 7));
    add(usage("acme", NOON_US, 3));
    add(usage("acme", NOON_US + HOUR_US - 1, 1));
    const struct hourly_row *row = hourly(1)->hourly;
    ck_assert(text_equal(row->customer_id, TEXT("acme")));
    ck_assert(text_equal(row->meter, TEXT("tokens")));
    ck_assert(text_equal(row->model, TEXT("")));
    ck_assert(text_equal(row->dimensions, TEXT("{}")));
    ck_assert_int_eq(row->hour_us, NOON_US);
    ck_assert_int_eq(row->events, 3);
    ck_assert(row->quantity == DECIMAL_ONE * 11);
    ck_assert(row->adjustment == 0);
    ck_assert_int_eq(row->first_event_us, NOON_US);
    ck_assert_int_eq(row->last_event_us, NOON_US + HOUR_US - 1);
}
END_TEST

START_TEST(hours_are_floored_before_1970_too)
{
    add(usage("acme", -1, 1));
    add(usage("acme", -HOUR_US, 1));
    add(usage("acme", -HOUR_US - 1, 1));
    add(usage("acme", 0, 1));
    const struct sorted_row *rows = hourly(3);
    ck_assert_int_eq(rows[0].hourly->hour_us, -2 * HOUR_US);
    ck_assert_int_eq(rows[1].hourly->hour_us, -HOUR_US);
    ck_assert_int_eq(rows[1].hourly->events, 2);
    ck_assert_int_eq(rows[2].hourly->hour_us, 0);
}
END_TEST

START_TEST(corrections_are_in_the_net_and_shown_apart)
{
    add(usage("acme", NOON_US, 10));
    struct event correction = usage("acme", NOON_US, -4);
    correction.kind = EVENT_CORRECTION;
    add(correction);
    struct event retraction = usage("acme", NOON_US, -1);
    retraction.kind = EVENT_RETRACTION;
    add(retraction);
    const struct hourly_row *row = hourly(1)->hourly;
    ck_assert_int_eq(row->events, 3);
    ck_assert(row->quantity == DECIMAL_ONE * 5);
    ck_assert(row->adjustment == DECIMAL_ONE * -5);
}
END_TEST

static struct event shifted(const char *customer, const char *meter, const char *model)
{
    struct event event = usage(customer, NOON_US, 1);
    event.meter = text_of(meter);
    event.model = text_of(model);
    return event;
}

START_TEST(neighbouring_texts_are_never_taken_for_each_other)
{
    add(shifted("a", "bc", "d"));
    add(shifted("ab", "c", "d"));
    add(shifted("a", "b", "cd"));
    add(shifted("a", "bcd", ""));
    add(shifted("12345678", "", "9"));
    add(shifted("1234567", "8", "9"));
    add(shifted("12345678", "9", ""));
    hourly(7);
}
END_TEST

START_TEST(dimensions_are_canonical_json_without_absent_values)
{
    restart(&(struct accumulator_rules){
        .dimensions = {LIFTED_USER_ID, LIFTED_AGENT_ID, LIFTED_PROVIDER, LIFTED_USER_ID},
        .dimension_count = 4});
    add(usage("acme", NOON_US, 1));
    struct event event = usage("bolt", NOON_US, 1);
    event.lifted[LIFTED_USER_ID] = TEXT("a\"b\\c\n\x01\x1f/\xc3\xa9\x7f");
    event.lifted[LIFTED_PROVIDER] = TEXT("p");
    event.lifted[LIFTED_OPERATION] = TEXT("not configured");
    add(event);
    const struct sorted_row *rows = hourly(2);
    ck_assert(text_equal(rows[0].hourly->dimensions, TEXT("{}")));
    ck_assert(text_equal(rows[1].hourly->dimensions,
                         TEXT("{\"provider\":\"p\",\"user_id\":\"a\\\"b\\\\c\\n\\u0001\\u001f/"
                              "\xc3\xa9\x7f\"}")));
}
END_TEST

START_TEST(other_dimensions_make_another_row)
{
    restart(
        &(struct accumulator_rules){.dimensions = {LIFTED_USER_ID, LIFTED_AGENT_ID}, .dimension_count = 2});
    struct event event = usage("acme", NOON_US, 1);
    event.lifted[LIFTED_USER_ID] = TEXT("x");
    add(event);
    add(event);
    event.lifted[LIFTED_USER_ID] = TEXT("");
    event.lifted[LIFTED_AGENT_ID] = TEXT("x");
    add(event);
    const struct sorted_row *rows = hourly(2);
    ck_assert_int_eq(rows[0].hourly->events, 1);
    ck_assert(text_equal(rows[0].hourly->dimensions, TEXT("{\"agent_id\":\"x\"}")));
    ck_assert_int_eq(rows[1].hourly->events, 2);
    ck_assert(text_equal(rows[1].hourly->dimensions, TEXT("{\"user_id\":\"x\"}")));
}
END_TEST

static struct event of_run(const char *run, const char *user, const char *parent)
{
    struct event event = usage("acme", NOON_US, 2);
    event.lifted[LIFTED_RUN_ID] = text_of(run);
    event.lifted[LIFTED_USER_ID] = text_of(user);
    event.lifted[LIFTED_PARENT_RUN_ID] = text_of(parent);
    return event;
}

START_TEST(an_agent_run_is_summed_over_its_hours)
{
    add(of_run("r2", "u", ""));
    struct event next_hour = of_run("r2", "u", "r1");
    next_hour.time_us += HOUR_US;
    add(next_hour);
    struct event before = of_run("r2", "u", "r0");
    before.time_us -= 1;
    add(before);
    add(of_run("r2", "v", ""));
    add(of_run("", "u", ""));
    const struct sorted_row *rows = runs(2);
    ck_assert_int_eq(rows[0].run->events, 3);
    ck_assert(rows[0].run->quantity == DECIMAL_ONE * 6);
    ck_assert_int_eq(rows[0].run->first_event_us, NOON_US - 1);
    ck_assert_int_eq(rows[0].run->last_event_us, NOON_US + HOUR_US);
    ck_assert(text_equal(rows[0].run->run_id, TEXT("r2")));
    ck_assert(text_equal(rows[0].run->parent_run_id, TEXT("r1")));
    ck_assert(text_equal(rows[1].run->user_id, TEXT("v")));
    ck_assert_uint_eq(rows[1].run->parent_run_id.length, 0);
    hourly(3);
}
END_TEST

START_TEST(runs_that_nobody_wants_are_not_summed)
{
    restart(&(struct accumulator_rules){.runs = false});
    add(of_run("r2", "u", ""));
    runs(0);
    hourly(1);
}
END_TEST

/* A model of the rollup: one string per key, sums in a plain array. */
enum { CUSTOMERS = 40, METERS = 3, MODELS = 3, HOURS = 3, KEYS = CUSTOMERS * METERS * MODELS * HOURS };

struct sum {
    int64_t events;
    int64_t quantity;
};

static struct event event_of_key(int key, char customer[16], char meter[16], char model[16])
{
    snprintf(customer, 16, "c%d", key % CUSTOMERS);
    snprintf(meter, 16, "m%d", key / CUSTOMERS % METERS);
    snprintf(model, 16, "%.*s", key / CUSTOMERS / METERS % MODELS, "zz");
    struct event event = usage(customer, NOON_US + key / CUSTOMERS / METERS / MODELS * HOUR_US, 0);
    event.meter = text_of(meter);
    event.model = text_of(model);
    event.lifted[LIFTED_RUN_ID] = text_of(customer);
    return event;
}

static unsigned random_state;

static int random_below(int limit)
{
    return (int)((unsigned)rand_r(&random_state) % (unsigned)limit);
}

static void add_random(struct sum sums[KEYS], int rounds)
{
    for (int i = 0; i < rounds; i++) {
        char customer[16], meter[16], model[16];
        int key = random_below(KEYS), quantity = random_below(1000);
        struct event event = event_of_key(key, customer, meter, model);
        event.quantity = quantity;
        add(event);
        sums[key].events++;
        sums[key].quantity += quantity;
    }
}

static int key_of_row(const struct hourly_row *row)
{
    int customer = atoi(row->customer_id.bytes + 1), meter = row->meter.bytes[1] - '0';
    int hour = (int)((row->hour_us - NOON_US) / HOUR_US);
    return customer + CUSTOMERS * (meter + METERS * ((int)row->model.length + MODELS * hour));
}

/* Every row equals the model's, and every key of the model has a row. */
static void expect_sums(const struct sum sums[KEYS])
{
    size_t used = 0, count;
    for (int key = 0; key < KEYS; key++)
        used += sums[key].events > 0;
    const struct sorted_row *rows = accumulator_hourly(accumulator, &count);
    ck_assert_uint_eq(count, used);
    for (size_t i = 0; i < count; i++) {
        char customer[16], text[16];
        snprintf(customer, sizeof customer, "%.*s", (int)rows[i].hourly->customer_id.length,
                 rows[i].hourly->customer_id.bytes);
        snprintf(text, sizeof text, "c%d", key_of_row(rows[i].hourly) % CUSTOMERS);
        ck_assert_str_eq(customer, text);
        ck_assert_int_eq(rows[i].hourly->events, sums[key_of_row(rows[i].hourly)].events);
        ck_assert(rows[i].hourly->quantity == sums[key_of_row(rows[i].hourly)].quantity);
    }
}

START_TEST(sums_equal_those_of_a_plain_model_between_sorts)
{
    random_state = (unsigned)_i;
    for (int batch = 0; batch < 3; batch++) {
        struct sum sums[KEYS] = {0};
        for (int part = 0; part < 4; part++) {
            add_random(sums, 700);
            expect_sums(sums);
        }
        accumulator_reset(accumulator);
        arena_reset(&arena);
        hourly(0);
        runs(0);
    }
}
END_TEST

static int compare(struct text a, struct text b)
{
    int order = memcmp(a.bytes, b.bytes, a.length < b.length ? a.length : b.length);
    return order ? order : (int)a.length - (int)b.length;
}

START_TEST(rows_come_in_the_order_of_their_primary_keys)
{
    struct sum sums[KEYS] = {0};
    add_random(sums, 3000);
    size_t count;
    const struct sorted_row *rows = accumulator_hourly(accumulator, &count);
    for (size_t i = 1; i < count; i++) {
        const struct hourly_row *a = rows[i - 1].hourly, *b = rows[i].hourly;
        int order = compare(a->customer_id, b->customer_id);
        order = order ? order : (a->hour_us > b->hour_us) - (a->hour_us < b->hour_us);
        order = order ? order : compare(a->meter, b->meter);
        order = order ? order : compare(a->model, b->model);
        ck_assert_int_lt(order, 0);
    }
    const struct sorted_row *run_rows = accumulator_runs(accumulator, &count);
    for (size_t i = 1; i < count; i++) {
        const struct run_row *a = run_rows[i - 1].run, *b = run_rows[i].run;
        int order = compare(a->customer_id, b->customer_id);
        order = order ? order : compare(a->run_id, b->run_id);
        order = order ? order : compare(a->meter, b->meter);
        order = order ? order : compare(a->model, b->model);
        ck_assert_int_lt(order, 0);
    }
}
END_TEST

/* Up to twenty bytes of an alphabet of three, one beyond ASCII, behind what all begin with. */
static struct text random_id(char id[32], const char *begin)
{
    static const char alphabet[] = {'a', 'b', '\xc3'};
    char *end = stpcpy(id, begin);
    for (int left = random_below(16); left > 0; left--)
        *end++ = alphabet[random_below(sizeof alphabet)];
    *end = '\0';
    return text_of(id);
}

/* Pairs that differ nowhere but far behind, or in that one goes on, come up all the time. */
START_TEST(ids_of_any_length_come_in_their_order)
{
    static const char *const begins[] = {"c", "cust_0000000"};
    random_state = (unsigned)_i;
    char customer[32], run[32];
    for (int i = 0; i < 3000; i++) {
        struct event event = usage("", NOON_US + random_below(3) * HOUR_US, 1);
        event.customer_id = random_id(customer, begins[_i % 2]);
        event.lifted[LIFTED_RUN_ID] = random_id(run, _i < 2 ? "r" : "run_00000");
        add(event);
    }
    size_t count;
    const struct sorted_row *rows = accumulator_hourly(accumulator, &count);
    for (size_t i = 1; i < count; i++) {
        int order = compare(rows[i - 1].hourly->customer_id, rows[i].hourly->customer_id);
        ck_assert(order < 0 || (order == 0 && rows[i - 1].hourly->hour_us < rows[i].hourly->hour_us));
    }
    rows = accumulator_runs(accumulator, &count);
    for (size_t i = 1; i < count; i++) {
        int order = compare(rows[i - 1].run->customer_id, rows[i].run->customer_id);
        ck_assert_int_lt(order ? order : compare(rows[i - 1].run->run_id, rows[i].run->run_id), 0);
    }
}
END_TEST

START_TEST(the_order_does_not_depend_on_the_seed)
{
    struct sum sums[KEYS] = {0};
    add_random(sums, 500);
    size_t count;
    const struct sorted_row *rows = accumulator_hourly(accumulator, &count);
    int *first = calloc(count, sizeof *first);
    for (size_t i = 0; i < count; i++)
        first[i] = key_of_row(rows[i].hourly);
    restart(&(struct accumulator_rules){.runs = true, .hash_seed = {77, 78}});
    for (int key = KEYS - 1; key >= 0; key--) {
        char customer[16], meter[16], model[16];
        if (sums[key].events > 0)
            add(event_of_key(key, customer, meter, model));
    }
    rows = hourly(count);
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(key_of_row(rows[i].hourly), first[i]);
    free(first);
}
END_TEST

START_TEST(texts_are_the_accumulators_own)
{
    char customer[] = "acme", run[] = "run", user[] = "user";
    restart(&(struct accumulator_rules){.dimensions = {LIFTED_USER_ID}, .dimension_count = 1, .runs = true});
    struct event event = usage(customer, NOON_US, 1);
    event.lifted[LIFTED_RUN_ID] = text_of(run);
    event.lifted[LIFTED_USER_ID] = text_of(user);
    add(event);
    memset(customer, 'x', 4);
    memset(run, 'x', 3);
    memset(user, 'x', 4);
    add(event);
    ck_assert(text_equal(hourly(2)->hourly->customer_id, TEXT("acme")));
    ck_assert(text_equal(hourly(2)->hourly->dimensions, TEXT("{\"user_id\":\"user\"}")));
    ck_assert(text_equal(runs(2)->run->run_id, TEXT("run")));
}
END_TEST

START_TEST(a_sum_beyond_128_bits_is_an_error)
{
    decimal_t largest = (decimal_t)(~(unsigned __int128)0 >> 1);
    struct event event = usage("acme", NOON_US, 0);
    event.quantity = largest;
    add(event);
    event.quantity = 1;
    ck_assert(!accumulator_add(accumulator, &event));
}
END_TEST

static void fill(int rows)
{
    for (int i = 0; i < rows; i++) {
        char customer[16];
        snprintf(customer, sizeof customer, "c%d", i);
        add(usage(customer, NOON_US, 1));
    }
    accumulator_reset(accumulator);
    arena_reset(&arena);
}

START_TEST(a_rare_large_batch_gives_its_memory_back)
{
    fill(10);
    size_t small_bytes = accumulator_bytes(accumulator);
    fill(100000);
    size_t large_bytes = accumulator_bytes(accumulator);
    ck_assert_uint_gt(large_bytes, 100 * small_bytes);
    fill(10);
    ck_assert_uint_eq(accumulator_bytes(accumulator), large_bytes);
    for (int i = 0; i < 100; i++)
        fill(10);
    ck_assert_uint_eq(accumulator_bytes(accumulator), small_bytes);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, events_of_one_key_and_hour_become_one_row);
    tcase_add_test(tests, hours_are_floored_before_1970_too);
    tcase_add_test(tests, corrections_are_in_the_net_and_shown_apart);
    tcase_add_test(tests, neighbouring_texts_are_never_taken_for_each_other);
    tcase_add_test(tests, dimensions_are_canonical_json_without_absent_values);
    tcase_add_test(tests, other_dimensions_make_another_row);
    tcase_add_test(tests, an_agent_run_is_summed_over_its_hours);
    tcase_add_test(tests, runs_that_nobody_wants_are_not_summed);
    tcase_add_loop_test(tests, sums_equal_those_of_a_plain_model_between_sorts, 0, 4);
    tcase_add_test(tests, rows_come_in_the_order_of_their_primary_keys);
    tcase_add_loop_test(tests, ids_of_any_length_come_in_their_order, 0, 4);
    tcase_add_test(tests, the_order_does_not_depend_on_the_seed);
    tcase_add_test(tests, texts_are_the_accumulators_own);
    tcase_add_test(tests, a_sum_beyond_128_bits_is_an_error);
    tcase_add_test(tests, a_rare_large_batch_gives_its_memory_back);
}

int main(void)
{
    return run_suite("accumulator", add_tests);
}
