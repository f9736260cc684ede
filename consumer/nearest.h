/* Finds what somebody who mistyped a word probably meant. */
#ifndef UB_NEAREST_H
#define UB_NEAREST_H

#include <stddef.h>

/* Feed candidates one by one; best stays NULL while none is near enough: a third of the word's letters wrong
 * at most. Zero-initialise but for the word. Candidates must outlive it. */
struct nearest {
    const char *word;
    const char *best;
    size_t distance;
};
void nearest_try(struct nearest *nearest, const char *candidate);

#endif
