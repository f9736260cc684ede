/* The hashes stand in databases: they never change. The vectors come from an implementation of
 * SipHash-2-4-128 and of the images that identity.h describes which shares no code with this one. */
#include <check.h>
#include <stdlib.h>

#include "identity.h"
#include "siphash_many.h"
#include "suite.h"

static const struct identity_secret secret = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};

static struct event example(void)
{
    return (struct event){
        .event_id = TEXT("req_8x42jk"),
        .customer_id = TEXT("acme-co"),
        .meter = TEXT("llm_tokens_in"),
        .model = TEXT("claude-4.5-sonnet"),
        .lifted = {[LIFTED_PROVIDER] = TEXT("anthropic")},
        .quantity = 12450 * DECIMAL_ONE,
        .time_us = 1767225600000000,
        .kind = EVENT_USAGE,
    };
}

static void assert_key(const struct event *event, uint64_t low, uint64_t high)
{
    struct dedupe_key key = identity_key(&secret, event);
    ck_assert_uint_eq(key.low, low);
    ck_assert_uint_eq(key.high, high);
}

START_TEST(the_key_of_an_event_never_changes)
{
    struct event event = example();
    assert_key(&event, 0x8a913bd1f9a15816, 0xacf14eba2f32780c);
}
END_TEST

START_TEST(long_texts_have_keys_that_never_change)
{
    char id[257];
    memset(id, 'x', sizeof id);
    struct event event = example();
    event.event_id = (struct text){id, 256};
    assert_key(&event, 0x81f50731e604f3f8, 0xf90e00eb91789c1a);
    event.event_id.length = 257;
    assert_key(&event, 0x22b0fb1f5d9c9d2f, 0xa14a9bf3efa787f0);
}
END_TEST

START_TEST(the_content_of_an_event_never_changes)
{
    struct event event = example();
    ck_assert_uint_eq(identity_content(&secret, &event), 0xcf1773cf);
    event.time_defaulted = true;
    ck_assert_uint_eq(identity_content(&secret, &event), 0x60ff618d);
    event = example();
    event.kind = EVENT_CORRECTION;
    event.quantity = -event.quantity;
    event.corrects = event.event_id;
    ck_assert_uint_eq(identity_content(&secret, &event), 0x1613f4a6);
}
END_TEST

static bool same_key(const struct event *a, const struct event *b)
{
    struct dedupe_key first = identity_key(&secret, a);
    struct dedupe_key second = identity_key(&secret, b);
    return first.low == second.low && first.high == second.high;
}

START_TEST(what_is_not_identity_leaves_the_key_alone)
{
    struct event a = example();
    struct event b = {.event_id = a.event_id, .customer_id = a.customer_id, .meter = a.meter, .quantity = 1};
    ck_assert(same_key(&a, &b));
}
END_TEST

START_TEST(bytes_that_move_between_fields_change_the_key)
{
    struct event a = example();
    struct event b = example();
    a.customer_id = TEXT("acme");
    a.meter = TEXT("cogpu");
    b.customer_id = TEXT("acmeco");
    b.meter = TEXT("gpu");
    ck_assert(!same_key(&a, &b));
}
END_TEST

START_TEST(another_secret_is_another_key)
{
    struct identity_secret other = secret;
    other.bytes[15] ^= 1;
    struct event event = example();
    struct dedupe_key key = identity_key(&other, &event);
    ck_assert_uint_ne(key.low, identity_key(&secret, &event).low);
}
END_TEST

static struct text *text_of_content(struct event *event, int i)
{
    return i == 0 ? &event->corrects : i == 1 ? &event->model : &event->lifted[i - 2];
}

START_TEST(each_text_an_event_says_is_in_its_content)
{
    struct event a = example();
    struct event b = example();
    *text_of_content(&b, _i) = TEXT("something else");
    ck_assert_uint_ne(identity_content(&secret, &a), identity_content(&secret, &b));
}
END_TEST

START_TEST(kind_quantity_and_time_are_in_the_content)
{
    struct event a = example();
    uint32_t content = identity_content(&secret, &a);
    a.kind = EVENT_RETRACTION;
    ck_assert_uint_ne(identity_content(&secret, &a), content);
    a = example();
    a.quantity++;
    ck_assert_uint_ne(identity_content(&secret, &a), content);
    a = example();
    a.time_us++;
    ck_assert_uint_ne(identity_content(&secret, &a), content);
}
END_TEST

