#include "rows.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void rows_free(struct rows *rows)
{
    for (size_t i = 0; i < rows->chunk_count; i++)
        free(rows->chunks[i]);
    free(rows->chunks);
    free(rows->vacant);
    *rows = (struct rows){.row_bytes = rows->row_bytes};
}

static bool grow(struct rows *rows)
{
    size_t chunk_count = rows->chunk_count + 1;
    char **chunks = realloc(rows->chunks, chunk_count * sizeof *chunks);
    if (!chunks)
        return false;
    rows->chunks = chunks;
    uint32_t *vacant = realloc(rows->vacant, chunk_count * ROWS_CHUNK * sizeof *vacant);
    if (!vacant)
        return false;
    rows->vacant = vacant;
    chunks[rows->chunk_count] = calloc(ROWS_CHUNK, rows->row_bytes);
    if (!chunks[rows->chunk_count])
        return false;
    rows->chunk_count = chunk_count;
    return true;
}

uint32_t rows_take(struct rows *rows)
{
    if (rows->vacant_count > 0)
        return rows->vacant[--rows->vacant_count];
    if (rows->count == rows->chunk_count * ROWS_CHUNK && !grow(rows))
        return ROWS_NONE;
    return rows->count++;
}

void rows_give(struct rows *rows, uint32_t number)
{
    assert(number < rows->count && rows->vacant_count < rows->count);
    memset(rows_at(rows, number), 0, rows->row_bytes);
    rows->vacant[rows->vacant_count++] = number;
}

size_t rows_bytes(const struct rows *rows)
{
    return rows->chunk_count * (ROWS_CHUNK * (rows->row_bytes + sizeof *rows->vacant) + sizeof *rows->chunks);
}
