#include "dedupe_days.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void dedupe_days_free(struct dedupe_days *days)
{
    free(days->rows);
    *days = (struct dedupe_days){0};
}

/* The first row that is not before the day. */
static uint32_t place_of(const struct dedupe_days *days, uint16_t day)
{
    uint32_t low = 0;
    uint32_t high = days->row_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (days->rows[middle].day < day)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct dedupe_day *dedupe_days_find(const struct dedupe_days *days, uint16_t day)
{
    uint32_t at = place_of(days, day);
    return at < days->row_count && days->rows[at].day == day ? &days->rows[at] : NULL;
}

/* Rows whose keys were all taken back, or swept, say nothing any more. */
static void drop_idle_rows(struct dedupe_days *days)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < days->row_count; i++)
        if (days->rows[i].count > 0 || days->rows[i].forgotten > 0)
            days->rows[kept++] = days->rows[i];
    days->row_count = kept;
}

static bool make_room(struct dedupe_days *days)
{
    if (days->row_count == days->row_limit)
        drop_idle_rows(days);
    if (days->row_count < days->row_limit)
        return true;
    uint32_t limit = days->row_limit == 0 ? 4 : days->row_limit * 2;
    struct dedupe_day *rows = realloc(days->rows, limit * sizeof *rows);
    if (rows == NULL)
        return false;
    days->rows = rows;
    days->row_limit = limit;
    return true;
}

struct dedupe_day *dedupe_days_add(struct dedupe_days *days, uint16_t day)
{
    if (!make_room(days))
        return NULL;
    uint32_t at = place_of(days, day);
    memmove(days->rows + at + 1, days->rows + at, (days->row_count - at) * sizeof *days->rows);
    days->row_count++;
    days->rows[at] = (struct dedupe_day){.day = day};
    return &days->rows[at];
}

size_t dedupe_days_forget(struct dedupe_days *days, struct dedupe_day *row)
{
    assert(days->forgettings < UINT32_MAX);
    size_t count = row->count;
    row->count = 0;
    row->forgotten = ++days->forgettings;
    if (days->newest_forgotten == 0 || row->day < days->oldest_forgotten)
        days->oldest_forgotten = row->day;
    if (row->day > days->newest_forgotten)
        days->newest_forgotten = row->day;
    return count;
}

void dedupe_days_settle(struct dedupe_days *days)
{
    for (uint32_t i = 0; i < days->row_count; i++)
        days->rows[i].forgotten = 0;
    days->oldest_forgotten = 0;
    days->newest_forgotten = 0;
    drop_idle_rows(days);
}
