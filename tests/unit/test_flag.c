#include "consumer/flag.h"

#include <check.h>
#include <jansson.h>
#include <stdio.h>

#include "suite.h"
#include "with_sequence.h"

static struct arena arena;
static const char *const topics[] = {"usage", "late-usage"};

static void setup(void)
{
    arena_init(&arena, 4096);
}

static void teardown(void)
{
    arena_free(&arena);
}

static struct decision crossed(void)
{
    return (struct decision){.id = "00112233445566778899aabbccddeeff",
                             .lane = 3,
                             .customer_id = TEXT("cust_42"),
                             .ceiling = TEXT("pro-monthly-output"),
                             .scope = TEXT("{}"),
                             .meter = TEXT("llm_tokens_out"),
                             .version = 2,
                             .policy = POLICY_HARD_STOP,
                             .period = PERIOD_MONTH,
                             .period_start_us = 1793491200000000, /* 2026-11-01 */
                             .period_end_us = 1796083200000000,   /* 2026-12-01 */
                             .transition = 1,
                             .active = true,
                             .limit = 1000000 * DECIMAL_ONE,
                             .used_before = 999000 * DECIMAL_ONE + DECIMAL_ONE / 2,
                             .used = 1000417 * DECIMAL_ONE,
                             .source = DECIDED_BY_EVENT,
                             .reason = REASON_CROSSED,
                             .event_id = TEXT("req_8x42jk"),
                             .event_time_us = 1795372200000000,
                             .topic = 0,
                             .partition = 3,
                             .offset = 88123,
                             .plan_tier = TEXT("pro"),
                             .has_credit_balance = true,
                             .credit_balance = -3 * DECIMAL_ONE,
                             .decided_at_us = 1795372200012345,
                             .published = true};
}

static const char *terminated(struct text text)
{
    ck_assert_ptr_nonnull(text.bytes);
    static char copy[8192];
    ck_assert_uint_lt(text.length, sizeof copy);
    memcpy(copy, text.bytes, text.length);
    copy[text.length] = '\0';
    return copy;
}

#define HEAD "{\"type\":\"flag\",\"decision_id\":\"00112233445566778899aabbccddeeff\""
#define TAIL                                                                                                 \
    ",\"customer_id\":\"cust_42\",\"policy\":\"hard-stop\",\"state\":\"active\","                            \
    "\"reason\":\"Used 1000417 of 1000000 llm_tokens_out in the month of 2026-11\","                         \
    "\"ceiling\":\"pro-monthly-output\",\"scope\":{},\"meter\":\"llm_tokens_out\",\"limit\":\"1000000\","    \
    "\"used\":\"1000417\",\"remaining\":\"-417\",\"period\":{\"type\":\"month\","                            \
    "\"start\":\"2026-11-01T00:00:00Z\",\"end\":\"2026-12-01T00:00:00Z\"},"                                  \
    "\"expires_at\":\"2026-12-01T00:00:00Z\",\"event\":{\"event_id\":\"req_8x42jk\","                        \
    "\"timestamp\":\"2026-11-22T18:30:00Z\",\"topic\":\"usage\",\"partition\":3,\"offset\":88123},"          \
    "\"decided_at\":\"2026-11-22T18:30:00.012345Z\"}"

START_TEST(a_crossing_reads_as_documented)
{
    struct decision decision = crossed();
    struct text value = flag_value(&arena, &decision, topics);
    ck_assert_str_eq(terminated(value), HEAD TAIL);
    ck_assert_str_eq(terminated(with_sequence(&arena, value, (struct flag_sequence){12, 88123})),
                     HEAD ",\"sequence\":[12,88123]" TAIL);
}
END_TEST

START_TEST(a_key_is_customer_ceiling_and_scope)
{
    ck_assert_str_eq(terminated(flag_key(&arena, TEXT("cust_42"), TEXT("cap"), TEXT("{\"user_id\":\"u7\"}"))),
                     "[\"cust_42\",\"cap\",{\"user_id\":\"u7\"}]");
}
END_TEST

static const char *reason_of(struct decision *decision)
{
    struct text value = flag_value(&arena, decision, topics);
    json_t *json = json_loadb(value.bytes, value.length, 0, NULL);
    ck_assert_ptr_nonnull(json);
    static char reason[400];
    snprintf(reason, sizeof reason, "%s", json_string_value(json_object_get(json, "reason")));
    json_decref(json);
    return reason;
}

