/* Whether two events say the same, and whether a refusal is explained: what the decoder is held against its
 * reference by, in a unit test and in a fuzzer. */
#ifndef UB_EVENT_COMPARE_H
#define UB_EVENT_COMPARE_H

#include "event_reference.h"

static inline bool same_texts(const struct event *a, const struct event *b)
{
    bool same = text_equal(a->event_id, b->event_id) && text_equal(a->customer_id, b->customer_id) &&
                text_equal(a->meter, b->meter) && text_equal(a->corrects, b->corrects) &&
                text_equal(a->reason, b->reason) && text_equal(a->model, b->model) &&
                text_equal(a->plan_tier, b->plan_tier);
    for (int i = 0; i < LIFTED_COUNT; i++)
        same = same && text_equal(a->lifted[i], b->lifted[i]);
    return same;
}

static inline bool same_event(const struct event *a, const struct event *b)
{
    return same_texts(a, b) && a->quantity == b->quantity && a->credit_balance == b->credit_balance &&
           a->contractual_cap == b->contractual_cap && a->time_us == b->time_us && a->kind == b->kind &&
           a->has_credit_balance == b->has_credit_balance &&
           a->has_contractual_cap == b->has_contractual_cap && a->time_defaulted == b->time_defaulted;
}

/* A sentence if there is something to say; no control characters, whole characters only. */
static inline bool good_detail(enum refusal reason, const char *detail)
{
    struct text text = text_of(detail);
    for (uint32_t i = 0; i < text.length; i++)
        if ((unsigned char)text.bytes[i] < 0x20 || text.bytes[i] == 0x7f)
            return false;
    return reference_is_utf8(text) && text.length <= 255 && (text.length > 0) == (reason != REFUSAL_NONE);
}

#endif
