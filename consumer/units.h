/* Quantities as people write them in config.yaml and on the command line: durations, sizes, addresses. */
#ifndef UB_UNITS_H
#define UB_UNITS_H

#include "text.h"

enum { UNITS_TEXT_BYTES = 32 };

/* An integer and a unit: 250us 250ms 30s 5m 24h 400d. False: anything else, or beyond 64 bits of
 * microseconds. */
bool duration_parse(struct text text, int64_t *duration_us);
/* In the largest unit that takes it whole: "24h", "90s". */
const char *duration_text(int64_t duration_us, char text[UNITS_TEXT_BYTES]);

/* An integer and a unit: 64KiB 512MiB 4GiB. */
bool size_parse(struct text text, int64_t *size_bytes);
const char *size_text(int64_t size_bytes, char text[UNITS_TEXT_BYTES]);

/* Digits with an optional minus, nothing else. */
bool integer_parse(struct text text, int64_t *integer);

/* host:port, an IPv6 host in brackets, port 0 to 65535. *host is a view into text, without the brackets. */
bool address_parse(struct text text, struct text *host, uint16_t *port);

#endif
