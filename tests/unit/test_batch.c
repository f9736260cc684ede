#include "rollup/batch.h"

#include <check.h>

#include "suite.h"

#define DAY_US INT64_C(86400000000)

enum { TODAY = 20782 }; /* 2026-11-25 */

static struct batch *batch;
static struct row_pool pool;
static const struct identity_secret secret = {.bytes = {1, 2, 3}};

static void setup(void)
{
    batch = batch_new(&(struct accumulator_rules){.runs = true}, &pool);
    ck_assert_ptr_nonnull(batch);
    for (int32_t lane = 0; lane < 3; lane++)
        ck_assert(batch_add_partition(
            batch, &(struct batch_partition){
                       .topic = 0, .partition = lane, .first_offset = 100, .next_offset = 100}));
}

static void empty_batch(void)
{
    batch_reset(batch);
    ck_assert(batch_add_partition(batch, &(struct batch_partition){.first_offset = 100, .next_offset = 100}));
}

static void teardown(void)
{
    batch_free(batch);
}

static struct event event_on(int day, int64_t quantity)
{
    return (struct event){.event_id = TEXT("e1"),
                          .customer_id = TEXT("acme"),
                          .meter = TEXT("tokens"),
                          .model = TEXT("m"),
                          .lifted[LIFTED_RUN_ID] = TEXT("run"),
                          .time_us = day * DAY_US + 5,
                          .quantity = DECIMAL_ONE * quantity};
}

static struct copy_origin origin_at(int32_t partition, int64_t offset)
{
    return (struct copy_origin){.topic = TEXT("usage"),
                                .partition = partition,
                                .offset = offset,
                                .payload = TEXT("{\"quantity\":1}")};
}

static void accept(size_t partition, int64_t offset, int day)
{
    struct event event = event_on(day, 1);
    struct copy_origin origin = origin_at((int32_t)partition, offset);
    ck_assert(batch_accept(batch, &secret, partition, &event, &origin));
}

static struct digest digest_of(const int64_t *offsets, size_t count, struct text payload)
{
    struct digest digest = {0};
    for (size_t i = 0; i < count; i++)
        identity_digest_add(&digest, &secret, offsets[i], payload);
    return digest;
}

START_TEST(accepted_events_are_rows_of_their_day_and_counted_once_each)
{
    accept(0, 100, TODAY);
    accept(1, 7, TODAY - 1);
    accept(0, 101, TODAY);
    ck_assert_uint_eq(batch->day_count, 2);
    ck_assert_uint_eq(batch->days[0].day, TODAY);
    ck_assert_uint_eq(batch->days[0].row_count, 2);
    ck_assert_uint_eq(batch->days[1].day, TODAY - 1);
    ck_assert_uint_eq(batch->days[1].row_count, 1);
    ck_assert_uint_eq(batch->days[0].rows.size_bytes, 2 * batch->days[1].rows.size_bytes);
    struct event event = event_on(TODAY, 1);
    struct copy_origin origin = origin_at(0, 101);
    uint8_t row[1000];
    size_t size_bytes = copy_row(&event, &origin, row);
    ck_assert_mem_eq(batch->days[0].rows.first->bytes + size_bytes, row, size_bytes);
    ck_assert_int_eq(batch->partitions[0].accepted, 2);
    ck_assert_int_eq(batch->partitions[1].accepted, 1);
    ck_assert_uint_eq(batch->row_count, 3);
    ck_assert_uint_eq(batch->event_count, 3);
}
END_TEST

START_TEST(rows_that_need_a_column_that_others_do_without_are_kept_apart)
{
    for (int round = 0; round < 2; round++) {
        struct event event = event_on(TODAY, 1);
        struct copy_origin origin = origin_at(0, 100);
        uint32_t left_out = round == 0 ? 0 : copy_spare(&event);
        ck_assert_uint_eq(batch->left_out, left_out);
        for (int i = 0; i < 1000; i++) {
            event.reason = i == 500 ? TEXT("why") : TEXT("");
            ck_assert(batch_accept(batch, &secret, 0, &event, &origin));
        }
        ck_assert_uint_eq(batch->day_count, round == 0 ? 1 : 2);
        ck_assert_uint_eq(batch->days[0].left_out, left_out);
        ck_assert_uint_eq(batch->days[0].row_count, round == 0 ? 1000 : 999);
        ck_assert(round == 0 || batch->days[1].left_out == 0);
        empty_batch();
    }
}
END_TEST

