/* How often the core has asked for memory since the program began. */
#ifndef UB_COUNTING_MEMORY_H
#define UB_COUNTING_MEMORY_H

#include <stdint.h>

extern uint64_t counted_allocations;

#endif
