/* Texts as the inside of a JSON string, for the few small documents that the core writes by hand: always the
 * same bytes for the same text, always valid UTF-8 that PostgreSQL takes as json and jsonb. */
#ifndef UB_JSON_TEXT_H
#define UB_JSON_TEXT_H

#include <stddef.h>

#include "../consumer/text.h"

/* How many bytes json_text_put() writes. */
size_t json_text_bytes(struct text text);

/* Writes text, escaped, without the quotes around it; returns the end. Bytes that are not UTF-8, and NUL,
 * which PostgreSQL refuses, become U+FFFD. */
char *json_text_put(char *out, struct text text);

/* The length of the well-formed UTF-8 sequence at bytes, of which there are `left` > 0; 0: it is none.
 * Source: Unicode, table 3-7. */
size_t utf8_sequence_bytes(const char *bytes, size_t left);

#endif