START_TEST(the_reason_is_a_sentence_for_a_person)
{
    struct decision decision = crossed();
    decision.period = PERIOD_HOUR;
    decision.period_start_us = 1795370400000000;
    decision.used = 3 * DECIMAL_ONE / 2;
    ck_assert_str_eq(reason_of(&decision), "Used 1.5 of 1000000 llm_tokens_out in the hour of 2026-11-22T18");
    decision.period = PERIOD_DAY;
    ck_assert_str_eq(reason_of(&decision), "Used 1.5 of 1000000 llm_tokens_out in the day of 2026-11-22");
    decision.active = false;
    decision.reason = REASON_WITHIN_AGAIN;
    ck_assert_str_eq(reason_of(&decision), "Back within the limit");
    decision.reason = REASON_PERIOD_OVER;
    ck_assert_str_eq(reason_of(&decision), "The period is over");
    decision.reason = REASON_CEILING_GONE;
    ck_assert_str_eq(reason_of(&decision), "The ceiling is gone");
}
END_TEST

START_TEST(a_long_meter_is_cut_in_the_reason_and_whole_beside_it)
{
    struct decision decision = crossed();
    char meter[201] = {0}, cut[129] = {0};
    memset(meter, 'm', sizeof meter - 1);
    memset(cut, 'm', sizeof cut - 1);
    decision.meter = text_of(meter);
    const char *reason = reason_of(&decision);
    ck_assert_ptr_nonnull(strstr(reason, cut));
    ck_assert_ptr_null(strstr(reason, meter));
    ck_assert_ptr_nonnull(strstr(terminated(flag_value(&arena, &decision, topics)), meter));
}
END_TEST

