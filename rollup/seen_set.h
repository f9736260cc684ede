/* Which names are known to have a row of their own, so that only first sights cost a statement. A cache: it
 * may forget, and names are told apart by 128 bits of keyed SipHash. */
#ifndef UB_SEEN_SET_H
#define UB_SEEN_SET_H

#include <stddef.h>

#include "../consumer/text.h"

enum { SEEN_SET_LIMIT = 1 << 20 }; /* names; 32 MiB */

struct seen_hash {
    uint64_t words[2]; /* both 0: a free slot */
};

struct seen_set {
    struct seen_hash *slots;
    size_t count;
    size_t capacity; /* a power of two, or 0 */
    unsigned char key[16];
};

void seen_set_init(struct seen_set *set);
void seen_set_free(struct seen_set *set);

/* True if the name is new to the set, which then knows it. Out of memory: true, and it stays new. */
bool seen_set_add(struct seen_set *set, struct text name);

/* Forgets all: what was added was rolled back. */
void seen_set_clear(struct seen_set *set);

#endif
