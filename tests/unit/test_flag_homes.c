/* The book of one lane after partitions were added: some keys of its partition are another lane's now. */
#include "consumer/flag.h"
#include "consumer/flag_book.h"
#include "suite.h"

#include <check.h>
#include <stdio.h>

static struct flag_book *book;
static struct arena arena;
static char ours[40], moved[40]; /* keys */

enum { LANE = 3, LANES = 8, OLD_EPOCH = 4, MOVE_EPOCH = 10, EPOCH = 15 };
#define NOW_US ((int64_t)1795372200000000)
#define DAY_US ((int64_t)86400000000)
static const char *const topics[] = {"usage"};

/* The first customer who is, or is not, at home in this lane. */
static void find_key(char *key, size_t size, bool at_home)
{
    char customer[16];
    for (int i = 0;; i++) {
        snprintf(customer, sizeof customer, "c-%d", i);
        if ((partitioner_lane(PARTITIONER_MURMUR2, text_of(customer), LANES) == LANE) == at_home)
            break;
    }
    snprintf(key, size, "[\"%s\",\"cap\",{}]", customer);
}

static void homes(bool said)
{
    const struct flag_homes known = {PARTITIONER_MURMUR2, LANES, MOVE_EPOCH, said};
    ck_assert(flag_book_homes(book, &known));
}

static void setup(void)
{
    arena_init(&arena, 4096);
    book = flag_book_new(LANE, (struct lookup_seed){{1, 2}});
    ck_assert_ptr_nonnull(book);
    find_key(ours, sizeof ours, true);
    find_key(moved, sizeof moved, false);
}

static void teardown(void)
{
    flag_book_free(book);
    arena_free(&arena);
}

static struct decision a_decision(bool active)
{
    struct decision decision = {.customer_id = TEXT("c"),
                                .ceiling = TEXT("cap"),
                                .scope = TEXT("{}"),
                                .meter = TEXT("tokens"),
                                .period = PERIOD_DAY,
                                .active = active,
                                .source = DECIDED_BY_EVENT,
                                .period_end_us = NOW_US,
                                .decided_at_us = NOW_US};
    memset(decision.id, active ? 'a' : 'A', 32);
    return decision;
}

static struct text a_value(bool active)
{
    struct decision decision = a_decision(active);
    struct text value = flag_value(&arena, &decision, topics);
    ck_assert_ptr_nonnull(value.bytes);
    return value;
}

static void see(const char *key, bool active, int64_t epoch, int64_t count)
{
    struct flag_sequence sequence = {epoch, count};
    struct text value = flag_with_sequence(&arena, a_value(active), sequence);
    ck_assert(flag_book_seen(book, text_of(key), value, true, sequence));
}

static void see_tombstone(const char *key, int64_t epoch, int64_t count)
{
    struct flag_sequence sequence = {epoch, count};
    ck_assert(flag_book_seen(book, text_of(key), (struct text){NULL, 0}, true, sequence));
}

static void run(void)
{
    flag_book_epoch(book, EPOCH);
    ck_assert(flag_book_reconcile(book, NOW_US));
}

static void bury(void)
{
    for (int i = 0; i < 3; i++)
        ck_assert(flag_book_bury(book, NOW_US + 2 * DAY_US, DAY_US));
}

/* Publishes what is due, which the topic takes. */
static const char *publish(void)
{
    static char line[200];
    struct flag_due due;
    if (!flag_book_due(book, &due))
        return "nothing";
    snprintf(line, sizeof line, "%s %.*s [%ld,%ld]", due.value.bytes ? "flag" : "tombstone",
             (int)due.key.length, due.key.bytes, (long)due.sequence.epoch, (long)due.sequence.count);
    struct flag_sequence sequence = due.sequence;
    uint64_t cookie = due.cookie;
    flag_book_published(book, cookie);
    flag_book_acknowledged(book, cookie);
    if (strncmp(line, "tombstone", 9) == 0)
        see_tombstone(strstr(line, moved) ? moved : ours, sequence.epoch, sequence.count);
    return line;
}

static const char *buried(int64_t count)
{
    static char line[200];
    snprintf(line, sizeof line, "tombstone %s [%d,%ld]", moved, OLD_EPOCH, (long)count);
    return line;
}