START_TEST(accepted_events_are_in_the_rollups_and_the_digest)
{
    accept(0, 100, TODAY);
    accept(0, 101, TODAY);
    size_t count;
    ck_assert_int_eq(accumulator_hourly(batch->accumulator, &count)->hourly->events, 2);
    ck_assert_uint_eq(count, 1);
    ck_assert_int_eq(accumulator_runs(batch->accumulator, &count)->run->events, 2);
    struct digest expected = digest_of((int64_t[]){101, 100}, 2, origin_at(0, 0).payload);
    ck_assert(batch->partitions[0].digest.sum == expected.sum);
}
END_TEST

static void defer(size_t partition, int64_t offset, int day)
{
    char customer[] = "acme", payload[] = "{\"quantity\":1}";
    struct event event = event_on(day, 1);
    struct copy_origin origin = origin_at((int32_t)partition, offset);
    event.customer_id = text_of(customer);
    origin.payload = text_of(payload);
    ck_assert(batch_defer(batch, partition, &event, &origin, true));
    memset(customer, 'x', sizeof customer);
    memset(payload, 'x', sizeof payload);
}

START_TEST(an_event_of_a_sealed_day_waits_with_all_that_it_needs)
{
    defer(2, 55, 20000);
    const struct batch_sealed *sealed = &batch->sealed[0];
    ck_assert_uint_eq(batch->sealed_count, 1);
    ck_assert_uint_eq(sealed->lane, 2);
    ck_assert_uint_eq(sealed->partition_row, 2);
    ck_assert_uint_eq(sealed->day, 20000);
    ck_assert_int_eq(sealed->offset, 55);
    ck_assert(sealed->counted && !sealed->accepted);
    ck_assert(text_equal(sealed->event.customer_id, TEXT("acme")));
    ck_assert(text_equal(sealed->payload, TEXT("{\"quantity\":1}")));
    struct event event = event_on(20000, 1);
    struct copy_origin origin = origin_at(2, 55);
    uint8_t row[1000];
    size_t size_bytes = copy_row(&event, &origin, row);
    ck_assert_uint_eq(sealed->row.length, size_bytes);
    ck_assert_mem_eq(sealed->row.bytes, row, size_bytes);
    ck_assert_int_eq(batch->partitions[2].accepted, 0);
    ck_assert_uint_eq(batch->event_count, 1);
    ck_assert_uint_eq(batch->row_count, 0);
}
END_TEST

START_TEST(the_stores_answer_counts_a_sealed_event_exactly_once)
{
    for (int64_t offset = 50; offset < 53; offset++)
        defer(2, offset, 20000);
    ck_assert(batch_sealed_accepted(batch, &secret, 1));
    ck_assert(batch_sealed_repeated(batch, 0, false));
    ck_assert(batch_sealed_repeated(batch, 2, true));
    const struct batch_partition *part = &batch->partitions[2];
    ck_assert_int_eq(part->accepted, 1);
    ck_assert_int_eq(part->duplicate, 2);
    ck_assert_uint_eq(batch->event_count, 3);
    ck_assert(batch->sealed[1].accepted && !batch->sealed[0].accepted && !batch->sealed[2].accepted);
    struct digest expected = digest_of((int64_t[]){51}, 1, TEXT("{\"quantity\":1}"));
    ck_assert(part->digest.sum == expected.sum);
    size_t count;
    ck_assert_int_eq(accumulator_hourly(batch->accumulator, &count)->hourly->events, 1);
    ck_assert_uint_eq(batch->conflict_count, 1);
    ck_assert_int_eq(batch->conflicts[0].offset, 52);
    ck_assert(text_equal(batch->conflicts[0].event.event_id, TEXT("e1")));
    ck_assert(text_equal(batch->conflicts[0].payload, TEXT("{\"quantity\":1}")));
}
END_TEST

