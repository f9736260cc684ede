/* Every field of a usage event, on both sides of its boundary. */
#include "event_fixture.h"
#include "suite.h"

#define TIME(time) EVENT("\"timestamp\":" time)
#define POLICY(members) EVENT("\"policy_metadata\":{" members "}")
#define CORRECTION(members) EVENT("\"kind\":\"correction\"," members)
#define ORIGINAL "\"timestamp\":\"2026-11-22T09:00:00Z\""

static void assert_text(struct text text, const char *expected)
{
    ck_assert_msg(text_equal(text, text_of(expected)), "%.*s is not %s", (int)text.length, text.bytes,
                  expected);
}

static void assert_time(const char *json, int64_t time_us)
{
    assert_accepted(json);
    ck_assert_int_eq(event.time_us, time_us);
}

static void assert_bytes(const char *template, const char *unit, size_t least, size_t most)
{
    if (least > 0)
        assert_refused(REFUSAL_OUT_OF_RANGE, filled(template, unit, least - 1));
    assert_accepted(filled(template, unit, least));
    assert_accepted(filled(template, unit, most));
    assert_refused(REFUSAL_OUT_OF_RANGE, filled(template, unit, most + 1));
}

START_TEST(every_field_arrives)
{
    assert_accepted(
        "{\"event_id\":\"req_8x42jk\",\"account_id\":\"acme-co\",\"meter\":\"llm_tokens_in\",\"model\":\"m\","
        "\"quantity\":12450.5,\"timestamp\":\"2026-11-22T09:00:00Z\",\"kind\":\"correction\",\"corrects\":"
        "\"e0\","
        "\"reason\":\"late\",\"metadata\":{\"provider\":\"p0\",\"service_tier\":\"p1\",\"gpu_type\":\"p2\","
        "\"agent_id\":\"p3\",\"run_id\":\"p4\",\"parent_run_id\":\"p5\",\"user_id\":\"p6\",\"operation\":"
        "\"p7\","
        "\"tool_name\":\"p8\",\"context_window\":\"p9\",\"else\":[1,{\"model\":2}]},"
        "\"policy_metadata\":{\"plan_tier\":\"pro\",\"credit_balance\":-1.5,\"contractual_cap\":\"1e6\"}}");
    assert_text(event.event_id, "req_8x42jk");
    assert_text(event.customer_id, "acme-co");
    assert_text(event.meter, "llm_tokens_in");
    assert_text(event.model, "m");
    assert_text(event.corrects, "e0");
    assert_text(event.reason, "late");
    assert_text(event.plan_tier, "pro");
    for (int i = 0; i < LIFTED_COUNT; i++)
        assert_text(event.lifted[i], (const char[]){'p', (char)('0' + i), '\0'});
    ck_assert_int_eq(event.kind, EVENT_CORRECTION);
    ck_assert(event.quantity == 12450 * DECIMAL_ONE + DECIMAL_ONE / 2);
    ck_assert(event.has_credit_balance && event.credit_balance == -3 * DECIMAL_ONE / 2);
    ck_assert(event.has_contractual_cap && event.contractual_cap == 1000000 * DECIMAL_ONE);
    ck_assert_int_eq(event.time_us, NOW_US - 1800 * SECOND_US);
    ck_assert(!event.time_defaulted);
}
END_TEST

START_TEST(what_is_absent_is_empty)
{
    assert_accepted(QUANTITY("0"));
    ck_assert_uint_eq(
        event.model.length + event.corrects.length + event.reason.length + event.plan_tier.length, 0);
    for (int i = 0; i < LIFTED_COUNT; i++)
        ck_assert_uint_eq(event.lifted[i].length, 0);
    ck_assert(!event.has_credit_balance && !event.has_contractual_cap);
    ck_assert(event.time_defaulted);
    ck_assert_int_eq(event.time_us, NOW_US);
    ck_assert_int_eq(event.kind, EVENT_USAGE);
}
END_TEST

