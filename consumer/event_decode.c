#include "event.h"

#include "arena.h"
#include "document.h"
#include "event_field.h"
#include "sentence.h"
#include "timestamp.h"

#include <inttypes.h>
#include <stdlib.h>

enum { ID_LIMIT_BYTES = 128, METER_LIMIT_BYTES = 64, REASON_LIMIT_BYTES = 1024 };
enum { EXCERPT_BYTES = 40, ARENA_CHUNK_BYTES = 64 * 1024 };

_Static_assert(FIELD_COUNT <= 32, "a bit for each");

#define DAY_US ((int64_t)86400 * 1000000)

struct decoder {
    struct event_rules rules;
    struct event_names names;
    struct document *document;
    struct arena arena;
    struct text *unknown_keys; /* room for as many as a document can hold */
    struct sentence detail;
    uint8_t next_field[FIELD_COUNT + 1]; /* which came after each of them the last time */

    /* of the record being decoded */
    const struct record *record;
    const struct value *values[FIELD_COUNT]; /* of those in present */
    uint32_t present;                        /* a bit for each field that is there and not null */
    uint32_t seen;                           /* a bit for each field of the root that is there */
    enum field repeated;                     /* the first of them that came twice, or NO_FIELD */
    size_t unknown_count;
};

struct decoder *decoder_new(const struct event_rules *rules)
{
    struct decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder)
        return NULL;
    decoder->rules = *rules;
    event_names_init(&decoder->names);
    arena_init(&decoder->arena, ARENA_CHUNK_BYTES);
    decoder->document = document_new(EVENT_VALUE_LIMIT_BYTES, EVENT_DEPTH_LIMIT);
    decoder->unknown_keys =
        malloc((EVENT_VALUE_LIMIT_BYTES / DOCUMENT_MEMBER_BYTES + 1) * sizeof(struct text));
    if (!decoder->document || !decoder->unknown_keys) {
        decoder_free(decoder);
        return NULL;
    }
    return decoder;
}

void decoder_free(struct decoder *decoder)
{
    if (!decoder)
        return;
    document_free(decoder->document);
    arena_free(&decoder->arena);
    free(decoder->unknown_keys);
    free(decoder);
}

void decoder_reset(struct decoder *decoder)
{
    arena_reset(&decoder->arena);
}

const char *decoder_detail(const struct decoder *decoder)
{
    return decoder->detail.bytes;
}

/* Says what a field is for a person: `metadata.run_id`. */
static void add_field(struct sentence *sentence, enum field field)
{
    static const char *const prefixes[PLACE_COUNT] = {"", "metadata.", "policy_metadata."};
    sentence_addf(sentence, "%s%s", prefixes[event_field_place(field)], event_field_name(field));
}

static void add_found(struct decoder *decoder, const struct value *value)
{
    static const char *const names[] = {
        [VALUE_ABSENT] = "nothing", [VALUE_NULL] = "null",       [VALUE_FALSE] = "false",
        [VALUE_TRUE] = "true",      [VALUE_NUMBER] = "",         [VALUE_STRING] = "",
        [VALUE_ARRAY] = "an array", [VALUE_OBJECT] = "an object"};
    struct sentence *detail = &decoder->detail;
    sentence_add(detail, text_of(names[value->type]));
    if (value->type != VALUE_STRING && value->type != VALUE_NUMBER)
        return;
    struct text raw = {decoder->record->value.bytes + value->offset, value->length};
    if (value->type == VALUE_STRING)
        sentence_quote(detail, raw, EXCERPT_BYTES);
    else if (raw.length <= EXCERPT_BYTES)
        sentence_add(detail, raw);
    else
        sentence_addf(detail, "%.*s… (%u bytes)", EXCERPT_BYTES, raw.bytes, raw.length);
}

/* Kept out of line: most events are fine. */
#define REFUSING static __attribute__((cold, noinline)) enum refusal

/* `FIELD: expected EXPECTED, found VALUE` */
REFUSING refuse(struct decoder *decoder, enum refusal reason, enum field field, const char *expected)
{
    struct sentence *detail = &decoder->detail;
    add_field(detail, field);
    sentence_addf(detail, ": expected %s, found ", expected);
    add_found(decoder, decoder->values[field]);
    return reason;
}

REFUSING refuse_missing(struct decoder *decoder, enum field field, const char *expected)
{
    add_field(&decoder->detail, field);
    sentence_addf(&decoder->detail, ": missing; expected %s", expected);
    return REFUSAL_MISSING_FIELD;
}

