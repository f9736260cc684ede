#include "event_reference.h"

#include <jansson.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { JANSSON_DEPTH_LIMIT = 2048 };

/* jansson refuses numbers beyond its types and strings beyond its own, so each number is replaced by its
 * index here, and each NUL or lone surrogate by a '~', before jansson sees the document. */
struct reference {
    regex_t number;
    regex_t time;
    json_t *root;
    char **numbers;
    size_t number_count;
    int depth; /* the deepest container */
    size_t top_keys;
    bool bad_string;
};

struct reference *reference_new(void)
{
    struct reference *ref = calloc(1, sizeof *ref);
    if (!ref)
        abort();
    regcomp(&ref->number, "^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?$", REG_EXTENDED | REG_NOSUB);
    regcomp(&ref->time,
            "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt "
            "][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?([Zz]|[-+][0-9]{2}:[0-9]{2})$",
            REG_EXTENDED | REG_NOSUB);
    return ref;
}

static void reference_forget(struct reference *ref)
{
    json_decref(ref->root);
    for (size_t i = 0; i < ref->number_count; i++)
        free(ref->numbers[i]);
    free(ref->numbers);
    ref->root = NULL;
    ref->numbers = NULL;
    ref->number_count = 0;
    ref->depth = 0;
    ref->top_keys = 0;
    ref->bad_string = false;
}

void reference_free(struct reference *ref)
{
    reference_forget(ref);
    regfree(&ref->number);
    regfree(&ref->time);
    free(ref);
}

/* By the table of the Unicode standard. */
static size_t utf8_character(const unsigned char *at, size_t left)
{
    if (at[0] < 0x80)
        return 1;
    size_t length = at[0] >= 0xc2 && at[0] <= 0xdf   ? 2
                    : at[0] >= 0xe0 && at[0] <= 0xef ? 3
                    : at[0] >= 0xf0 && at[0] <= 0xf4 ? 4
                                                     : 0;
    if (length == 0 || length > left)
        return 0;
    unsigned char least = at[0] == 0xe0 ? 0xa0 : at[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char most = at[0] == 0xed ? 0x9f : at[0] == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < least || at[1] > most)
        return 0;
    for (size_t i = 2; i < length; i++)
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    return length;
}

