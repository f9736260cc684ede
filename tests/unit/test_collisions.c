/* Keys whose hashes are equal are kept apart, whichever part of them differs. Lookups keep 32 bits of a hash:
 * among some hundred thousand keys a few share theirs, and here such are looked for. Where a hash is private
 * to a module, it is made here as it is made there. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "ceiling_fixture.h"
#include "consumer/flag_book.h"
#include "consumer/intern.h"
#include "rollup/accumulator.h"
#include "suite.h"

enum { CANDIDATES = 400000 };
static const struct lookup_seed seed = {{1, 2}};

struct candidate {
    uint32_t hash, number;
};

static int by_hash(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    return a->hash != b->hash ? (a->hash > b->hash) - (a->hash < b->hash)
                              : (a->number > b->number) - (a->number < b->number);
}

/* Two numbers whose hashes are equal and which differ as is wanted. */
static void find_pair(uint64_t (*hash)(uint32_t number), bool (*differ)(uint32_t a, uint32_t b),
                      uint32_t pair[2])
{
    static struct candidate candidates[CANDIDATES];
    for (uint32_t i = 0; i < CANDIDATES; i++)
        candidates[i] = (struct candidate){(uint32_t)hash(i), i};
    qsort(candidates, CANDIDATES, sizeof *candidates, by_hash);
    for (size_t i = 1; i < CANDIDATES; i++) {
        pair[0] = candidates[i - 1].number;
        pair[1] = candidates[i].number;
        if (candidates[i - 1].hash == candidates[i].hash && (!differ || differ(pair[0], pair[1])))
            return;
    }
    ck_abort_msg("no two hashes are equal");
}

static struct text numbered(const char *format, uint32_t number)
{
    static char texts[8][32];
    static int next;
    char *text = texts[next++ % 8];
    snprintf(text, sizeof texts[0], format, number);
    return text_of(text);
}

/* --- texts --- */

static uint64_t hash_of_text(uint32_t number)
{
    return lookup_keyed(seed, numbered("text %u", number));
}

START_TEST(words_are_found_by_what_they_say)
{
    uint32_t pair[2];
    struct intern intern;
    find_pair(hash_of_text, NULL, pair);
    intern_init(&intern, seed);
    uint32_t first = intern_hold(&intern, numbered("text %u", pair[0]));
    ck_assert_uint_eq(intern_find(&intern, numbered("text %u", pair[1])), LOOKUP_END);
    uint32_t second = intern_hold(&intern, numbered("text %u", pair[1]));
    ck_assert_uint_ne(first, second);
    ck_assert_uint_eq(intern_find(&intern, numbered("text %u", pair[0])), first);
    ck_assert_uint_eq(intern_find(&intern, numbered("text %u", pair[1])), second);
    intern_free(&intern);
}
END_TEST

START_TEST(flags_are_found_by_their_keys)
{
    uint32_t pair[2];
    struct flag_due due;
    find_pair(hash_of_text, NULL, pair);
    struct flag_book *book = flag_book_new(0, seed);
    flag_book_epoch(book, 1);
    for (int i = 0; i < 2; i++)
        ck_assert(flag_book_decide(book, numbered("text %u", pair[i]), TEXT("{\"type\":\"flag\"}"),
                                   "00000000000000000000000000000007", true, NOW_US));
    for (int i = 0; i < 2; i++) {
        ck_assert(flag_book_due(book, &due));
        ck_assert(text_equal(due.key, numbered("text %u", pair[i])));
        flag_book_published(book, due.cookie);
    }
    flag_book_free(book);
}
END_TEST

/* --- ceilings --- */

static uint64_t hash_of_name(uint32_t number)
{
    return lookup_text(0, numbered("text %u", number));
}

static uint64_t hash_of_meter(uint32_t number)
{
    return lookup_text(hash_of_name(number), TEXT(""));
}

static uint64_t hash_of_own(uint32_t number)
{
    return lookup_text(lookup_text(0, TEXT("tokens")), numbered("text %u", number));
}

