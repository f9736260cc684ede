/* Many rows as one statement's parameters: each column is an array in PostgreSQL's binary format, for
 * INSERT … SELECT … FROM unnest($1, $2, …). No text is escaped and no number printed. */
#ifndef UB_PG_COLUMNS_H
#define UB_PG_COLUMNS_H

#include "batch.h"
#include "pg.h"

enum { PG_COLUMNS = 28, PG_COLUMNS_ROWS = 10000, PG_COLUMNS_BYTES = 8 << 20 };

struct pg_column {
    char type;
    bool has_null;
    struct buffer array;
};

/* Rows are added value by value, from the first column to the last and on with the next row's first. */
struct pg_columns {
    struct pg_column columns[PG_COLUMNS];
    int count;
    int next; /* the column that the next value belongs to */
    size_t rows;
    size_t bytes;
    bool no_memory;
};

/* letters: one a column: t text, x bytea, i int4, j int8, n numeric, z timestamptz, d date, b boolean.
 */
void pg_columns_begin(struct pg_columns *columns, const char *letters);
void pg_columns_free(struct pg_columns *columns);

void pg_put_text(struct pg_columns *columns, struct text value);               /* bytes NULL: empty */
void pg_put_bytes(struct pg_columns *columns, const void *bytes, size_t size); /* bytes NULL: null */
void pg_put_int4(struct pg_columns *columns, int32_t value);
void pg_put_int8(struct pg_columns *columns, int64_t value);
void pg_put_numeric(struct pg_columns *columns, decimal_t value);
void pg_put_time(struct pg_columns *columns, int64_t us);  /* since 1970 */
void pg_put_day(struct pg_columns *columns, uint16_t day); /* since 1970 */
void pg_put_bool(struct pg_columns *columns, bool value);
void pg_put_null(struct pg_columns *columns);

/* Enough for one statement: time to run it and go on with an empty set. */
bool pg_columns_full(const struct pg_columns *columns);
bool pg_columns_run_if_full(struct pg *pg, const char *sql, struct pg_columns *columns); /* else true */

/* Runs the statement with the columns as $1, $2, …, and empties them. The result's columns are binary. NULL:
 * it failed. */
PGresult *pg_columns_query(struct pg *pg, const char *sql, struct pg_columns *columns);
/* Hands out the result's rows one by one as they arrive (always row 0 of `result`). False: it failed, or
 * `each` did; failure is then the caller's to set if trouble is PG_FINE. */
bool pg_columns_each(struct pg *pg, const char *sql, struct pg_columns *columns,
                     bool (*each)(void *context, const PGresult *result), void *context);
/* As pg_columns_query(), where no rows come back; with no rows to write nothing is sent. */
bool pg_columns_run(struct pg *pg, const char *sql, struct pg_columns *columns);

#endif
