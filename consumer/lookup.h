/* A hash index over rows that somebody else keeps in an array: finds the numbers of the rows whose hash is
 * given. Whoever owns the rows compares them; the order of rows never depends on it. Open addressing, linear
 * probing. */
#ifndef UB_LOOKUP_H
#define UB_LOOKUP_H

#include <stddef.h>

#include "text.h"

enum { LOOKUP_END = 0xffffffff }; /* no row */

struct lookup_cell {
    uint32_t hash;
    uint32_t row; /* + 1; 0: free */
};

/* All zero: empty, and takes no memory. */
struct lookup {
    struct lookup_cell *cells;
    size_t mask; /* capacity - 1 */
    size_t count;
};
void lookup_free(struct lookup *lookup);
size_t lookup_bytes(const struct lookup *lookup);

/* Makes room: `more` insertions from now on cannot fail, whatever is removed meanwhile. False: out of memory.
 */
bool lookup_reserve(struct lookup *lookup, size_t more);

void lookup_insert(struct lookup *lookup, uint64_t hash, uint32_t row); /* needs room */
void lookup_remove(struct lookup *lookup, uint64_t hash, uint32_t row); /* it must be there */

/* Walks the rows whose hash may be this one; nothing may be inserted or removed meanwhile. */
struct lookup_walk {
    size_t at;
    uint32_t hash;
};
struct lookup_walk lookup_walk(const struct lookup *lookup, uint64_t hash);
uint32_t lookup_next(const struct lookup *lookup, struct lookup_walk *walk); /* LOOKUP_END: no more */

/* All rows, in no order that means anything: *cell counts from 0. LOOKUP_END: no more. */
uint32_t lookup_each(const struct lookup *lookup, size_t *cell);

/* Random, one for the process: where texts that producers choose lie is nobody's to foresee. */
struct lookup_seed {
    uint64_t words[2];
};
static inline struct lookup_seed lookup_seed(const uint64_t words[2])
{
    return (struct lookup_seed){{words[0], words[1]}};
}
uint64_t lookup_keyed(struct lookup_seed seed, struct text text);

/* For what producers don't choose. Quick, not secret: whoever chooses the texts can make them collide. */
uint64_t lookup_mix(uint64_t hash, uint64_t more);
uint64_t lookup_text(uint64_t hash, struct text text);

#endif