START_TEST(ceilings_are_found_by_name_meter_and_customer)
{
    uint32_t name[2], meter[2], customer[2];
    find_pair(hash_of_name, NULL, name);
    find_pair(hash_of_meter, NULL, meter);
    find_pair(hash_of_own, NULL, customer);
    struct ceiling_catalogue *catalogue = ceiling_catalogue_new(6);
    for (int i = 0; i < 2; i++) {
        add_rule(catalogue, numbered("text %u", name[i]).bytes, "*", "calls", PERIOD_DAY, 1, 1);
        add_rule(catalogue, i ? "a" : "b", "*", numbered("text %u", meter[i]).bytes, PERIOD_DAY, 1, 1);
        add_rule(catalogue, i ? "c" : "d", numbered("text %u", customer[i]).bytes, "tokens", PERIOD_DAY, 1,
                 1);
    }
    for (int i = 0; i < 2; i++) {
        struct text wanted = numbered("text %u", name[i]);
        ck_assert(text_equal(ceiling_catalogue_find(catalogue, wanted)->name, wanted));
        wanted = numbered("text %u", meter[i]);
        struct ceiling_walk walk = ceiling_walk(catalogue, wanted, TEXT("anybody"));
        ck_assert(text_equal(ceiling_walk_next(&walk)->name, text_of(i ? "a" : "b")));
        ck_assert_ptr_null(ceiling_walk_next(&walk));
        walk = ceiling_walk(catalogue, TEXT("tokens"), numbered("text %u", customer[i]));
        ck_assert(text_equal(ceiling_walk_next(&walk)->name, text_of(i ? "c" : "d")));
        ck_assert_ptr_null(ceiling_walk_next(&walk));
    }
    ceiling_catalogue_free(catalogue);
}
END_TEST

/* --- what ceilings count: some customers, meters, scopes and periods, each in many hours --- */

enum { PARTS = 8 }; /* of each kind; of periods two */
static const char *const scopes[PARTS] = {"{}", "{1}", "{2}", "{3}", "{4}", "{5}", "{6}", "{7}"};
static enum { CUSTOMER, METER, SCOPE, PERIOD, START } part;

static uint32_t parts(void)
{
    return part == START ? 1 : part == PERIOD ? 2 : PARTS;
}

static uint32_t part_of(uint32_t number, int wanted)
{
    return wanted == (int)part ? number % parts() : 0;
}

static int64_t start_of(uint32_t number)
{
    int64_t days = number / parts() + 1; /* midnights, for a day and an hour may both begin then */
    return days * 24 * HOUR_US;
}

/* Words: the whole customer's scope, then as the tests below come to them. */
static uint64_t hash_of_counter(uint32_t number)
{
    uint64_t scope = part_of(number, SCOPE) == 0 ? 0 : 1 + part_of(number, SCOPE);
    uint64_t hash =
        lookup_mix(part_of(number, CUSTOMER), (uint64_t)(1 + part_of(number, METER)) << 32 | scope);
    return lookup_mix(hash ^ part_of(number, PERIOD), (uint64_t)start_of(number));
}

static bool part_differs(uint32_t a, uint32_t b)
{
    return part == START || a % parts() != b % parts();
}

static struct ceiling_counter counter_of(uint32_t number)
{
    return (struct ceiling_counter){.customer_id = numbered("c%u", part_of(number, CUSTOMER)),
                                    .meter = numbered("m%u", part_of(number, METER)),
                                    .scope = text_of(scopes[part_of(number, SCOPE)]),
                                    .period = part_of(number, PERIOD) ? PERIOD_DAY : PERIOD_HOUR,
                                    .period_start_us = start_of(number)};
}

/* So that words and customers have the numbers that hash_of_counter() takes them to have. */
static void number_words(struct ceiling_book *book)
{
    for (uint32_t i = 0; i < PARTS; i++) {
        part = part == CUSTOMER || part == METER || part == SCOPE ? part : CUSTOMER;
        struct ceiling_counter counter = counter_of(i);
        ck_assert(ceiling_book_restore_counter(book, &counter));
    }
}

