#include "rollup/copy.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "suite.h"

enum { COLUMNS = 27 };
#define EPOCH_2000_US INT64_C(946684800000000)

static struct event plain_event(void)
{
    return (struct event){.event_id = TEXT("e1"),
                          .customer_id = TEXT("acme"),
                          .meter = TEXT("calls"),
                          .quantity = DECIMAL_ONE * 12450,
                          .time_us = EPOCH_2000_US + 1};
}

static struct copy_origin plain_origin(void)
{
    return (struct copy_origin){.topic = TEXT("usage"),
                                .partition = 3,
                                .offset = 258,
                                .ingested_at_us = EPOCH_2000_US - 1,
                                .payload = TEXT("{}")};
}

static uint8_t *encode(const struct event *event, const struct copy_origin *origin, size_t *size_bytes)
{
    size_t bound = copy_row_bound(event, origin);
    uint8_t *row = malloc(bound); /* exactly, so that ASan sees a bound that is too small */
    ck_assert_ptr_nonnull(row);
    *size_bytes = copy_row(event, origin, row);
    ck_assert_uint_le(*size_bytes, bound);
    return row;
}

/* From here on: a reader of the format, written from PostgreSQL's manual and not from the encoder. */

static uint64_t read_integer(const uint8_t **at, int size_bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < size_bytes; i++)
        value = value << 8 | *(*at)++;
    return value;
}

struct field {
    const uint8_t *bytes; /* NULL: SQL's NULL */
    size_t length;
};

static size_t read_row(const uint8_t *row, struct field fields[COLUMNS])
{
    const uint8_t *at = row;
    ck_assert_uint_eq(read_integer(&at, 2), COLUMNS);
    for (int i = 0; i < COLUMNS; i++) {
        uint32_t length = (uint32_t)read_integer(&at, 4);
        if (length == UINT32_MAX) {
            fields[i] = (struct field){NULL, 0};
            continue;
        }
        fields[i] = (struct field){at, length};
        at += length;
    }
    return (size_t)(at - row);
}

static int column(const char *name)
{
    char columns[1000];
    snprintf(columns, sizeof columns, "%s", copy_columns);
    char *rest = columns;
    for (int i = 0; rest; i++) {
        char *word = strsep(&rest, ",");
        if (strcmp(word + strspn(word, " "), name) == 0)
            return i;
    }
    ck_abort_msg("no column %s", name);
}

static void expect_text(const struct field fields[COLUMNS], const char *name, struct text text)
{
    struct field field = fields[column(name)];
    ck_assert_msg(field.bytes != NULL, "%s is NULL", name);
    ck_assert_msg(text_equal((struct text){(const char *)field.bytes, (uint32_t)field.length}, text), "%s",
                  name);
}

static int64_t integer_of(const struct field fields[COLUMNS], const char *name, size_t size_bytes)
{
    struct field field = fields[column(name)];
    ck_assert_uint_eq(field.length, size_bytes);
    const uint8_t *at = field.bytes;
    uint64_t value = read_integer(&at, (int)size_bytes);
    return size_bytes == 4 ? (int32_t)value : (int64_t)value;
}

static void expect_numeric(const struct field fields[COLUMNS], const char *name, decimal_t value)
{
    struct field field = fields[column(name)];
    ck_assert_ptr_nonnull(field.bytes);
    decimal_t read;
    ck_assert(decimal_from_numeric(field.bytes, field.length, &read));
    ck_assert(read == value);
}

static void expect_numeric_or_null(const struct field fields[COLUMNS], const char *name, bool present,
                                   decimal_t value)
{
    if (present)
        expect_numeric(fields, name, value);
    else
        ck_assert_ptr_null(fields[column(name)].bytes);
}

static const char *const lifted_columns[LIFTED_COUNT] = {
    [LIFTED_PROVIDER] = "provider",   [LIFTED_SERVICE_TIER] = "service_tier",
    [LIFTED_GPU_TYPE] = "gpu_type",   [LIFTED_AGENT_ID] = "agent_id",
    [LIFTED_RUN_ID] = "run_id",       [LIFTED_PARENT_RUN_ID] = "parent_run_id",
    [LIFTED_USER_ID] = "user_id",     [LIFTED_OPERATION] = "operation",
    [LIFTED_TOOL_NAME] = "tool_name", [LIFTED_CONTEXT_WINDOW] = "context_window",
};

