#include "flag.h"

#include <stdio.h>

#include "../rollup/json_text.h"
#include "flag_message.h"
#include "timestamp.h"

/* Writes a document twice: first to measure it, then into memory of that size. */
struct writer {
    char *at; /* NULL: only measures */
    size_t length;
    char last;
};

static void put(struct writer *writer, struct text raw)
{
    if (raw.length == 0)
        return;
    writer->length += raw.length;
    writer->last = raw.bytes[raw.length - 1];
    if (writer->at) {
        memcpy(writer->at, raw.bytes, raw.length);
        writer->at += raw.length;
    }
}

static void put_string(struct writer *writer, struct text text)
{
    put(writer, TEXT("\""));
    writer->length += json_text_bytes(text);
    if (writer->at)
        writer->at = json_text_put(writer->at, text);
    put(writer, TEXT("\""));
}

static void put_name(struct writer *writer, const char *name)
{
    if (writer->last != '{')
        put(writer, TEXT(","));
    put(writer, TEXT("\""));
    put(writer, text_of(name));
    put(writer, TEXT("\":"));
}

static void put_text(struct writer *writer, const char *name, struct text text)
{
    put_name(writer, name);
    put_string(writer, text);
}

static void put_integer(struct writer *writer, const char *name, int64_t number)
{
    char text[24];
    int length = snprintf(text, sizeof text, "%lld", (long long)number);
    put_name(writer, name);
    put(writer, (struct text){text, (uint32_t)length});
}

static void put_decimal(struct writer *writer, const char *name, decimal_t value)
{
    char text[DECIMAL_TEXT_BYTES];
    uint32_t length = (uint32_t)decimal_text(value, text);
    put_text(writer, name, (struct text){text, length});
}

static void put_time(struct writer *writer, const char *name, int64_t time_us)
{
    char text[TIMESTAMP_TEXT_BYTES];
    uint32_t length = (uint32_t)timestamp_text(time_us, text);
    put_text(writer, name, (struct text){text, length});
}

typedef void (*write_document)(struct writer *writer, const void *subject);

/* bytes NULL: out of memory. */
static struct text written(struct arena *arena, write_document write, const void *subject)
{
    struct writer measure = {0};
    write(&measure, subject);
    char *bytes = arena_alloc(arena, measure.length);
    if (!bytes)
        return (struct text){NULL, 0};
    struct writer writer = {.at = bytes};
    write(&writer, subject);
    return (struct text){bytes, (uint32_t)writer.length};
}

struct key {
    struct text customer_id, ceiling, scope;
};

static void write_key(struct writer *writer, const void *subject)
{
    const struct key *key = subject;
    put(writer, TEXT("["));
    put_string(writer, key->customer_id);
    put(writer, TEXT(","));
    put_string(writer, key->ceiling);
    put(writer, TEXT(","));
    put(writer, key->scope);
    put(writer, TEXT("]"));
}

struct text flag_key(struct arena *arena, struct text customer_id, struct text ceiling, struct text scope)
{
    const struct key key = {customer_id, ceiling, scope};
    return written(arena, write_key, &key);
}

/* The message */

struct message {
    const struct decision *decision;
    const char *const *topics;
};

/* limit - used; beyond 128 bits the number that comes nearest. */
static decimal_t remaining(const struct decision *decision)
{
    const decimal_t most = (decimal_t)(~(unsigned __int128)0 >> 1);
    decimal_t difference;
    if (!__builtin_sub_overflow(decision->limit, decision->used, &difference))
        return difference;
    return decision->used < 0 ? most : -most;
}

enum { SENTENCE_BYTES = 320 };

/* A crossed flag's reason: "Used 1000417 of 1000000 llm_tokens_out in the month of 2026-11". */
static struct text crossed_sentence(const struct decision *decision, char sentence[SENTENCE_BYTES])
{
    static const int date_bytes[PERIOD_COUNT] = {13, 10, 7}; /* 2026-11-22T18, 2026-11-22, 2026-11 */
    char used[DECIMAL_TEXT_BYTES], limit[DECIMAL_TEXT_BYTES], start[TIMESTAMP_TEXT_BYTES];
    decimal_text(decision->used, used);
    decimal_text(decision->limit, limit);
    timestamp_text(decision->period_start_us, start);
    int meter_bytes = decision->meter.length < 128 ? (int)decision->meter.length : 128;
    int length = snprintf(sentence, SENTENCE_BYTES, "Used %s of %s %.*s in the %s of %.*s", used, limit,
                          meter_bytes, decision->meter.bytes, ceiling_period_names[decision->period],
                          date_bytes[decision->period], start);
    return (struct text){sentence, (uint32_t)length};
}

static struct text reason_sentence(const struct decision *decision, char sentence[SENTENCE_BYTES])
{
    switch (decision->reason) {
    case REASON_WITHIN_AGAIN:
        return TEXT("Back within the limit");
    case REASON_PERIOD_OVER:
        return TEXT("The period is over");
    case REASON_CEILING_GONE:
        return TEXT("The ceiling is gone");
    default:
        return crossed_sentence(decision, sentence);
    }
}

static void put_period(struct writer *writer, const struct decision *decision)
{
    put_name(writer, "period");
    put(writer, TEXT("{"));
    put_text(writer, "type", text_of(ceiling_period_names[decision->period]));
    put_time(writer, "start", decision->period_start_us);
    put_time(writer, "end", decision->period_end_us);
    put(writer, TEXT("}"));
}