START_TEST(a_dead_letter_keeps_its_bytes_untouched)
{
    struct record_header headers[] = {{TEXT("event_id"), TEXT("x1")},
                                      {TEXT("a\"\n\xff"), {NULL, 0}},
                                      {TEXT(""), TEXT("")},
                                      {TEXT("\xc3\xa9"), TEXT("\x00\xff\xfe")}};
    struct record record = {.topic = 0,
                            .partition = 1,
                            .offset = 9,
                            .time_ms = 123,
                            .key = TEXT("k\0k"),
                            .value = TEXT("\xff\x00{"),
                            .headers = headers,
                            .header_count = 4};
    ck_assert(batch_dead(batch, &secret, 1, &record, REFUSAL_NOT_UTF8, "bad \xff byte"));
    const struct batch_dead_letter *dead = &batch->dead_letters[0];
    ck_assert_int_eq(dead->partition, 1);
    ck_assert_int_eq(dead->offset, 9);
    ck_assert_int_eq(dead->record_time_ms, 123);
    ck_assert_int_eq(dead->reason, REFUSAL_NOT_UTF8);
    ck_assert(text_equal(dead->key, TEXT("k\0k")));
    ck_assert(text_equal(dead->payload, TEXT("\xff\x00{")));
    ck_assert_ptr_ne(dead->payload.bytes, record.value.bytes);
    ck_assert(text_equal(dead->detail, TEXT("bad \xef\xbf\xbd byte")));
    ck_assert(
        text_equal(dead->headers, TEXT("[[\"event_id\",\"eDE=\"],[\"a\\\"\\n\xef\xbf\xbd\",null],[\"\",\"\"],"
                                       "[\"\xc3\xa9\",\"AP/+\"]]")));
    ck_assert_int_eq(batch->partitions[1].dead, 1);
    ck_assert_uint_eq(batch->event_count, 1);
    struct digest expected = digest_of((int64_t[]){9}, 1, TEXT("\xff\x00{"));
    ck_assert(batch->partitions[1].digest.sum == expected.sum);
}
END_TEST

static bool give_one_header(void *has_memory, const struct record *record, struct record_headers *headers)
{
    *headers = (struct record_headers){record->kept, 1};
    return *(bool *)has_memory;
}

START_TEST(a_dead_letters_headers_are_asked_of_who_keeps_them)
{
    struct record_header header = {TEXT("event_id"), TEXT("x1")};
    bool has_memory = false;
    struct record_keeper keeper = {.headers = give_one_header, .self = &has_memory};
    struct record record = {
        .partition = 1, .offset = 9, .value = TEXT("not json"), .keeper = &keeper, .kept = &header};
    ck_assert(!batch_dead(batch, &secret, 1, &record, REFUSAL_NOT_JSON, "why"));
    ck_assert_uint_eq(batch->dead_letter_count, 0);
    has_memory = true;
    ck_assert(batch_dead(batch, &secret, 1, &record, REFUSAL_NOT_JSON, "why"));
    ck_assert(text_equal(batch->dead_letters[0].headers, TEXT("[[\"event_id\",\"eDE=\"]]")));
}
END_TEST

START_TEST(a_dead_letter_outlives_the_record)
{
    char key[] = "k1", value[] = "not json", name[] = "event_id", header[] = "x1";
    struct record_header headers[] = {{text_of(name), text_of(header)}};
    struct record record = {.partition = 1,
                            .offset = 9,
                            .key = text_of(key),
                            .value = text_of(value),
                            .headers = headers,
                            .header_count = 1};
    ck_assert(batch_dead(batch, &secret, 1, &record, REFUSAL_NOT_JSON, "why"));
    memset(key, 'x', sizeof key);
    memset(value, 'x', sizeof value);
    memset(name, 'x', sizeof name);
    memset(header, 'x', sizeof header);
    const struct batch_dead_letter *dead = &batch->dead_letters[0];
    ck_assert(text_equal(dead->key, TEXT("k1")));
    ck_assert(text_equal(dead->payload, TEXT("not json")));
    ck_assert(text_equal(dead->headers, TEXT("[[\"event_id\",\"eDE=\"]]")));
}
END_TEST

