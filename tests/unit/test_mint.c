/* What `produce` adds to an event, and that it changes nothing else. */
#include <check.h>

#include "mint.h"
#include "uuid7.h"
#include "suite.h"

static const int64_t now_ms = INT64_C(1795310866576); /* 2026-11-22T01:27:46.576Z */
static const uint64_t chance[2] = {0xabc, 0x123456789abcdef0};

#define ID "01a200dd-d090-7abc-9234-56789abcdef0"
#define TIME "2026-11-22T01:27:46.576Z"

static void expect(const char *line, const char *value, const char *customer)
{
    struct mint mint = {0};
    struct minted minted;
    ck_assert_int_eq(mint_event(&mint, text_of(line), now_ms, chance, &minted), MINT_DONE);
    ck_assert_msg(text_equal(minted.value, text_of(value)), "%.*s", (int)minted.value.length,
                  minted.value.bytes);
    ck_assert(text_equal(minted.customer_id, text_of(customer)));
    mint_free(&mint);
}

static void expect_refused(const char *line, enum mint_outcome outcome)
{
    struct mint mint = {0};
    struct minted minted;
    ck_assert_int_eq(mint_event(&mint, text_of(line), now_ms, chance, &minted), outcome);
    ck_assert_uint_gt(strlen(mint.detail), 0);
    mint_free(&mint);
}

START_TEST(a_complete_event_is_sent_as_it_came)
{
    const char *event =
        " {\"event_id\" : \"e\",\"customer_id\":\"c\", \"timestamp\":1e3, \"quantity\":1.50} ";
    expect(event, event, "c");
}
END_TEST

START_TEST(what_is_missing_is_added_and_no_other_byte_changes)
{
    expect("{\"account_id\":\"a\", \"quantity\":12345678901234567890.10 }\t",
           "{\"account_id\":\"a\", \"quantity\":12345678901234567890.10 ,\"event_id\":\"" ID
           "\",\"timestamp\":\"" TIME "\"}\t",
           "a");
    expect("{\"customer_id\":\"c\",\"event_id\":\"}\"}",
           "{\"customer_id\":\"c\",\"event_id\":\"}\",\"timestamp\":\"" TIME "\"}", "c");
    expect("{\"customer_id\":\"c\",\"timestamp\":5}",
           "{\"customer_id\":\"c\",\"timestamp\":5,\"event_id\":\"" ID "\"}", "c");
}
END_TEST

START_TEST(an_event_that_corrects_another_keeps_the_time_for_its_producer_to_say)
{
    expect("{\"customer_id\":\"c\",\"event_id\":\"e\",\"kind\":\"retraction\"}",
           "{\"customer_id\":\"c\",\"event_id\":\"e\",\"kind\":\"retraction\"}", "c");
}
END_TEST

/* A second member of the name would make it worse. */
START_TEST(a_wrong_event_id_is_left_for_usagebox_to_refuse)
{
    expect("{\"customer_id\":\"c\",\"event_id\":null,\"timestamp\":0}",
           "{\"customer_id\":\"c\",\"event_id\":null,\"timestamp\":0}", "c");
}
END_TEST

START_TEST(what_is_no_event_is_told_apart)
{
    expect_refused("", MINT_NOT_JSON);
    expect_refused("{\"customer_id\":\"c\"", MINT_NOT_JSON);
    expect_refused("{\"customer_id\":\"c\"} {}", MINT_NOT_JSON);
    expect_refused("{\"customer_id\":\"\xff\"}", MINT_NOT_JSON);
    expect_refused("[1]", MINT_NOT_AN_OBJECT);
    expect_refused("\"text\"", MINT_NOT_AN_OBJECT);
    expect_refused("{}", MINT_NO_CUSTOMER);
    expect_refused("{\"customer_id\":7}", MINT_NO_CUSTOMER);
    expect_refused("{\"customer_id\":\"\"}", MINT_NO_CUSTOMER);
}
END_TEST

/* The vector of RFC 9562, appendix A.6. */
START_TEST(a_uuid7_is_that_of_the_rfc)
{
    char text[UUID7_TEXT_BYTES];
    uuid7_text(INT64_C(0x017f22e279b0), 0xcc3, 0x18c4dc0c0c07398f, text);
    ck_assert_str_eq(text, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_complete_event_is_sent_as_it_came);
    tcase_add_test(tests, what_is_missing_is_added_and_no_other_byte_changes);
    tcase_add_test(tests, an_event_that_corrects_another_keeps_the_time_for_its_producer_to_say);
    tcase_add_test(tests, a_wrong_event_id_is_left_for_usagebox_to_refuse);
    tcase_add_test(tests, what_is_no_event_is_told_apart);
    tcase_add_test(tests, a_uuid7_is_that_of_the_rfc);
}

int main(void)
{
    return run_suite("mint", add_tests);
}