static void expect_row(const struct field fields[COLUMNS], const struct event *event,
                       const struct copy_origin *origin)
{
    static const char *const kinds[] = {"usage", "correction", "retraction"};
    ck_assert_int_eq(integer_of(fields, "event_time", 8) + EPOCH_2000_US, event->time_us);
    ck_assert_int_eq(integer_of(fields, "ingested_at", 8) + EPOCH_2000_US, origin->ingested_at_us);
    ck_assert_int_eq(integer_of(fields, "kafka_offset", 8), origin->offset);
    ck_assert_int_eq(integer_of(fields, "kafka_partition", 4), origin->partition);
    expect_numeric(fields, "quantity", event->quantity);
    expect_text(fields, "customer_id", event->customer_id);
    expect_text(fields, "event_id", event->event_id);
    expect_text(fields, "kind", text_of(kinds[event->kind]));
    expect_text(fields, "meter", event->meter);
    expect_text(fields, "model", event->model);
    expect_text(fields, "corrects", event->corrects);
    expect_text(fields, "reason", event->reason);
    for (int i = 0; i < LIFTED_COUNT; i++)
        expect_text(fields, lifted_columns[i], event->lifted[i]);
    expect_text(fields, "plan_tier", event->plan_tier);
    expect_numeric_or_null(fields, "credit_balance", event->has_credit_balance, event->credit_balance);
    expect_numeric_or_null(fields, "contractual_cap", event->has_contractual_cap, event->contractual_cap);
    expect_text(fields, "topic", origin->topic);
    expect_text(fields, "payload", origin->payload);
}

START_TEST(a_row_has_the_bytes_that_postgresql_expects)
{
    static const uint8_t expected[] =
        "\x00\x1b"                                                         /* 27 fields */
        "\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x01"                 /* event_time */
        "\x00\x00\x00\x08\xff\xff\xff\xff\xff\xff\xff\xff"                 /* ingested_at */
        "\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x01\x02"                 /* kafka_offset */
        "\x00\x00\x00\x04\x00\x00\x00\x03"                                 /* kafka_partition */
        "\x00\x00\x00\x0c\x00\x02\x00\x01\x00\x00\x00\x09\x00\x01\x09\x92" /* 1|2450 */
        "\x00\x00\x00\x04"
        "acme"
        "\x00\x00\x00\x02"
        "e1"
        "\x00\x00\x00\x05"
        "usage"
        "\x00\x00\x00\x05"
        "calls"
        "\x00\x00\x00\x00"                                                 /* model */
        "\x00\x00\x00\x00"                                                 /* corrects */
        "\x00\x00\x00\x00"                                                 /* reason */
        "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" /* lifted */
        "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        "\x00\x00\x00\x00\x00\x00\x00\x00"
        "\x00\x00\x00\x00" /* plan_tier */
        "\xff\xff\xff\xff" /* credit_balance */
        "\xff\xff\xff\xff" /* contractual_cap */
        "\x00\x00\x00\x05"
        "usage"
        "\x00\x00\x00\x02"
        "{}";
    struct event event = plain_event();
    struct copy_origin origin = plain_origin();
    size_t size_bytes;
    uint8_t *row = encode(&event, &origin, &size_bytes);
    ck_assert_uint_eq(size_bytes, sizeof expected - 1);
    ck_assert_mem_eq(row, expected, size_bytes);
    free(row);
}
END_TEST

