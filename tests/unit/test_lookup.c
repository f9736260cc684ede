#include "consumer/intern.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "suite.h"

static bool holds(const struct lookup *lookup, uint64_t hash, uint32_t row)
{
    struct lookup_walk walk = lookup_walk(lookup, hash);
    uint32_t found;
    while ((found = lookup_next(lookup, &walk)) != LOOKUP_END)
        if (found == row)
            return true;
    return false;
}

START_TEST(an_empty_lookup_finds_nothing)
{
    struct lookup lookup = {0};
    ck_assert(!holds(&lookup, 7, 0));
    lookup_free(&lookup);
}
END_TEST

/* Few hashes, so that runs are long and wrap around the end. */
START_TEST(what_was_inserted_and_not_removed_is_found)
{
    enum { ROWS = 3000 };
    static bool there[ROWS];
    struct lookup lookup = {0};
    srand(4711);
    for (int step = 0; step < 60000; step++) {
        uint32_t row = (uint32_t)(rand() % ROWS);
        uint64_t hash = row % 61 * 0xfffffffbu;
        ck_assert(holds(&lookup, hash, row) == there[row]);
        if (there[row]) {
            lookup_remove(&lookup, hash, row);
        } else {
            ck_assert(lookup_reserve(&lookup, 1));
            lookup_insert(&lookup, hash, row);
        }
        there[row] = !there[row];
    }
    lookup_free(&lookup);
}
END_TEST

START_TEST(equal_texts_hash_alike_and_others_do_not)
{
    char bytes[40] = "a customer with a rather long name";
    uint64_t hash = lookup_text(1, text_of(bytes));
    ck_assert_uint_eq(hash, lookup_text(1, TEXT("a customer with a rather long name")));
    for (uint32_t i = 0; bytes[i]; i++) {
        bytes[i] ^= 1;
        ck_assert_uint_ne(hash, lookup_text(1, text_of(bytes)));
        bytes[i] ^= 1;
        ck_assert_uint_ne(hash, lookup_text(1, (struct text){bytes, i}));
    }
    ck_assert_uint_ne(lookup_text(1, TEXT("")), lookup_text(1, TEXT("\0")));
}
END_TEST

/* In the order in which they lie. */
static void place_names(uint64_t seed, uint32_t order[], uint32_t count)
{
    struct intern intern;
    char name[20];
    intern_init(&intern, (struct lookup_seed){{seed, 0}});
    for (uint32_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "customer-%u", i);
        ck_assert_uint_ne(intern_hold(&intern, text_of(name)), LOOKUP_END);
    }
    size_t cell = 0;
    for (uint32_t i = 0; i < count; i++)
        order[i] = lookup_each(&intern.lookup, &cell);
    intern_free(&intern);
}

START_TEST(where_names_lie_depends_on_a_seed_that_nobody_knows)
{
    enum { NAMES = 200 };
    uint32_t first[NAMES], again[NAMES], other[NAMES];
    place_names(1, first, NAMES);
    place_names(1, again, NAMES);
    place_names(2, other, NAMES);
    ck_assert_mem_eq(first, again, sizeof first);
    ck_assert_mem_ne(first, other, sizeof first);
}
END_TEST

/* Words that the quick hash multiplies by zero leave nothing of what came before them. */
START_TEST(no_text_makes_the_keyed_hash_forget_its_seed)
{
    const uint64_t zero = UINT64_C(0xd6e8feb86659fd93);
    char bytes[16] = "acme-co";
    memcpy(bytes + 8, &zero, sizeof zero);
    struct text text = {bytes, sizeof bytes};
    ck_assert_uint_eq(lookup_text(1, text), lookup_text(2, text));
    ck_assert_uint_ne(lookup_keyed((struct lookup_seed){{1, 0}}, text),
                      lookup_keyed((struct lookup_seed){{2, 0}}, text));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, an_empty_lookup_finds_nothing);
    tcase_add_test(tests, what_was_inserted_and_not_removed_is_found);
    tcase_add_test(tests, equal_texts_hash_alike_and_others_do_not);
    tcase_add_test(tests, where_names_lie_depends_on_a_seed_that_nobody_knows);
    tcase_add_test(tests, no_text_makes_the_keyed_hash_forget_its_seed);
}

int main(void)
{
    return run_suite("lookup", add_tests);
}
