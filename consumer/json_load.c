#include "json_load.h"

#include <setjmp.h>
#include <stdlib.h>

struct pieces {
    void **items;
    size_t count;
    size_t capacity;
};

/* One text being read. What jansson frees is kept to the end, so that what it had is known if it has to be
 * left where it stands: nothing but memory is its to give back. */
struct reading {
    struct pieces allocated; /* the freed ones, too */
    struct pieces freed;
    jmp_buf starved;
};

/* This thread's; NULL: none. jansson tells an allocator nothing about what it allocates for. */
static _Thread_local struct reading *reading __attribute__((tls_model("initial-exec")));

static bool push(struct pieces *pieces, void *piece)
{
    if (pieces->count == pieces->capacity) {
        size_t capacity = pieces->capacity ? 2 * pieces->capacity : 64;
        void **grown = reallocarray(pieces->items, capacity, sizeof *grown);
        if (!grown)
            return false;
        pieces->items = grown;
        pieces->capacity = capacity;
    }
    pieces->items[pieces->count++] = piece;
    return true;
}

static void free_all(const struct pieces *pieces)
{
    for (size_t i = 0; i < pieces->count; i++)
        free(pieces->items[i]);
}

static void *allocate(size_t size)
{
    void *piece = malloc(size);
    if (reading && (!piece || !push(&reading->allocated, piece))) {
        free(piece);
        longjmp(reading->starved, 1);
    }
    return piece;
}

static void release(void *piece)
{
    if (!reading)
        free(piece);
    else if (piece && !push(&reading->freed, piece))
        longjmp(reading->starved, 1);
}

__attribute__((constructor)) static void allocate_for_jansson(void)
{
    json_set_alloc_funcs(allocate, release);
}

/* *starved: left where it stood. */
static json_t *read_text(struct text text, size_t flags, json_error_t *error, bool *starved)
{
    if (setjmp(reading->starved) != 0) {
        *starved = true;
        return NULL;
    }
    *starved = false;
    return json_loadb(text.bytes ? text.bytes : "", text.length, flags, error);
}

json_t *json_load_text(struct text text, size_t flags, json_error_t *error, bool *starved)
{
    struct reading mine = {0};
    reading = &mine;
    json_t *document = read_text(text, flags, error, starved);
    reading = NULL;
    free_all(*starved ? &mine.allocated : &mine.freed);
    free(mine.allocated.items);
    free(mine.freed.items);
    return document;
}
