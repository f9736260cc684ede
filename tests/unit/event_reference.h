/* The rules of a usage event once more, for tests: written for plainness on a tree that jansson parsed, so
 * that the decoder can be held against it. Slow, and shares nothing with the decoder but decimal_parse(),
 * which has a reference of its own. */
#ifndef UB_EVENT_REFERENCE_H
#define UB_EVENT_REFERENCE_H

#include "consumer/event.h"

struct reference;
struct reference *reference_new(void);
void reference_free(struct reference *ref);

/* What event_decode() has to say. The event's views live until the next call. */
enum refusal reference_decode(struct reference *ref, const struct event_rules *rules,
                              const struct record *record, int64_t now_us, struct event *event);

/* Containers nested deeper than 2,048 levels are beyond jansson: of that document nothing is known. */
bool reference_gave_up(const struct reference *ref);

bool reference_is_utf8(struct text text);

#endif
