/* JSON texts, read by jansson, which says of few of the allocations that fail it that they did. */
#ifndef UB_JSON_LOAD_H
#define UB_JSON_LOAD_H

#include <jansson.h>
#include <stdbool.h>

#include "text.h"

/* NULL: no JSON, or *starved: out of memory. flags: jansson's. */
json_t *json_load_text(struct text text, size_t flags, bool *starved);

#endif
