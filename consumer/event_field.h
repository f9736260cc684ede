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

/* Finds fields by name: those of one length are a chain. */
enum { NAME_LIMIT_BYTES = 15 };

struct event_names {
    struct text name[FIELD_COUNT];
    uint8_t first[PLACE_COUNT][NAME_LIMIT_BYTES + 1];
    uint8_t next[FIELD_COUNT];
};

void event_names_init(struct event_names *names);

/* NO_FIELD: none of that name in that place. */
enum field event_names_find(const struct event_names *names, enum place place, struct text key);

#endif
