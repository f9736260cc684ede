/* A connection to PostgreSQL, set up as UsageBox wants it: UTC, UTF-8, schema public, a dead server noticed
 * within half a minute. Every failure is kept as its SQLSTATE and one sentence for a person. Blocks; one
 * thread at a time. */
#ifndef UB_PG_H
#define UB_PG_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "decimal.h"
#include "../consumer/text.h"

enum pg_trouble {
    PG_FINE,
    PG_GONE,    /* the connection, or the server is leaving: an outcome may be unknown */
    PG_PASSING, /* deadlock, lock time-out, too little memory or disk …: try again */
    PG_VALUE,   /* a value or row that a type or a CHECK refuses (SQLSTATE class 22, and 23514) */
    PG_OTHER    /* won't pass by itself */
};

enum { PG_DETAIL_BYTES = 512, PG_NAME_BYTES = 64 };

struct pg_failure {
    enum pg_trouble trouble;
    char sqlstate[6]; /* empty: the server said none */
    char table[PG_NAME_BYTES];
    char constraint[PG_NAME_BYTES];
    char detail[PG_DETAIL_BYTES]; /* a sentence */
};

/* Zero-initialise. */
struct pg {
    PGconn *connection;        /* NULL: closed */
    struct pg_failure failure; /* of the last call that failed */
};

/* name: application_name. False: failure says why. */
bool pg_open(struct pg *pg, const char *dsn, const char *name);
void pg_close(struct pg *pg);
bool pg_is_open(const struct pg *pg);

/* Runs statements that return no rows that matter. */
bool pg_run(struct pg *pg, const char *sql);

/* Commits. False, too, if the transaction had failed before and was rolled back. */
bool pg_commit(struct pg *pg);

/* One statement with parameters as text (NULL: null); the result's columns are binary. NULL: it failed. */
PGresult *pg_query(struct pg *pg, const char *sql, const char *const *parameters, int count);

/* Checks what a libpq call returned; clears the result and fills in failure unless it is as expected. */
bool pg_expect(struct pg *pg, PGresult *result, ExecStatusType expected);

/* Records a failure that PostgreSQL did not report. Returns false. */
bool pg_fail(struct pg *pg, enum pg_trouble trouble, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same of a call that libpq itself failed, with what it says of that; PG_GONE if the connection is.
 * Returns false. */
bool pg_fail_by_itself(struct pg *pg, enum pg_trouble trouble);

/* Columns of a binary result. Types must match; text and bytes live as long as the result. */
int32_t pg_int4(const PGresult *result, int row, int column);
int64_t pg_int8(const PGresult *result, int row, int column);
bool pg_bool(const PGresult *result, int row, int column);
int64_t pg_time_us(const PGresult *result, int row, int column); /* timestamptz, as µs since 1970 */
uint16_t pg_day(const PGresult *result, int row,
                int column); /* date, as days since 1970; 0 if out of range */
struct text pg_text(const PGresult *result, int row, int column);
bool pg_numeric(const PGresult *result, int row, int column, decimal_t *out); /* false: it doesn't fit */

#define PG_EPOCH_US INT64_C(946684800000000) /* 2000-01-01, from where PostgreSQL counts */
enum { PG_EPOCH_DAYS = 10957 };

static inline void pg_clear(PGresult **result)
{
    PQclear(*result);
}
#define PG_RESULT __attribute__((cleanup(pg_clear))) PGresult

#endif
