/* A set of days (since 1970) as a bitmap. Zero-initialise. */
#ifndef UB_DAY_SET_H
#define UB_DAY_SET_H

#include <stdbool.h>
#include <stdint.h>

struct day_set {
    uint8_t bits[(UINT16_MAX + 1) / 8];
};

static inline bool day_set_has(const struct day_set *set, uint16_t day)
{
    return set->bits[day / 8] & 1u << (day % 8);
}

/* False: it was there before. */
static inline bool day_set_add(struct day_set *set, uint16_t day)
{
    bool had = day_set_has(set, day);
    set->bits[day / 8] |= (uint8_t)(1u << (day % 8));
    return !had;
}

static inline void day_set_remove(struct day_set *set, uint16_t day)
{
    set->bits[day / 8] &= (uint8_t) ~(1u << (day % 8));
}

#endif
