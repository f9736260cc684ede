#include "arena.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "poison.h"

enum { ALIGNMENT_BYTES = _Alignof(max_align_t) };

struct arena_chunk {
    struct arena_chunk *next;
    size_t used_bytes;
    size_t size_bytes;
    _Alignas(max_align_t) char bytes[];
};

void arena_init(struct arena *arena, size_t chunk_bytes)
{
    assert(chunk_bytes > 0);
    *arena = (struct arena){.chunk_bytes = chunk_bytes};
}

void arena_free(struct arena *arena)
{
    struct arena_chunk *chunk = arena->first;
    while (chunk) {
        struct arena_chunk *next = chunk->next;
        UNPOISON(chunk->bytes, chunk->size_bytes);
        free(chunk);
        chunk = next;
    }
    arena_init(arena, arena->chunk_bytes);
}

static struct arena_chunk *chunk_new(struct arena *arena, size_t need_bytes)
{
    size_t size_bytes = need_bytes > arena->chunk_bytes ? need_bytes : arena->chunk_bytes;
    struct arena_chunk *chunk = malloc(sizeof *chunk + size_bytes);
    if (!chunk)
        return NULL;
    *chunk = (struct arena_chunk){.size_bytes = size_bytes};
    POISON(chunk->bytes, size_bytes);
    arena->held_bytes += sizeof *chunk + size_bytes;
    return chunk;
}

/* Takes the first empty chunk that is large enough out of the list. */
static struct arena_chunk *chunk_unlink(struct arena_chunk **link, size_t need_bytes)
{
    for (; *link; link = &(*link)->next) {
        struct arena_chunk *chunk = *link;
        if (chunk->size_bytes >= need_bytes) {
            *link = chunk->next;
            return chunk;
        }
    }
    return NULL;
}

/* Makes a chunk with room for need_bytes the current one: an empty one if any is large enough, or a new one.
 */
static struct arena_chunk *chunk_advance(struct arena *arena, size_t need_bytes)
{
    struct arena_chunk **link = arena->current ? &arena->current->next : &arena->first;
    struct arena_chunk *chunk = chunk_unlink(link, need_bytes);
    if (!chunk)
        chunk = chunk_new(arena, need_bytes);
    if (!chunk)
        return NULL;
    chunk->next = *link;
    *link = chunk;
    arena->current = chunk;
    return chunk;
}

void *arena_alloc(struct arena *arena, size_t size_bytes)
{
    if (size_bytes > PTRDIFF_MAX / 2)
        return NULL;
    size_t need_bytes = (size_bytes + ALIGNMENT_BYTES - 1) & ~(size_t)(ALIGNMENT_BYTES - 1);
    struct arena_chunk *chunk = arena->current;
    if (!chunk || chunk->size_bytes - chunk->used_bytes < need_bytes)
        chunk = chunk_advance(arena, need_bytes);
    if (!chunk)
        return NULL;
    char *piece = chunk->bytes + chunk->used_bytes;
    chunk->used_bytes += need_bytes;
    UNPOISON(piece, size_bytes);
    return piece;
}

struct text arena_text(struct arena *arena, struct text text)
{
    char *copy = arena_alloc(arena, text.length);
    if (!copy)
        return (struct text){NULL, 0};
    if (text.length > 0)
        memcpy(copy, text.bytes, text.length);
    return (struct text){copy, text.length};
}

void arena_reset(struct arena *arena)
{
    struct arena_chunk *last = arena->current ? arena->current->next : NULL;
    for (struct arena_chunk *chunk = arena->first; chunk != last; chunk = chunk->next) {
        POISON(chunk->bytes, chunk->used_bytes);
        chunk->used_bytes = 0;
    }
    arena->current = arena->first;
}

size_t arena_held_bytes(const struct arena *arena)
{
    return arena->held_bytes;
}

size_t arena_used_bytes(const struct arena *arena)
{
    struct arena_chunk *last = arena->current ? arena->current->next : NULL;
    size_t used_bytes = 0;
    for (struct arena_chunk *chunk = arena->first; chunk != last; chunk = chunk->next)
        used_bytes += chunk->used_bytes;
    return used_bytes;
}
