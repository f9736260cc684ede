/* The core's allocations, counted: benches are linked with a core that calls these, so that each stage says
 * how often it asks for memory. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "counting_memory.h"
#include "tests/unit/core_memory.h"

uint64_t counted_allocations;

void *failing_malloc(size_t size)
{
    counted_allocations++;
    return malloc(size);
}

void *failing_calloc(size_t count, size_t size)
{
    counted_allocations++;
    return calloc(count, size);
}

void *failing_realloc(void *piece, size_t size)
{
    counted_allocations++;
    return realloc(piece, size);
}

void *failing_reallocarray(void *piece, size_t count, size_t size)
{
    counted_allocations++;
    return reallocarray(piece, count, size);
}

void failing_free(void *piece)
{
    free(piece);
}

void *failing_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    counted_allocations++;
    return mmap(address, size, protection, flags, file, offset);
}

int failing_munmap(void *pages, size_t size)
{
    return munmap(pages, size);
}