START_TEST(null_counts_as_absent)
{
    assert_accepted(
        EVENT("\"account_id\":null,\"kind\":null,\"timestamp\":null,\"model\":null,\"metadata\":null,"
              "\"policy_metadata\":null,\"corrects\":null,\"reason\":null"));
    assert_accepted(METADATA("\"run_id\":null,\"model\":null,\"context_window\":null"));
    assert_accepted(POLICY("\"plan_tier\":null,\"credit_balance\":null,\"contractual_cap\":null"));
    ck_assert(!event.has_credit_balance && !event.has_contractual_cap);
    assert_refused(REFUSAL_MISSING_FIELD, QUANTITY("null"));
    assert_refused(REFUSAL_MISSING_FIELD,
                   "{\"event_id\":null,\"customer_id\":\"a\",\"meter\":\"m\",\"quantity\":1}");
    assert_refused(REFUSAL_MISSING_FIELD,
                   "{\"event_id\":\"e\",\"customer_id\":null,\"meter\":\"m\",\"quantity\":1}");
    assert_refused(REFUSAL_MISSING_FIELD,
                   "{\"event_id\":\"e\",\"customer_id\":\"a\",\"meter\":null,\"quantity\":1}");
}
END_TEST

START_TEST(required_fields_are_required)
{
    assert_refused(REFUSAL_MISSING_FIELD, "{}");
    assert_refused(REFUSAL_MISSING_FIELD, "{\"customer_id\":\"a\",\"meter\":\"m\",\"quantity\":1}");
    assert_refused(REFUSAL_MISSING_FIELD, "{\"event_id\":\"e\",\"meter\":\"m\",\"quantity\":1}");
    assert_refused(REFUSAL_MISSING_FIELD, "{\"event_id\":\"e\",\"customer_id\":\"a\",\"quantity\":1}");
    assert_refused(REFUSAL_MISSING_FIELD, "{\"event_id\":\"e\",\"customer_id\":\"a\",\"meter\":\"m\"}");
    ck_assert_str_eq(decoder_detail(decoder),
                     "quantity: missing; expected a decimal number such as 12450 or \"0.5\"");
}
END_TEST

START_TEST(lengths_are_bytes_of_utf8)
{
    assert_bytes("{\"event_id\":\"#\",\"customer_id\":\"a\",\"meter\":\"m\",\"quantity\":1}", "e", 1, 128);
    assert_bytes("{\"event_id\":\"e\",\"customer_id\":\"#\",\"meter\":\"m\",\"quantity\":1}", "a", 1, 128);
    assert_bytes("{\"event_id\":\"e\",\"customer_id\":\"#\",\"meter\":\"m\",\"quantity\":1}", "ä", 1, 64);
    assert_bytes("{\"event_id\":\"e\",\"customer_id\":\"#\",\"meter\":\"m\",\"quantity\":1}", "\\u00e4", 1,
                 64);
    assert_bytes("{\"event_id\":\"e\",\"account_id\":\"#\",\"meter\":\"m\",\"quantity\":1}", "\\ud83d\\ude00",
                 1, 32);
    assert_bytes("{\"event_id\":\"e\",\"account_id\":\"a\",\"meter\":\"#\",\"quantity\":1}", "m", 1, 64);
    assert_bytes(EVENT("\"model\":\"#\""), "m", 0, 256);
    assert_bytes(METADATA("\"model\":\"#\""), "m", 0, 256);
    assert_bytes(METADATA("\"run_id\":\"#\""), "m", 0, 256);
    assert_bytes(METADATA("\"context_window\":\"#\""), "m", 0, 256);
    assert_bytes(METADATA("\"context_window\":1#"), "0", 0, 255);
    assert_bytes(POLICY("\"plan_tier\":\"#\""), "m", 0, 256);
    assert_bytes(CORRECTION(ORIGINAL ",\"reason\":\"r\",\"corrects\":\"#\""), "m", 1, 128);
    assert_bytes(CORRECTION(ORIGINAL ",\"reason\":\"#\",\"corrects\":\"r\""), "m", 1, 1024);
}
END_TEST

