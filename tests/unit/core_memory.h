/* What libcore-failing.a allocates with, by the Makefile's renaming. A program that is linked with that
 * archive defines these: failing_memory.c, or ../bench/counting_memory.c. */
#ifndef UB_CORE_MEMORY_H
#define UB_CORE_MEMORY_H

#include <stddef.h>
#include <sys/types.h>

void *failing_malloc(size_t size);
void *failing_calloc(size_t count, size_t size);
void *failing_realloc(void *piece, size_t size);
void *failing_reallocarray(void *piece, size_t count, size_t size);
void failing_free(void *piece);
void *failing_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);
int failing_munmap(void *pages, size_t size);

#endif
