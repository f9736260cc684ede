/* "Since when", as people say it on the command line. */
#ifndef UB_SINCE_H
#define UB_SINCE_H

#include "text.h"

/* A moment (2026-11-22T18:30:00Z), a UTC day (2026-11-22), or how long ago (90m, 24h, 7d). False: none of
 * these. */
bool since_parse(struct text text, int64_t now_us, int64_t *since_us);

#endif