REFUSING refuse_length(struct decoder *decoder, enum field field, uint32_t least, uint32_t most,
                       uint32_t found)
{
    add_field(&decoder->detail, field);
    sentence_addf(&decoder->detail, ": expected %u to %u bytes, found %u", least, most, found);
    return REFUSAL_OUT_OF_RANGE;
}

REFUSING refuse_conflict(struct decoder *decoder, const char *one, const char *other)
{
    sentence_addf(&decoder->detail, "%s and %s differ; send one of them, or the same in both", one, other);
    return REFUSAL_CONFLICTING_FIELD;
}

REFUSING refuse_no_memory(struct decoder *decoder)
{
    sentence_addf(&decoder->detail, "out of memory while decoding; try again");
    return REFUSAL_NO_MEMORY;
}

static uint32_t bit_of(enum field field)
{
    return UINT32_C(1) << field;
}

static bool is_present(const struct decoder *decoder, enum field field)
{
    return decoder->present & bit_of(field);
}

static void note_root_field(struct decoder *decoder, enum field field, struct text key)
{
    if (field == NO_FIELD) {
        decoder->unknown_keys[decoder->unknown_count++] = key;
        return;
    }
    if (decoder->seen & bit_of(field) && field < decoder->repeated)
        decoder->repeated = field;
    decoder->seen |= bit_of(field);
}

static enum place place_of_members(enum field field)
{
    return field == FIELD_METADATA          ? PLACE_METADATA
           : field == FIELD_POLICY_METADATA ? PLACE_POLICY
                                            : PLACE_NONE;
}

/* Where the known fields are. */
static void note_members(struct decoder *decoder)
{
    struct members members = document_members(decoder->document);
    enum place place = PLACE_NONE; /* whose members come at depth 2 */
    enum field field = NO_FIELD;
    for (const struct member *member = members.first; member < members.first + members.count; member++) {
        bool in_root = member->depth == 1;
        if (!in_root && place == PLACE_NONE)
            continue;
        struct text key = document_key(decoder->document, &members, member);
        /* Most producers name the fields of all events in one order. */
        uint8_t *next = &decoder->next_field[field];
        field = event_names_find(&decoder->names, in_root ? PLACE_TOP : place, key, *next);
        *next = (uint8_t)field;
        if (in_root)
            note_root_field(decoder, field, key);
        if (in_root && member->value.type == VALUE_OBJECT)
            place = place_of_members(field);
        if (field == NO_FIELD)
            continue;
        decoder->values[field] = &member->value;
        decoder->present &= ~bit_of(field);
        decoder->present |= (uint32_t)(member->value.type != VALUE_NULL) << field;
    }
}

static enum refusal check_repeated(struct decoder *decoder)
{
    const struct text *repeated = NULL;
    struct text name;
    if (decoder->repeated != NO_FIELD)
        name = text_of(event_field_name(decoder->repeated)), repeated = &name;
    else
        repeated = event_repeated_key(decoder->unknown_keys, decoder->unknown_count);
    if (!repeated)
        return REFUSAL_NONE;
    sentence_addf(&decoder->detail, "value: expected each key once, found more than one ");
    sentence_quote(&decoder->detail, *repeated, EXCERPT_BYTES);
    return REFUSAL_DUPLICATE_KEY;
}

REFUSING refuse_document(struct decoder *decoder, enum document_error error)
{
    static const struct {
        enum refusal reason;
        const char *expected;
    } answers[] = {
        [DOCUMENT_NOT_UTF8] = {REFUSAL_NOT_UTF8, "text in UTF-8"},
        [DOCUMENT_NOT_JSON] = {REFUSAL_NOT_JSON, "one whole JSON object"},
        [DOCUMENT_NOT_AN_OBJECT] = {REFUSAL_NOT_AN_OBJECT, "a JSON object"},
        [DOCUMENT_TOO_DEEP] = {REFUSAL_TOO_DEEP, "at most 32 levels"},
        [DOCUMENT_BAD_STRING] = {REFUSAL_BAD_STRING, "strings of Unicode characters without NUL"},
    };
    int64_t offset = document_problem_offset(decoder->document);
    sentence_addf(&decoder->detail, "value: expected %s, found %s", answers[error].expected,
                  document_problem(decoder->document));
    if (offset >= 0)
        sentence_addf(&decoder->detail, " at byte %" PRId64, offset);
    return answers[error].reason;
}

