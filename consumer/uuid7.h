/* Identifiers that sort by time: UUIDs of version 7 (RFC 9562, section 5.7). */
#ifndef UB_UUID7_H
#define UB_UUID7_H

#include <stdint.h>

enum { UUID7_TEXT_BYTES = 37 }; /* NUL included */

/* From a time and 74 bits of chance: the low 12 of high, the low 62 of low. */
void uuid7_text(int64_t time_ms, uint16_t high, uint64_t low, char text[UUID7_TEXT_BYTES]);

#endif
