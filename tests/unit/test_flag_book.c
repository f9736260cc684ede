/* What is decided comes to the topic: once, in order, whatever fails, is taken over or taken back. */
#include <check.h>

#include "flag_fixture.h"
#include "suite.h"

START_TEST(a_decision_is_due_at_once_and_counts_within_its_epoch)
{
    decide("k", 'a');
    ck_assert_str_eq(publish(), "nothing"); /* no epoch yet */
    run();
    decide("l", 'b');
    ck_assert_str_eq(publish(), "k a+ [5,1]");
    ck_assert_str_eq(publish(), "l b+ [5,2]");
    ck_assert_str_eq(publish(), "nothing");
    flag_book_epoch(book, 6);
    decide("k", 'A');
    ck_assert_str_eq(publish(), "k A. [6,1]");
}
END_TEST

START_TEST(a_full_queue_gets_the_same_message_again)
{
    run();
    decide("k", 'a');
    struct flag_due first, second;
    ck_assert(flag_book_due(book, &first));
    ck_assert(flag_book_due(book, &second));
    ck_assert_uint_eq(first.cookie, second.cookie);
    ck_assert_int_eq(first.sequence.count, second.sequence.count);
    ck_assert_str_eq(publish(), "k a+ [5,1]");
}
END_TEST

START_TEST(what_the_topic_holds_is_not_repeated_after_a_takeover)
{
    see("k", 'a', 4, 1);
    see("l", 'b', 4, 2);
    restore("k", 'a');
    ck_assert_int_eq(flag_book_highest_epoch(book), 4);
    flag_book_epoch(book, 5);
    decide("l", 'b'); /* published before, never committed, decided again */
    reconcile();
    ck_assert_str_eq(publish(), "nothing");
}
END_TEST

START_TEST(what_led_up_to_the_last_flag_is_not_published_again_after_a_takeover)
{
    see("k", 'a', 4, 1);
    see("k", 'A', 4, 2);
    see("k", 'b', 4, 3);
    flag_book_epoch(book, 5);
    decide("k", 'a');
    decide("k", 'A');
    ck_assert_str_eq(publish(), "nothing");
    decide("l", 'c'); /* never published */
    ck_assert_str_eq(publish(), "l c+ [5,1]");
    decide("k", 'b');
    decide("k", 'B'); /* later than what was published */
    ck_assert_str_eq(publish(), "k B. [5,2]");
}
END_TEST

START_TEST(what_led_up_to_the_last_flag_is_not_published_again_after_a_rewind)
{
    run();
    decide("k", 'a');
    publish();
    decide("k", 'A');
    publish();
    flag_book_undo(book);
    decide("k", 'a');
    ck_assert_str_eq(publish(), "nothing");
    reconcile(); /* and now it will not be decided again */
    ck_assert_str_eq(publish(), "k a+ [5,3]");
}
END_TEST

START_TEST(what_is_not_decided_again_is_withdrawn_only_after_reconcile)
{
    see("k", 'a', 4, 1);
    flag_book_epoch(book, 5);
    ck_assert_str_eq(publish(), "nothing");
    reconcile();
    ck_assert_str_eq(publish(), "k a. [5,1]");
    see("k", 'a', 4, 1); /* a zombie says it again, before ours is seen */
    ck_assert_str_eq(publish(), "nothing");
}
END_TEST

START_TEST(what_the_topic_lacks_is_published_by_reconcile)
{
    see("l", 'c', 4, 1);
    restore("k", 'a');
    restore("l", 'b');
    restore("m", 'A'); /* cleared: as good as nothing */
    flag_book_epoch(book, 5);
    ck_assert_str_eq(publish(), "nothing");
    reconcile();
    ck_assert_str_eq(publish(), "l b+ [5,1]");
    ck_assert_str_eq(publish(), "k a+ [5,2]");
    ck_assert_str_eq(publish(), "nothing");
}
END_TEST

START_TEST(nothing_is_repeated_after_a_rewind_when_decided_equally)
{
    run();
    decide("k", 'a');
    ck_assert_str_eq(publish(), "k a+ [5,1]");
    flag_book_undo(book);
    ck_assert_str_eq(publish(), "nothing");
    decide("k", 'a');
    ck_assert_str_eq(publish(), "nothing");
    see("k", 'a', 5, 1);
    flag_book_undo(book);
    decide("k", 'a');
    reconcile();
    ck_assert_str_eq(publish(), "nothing");
}
END_TEST