bool reference_is_utf8(struct text text)
{
    for (size_t i = 0; i < text.length;) {
        size_t length = utf8_character((const unsigned char *)text.bytes + i, text.length - i);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

/* \uXXXX at `at`, else -1. */
static long escaped_unit(const char *at, const char *end)
{
    char digits[5] = "";
    if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
        return -1;
    memcpy(digits, at + 2, 4);
    return strspn(digits, "0123456789abcdefABCDEF") == 4 ? strtol(digits, NULL, 16) : -1;
}

/* Copies a string from its quote on; returns the position behind it. */
static const char *copy_string(struct reference *ref, const char *at, const char *end, char **out)
{
    *(*out)++ = *at++;
    while (at < end && *at != '"') {
        size_t take = *at == '\\' && at + 1 < end ? 2 : 1;
        long unit = escaped_unit(at, end);
        long low = unit >= 0 ? escaped_unit(at + 6, end) : -1;
        bool pair = unit >= 0xd800 && unit < 0xdc00 && low >= 0xdc00 && low < 0xe000;
        if (unit == 0 || (unit >= 0xd800 && unit < 0xe000 && !pair)) {
            ref->bad_string = true;
            *(*out)++ = '~'; /* no hex digit */
            at += 6;
            continue;
        }
        if (unit >= 0)
            take = pair ? 12 : 6;
        memcpy(*out, at, take);
        *out += take;
        at += take;
    }
    if (at < end)
        *(*out)++ = *at++;
    return at;
}

static const char *copy_number(struct reference *ref, const char *at, const char *end, char **out)
{
    const char *stop = at;
    while (stop < end && *stop && strchr("0123456789+-.eE", *stop))
        stop++;
    char *token = strndup(at, (size_t)(stop - at));
    if (regexec(&ref->number, token, 0, NULL, 0) != 0) {
        memcpy(*out, at, (size_t)(stop - at));
        *out += stop - at;
        free(token);
        return stop;
    }
    *out += sprintf(*out, "%zu", ref->number_count);
    ref->numbers = realloc(ref->numbers, (ref->number_count + 1) * sizeof *ref->numbers);
    ref->numbers[ref->number_count++] = token;
    return stop;
}

static void reference_parse(struct reference *ref, struct text value)
{
    char *copy = malloc((size_t)value.length * 8 + 64); /* an index takes more room than a digit at times */
    char *out = copy;
    const char *end = value.bytes + value.length;
    int depth = 0;
    for (const char *at = value.bytes; at < end;) {
        if (*at == '"') {
            at = copy_string(ref, at, end, &out);
            continue;
        }
        if (*at == '-' || (*at >= '0' && *at <= '9')) {
            at = copy_number(ref, at, end, &out);
            continue;
        }
        depth += (*at == '{' || *at == '[') - (*at == '}' || *at == ']');
        ref->depth = depth > ref->depth ? depth : ref->depth;
        ref->top_keys += *at == ':' && depth == 1;
        *out++ = *at ? *at : '~'; /* jansson overlooks a NUL behind a literal */
        at++;
    }
    ref->root = json_loadb(copy, (size_t)(out - copy), JSON_DECODE_ANY, NULL);
    free(copy);
}

static enum refusal reference_document(struct reference *ref, struct text value)
{
    if (value.length == 0)
        return REFUSAL_EMPTY_VALUE;
    if (value.length > EVENT_VALUE_LIMIT_BYTES)
        return REFUSAL_TOO_LARGE;
    if (!reference_is_utf8(value))
        return REFUSAL_NOT_UTF8;
    reference_parse(ref, value);
    if (!ref->root)
        return REFUSAL_NOT_JSON;
    if (!json_is_object(ref->root))
        return REFUSAL_NOT_AN_OBJECT;
    if (ref->depth > EVENT_DEPTH_LIMIT)
        return REFUSAL_TOO_DEEP;
    if (ref->bad_string)
        return REFUSAL_BAD_STRING;
    return json_object_size(ref->root) == ref->top_keys ? REFUSAL_NONE : REFUSAL_DUPLICATE_KEY;
}

/* NULL if absent or null. */
static const json_t *member_of(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

/* A number's spelling or a string's bytes. */
static struct text text_in(const struct reference *ref, const json_t *value)
{
    if (json_is_integer(value))
        return text_of(ref->numbers[json_integer_value(value)]);
    return (struct text){json_string_value(value), (uint32_t)json_string_length(value)};
}

static enum refusal a_string(const struct reference *ref, const json_t *value, uint32_t least, uint32_t most,
                             struct text *out)
{
    if (!value)
        return REFUSAL_NONE;
    if (!json_is_string(value))
        return REFUSAL_WRONG_TYPE;
    *out = text_in(ref, value);
    return out->length >= least && out->length <= most ? REFUSAL_NONE : REFUSAL_OUT_OF_RANGE;
}

/* A string under either of two names. */
static enum refusal one_of_two(const struct reference *ref, const json_t *one, const json_t *other,
                               uint32_t least, uint32_t most, struct text *out)
{
    struct text second = {NULL, 0};
    enum refusal reason = a_string(ref, one, least, most, out);
    if (!reason)
        reason = a_string(ref, other, least, most, &second);
    if (reason || !other)
        return reason;
    if (one && !text_equal(*out, second))
        return REFUSAL_CONFLICTING_FIELD;
    *out = second;
    return REFUSAL_NONE;
}

static enum refusal a_decimal(const struct reference *ref, const json_t *value, bool negative, decimal_t *out)
{
    if (!json_is_string(value) && !json_is_integer(value))
        return REFUSAL_WRONG_TYPE;
    struct text text = text_in(ref, value);
    enum decimal_error error = decimal_parse(text.bytes, text.length, out);
    if (error == DECIMAL_NOT_A_NUMBER)
        return REFUSAL_WRONG_TYPE;
    return error == DECIMAL_OK && (negative || *out >= 0) ? REFUSAL_NONE : REFUSAL_OUT_OF_RANGE;
}

static enum refusal reference_id(const struct record *record, const struct reference *ref,
                                 struct event *event)
{
    const json_t *id = member_of(ref->root, "event_id");
    enum refusal reason = a_string(ref, id, 1, 128, &event->event_id);
    for (size_t i = 0; !reason && i < record->header_count; i++) {
        struct text other = record->headers[i].value;
        if (!text_equal(record->headers[i].name, TEXT("event_id")) || !other.bytes)
            continue;
        if (other.length < 1 || other.length > 128)
            return REFUSAL_OUT_OF_RANGE;
        if (!reference_is_utf8(other))
            return REFUSAL_NOT_UTF8;
        if (memchr(other.bytes, 0, other.length))
            return REFUSAL_BAD_STRING;
        if (event->event_id.bytes && !text_equal(event->event_id, other))
            return REFUSAL_CONFLICTING_FIELD;
        event->event_id = other;
    }
    return reason || event->event_id.bytes ? reason : REFUSAL_MISSING_FIELD;
}

static enum refusal reference_names(const struct record *record, const struct reference *ref,
                                    struct event *event)
{
    const json_t *root = ref->root;
    enum refusal reason = reference_id(record, ref, event);
    if (!reason)
        reason = one_of_two(ref, member_of(root, "customer_id"), member_of(root, "account_id"), 1, 128,
                            &event->customer_id);
    if (!reason && !event->customer_id.bytes)
        return REFUSAL_MISSING_FIELD;
    if (!reason && !member_of(root, "meter"))
        return REFUSAL_MISSING_FIELD;
    if (!reason)
        reason = a_string(ref, member_of(root, "meter"), 1, 64, &event->meter);
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (!reason && strspn(event->meter.bytes, alphabet) != event->meter.length)
        return REFUSAL_OUT_OF_RANGE;
    return reason;
}

static enum refusal reference_amount(const struct reference *ref, struct event *event)
{
    static const char *const kinds[] = {"usage", "correction", "retraction"};
    const json_t *kind = member_of(ref->root, "kind");
    const json_t *quantity = member_of(ref->root, "quantity");
    if (kind && !json_is_string(kind))
        return REFUSAL_WRONG_TYPE;
    unsigned i = 0;
    while (kind && i < 3 && !text_equal(text_in(ref, kind), text_of(kinds[i])))
        i++;
    if (i == 3)
        return REFUSAL_OUT_OF_RANGE;
    event->kind = (enum event_kind)i;
    return quantity ? a_decimal(ref, quantity, i > 0, &event->quantity) : REFUSAL_MISSING_FIELD;
}

/* timegm() and back: what comes back changed was no date. */
static bool reference_rfc3339(const struct reference *ref, const char *text, int64_t *time_us)
{
    struct tm tm = {0};
    struct tm back;
    if (regexec(&ref->time, text, 0, NULL, 0) != 0)
        return false;
    sscanf(text, "%d-%d-%d%*c%d:%d:%d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
           &tm.tm_sec);
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    bool leap = tm.tm_sec == 60;
    tm.tm_sec -= leap;
    struct tm wanted = tm;
    time_t time_s = timegm(&tm);
    gmtime_r(&time_s, &back);
    if (back.tm_year != wanted.tm_year || back.tm_mon != wanted.tm_mon || back.tm_mday != wanted.tm_mday ||
        back.tm_hour != wanted.tm_hour || back.tm_min != wanted.tm_min || back.tm_sec != wanted.tm_sec)
        return false;
    const char *zone = text + strlen(text) - 6;
    int hours = 0;
    int minutes = 0;
    if (!strpbrk(text + 19, "Zz"))
        sscanf(zone + 1, "%d:%d", &hours, &minutes);
    char micros[7] = "000000";
    if (text[19] == '.' && !leap)
        memcpy(micros, text + 20, strspn(text + 20, "0123456789") < 6 ? strspn(text + 20, "0123456789") : 6);
    time_s += leap - (*zone == '-' && hours + minutes > 0 ? -1 : 1) * (hours * 3600 + minutes * 60);
    *time_us = (int64_t)time_s * 1000000 + atoi(micros);
    return hours <= 23 && minutes <= 59;
}

static bool reference_integer(const char *text, int64_t *time_us)
{
    const char *digits = text + (*text == '-');
    size_t length = strlen(digits);
    __int128 number = 0;
    if (strspn(digits, "0123456789") != length || length > 20)
        return false;
    for (const char *at = digits; *at; at++)
        number = number * 10 + (*at - '0');
    __int128 time = number * (number < 100000000000 ? 1000000 : 1000) * (*text == '-' ? -1 : 1);
    *time_us = (int64_t)time;
    return time == (int64_t)time;
}

/* Digits only, which as microseconds fit 64 bits. */
static bool reference_milliseconds(struct text text, int64_t *time_ms)
{
    __int128 number = 0;
    for (uint32_t i = 0; i < text.length; i++) {
        if (!strchr("0123456789", text.bytes[i]) || text.bytes[i] == 0)
            return false;
        number = number * 10 + (text.bytes[i] - '0');
        if (number > INT64_MAX / 1000)
            return false;
    }
    *time_ms = (int64_t)number;
    return text.length > 0;
}

static enum refusal reference_default_time(const struct record *record, struct event *event)
{
    int64_t time_ms = record->time_ms;
    event->time_defaulted = true;
    if (event->kind != EVENT_USAGE)
        return REFUSAL_MISSING_FIELD;
    for (size_t i = 0; i < record->header_count; i++) {
        struct text value = record->headers[i].value;
        if (!text_equal(record->headers[i].name, TEXT("usagebox_time")) || !value.bytes)
            continue;
        if (!reference_milliseconds(value, &time_ms))
            return REFUSAL_BAD_TIMESTAMP;
        break;
    }
    event->time_us = time_ms * 1000;
    return time_ms < 0 ? REFUSAL_MISSING_FIELD : REFUSAL_NONE;
}

static enum refusal reference_time(const struct record *record, const struct reference *ref,
                                   struct event *event)
{
    const json_t *value = member_of(ref->root, "timestamp");
    if (!value)
        return reference_default_time(record, event);
    if (json_is_string(value))
        return reference_rfc3339(ref, json_string_value(value), &event->time_us) ? REFUSAL_NONE
                                                                                 : REFUSAL_BAD_TIMESTAMP;
    if (!json_is_integer(value))
        return REFUSAL_WRONG_TYPE;
    return reference_integer(text_in(ref, value).bytes, &event->time_us) ? REFUSAL_NONE
                                                                         : REFUSAL_BAD_TIMESTAMP;
}

static enum refusal reference_correction(const struct reference *ref, struct event *event)
{
    const json_t *corrects = member_of(ref->root, "corrects");
    const json_t *reason = member_of(ref->root, "reason");
    if (event->kind == EVENT_USAGE)
        return REFUSAL_NONE;
    if (!corrects)
        return REFUSAL_MISSING_FIELD;
    enum refusal refusal = a_string(ref, corrects, 1, 128, &event->corrects);
    if (!refusal && !reason)
        return REFUSAL_MISSING_FIELD;
    return refusal ? refusal : a_string(ref, reason, 1, 1024, &event->reason);
}

static enum refusal reference_metadata(const struct reference *ref, struct event *event)
{
    const json_t *metadata = member_of(ref->root, "metadata");
    if (metadata && !json_is_object(metadata))
        return REFUSAL_WRONG_TYPE;
    enum refusal reason =
        one_of_two(ref, member_of(ref->root, "model"), member_of(metadata, "model"), 0, 256, &event->model);
    for (int i = 0; !reason && i < LIFTED_COUNT; i++) {
        const json_t *value = member_of(metadata, event_lifted_names[i]);
        if (i != LIFTED_CONTEXT_WINDOW || !json_is_integer(value)) {
            reason = a_string(ref, value, 0, 256, &event->lifted[i]);
            continue;
        }
        event->lifted[i] = text_in(ref, value);
        if (strpbrk(event->lifted[i].bytes, ".eE"))
            return REFUSAL_WRONG_TYPE;
        reason = event->lifted[i].length <= 256 ? REFUSAL_NONE : REFUSAL_OUT_OF_RANGE;
    }
    return reason;
}

static enum refusal reference_policy(const struct reference *ref, struct event *event)
{
    const json_t *policy = member_of(ref->root, "policy_metadata");
    const json_t *balance = member_of(policy, "credit_balance");
    const json_t *cap = member_of(policy, "contractual_cap");
    if (policy && !json_is_object(policy))
        return REFUSAL_WRONG_TYPE;
    enum refusal reason = a_string(ref, member_of(policy, "plan_tier"), 0, 256, &event->plan_tier);
    event->has_credit_balance = balance != NULL;
    event->has_contractual_cap = cap != NULL;
    if (!reason && balance)
        reason = a_decimal(ref, balance, true, &event->credit_balance);
    if (!reason && cap)
        reason = a_decimal(ref, cap, false, &event->contractual_cap);
    return reason;
}

enum refusal reference_decode(struct reference *ref, const struct event_rules *rules,
                              const struct record *record, int64_t now_us, struct event *event)
{
    reference_forget(ref);
    memset(event, 0, sizeof *event);
    enum refusal reason = reference_document(ref, record->value);
    if (!reason)
        reason = reference_names(record, ref, event);
    if (!reason)
        reason = reference_amount(ref, event);
    if (!reason)
        reason = reference_time(record, ref, event);
    if (!reason)
        reason = reference_correction(ref, event);
    if (!reason)
        reason = reference_metadata(ref, event);
    if (!reason)
        reason = reference_policy(ref, event);
    if (reason)
        return reason;
    if (event->time_us < now_us - rules->max_age_us)
        return REFUSAL_TOO_OLD;
    return event->time_us > now_us + rules->max_future_us ? REFUSAL_IN_FUTURE : REFUSAL_NONE;
}

bool reference_gave_up(const struct reference *ref)
{
    return ref->depth > JANSSON_DEPTH_LIMIT;
}
