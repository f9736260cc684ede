#include "copy.h"

#include <assert.h>
#include <endian.h>

const char copy_columns[] =
    "event_time, ingested_at, kafka_offset, kafka_partition, quantity, customer_id, event_id, "
    "kind, meter, model, corrects, reason, provider, service_tier, gpu_type, agent_id, "
    "run_id, parent_run_id, user_id, operation, tool_name, context_window, plan_tier, "
    "credit_balance, contractual_cap, topic, payload";

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

static uint8_t *put_texts(uint8_t *out, const struct event *event)
{
    assert(event->kind <= EVENT_RETRACTION);
    out = put_text(out, event->customer_id);
    out = put_text(out, event->event_id);
    out = put_text(out, kind_names[event->kind]);
    out = put_text(out, event->meter);
    out = put_text(out, event->model);
    out = put_text(out, event->corrects);
    out = put_text(out, event->reason);
    for (int i = 0; i < LIFTED_COUNT; i++)
        out = put_text(out, event->lifted[i]);
    return put_text(out, event->plan_tier);
}

size_t copy_row(const struct event *event, const struct copy_origin *origin, uint8_t *out)
{
    uint8_t *end = put_16(out, FIELDS);
    end = put_numbers(end, event, origin);
    end = put_texts(end, event);
    end = put_numeric_or_null(end, event->has_credit_balance, event->credit_balance);
    end = put_numeric_or_null(end, event->has_contractual_cap, event->contractual_cap);
    end = put_text(end, origin->topic);
    end = put_text(end, origin->payload);
    return (size_t)(end - out);
}
