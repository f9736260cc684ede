/* What lies in the enforcement topic may come from anybody: only a flag as we write it is read as one. */
#include "consumer/flag_message.h"

#include <check.h>
#include <stdlib.h>

#include "suite.h"

#define HEAD "{\"type\":\"flag\",\"decision_id\":\"0123456789abcdef0123456789abcdef\","
#define TIMES "\"expires_at\":\"2026-12-01T00:00:00Z\",\"decided_at\":\"2026-11-22T09:30:00Z\""
#define EVENT(topic, partition, offset)                                                                      \
    ",\"event\":{\"topic\":" topic ",\"partition\":" partition ",\"offset\":" offset "}}"
#define FLAG HEAD "\"state\":\"active\"," TIMES

static struct arena arena;

static void setup(void)
{
    arena_init(&arena, 4096);
}

static void teardown(void)
{
    arena_free(&arena);
}

static enum flag_reading parsed(const char *value, struct flag_message *message)
{
    return flag_parse(&arena, text_of(value), message);
}

START_TEST(a_flag_is_read_with_and_without_its_event)
{
    struct flag_message message;
    ck_assert_int_eq(parsed(FLAG ",\"event\":null}", &message), FLAG_READ);
    ck_assert(message.active && !message.has_event);
    ck_assert_int_eq(parsed(FLAG EVENT("\"usage\"", "3", "77"), &message), FLAG_READ);
    ck_assert(message.has_event && text_equal(message.topic, TEXT("usage")));
    ck_assert_int_eq(message.partition, 3);
    ck_assert_int_eq(message.offset, 77);
    ck_assert_int_eq(message.expires_at_us - message.decided_at_us, INT64_C(743400) * 1000000);
    ck_assert_int_eq(parsed(HEAD "\"state\":\"cleared\"," TIMES ",\"event\":null}", &message), FLAG_READ);
    ck_assert(!message.active);
}
END_TEST

START_TEST(anything_else_is_foreign)
{
    static const char *const foreign[] = {
        "",
        "what?",
        "[]",
        "{}",
        "{\"type\":\"other\",\"decision_id\":\"0123456789abcdef0123456789abcdef\",\"state\":\"active\"," TIMES
        ",\"event\":null}",
        "{\"type\":\"flag\",\"decision_id\":\"short\",\"state\":\"active\"," TIMES ",\"event\":null}",
        "{\"type\":\"flag\",\"decision_id\":7,\"state\":\"active\"," TIMES ",\"event\":null}",
        HEAD "\"state\":\"odd\"," TIMES ",\"event\":null}",
        HEAD "\"state\":null," TIMES ",\"event\":null}",
        HEAD "\"state\":\"active\",\"expires_at\":\"soon\",\"decided_at\":\"2026-11-22T09:30:00Z\",\"event\":"
             "null}",
        HEAD "\"state\":\"active\",\"expires_at\":\"2026-12-01T00:00:00Z\",\"event\":null}",
        FLAG "}",
        FLAG ",\"event\":7}",
        FLAG EVENT("7", "3", "77"),
        FLAG EVENT("\"usage\"", "\"3\"", "77"),
        FLAG EVENT("\"usage\"", "3", "null"),
        FLAG ",\"event\":{\"topic\":\"usage\",\"offset\":77}}",
        FLAG ",\"event\":{\"topic\":\"usage\",\"partition\":3}}",
        FLAG EVENT("\"usage\"", "-1", "77"),
        FLAG EVENT("\"usage\"", "4294967299", "77"),
        FLAG EVENT("\"usage\"", "3", "-77"),
    };
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        struct flag_message message;
        ck_assert_msg(parsed(foreign[i], &message) == FLAG_FOREIGN, "read: %s", foreign[i]);
    }
}
END_TEST

START_TEST(what_is_no_object_can_be_neither_ordered_nor_withdrawn)
{
    static const char *const wrong[] = {"", "[1]", "{\"type\":", "7"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        size_t length;
        char *ordered = flag_message_in_order(text_of(wrong[i]), &length);
        char *withdrawn = flag_message_withdrawn(text_of(wrong[i]), 0, &length);
        ck_assert_msg(!ordered && !withdrawn, "taken: %s", wrong[i]);
    }
}
END_TEST

START_TEST(members_come_in_one_order_and_foreign_ones_are_left_out)
{
    size_t length;
    char *ordered =
        flag_message_in_order(TEXT("{\"state\":\"active\",\"sequence\":[1,2],\"type\":\"flag\"}"), &length);
    ck_assert_ptr_nonnull(ordered);
    ck_assert_int_eq(strncmp(ordered, "{\"type\":\"flag\",\"state\":\"active\"}", length), 0);
    free(ordered);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_flag_is_read_with_and_without_its_event);
    tcase_add_test(tests, anything_else_is_foreign);
    tcase_add_test(tests, what_is_no_object_can_be_neither_ordered_nor_withdrawn);
    tcase_add_test(tests, members_come_in_one_order_and_foreign_ones_are_left_out);
}

int main(void)
{
    return run_suite("flag_message", add_tests);
}