static enum refusal read_document(struct decoder *decoder)
{
    struct text value = decoder->record->value;
    if (value.length == 0) {
        sentence_addf(&decoder->detail, "value: expected a JSON object, found nothing");
        return REFUSAL_EMPTY_VALUE;
    }
    if (value.length > EVENT_VALUE_LIMIT_BYTES) {
        sentence_addf(&decoder->detail, "value: expected at most %d bytes, found %u", EVENT_VALUE_LIMIT_BYTES,
                      value.length);
        return REFUSAL_TOO_LARGE;
    }
    enum document_error error = document_read(decoder->document, value);
    if (error != DOCUMENT_OK)
        return refuse_document(decoder, error);
    note_members(decoder);
    return check_repeated(decoder);
}

/* A string or number of the document, as long-lived as the event. */
static __attribute__((noinline)) enum refusal keep_text(struct decoder *decoder, enum field field,
                                                        uint32_t least, uint32_t most, struct text *out)
{
    bool lasting;
    struct text text = document_text(decoder->document, decoder->values[field], &lasting);
    if (text.length < least || text.length > most)
        return refuse_length(decoder, field, least, most, text.length);
    *out = lasting ? text : arena_text(&decoder->arena, text);
    return out->bytes ? REFUSAL_NONE : refuse_no_memory(decoder);
}

/* A present field that must be a string. */
static inline enum refusal read_string(struct decoder *decoder, enum field field, uint32_t least,
                                       uint32_t most, struct text *out)
{
    const struct value *value = decoder->values[field];
    if (value->type != VALUE_STRING)
        return refuse(decoder, REFUSAL_WRONG_TYPE, field, "a string");
    if (value->escaped || value->length < least || value->length > most)
        return keep_text(decoder, field, least, most, out);
    *out = (struct text){decoder->record->value.bytes + value->offset, value->length};
    return REFUSAL_NONE;
}

/* Leaves *out alone if the field is absent. */
static inline enum refusal read_optional(struct decoder *decoder, enum field field, uint32_t least,
                                         uint32_t most, struct text *out)
{
    return is_present(decoder, field) ? read_string(decoder, field, least, most, out) : REFUSAL_NONE;
}

static enum refusal read_required(struct decoder *decoder, enum field field, uint32_t most, struct text *out)
{
    if (!is_present(decoder, field))
        return refuse_missing(decoder, field, "a string");
    return read_string(decoder, field, 1, most, out);
}

static enum refusal read_header_id(struct decoder *decoder, struct text id, struct event *event)
{
    struct text detail_name = TEXT("header event_id: expected ");
    if (id.length < 1 || id.length > ID_LIMIT_BYTES) {
        sentence_add(&decoder->detail, detail_name);
        sentence_addf(&decoder->detail, "1 to %d bytes, found %u", ID_LIMIT_BYTES, id.length);
        return REFUSAL_OUT_OF_RANGE;
    }
    if (!document_is_utf8(id)) {
        sentence_add(&decoder->detail, detail_name);
        sentence_addf(&decoder->detail, "text in UTF-8");
        return REFUSAL_NOT_UTF8;
    }
    if (memchr(id.bytes, '\0', id.length)) {
        sentence_add(&decoder->detail, detail_name);
        sentence_addf(&decoder->detail, "no NUL in it");
        return REFUSAL_BAD_STRING;
    }
    if (event->event_id.length > 0 && !text_equal(event->event_id, id))
        return refuse_conflict(decoder, "event_id", "the header event_id");
    event->event_id = id;
    return REFUSAL_NONE;
}

static enum refusal read_event_id(struct decoder *decoder, struct event *event)
{
    struct record_headers headers;
    enum refusal reason = read_optional(decoder, FIELD_EVENT_ID, 1, ID_LIMIT_BYTES, &event->event_id);
    /* An id in a header would have to be the same: for that, no sign of one is enough. */
    if (event->event_id.length > 0 && record_seems_bare(decoder->record))
        return reason;
    if (reason == REFUSAL_NONE && !record_headers(decoder->record, &headers))
        return refuse_no_memory(decoder);
    for (size_t i = 0; reason == REFUSAL_NONE && i < headers.count; i++) {
        const struct record_header *header = &headers.list[i];
        if (header->value.bytes && text_equal(header->name, TEXT("event_id")))
            reason = read_header_id(decoder, header->value, event);
    }
    if (reason == REFUSAL_NONE && event->event_id.length == 0)
        return refuse_missing(decoder, FIELD_EVENT_ID,
                              "a string that names this event, here or in a header event_id");
    return reason;
}

