/* Texts that are kept once each and go by number: customers, meters, names. A text lives as long as somebody
 * holds its number. */
#ifndef UB_INTERN_H
#define UB_INTERN_H

#include "lookup.h"
#include "rows.h"

/* Set up by intern_init(). */
struct intern {
    struct rows rows;
    struct lookup lookup;
    struct lookup_seed seed;
    size_t text_bytes;
};
void intern_init(struct intern *intern, struct lookup_seed seed);
void intern_free(struct intern *intern);

uint32_t intern_find(const struct intern *intern, struct text text); /* LOOKUP_END: not there */
uint32_t intern_hold(struct intern *intern, struct text text); /* copies it; LOOKUP_END: out of memory */
void intern_hold_again(struct intern *intern, uint32_t number);
void intern_release(struct intern *intern, uint32_t number);
struct text intern_text(const struct intern *intern, uint32_t number); /* as long as it is held */
size_t intern_bytes(const struct intern *intern);

#endif
