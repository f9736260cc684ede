/* The book of one lane after partitions were added: some keys of its partition are another lane's now. */
#include <check.h>
#include <stdio.h>

#include "flag_fixture.h"
#include "suite.h"

static char ours[40], moved[40]; /* keys */

enum { LANES = 8, OLD_EPOCH = 2, MOVE_EPOCH = 4 };

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
    new_book();
    find_key(ours, sizeof ours, true);
    find_key(moved, sizeof moved, false);
}

static void bury(void)
{
    for (int i = 0; i < 3; i++)
        ck_assert(flag_book_bury(book, NOW_US + 2 * DAY_US, DAY_US));
}

/* Publishes what is due, which the topic takes. */
static const char *say(void)
{
    const char *line = publish();
    const char *key = strncmp(line, moved, strlen(moved)) == 0 ? moved : ours;
    if (strcmp(line, "nothing") == 0)
        return line;
    flag_book_acknowledged(book, last_published);
    long epoch, count;
    if (sscanf(line + strlen(key), " -  [%ld,%ld]", &epoch, &count) == 2)
        see(key, '-', epoch, count);
    return line;
}

/* what: 'a+': a flag, '- ': a tombstone. */
static const char *said(const char *key, const char *what, int64_t epoch, int64_t count)
{
    static char line[200];
    snprintf(line, sizeof line, "%s %s [%ld,%ld]", key, what, (long)epoch, (long)count);
    return line;
}

static const char *buried(int64_t count)
{
    return said(moved, "- ", OLD_EPOCH, count);
}

START_TEST(what_moved_is_left_alone_until_all_lanes_have_said_theirs)
{
    see(moved, 'a', OLD_EPOCH, 1);
    homes(false);
    run();
    bury();
    ck_assert_str_eq(say(), "nothing");
    homes(true);
    bury();
    ck_assert_str_eq(say(), buried(2));
    bury();
    ck_assert_str_eq(say(), "nothing");
}
END_TEST

START_TEST(what_moved_and_was_cleared_is_buried_too)
{
    see(moved, 'A', OLD_EPOCH, 1);
    homes(true);
    run();
    bury();
    ck_assert_str_eq(say(), buried(2));
}
END_TEST

START_TEST(nothing_of_ours_is_buried_before_either)
{
    see(ours, 'A', OLD_EPOCH, 1);
    homes(false);
    run();
    bury();
    ck_assert_str_eq(say(), "nothing");
    homes(true);
    bury();
    ck_assert_str_eq(say(), said(ours, "- ", EPOCH, 1));
}
END_TEST

START_TEST(a_former_owners_late_message_is_buried_again)
{
    homes(true);
    run();
    see(moved, 'a', OLD_EPOCH, 1);
    bury();
    ck_assert_str_eq(say(), buried(2));
    see(moved, 'a', OLD_EPOCH, 7);
    bury();
    ck_assert_str_eq(say(), buried(8));
    see(moved, 'a', OLD_EPOCH, 5);
    bury();
    ck_assert_str_eq(say(), buried(9));
}
END_TEST

/* A tombstone that is sent, and has not arrived. Its cookie. */
static uint64_t send_burial(void)
{
    see(moved, 'a', OLD_EPOCH, 1);
    homes(true);
    run();
    bury();
    publish();
    return last_published;
}

START_TEST(a_burial_that_failed_is_made_again)
{
    flag_book_failed(book, send_burial());
    bury();
    ck_assert_str_eq(say(), buried(2));
}
END_TEST

START_TEST(a_burial_that_is_on_its_way_is_not_made_again)
{
    uint64_t cookie = send_burial();
    bury();
    ck_assert_str_eq(say(), "nothing");
    flag_book_acknowledged(book, cookie);
    bury();
    ck_assert_str_eq(say(), "nothing");
    see(moved, '-', OLD_EPOCH, 2);
    bury();
    ck_assert_str_eq(say(), "nothing");
}
END_TEST

START_TEST(ours_is_said_and_withdrawn_as_ever)
{
    homes(true);
    restore(ours, 'a');
    run();
    ck_assert_str_eq(say(), said(ours, "a+", EPOCH, 1));
}
END_TEST

/* Another lane may have spoken for him meanwhile, and what it said is to be buried. */
START_TEST(who_may_have_been_elsewhere_is_said_again)
{
    see(ours, 'a', OLD_EPOCH, 1);
    homes(false);
    restore(ours, 'a');
    run();
    ck_assert_str_eq(say(), said(ours, "a+", EPOCH, 1));
    see(ours, 'a', EPOCH, 1);
    reconcile();
    ck_assert_str_eq(say(), "nothing");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, free_book);
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