static bool remember(void *context, const struct decision *decision)
{
    decimal_t *before = context;
    if (!text_equal(decision->scope, TEXT("{}")))
        return true;
    before[decision->period] = decision->used_before;
    return true;
}

static decimal_t used_before(struct ceiling_book *book, const struct ceiling_counter *counter)
{
    decimal_t before[PERIOD_COUNT] = {0};
    struct event event = {.event_id = TEXT("e"),
                          .customer_id = counter->customer_id,
                          .meter = counter->meter,
                          .quantity = 1000 * DECIMAL_ONE,
                          .time_us = counter->period_start_us};
    ck_assert(ceiling_book_count(book, &event, (struct ceiling_origin){0}, NOW_US, remember, before));
    return before[counter->period];
}

START_TEST(what_customers_used_is_found_by_customer_meter_scope_period_and_start)
{
    uint32_t pair[2];
    struct ceiling_catalogue *catalogue = ceiling_catalogue_new(2 * PARTS);
    for (uint32_t i = 0; i < 2 * PARTS; i++)
        add_rule(catalogue, numbered("rule %u", i).bytes, "*", numbered("m%u", i / 2).bytes,
                 i % 2 ? PERIOD_DAY : PERIOD_HOUR, 100, 100);
    for (int wanted = CUSTOMER; wanted <= START; wanted++) {
        part = wanted;
        find_pair(hash_of_counter, part_differs, pair);
        struct ceiling_book *book = ceiling_book_new(0, seed);
        number_words(book);
        part = wanted;
        struct ceiling_counter counters[2];
        for (int i = 0; i < 2; i++) {
            counters[i] = counter_of(pair[i]);
            counters[i].used = (7 + i) * DECIMAL_ONE;
            ck_assert(ceiling_book_restore_counter(book, &counters[i]));
        }
        ceiling_book_use(book, catalogue);
        for (int i = 0; i < 2; i++)
            if (text_equal(counters[i].scope, TEXT("{}")))
                ck_assert_msg(used_before(book, &counters[i]) == counters[i].used, "part %d", wanted);
        ceiling_book_free(book);
    }
    ceiling_catalogue_free(catalogue);
}
END_TEST

static uint64_t hash_of_state(uint32_t number)
{
    uint64_t scope = part_of(number, SCOPE) == 0 ? 0 : 1 + part_of(number, SCOPE);
    uint64_t hash =
        lookup_mix(part_of(number, CUSTOMER), (uint64_t)(1 + part_of(number, METER)) << 32 | scope);
    return lookup_mix(hash, (uint64_t)start_of(number));
}

static struct ceiling_state state_of(uint32_t number, int64_t transition)
{
    struct ceiling_counter counter = counter_of(number);
    return (struct ceiling_state){.customer_id = counter.customer_id,
                                  .ceiling = counter.meter,
                                  .scope = counter.scope,
                                  .period_start_us = counter.period_start_us,
                                  .period_end_us = counter.period_start_us + HOUR_US,
                                  .version = 1,
                                  .transition = transition,
                                  .active = true,
                                  .flag = TEXT("{}")};
}

static bool count_states(void *context, const struct ceiling_state *state)
{
    int *transitions = context;
    transitions[state->transition]++;
    return true;
}

START_TEST(what_was_decided_is_found_by_customer_ceiling_scope_and_start)
{
    uint32_t pair[2];
    for (int wanted = CUSTOMER; wanted <= START; wanted++) {
        part = wanted;
        if (part == PERIOD)
            continue;
        find_pair(hash_of_state, part_differs, pair);
        struct ceiling_book *book = ceiling_book_new(0, seed);
        number_words(book);
        part = wanted;
        for (int i = 0; i < 2; i++) {
            struct ceiling_state state = state_of(pair[i], 7 + i);
            ck_assert(ceiling_book_restore_state(book, &state));
        }
        int transitions[9] = {0};
        ck_assert(ceiling_book_states(book, count_states, transitions));
        int latest = start_of(pair[0]) > start_of(pair[1]) ? 0 : 1;
        ck_assert_int_eq(transitions[7 + latest], 1);
        ck_assert_int_eq(transitions[8 - latest], wanted == START ? 0 : 1);
        ceiling_book_free(book);
    }
}
END_TEST

