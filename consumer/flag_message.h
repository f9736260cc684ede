/* What becomes of messages of the enforcement topic inside flag.c and flag_book.c. Private to them. */
#ifndef UB_FLAG_MESSAGE_H
#define UB_FLAG_MESSAGE_H

#include "flag.h"
#include "flag_sink.h"

enum { FLAG_DECISION_ID_BYTES = 32, FLAG_SEQUENCE_BYTES = 64 };

/* The value with its sequence, into value.length + FLAG_SEQUENCE_BYTES bytes; returns its length. */
size_t flag_put_sequence(char *out, struct text value, struct flag_sequence sequence);

/* Both return malloc'd memory, NULL if that runs out or value is no JSON object. */
/* Members in flag_value()'s order, without `sequence`: jsonb has an order of its own. */
char *flag_message_in_order(struct text value, size_t *length);
/* The `cleared` that takes back a message which nothing supports. */
char *flag_message_withdrawn(struct text value, int64_t now_us, size_t *length);

#endif
