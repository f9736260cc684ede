/* Memory of one batch: many small pieces are taken and all are given back at once. A reset keeps the memory
 * for the next batch, so that a loop in its steady state asks the system for nothing. */
#ifndef UB_ARENA_H
#define UB_ARENA_H

#include <stddef.h>

#include "text.h"

struct arena_chunk;

/* Set up by arena_init(), otherwise private. Belongs to one thread at a time. */
struct arena {
    struct arena_chunk *first;
    struct arena_chunk *current; /* chunks behind it are empty */
    size_t chunk_bytes;
    size_t held_bytes;
};

/* Takes no memory yet. chunk_bytes: how much to ask the system for at a time; larger pieces get a chunk of
 * their own. */
void arena_init(struct arena *arena, size_t chunk_bytes);

/* Gives all memory back to the system. The arena may be used again. */
void arena_free(struct arena *arena);

/* Uninitialised memory, aligned for any type, valid until the next reset. NULL only when out of memory; what
 * was taken before stays valid. A size of 0 gives a valid pointer to nothing. */
void *arena_alloc(struct arena *arena, size_t size_bytes);

/* A copy of text in the arena. bytes is NULL only when out of memory. */
struct text arena_text(struct arena *arena, struct text text);

/* Takes back every piece at once and keeps the chunks. */
void arena_reset(struct arena *arena);

/* All memory held from the system, in use or not. */
size_t arena_held_bytes(const struct arena *arena);

/* What of it was taken since the last reset. */
size_t arena_used_bytes(const struct arena *arena);

#endif
