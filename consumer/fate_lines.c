#include "fate_lines.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <time.h>

#include "dead_letters.h"
#include "printable.h"
#include "tables.h"
#include "timestamp.h"

enum { DAY_CHARACTERS = 10, CLOCK_AT = 11, HOUR_CHARACTERS = 2 };

static void show(struct text text)
{
    printable_word(text, stdout);
}

static void show_place(const struct fate_event *event)
{
    printf(" (line %" PRIu64 ", ", event->line);
    show(text_of(event->topic));
    printf("/%d@%" PRId64 ")\n", event->key->partition, event->key->offset);
}

static void show_event(const char *outcome, const struct fate_event *event)
{
    printf("%s: ", outcome);
    show(event->key->customer_id);
    putchar(' ');
    show(event->key->meter);
}

static json_t *json_of(struct text text)
{
    return json_stringn(text.length > 0 ? text.bytes : "", text.length);
}

static json_t *json_line(const char *outcome, const struct fate_event *event)
{
    json_t *line = json_pack("{s:s, s:I, s:s, s:i, s:I}", "outcome", outcome, "line", (json_int_t)event->line,
                             "topic", event->topic, "partition", (int)event->key->partition, "offset",
                             (json_int_t)event->key->offset);
    if (event->key->event_id.length == 0)
        return line; /* no event */
    json_object_set_new(line, "customer_id", json_of(event->key->customer_id));
    json_object_set_new(line, "meter", json_of(event->key->meter));
    json_object_set_new(line, "event_id", json_of(event->key->event_id));
    return line;
}

static void end_json(json_t *line)
{
    json_write(line, JSON_COMPACT, stdout);
    json_decref(line);
}

/* 18:00, or with its day where that is not today. */
static void show_hour(const char *event_time)
{
    char now[TIMESTAMP_TEXT_BYTES];
    timestamp_text((int64_t)time(NULL) * 1000000, now);
    if (memcmp(event_time, now, DAY_CHARACTERS) != 0)
        printf("%.*s ", DAY_CHARACTERS, event_time);
    printf("%.*s:00", HOUR_CHARACTERS, event_time + CLOCK_AT);
}

void fate_accepted(const struct fate_event *event, struct text quantity)
{
    char time[TIMESTAMP_TEXT_BYTES];
    timestamp_text(event->key->time_us, time);
    if (event->json) {
        json_t *line = json_line("accepted", event);
        json_object_set_new(line, "quantity", json_of(quantity));
        json_object_set_new(line, "timestamp", json_string(time));
        end_json(line);
        return;
    }
    show_event("accepted", event);
    printf(" %s%.*s, hour ", *quantity.bytes == '-' ? "" : "+", (int)quantity.length, quantity.bytes);
    show_hour(time);
    putchar('\n');
}

void fate_duplicate(const struct fate_event *event)
{
    if (event->json) {
        end_json(json_line("duplicate", event));
        return;
    }
    show_event("duplicate", event);
    fputs(": ", stdout);
    show(event->key->event_id);
    fputs(" was counted before", stdout);
    show_place(event);
}

static json_t *differences_json(const struct fate_difference *differences, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:o, s:o, s:o}", "field", json_of(differences[i].field),
                                              "value", json_of(differences[i].value), "first",
                                              json_of(differences[i].first)));
    return list;
}

static void show_value(struct text value)
{
    if (value.length == 0)
        fputs("none", stdout);
    else
        show(value);
}

void fate_conflict(const struct fate_event *event, const struct fate_difference *differences, size_t count)
{
    if (event->json) {
        json_t *line = json_line("conflict", event);
        json_object_set_new(line, "differs", differences_json(differences, count));
        end_json(line);
        return;
    }
    show_event("conflict", event);
    fputs(": ", stdout);
    show(event->key->event_id);
    fputs(" was counted before with another content, which stays", stdout);
    for (size_t i = 0; i < count; i++) {
        fputs(i == 0 ? ": " : ", ", stdout);
        show(differences[i].field);
        putchar(' ');
        show_value(differences[i].first);
        fputs(" (here ", stdout);
        show_value(differences[i].value);
        putchar(')');
    }
    show_place(event);
}

void fate_refused(const struct fate_event *event, struct text reason, struct text detail)
{
    const char *hint = dead_letter_hint(reason);
    if (event->json) {
        json_t *line = json_line("refused", event);
        json_object_set_new(line, "reason", json_of(reason));
        json_object_set_new(line, "detail", json_of(detail));
        json_object_set_new(line, "hint", json_string(hint));
        end_json(line);
        return;
    }
    fputs("refused (", stdout);
    show(reason);
    fputs("): ", stdout);
    printable_write(PRINTABLE_PLAIN, detail, stdout);
    printf("%s %s", detail.length > 0 && detail.bytes[detail.length - 1] == '.' ? "" : ".", hint);
    show_place(event);
}

enum { FLAG_NUMBER, FLAG_CEILING, FLAG_POLICY, FLAG_CROSSED, FLAG_USED, FLAG_LIMIT, FLAG_ID };

void fate_flag(const struct fate_event *event, const PGresult *result, int row)
{
    const char *state = pg_bool(result, row, FLAG_CROSSED) ? "active" : "cleared";
    struct text ceiling = pg_text(result, row, FLAG_CEILING), policy = pg_text(result, row, FLAG_POLICY);
    struct text used = pg_text(result, row, FLAG_USED), limit = pg_text(result, row, FLAG_LIMIT);
    if (event->json) {
        json_t *more = json_pack("{s:o, s:o, s:s, s:o, s:o, s:o}", "ceiling", json_of(ceiling), "policy",
                                 json_of(policy), "state", state, "used", json_of(used), "limit",
                                 json_of(limit), "decision_id", json_of(pg_text(result, row, FLAG_ID)));
        json_t *line = json_line("flag", event);
        json_object_update_missing(line, more);
        json_decref(more);
        end_json(line);
        return;
    }
    fputs("flag: ", stdout);
    show(policy);
    printf(" %s, ", state);
    show(event->key->customer_id);
    putchar(' ');
    show(ceiling);
    printf(" used %.*s of %.*s, by ", (int)used.length, used.bytes, (int)limit.length, limit.bytes);
    show(event->key->event_id);
    putchar('\n');
}