START_TEST(policy_metadata_reason_and_defaulted_time_are_not_in_the_content)
{
    struct event a = example();
    struct event b = example();
    b.plan_tier = TEXT("gold");
    b.has_credit_balance = true;
    b.credit_balance = 5;
    b.has_contractual_cap = true;
    b.contractual_cap = 6;
    b.reason = TEXT("because");
    ck_assert_uint_eq(identity_content(&secret, &a), identity_content(&secret, &b));
    a.time_defaulted = b.time_defaulted = true;
    b.time_us++;
    ck_assert_uint_eq(identity_content(&secret, &a), identity_content(&secret, &b));
}
END_TEST

START_TEST(an_event_of_the_longest_texts_has_a_content)
{
    static char longest[EVENT_VALUE_LIMIT_BYTES];
    memset(longest, 'x', sizeof longest);
    struct event event = example();
    for (int i = 0; i < 2 + LIFTED_COUNT; i++)
        *text_of_content(&event, i) = (struct text){longest, EVENT_LIFTED_LIMIT_BYTES};
    uint32_t content = identity_content(&secret, &event);
    for (int i = 0; i < 2 + LIFTED_COUNT; i++)
        *text_of_content(&event, i) = (struct text){longest, sizeof longest};
    ck_assert_uint_ne(identity_content(&secret, &event), content);
}
END_TEST

START_TEST(fingerprints_never_change_and_tell_a_missing_key_from_an_empty_one)
{
    struct record record = {.time_ms = 1767225600000, .key = TEXT("acme-co"), .value = TEXT("{}")};
    ck_assert_uint_eq(identity_fingerprint(&secret, &record), 0xc7d8c7ab856bda1b);
    record.key = (struct text){NULL, 0};
    ck_assert_uint_eq(identity_fingerprint(&secret, &record), 0x1b6042fd046ae4c4);
    record.key = TEXT("");
    ck_assert_uint_eq(identity_fingerprint(&secret, &record), 0x56526b1bec9215b8);
}
END_TEST

START_TEST(a_digest_never_changes_and_has_no_order)
{
    static const struct {
        int64_t offset;
        struct text payload;
    } records[] = {{41, TEXT("{}")}, {42, {NULL, 0}}, {43, TEXT("")}};
    struct digest forward = {0};
    struct digest backward = {0};
    for (int i = 0; i < 3; i++) {
        identity_digest_add(&forward, &secret, records[i].offset, records[i].payload);
        identity_digest_add(&backward, &secret, records[2 - i].offset, records[2 - i].payload);
    }
    ck_assert(forward.sum == backward.sum);
    ck_assert_uint_eq((uint64_t)(forward.sum >> 64), 0x98b671d14441520);
    ck_assert_uint_eq((uint64_t)forward.sum, 0x52cd91a5958f2904);
}
END_TEST

/* --- side by side --- */

/* A text in memory of its own: reading behind it is noticed. */
static struct text text_of_length(size_t length, unsigned seed)
{
    char *bytes = malloc(length + (length == 0));
    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (char)(seed * 2654435761u >> (i % 24) ^ i);
    return (struct text){bytes, (uint32_t)length};
}

static void free_text(struct text text)
{
    free((void *)(uintptr_t)text.bytes);
}

static void assert_alone(struct text text, const uint64_t words[2])
{
    struct siphash hash = siphash_begin(secret.bytes);
    uint64_t expected[2];
    siphash_put_bytes(&hash, text.bytes, text.length);
    siphash_end(hash, expected);
    ck_assert_uint_eq(words[0], expected[0]);
    ck_assert_uint_eq(words[1], expected[1]);
}

