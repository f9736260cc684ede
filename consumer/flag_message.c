/* What messages of the enforcement topic say, and what is made of them: withdrawals, and our own messages as
 * PostgreSQL's jsonb gave them back. */
#include "flag_message.h"

#include <stdlib.h>

#include "json_load.h"
#include "timestamp.h"

/* The order in which flag_value() writes them. */
static const char *const member_names[] = {
    "type",  "decision_id", "customer_id", "policy",    "state",  "reason",     "ceiling", "scope",
    "meter", "limit",       "used",        "remaining", "period", "expires_at", "event",   "decided_at"};
enum { MEMBER_COUNT = sizeof member_names / sizeof *member_names };

static struct text text_member(const json_t *object, const char *name)
{
    const json_t *member = json_object_get(object, name);
    if (!json_is_string(member))
        return (struct text){NULL, 0};
    return (struct text){json_string_value(member), (uint32_t)json_string_length(member)};
}

static bool time_member(const json_t *object, const char *name, int64_t *time_us)
{
    struct text text = text_member(object, name);
    return text.bytes && timestamp_from_rfc3339(text, time_us);
}

static bool read_event(const json_t *event, struct flag_message *message)
{
    if (json_is_null(event))
        return true;
    const json_t *partition = json_object_get(event, "partition"), *offset = json_object_get(event, "offset");
    message->has_event = true;
    message->topic = text_member(event, "topic");
    message->partition = (int32_t)json_integer_value(partition);
    message->offset = json_integer_value(offset);
    return message->topic.bytes && json_is_integer(partition) && json_is_integer(offset) &&
           json_integer_value(partition) == message->partition && message->partition >= 0 &&
           message->offset >= 0;
}

/* Views into the document. False: no flag as we write it. */
static bool read_flag(const json_t *document, struct flag_message *message)
{
    struct text state = text_member(document, "state");
    *message = (struct flag_message){.decision_id = text_member(document, "decision_id")};
    message->active = text_equal(state, TEXT("active"));
    return text_equal(text_member(document, "type"), TEXT("flag")) &&
           message->decision_id.length == FLAG_DECISION_ID_BYTES &&
           (message->active || text_equal(state, TEXT("cleared"))) &&
           time_member(document, "expires_at", &message->expires_at_us) &&
           time_member(document, "decided_at", &message->decided_at_us) &&
           read_event(json_object_get(document, "event"), message);
}

/* NULL: not JSON (FLAG_FOREIGN), or out of memory. */
static json_t *load(struct text value, enum flag_reading *reading)
{
    bool starved;
    json_t *document = json_load_text(value, 0, NULL, &starved);
    *reading = document ? FLAG_READ : starved ? FLAG_NO_MEMORY : FLAG_FOREIGN;
    return document;
}

enum flag_reading flag_parse(struct arena *arena, struct text value, struct flag_message *message)
{
    enum flag_reading reading;
    json_t *document = load(value, &reading);
    if (!document)
        return reading;
    if (!read_flag(document, message)) {
        reading = FLAG_FOREIGN;
    } else {
        message->decision_id = arena_text(arena, message->decision_id);
        if (message->has_event)
            message->topic = arena_text(arena, message->topic);
        if (!message->decision_id.bytes || (message->has_event && !message->topic.bytes))
            reading = FLAG_NO_MEMORY;
    }
    json_decref(document);
    return reading;
}

/* Writes a document to malloc'd memory; drops the reference. NULL: out of memory. */
static char *dumped(json_t *document, size_t *length)
{
    *length = document ? json_dumpb(document, NULL, 0, JSON_COMPACT) : 0;
    char *bytes = *length > 0 ? malloc(*length) : NULL;
    if (bytes && json_dumpb(document, bytes, *length, JSON_COMPACT) != *length) {
        free(bytes);
        bytes = NULL;
    }
    json_decref(document);
    return bytes;
}

/* The known members in our order; others are left out. NULL: out of memory, or no object. */
static json_t *in_order(const json_t *document)
{
    json_t *ordered = json_is_object(document) ? json_object() : NULL;
    bool ok = ordered;
    for (size_t i = 0; ok && i < MEMBER_COUNT; i++) {
        json_t *member = json_object_get(document, member_names[i]);
        ok = !member || json_object_set(ordered, member_names[i], member) == 0;
    }
    if (ok)
        return ordered;
    json_decref(ordered);
    return NULL;
}

char *flag_message_in_order(struct text value, size_t *length)
{
    enum flag_reading reading;
    json_t *document = load(value, &reading);
    char *bytes = document ? dumped(in_order(document), length) : NULL;
    json_decref(document);
    return bytes;
}

static bool set_text(json_t *document, const char *name, const char *text)
{
    return json_object_set_new(document, name, json_string(text)) == 0;
}

char *flag_message_withdrawn(struct text value, int64_t now_us, size_t *length)
{
    char now[TIMESTAMP_TEXT_BYTES];
    timestamp_text(now_us, now);
    enum flag_reading reading;
    json_t *document = load(value, &reading);
    json_t *withdrawn = document ? in_order(document) : NULL;
    json_decref(document);
    if (withdrawn && set_text(withdrawn, "state", "cleared") &&
        set_text(withdrawn, "reason", "Withdrawn: nothing that was counted supports it") &&
        set_text(withdrawn, "decided_at", now))
        return dumped(withdrawn, length);
    json_decref(withdrawn);
    return NULL;
}