START_TEST(what_moved_is_left_alone_until_all_lanes_have_said_theirs)
{
    see(moved, true, OLD_EPOCH, 1);
    homes(false);
    run();
    bury();
    ck_assert_str_eq(publish(), "nothing");
    homes(true);
    bury();
    ck_assert_str_eq(publish(), buried(2));
    bury();
    ck_assert_str_eq(publish(), "nothing");
}
END_TEST

START_TEST(what_moved_and_was_cleared_is_buried_too)
{
    see(moved, false, OLD_EPOCH, 1);
    homes(true);
    run();
    bury();
    ck_assert_str_eq(publish(), buried(2));
}
END_TEST

START_TEST(nothing_of_ours_is_buried_before_either)
{
    see(ours, false, OLD_EPOCH, 1);
    homes(false);
    run();
    bury();
    ck_assert_str_eq(publish(), "nothing");
    homes(true);
    bury();
    char expected[80];
    snprintf(expected, sizeof expected, "tombstone %s [%d,1]", ours, EPOCH);
    ck_assert_str_eq(publish(), expected);
}
END_TEST

START_TEST(a_former_owners_late_message_is_buried_again)
{
    homes(true);
    run();
    see(moved, true, OLD_EPOCH, 1);
    bury();
    ck_assert_str_eq(publish(), buried(2));
    see(moved, true, OLD_EPOCH, 7);
    bury();
    ck_assert_str_eq(publish(), buried(8));
    see(moved, true, OLD_EPOCH, 5);
    bury();
    ck_assert_str_eq(publish(), buried(9));
}
END_TEST

START_TEST(a_burial_that_failed_is_made_again)
{
    see(moved, true, OLD_EPOCH, 1);
    homes(true);
    run();
    bury();
    struct flag_due due;
    ck_assert(flag_book_due(book, &due));
    uint64_t cookie = due.cookie;
    flag_book_published(book, cookie);
    flag_book_failed(book, cookie);
    bury();
    ck_assert_str_eq(publish(), buried(2));
}
END_TEST

START_TEST(a_burial_that_is_on_its_way_is_not_made_again)
{
    see(moved, true, OLD_EPOCH, 1);
    homes(true);
    run();
    bury();
    struct flag_due due;
    ck_assert(flag_book_due(book, &due));
    uint64_t cookie = due.cookie;
    flag_book_published(book, cookie);
    bury();
    ck_assert_str_eq(publish(), "nothing");
    flag_book_acknowledged(book, cookie);
    bury();
    ck_assert_str_eq(publish(), "nothing");
    see_tombstone(moved, OLD_EPOCH, 2);
    bury();
    ck_assert_str_eq(publish(), "nothing");
}
END_TEST

START_TEST(ours_is_said_and_withdrawn_as_ever)
{
    struct decision decision = a_decision(true);
    homes(true);
    ck_assert(flag_book_restore(book, text_of(ours), a_value(true), decision.id, true));
    run();
    char expected[80];
    snprintf(expected, sizeof expected, "flag %s [%d,1]", ours, EPOCH);
    ck_assert_str_eq(publish(), expected);
}
END_TEST

/* Another lane may have spoken for him meanwhile, and what it said is to be buried. */
START_TEST(who_may_have_been_elsewhere_is_said_again)
{
    struct decision decision = a_decision(true);
    see(ours, true, OLD_EPOCH, 1);
    homes(false);
    ck_assert(flag_book_restore(book, text_of(ours), a_value(true), decision.id, true));
    run();
    char expected[80];
    snprintf(expected, sizeof expected, "flag %s [%d,1]", ours, EPOCH);
    ck_assert_str_eq(publish(), expected);
    see(ours, true, EPOCH, 1);
    ck_assert(flag_book_reconcile(book, NOW_US));
    ck_assert_str_eq(publish(), "nothing");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_moved_is_left_alone_until_all_lanes_have_said_theirs);
    tcase_add_test(tests, what_moved_and_was_cleared_is_buried_too);
    tcase_add_test(tests, nothing_of_ours_is_buried_before_either);
    tcase_add_test(tests, a_former_owners_late_message_is_buried_again);
    tcase_add_test(tests, a_burial_that_failed_is_made_again);
    tcase_add_test(tests, a_burial_that_is_on_its_way_is_not_made_again);
    tcase_add_test(tests, ours_is_said_and_withdrawn_as_ever);
    tcase_add_test(tests, who_may_have_been_elsewhere_is_said_again);
}

int main(void)
{
    return run_suite("flag_homes", add_tests);
}