/* Of all lengths about a word's, equal and unequal, one to eight of them; _i: the way. */
START_TEST(hashes_are_the_same_alone_and_side_by_side)
{
    if (!siphash_has((enum siphash_way)_i))
        return;
    for (size_t length = 0; length < 70; length++)
        for (size_t count = 0; count <= SIPHASH_SIDES; count++) {
            struct text texts[SIPHASH_SIDES];
            uint64_t words[SIPHASH_SIDES][2];
            for (size_t i = 0; i < count; i++)
                texts[i] =
                    text_of_length(count % 2 ? length : length * (7 * i % 5) + i, (unsigned)(length + i));
            siphash_many_by((enum siphash_way)_i, secret.bytes, texts, count, words);
            for (size_t i = 0; i < count; i++) {
                assert_alone(texts[i], words[i]);
                free_text(texts[i]);
            }
        }
}
END_TEST

static struct event event_of_lengths(size_t length)
{
    struct event event = example();
    event.customer_id = text_of_length(1 + length % 128, 1);
    event.event_id = text_of_length(length, 2);
    event.time_defaulted = length % 3 == 0;
    event.quantity = -(decimal_t)length * DECIMAL_ONE * DECIMAL_ONE;
    for (int i = 0; i < 2 + LIFTED_COUNT; i++)
        *text_of_content(&event, i) = text_of_length(length * (size_t)i % 300, (unsigned)i);
    return event;
}

static void free_event(struct event *event)
{
    free_text(event->customer_id);
    free_text(event->event_id);
    for (int i = 0; i < 2 + LIFTED_COUNT; i++)
        free_text(*text_of_content(event, i));
}

START_TEST(identities_are_the_same_alone_and_side_by_side)
{
    for (size_t length = 0; length < 300; length++) {
        struct event made[IDENTITY_SIDES];
        const struct event *events[IDENTITY_SIDES];
        struct identity identities[IDENTITY_SIDES];
        size_t count = 1 + length % IDENTITY_SIDES;
        for (size_t i = 0; i < count; i++) {
            made[i] = event_of_lengths(length + i);
            events[i] = &made[i];
        }
        identity_many(&secret, events, count, identities);
        for (size_t i = 0; i < count; i++) {
            assert_key(events[i], identities[i].key.low, identities[i].key.high);
            ck_assert_uint_eq(identity_content(&secret, events[i]), identities[i].content);
            free_event(&made[i]);
        }
    }
}
END_TEST

START_TEST(digests_are_the_same_alone_and_side_by_side)
{
    for (size_t count = 1; count <= IDENTITY_SIDES; count++) {
        struct record records[IDENTITY_SIDES] = {0};
        struct digest digests[IDENTITY_SIDES];
        for (size_t i = 0; i < count; i++) {
            records[i].offset = (int64_t)i << 40 | 0x123456789;
            records[i].value = i == 2 ? (struct text){NULL, 0} : text_of_length(100 * i, (unsigned)i);
        }
        identity_digests(&secret, records, count, digests);
        for (size_t i = 0; i < count; i++) {
            struct digest alone = {0};
            identity_digest_add(&alone, &secret, records[i].offset, records[i].value);
            ck_assert(alone.sum == digests[i].sum);
            free_text(records[i].value);
        }
    }
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, the_key_of_an_event_never_changes);
    tcase_add_test(tests, long_texts_have_keys_that_never_change);
    tcase_add_test(tests, the_content_of_an_event_never_changes);
    tcase_add_test(tests, what_is_not_identity_leaves_the_key_alone);
    tcase_add_test(tests, bytes_that_move_between_fields_change_the_key);
    tcase_add_test(tests, another_secret_is_another_key);
    tcase_add_loop_test(tests, each_text_an_event_says_is_in_its_content, 0, 2 + LIFTED_COUNT);
    tcase_add_test(tests, kind_quantity_and_time_are_in_the_content);
    tcase_add_test(tests, policy_metadata_reason_and_defaulted_time_are_not_in_the_content);
    tcase_add_test(tests, an_event_of_the_longest_texts_has_a_content);
    tcase_add_test(tests, fingerprints_never_change_and_tell_a_missing_key_from_an_empty_one);
    tcase_add_test(tests, a_digest_never_changes_and_has_no_order);
    tcase_add_loop_test(tests, hashes_are_the_same_alone_and_side_by_side, 0, SIPHASH_WAYS);
    tcase_add_test(tests, identities_are_the_same_alone_and_side_by_side);
    tcase_add_test(tests, digests_are_the_same_alone_and_side_by_side);
}

int main(void)
{
    return run_suite("identity", add_tests);
}
