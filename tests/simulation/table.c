#include "basics.h"

#include <stdlib.h>
#include <string.h>

static void reserve(struct table *table, size_t row_bytes, size_t count)
{
    if (count <= table->capacity)
        return;
    while (table->capacity < count)
        table->capacity = table->capacity ? table->capacity * 2 : 64;
    table->rows = realloc(table->rows, table->capacity * row_bytes);
    if (!table->rows)
        abort();
}

void *table_add(struct table *table, size_t row_bytes)
{
    reserve(table, row_bytes, table->count + 1);
    void *row = (char *)table->rows + table->count++ * row_bytes;
    memset(row, 0, row_bytes);
    return row;
}

void table_copy(struct table *to, const struct table *from, size_t row_bytes)
{
    reserve(to, row_bytes, from->count);
    if (from->count)
        memcpy(to->rows, from->rows, from->count * row_bytes);
    to->count = from->count;
}

void table_free(struct table *table)
{
    free(table->rows);
    *table = (struct table){0};
}
