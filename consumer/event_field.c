#include "event_field.h"

static const struct {
    const char *name;
    enum place place;
} known_fields[FIELD_COUNT] = {
    [FIELD_EVENT_ID] = {"event_id", PLACE_TOP},
    [FIELD_CUSTOMER_ID] = {"customer_id", PLACE_TOP},
    [FIELD_ACCOUNT_ID] = {"account_id", PLACE_TOP},
    [FIELD_METER] = {"meter", PLACE_TOP},
    [FIELD_KIND] = {"kind", PLACE_TOP},
    [FIELD_QUANTITY] = {"quantity", PLACE_TOP},
    [FIELD_TIMESTAMP] = {"timestamp", PLACE_TOP},
    [FIELD_CORRECTS] = {"corrects", PLACE_TOP},
    [FIELD_REASON] = {"reason", PLACE_TOP},
    [FIELD_METADATA] = {"metadata", PLACE_TOP},
    [FIELD_MODEL] = {"model", PLACE_TOP},
    [FIELD_POLICY_METADATA] = {"policy_metadata", PLACE_TOP},
    [FIELD_METADATA_MODEL] = {"model", PLACE_METADATA},
    /* the lifted ones have their names in event.c */
    [FIELD_PLAN_TIER] = {"plan_tier", PLACE_POLICY},
    [FIELD_CREDIT_BALANCE] = {"credit_balance", PLACE_POLICY},
    [FIELD_CONTRACTUAL_CAP] = {"contractual_cap", PLACE_POLICY},
};

static bool is_lifted(enum field field)
{
    return field >= FIELD_LIFTED && field < FIELD_LIFTED + LIFTED_COUNT;
}

const char *event_field_name(enum field field)
{
    return is_lifted(field) ? event_lifted_names[field - FIELD_LIFTED] : known_fields[field].name;
}

enum place event_field_place(enum field field)
{
    return is_lifted(field) ? PLACE_METADATA : known_fields[field].place;
}

void event_names_init(struct event_names *names)
{
    memset(names->first, NO_FIELD, sizeof names->first);
    for (int field = FIELD_COUNT - 1; field >= 0; field--) { /* a chain begins with its lowest field */
        struct text name = text_of(event_field_name((enum field)field));
        uint8_t *first = &names->first[event_field_place((enum field)field)][name.length];
        names->name[field] = name;
        names->next[field] = *first;
        *first = (uint8_t)field;
    }
}

static inline uint64_t load_64(const char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline uint32_t load_32(const char *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Names of up to 16 bytes, in two words that overlap: each event looks up a dozen or two. */
static inline bool same_name(const char *one, const char *other, uint32_t length)
{
    if (length >= 8)
        return load_64(one) == load_64(other) && load_64(one + length - 8) == load_64(other + length - 8);
    if (length >= 4)
        return load_32(one) == load_32(other) && load_32(one + length - 4) == load_32(other + length - 4);
    return memcmp(one, other, length) == 0;
}

enum field event_names_find(const struct event_names *names, enum place place, struct text key)
{
    if (key.length > NAME_LIMIT_BYTES)
        return NO_FIELD;
    uint8_t field = names->first[place][key.length];
    while (field != NO_FIELD && !same_name(names->name[field].bytes, key.bytes, key.length))
        field = names->next[field];
    return (enum field)field;
}