static enum refusal read_customer_id(struct decoder *decoder, struct event *event)
{
    struct text account = {NULL, 0};
    enum refusal reason = read_optional(decoder, FIELD_CUSTOMER_ID, 1, ID_LIMIT_BYTES, &event->customer_id);
    if (reason == REFUSAL_NONE)
        reason = read_optional(decoder, FIELD_ACCOUNT_ID, 1, ID_LIMIT_BYTES, &account);
    if (reason != REFUSAL_NONE)
        return reason;
    if (!account.bytes && !event->customer_id.bytes)
        return refuse_missing(decoder, FIELD_CUSTOMER_ID, "a string (account_id is another name for it)");
    if (account.bytes && event->customer_id.bytes && !text_equal(account, event->customer_id))
        return refuse_conflict(decoder, "customer_id", "account_id");
    if (account.bytes)
        event->customer_id = account;
    return REFUSAL_NONE;
}

static const bool is_meter_byte[256] = {['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true,
                                        ['.'] = true,         ['_'] = true,         ['-'] = true};

static enum refusal read_meter(struct decoder *decoder, struct event *event)
{
    enum refusal reason = read_required(decoder, FIELD_METER, METER_LIMIT_BYTES, &event->meter);
    if (reason != REFUSAL_NONE)
        return reason;
    bool valid = true;
    for (uint32_t i = 0; i < event->meter.length; i++)
        valid &= is_meter_byte[(uint8_t)event->meter.bytes[i]];
    return valid ? REFUSAL_NONE
                 : refuse(decoder, REFUSAL_OUT_OF_RANGE, FIELD_METER, "only A-Z a-z 0-9 . _ -");
}

static enum refusal read_kind(struct decoder *decoder, struct event *event)
{
    static const char expected[] = "\"usage\", \"correction\" or \"retraction\"";
    event->kind = EVENT_USAGE;
    if (!is_present(decoder, FIELD_KIND))
        return REFUSAL_NONE;
    if (decoder->values[FIELD_KIND]->type != VALUE_STRING)
        return refuse(decoder, REFUSAL_WRONG_TYPE, FIELD_KIND, expected);
    bool lasting;
    struct text kind = document_text(decoder->document, decoder->values[FIELD_KIND], &lasting);
    if (text_equal(kind, TEXT("correction")))
        event->kind = EVENT_CORRECTION;
    else if (text_equal(kind, TEXT("retraction")))
        event->kind = EVENT_RETRACTION;
    else if (!text_equal(kind, TEXT("usage")))
        return refuse(decoder, REFUSAL_OUT_OF_RANGE, FIELD_KIND, expected);
    return REFUSAL_NONE;
}

/* A present field that must be a number, or a string that holds one. */
static enum refusal read_decimal(struct decoder *decoder, enum field field, decimal_t *out)
{
    static const char expected[] = "a decimal number such as 12450 or \"0.5\"";
    const struct value *value = decoder->values[field];
    if (value->type != VALUE_NUMBER && value->type != VALUE_STRING)
        return refuse(decoder, REFUSAL_WRONG_TYPE, field, expected);
    bool lasting;
    struct text text = document_text(decoder->document, value, &lasting);
    switch (decimal_parse(text.bytes, text.length, out)) {
    case DECIMAL_OK:
        return REFUSAL_NONE;
    case DECIMAL_NOT_A_NUMBER:
        return refuse(decoder, REFUSAL_WRONG_TYPE, field, expected);
    case DECIMAL_TOO_PRECISE:
        return refuse(decoder, REFUSAL_OUT_OF_RANGE, field, "at most 9 digits after the point");
    case DECIMAL_TOO_LARGE:
        break;
    }
    return refuse(decoder, REFUSAL_OUT_OF_RANGE, field, "less than 10^20 in magnitude");
}

static enum refusal read_quantity(struct decoder *decoder, struct event *event)
{
    if (!is_present(decoder, FIELD_QUANTITY))
        return refuse_missing(decoder, FIELD_QUANTITY, "a decimal number such as 12450 or \"0.5\"");
    enum refusal reason = read_decimal(decoder, FIELD_QUANTITY, &event->quantity);
    if (reason == REFUSAL_NONE && event->kind == EVENT_USAGE && event->quantity < 0)
        return refuse(decoder, REFUSAL_OUT_OF_RANGE, FIELD_QUANTITY,
                      "0 or more (only a correction or retraction may be negative)");
    return reason;
}

/* A dead letter that is replayed brings its first record's timestamp along. */
static const struct text *replayed_time(const struct record_headers *headers)
{
    for (size_t i = 0; i < headers->count; i++)
        if (headers->list[i].value.bytes && text_equal(headers->list[i].name, TEXT("usagebox_time")))
            return &headers->list[i].value;
    return NULL;
}

static bool read_replayed_time(struct text text, int64_t *time_ms)
{
    *time_ms = 0;
    for (uint32_t i = 0; i < text.length; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9' || __builtin_mul_overflow(*time_ms, 10, time_ms) ||
            __builtin_add_overflow(*time_ms, text.bytes[i] - '0', time_ms))
            return false;
    }
    return text.length > 0;
}