/* --- rollups --- */

static const struct accumulator_rules rules = {
    .runs = true, .dimensions = {LIFTED_PARENT_RUN_ID}, .dimension_count = 1, .hash_seed = {1, 2}};
static struct accumulator *accumulator;
static bool in_run;
static enum { OF_CUSTOMER, OF_METER, OF_MODEL, OF_HOUR, OF_DIMENSION, OF_RUN, OF_AGENT, OF_USER } field;

static struct event varied(uint32_t number)
{
    struct text text = numbered("%u", number);
    struct event event = {.customer_id = field == OF_CUSTOMER ? text : TEXT("ann"),
                          .meter = field == OF_METER ? text : TEXT("tokens"),
                          .model = field == OF_MODEL ? text : TEXT("large"),
                          .time_us = field == OF_HOUR ? number * HOUR_US : NOW_US,
                          .quantity = DECIMAL_ONE};
    event.lifted[LIFTED_PARENT_RUN_ID] = field == OF_DIMENSION ? text : TEXT("");
    event.lifted[LIFTED_RUN_ID] = field == OF_RUN ? text : in_run ? TEXT("run") : TEXT("");
    event.lifted[LIFTED_AGENT_ID] = field == OF_AGENT ? text : TEXT("");
    event.lifted[LIFTED_USER_ID] = field == OF_USER ? text : TEXT("");
    return event;
}

static uint64_t hash_of_event(uint32_t number)
{
    struct event event = varied(number);
    struct accumulator_place place = accumulator_locate(accumulator, &event);
    return in_run ? place.run_tag : place.hourly_tag;
}

/* The first one twice, the second one once. */
static void add_pair(void)
{
    uint32_t pair[2];
    find_pair(hash_of_event, NULL, pair);
    for (int i = 0; i < 3; i++) {
        struct event event = varied(pair[i % 2]);
        ck_assert(accumulator_add(accumulator, &event));
    }
}

static void expect_rows_apart(void)
{
    struct arena arena;
    size_t count;
    arena_init(&arena, 4096);
    accumulator = accumulator_new(&rules, &arena);
    add_pair();
    int64_t events[2];
    if (in_run) {
        const struct sorted_row *rows = accumulator_runs(accumulator, &count);
        ck_assert_msg(count == 2, "field %d", (int)field);
        events[0] = rows[0].run->events, events[1] = rows[1].run->events;
    } else {
        const struct sorted_row *rows = accumulator_hourly(accumulator, &count);
        ck_assert_msg(count == 2, "field %d", (int)field);
        events[0] = rows[0].hourly->events, events[1] = rows[1].hourly->events;
    }
    ck_assert_int_eq(events[0] + events[1], 3);
    ck_assert_int_eq(events[0] * events[1], 2);
    accumulator_free(accumulator);
    arena_free(&arena);
}

START_TEST(hourly_rows_are_found_by_all_parts_of_their_key)
{
    in_run = false;
    for (field = OF_CUSTOMER; field <= OF_DIMENSION; field++)
        expect_rows_apart();
}
END_TEST

START_TEST(rows_of_runs_are_found_by_all_parts_of_their_key)
{
    in_run = true;
    for (field = OF_CUSTOMER; field <= OF_USER; field++)
        if (field != OF_HOUR && field != OF_DIMENSION)
            expect_rows_apart();
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, words_are_found_by_what_they_say);
    tcase_add_test(tests, flags_are_found_by_their_keys);
    tcase_add_test(tests, ceilings_are_found_by_name_meter_and_customer);
    tcase_add_test(tests, what_customers_used_is_found_by_customer_meter_scope_period_and_start);
    tcase_add_test(tests, what_was_decided_is_found_by_customer_ceiling_scope_and_start);
    tcase_add_test(tests, hourly_rows_are_found_by_all_parts_of_their_key);
    tcase_add_test(tests, rows_of_runs_are_found_by_all_parts_of_their_key);
}

int main(void)
{
    return run_suite("collisions", add_tests);
}
