#include "consumer/lookup.h"

#include <check.h>
#include <stdlib.h>

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

int main(void)
{
    Suite *suite = suite_create("lookup");
    TCase *tcase = tcase_create("lookup");
    tcase_add_test(tcase, an_empty_lookup_finds_nothing);
    tcase_add_test(tcase, what_was_inserted_and_not_removed_is_found);
    tcase_add_test(tcase, equal_texts_hash_alike_and_others_do_not);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
