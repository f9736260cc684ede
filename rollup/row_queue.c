#include "row_queue.h"

#include <assert.h>
#include <stdlib.h>

#include "../consumer/poison.h"

enum { RESTS_BETWEEN = 64 };

static struct row_block *block_new(size_t capacity_bytes)
{
    if (capacity_bytes > PTRDIFF_MAX - sizeof(struct row_block))
        return NULL;
    struct row_block *block = malloc(sizeof *block + capacity_bytes);
    if (block)
        *block = (struct row_block){.capacity_bytes = capacity_bytes};
    return block;
}

static struct row_block *pool_pop(struct row_pool *pool)
{
    struct row_block *block = pool->free;
    UNPOISON(block->bytes, block->capacity_bytes);
    pool->free = block->next;
    pool->free_count--;
    block->next = NULL;
    block->size_bytes = 0;
    return block;
}

static struct row_block *pool_take(struct row_pool *pool, size_t least_bytes)
{
    struct row_block *block;
    if (least_bytes > ROW_BLOCK_BYTES)
        block = block_new(least_bytes);
    else
        block = pool->free ? pool_pop(pool) : block_new(ROW_BLOCK_BYTES);
    if (block && ++pool->used_count > pool->most_used)
        pool->most_used = pool->used_count;
    return block;
}

/* The last one that was given back is the first to be taken again: it is still in the caches. */
static void pool_give_back(struct row_pool *pool, struct row_block *block)
{
    assert(pool->used_count > 0);
    pool->used_count--;
    if (block->capacity_bytes > ROW_BLOCK_BYTES) {
        free(block);
        return;
    }
    block->next = pool->free;
    pool->free = block;
    pool->free_count++;
    POISON(block->bytes, block->capacity_bytes);
}

uint8_t *row_queue_room(struct row_queue *queue, struct row_pool *pool, size_t most_bytes)
{
    struct row_block *last = queue->last;
    if (last && last->capacity_bytes - last->size_bytes >= most_bytes)
        return last->bytes + last->size_bytes;
    struct row_block *block = pool_take(pool, most_bytes);
    if (!block)
        return NULL;
    *(last ? &last->next : &queue->first) = block;
    queue->last = block;
    return block->bytes;
}

void row_queue_add(struct row_queue *queue, size_t size_bytes)
{
    assert(queue->last->capacity_bytes - queue->last->size_bytes >= size_bytes);
    queue->last->size_bytes += size_bytes;
    queue->size_bytes += size_bytes;
}

struct row_queue row_queue_take(struct row_queue *queue, size_t size_bytes)
{
    struct row_queue taken = {.first = queue->first};
    while (queue->first && taken.size_bytes < size_bytes) {
        taken.last = queue->first;
        taken.size_bytes += taken.last->size_bytes;
        queue->first = taken.last->next;
    }
    if (!taken.last)
        return (struct row_queue){0};
    taken.last->next = NULL;
    queue->size_bytes -= taken.size_bytes;
    if (!queue->first)
        queue->last = NULL;
    return taken;
}

size_t row_queue_held_bytes(const struct row_queue *queue)
{
    size_t held_bytes = 0;
    for (const struct row_block *block = queue->first; block; block = block->next)
        held_bytes += sizeof *block + block->capacity_bytes;
    return held_bytes;
}

void row_queue_reset(struct row_queue *queue, struct row_pool *pool)
{
    while (queue->first) {
        struct row_block *block = queue->first;
        queue->first = block->next;
        pool_give_back(pool, block);
    }
    *queue = (struct row_queue){0};
}

void row_queue_free(struct row_queue *queue)
{
    while (queue->first) {
        struct row_block *block = queue->first;
        queue->first = block->next;
        free(block);
    }
    *queue = (struct row_queue){0};
}

void row_pool_rest(struct row_pool *pool)
{
    if (++pool->rests < RESTS_BETWEEN)
        return;
    while (pool->free && pool->used_count + pool->free_count > pool->most_used)
        free(pool_pop(pool));
    pool->most_used = pool->used_count;
    pool->rests = 0;
}

void row_pool_free(struct row_pool *pool)
{
    while (pool->free)
        free(pool_pop(pool));
    *pool = (struct row_pool){0};
}
