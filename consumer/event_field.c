#include "event_field.h"

#include <stdlib.h>

enum { FEW_KEYS = 16 }; /* cheaper to compare each with each than to sort */

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

static inline size_t first_cell(struct name_words words, enum place place)
{
    uint64_t mixed = (words.low ^ words.high << 5) + (uint64_t)place;
    return mixed * UINT64_C(0x9e3779b97f4a7c15) >> 57;
}

_Static_assert(NAME_CELLS == 1 << (64 - 57) && (int)NAME_CELLS > (int)FIELD_COUNT, "as first_cell() says");

void event_names_init(struct event_names *names)
{
    memset(names->cells, NO_FIELD, sizeof names->cells);
    for (unsigned field = 0; field < FIELD_COUNT; field++) {
        char padded[sizeof(struct name_words)] = "";
        struct text name = text_of(event_field_name(field));
        memcpy(padded, name.bytes, name.length);
        name.bytes = padded;
        enum place place = event_field_place(field);
        names->known[field] = (struct known_name){event_name_words(name), name.length, place};
        size_t cell = first_cell(names->known[field].words, place);
        while (names->cells[cell] != NO_FIELD)
            cell = (cell + 1) % NAME_CELLS;
        names->cells[cell] = (uint8_t)field;
    }
}

enum field event_names_search(const struct event_names *names, enum place place, struct name_words words,
                              uint32_t length)
{
    size_t cell = first_cell(words, place);
    while (names->cells[cell] != NO_FIELD &&
           !event_name_is(&names->known[names->cells[cell]], place, words, length))
        cell = (cell + 1) % NAME_CELLS;
    return names->cells[cell];
}

static int compare_keys(const void *a, const void *b)
{
    const struct text *one = a;
    const struct text *other = b;
    if (one->length != other->length)
        return one->length < other->length ? -1 : 1;
    return memcmp(one->bytes, other->bytes, one->length);
}

const struct text *event_repeated_key(struct text *keys, size_t count)
{
    if (count > FEW_KEYS) {
        qsort(keys, count, sizeof *keys, compare_keys);
        for (size_t i = 1; i < count; i++)
            if (text_equal(keys[i - 1], keys[i]))
                return &keys[i];
        return NULL;
    }
    for (size_t i = 1; i < count; i++)
        for (size_t j = 0; j < i; j++)
            if (text_equal(keys[i], keys[j]))
                return &keys[i];
    return NULL;
}