START_TEST(a_decision_taken_back_is_withdrawn_or_replaced_by_the_committed_one)
{
    run();
    decide("k", 'a');
    ck_assert_str_eq(publish(), "k a+ [5,1]");
    commit("k", 'a');
    decide("k", 'A');
    decide("l", 'b');
    ck_assert_str_eq(publish(), "k A. [5,2]");
    ck_assert_str_eq(publish(), "l b+ [5,3]");
    flag_book_undo(book);
    ck_assert_str_eq(publish(), "nothing");
    reconcile();
    ck_assert_str_eq(publish(), "k a+ [5,4]");
    ck_assert_str_eq(publish(), "l b. [5,5]");
}
END_TEST

START_TEST(an_undone_decision_that_was_not_sent_is_forgotten)
{
    run();
    decide("k", 'a');
    flag_book_undo(book);
    reconcile();
    ck_assert_str_eq(publish(), "nothing");
    ck_assert(flag_book_settled(book, flag_book_last_cookie(book)));
}
END_TEST

START_TEST(only_committed_decisions_survive_a_rewind)
{
    run();
    decide("k", 'a');
    decide("k", 'A');
    decide("k", 'b');
    commit("k", 'A');
    flag_book_undo(book);
    reconcile();
    ck_assert_str_eq(publish(), "nothing"); /* cleared, and the topic never heard of it */
    decide("k", 'b');
    ck_assert_str_eq(publish(), "k b+ [5,1]");
}
END_TEST

START_TEST(a_failed_message_is_due_again)
{
    run();
    decide("k", 'a');
    decide("l", 'b');
    publish();
    uint64_t failed = last_published;
    publish();
    flag_book_failed(book, failed);
    ck_assert_str_eq(publish(), "k a+ [5,3]");
    ck_assert_uint_eq(last_published, failed);
    flag_book_acknowledged(book, last_published);
    flag_book_acknowledged(book, last_published); /* late news */
    flag_book_failed(book, last_published);
    ck_assert_str_eq(publish(), "nothing");
}
END_TEST

START_TEST(a_failed_message_that_was_overtaken_is_not_sent_again)
{
    run();
    decide("k", 'a');
    publish();
    uint64_t overtaken = last_published;
    decide("k", 'A');
    publish();
    flag_book_failed(book, overtaken);
    ck_assert_str_eq(publish(), "nothing");
    flag_book_acknowledged(book, last_published);
    ck_assert(flag_book_settled(book, flag_book_last_cookie(book)));
}
END_TEST

START_TEST(settled_means_that_all_up_to_there_is_acknowledged)
{
    run();
    ck_assert(flag_book_settled(book, flag_book_last_cookie(book)));
    decide("k", 'a');
    decide("l", 'b');
    uint64_t last = flag_book_last_cookie(book);
    ck_assert(!flag_book_settled(book, last));
    publish();
    uint64_t first = last_published;
    publish();
    flag_book_acknowledged(book, last_published);
    ck_assert(!flag_book_settled(book, last));
    decide("m", 'c'); /* a later batch's affair */
    flag_book_failed(book, first);
    ck_assert(!flag_book_settled(book, last));
    ck_assert_str_eq(publish(), "k a+ [5,3]");
    ck_assert(!flag_book_settled(book, last));
    flag_book_acknowledged(book, last_published);
    ck_assert(flag_book_settled(book, last));
    ck_assert(!flag_book_settled(book, flag_book_last_cookie(book)));
}
END_TEST

static void bury(int64_t later_us)
{
    ck_assert(flag_book_bury(book, NOW_US + later_us, DAY_US));
}

START_TEST(a_tombstone_follows_some_time_after_clearing)
{
    run();
    decide("k", 'a');
    decide("l", 'b');
    publish();
    publish();
    see("k", 'a', 5, 1);
    see("l", 'b', 5, 2);
    decide("k", 'A');
    publish();
    see("k", 'A', 5, 3);
    flag_book_acknowledged(book, 1);
    flag_book_acknowledged(book, 2);
    flag_book_acknowledged(book, 3);
    commit("k", 'a');
    bury(2 * DAY_US);
    ck_assert_str_eq(publish(), "nothing"); /* not committed yet */
    commit("k", 'A');
    bury(DAY_US - 1);
    ck_assert_str_eq(publish(), "nothing");
    bury(DAY_US);
    ck_assert_str_eq(publish(), "k -  [5,4]");
    size_t before_bytes = flag_book_bytes(book);
    bury(2 * DAY_US);
    ck_assert_str_eq(publish(), "nothing");
    flag_book_acknowledged(book, last_published);
    see("k", '-', 5, 4);
    bury(2 * DAY_US);
    ck_assert_str_eq(publish(), "nothing");
    ck_assert_uint_lt(flag_book_bytes(book), before_bytes);
    decide("k", 'c');
    ck_assert_str_eq(publish(), "k c+ [5,5]");
}
END_TEST

