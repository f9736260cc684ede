/* What the topic holds that nobody decided here: of a zombie, of an earlier or a later owner, of strangers.
 */
#include <check.h>

#include "flag_fixture.h"
#include "suite.h"

START_TEST(a_sequence_that_no_lane_gives_is_lower_than_any)
{
    const int64_t beyond = (int64_t)1 << 53;
    see("k", 'a', beyond, 1);
    see("k", 'a', 7, 0);
    see("k", 'a', 7, beyond);
    see("k", 'a', 0, 1);
    ck_assert_int_eq(flag_book_highest_epoch(book), 0);
    see("k", 'a', beyond - 1, beyond - 1);
    ck_assert_int_eq(flag_book_highest_epoch(book), beyond - 1);
}
END_TEST

START_TEST(a_zombies_late_message_is_overridden_under_a_new_sequence)
{
    run();
    decide("k", 'a');
    ck_assert_str_eq(publish(), "k a+ [5,1]");
    see("k", 'a', 5, 1);
    ck_assert_str_eq(publish(), "nothing");
    see("k", 'z', 4, 77);
    ck_assert_str_eq(publish(), "k a+ [5,2]");
    see("k", 'a', 5, 2);
    ck_assert_str_eq(publish(), "nothing");
    see("k", 'a', 4, 78); /* the same decision: compaction would keep the lower sequence all the same */
    ck_assert_str_eq(publish(), "k a+ [5,3]");
}
END_TEST

START_TEST(a_zombies_message_before_ours_in_the_log_needs_no_answer)
{
    run();
    decide("k", 'a');
    ck_assert_str_eq(publish(), "k a+ [5,1]");
    see("k", 'z', 4, 77);
    see("k", 'a', 5, 1);
    ck_assert_str_eq(publish(), "nothing");
}
END_TEST

START_TEST(a_zombies_message_for_an_untouched_key_is_withdrawn)
{
    run();
    see("k", 'z', 4, 77);
    ck_assert_str_eq(publish(), "k z. [5,1]");
}
END_TEST

START_TEST(a_zombie_waits_for_reconcile)
{
    see("k", 'a', 4, 1);
    restore("k", 'a');
    flag_book_epoch(book, 5);
    see("k", 'z', 3, 9);
    ck_assert_str_eq(publish(), "nothing");
    reconcile();
    ck_assert_str_eq(publish(), "k a+ [5,1]");
}
END_TEST

START_TEST(reading_the_topic_again_finds_nothing_new)
{
    see("k", 'a', 4, 1);
    restore("k", 'a');
    run();
    decide("k", 'A');
    publish();
    flag_book_acknowledged(book, last_published);
    see("k", 'A', 5, 1);
    decide("l", 'b'); /* still on its way */
    ck_assert_str_eq(publish(), "l b+ [5,2]");
    flag_book_read_again(book);
    see("k", 'a', 4, 1);
    see("k", 'A', 5, 1);
    reconcile();
    ck_assert_str_eq(publish(), "nothing");
    see("l", 'b', 5, 2);
    ck_assert_str_eq(publish(), "nothing");
}
END_TEST

START_TEST(what_compaction_took_meanwhile_is_said_again)
{
    run();
    decide("k", 'a');
    publish();
    flag_book_acknowledged(book, last_published);
    flag_book_read_again(book); /* it was never seen: a zombie's message has taken its place */
    see("k", 'z', 4, 9);
    reconcile();
    ck_assert_str_eq(publish(), "k a+ [5,2]");
}
END_TEST

START_TEST(disorder_left_behind_in_the_log_is_mended)
{
    see("k", 'A', 4, 2);
    see("k", 'a', 3, 9);
    see("l", 'b', 4, 3);
    see("l", '-', 3, 10);
    restore("k", 'A');
    restore("l", 'b');
    flag_book_epoch(book, 5);
    reconcile();
    ck_assert_str_eq(publish(), "k A. [5,1]");
    ck_assert_str_eq(publish(), "l b+ [5,2]");
    ck_assert_str_eq(publish(), "nothing");
}
END_TEST

START_TEST(a_higher_epoch_is_another_owners_and_is_left_alone)
{
    run();
    decide("k", 'a');
    ck_assert_str_eq(publish(), "k a+ [5,1]");
    see("k", 'a', 5, 1);
    see("k", 'z', 6, 1);
    decide("k", 'b');
    ck_assert_str_eq(publish(), "nothing");
    ck_assert_int_eq(flag_book_highest_epoch(book), 6);
    flag_book_epoch(book, 7);
    reconcile();
    ck_assert_str_eq(publish(), "k b+ [7,1]");
}
END_TEST

START_TEST(a_foreign_message_is_overridden_where_a_flag_is_crossed_and_else_left)
{
    run();
    decide("k", 'a');
    ck_assert_str_eq(publish(), "k a+ [5,1]");
    see("k", 'a', 5, 1);
    see("k", '?', 0, 0);
    ck_assert_str_eq(publish(), "k a+ [5,2]");
    see("other", '?', 9, 9);
    see("another", '?', 0, 0);
    ck_assert_str_eq(publish(), "nothing");
    see("k", 'a', 5, 2);
    see("k", '-', 0, 0); /* somebody's tombstone */
    ck_assert_str_eq(publish(), "k a+ [5,3]");
}
END_TEST

START_TEST(the_highest_offset_named_by_a_flag_is_known)
{
    ck_assert_int_eq(flag_book_reached(book, TEXT("usage"), LANE), -1);
    see("k", 'b', 4, 1);
    see("l", 'a', 4, 2);
    ck_assert_int_eq(flag_book_reached(book, TEXT("usage"), LANE), 'b');
    ck_assert_int_eq(flag_book_reached(book, TEXT("usage"), LANE + 1), -1);
    ck_assert_int_eq(flag_book_reached(book, TEXT("other"), LANE), -1);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, new_book, free_book);
    tcase_add_test(tests, a_sequence_that_no_lane_gives_is_lower_than_any);
    tcase_add_test(tests, a_zombies_late_message_is_overridden_under_a_new_sequence);
    tcase_add_test(tests, a_zombies_message_before_ours_in_the_log_needs_no_answer);
    tcase_add_test(tests, a_zombies_message_for_an_untouched_key_is_withdrawn);
    tcase_add_test(tests, a_zombie_waits_for_reconcile);
    tcase_add_test(tests, reading_the_topic_again_finds_nothing_new);
    tcase_add_test(tests, what_compaction_took_meanwhile_is_said_again);
    tcase_add_test(tests, disorder_left_behind_in_the_log_is_mended);
    tcase_add_test(tests, a_higher_epoch_is_another_owners_and_is_left_alone);
    tcase_add_test(tests, a_foreign_message_is_overridden_where_a_flag_is_crossed_and_else_left);
    tcase_add_test(tests, the_highest_offset_named_by_a_flag_is_known);
}

int main(void)
{
    return run_suite("flag_topic", add_tests);
}
