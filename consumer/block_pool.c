#include "block_pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void block_pool_free(struct block_pool *pool)
{
    for (uint32_t i = 0; i < pool->slab_limit; i++)
        free(pool->slabs[i].slab);
    free(pool->slabs);
    *pool = (struct block_pool){0};
}

static bool widen(struct block_pool *pool)
{
    uint32_t limit = pool->slab_limit == 0 ? 8 : pool->slab_limit * 2;
    struct slab_use *slabs = realloc(pool->slabs, limit * sizeof *slabs);
    if (slabs == NULL)
        return false;
    memset(slabs + pool->slab_limit, 0, (limit - pool->slab_limit) * sizeof *slabs);
    pool->bytes += (limit - pool->slab_limit) * sizeof *slabs;
    pool->slabs = slabs;
    pool->slab_limit = limit;
    return true;
}

static bool add_slab(struct block_pool *pool)
{
    uint32_t at = 0;
    while (at < pool->slab_limit && pool->slabs[at].slab != NULL)
        at++;
    if (at == pool->slab_limit && !widen(pool))
        return false;
    struct slab *slab = malloc(sizeof *slab);
    if (slab == NULL)
        return false;
    memset(slab->free, 0xff, sizeof slab->free);
    pool->slabs[at] = (struct slab_use){slab, SLAB_BLOCKS};
    pool->free_count += SLAB_BLOCKS;
    pool->bytes += sizeof *slab;
    if (at < pool->lowest)
        pool->lowest = at;
    return true;
}

static uint32_t take_lowest(struct block_pool *pool)
{
    while (pool->slabs[pool->lowest].free_count == 0)
        pool->lowest++;
    struct slab_use *use = &pool->slabs[pool->lowest];
    uint32_t word = 0;
    while (use->slab->free[word] == 0)
        word++;
    uint32_t bit = (uint32_t)__builtin_ctzll(use->slab->free[word]);
    use->slab->free[word] &= use->slab->free[word] - 1;
    use->free_count--;
    return pool->lowest * SLAB_BLOCKS + word * 64 + bit;
}

bool block_pool_take(struct block_pool *pool, uint32_t *blocks, uint32_t count)
{
    while (pool->free_count < count)
        if (!add_slab(pool))
            return false;
    for (uint32_t i = 0; i < count; i++)
        blocks[i] = take_lowest(pool);
    pool->free_count -= count;
    pool->used_count += count;
    return true;
}

static void drop_slab(struct block_pool *pool, struct slab_use *use)
{
    free(use->slab);
    *use = (struct slab_use){NULL, 0};
    pool->free_count -= SLAB_BLOCKS;
    pool->bytes -= sizeof(struct slab);
}

static void give_back_one(struct block_pool *pool, uint32_t block)
{
    uint32_t at = block / SLAB_BLOCKS;
    uint32_t bit = block % SLAB_BLOCKS;
    struct slab_use *use = &pool->slabs[at];
    assert((use->slab->free[bit / 64] >> bit % 64 & 1) == 0);
    use->slab->free[bit / 64] |= UINT64_C(1) << bit % 64;
    use->free_count++;
    pool->free_count++;
    pool->used_count--;
    if (at < pool->lowest)
        pool->lowest = at;
    /* A slab's worth of free blocks is kept, so that tables about to grow don't get it back from malloc time
     * and again. */
    if (use->free_count == SLAB_BLOCKS && pool->free_count >= 2 * SLAB_BLOCKS)
        drop_slab(pool, use);
}

void block_pool_give_back(struct block_pool *pool, const uint32_t *blocks, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        give_back_one(pool, blocks[i]);
    if (pool->used_count == 0)
        block_pool_free(pool);
}
