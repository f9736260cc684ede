/* Equal blocks of memory for tables that grow and shrink by a few blocks at a time: whatever one table gives
 * back fits any other, so nothing fragments. Blocks come in slabs; the lowest free block is always taken
 * first, so that slabs empty out and go back to malloc when tables are rebuilt smaller. */
#ifndef UB_BLOCK_POOL_H
#define UB_BLOCK_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BLOCK_BYTES = 1280, SLAB_BLOCKS = 1024 };

struct slab {
    uint64_t free[SLAB_BLOCKS / 64]; /* a bit for each free block */
    uint8_t blocks[SLAB_BLOCKS][BLOCK_BYTES];
};

/* Zero-initialise. */
struct block_pool {
    struct slab_use {
        struct slab *slab; /* NULL: given back; the place is free for another */
        uint32_t free_count;
    } * slabs;
    uint32_t slab_limit; /* length of slabs */
    uint32_t lowest;     /* no slab below has a free block */
    uint32_t free_count;
    uint32_t used_count;
    size_t bytes; /* all that it has allocated */
};

void block_pool_free(struct block_pool *pool);

/* Takes count blocks of undefined content. False: out of memory, none taken. */
bool block_pool_take(struct block_pool *pool, uint32_t *blocks, uint32_t count);
void block_pool_give_back(struct block_pool *pool, const uint32_t *blocks, uint32_t count);

/* The memory of a block that was taken: it never moves. */
static inline void *block_pool_at(const struct block_pool *pool, uint32_t block)
{
    return pool->slabs[block / SLAB_BLOCKS].slab->blocks[block % SLAB_BLOCKS];
}

#endif
