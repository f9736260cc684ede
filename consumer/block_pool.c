#include "block_pool.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

enum { BLOCKS_HANDED_OUT = SLAB_BLOCKS - 1 };
enum { FIRST_SLABS = 256 }; /* a page full of them */

static size_t slab_bytes(const struct block_pool *pool)
{
    return (size_t)SLAB_BLOCKS * pool->block_bytes;
}

static uint64_t *free_bits(const struct block_pool *pool, uint32_t slab)
{
    return (uint64_t *)(void *)pool->slabs[slab].blocks;
}

/* Zeros, or NULL. malloc would give back the memory of many slabs in one call, which takes too long, or
 * never; and whenever it is asked for a large piece, it first joins all small ones that were freed: a
 * millisecond. */
static void *map(size_t size_bytes)
{
    void *pages = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

static void unmap(void *pages, size_t size_bytes)
{
    /* Refused only if it would split a mapping and the process has as many as it may: then the pages leave it
     * all the same, and some addresses are lost. */
    if (size_bytes > 0 && munmap(pages, size_bytes) != 0)
        (void)madvise(pages, size_bytes, MADV_DONTNEED);
}

static bool widen(struct block_pool *pool)
{
    uint32_t limit = pool->slab_limit == 0 ? FIRST_SLABS : pool->slab_limit * 2;
    size_t former_bytes = pool->slab_limit * sizeof *pool->slabs;
    struct slab *slabs = map(limit * sizeof *slabs);
    if (slabs == NULL)
        return false;
    if (former_bytes > 0)
        memcpy(slabs, pool->slabs, former_bytes);
    unmap(pool->slabs, former_bytes);
    pool->bytes += limit * sizeof *slabs - former_bytes;
    pool->slabs = slabs;
    pool->slab_limit = limit;
    return true;
}

static bool add_slab(struct block_pool *pool)
{
    uint32_t at = 0;
    while (at < pool->slab_limit && pool->slabs[at].blocks != NULL)
        at++;
    if (at == pool->slab_limit && !widen(pool))
        return false;
    void *slab = map(slab_bytes(pool));
    if (slab == NULL)
        return false;
    pool->slabs[at] = (struct slab){.blocks = slab, .free_count = BLOCKS_HANDED_OUT};
    memset(slab, 0xff, SLAB_BLOCKS / 8);
    free_bits(pool, at)[0] &= ~UINT64_C(1);
    pool->free_count += BLOCKS_HANDED_OUT;
    pool->bytes += slab_bytes(pool);
    if (at < pool->lowest)
        pool->lowest = at;
    return true;
}

static void drop_slab(struct block_pool *pool, uint32_t at)
{
    unmap(pool->slabs[at].blocks, slab_bytes(pool));
    pool->free_count -= pool->slabs[at].free_count;
    pool->slabs[at] = (struct slab){.blocks = NULL};
    pool->bytes -= slab_bytes(pool);
}

void block_pool_free(struct block_pool *pool)
{
    for (uint32_t at = 0; at < pool->slab_limit; at++)
        if (pool->slabs[at].blocks != NULL)
            drop_slab(pool, at);
    unmap(pool->slabs, pool->slab_limit * sizeof *pool->slabs);
    *pool = (struct block_pool){.block_bytes = pool->block_bytes};
}

static uint32_t take_lowest(struct block_pool *pool)
{
    while (pool->slabs[pool->lowest].free_count == 0)
        pool->lowest++;
    uint64_t *word = free_bits(pool, pool->lowest);
    uint32_t block = 0;
    for (; *word == 0; word++)
        block += 64;
    block += (uint32_t)__builtin_ctzll(*word);
    *word &= *word - 1;
    pool->slabs[pool->lowest].free_count--;
    return pool->lowest * SLAB_BLOCKS + block;
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

static void give_back_one(struct block_pool *pool, uint32_t block)
{
    uint32_t at = block / SLAB_BLOCKS;
    uint32_t bit = block % SLAB_BLOCKS;
    uint64_t *word = free_bits(pool, at) + bit / 64;
    assert((*word >> bit % 64 & 1) == 0);
    *word |= UINT64_C(1) << bit % 64;
    pool->slabs[at].free_count++;
    pool->free_count++;
    pool->used_count--;
    if (at < pool->lowest)
        pool->lowest = at;
    /* A slab's worth of free blocks is kept, so that tables about to grow don't map it time and again. */
    if (pool->slabs[at].free_count == BLOCKS_HANDED_OUT && pool->free_count >= 2 * BLOCKS_HANDED_OUT)
        drop_slab(pool, at);
}

void block_pool_give_back(struct block_pool *pool, const uint32_t *blocks, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        give_back_one(pool, blocks[i]);
    if (pool->used_count == 0)
        block_pool_free(pool);
}
