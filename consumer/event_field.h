/* The fields of a usage event that mean something: their names, where they stand, and how to find one by its
 * name. Private to the decoder. */
#ifndef UB_EVENT_FIELD_H
#define UB_EVENT_FIELD_H

#include "event.h"

enum field {
    FIELD_EVENT_ID,
    FIELD_CUSTOMER_ID,
    FIELD_ACCOUNT_ID,
    FIELD_METER,
    FIELD_KIND,
    FIELD_QUANTITY,
    FIELD_TIMESTAMP,
    FIELD_CORRECTS,
    FIELD_REASON,
    FIELD_METADATA,
    FIELD_MODEL,
    FIELD_POLICY_METADATA,
    FIELD_METADATA_MODEL,
    FIELD_LIFTED, /* LIFTED_COUNT of them */
    FIELD_PLAN_TIER = FIELD_LIFTED + LIFTED_COUNT,
    FIELD_CREDIT_BALANCE,
    FIELD_CONTRACTUAL_CAP,
    FIELD_COUNT,
    NO_FIELD = FIELD_COUNT
};

/* The object that a field stands in. */
enum place { PLACE_TOP, PLACE_METADATA, PLACE_POLICY, PLACE_COUNT, PLACE_NONE };

const char *event_field_name(enum field field);
enum place event_field_place(enum field field);

/* Finds fields by name: a hash table, open addressing. */
enum { NAME_LIMIT_BYTES = 15, NAME_CELLS = 128 };

struct name_words {
    uint64_t low, high; /* a name, zeros behind it */
};

struct event_names {
    struct known_name {
        struct name_words words;
        uint32_t length;
        enum place place;
    } known[FIELD_COUNT];
    uint8_t cells[NAME_CELLS]; /* NO_FIELD: empty */
};

void event_names_init(struct event_names *names);

static inline bool event_name_is(const struct known_name *known, enum place place, struct name_words words,
                                 uint32_t length)
{
    return known->words.low == words.low && known->words.high == words.high && known->length == length &&
           known->place == place;
}

/* Zeros in place of what is behind the name, which is no longer than NAME_LIMIT_BYTES. */
static inline struct name_words event_name_words(struct text name)
{
    static const char masks[2 * sizeof(struct name_words)] = "\xff\xff\xff\xff\xff\xff\xff\xff"
                                                             "\xff\xff\xff\xff\xff\xff\xff\xff";
    struct name_words words, mask;
    memcpy(&words, name.bytes, sizeof words);
    memcpy(&mask, masks + sizeof mask - name.length, sizeof mask);
    return (struct name_words){words.low & mask.low, words.high & mask.high};
}

enum field event_names_search(const struct event_names *names, enum place place, struct name_words words,
                              uint32_t length);

/* NO_FIELD: none of that name in that place. key: of document_key(). guess: what it may well be. Inline, as
 * each event asks for a dozen or two. */
static inline enum field event_names_find(const struct event_names *names, enum place place, struct text key,
                                          enum field guess)
{
    if (key.length > NAME_LIMIT_BYTES)
        return NO_FIELD;
    struct name_words words = event_name_words(key);
    if (guess != NO_FIELD && event_name_is(&names->known[guess], place, words, key.length))
        return guess;
    return event_names_search(names, place, words, key.length);
}

/* One that is among the keys twice, or NULL. Sorts them, if they are many. */
const struct text *event_repeated_key(struct text *keys, size_t count);

#endif
