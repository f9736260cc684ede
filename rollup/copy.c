#include "copy.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#define FIRST_COLUMNS                                                                                        \
    "event_time, ingested_at, kafka_offset, kafka_partition, quantity, customer_id, event_id, kind, meter"
#define LAST_COLUMNS "topic, payload"

const char copy_columns[] =
    FIRST_COLUMNS ", model, corrects, reason, provider, service_tier, gpu_type, agent_id, "
                  "run_id, parent_run_id, user_id, operation, tool_name, context_window, plan_tier, "
                  "credit_balance, contractual_cap, " LAST_COLUMNS;

/* The bits of what can be left out. */
enum { MODEL, CORRECTS, REASON, LIFTED, PLAN_TIER = LIFTED + LIFTED_COUNT, CREDIT_BALANCE, CONTRACTUAL_CAP };
_Static_assert(CONTRACTUAL_CAP + 1 == COPY_SPARE_COLUMNS, "a bit for each");

static const char *const spare_names[COPY_SPARE_COLUMNS] = {
    "model",          "corrects",  "reason",         "provider",       "service_tier", "gpu_type",
    "agent_id",       "run_id",    "parent_run_id",  "user_id",        "operation",    "tool_name",
    "context_window", "plan_tier", "credit_balance", "contractual_cap"};

enum {
    FIXED_FIELDS = 5,  /* event_time … quantity */
    TEXT_FIELDS = 9,   /* customer_id … reason, plan_tier, topic, payload; the lifted ones come on top */
    POLICY_FIELDS = 2, /* credit_balance, contractual_cap */
    FIELDS = FIXED_FIELDS + 1 + TEXT_FIELDS + LIFTED_COUNT + POLICY_FIELDS,
    LENGTH_BYTES = 4, /* before each field */
    KIND_LIMIT_BYTES = 10
};
_Static_assert(FIELDS == 27, "as many as there are columns");

/* What a row takes beside its texts. */
enum {
    ROW_FIXED_BYTES = 2 + FIELDS * LENGTH_BYTES + 3 * 8 + 4 + 3 * DECIMAL_NUMERIC_BYTES + KIND_LIMIT_BYTES
};

/* timestamptz counts from 2000-01-01. */
#define POSTGRES_EPOCH_US (INT64_C(946684800) * 1000000)

const uint8_t copy_header[COPY_HEADER_BYTES] = {'P', 'G', 'C', 'O', 'P', 'Y', '\n', 0xff, '\r', '\n', 0};
const uint8_t copy_trailer[COPY_TRAILER_BYTES] = {0xff, 0xff};

static const struct text kind_names[] = {[EVENT_USAGE] = {"usage", 5},
                                         [EVENT_CORRECTION] = {"correction", 10},
                                         [EVENT_RETRACTION] = {"retraction", 10}};

static uint8_t *put_16(uint8_t *out, uint16_t value)
{
    value = htobe16(value);
    memcpy(out, &value, sizeof value);
    return out + sizeof value;
}

static uint8_t *put_32(uint8_t *out, uint32_t value)
{
    value = htobe32(value);
    memcpy(out, &value, sizeof value);
    return out + sizeof value;
}

static uint8_t *put_64(uint8_t *out, uint64_t value)
{
    value = htobe64(value);
    memcpy(out, &value, sizeof value);
    return out + sizeof value;
}

static uint8_t *put_int8(uint8_t *out, int64_t value)
{
    return put_64(put_32(out, 8), (uint64_t)value);
}

static uint8_t *put_timestamp(uint8_t *out, int64_t time_us)
{
    return put_int8(out, time_us - POSTGRES_EPOCH_US);
}

static uint8_t *put_numeric(uint8_t *out, decimal_t value)
{
    size_t length = decimal_numeric(value, out + LENGTH_BYTES);
    put_32(out, (uint32_t)length);
    return out + LENGTH_BYTES + length;
}

static uint8_t *put_numeric_or_null(uint8_t *out, bool present, decimal_t value)
{
    return present ? put_numeric(out, value) : put_32(out, UINT32_MAX);
}

static uint8_t *put_text(uint8_t *out, struct text text)
{
    out = put_32(out, text.length);
    if (text.length > 0)
        memcpy(out, text.bytes, text.length);
    return out + text.length;
}

size_t copy_row_bound(const struct event *event, const struct copy_origin *origin)
{
    size_t bound = ROW_FIXED_BYTES;
    bound += (size_t)event->customer_id.length + event->event_id.length + event->meter.length;
    bound += (size_t)event->model.length + event->corrects.length + event->reason.length;
    for (int i = 0; i < LIFTED_COUNT; i++)
        bound += event->lifted[i].length;
    return bound + event->plan_tier.length + origin->topic.length + origin->payload.length;
}