/* The event names no time: the record's is taken. */
static enum refusal default_time(struct decoder *decoder, struct event *event)
{
    int64_t time_ms = decoder->record->time_ms;
    struct record_headers headers;
    event->time_defaulted = true;
    if (event->kind != EVENT_USAGE)
        return refuse_missing(decoder, FIELD_TIMESTAMP, "the timestamp of the event that is corrected");
    if (!record_headers(decoder->record, &headers))
        return refuse_no_memory(decoder);
    const struct text *replayed = replayed_time(&headers);
    if (!replayed && time_ms < 0)
        return refuse_missing(decoder, FIELD_TIMESTAMP, "one, as the record has none either");
    if ((replayed && !read_replayed_time(*replayed, &time_ms)) ||
        __builtin_mul_overflow(time_ms, 1000, &event->time_us)) {
        sentence_addf(&decoder->detail, "header usagebox_time: expected milliseconds since 1970");
        return REFUSAL_BAD_TIMESTAMP;
    }
    return REFUSAL_NONE;
}

static enum refusal read_timestamp(struct decoder *decoder, struct event *event)
{
    static const char expected[] = "RFC 3339 with an offset such as 2026-11-22T09:30:00Z, "
                                   "or seconds or milliseconds since 1970";
    const struct value *value = decoder->values[FIELD_TIMESTAMP];
    if (!is_present(decoder, FIELD_TIMESTAMP))
        return default_time(decoder, event);
    if (value->type != VALUE_STRING && value->type != VALUE_NUMBER)
        return refuse(decoder, REFUSAL_WRONG_TYPE, FIELD_TIMESTAMP, expected);
    bool lasting;
    struct text text = document_text(decoder->document, value, &lasting);
    bool valid = value->type == VALUE_STRING ? timestamp_from_rfc3339(text, &event->time_us)
                                             : timestamp_from_integer(text, &event->time_us);
    return valid ? REFUSAL_NONE : refuse(decoder, REFUSAL_BAD_TIMESTAMP, FIELD_TIMESTAMP, expected);
}

/* What usage events carry under these names means nothing and is kept in the payload only. */
static enum refusal read_correction(struct decoder *decoder, struct event *event)
{
    if (event->kind == EVENT_USAGE)
        return REFUSAL_NONE;
    enum refusal reason = read_required(decoder, FIELD_CORRECTS, ID_LIMIT_BYTES, &event->corrects);
    if (reason == REFUSAL_NONE)
        reason = read_required(decoder, FIELD_REASON, REASON_LIMIT_BYTES, &event->reason);
    return reason;
}

static enum refusal check_object(struct decoder *decoder, enum field field)
{
    if (is_present(decoder, field) && decoder->values[field]->type != VALUE_OBJECT)
        return refuse(decoder, REFUSAL_WRONG_TYPE, field, "an object");
    return REFUSAL_NONE;
}

static enum refusal read_model(struct decoder *decoder, struct event *event)
{
    struct text nested = {NULL, 0};
    enum refusal reason = check_object(decoder, FIELD_METADATA);
    if (reason == REFUSAL_NONE)
        reason = read_optional(decoder, FIELD_MODEL, 0, EVENT_LIFTED_LIMIT_BYTES, &event->model);
    if (reason == REFUSAL_NONE)
        reason = read_optional(decoder, FIELD_METADATA_MODEL, 0, EVENT_LIFTED_LIMIT_BYTES, &nested);
    if (reason != REFUSAL_NONE || !nested.bytes)
        return reason;
    if (event->model.bytes && !text_equal(event->model, nested))
        return refuse_conflict(decoder, "model", "metadata.model");
    event->model = nested;
    return REFUSAL_NONE;
}

