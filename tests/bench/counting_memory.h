/* How often the core has asked for memory since the program began. The names are those that the Makefile
 * gives to what libcore-failing.a allocates with. */
#ifndef UB_COUNTING_MEMORY_H
#define UB_COUNTING_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

extern uint64_t counted_allocations;

void *failing_malloc(size_t size);
void *failing_calloc(size_t count, size_t size);
void *failing_realloc(void *piece, size_t size);
void *failing_reallocarray(void *piece, size_t count, size_t size);
void failing_free(void *piece);
void *failing_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);
int failing_munmap(void *pages, size_t size);

#endif