/* Event and dead letter outlive the record; which of them it is, the store says. */
START_TEST(what_may_not_be_new_any_more_is_a_repeat_or_a_dead_letter)
{
    char key[] = "acme", value[] = "{\"quantity\":1}";
    struct event event = event_on(20000, 1);
    for (int64_t offset = 50; offset < 52; offset++) {
        struct copy_origin origin = origin_at(2, offset);
        struct record record = {
            .partition = 2, .offset = offset, .key = text_of(key), .value = text_of(value)};
        ck_assert(batch_defer_or_refuse(batch, 2, &event, &origin, &record, REFUSAL_WRONG_PARTITION, "why"));
    }
    memset(key, 'x', sizeof key);
    memset(value, 'x', sizeof value);
    ck_assert_uint_eq(batch->event_count, 2);
    ck_assert_uint_eq(batch->dead_letter_count, 0);
    ck_assert(!batch->sealed[0].counted && batch->sealed[0].otherwise);
    ck_assert(batch_sealed_repeated(batch, 0, false));
    ck_assert(batch_sealed_refused(batch, &secret, 1));
    const struct batch_partition *part = &batch->partitions[2];
    ck_assert(part->accepted == 0 && part->duplicate == 1 && part->dead == 1);
    ck_assert_uint_eq(batch->event_count, 2);
    ck_assert_uint_eq(batch->dead_letter_count, 1);
    ck_assert_int_eq(batch->dead_letters[0].offset, 51);
    ck_assert_int_eq(batch->dead_letters[0].reason, REFUSAL_WRONG_PARTITION);
    ck_assert(text_equal(batch->dead_letters[0].key, TEXT("acme")));
    ck_assert(text_equal(batch->dead_letters[0].payload, TEXT("{\"quantity\":1}")));
    struct digest expected = digest_of((int64_t[]){51}, 1, TEXT("{\"quantity\":1}"));
    ck_assert(part->digest.sum == expected.sum);
}
END_TEST

START_TEST(a_missing_key_or_value_is_not_an_empty_one)
{
    struct record record = {.partition = 1, .offset = 9, .time_ms = -1};
    ck_assert(batch_dead(batch, &secret, 1, &record, REFUSAL_EMPTY_VALUE, ""));
    record.key = record.value = TEXT("");
    ck_assert(batch_dead(batch, &secret, 1, &record, REFUSAL_EMPTY_VALUE, ""));
    ck_assert_ptr_null(batch->dead_letters[0].key.bytes);
    ck_assert_ptr_null(batch->dead_letters[0].payload.bytes);
    ck_assert_ptr_nonnull(batch->dead_letters[1].key.bytes);
    ck_assert_ptr_nonnull(batch->dead_letters[1].payload.bytes);
    ck_assert(text_equal(batch->dead_letters[0].headers, TEXT("[]")));
}
END_TEST

START_TEST(duplicates_and_conflicts_are_counted_per_partition)
{
    struct event event = event_on(TODAY, 2);
    struct copy_origin origin = origin_at(1, 77);
    ck_assert(batch_duplicate(batch, 1));
    ck_assert(batch_conflict_add(batch, 1, &event, &origin));
    ck_assert_int_eq(batch->partitions[1].duplicate, 2);
    ck_assert_int_eq(batch->partitions[0].duplicate, 0);
    ck_assert_uint_eq(batch->event_count, 2);
    ck_assert_int_eq(batch->conflicts[0].partition, 1);
    ck_assert_int_eq(batch->conflicts[0].offset, 77);
    ck_assert(batch->conflicts[0].event.quantity == DECIMAL_ONE * 2);
    ck_assert(text_equal(batch->conflicts[0].payload, origin.payload));
    ck_assert_ptr_ne(batch->conflicts[0].payload.bytes, origin.payload.bytes);
}
END_TEST

START_TEST(dedupe_keys_are_packed_by_lane_and_day)
{
    for (uint32_t i = 0; i < 3000; i++)
        ck_assert(batch_segment_add(batch, (int32_t)(i % 10), (uint16_t)(TODAY - i / 10 % 30),
                                    (struct dedupe_key){i, i}, i));
    ck_assert_uint_eq(batch->segment_count, 300);
    for (size_t i = 0; i < 300; i++) {
        const struct batch_segment *segment = &batch->segments[i];
        ck_assert_uint_eq(segment->keys.size_bytes, 10 * DEDUPE_SEGMENT_BYTES);
        for (uint32_t j = 0; j < 10; j++) {
            uint32_t key = (uint32_t)segment->lane + 10 * (uint32_t)(TODAY - segment->day) + 300 * j;
            uint8_t expected[DEDUPE_SEGMENT_BYTES];
            dedupe_segment_put(expected, (struct dedupe_key){key, key}, key);
            ck_assert_mem_eq(segment->keys.bytes + j * DEDUPE_SEGMENT_BYTES, expected, DEDUPE_SEGMENT_BYTES);
        }
    }
}
END_TEST

