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

/* NO_FIELD: none of that name in that place. key: of document_key(). guess: what it may well be. */
enum field event_names_find(const struct event_names *names, enum place place, struct text key,
                            enum field guess);

/* One that is among the keys twice, or NULL. Sorts them, if they are many. */
const struct text *event_repeated_key(struct text *keys, size_t count);

#endif