START_TEST(header_and_trailer_are_those_of_the_manual)
{
    ck_assert_mem_eq(copy_header, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", COPY_HEADER_BYTES);
    ck_assert_mem_eq(copy_trailer, "\377\377", COPY_TRAILER_BYTES);
}
END_TEST

/* What is left out has its default, as PostgreSQL sees to. */
static size_t read_row_without(const uint8_t *row, uint32_t left_out, struct field fields[COLUMNS])
{
    char columns[COPY_COLUMNS_BYTES];
    copy_columns_without(left_out, columns);
    for (int i = 0; i < COLUMNS; i++)
        fields[i] = (struct field){(const uint8_t *)"", 0};
    fields[column("credit_balance")].bytes = fields[column("contractual_cap")].bytes = NULL;
    const uint8_t *at = row;
    uint64_t count = read_integer(&at, 2);
    for (char *rest = columns; rest; count--) {
        char *word = strsep(&rest, ",");
        struct field *field = &fields[column(word + strspn(word, " "))];
        uint32_t length = (uint32_t)read_integer(&at, 4);
        *field = length == UINT32_MAX ? (struct field){NULL, 0} : (struct field){at, length};
        at += field->length;
    }
    ck_assert_uint_eq(count, 0);
    return (size_t)(at - row);
}

static void expect_the_same_without(const struct event *event, const struct copy_origin *origin,
                                    uint32_t left_out)
{
    struct field fields[COLUMNS];
    uint8_t *row = malloc(copy_row_bound(event, origin));
    ck_assert_ptr_nonnull(row);
    size_t size_bytes = copy_row_without(event, origin, left_out, row);
    ck_assert_uint_eq(read_row_without(row, left_out, fields), size_bytes);
    expect_row(fields, event, origin);
    free(row);
}

START_TEST(what_may_be_left_out_is_what_says_nothing)
{
    struct event event = plain_event();
    struct copy_origin origin = plain_origin();
    char columns[COPY_COLUMNS_BYTES];
    ck_assert_uint_eq(copy_spare(&event), (1 << COPY_SPARE_COLUMNS) - 1);
    expect_the_same_without(&event, &origin, copy_spare(&event));
    copy_columns_without(0, columns);
    ck_assert_str_eq(columns, copy_columns);
    event.has_credit_balance = true;
    event.model = TEXT("m");
    ck_assert_int_eq(__builtin_popcount(copy_spare(&event)), COPY_SPARE_COLUMNS - 2);
    expect_the_same_without(&event, &origin, copy_spare(&event));
}
END_TEST

START_TEST(what_nearly_all_rows_do_without_is_left_out_of_the_next)
{
    struct copy_census census = {0};
    ck_assert_uint_eq(copy_census_left_out(&census, 5), 5); /* nothing is known yet */
    for (int i = 0; i < 10000; i++)
        copy_census_add(&census, i % 3 == 0 ? 4 : i % 101 == 0 ? 8 : 12);
    ck_assert_uint_eq(copy_census_left_out(&census, 5), 4);
    census = (struct copy_census){0};
    for (int i = 0; i < 10000; i++)
        copy_census_add(&census, i % 101 == 0 ? 4 : 12);
    ck_assert_uint_eq(copy_census_left_out(&census, 5), 12);
}
END_TEST

static uint64_t random_state;

static uint64_t random_below(uint64_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (random_state >> 33) % limit;
}

static char random_bytes[4096];

static struct text random_text(void)
{
    uint64_t shape = random_below(4);
    uint64_t length = shape == 0 ? 0 : random_below(shape == 1 ? 300 : 20);
    return (struct text){length > 0 ? random_bytes + random_below(2048) : NULL, (uint32_t)length};
}

static decimal_t random_decimal(void)
{
    decimal_t value = 0;
    for (uint64_t digits = random_below(30); digits > 0; digits--)
        value = value * 10 + (decimal_t)random_below(10);
    value %= DECIMAL_LIMIT;
    return random_below(2) ? value : -value;
}

static struct event random_event(void)
{
    struct event event = {.event_id = random_text(),
                          .customer_id = random_text(),
                          .meter = random_text(),
                          .corrects = random_text(),
                          .reason = random_text(),
                          .model = random_text(),
                          .plan_tier = random_text(),
                          .quantity = random_decimal(),
                          .credit_balance = random_decimal(),
                          .contractual_cap = random_decimal(),
                          .time_us = (int64_t)(random_below(UINT32_MAX) * 1000003),
                          .kind = (enum event_kind)random_below(3),
                          .has_credit_balance = random_below(2),
                          .has_contractual_cap = random_below(2)};
    for (int i = 0; i < LIFTED_COUNT; i++)
        event.lifted[i] = random_text();
    return event;
}

START_TEST(any_event_reads_back_field_by_field)
{
    random_state = (uint64_t)_i;
    for (size_t i = 0; i < sizeof random_bytes; i++)
        random_bytes[i] = (char)random_below(256);
    for (int round = 0; round < 2000; round++) {
        struct event event = random_event();
        struct copy_origin origin = {.topic = random_text(),
                                     .partition = (int32_t)random_below(INT32_MAX),
                                     .offset = (int64_t)(random_below(UINT32_MAX) * UINT32_MAX / 2),
                                     .ingested_at_us = (int64_t)(random_below(UINT32_MAX) * 1000003),
                                     .payload = random_text()};
        size_t size_bytes;
        uint8_t *row = encode(&event, &origin, &size_bytes);
        struct field fields[COLUMNS];
        ck_assert_uint_eq(read_row(row, fields), size_bytes);
        expect_row(fields, &event, &origin);
        if (round % 16 == 0)
            expect_the_same_without(&event, &origin,
                                    copy_spare(&event) & (uint32_t)random_below(1 << COPY_SPARE_COLUMNS));
        free(row);
    }
}
END_TEST

START_TEST(the_bound_holds_for_the_largest_numbers)
{
    struct event event = plain_event();
    struct copy_origin origin = plain_origin();
    event.kind = EVENT_RETRACTION;
    event.has_credit_balance = event.has_contractual_cap = true;
    event.quantity = -(DECIMAL_LIMIT - 1);
    event.credit_balance = event.contractual_cap = DECIMAL_LIMIT - 1;
    event.time_us = INT64_MAX;
    size_t size_bytes;
    free(encode(&event, &origin, &size_bytes));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, what_may_be_left_out_is_what_says_nothing);
    tcase_add_test(tests, what_nearly_all_rows_do_without_is_left_out_of_the_next);
    tcase_add_test(tests, a_row_has_the_bytes_that_postgresql_expects);
    tcase_add_test(tests, header_and_trailer_are_those_of_the_manual);
    tcase_add_loop_test(tests, any_event_reads_back_field_by_field, 0, 5);
    tcase_add_test(tests, the_bound_holds_for_the_largest_numbers);
}

int main(void)
{
    return run_suite("copy", add_tests);
}