START_TEST(escapes_are_resolved_in_keys_and_values)
{
    assert_accepted(
        "{\"event\\u005fid\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u20AC\\uD83D\\uDE00x\",\"customer_id\":\"a\","
        "\"meter\":\"\\u006D\",\"\\u0071uantity\":\"\\u0031\"}");
    assert_text(event.event_id, "\"\\/\b\f\n\r\t€😀x");
    assert_text(event.meter, "m");
    ck_assert(event.quantity == DECIMAL_ONE);
}
END_TEST

START_TEST(views_survive_the_next_event)
{
    struct text first =
        TEXT("{\"event_id\":\"a\\u0062\",\"customer_id\":\"c1\",\"meter\":\"m\",\"quantity\":1}");
    ck_assert_int_eq(decode(first), REFUSAL_NONE);
    struct event kept = event;
    assert_accepted("{\"event_id\":\"x\\u0079\",\"customer_id\":\"c2\",\"meter\":\"n\",\"quantity\":2}");
    assert_text(kept.event_id, "ab");
    assert_text(kept.customer_id, "c1");
    ck_assert(kept.customer_id.bytes > first.bytes && kept.customer_id.bytes < first.bytes + first.length);
}
END_TEST

START_TEST(meters_have_a_small_alphabet)
{
    assert_accepted("{\"event_id\":\"e\",\"customer_id\":\"a\",\"quantity\":1,\"meter\":\"azAZ09._-\"}");
    static const char *const bad[] = {"a b", "a/b", "a:b", "ä", "a\\n", "@", "[", "`", "{"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(
            REFUSAL_OUT_OF_RANGE,
            filled("{\"event_id\":\"e\",\"customer_id\":\"a\",\"quantity\":1,\"meter\":\"#\"}", bad[i], 1));
}
END_TEST

START_TEST(quantities_are_exact)
{
    assert_accepted(QUANTITY("99999999999999999999.999999999"));
    ck_assert(event.quantity == DECIMAL_LIMIT - 1);
    assert_accepted(QUANTITY("\"99999999999999999999.999999999\""));
    ck_assert(event.quantity == DECIMAL_LIMIT - 1);
    assert_accepted(QUANTITY("-0"));
    assert_accepted(QUANTITY("0.1000000000000000000000000"));
    ck_assert(event.quantity == DECIMAL_ONE / 10);
    assert_refused(REFUSAL_OUT_OF_RANGE, QUANTITY("100000000000000000000"));
    assert_refused(REFUSAL_OUT_OF_RANGE, QUANTITY("0.0000000001"));
    assert_refused(REFUSAL_OUT_OF_RANGE, QUANTITY("\"1e-10\""));
    assert_refused(REFUSAL_OUT_OF_RANGE, QUANTITY("-1"));
    assert_refused(REFUSAL_OUT_OF_RANGE, QUANTITY("\"-0.000000001\""));
    static const char *const wrong[] = {"\"\"",    "\" 1\"",  "\"1 \"", "\"+1\"", "\"01\"",
                                        "\"NaN\"", "\"1,0\"", "true",   "[]",     "{}",
                                        "[1]",     "\"0x1\"", "\".5\"", "\"5.\"", "false"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_refused(REFUSAL_WRONG_TYPE, filled(QUANTITY("#"), wrong[i], 1));
}
END_TEST

START_TEST(a_refusal_names_field_and_remedy)
{
    assert_refused(REFUSAL_WRONG_TYPE, QUANTITY("true"));
    ck_assert_str_eq(decoder_detail(decoder),
                     "quantity: expected a decimal number such as 12450 or \"0.5\", found true");
    assert_refused(REFUSAL_WRONG_TYPE, METADATA("\"run_id\":7"));
    ck_assert_str_eq(decoder_detail(decoder), "metadata.run_id: expected a string, found 7");
    assert_refused(REFUSAL_WRONG_TYPE, filled(QUANTITY("\"#\""), "\xe2\x82\xac\xc2\x9b\x7f", 1000));
    ck_assert_ptr_nonnull(strstr(decoder_detail(decoder), "found \"€\\u009b\\u007f€"));
    assert_refused(REFUSAL_NOT_JSON, "{\"a\":tru}");
    ck_assert_str_eq(decoder_detail(decoder),
                     "value: expected one whole JSON object, found something that is no value at byte 5");
}
END_TEST

START_TEST(timestamps_by_rfc_3339)
{
    assert_time(TIME("\"2026-11-22T09:30:00Z\""), NOW_US);
    assert_time(TIME("\"2026-11-22t09:30:00z\""), NOW_US);
    assert_time(TIME("\"2026-11-22 09:30:00+00:00\""), NOW_US);
    assert_time(TIME("\"2026-11-22T09:30:00-00:00\""), NOW_US);
    assert_time(TIME("\"2026-11-22T15:15:00+05:45\""), NOW_US);
    assert_time(TIME("\"2026-11-21T09:31:00-23:59\""), NOW_US);
    assert_time(TIME("\"2026-11-22T09:29:59.1Z\""), NOW_US - 900000);
    assert_time(TIME("\"2026-11-22T09:29:59.999999999Z\""), NOW_US - 1);
    assert_time(TIME("\"2026-11-22T09:29:59.0000009Z\""), NOW_US - SECOND_US);
    assert_time(TIME("\"2026-11-22T09:29:60Z\""), NOW_US);
    assert_time(TIME("\"2026-11-22T09:29:60.75Z\""), NOW_US);
    static const char *const bad[] = {
        "",
        "now",
        "2026-11-22",
        "2026-11-22T09:30:00",
        "2026-11-22T09:30Z",
        "2026-11-22T09:30:00.Z",
        "2026-11-22T09:30:00.0000000000Z",
        "2026-11-22T09:30:00,5Z",
        "2026-11-22T09:30:61Z",
        "2026-11-22T09:60:00Z",
        "2026-11-22T24:00:00Z",
        "2026-02-29T09:30:00Z",
        "2026-11-31T09:30:00Z",
        "2026-13-01T09:30:00Z",
        "2026-00-01T09:30:00Z",
        "2026-11-00T09:30:00Z",
        "2026-11-22T09:30:00+24:00",
        "2026-11-22T09:30:00+01:60",
        "2026-11-22T09:30:00+0100",
        "2026-11-22T09:30:00+01",
        "2026-11-22T09:30:00 Z",
        "2026-11-22T09:30:00Z ",
        " 2026-11-22T09:30:00Z",
        "2026-11-22_09:30:00Z",
        "+026-11-22T09:30:00Z",
        "2026-1-022T09:30:00Z",
        "1795339800",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(REFUSAL_BAD_TIMESTAMP, filled(TIME("\"#\""), bad[i], 1));
}
END_TEST

START_TEST(timestamps_as_integers)
{
    assert_time(TIME("1795339800"), NOW_US);
    assert_time(TIME("1795339800000"), NOW_US);
    assert_time(TIME("1795339799999"), NOW_US - 1000);
    static const char *const bad[] = {"1795339800.0", "1.7953398e9", "1e10", "99999999999999999999",
                                      "-9999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(REFUSAL_BAD_TIMESTAMP, filled(TIME("#"), bad[i], 1));
    assert_refused(REFUSAL_IN_FUTURE, TIME("99999999999")); /* seconds */
    assert_refused(REFUSAL_TOO_OLD, TIME("100000000000"));  /* milliseconds: 1973 */
    assert_refused(REFUSAL_TOO_OLD, TIME("0"));
    assert_refused(REFUSAL_TOO_OLD, TIME("-1"));
    assert_refused(REFUSAL_WRONG_TYPE, TIME("true"));
    assert_refused(REFUSAL_WRONG_TYPE, TIME("{}"));
}
END_TEST

START_TEST(age_is_judged_by_the_clock)
{
    assert_accepted(TIME("\"2026-11-22T09:35:00Z\""));
    assert_refused(REFUSAL_IN_FUTURE, TIME("\"2026-11-22T09:35:00.000001Z\""));
    assert_accepted(TIME("\"2025-10-18T09:30:00Z\""));
    assert_refused(REFUSAL_TOO_OLD, TIME("\"2025-10-18T09:29:59.999999Z\""));
    assert_refused(REFUSAL_TOO_OLD, TIME("\"0000-01-01T00:00:00+23:59\""));
    assert_refused(REFUSAL_IN_FUTURE, TIME("\"9999-12-31T23:59:60-23:59\""));
}
END_TEST

START_TEST(days_before_1970_01_02_are_too_old_whatever_the_rules)
{
    struct event_rules rules = {.max_age_us = INT64_MAX / 2, .max_future_us = 0};
    struct decoder *tolerant = decoder_new(&rules);
    struct record record = record_of(TEXT(TIME("\"1970-01-02T00:00:00Z\"")));
    ck_assert_int_eq(event_decode(tolerant, &record, NOW_US, &event), REFUSAL_NONE);
    ck_assert_int_eq(event.time_us, 86400 * SECOND_US);
    record = record_of(TEXT(TIME("\"1970-01-01T23:59:59.999999Z\"")));
    ck_assert_int_eq(event_decode(tolerant, &record, NOW_US, &event), REFUSAL_TOO_OLD);
    decoder_free(tolerant);
}
END_TEST

START_TEST(the_records_time_stands_in_for_the_events)
{
    struct record record = record_of(TEXT(QUANTITY("1")));
    record.time_ms = NOW_US / 1000 - 5;
    ck_assert_int_eq(event_decode(decoder, &record, NOW_US, &event), REFUSAL_NONE);
    ck_assert(event.time_defaulted && event.time_us == NOW_US - 5000);
    record.time_ms = -1;
    ck_assert_int_eq(event_decode(decoder, &record, NOW_US, &event), REFUSAL_MISSING_FIELD);
    record.time_ms = INT64_MAX;
    ck_assert_int_eq(event_decode(decoder, &record, NOW_US, &event), REFUSAL_BAD_TIMESTAMP);
}
END_TEST

START_TEST(a_replayed_record_keeps_its_first_time)
{
    headers[1] = (struct record_header){TEXT("usagebox_time"), TEXT("1795339790000")};
    assert_time(QUANTITY("1"), NOW_US - 10 * SECOND_US);
    ck_assert(event.time_defaulted);
    assert_time(TIME("1795339800"), NOW_US);
    ck_assert(!event.time_defaulted);
    static const char *const bad[] = {"",
                                      "x",
                                      "-1",
                                      "1.5",
                                      "1795339790000 ",
                                      "99999999999999999999",
                                      "9223372036854775807",
                                      "9223372036854775808"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        headers[1].value = text_of(bad[i]);
        assert_refused(REFUSAL_BAD_TIMESTAMP, QUANTITY("1"));
    }
}
END_TEST

START_TEST(event_id_may_stand_in_a_header)
{
    static const char without[] = "{\"customer_id\":\"a\",\"meter\":\"m\",\"quantity\":1}";
    headers[0] = (struct record_header){TEXT("event_id"), TEXT("e1")};
    assert_accepted(without);
    assert_text(event.event_id, "e1");
    assert_accepted(QUANTITY("1"));
    headers[1] = (struct record_header){TEXT("event_id"), TEXT("e2")};
    assert_refused(REFUSAL_CONFLICTING_FIELD, without);
    headers[0].name = TEXT("other");
    assert_refused(REFUSAL_CONFLICTING_FIELD, QUANTITY("1"));
    headers[1].value = (struct text){NULL, 0};
    assert_refused(REFUSAL_MISSING_FIELD, without);
    headers[1].value = TEXT("");
    assert_refused(REFUSAL_OUT_OF_RANGE, without);
    static char long_id[2000];
    memset(long_id, 'i', sizeof long_id);
    headers[1].value = (struct text){long_id, sizeof long_id};
    assert_refused(REFUSAL_OUT_OF_RANGE, without);
    headers[1].value = TEXT("a\xff");
    assert_refused(REFUSAL_NOT_UTF8, without);
    headers[1].value = TEXT("a\0b");
    assert_refused(REFUSAL_BAD_STRING, without);
}
END_TEST

/* A keeper that counts how often it is asked. */
struct counting_keeper {
    struct record_keeper keeper;
    size_t asked;
    bool starved;
};

static bool count_asking(void *self, const struct record *record, struct record_headers *found)
{
    struct counting_keeper *counting = self;
    counting->asked++;
    *found = (struct record_headers){record->kept, 2};
    return !counting->starved;
}

static bool no_sign(const struct record *record)
{
    (void)record;
    return true;
}

static bool some_sign(const struct record *record)
{
    (void)record;
    return false;
}

/* How often a record's keeper is asked as it is decoded. */
static size_t asked_for(const char *json, bool (*seems_bare)(const struct record *), enum refusal expected)
{
    struct counting_keeper counting = {{count_asking, seems_bare, &counting}, 0, false};
    struct record record = {
        .time_ms = NOW_US / 1000, .value = text_of(json), .keeper = &counting.keeper, .kept = headers};
    enum refusal reason = event_decode(decoder, &record, NOW_US, &event);
    ck_assert_msg(reason == expected, "%s: %s", refusal_names[reason], decoder_detail(decoder));
    return counting.asked;
}

START_TEST(headers_are_asked_for_only_where_they_may_matter)
{
    static const char whole[] = EVENT("\"timestamp\":1795339800");
    static const char timeless[] = QUANTITY("1");
    static const char nameless[] =
        "{\"customer_id\":\"a\",\"meter\":\"m\",\"quantity\":1,\"timestamp\":1795339800}";
    headers[0] = (struct record_header){TEXT("event_id"), TEXT("e2")};
    headers[1] = (struct record_header){TEXT("usagebox_time"), TEXT("1795339790000")};
    ck_assert_uint_eq(asked_for(whole, no_sign, REFUSAL_NONE), 0);
    ck_assert_uint_eq(asked_for(whole, some_sign, REFUSAL_CONFLICTING_FIELD), 1);
    ck_assert_uint_eq(asked_for(nameless, no_sign, REFUSAL_NONE), 1);
    assert_text(event.event_id, "e2");
    ck_assert_uint_eq(asked_for(timeless, no_sign, REFUSAL_NONE), 1);
    ck_assert_int_eq(event.time_us, NOW_US - 10 * SECOND_US);
    headers[0].value = TEXT("e1");
    ck_assert_uint_eq(asked_for(whole, some_sign, REFUSAL_NONE), 1);
}
END_TEST

START_TEST(a_record_whose_headers_find_no_memory_is_decoded_again_later)
{
    static const char *const needing[] = {"{\"customer_id\":\"a\",\"meter\":\"m\",\"quantity\":1}",
                                          QUANTITY("1")};
    for (size_t i = 0; i < 2; i++) {
        struct counting_keeper counting = {{count_asking, no_sign, &counting}, 0, true};
        struct record record = {.time_ms = NOW_US / 1000,
                                .value = text_of(needing[i]),
                                .keeper = &counting.keeper,
                                .kept = headers};
        ck_assert_int_eq(event_decode(decoder, &record, NOW_US, &event), REFUSAL_NO_MEMORY);
    }
}
END_TEST

START_TEST(two_spellings_must_agree)
{
    assert_accepted(EVENT("\"account_id\":\"acme-co\""));
    assert_accepted(EVENT("\"account_id\":\"acme\\u002dco\""));
    assert_refused(REFUSAL_CONFLICTING_FIELD, EVENT("\"account_id\":\"acme\""));
    assert_accepted(EVENT("\"model\":\"m\",\"metadata\":{\"model\":\"m\"}"));
    assert_refused(REFUSAL_CONFLICTING_FIELD, EVENT("\"model\":\"m\",\"metadata\":{\"model\":\"n\"}"));
    assert_refused(REFUSAL_CONFLICTING_FIELD, EVENT("\"metadata\":{\"model\":\"\"},\"model\":\"m\""));
    assert_accepted(METADATA("\"model\":\"m\""));
    assert_text(event.model, "m");
}
END_TEST

START_TEST(corrections_say_what_and_why)
{
    static const char *const kinds[] = {"correction", "retraction"};
    for (size_t i = 0; i < 2; i++) {
        assert_accepted(
            filled(EVENT("\"kind\":\"#\",\"corrects\":\"e\",\"reason\":\"r\"," ORIGINAL), kinds[i], 1));
        assert_refused(REFUSAL_MISSING_FIELD,
                       filled(EVENT("\"kind\":\"#\",\"reason\":\"r\"," ORIGINAL), kinds[i], 1));
        assert_refused(REFUSAL_MISSING_FIELD,
                       filled(EVENT("\"kind\":\"#\",\"corrects\":\"e\"," ORIGINAL), kinds[i], 1));
        assert_refused(REFUSAL_MISSING_FIELD,
                       filled(EVENT("\"kind\":\"#\",\"corrects\":\"e\",\"reason\":\"r\""), kinds[i], 1));
    }
    headers[0] = (struct record_header){TEXT("usagebox_time"), TEXT("1795339790000")};
    assert_refused(REFUSAL_MISSING_FIELD, CORRECTION("\"corrects\":\"e\",\"reason\":\"r\""));
    assert_accepted("{" BASE
                    ",\"quantity\":-1.5,\"kind\":\"retraction\",\"corrects\":\"e\",\"reason\":\"r\"," ORIGINAL
                    "}");
    ck_assert_int_eq(event.kind, EVENT_RETRACTION);
    assert_refused(REFUSAL_WRONG_TYPE, CORRECTION("\"corrects\":1,\"reason\":\"r\"," ORIGINAL));
    assert_refused(REFUSAL_WRONG_TYPE, CORRECTION("\"corrects\":\"e\",\"reason\":[]," ORIGINAL));
    assert_refused(REFUSAL_OUT_OF_RANGE, EVENT("\"kind\":\"Usage\""));
    assert_refused(REFUSAL_WRONG_TYPE, EVENT("\"kind\":1"));
    assert_refused(REFUSAL_WRONG_TYPE, filled(EVENT("\"kind\":#"), "12345678", 50));
    ck_assert_ptr_nonnull(strstr(decoder_detail(decoder), "… (400 bytes)"));
}
END_TEST

START_TEST(usage_ignores_what_corrections_need)
{
    assert_accepted(EVENT("\"kind\":\"usage\",\"corrects\":\"\",\"reason\":7"));
    ck_assert_uint_eq(event.corrects.length + event.reason.length, 0);
}
END_TEST

START_TEST(metadata_has_types)
{
    assert_refused(REFUSAL_WRONG_TYPE, EVENT("\"metadata\":[]"));
    assert_refused(REFUSAL_WRONG_TYPE, EVENT("\"metadata\":\"x\""));
    assert_refused(REFUSAL_WRONG_TYPE, EVENT("\"policy_metadata\":1"));
    assert_refused(REFUSAL_WRONG_TYPE, EVENT("\"model\":1"));
    for (int i = 0; i < LIFTED_COUNT; i++) {
        assert_refused(REFUSAL_WRONG_TYPE, filled(METADATA("\"#\":true"), event_lifted_names[i], 1));
        assert_refused(REFUSAL_WRONG_TYPE, filled(METADATA("\"#\":1.5"), event_lifted_names[i], 1));
        assert_refused(REFUSAL_WRONG_TYPE, filled(METADATA("\"#\":{}"), event_lifted_names[i], 1));
        if (i != LIFTED_CONTEXT_WINDOW)
            assert_refused(REFUSAL_WRONG_TYPE, filled(METADATA("\"#\":1"), event_lifted_names[i], 1));
    }
    assert_accepted(METADATA("\"context_window\":128000"));
    assert_text(event.lifted[LIFTED_CONTEXT_WINDOW], "128000");
    assert_refused(REFUSAL_WRONG_TYPE, METADATA("\"context_window\":1e5"));
}
END_TEST

START_TEST(the_last_of_equal_keys_in_metadata_counts)
{
    assert_accepted(METADATA("\"run_id\":7,\"run\\u005fid\":\"r\""));
    assert_text(event.lifted[LIFTED_RUN_ID], "r");
    assert_refused(REFUSAL_WRONG_TYPE, METADATA("\"run_id\":\"r\",\"run_id\":7"));
}
END_TEST

START_TEST(policy_metadata_has_types)
{
    assert_accepted(POLICY("\"credit_balance\":\"-99999999999999999999.999999999\",\"contractual_cap\":0"));
    ck_assert(event.credit_balance == -DECIMAL_LIMIT + 1);
    assert_refused(REFUSAL_OUT_OF_RANGE, POLICY("\"contractual_cap\":-1"));
    assert_refused(REFUSAL_OUT_OF_RANGE, POLICY("\"contractual_cap\":1e20"));
    assert_refused(REFUSAL_WRONG_TYPE, POLICY("\"contractual_cap\":\"much\""));
    assert_refused(REFUSAL_WRONG_TYPE, POLICY("\"credit_balance\":{}"));
    assert_refused(REFUSAL_OUT_OF_RANGE, POLICY("\"credit_balance\":0.0000000001"));
    assert_refused(REFUSAL_WRONG_TYPE, POLICY("\"plan_tier\":1"));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, every_field_arrives);
    tcase_add_test(tests, what_is_absent_is_empty);
    tcase_add_test(tests, null_counts_as_absent);
    tcase_add_test(tests, required_fields_are_required);
    tcase_add_test(tests, lengths_are_bytes_of_utf8);
    tcase_add_test(tests, escapes_are_resolved_in_keys_and_values);
    tcase_add_test(tests, views_survive_the_next_event);
    tcase_add_test(tests, meters_have_a_small_alphabet);
    tcase_add_test(tests, quantities_are_exact);
    tcase_add_test(tests, a_refusal_names_field_and_remedy);
    tcase_add_test(tests, timestamps_by_rfc_3339);
    tcase_add_test(tests, timestamps_as_integers);
    tcase_add_test(tests, age_is_judged_by_the_clock);
    tcase_add_test(tests, days_before_1970_01_02_are_too_old_whatever_the_rules);
    tcase_add_test(tests, the_records_time_stands_in_for_the_events);
    tcase_add_test(tests, a_replayed_record_keeps_its_first_time);
    tcase_add_test(tests, event_id_may_stand_in_a_header);
    tcase_add_test(tests, headers_are_asked_for_only_where_they_may_matter);
    tcase_add_test(tests, a_record_whose_headers_find_no_memory_is_decoded_again_later);
    tcase_add_test(tests, two_spellings_must_agree);
    tcase_add_test(tests, corrections_say_what_and_why);
    tcase_add_test(tests, usage_ignores_what_corrections_need);
    tcase_add_test(tests, metadata_has_types);
    tcase_add_test(tests, the_last_of_equal_keys_in_metadata_counts);
    tcase_add_test(tests, policy_metadata_has_types);
}

int main(void)
{
    return run_suite("event", add_tests);
}