static uint8_t *put_numbers(uint8_t *out, const struct event *event, const struct copy_origin *origin)
{
    out = put_timestamp(out, event->time_us);
    out = put_timestamp(out, origin->ingested_at_us);
    out = put_int8(out, origin->offset);
    out = put_32(put_32(out, 4), (uint32_t)origin->partition);
    return put_numeric(out, event->quantity);
}

/* Those of the first so many bits that say nothing. */
static uint32_t empty_ones(const struct text *texts, int count)
{
    uint32_t spare = 0;
    for (int i = 0; i < count; i++)
        spare |= (uint32_t)(texts[i].length == 0) << i;
    return spare;
}

uint32_t copy_spare(const struct event *event)
{
    uint32_t spare = empty_ones(event->lifted, LIFTED_COUNT) << LIFTED;
    spare |= (uint32_t)(event->model.length == 0) << MODEL;
    spare |= (uint32_t)(event->corrects.length == 0) << CORRECTS;
    spare |= (uint32_t)(event->reason.length == 0) << REASON;
    spare |= (uint32_t)(event->plan_tier.length == 0) << PLAN_TIER;
    spare |= (uint32_t)!event->has_credit_balance << CREDIT_BALANCE;
    return spare | (uint32_t)!event->has_contractual_cap << CONTRACTUAL_CAP;
}

void copy_columns_without(uint32_t left_out, char columns[COPY_COLUMNS_BYTES])
{
    _Static_assert(sizeof copy_columns <= COPY_COLUMNS_BYTES, "all have room");
    char *end = stpcpy(columns, FIRST_COLUMNS);
    for (int i = 0; i < COPY_SPARE_COLUMNS; i++)
        if (!(left_out >> i & 1))
            end = stpcpy(stpcpy(end, ", "), spare_names[i]);
    stpcpy(end, ", " LAST_COLUMNS);
}

static uint8_t *put_spare_text(uint8_t *out, struct text text, uint32_t left_out, int bit)
{
    if (!(left_out >> bit & 1))
        return put_text(out, text);
    assert(text.length == 0);
    return out;
}

static uint8_t *put_spare_numeric(uint8_t *out, bool present, decimal_t value, uint32_t left_out, int bit)
{
    if (!(left_out >> bit & 1))
        return put_numeric_or_null(out, present, value);
    assert(!present);
    return out;
}

static uint8_t *put_spare(uint8_t *out, const struct event *event, uint32_t left_out)
{
    out = put_spare_text(out, event->model, left_out, MODEL);
    out = put_spare_text(out, event->corrects, left_out, CORRECTS);
    out = put_spare_text(out, event->reason, left_out, REASON);
    for (int i = 0; i < LIFTED_COUNT; i++)
        out = put_spare_text(out, event->lifted[i], left_out, LIFTED + i);
    out = put_spare_text(out, event->plan_tier, left_out, PLAN_TIER);
    out = put_spare_numeric(out, event->has_credit_balance, event->credit_balance, left_out, CREDIT_BALANCE);
    return put_spare_numeric(out, event->has_contractual_cap, event->contractual_cap, left_out,
                             CONTRACTUAL_CAP);
}

size_t copy_row_without(const struct event *event, const struct copy_origin *origin, uint32_t left_out,
                        uint8_t *out)
{
    assert(event->kind <= EVENT_RETRACTION);
    uint8_t *end = put_16(out, (uint16_t)(FIELDS - __builtin_popcount(left_out)));
    end = put_numbers(end, event, origin);
    end = put_text(end, event->customer_id);
    end = put_text(end, event->event_id);
    end = put_text(end, kind_names[event->kind]);
    end = put_text(end, event->meter);
    end = put_spare(end, event, left_out);
    end = put_text(end, origin->topic);
    end = put_text(end, origin->payload);
    return (size_t)(end - out);
}

size_t copy_row(const struct event *event, const struct copy_origin *origin, uint8_t *out)
{
    return copy_row_without(event, origin, 0, out);
}

/* --- what to leave out --- */

/* One row in so many is looked at; from so many looks on they say something; a column that more than one in
 * so many needs stays. Rows that need another one have a COPY of their own. */
enum { CENSUS_STEP = 8, CENSUS_LOOKS = 8, CENSUS_RARE = 32 };

void copy_census_add(struct copy_census *census, uint32_t spare)
{
    if (census->rows++ % CENSUS_STEP != 0)
        return;
    census->looked_at++;
    for (int i = 0; i < COPY_SPARE_COLUMNS; i++)
        census->needed[i] += !(spare >> i & 1);
}

uint32_t copy_census_left_out(const struct copy_census *census, uint32_t before)
{
    if (census->looked_at < CENSUS_LOOKS)
        return before;
    uint32_t left_out = 0;
    for (int i = 0; i < COPY_SPARE_COLUMNS; i++)
        left_out |= (uint32_t)(census->needed[i] <= census->looked_at / CENSUS_RARE) << i;
    return left_out;
}
