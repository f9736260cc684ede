#include "pg_columns.h"

#include <assert.h>
#include <endian.h>

/* An array: dimensions, has-null flag, element type, then for its one dimension length and lower bound.
 * Source: PostgreSQL src/backend/utils/adt/arrayfuncs.c, array_recv. */
enum { ARRAY_HEADER_BYTES = 20, LENGTH_BYTES = 4 };

static const struct {
    char letter;
    Oid element, array; /* src/include/catalog/pg_type.dat */
} types[] = {{'t', 25, 1009},   {'x', 17, 1001},   {'i', 23, 1007},   {'j', 20, 1016},
             {'n', 1700, 1231}, {'z', 1184, 1185}, {'d', 1082, 1182}, {'b', 16, 1000}};

static size_t type_index(char letter)
{
    size_t i = 0;
    while (types[i].letter != letter)
        i++;
    return i;
}

static void empty(struct pg_columns *columns)
{
    for (int i = 0; i < columns->count; i++) {
        columns->columns[i].has_null = false;
        columns->columns[i].array.size_bytes = 0;
    }
    columns->next = 0;
    columns->rows = columns->bytes = 0;
}

void pg_columns_begin(struct pg_columns *columns, const char *letters)
{
    *columns = (struct pg_columns){.count = (int)strlen(letters)};
    assert(columns->count <= PG_COLUMNS);
    for (int i = 0; i < columns->count; i++)
        columns->columns[i].type = letters[i];
}

void pg_columns_free(struct pg_columns *columns)
{
    for (int i = 0; i < columns->count; i++)
        buffer_free(&columns->columns[i].array);
}

static uint8_t *put_32(uint8_t *out, uint32_t value)
{
    value = htobe32(value);
    return mempcpy(out, &value, sizeof value);
}

/* Room for a value in the next column, its length written. NULL: out of memory. */
static uint8_t *element(struct pg_columns *columns, const char *letters, size_t size)
{
    struct pg_column *column = &columns->columns[columns->next];
    assert(strchr(letters, column->type) && size <= INT32_MAX);
    size_t header = column->array.size_bytes == 0 ? ARRAY_HEADER_BYTES : 0;
    if (columns->no_memory || !buffer_reserve(&column->array, header + LENGTH_BYTES + size)) {
        columns->no_memory = true;
        return NULL;
    }
    uint8_t *out = put_32(column->array.bytes + column->array.size_bytes + header, (uint32_t)size);
    column->array.size_bytes += header + LENGTH_BYTES + size;
    columns->bytes += LENGTH_BYTES + size;
    columns->next = (columns->next + 1) % columns->count;
    columns->rows += columns->next == 0;
    return out;
}

static void put(struct pg_columns *columns, const char *letters, const void *bytes, size_t size)
{
    uint8_t *out = element(columns, letters, size);
    if (out && size > 0)
        memcpy(out, bytes, size);
}

void pg_put_null(struct pg_columns *columns)
{
    struct pg_column *column = &columns->columns[columns->next];
    column->has_null = true;
    uint8_t *out = element(columns, "txijnzdb", 0);
    if (out)
        put_32(out - LENGTH_BYTES, UINT32_MAX);
}

void pg_put_text(struct pg_columns *columns, struct text value)
{
    put(columns, "t", value.bytes, value.length);
}

void pg_put_bytes(struct pg_columns *columns, const void *bytes, size_t size)
{
    if (bytes)
        put(columns, "x", bytes, size);
    else
        pg_put_null(columns);
}

void pg_put_int4(struct pg_columns *columns, int32_t value)
{
    uint32_t big = htobe32((uint32_t)value);
    put(columns, "i", &big, sizeof big);
}

static void put_64(struct pg_columns *columns, const char *letters, int64_t value)
{
    uint64_t big = htobe64((uint64_t)value);
    put(columns, letters, &big, sizeof big);
}

void pg_put_int8(struct pg_columns *columns, int64_t value)
{
    put_64(columns, "j", value);
}

void pg_put_numeric(struct pg_columns *columns, decimal_t value)
{
    uint8_t numeric[DECIMAL_NUMERIC_BYTES];
    put(columns, "n", numeric, decimal_numeric(value, numeric));
}

void pg_put_time(struct pg_columns *columns, int64_t us)
{
    put_64(columns, "z", us - PG_EPOCH_US);
}