START_TEST(a_sequence_goes_behind_the_brace_of_what_others_wrote)
{
    static const char *const others[][2] = {
        {"{\"x\":1}", "{\"sequence\":[1,2],\"x\":1}"},
        {"{\"state\":\"active\",\"decision_id\":\"00112233445566778899aabbccddeeff\",\"x\":\"and more\"}",
         "{\"sequence\":[1,2],\"state\":\"active\",\"decision_id\":\"00112233445566778899aabbccddeeff\","
         "\"x\":\"and more\"}"},
        {"{\"type\":\"flag\",\"decision_id\":\"00112233445566778899aabbccddeeff and more\"}",
         "{\"sequence\":[1,2],\"type\":\"flag\",\"decision_id\":\"00112233445566778899aabbccddeeff and "
         "more\"}"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        ck_assert_str_eq(
            terminated(with_sequence(&arena, text_of(others[i][0]), (struct flag_sequence){1, 2})),
            others[i][1]);
}
END_TEST

START_TEST(hostile_texts_stay_inside_their_strings)
{
    struct decision decision = crossed();
    decision.customer_id = TEXT("\",\"state\":\"cleared\\\n\x01\xff");
    decision.event_id = TEXT("\xf0\x9f\x92\xa5\xed\xa0\x80\"");
    struct text value = flag_value(&arena, &decision, topics);
    struct text key = flag_key(&arena, decision.customer_id, decision.ceiling, decision.scope);
    struct text trace = flag_trace(&arena, &decision, value);
    json_t *json = json_loadb(trace.bytes, trace.length, JSON_REJECT_DUPLICATES, NULL);
    json_t *flag = json_object_get(json, "flag");
    ck_assert_str_eq(json_string_value(json_object_get(flag, "customer_id")),
                     "\",\"state\":\"cleared\\\n\x01\xef\xbf\xbd");
    ck_assert_str_eq(json_string_value(json_object_get(flag, "state")), "active");
    json_decref(json);
    json = json_loadb(key.bytes, key.length, 0, NULL);
    ck_assert_uint_eq(json_array_size(json), 3);
    json_decref(json);
}
END_TEST

START_TEST(without_an_event_there_is_null)
{
    struct decision decision = crossed();
    decision.source = DECIDED_BY_CLOCK;
    struct text value = flag_value(&arena, &decision, topics);
    ck_assert_ptr_nonnull(strstr(terminated(value), ",\"event\":null,"));
    struct flag_message message;
    ck_assert_int_eq(flag_parse(&arena, value, &message), FLAG_READ);
    ck_assert(!message.has_event);
}
END_TEST

START_TEST(numbers_beyond_128_bits_do_not_wrap)
{
    struct decision decision = crossed();
    decision.used = -((decimal_t)1 << 126) * 2 + 1;
    struct text value = flag_value(&arena, &decision, topics);
    ck_assert_ptr_nonnull(
        strstr(terminated(value), "\"remaining\":\"170141183460469231731687303715.884105727\""));
    decision.limit = decision.used;
    decision.used = DECIMAL_ONE;
    value = flag_value(&arena, &decision, topics);
    ck_assert_ptr_nonnull(
        strstr(terminated(value), "\"remaining\":\"-170141183460469231731687303715.884105727\""));
}
END_TEST

START_TEST(the_trace_tells_how_it_was_reached)
{
    struct decision decision = crossed();
    struct text value = flag_value(&arena, &decision, topics);
    ck_assert_str_eq(
        terminated(flag_trace(&arena, &decision, value)),
        "{\"flag\":" HEAD TAIL ",\"source\":\"event\",\"transition\":1,\"published\":true,"
        "\"rule\":{\"ceiling\":\"pro-monthly-output\",\"version\":2,\"meter\":\"llm_tokens_out\","
        "\"period\":\"month\",\"policy\":\"hard-stop\",\"limit\":\"1000000\"},"
        "\"counter\":{\"before\":\"999000.5\",\"after\":\"1000417\"},"
        "\"policy_metadata\":{\"plan_tier\":\"pro\",\"credit_balance\":\"-3\"},"
        "\"timings\":{\"event\":\"2026-11-22T18:30:00Z\",\"event_to_decision_us\":12345,"
        "\"decided\":\"2026-11-22T18:30:00.012345Z\"}}");
}
END_TEST

START_TEST(the_trace_tells_the_contractual_cap)
{
    struct decision decision = crossed();
    decision.has_contractual_cap = true;
    decision.contractual_cap = 5 * DECIMAL_ONE;
    struct text trace = flag_trace(&arena, &decision, flag_value(&arena, &decision, topics));
    ck_assert_ptr_nonnull(strstr(terminated(trace), "\"credit_balance\":\"-3\",\"contractual_cap\":\"5\"}"));
}
END_TEST

START_TEST(a_message_is_read_back)
{
    struct decision decision = crossed();
    struct text value =
        with_sequence(&arena, flag_value(&arena, &decision, topics), (struct flag_sequence){1, 2});
    struct flag_message message;
    ck_assert_int_eq(flag_parse(&arena, value, &message), FLAG_READ);
    ck_assert(text_equal(message.decision_id, TEXT("00112233445566778899aabbccddeeff")));
    ck_assert(message.active && message.has_event);
    ck_assert(text_equal(message.topic, TEXT("usage")));
    ck_assert_int_eq(message.partition, 3);
    ck_assert_int_eq(message.offset, 88123);
    ck_assert_int_eq(message.expires_at_us, decision.period_end_us);
    ck_assert_int_eq(message.decided_at_us, decision.decided_at_us);
}
END_TEST

START_TEST(what_is_no_flag_of_ours_is_foreign)
{
    static const char *const foreign[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"type\":\"heartbeat\"}",
        "\xff\xfe",
        "{\"type\":\"flag\",\"decision_id\":\"short\",\"state\":\"active\"}",
        HEAD ",\"state\":\"paused\",\"expires_at\":\"2026-12-01T00:00:00Z\",\"event\":null,"
             "\"decided_at\":\"2026-12-01T00:00:00Z\"}",
        HEAD ",\"state\":\"active\",\"expires_at\":\"soon\",\"event\":null,"
             "\"decided_at\":\"2026-12-01T00:00:00Z\"}",
        HEAD ",\"state\":\"active\",\"expires_at\":\"2026-12-01T00:00:00Z\",\"event\":{\"topic\":\"usage\"},"
             "\"decided_at\":\"2026-12-01T00:00:00Z\"}",
    };
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        struct flag_message message;
        ck_assert_int_eq(flag_parse(&arena, text_of(foreign[i]), &message), FLAG_FOREIGN);
    }
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_long_meter_is_cut_in_the_reason_and_whole_beside_it);
    tcase_add_test(tests, a_sequence_goes_behind_the_brace_of_what_others_wrote);
    tcase_add_test(tests, the_trace_tells_the_contractual_cap);
    tcase_add_test(tests, a_crossing_reads_as_documented);
    tcase_add_test(tests, a_key_is_customer_ceiling_and_scope);
    tcase_add_test(tests, the_reason_is_a_sentence_for_a_person);
    tcase_add_test(tests, hostile_texts_stay_inside_their_strings);
    tcase_add_test(tests, without_an_event_there_is_null);
    tcase_add_test(tests, numbers_beyond_128_bits_do_not_wrap);
    tcase_add_test(tests, the_trace_tells_how_it_was_reached);
    tcase_add_test(tests, a_message_is_read_back);
    tcase_add_test(tests, what_is_no_flag_of_ours_is_foreign);
}

int main(void)
{
    return run_suite("flag", add_tests);
}
