/* A sentence for a person, put together from pieces that may come from a hostile record: never longer than
 * its limit, never cut inside a character, without control characters. */
#ifndef UB_SENTENCE_H
#define UB_SENTENCE_H

#include "text.h"

enum { SENTENCE_LIMIT_BYTES = 255 };

/* Set up with sentence_start(). bytes is a NUL-terminated string at all times. */
struct sentence {
    char bytes[SENTENCE_LIMIT_BYTES + 1];
    uint32_t length;
    bool full; /* something was left out: it ends in "…" */
};

void sentence_start(struct sentence *sentence);

/* Adds valid UTF-8. Control characters are written as \u001b. */
void sentence_add(struct sentence *sentence, struct text utf8);

/* Adds what printf would write: at most SENTENCE_LIMIT_BYTES bytes of it. */
void sentence_addf(struct sentence *sentence, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Adds valid UTF-8 in double quotes, shortened to about limit_bytes. */
void sentence_quote(struct sentence *sentence, struct text utf8, uint32_t limit_bytes);

#endif