static void put_event(struct writer *writer, const struct message *message)
{
    const struct decision *decision = message->decision;
    put_name(writer, "event");
    if (decision->source != DECIDED_BY_EVENT) {
        put(writer, TEXT("null"));
        return;
    }
    put(writer, TEXT("{"));
    put_text(writer, "event_id", decision->event_id);
    put_time(writer, "timestamp", decision->event_time_us);
    put_text(writer, "topic", text_of(message->topics[decision->topic]));
    put_integer(writer, "partition", decision->partition);
    put_integer(writer, "offset", decision->offset);
    put(writer, TEXT("}"));
}

/* What every message begins with; `sequence` goes behind it. */
#define HEAD_BYTES (sizeof "{\"type\":\"flag\",\"decision_id\":\"\"" - 1 + FLAG_DECISION_ID_BYTES)

static void write_message(struct writer *writer, const void *subject)
{
    const struct message *message = subject;
    const struct decision *decision = message->decision;
    char sentence[SENTENCE_BYTES];
    put(writer, TEXT("{"));
    put_text(writer, "type", TEXT("flag"));
    put_text(writer, "decision_id", text_of(decision->id));
    put_text(writer, "customer_id", decision->customer_id);
    put_text(writer, "policy", text_of(ceiling_policy_names[decision->policy]));
    put_text(writer, "state", decision->active ? TEXT("active") : TEXT("cleared"));
    put_text(writer, "reason", reason_sentence(decision, sentence));
    put_text(writer, "ceiling", decision->ceiling);
    put_name(writer, "scope");
    put(writer, decision->scope);
    put_text(writer, "meter", decision->meter);
    put_decimal(writer, "limit", decision->limit);
    put_decimal(writer, "used", decision->used);
    put_decimal(writer, "remaining", remaining(decision));
    put_period(writer, decision);
    put_time(writer, "expires_at", decision->period_end_us);
    put_event(writer, message);
    put_time(writer, "decided_at", decision->decided_at_us);
    put(writer, TEXT("}"));
}

struct text flag_value(struct arena *arena, const struct decision *decision, const char *const *topics)
{
    const struct message message = {decision, topics};
    return written(arena, write_message, &message);
}

/* Where `sequence` goes: behind the head, or behind the brace of a message that was written by others. */
static size_t sequence_place(struct text value)
{
    static const char head[] = "{\"type\":\"flag\",\"decision_id\":\"";
    bool ours = value.length > HEAD_BYTES && memcmp(value.bytes, head, sizeof head - 1) == 0 &&
                value.bytes[HEAD_BYTES - 1] == '"';
    return ours ? HEAD_BYTES : 1;
}

size_t flag_put_sequence(char *out, struct text value, struct flag_sequence sequence)
{
    size_t place = sequence_place(value);
    memcpy(out, value.bytes, place);
    int length = snprintf(out + place, FLAG_SEQUENCE_BYTES,
                          place > 1 ? ",\"sequence\":[%lld,%lld]" : "\"sequence\":[%lld,%lld],",
                          (long long)sequence.epoch, (long long)sequence.count);
    memcpy(out + place + length, value.bytes + place, value.length - place);
    return value.length + (size_t)length;
}

/* The trace */

struct trace {
    const struct decision *decision;
    struct text value;
};

static void put_rule(struct writer *writer, const struct decision *decision)
{
    put_name(writer, "rule");
    put(writer, TEXT("{"));
    put_text(writer, "ceiling", decision->ceiling);
    put_integer(writer, "version", decision->version);
    put_text(writer, "meter", decision->meter);
    put_text(writer, "period", text_of(ceiling_period_names[decision->period]));
    put_text(writer, "policy", text_of(ceiling_policy_names[decision->policy]));
    put_decimal(writer, "limit", decision->limit);
    put(writer, TEXT("}"));
}

static void put_policy_metadata(struct writer *writer, const struct decision *decision)
{
    put_name(writer, "policy_metadata");
    put(writer, TEXT("{"));
    if (decision->plan_tier.length > 0)
        put_text(writer, "plan_tier", decision->plan_tier);
    if (decision->has_credit_balance)
        put_decimal(writer, "credit_balance", decision->credit_balance);
    if (decision->has_contractual_cap)
        put_decimal(writer, "contractual_cap", decision->contractual_cap);
    put(writer, TEXT("}"));
}

static void put_timings(struct writer *writer, const struct decision *decision)
{
    put_name(writer, "timings");
    put(writer, TEXT("{"));
    if (decision->source == DECIDED_BY_EVENT) {
        put_time(writer, "event", decision->event_time_us);
        put_integer(writer, "event_to_decision_us", decision->decided_at_us - decision->event_time_us);
    }
    put_time(writer, "decided", decision->decided_at_us);
    put(writer, TEXT("}"));
}

static void write_trace(struct writer *writer, const void *subject)
{
    const struct trace *trace = subject;
    const struct decision *decision = trace->decision;
    put(writer, TEXT("{"));
    put_name(writer, "flag");
    put(writer, trace->value);
    put_text(writer, "source", text_of(decision_source_names[decision->source]));
    put_integer(writer, "transition", decision->transition);
    put_name(writer, "published");
    put(writer, decision->published ? TEXT("true") : TEXT("false"));
    put_rule(writer, decision);
    put_name(writer, "counter");
    put(writer, TEXT("{"));
    put_decimal(writer, "before", decision->used_before);
    put_decimal(writer, "after", decision->used);
    put(writer, TEXT("}"));
    put_policy_metadata(writer, decision);
    put_timings(writer, decision);
    put(writer, TEXT("}"));
}

struct text flag_trace(struct arena *arena, const struct decision *decision, struct text value)
{
    const struct trace trace = {decision, value};
    return written(arena, write_trace, &trace);
}
