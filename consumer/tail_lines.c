#include "tail_lines.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "json_load.h"
#include "printable.h"
#include "tables.h"
#include "timestamp.h"

enum { DAY_CHARACTERS = 10, CLOCK_AT = 11, CLOCK_CHARACTERS = 8, MINUTE_CHARACTERS = 5 };

bool tail_is_full(const struct tail_lines *lines)
{
    return lines->most > 0 && lines->count >= lines->most;
}

static bool is_wanted(const struct tail_lines *lines, struct text customer_id)
{
    return !tail_is_full(lines) && (!lines->customer || text_equal(text_of(lines->customer), customer_id));
}

static void print_word(struct text word)
{
    if (word.length == 0)
        return;
    putchar(' ');
    printable_word(word, stdout);
}

static void print_clock(const char *time)
{
    printf("%.*s", CLOCK_CHARACTERS, time + CLOCK_AT);
}

static void print_json(json_t *line)
{
    json_write(line, JSON_COMPACT, stdout);
    json_decref(line);
}

static json_t *json_of(struct text text)
{
    return json_stringn(text.length > 0 ? text.bytes : "", text.length);
}

/* --- events --- */

/* 18:00, or with its day where that is not the day of the time beside it. */
static void print_hour(const char *event_time, const char *now)
{
    fputs(" hour ", stdout);
    if (memcmp(event_time, now, DAY_CHARACTERS) != 0)
        printf("%.*s ", DAY_CHARACTERS, event_time);
    printf("%.2s:00", event_time + CLOCK_AT);
}

static json_t *event_json(const struct followed_event *event, const char *event_time, const char *ingested_at)
{
    return json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:i, s:I}", "type", "event", "time",
        ingested_at, "customer_id", json_of(event->customer_id), "event_id", json_of(event->event_id),
        "meter", json_of(event->meter), "quantity", json_of(event->quantity), "model", json_of(event->model),
        "kind", json_of(event->kind), "corrects", json_of(event->corrects), "timestamp", event_time, "topic",
        json_of(event->topic), "partition", (int)event->partition, "offset", (json_int_t)event->offset);
}

void tail_event(struct tail_lines *lines, const struct followed_event *event)
{
    char event_time[TIMESTAMP_TEXT_BYTES], ingested_at[TIMESTAMP_TEXT_BYTES];
    if (!is_wanted(lines, event->customer_id))
        return;
    lines->count++;
    timestamp_text(event->event_time_us, event_time);
    timestamp_text(event->ingested_at_us, ingested_at);
    if (lines->json) {
        print_json(event_json(event, event_time, ingested_at));
        return;
    }
    print_clock(ingested_at);
    fputs(" accepted", stdout);
    print_word(event->customer_id);
    print_word(event->meter);
    printf(" %s%.*s", *event->quantity.bytes == '-' ? "" : "+", (int)event->quantity.length,
           event->quantity.bytes);
    print_word(event->model);
    print_hour(event_time, ingested_at);
    if (event->corrects.length > 0) {
        print_word(event->kind);
        fputs(" of", stdout);
        print_word(event->corrects);
    }
    fputs(" (", stdout);
    printable_word(event->topic, stdout);
    printf("/%d@%" PRId64 ")\n", event->partition, event->offset);
}

/* --- flags --- */

static struct text member(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_string(value))
        return TEXT("");
    return (struct text){json_string_value(value), (uint32_t)json_string_length(value)};
}

static struct text key_part(const json_t *key, size_t index)
{
    const json_t *value = json_array_get(key, index);
    if (!json_is_string(value))
        return TEXT("");
    return (struct text){json_string_value(value), (uint32_t)json_string_length(value)};
}

static void print_flag(const json_t *key, const json_t *flag)
{
    char decided_at[TIMESTAMP_TEXT_BYTES] = "";
    int64_t decided_at_us;
    if (timestamp_from_rfc3339(member(flag, "decided_at"), &decided_at_us))
        timestamp_text(decided_at_us, decided_at);
    if (*decided_at)
        print_clock(decided_at);
    else
        fputs("--:--:--", stdout);
    fputs(" FLAG", stdout);
    print_word(member(flag, "policy"));
    print_word(member(flag, "state"));
    print_word(key_part(key, 0));
    print_word(key_part(key, 1));
    fputs(" used", stdout);
    print_word(member(flag, "used"));
    fputs(" of", stdout);
    print_word(member(flag, "limit"));
    putchar('\n');
}

/* A tombstone, or a message of a type that we don't know. */
static void print_other(const json_t *key, const json_t *value)
{
    fputs("--:--:-- ", stdout);
    fputs(value ? "OTHER" : "FLAG forgotten", stdout);
    print_word(member(value, "type"));
    print_word(key_part(key, 0));
    print_word(key_part(key, 1));
    putchar('\n');
}

static json_t *flag_json(const struct kafka_read *read, json_t *key, json_t *value)
{
    char published_at[TIMESTAMP_TEXT_BYTES];
    timestamp_text(read->time_us, published_at);
    return json_pack("{s:s, s:O, s:O?, s:i, s:I, s:s?}", "type", "flag", "key", key, "flag", value,
                     "partition", (int)read->partition, "offset", (json_int_t)read->offset, "published_at",
                     read->time_us < 0 ? NULL : published_at);
}

static void print_either(const struct tail_lines *lines, const struct kafka_read *read, json_t *key,
                         json_t *value)
{
    if (lines->json)
        print_json(flag_json(read, key, value));
    else if (value && text_equal(member(value, "type"), TEXT("flag")))
        print_flag(key, value);
    else
        print_other(key, value);
}

void tail_flag(struct tail_lines *lines, const struct kafka_read *read)
{
    bool key_starved, value_starved;
    json_t *key = json_load_text(read->key, 0, NULL, &key_starved);
    json_t *value = json_load_text(read->value, 0, NULL, &value_starved);
    bool starved = key_starved || value_starved;
    bool readable = json_is_array(key) && (value || !read->value.bytes);
    if (readable && is_wanted(lines, key_part(key, 0))) {
        lines->count++;
        print_either(lines, read, key, value);
    }
    if (!readable)
        fprintf(stderr, "%s at partition %d offset %" PRId64 "\n",
                starved ? "out of memory for a message" : "a message that is no flag lies", read->partition,
                read->offset);
    json_decref(key);
    json_decref(value);
}
