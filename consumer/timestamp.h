/* Points in time as producers write them, turned into µs since 1970 (UTC, no leap seconds). */
#ifndef UB_TIMESTAMP_H
#define UB_TIMESTAMP_H

#include <stddef.h>

#include "text.h"

/* RFC 3339 with offset: 2026-11-22T09:30:00.5+01:00. 'T' and 'Z' may be small, a space may stand for 'T'; up
 * to 9 fraction digits, cut to µs. A leap second (:60) is the start of the second that follows. False: it
 * isn't. */
bool timestamp_from_rfc3339(struct text text, int64_t *time_us);

/* An integer since 1970: seconds below 10^11 in magnitude, else milliseconds. False: not an integer, or
 * beyond 64 bits of µs. */
bool timestamp_from_integer(struct text text, int64_t *time_us);

/* The way back, of times in the years 0 to 9999: 2026-11-22T18:30:00Z, with 6 fraction digits where they are
 * not all 0. NUL-terminated; returns its length. */
enum { TIMESTAMP_TEXT_BYTES = 40 };
size_t timestamp_text(int64_t time_us, char text[TIMESTAMP_TEXT_BYTES]);
/* The same with at most 3 fraction digits. */
size_t timestamp_text_ms(int64_t time_ms, char text[TIMESTAMP_TEXT_BYTES]);

#endif