/* -?[0-9]+ of a number that is valid already. */
static bool is_integer(const struct decoder *decoder, const struct value *value)
{
    const char *bytes = decoder->record->value.bytes + value->offset;
    for (uint32_t i = 0; i < value->length; i++)
        if (bytes[i] == '.' || bytes[i] == 'e' || bytes[i] == 'E')
            return false;
    return value->type == VALUE_NUMBER;
}

static enum refusal read_lifted(struct decoder *decoder, struct event *event)
{
    enum field window = (enum field)(FIELD_LIFTED + LIFTED_CONTEXT_WINDOW);
    enum refusal reason = REFUSAL_NONE;
    uint32_t left = decoder->present & (bit_of(window) - bit_of(FIELD_LIFTED));
    for (; reason == REFUSAL_NONE && left != 0; left &= left - 1) {
        enum field field = (enum field)__builtin_ctz(left);
        reason =
            read_string(decoder, field, 0, EVENT_LIFTED_LIMIT_BYTES, &event->lifted[field - FIELD_LIFTED]);
    }
    if (reason != REFUSAL_NONE || !is_present(decoder, window))
        return reason;
    const struct value *value = decoder->values[window];
    if (value->type != VALUE_STRING && !is_integer(decoder, value))
        return refuse(decoder, REFUSAL_WRONG_TYPE, window, "a string or an integer");
    return keep_text(decoder, window, 0, EVENT_LIFTED_LIMIT_BYTES, &event->lifted[LIFTED_CONTEXT_WINDOW]);
}

static enum refusal read_policy(struct decoder *decoder, struct event *event)
{
    enum refusal reason = check_object(decoder, FIELD_POLICY_METADATA);
    if (reason == REFUSAL_NONE)
        reason = read_optional(decoder, FIELD_PLAN_TIER, 0, EVENT_LIFTED_LIMIT_BYTES, &event->plan_tier);
    event->has_credit_balance = is_present(decoder, FIELD_CREDIT_BALANCE);
    if (reason == REFUSAL_NONE && event->has_credit_balance)
        reason = read_decimal(decoder, FIELD_CREDIT_BALANCE, &event->credit_balance);
    event->has_contractual_cap = is_present(decoder, FIELD_CONTRACTUAL_CAP);
    if (reason == REFUSAL_NONE && event->has_contractual_cap)
        reason = read_decimal(decoder, FIELD_CONTRACTUAL_CAP, &event->contractual_cap);
    if (reason == REFUSAL_NONE && event->contractual_cap < 0)
        return refuse(decoder, REFUSAL_OUT_OF_RANGE, FIELD_CONTRACTUAL_CAP, "0 or more");
    return reason;
}

static enum refusal check_age(struct decoder *decoder, int64_t now_us, const struct event *event)
{
    __int128 age_us = (__int128)now_us - event->time_us;
    if (age_us > decoder->rules.max_age_us || event->time_us < DAY_US) {
        sentence_addf(&decoder->detail,
                      "timestamp: expected at most %" PRId64 " s ago (events.max_age), found %" PRId64
                      " s ago",
                      decoder->rules.max_age_us / 1000000, (int64_t)(age_us / 1000000));
        return REFUSAL_TOO_OLD;
    }
    if (-age_us > decoder->rules.max_future_us) {
        sentence_addf(&decoder->detail,
                      "timestamp: expected at most %" PRId64
                      " s ahead of the clock (events.max_future), found %" PRId64 " s",
                      decoder->rules.max_future_us / 1000000, (int64_t)(-age_us / 1000000));
        return REFUSAL_IN_FUTURE;
    }
    return REFUSAL_NONE;
}

enum refusal event_decode(struct decoder *decoder, const struct record *record, int64_t now_us,
                          struct event *event)
{
    typedef enum refusal step(struct decoder *, struct event *);
    static step *const steps[] = {read_event_id,  read_customer_id, read_meter, read_kind,   read_quantity,
                                  read_timestamp, read_correction,  read_model, read_lifted, read_policy};
    memset(event, 0, sizeof *event);
    sentence_start(&decoder->detail);
    decoder->record = record;
    decoder->present = decoder->seen = 0;
    decoder->repeated = NO_FIELD;
    decoder->unknown_count = 0;
    enum refusal reason = read_document(decoder);
#ifdef __OPTIMIZE__ /* else it is a warning */
#pragma GCC unroll 10
#endif
    for (size_t i = 0; reason == REFUSAL_NONE && i < sizeof steps / sizeof *steps; i++)
        reason = steps[i](decoder, event);
    return reason == REFUSAL_NONE ? check_age(decoder, now_us, event) : reason;
}
