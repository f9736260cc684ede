#include "pg.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>

/* Said at the start of each session. A server-wide idle time-out must neither end a batch that waits for
 * flags nor a connection that waits for its turn, and a commit that is reported must be on disk. */
static const char session_sql[] =
    "SET client_min_messages = warning; SET timezone = 'UTC'; SET datestyle = 'ISO'; SET search_path = "
    "public, pg_temp;"
    " SET statement_timeout = 0; SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '5min';"
    " SET idle_session_timeout = 0;"
    " SET jit = off; SET bytea_output = 'hex';"
    " SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = "
    "'off'";

static void one_line(char *text)
{
    size_t length = strlen(text);
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' '))
        text[--length] = '\0';
    for (; *text; text++)
        if (*text == '\n' || *text == '\t')
            *text = ' ';
}

bool pg_fail(struct pg *pg, enum pg_trouble trouble, const char *format, ...)
{
    pg->failure = (struct pg_failure){.trouble = trouble};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(pg->failure.detail, sizeof pg->failure.detail, format, arguments);
    va_end(arguments);
    one_line(pg->failure.detail);
    return false;
}

/* PostgreSQL manual, appendix A. */
static enum pg_trouble trouble_of(const char *sqlstate)
{
    static const struct {
        const char *prefix;
        enum pg_trouble trouble;
    } rows[] = {
        {"08", PG_GONE},       {"57P01", PG_GONE},    {"57P02", PG_GONE}, {"57P03", PG_GONE},
        {"57P05", PG_GONE},    {"25P03", PG_GONE},    {"40", PG_PASSING}, {"53", PG_PASSING},
        {"55P03", PG_PASSING}, {"57014", PG_PASSING}, {"58", PG_PASSING}, {"25006", PG_PASSING},
        {"22", PG_VALUE},      {"23514", PG_VALUE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strncmp(sqlstate, rows[i].prefix, strlen(rows[i].prefix)) == 0)
            return rows[i].trouble;
    return PG_OTHER;
}

static void copy_field(char *out, size_t size, const PGresult *result, int field)
{
    const char *text = PQresultErrorField(result, field);
    snprintf(out, size, "%s", text ? text : "");
}

static void fail_with_result(struct pg *pg, const PGresult *result)
{
    char sqlstate[6], message[300], hint[200];
    copy_field(sqlstate, sizeof sqlstate, result, PG_DIAG_SQLSTATE);
    copy_field(message, sizeof message, result, PG_DIAG_MESSAGE_PRIMARY);
    copy_field(hint, sizeof hint, result, PG_DIAG_MESSAGE_HINT);
    bool gone = PQstatus(pg->connection) == CONNECTION_BAD;
    enum pg_trouble trouble = gone ? PG_GONE : trouble_of(sqlstate);
    if (!*sqlstate && !*message) /* libpq's own words: not the server's */
        pg_fail_by_itself(pg, PG_PASSING);
    else
        pg_fail(pg, trouble, "%s%s%s (SQLSTATE %s)", message, *hint ? ". " : "", hint, sqlstate);
    snprintf(pg->failure.sqlstate, sizeof pg->failure.sqlstate, "%s", sqlstate);
    copy_field(pg->failure.table, sizeof pg->failure.table, result, PG_DIAG_TABLE_NAME);
    copy_field(pg->failure.constraint, sizeof pg->failure.constraint, result, PG_DIAG_CONSTRAINT_NAME);
}

bool pg_fail_by_itself(struct pg *pg, enum pg_trouble trouble)
{
    bool gone = PQstatus(pg->connection) == CONNECTION_BAD;
    const char *said = PQerrorMessage(pg->connection);
    if (!*said) /* it keeps some failures to itself */
        said = gone ? "the connection to PostgreSQL is lost" : "libpq failed and gives no reason";
    return pg_fail(pg, gone ? PG_GONE : trouble, "%s", said);
}

bool pg_expect(struct pg *pg, PGresult *result, ExecStatusType expected)
{
    if (result && PQresultStatus(result) == expected)
        return true;
    if (!result)
        pg_fail_by_itself(pg, PG_PASSING); /* no memory */
    else if (PQresultStatus(result) == PGRES_FATAL_ERROR || PQstatus(pg->connection) == CONNECTION_BAD)
        fail_with_result(pg, result);
    else
        pg_fail(pg, PG_OTHER, "PostgreSQL answered %s where %s was expected",
                PQresStatus(PQresultStatus(result)), PQresStatus(expected));
    PQclear(result);
    return false;
}

/* What stands before dbname can be overruled by the dsn, what stands behind it can not. */
static PGconn *connect_now(const char *dsn, const char *name)
{
    const char *const names[] = {"connect_timeout",  "keepalives_idle",  "keepalives_interval",
                                 "keepalives_count", "tcp_user_timeout", "application_name",
                                 "dbname",           "client_encoding",  NULL};
    const char *const values[] = {"10", "10", "5", "3", "20000", name, dsn, "UTF8", NULL};
    return PQconnectdbParams(names, values, 1);
}

/* Warnings are of no use to a program, and libpq would print them among the log's lines. */
static void ignore_notice(void *nothing, const char *message)
{
    (void)nothing, (void)message;
}

/* A wrong password or a missing database comes without SQLSTATE; whether it passes is for a person to say, so
 * it is tried again like a server that is away. */
bool pg_open(struct pg *pg, const char *dsn, const char *name)
{
    pg_close(pg);
    pg->connection = connect_now(dsn, name);
    if (!pg->connection)
        return pg_fail(pg, PG_PASSING, "out of memory");
    PQsetNoticeProcessor(pg->connection, ignore_notice, NULL);
    if (PQstatus(pg->connection) != CONNECTION_OK)
        pg_fail(pg, PG_GONE, "%s", PQerrorMessage(pg->connection));
    else if (PQserverVersion(pg->connection) < 150000)
        pg_fail(pg, PG_OTHER, "PostgreSQL %d is too old: 15 or later is needed",
                PQserverVersion(pg->connection) / 10000);
    else if (pg_run(pg, session_sql))
        return true;
    pg_close(pg);
    return false;
}

void pg_close(struct pg *pg)
{
    PQfinish(pg->connection);
    pg->connection = NULL;
}

bool pg_is_open(const struct pg *pg)
{
    return pg->connection && PQstatus(pg->connection) == CONNECTION_OK;
}

bool pg_run(struct pg *pg, const char *sql)
{
    PGresult *result = PQexec(pg->connection, sql);
    ExecStatusType status = PQresultStatus(result);
    ExecStatusType expected = status == PGRES_TUPLES_OK ? PGRES_TUPLES_OK : PGRES_COMMAND_OK;
    if (!pg_expect(pg, result, expected))
        return false;
    PQclear(result);
    return true;
}

bool pg_commit(struct pg *pg)
{
    PGresult *result = PQexec(pg->connection, "COMMIT");
    if (!pg_expect(pg, result, PGRES_COMMAND_OK))
        return false;
    bool yes = strcmp(PQcmdStatus(result), "COMMIT") == 0; /* of a failed transaction it says ROLLBACK */
    PQclear(result);
    return yes || pg_fail(pg, PG_OTHER, "the transaction was rolled back");
}

PGresult *pg_query(struct pg *pg, const char *sql, const char *const *parameters, int count)
{
    PGresult *result = PQexecParams(pg->connection, sql, count, NULL, parameters, NULL, NULL, 1);
    ExecStatusType status = PQresultStatus(result);
    ExecStatusType expected = status == PGRES_COMMAND_OK ? PGRES_COMMAND_OK : PGRES_TUPLES_OK;
    return pg_expect(pg, result, expected) ? result : NULL;
}

int32_t pg_int4(const PGresult *result, int row, int column)
{
    uint32_t big;
    memcpy(&big, PQgetvalue(result, row, column), sizeof big);
    return (int32_t)be32toh(big);
}

int64_t pg_int8(const PGresult *result, int row, int column)
{
    uint64_t big;
    memcpy(&big, PQgetvalue(result, row, column), sizeof big);
    return (int64_t)be64toh(big);
}

bool pg_bool(const PGresult *result, int row, int column)
{
    return *PQgetvalue(result, row, column) != 0;
}

int64_t pg_time_us(const PGresult *result, int row, int column)
{
    return pg_int8(result, row, column) + PG_EPOCH_US;
}

uint16_t pg_day(const PGresult *result, int row, int column)
{
    int64_t day = (int64_t)pg_int4(result, row, column) + PG_EPOCH_DAYS;
    return day > 0 && day <= UINT16_MAX ? (uint16_t)day : 0;
}

struct text pg_text(const PGresult *result, int row, int column)
{
    return (struct text){PQgetvalue(result, row, column), (uint32_t)PQgetlength(result, row, column)};
}

bool pg_numeric(const PGresult *result, int row, int column, decimal_t *out)
{
    return decimal_from_numeric((const uint8_t *)PQgetvalue(result, row, column),
                                (size_t)PQgetlength(result, row, column), out);
}