START_TEST(a_decision_outlives_what_it_was_made_from)
{
    char customer[] = "acme", ceiling[] = "pro", event_id[] = "e1";
    struct decision decision = {.id = "0123",
                                .customer_id = text_of(customer),
                                .ceiling = text_of(ceiling),
                                .scope = TEXT("{}"),
                                .event_id = text_of(event_id),
                                .transition = 3};
    struct decision *copy;
    ck_assert(batch_decide(batch, &decision, &copy));
    memset(customer, 'x', 4);
    memset(ceiling, 'x', 3);
    memset(event_id, 'x', 2);
    ck_assert_ptr_eq(copy, &batch->decisions[0]);
    ck_assert_str_eq(copy->id, "0123");
    ck_assert(text_equal(copy->customer_id, TEXT("acme")));
    ck_assert(text_equal(copy->ceiling, TEXT("pro")));
    ck_assert(text_equal(copy->scope, TEXT("{}")));
    ck_assert(text_equal(copy->event_id, TEXT("e1")));
    ck_assert_int_eq(copy->transition, 3);
}
END_TEST

START_TEST(changes_of_counters_and_states_are_copied)
{
    char customer[] = "acme", flag[] = "{\"type\":\"flag\"}";
    struct ceiling_change counter = {
        .lane = 1, .counter = {.customer_id = text_of(customer), .scope = TEXT("{}"), .used = 5}};
    struct ceiling_change state = {.lane = 2,
                                   .is_state = true,
                                   .state = {.customer_id = text_of(customer),
                                             .ceiling = TEXT("pro"),
                                             .flag = text_of(flag),
                                             .transition = 1}};
    ck_assert(batch_change(batch, &counter));
    ck_assert(batch_change(batch, &state));
    memset(customer, 'x', 4);
    memset(flag, 'x', 4);
    ck_assert_uint_eq(batch->change_count, 2);
    ck_assert(text_equal(batch->changes[0].counter.customer_id, TEXT("acme")));
    ck_assert(batch->changes[0].counter.used == 5);
    ck_assert(text_equal(batch->changes[1].state.customer_id, TEXT("acme")));
    ck_assert(text_equal(batch->changes[1].state.flag, TEXT("{\"type\":\"flag\"}")));
    ck_assert_int_eq(batch->changes[1].state.transition, 1);
}
END_TEST

static void add_one_of_each(void)
{
    struct record record = {.partition = 0, .offset = 1, .value = TEXT("x")};
    struct event event = event_on(TODAY, 1);
    struct copy_origin origin = origin_at(0, 2);
    struct decision *copy;
    accept(0, 3, TODAY);
    defer(0, 4, 20000);
    ck_assert(batch_dead(batch, &secret, 0, &record, REFUSAL_NOT_JSON, "why"));
    ck_assert(batch_conflict_add(batch, 0, &event, &origin));
    ck_assert(batch_segment_add(batch, 0, TODAY, (struct dedupe_key){1, 2}, 3));
    ck_assert(batch_change(batch, &(struct ceiling_change){.lane = 0}));
    ck_assert(batch_decide(batch, &(struct decision){.lane = 0}, &copy));
    ck_assert(batch_adopt_seal(batch, 0, 20000));
    ck_assert(batch_adopt_ceilings(batch, 0, 5));
    ck_assert(batch_settle(batch, (struct ceiling_origin){0, 0, 1}));
}

START_TEST(nothing_is_left_of_a_batch_after_its_reset)
{
    add_one_of_each();
    ck_assert_int_eq(batch->ceilings_generation, 5);
    batch_reset(batch);
    size_t count = batch->event_count + batch->row_count + batch->day_count + batch->sealed_count +
                   batch->dead_letter_count + batch->conflict_count + batch->segment_count +
                   batch->partition_count + batch->change_count + batch->decision_count +
                   batch->adoption_count + batch->ceilings_adopted_count + batch->settled_count;
    ck_assert_uint_eq(count, 0);
    ck_assert_int_eq(batch->ceilings_generation, 0);
    size_t rows;
    ck_assert_ptr_null(accumulator_hourly(batch->accumulator, &rows));
    ck_assert(batch_add_partition(batch, &(struct batch_partition){.partition = 0}));
    accept(0, 100, TODAY);
    ck_assert_uint_eq(batch->days[0].row_count, 1);
    ck_assert_int_eq(batch->partitions[0].accepted, 1);
}
END_TEST

static void refill(int rows, int late_rows)
{
    batch_reset(batch);
    ck_assert(batch_add_partition(batch, &(struct batch_partition){.partition = 0}));
    for (int i = 0; i < rows; i++)
        accept(0, i, TODAY - i % 3);
    for (int i = 0; i < late_rows; i++)
        defer(0, i, 20000);
}

