/* The event days of which a dedupe table holds keys: how many of each, and which days were forgotten when. A
 * day that is forgotten may be used again at once, while old keys of it are still being swept out. */
#ifndef UB_DEDUPE_DAYS_H
#define UB_DEDUPE_DAYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dedupe_day {
    size_t count;       /* keys not forgotten */
    uint32_t forgotten; /* number of the forgetting whose keys may still be there; 0: none */
    uint16_t day;
};

/* Zero-initialise. Ordered by day: a few days, seldom hundreds. */
struct dedupe_days {
    struct dedupe_day *rows;
    uint32_t row_count;
    uint32_t row_limit;
    uint32_t forgettings; /* so far; they are numbered from 1 */
    uint16_t oldest_forgotten;
    uint16_t newest_forgotten; /* 0: nothing is left to sweep */
};

void dedupe_days_free(struct dedupe_days *days);

/* NULL: no such row. A row lives until the next add or settle. */
struct dedupe_day *dedupe_days_find(const struct dedupe_days *days, uint16_t day);

/* Adds the row of a day that has none. NULL: out of memory. */
struct dedupe_day *dedupe_days_add(struct dedupe_days *days, uint16_t day);

/* Marks a row's keys as forgotten; returns how many they were. */
size_t dedupe_days_forget(struct dedupe_days *days, struct dedupe_day *row);

/* Whether a key of this day, in a shard that was last swept at this number of forgettings, is forgotten. */
static inline bool dedupe_days_is_forgotten(const struct dedupe_days *days, uint16_t day, uint32_t swept)
{
    if (day > days->newest_forgotten || day < days->oldest_forgotten)
        return false;
    const struct dedupe_day *row = dedupe_days_find(days, day);
    return row != NULL && row->forgotten > swept;
}

/* Every shard was swept since the last forgetting. */
void dedupe_days_settle(struct dedupe_days *days);

#endif
