#include "mint.h"

#include <stdio.h>
#include <stdlib.h>

#include "json_load.h"
#include "timestamp.h"
#include "uuid7.h"

enum { ADDITIONS_BYTES = 128 };

void mint_free(struct mint *mint)
{
    json_decref(mint->event);
    free(mint->bytes);
    *mint = (struct mint){0};
}

static enum mint_outcome fail(struct mint *mint, enum mint_outcome outcome, const char *sentence)
{
    snprintf(mint->detail, sizeof mint->detail, "%s", sentence);
    return outcome;
}

static enum mint_outcome parse(struct mint *mint, struct text line)
{
    json_error_t error;
    bool starved;
    json_decref(mint->event);
    mint->event =
        json_load_text(line, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL | JSON_DECODE_ANY, &error, &starved);
    if (starved)
        return fail(mint, MINT_NO_MEMORY, "out of memory");
    if (!mint->event) {
        snprintf(mint->detail, sizeof mint->detail, "not valid JSON: %s, at byte %d", error.text,
                 error.position);
        return MINT_NOT_JSON;
    }
    if (!json_is_object(mint->event))
        return fail(mint, MINT_NOT_AN_OBJECT,
                    "not a JSON object: an event is one, such as {\"customer_id\":…}");
    return MINT_DONE;
}

static struct text member(const json_t *event, const char *name)
{
    const json_t *value = json_object_get(event, name);
    return json_is_string(value)
               ? (struct text){json_string_value(value), (uint32_t)json_string_length(value)}
               : (struct text){NULL, 0};
}

static bool corrects_another(const json_t *event)
{
    struct text kind = member(event, "kind");
    return text_equal(kind, TEXT("correction")) || text_equal(kind, TEXT("retraction"));
}

/* What is to be added, each member with a comma before it. */
static size_t write_additions(const struct minted *minted, int64_t now_ms, const uint64_t chance[2],
                              char additions[ADDITIONS_BYTES])
{
    char id[UUID7_TEXT_BYTES], time[TIMESTAMP_TEXT_BYTES];
    int length = 0;
    additions[0] = '\0';
    if (minted->event_id) {
        uuid7_text(now_ms, (uint16_t)chance[0], chance[1], id);
        length = snprintf(additions, ADDITIONS_BYTES, ",\"event_id\":\"%s\"", id);
    }
    if (minted->timestamp) {
        timestamp_text_ms(now_ms, time);
        length +=
            snprintf(additions + length, (size_t)(ADDITIONS_BYTES - length), ",\"timestamp\":\"%s\"", time);
    }
    return (size_t)length;
}

static bool reserve(struct mint *mint, size_t bytes)
{
    if (bytes <= mint->capacity_bytes)
        return true;
    char *grown = realloc(mint->bytes, 2 * bytes);
    if (!grown)
        return false;
    mint->bytes = grown;
    mint->capacity_bytes = 2 * bytes;
    return true;
}

/* Puts them before the object's last brace. False: out of memory. */
static bool insert(struct mint *mint, struct text line, const char *additions, size_t length,
                   struct text *value)
{
    size_t brace = line.length;
    while (line.bytes[brace - 1] != '}')
        brace--;
    brace--;
    if (json_object_size(mint->event) == 0) { /* no comma before the first */
        additions++;
        length--;
    }
    if (!reserve(mint, line.length + length))
        return false;
    memcpy(mint->bytes, line.bytes, brace);
    memcpy(mint->bytes + brace, additions, length);
    memcpy(mint->bytes + brace + length, line.bytes + brace, line.length - brace);
    *value = (struct text){mint->bytes, (uint32_t)(line.length + length)};
    return true;
}

enum mint_outcome mint_event(struct mint *mint, struct text line, int64_t now_ms, const uint64_t chance[2],
                             struct minted *minted)
{
    char additions[ADDITIONS_BYTES];
    enum mint_outcome outcome = parse(mint, line);
    if (outcome != MINT_DONE)
        return outcome;
    struct text customer = member(mint->event, "customer_id");
    if (customer.length == 0)
        customer = member(mint->event, "account_id");
    if (customer.length == 0)
        return fail(mint, MINT_NO_CUSTOMER, "no customer_id: whose usage is it?");
    *minted = (struct minted){
        .customer_id = customer,
        .value = line,
        .event_id = !json_object_get(mint->event, "event_id"),
        .timestamp = !json_object_get(mint->event, "timestamp") && !corrects_another(mint->event),
    };
    size_t length = write_additions(minted, now_ms, chance, additions);
    if (length > 0 && !insert(mint, line, additions, length, &minted->value))
        return fail(mint, MINT_NO_MEMORY, "out of memory");
    return MINT_DONE;
}
