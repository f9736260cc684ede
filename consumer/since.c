#include "since.h"

#include <stdio.h>

#include "timestamp.h"
#include "units.h"

static bool day_parse(struct text text, int64_t *since_us)
{
    char whole[32];
    int length = snprintf(whole, sizeof whole, "%.*sT00:00:00Z", (int)(text.length < 11 ? text.length : 11),
                          text.bytes);
    return timestamp_from_rfc3339((struct text){whole, (uint32_t)length}, since_us);
}

bool since_parse(struct text text, int64_t now_us, int64_t *since_us)
{
    int64_t ago_us;
    if (timestamp_from_rfc3339(text, since_us) || day_parse(text, since_us))
        return true;
    if (!duration_parse(text, &ago_us) || ago_us < 0 || ago_us > now_us)
        return false;
    *since_us = now_us - ago_us;
    return true;
}
