/* JSON texts, read by jansson. What finds no memory is told apart from what is no JSON, and never half read:
 * jansson 2.14 by itself does not look whether a token's text could grow (lex_save() in its load.c). It drops
 * characters, and a lost quote or comma makes it write where it should not, or abort. So it is left where it
 * stands by the first allocation that fails.
 *
 * Whoever links this has all memory of jansson's allocated here, from before main() on: by malloc(), so that
 * what jansson gives away is freed as ever. */
#ifndef UB_JSON_LOAD_H
#define UB_JSON_LOAD_H

#include <jansson.h>
#include <stdbool.h>

#include "text.h"

/* NULL: no JSON, and error (if not NULL) says why; or *starved: out of memory. flags: jansson's. */
json_t *json_load_text(struct text text, size_t flags, json_error_t *error, bool *starved);

#endif
