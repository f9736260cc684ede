/* For programs linked with a core whose allocations are those of failing_memory.c: they count what is held
 * and fail when told to. */
#ifndef UB_FAILING_MEMORY_H
#define UB_FAILING_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "core_memory.h"

extern size_t held_bytes;
extern uint64_t allocations;        /* so far */
extern uint64_t fail_from, fail_to; /* allocations of these numbers fail: [fail_from, fail_to) */
extern bool fail_munmap;
extern bool fail_nowhere; /* for a while: neither fails nor counts */

/* An arena seldom asks for memory: for much at once, and keeps it. So that each of its pieces can fail, it
 * asks for each, and keeps none. */
extern bool pieces_apart;

/* Of the allocations to come, so many fail after so many that don't. */
void fail_allocations(uint64_t from_now, uint64_t count);
void fail_no_allocation(void);
bool next_fails(void); /* counts one, too */

#endif
