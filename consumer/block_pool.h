/* Equal blocks of memory for tables that grow and shrink by a few blocks at a time: whatever one table gives
 * back fits any other, so nothing fragments. Blocks come in slabs, each a mapping of its own; the lowest free
 * block is always taken first, so that slabs empty out, and leave the process, when tables are rebuilt
 * smaller. */
#ifndef UB_BLOCK_POOL_H
#define UB_BLOCK_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Blocks of a slab. Its first, which is never handed out, holds a bit for each that is free. */
enum { SLAB_BLOCKS = 256 };

/* Zero-initialise but for block_bytes: at least SLAB_BLOCKS / 8, and a slab is to be a whole number of pages.
 */
struct block_pool {
    struct slab {
        uint8_t *blocks; /* NULL: given back; the place is free for another */
        uint32_t free_count;
    } * slabs;
    uint32_t slab_limit; /* length of slabs */
    uint32_t block_bytes;
    uint32_t lowest; /* no slab below has a free block */
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
    return pool->slabs[block / SLAB_BLOCKS].blocks + (size_t)(block % SLAB_BLOCKS) * pool->block_bytes;
}

#endif
