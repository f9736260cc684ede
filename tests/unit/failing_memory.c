#include "failing_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "consumer/arena.h"

enum { SIZE_PREFIX_BYTES = 16 };

size_t held_bytes;
uint64_t allocations;
uint64_t fail_from = UINT64_MAX;
uint64_t fail_to = UINT64_MAX;
bool fail_munmap;
bool fail_nowhere;
bool pieces_apart;

void __real_arena_reset(struct arena *arena);
void __wrap_arena_reset(struct arena *arena);
void __real_arena_init(struct arena *arena, size_t chunk_bytes);
void __wrap_arena_init(struct arena *arena, size_t chunk_bytes);

void __wrap_arena_init(struct arena *arena, size_t chunk_bytes)
{
    __real_arena_init(arena, pieces_apart ? 1 : chunk_bytes);
}

void __wrap_arena_reset(struct arena *arena)
{
    if (pieces_apart)
        arena_free(arena);
    else
        __real_arena_reset(arena);
}

void fail_allocations(uint64_t from_now, uint64_t count)
{
    fail_from = allocations + from_now;
    fail_to = count > UINT64_MAX - fail_from ? UINT64_MAX : fail_from + count;
}

void fail_no_allocation(void)
{
    fail_from = fail_to = UINT64_MAX;
}

bool next_fails(void)
{
    if (fail_nowhere)
        return false;
    uint64_t number = allocations++;
    return number >= fail_from && number < fail_to;
}

void *failing_malloc(size_t size)
{
    if (next_fails())
        return NULL;
    char *piece = malloc(size + SIZE_PREFIX_BYTES);
    if (piece == NULL)
        abort();
    memcpy(piece, &size, sizeof size);
    held_bytes += size;
    return piece + SIZE_PREFIX_BYTES;
}

void *failing_calloc(size_t count, size_t size)
{
    void *piece = failing_malloc(count * size);
    return piece == NULL ? NULL : memset(piece, 0, count * size);
}

void failing_free(void *piece)
{
    if (piece == NULL)
        return;
    size_t size;
    char *start = (char *)piece - SIZE_PREFIX_BYTES;
    memcpy(&size, start, sizeof size);
    held_bytes -= size;
    free(start);
}

void *failing_realloc(void *piece, size_t size)
{
    size_t before = 0;
    if (piece != NULL)
        memcpy(&before, (char *)piece - SIZE_PREFIX_BYTES, sizeof before);
    void *moved = failing_malloc(size);
    if (moved != NULL && before > 0)
        memcpy(moved, piece, before < size ? before : size);
    if (moved != NULL)
        failing_free(piece);
    return moved;
}

void *failing_reallocarray(void *piece, size_t count, size_t size)
{
    size_t size_bytes;
    return __builtin_mul_overflow(count, size, &size_bytes) ? NULL : failing_realloc(piece, size_bytes);
}

void *failing_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    if (next_fails())
        return MAP_FAILED;
    void *pages = mmap(address, size, protection, flags, file, offset);
    if (pages == MAP_FAILED)
        abort();
    held_bytes += size;
    return pages;
}

int failing_munmap(void *pages, size_t size)
{
    if (fail_munmap)
        return -1;
    held_bytes -= size;
    return munmap(pages, size);
}
