/* The book of one lane against a topic that the test plays: `tell` appends a message and shows it to the
 * book. */
#include "consumer/flag.h"
#include "consumer/flag_book.h"
#include "suite.h"

#include <check.h>
#include <stdio.h>

static struct flag_book *book;
static struct arena arena;

enum { LANE = 3 };
#define NOW_US ((int64_t)1795372200000000)
#define DAY_US ((int64_t)86400000000)
static const char *const topics[] = {"usage"};

static void setup(void)
{
    arena_init(&arena, 4096);
    book = flag_book_new(LANE, (struct lookup_seed){{1, 2}});
    ck_assert_ptr_nonnull(book);
}

static void teardown(void)
{
    flag_book_free(book);
    arena_free(&arena);
}

/* A decision named by one letter: 'a' to 'z' cross, 'A' to 'Z' clear. */
static struct decision decision_of(char letter)
{
    struct decision decision = {.customer_id = TEXT("acme"),
                                .ceiling = TEXT("cap"),
                                .scope = TEXT("{}"),
                                .meter = TEXT("tokens"),
                                .period = PERIOD_DAY,
                                .active = letter >= 'a',
                                .source = DECIDED_BY_EVENT,
                                .period_end_us = NOW_US,
                                .partition = LANE,
                                .offset = letter,
                                .decided_at_us = NOW_US};
    memset(decision.id, letter, 32);
    return decision;
}

static struct text value_of(char letter)
{
    struct decision decision = decision_of(letter);
    struct text value = flag_value(&arena, &decision, topics);
    ck_assert_ptr_nonnull(value.bytes);
    return value;
}

static void decide(const char *key, char letter)
{
    struct decision decision = decision_of(letter);
    ck_assert(flag_book_decide(book, text_of(key), value_of(letter), decision.id, decision.active, NOW_US));
}

static void restore(const char *key, char letter)
{
    struct decision decision = decision_of(letter);
    ck_assert(flag_book_restore(book, text_of(key), value_of(letter), decision.id, decision.active));
}

static void commit(const char *key, char letter)
{
    flag_book_commit(book, text_of(key), decision_of(letter).id);
}

/* letter '-': a tombstone; '?': something else. */
static void see(const char *key, char letter, int64_t epoch, int64_t count)
{
    struct flag_sequence sequence = {epoch, count};
    struct text value = letter == '-'   ? (struct text){NULL, 0}
                        : letter == '?' ? TEXT("what?")
                                        : value_of(letter);
    if (letter != '-' && letter != '?')
        value = flag_with_sequence(&arena, value, sequence);
    ck_assert(flag_book_seen(book, text_of(key), value, epoch > 0, sequence));
}

static void reconcile(void)
{
    ck_assert(flag_book_reconcile(book, NOW_US));
}

/* The state of what is due: key, letter of the decision ('-': tombstone), +: active, sequence. Publishes it.
 */
static uint64_t last_published;
static const char *publish(void)
{
    static char line[200];
    struct flag_due due;
    if (!flag_book_due(book, &due))
        return "nothing";
    char letter = '-', state = ' ';
    if (due.value.bytes) {
        struct flag_message message;
        char sequence[60];
        snprintf(sequence, sizeof sequence, ",\"sequence\":[%ld,%ld],", (long)due.sequence.epoch,
                 (long)due.sequence.count);
        ck_assert_ptr_nonnull(memmem(due.value.bytes, due.value.length, sequence, strlen(sequence)));
        ck_assert_int_eq(flag_parse(&arena, due.value, &message), FLAG_READ);
        letter = message.decision_id.bytes[0];
        state = message.active ? '+' : '.';
    }
    snprintf(line, sizeof line, "%.*s %c%c [%ld,%ld]", (int)due.key.length, due.key.bytes, letter, state,
             (long)due.sequence.epoch, (long)due.sequence.count);
    last_published = due.cookie;
    flag_book_published(book, due.cookie);
    return line;
}

/* Taken over at epoch 5, with nothing to wait for. */
static void run(void)
{
    flag_book_epoch(book, 5);
    reconcile();
}

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
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_sequence_that_no_lane_gives_is_lower_than_any);
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
    tcase_add_test(tests, a_zombies_late_message_is_overridden_under_a_new_sequence);
    tcase_add_test(tests, a_zombies_message_before_ours_in_the_log_needs_no_answer);
    tcase_add_test(tests, a_zombies_message_for_an_untouched_key_is_withdrawn);
    tcase_add_test(tests, a_zombie_waits_for_reconcile);
    tcase_add_test(tests, reading_the_topic_again_finds_nothing_new);
    tcase_add_test(tests, what_compaction_took_meanwhile_is_said_again);
    tcase_add_test(tests, disorder_left_behind_in_the_log_is_mended);
    tcase_add_test(tests, a_higher_epoch_is_another_owners_and_is_left_alone);
    tcase_add_test(tests, a_foreign_message_is_overridden_where_a_flag_is_crossed_and_else_left);
    tcase_add_test(tests, a_failed_message_is_due_again);
    tcase_add_test(tests, a_failed_message_that_was_overtaken_is_not_sent_again);
    tcase_add_test(tests, settled_means_that_all_up_to_there_is_acknowledged);
    tcase_add_test(tests, a_tombstone_follows_some_time_after_clearing);
    tcase_add_test(tests, a_failed_tombstone_is_sent_again_unless_crossed_meanwhile);
    tcase_add_test(tests, the_highest_offset_named_by_a_flag_is_known);
    tcase_add_test(tests, a_restored_message_regains_its_order);
}

int main(void)
{
    return run_suite("flag_book", add_tests);
}
