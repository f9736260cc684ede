#include "former.h"

#include <stdlib.h>

struct former *former_new(int64_t batch)
{
    struct former *former = malloc(sizeof *former);
    if (!former)
        return NULL;
    *former = (struct former){.batch = batch, .keys = dedupe_new(), .holders = 1};
    if (former->keys)
        return former;
    free(former);
    return NULL;
}

bool former_add_day(struct former *former, uint16_t day)
{
    uint16_t *days = realloc(former->days, (former->day_count + 1) * sizeof *days);
    if (!days)
        return false;
    days[former->day_count++] = day;
    former->days = days;
    return true;
}

struct former *former_hold(struct former *former)
{
    former->holders++;
    return former;
}

void former_release(struct former *former)
{
    if (!former || --former->holders > 0)
        return;
    dedupe_free(former->keys);
    free(former->days);
    free(former);
}
