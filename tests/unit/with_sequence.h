/* A flag's message as it is on the topic. */
#ifndef UB_WITH_SEQUENCE_H
#define UB_WITH_SEQUENCE_H

#include "consumer/flag_message.h"

/* value: as flag_value() writes it. Lives as long as the arena. */
static inline struct text with_sequence(struct arena *arena, struct text value, struct flag_sequence sequence)
{
    char *out = arena_alloc(arena, value.length + FLAG_SEQUENCE_BYTES);
    return (struct text){out, (uint32_t)flag_put_sequence(out, value, sequence)};
}

#endif