void pg_put_day(struct pg_columns *columns, uint16_t day)
{
    uint32_t big = htobe32((uint32_t)(day - PG_EPOCH_DAYS));
    put(columns, "d", &big, sizeof big);
}

void pg_put_bool(struct pg_columns *columns, bool value)
{
    uint8_t byte = value;
    put(columns, "b", &byte, sizeof byte);
}

bool pg_columns_full(const struct pg_columns *columns)
{
    return columns->next == 0 && (columns->rows >= PG_COLUMNS_ROWS || columns->bytes >= PG_COLUMNS_BYTES);
}

/* An array of nothing has no dimension. */
static void finish_array(struct pg_column *column, size_t rows)
{
    uint8_t *out = column->array.bytes;
    out = put_32(out, rows > 0);
    out = put_32(out, column->has_null);
    out = put_32(out, types[type_index(column->type)].element);
    if (rows == 0) {
        column->array.size_bytes = (size_t)(out - column->array.bytes);
        return;
    }
    out = put_32(out, (uint32_t)rows);
    put_32(out, 1);
}

static bool finish(struct pg_columns *columns, struct pg *pg)
{
    assert(columns->next == 0 || columns->no_memory);
    for (int i = 0; !columns->no_memory && i < columns->count; i++) {
        if (columns->rows == 0 && !buffer_reserve(&columns->columns[i].array, ARRAY_HEADER_BYTES))
            columns->no_memory = true;
        else
            finish_array(&columns->columns[i], columns->rows);
    }
    return !columns->no_memory || pg_fail(pg, PG_PASSING, "out of memory");
}

struct binary_parameters {
    Oid oids[PG_COLUMNS];
    const char *values[PG_COLUMNS];
    int lengths[PG_COLUMNS], formats[PG_COLUMNS];
};

static void fill_parameters(struct binary_parameters *p, const struct pg_columns *columns)
{
    for (int i = 0; i < columns->count; i++) {
        const struct buffer *array = &columns->columns[i].array;
        p->oids[i] = types[type_index(columns->columns[i].type)].array;
        p->values[i] = (const char *)array->bytes;
        p->lengths[i] = (int)array->size_bytes;
        p->formats[i] = 1;
    }
}

PGresult *pg_columns_query(struct pg *pg, const char *sql, struct pg_columns *columns)
{
    if (!finish(columns, pg))
        return NULL;
    struct binary_parameters p;
    fill_parameters(&p, columns);
    PGresult *result =
        PQexecParams(pg->connection, sql, columns->count, p.oids, p.values, p.lengths, p.formats, 1);
    empty(columns);
    ExecStatusType expected = PQresultStatus(result) == PGRES_COMMAND_OK ? PGRES_COMMAND_OK : PGRES_TUPLES_OK;
    return pg_expect(pg, result, expected) ? result : NULL;
}

/* Takes everything that is still to come, so that the connection can be used again. */
static bool each_row(struct pg *pg, bool (*each)(void *context, const PGresult *result), void *context)
{
    bool ok = true;
    for (PGresult *result; (result = PQgetResult(pg->connection));) {
        bool row = PQresultStatus(result) == PGRES_SINGLE_TUPLE;
        if (!row && !pg_expect(pg, result, PGRES_TUPLES_OK)) {
            ok = false; /* pg_expect() has freed it */
            continue;
        }
        ok = ok && (!row || each(context, result));
        PQclear(result);
    }
    return ok;
}

bool pg_columns_each(struct pg *pg, const char *sql, struct pg_columns *columns,
                     bool (*each)(void *context, const PGresult *result), void *context)
{
    if (!finish(columns, pg))
        return false;
    struct binary_parameters p;
    fill_parameters(&p, columns);
    pg->failure = (struct pg_failure){.trouble = PG_FINE};
    if (!PQsendQueryParams(pg->connection, sql, columns->count, p.oids, p.values, p.lengths, p.formats, 1) ||
        !PQsetSingleRowMode(pg->connection))
        return pg_fail_by_itself(pg, PG_GONE);
    bool ok = each_row(pg, each, context);
    empty(columns);
    return ok;
}

bool pg_columns_run(struct pg *pg, const char *sql, struct pg_columns *columns)
{
    if (columns->rows == 0 && !columns->no_memory)
        return true;
    PG_RESULT *result = pg_columns_query(pg, sql, columns);
    return result;
}

bool pg_columns_run_if_full(struct pg *pg, const char *sql, struct pg_columns *columns)
{
    return !pg_columns_full(columns) || pg_columns_run(pg, sql, columns);
}