/* What a former owner decided and never committed was not decided again: cleared is as good as nothing, but
 * it names a decision that nobody finds. */
START_TEST(what_is_cleared_by_a_decision_that_was_not_made_again_is_buried_at_once)
{
    see("k", 'A', 4, 1);
    see("l", 'B', 4, 2);
    see("m", 'C', 4, 3);
    restore("k", 'A');
    restore("l", 'D');
    bury(1);
    run();
    ck_assert_str_eq(publish(), "nothing");
    for (int i = 0; i < 3; i++)
        bury(1);
    ck_assert_str_eq(publish(), "l -  [5,1]");
    ck_assert_str_eq(publish(), "m -  [5,2]");
    ck_assert_str_eq(publish(), "nothing");
}
END_TEST

START_TEST(a_failed_tombstone_is_sent_again_unless_crossed_meanwhile)
{
    see("k", 'A', 4, 1);
    run();
    bury(DAY_US);
    ck_assert_str_eq(publish(), "k -  [5,1]");
    flag_book_failed(book, last_published);
    ck_assert_str_eq(publish(), "k -  [5,2]");
    flag_book_failed(book, last_published);
    decide("k", 'b');
    ck_assert_str_eq(publish(), "k b+ [5,3]");
    ck_assert_str_eq(publish(), "nothing");
}
END_TEST

START_TEST(a_restored_message_regains_its_order)
{
    struct text jsonb =
        TEXT("{\"type\": \"flag\", \"event\": null, \"state\": \"active\", \"decision_id\": "
             "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"expires_at\": \"2026-12-01T00:00:00Z\", "
             "\"decided_at\": \"2026-11-22T18:30:00Z\"}");
    ck_assert(flag_book_restore(book, TEXT("k"), jsonb, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", true));
    run();
    struct flag_due due;
    ck_assert(flag_book_due(book, &due));
    static const char expected[] = "{\"type\":\"flag\",\"decision_id\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\","
                                   "\"sequence\":[5,1],\"state\":\"active\",";
    ck_assert_uint_gt(due.value.length, sizeof expected);
    ck_assert_int_eq(memcmp(due.value.bytes, expected, sizeof expected - 1), 0);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, new_book, free_book);
    tcase_add_test(tests, a_decision_is_due_at_once_and_counts_within_its_epoch);
    tcase_add_test(tests, a_full_queue_gets_the_same_message_again);
    tcase_add_test(tests, what_the_topic_holds_is_not_repeated_after_a_takeover);
    tcase_add_test(tests, what_led_up_to_the_last_flag_is_not_published_again_after_a_takeover);
    tcase_add_test(tests, what_led_up_to_the_last_flag_is_not_published_again_after_a_rewind);
    tcase_add_test(tests, what_is_not_decided_again_is_withdrawn_only_after_reconcile);
    tcase_add_test(tests, what_the_topic_lacks_is_published_by_reconcile);
    tcase_add_test(tests, nothing_is_repeated_after_a_rewind_when_decided_equally);
    tcase_add_test(tests, a_decision_taken_back_is_withdrawn_or_replaced_by_the_committed_one);
    tcase_add_test(tests, an_undone_decision_that_was_not_sent_is_forgotten);
    tcase_add_test(tests, only_committed_decisions_survive_a_rewind);
    tcase_add_test(tests, a_failed_message_is_due_again);
    tcase_add_test(tests, a_failed_message_that_was_overtaken_is_not_sent_again);
    tcase_add_test(tests, settled_means_that_all_up_to_there_is_acknowledged);
    tcase_add_test(tests, a_tombstone_follows_some_time_after_clearing);
    tcase_add_test(tests, what_is_cleared_by_a_decision_that_was_not_made_again_is_buried_at_once);
    tcase_add_test(tests, a_failed_tombstone_is_sent_again_unless_crossed_meanwhile);
    tcase_add_test(tests, a_restored_message_regains_its_order);
}

int main(void)
{
    return run_suite("flag_book", add_tests);
}
