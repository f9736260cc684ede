/* Rows on their way to the store: bytes in blocks, put in at one end and taken out at the other. Blocks that
 * were emptied go back to a pool, and serve the rows that come next: a steady stream uses the same little
 * memory over and over, whichever batches its rows are of. A pool belongs to one thread. */
#ifndef UB_ROW_QUEUE_H
#define UB_ROW_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ROW_BLOCK_BYTES = 64 << 10 };

/* Whole rows: none goes on in the next block. */
struct row_block {
    struct row_block *next;
    size_t size_bytes;
    size_t capacity_bytes; /* ROW_BLOCK_BYTES, or what one larger row takes */
    uint8_t bytes[];
};

/* Zero-initialise. May be moved, leaving a zeroed one behind. */
struct row_queue {
    struct row_block *first;
    struct row_block *last;
    size_t size_bytes;
};

/* Zero-initialise. */
struct row_pool {
    struct row_block *free;
    size_t free_count;
    size_t used_count;
    size_t most_used; /* since the last rest */
    unsigned rests;   /* asked for since */
};

/* Where a row of so many bytes at most can be written; row_queue_add() then says how long it became. NULL:
 * out of memory. */
uint8_t *row_queue_room(struct row_queue *queue, struct row_pool *pool, size_t most_bytes);
void row_queue_add(struct row_queue *queue, size_t size_bytes);

/* Moves out the first rows: so many bytes, a block more at most, or all there are. */
struct row_queue row_queue_take(struct row_queue *queue, size_t size_bytes);

size_t row_queue_held_bytes(const struct row_queue *queue);

/* Gives its blocks to the pool, or to the system; either leaves it zeroed. */
void row_queue_reset(struct row_queue *queue, struct row_pool *pool);
void row_queue_free(struct row_queue *queue);

/* To be called once a batch: gives back the blocks that none of many batches in a row has needed. */
void row_pool_rest(struct row_pool *pool);
void row_pool_free(struct row_pool *pool); /* all blocks must be back */

#endif