START_TEST(equal_batches_settle_on_one_amount_of_memory)
{
    refill(1000, 100);
    refill(1000, 100);
    size_t settled_bytes = batch_bytes(batch);
    for (int i = 0; i < 50; i++)
        refill(1000, 100);
    ck_assert_uint_eq(batch_bytes(batch), settled_bytes);
}
END_TEST

START_TEST(what_an_emptied_batch_holds_does_not_count_as_used)
{
    refill(50000, 20000);
    ck_assert_uint_gt(batch_used_bytes(batch), 50000 * 400);
    ck_assert_uint_le(batch_used_bytes(batch), batch_bytes(batch));
    batch_reset(batch);
    ck_assert_uint_gt(batch_bytes(batch), 50000 * 400);
    ck_assert_uint_eq(batch_used_bytes(batch), 0);
}
END_TEST

START_TEST(the_memory_of_a_rare_large_batch_is_given_back)
{
    refill(10, 10);
    size_t small_bytes = batch_bytes(batch);
    refill(50000, 20000);
    ck_assert_uint_gt(batch_bytes(batch), 20 * small_bytes);
    for (int i = 0; i < 100; i++)
        refill(10, 10);
    ck_assert_uint_le(batch_bytes(batch), 2 * small_bytes);
}
END_TEST

START_TEST(rows_moved_out_leave_a_day_that_goes_on)
{
    accept(0, 1, TODAY);
    accept(0, 2, TODAY);
    struct row_queue moved = row_queue_take(&batch->days[0].rows, SIZE_MAX);
    accept(0, 3, TODAY);
    ck_assert_uint_eq(batch->days[0].row_count, 3);
    ck_assert_uint_eq(batch->days[0].rows.size_bytes * 2, moved.size_bytes);
    row_queue_reset(&moved, &pool);
    ck_assert_ptr_null(moved.first);
}
END_TEST

START_TEST(a_buffer_grows_to_what_is_asked_and_keeps_its_bytes)
{
    struct buffer buffer = {0};
    size_t wanted[] = {1, 100, 70000, 3 << 20, 40 << 20, 40 << 20};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        ck_assert(buffer_reserve(&buffer, wanted[i]));
        ck_assert_uint_ge(buffer.capacity_bytes - buffer.size_bytes, wanted[i]);
        buffer.bytes[buffer.size_bytes] = (uint8_t)(i + 1);
        buffer.size_bytes += wanted[i];
    }
    size_t at = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; at += wanted[i++])
        ck_assert_uint_eq(buffer.bytes[at], i + 1);
    ck_assert(!buffer_reserve(&buffer, SIZE_MAX));
    ck_assert(!buffer_reserve(&buffer, SIZE_MAX / 2));
    buffer_free(&buffer);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, accepted_events_are_rows_of_their_day_and_counted_once_each);
    tcase_add_test(tests, rows_that_need_a_column_that_others_do_without_are_kept_apart);
    tcase_add_test(tests, accepted_events_are_in_the_rollups_and_the_digest);
    tcase_add_test(tests, an_event_of_a_sealed_day_waits_with_all_that_it_needs);
    tcase_add_test(tests, the_stores_answer_counts_a_sealed_event_exactly_once);
    tcase_add_test(tests, a_dead_letter_keeps_its_bytes_untouched);
    tcase_add_test(tests, a_dead_letters_headers_are_asked_of_who_keeps_them);
    tcase_add_test(tests, a_dead_letter_outlives_the_record);
    tcase_add_test(tests, what_may_not_be_new_any_more_is_a_repeat_or_a_dead_letter);
    tcase_add_test(tests, a_missing_key_or_value_is_not_an_empty_one);
    tcase_add_test(tests, duplicates_and_conflicts_are_counted_per_partition);
    tcase_add_test(tests, dedupe_keys_are_packed_by_lane_and_day);
    tcase_add_test(tests, a_decision_outlives_what_it_was_made_from);
    tcase_add_test(tests, changes_of_counters_and_states_are_copied);
    tcase_add_test(tests, nothing_is_left_of_a_batch_after_its_reset);
    tcase_add_test(tests, equal_batches_settle_on_one_amount_of_memory);
    tcase_add_test(tests, what_an_emptied_batch_holds_does_not_count_as_used);
    tcase_add_test(tests, the_memory_of_a_rare_large_batch_is_given_back);
    tcase_add_test(tests, rows_moved_out_leave_a_day_that_goes_on);
    tcase_add_test(tests, a_buffer_grows_to_what_is_asked_and_keeps_its_bytes);
}

int main(void)
{
    return run_suite("batch", add_tests);
}
