/* Rows of one size, numbered from 0, that never move: growth takes a chunk more and copies nothing, and what
 * is given back is taken again first. */
#ifndef UB_ROWS_H
#define UB_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ROWS_NONE = 0xffffffff, ROWS_CHUNK_SHIFT = 9, ROWS_CHUNK = 1 << ROWS_CHUNK_SHIFT };

/* Set row_bytes, all else zero. */
struct rows {
    size_t row_bytes;
    uint32_t count; /* numbers below were taken at some time */
    uint32_t vacant_count;
    uint32_t *vacant; /* given back; has room for all numbers */
    char **chunks;
    size_t chunk_count;
};
void rows_free(struct rows *rows);

uint32_t rows_take(struct rows *rows);              /* zeroed; ROWS_NONE: out of memory */
void rows_give(struct rows *rows, uint32_t number); /* zeroed, too */
size_t rows_bytes(const struct rows *rows);

static inline void *rows_at(const struct rows *rows, uint32_t number)
{
    return rows->chunks[number >> ROWS_CHUNK_SHIFT] + (number & (ROWS_CHUNK - 1)) * rows->row_bytes;
}

#endif
