/* Preloaded into usagebox: one call of libpq or librdkafka fails, as if the connection was lost before it or
 * after it, or as if the library had no memory. By environment: FAILING names what counts (a beginning of
 * names, such as PQ), FAILING_AT which of these calls fails, FAILING_HOW how (before, after, memory),
 * FAILING_REPORT a file that holds, in the end, how many calls there were and which one failed. */
#include <dlfcn.h>
#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "producev.h"

enum how { BEFORE, AFTER, MEMORY };

static atomic_int calls;
static int fails_at;
static enum how how;
static const char *counted = "", *failed = "none";
static _Thread_local int inside;

__attribute__((constructor)) static void begin(void)
{
    const char *at = getenv("FAILING_AT"), *way = getenv("FAILING_HOW"), *names = getenv("FAILING");
    fails_at = at ? atoi(at) : 0;
    how = !way || strcmp(way, "memory") == 0 ? MEMORY : strcmp(way, "after") == 0 ? AFTER : BEFORE;
    counted = names ? names : "";
}

__attribute__((destructor)) static void report(void)
{
    const char *path = getenv("FAILING_REPORT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file)
        fprintf(file, "%d %s\n", atomic_load(&calls), failed);
    if (file)
        fclose(file);
}

static bool strikes(const char *name)
{
    if (inside > 0 || strncmp(name, counted, strlen(counted)) != 0 ||
        atomic_fetch_add(&calls, 1) + 1 != fails_at)
        return false;
    failed = name;
    return true;
}

/* The library's own, and what that calls in turn is not ours to let fail. */
#define REAL(name, ...)                                                                                      \
    ({                                                                                                       \
        __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                 \
        inside++;                                                                                            \
        __typeof__(name(__VA_ARGS__)) result = real(__VA_ARGS__);                                            \
        inside--;                                                                                            \
        result;                                                                                              \
    })

/* --- libpq --- */

static void cut(PGconn *connection)
{
    if (connection)
        shutdown(PQsocket(connection), SHUT_RDWR);
}

/* What a call that gives a result gives: `call` done, nothing of it heard, or not even tried. */
#define RESULT(connection, call)                                                                             \
    if (!strikes(__func__))                                                                                  \
        return call;                                                                                         \
    if (how == MEMORY)                                                                                       \
        return NULL;                                                                                         \
    if (how == AFTER)                                                                                        \
        PQclear(call);                                                                                       \
    cut(connection);                                                                                         \
    return call

PGconn *PQconnectdbParams(const char *const *names, const char *const *values, int expand)
{
    if (!strikes(__func__))
        return REAL(PQconnectdbParams, names, values, expand);
    if (how == MEMORY)
        return NULL;
    if (how == BEFORE)
        return PQconnectdb("host=127.0.0.1 port=1");
    PGconn *connection = REAL(PQconnectdbParams, names, values, expand);
    cut(connection);
    return connection;
}

PGresult *PQexec(PGconn *connection, const char *sql)
{
    RESULT(connection, REAL(PQexec, connection, sql));
}

PGresult *PQexecParams(PGconn *connection, const char *sql, int count, const Oid *types,
                       const char *const *values, const int *lengths, const int *formats, int format)
{
    RESULT(connection, REAL(PQexecParams, connection, sql, count, types, values, lengths, formats, format));
}

PGresult *PQgetResult(PGconn *connection)
{
    if (!strikes(__func__))
        return REAL(PQgetResult, connection);
    if (how == MEMORY)
        return PQmakeEmptyPGresult(connection, PGRES_FATAL_ERROR);
    if (how == AFTER)
        PQclear(REAL(PQgetResult, connection));
    cut(connection);
    return REAL(PQgetResult, connection);
}

int PQsendQueryParams(PGconn *connection, const char *sql, int count, const Oid *types,
                      const char *const *values, const int *lengths, const int *formats, int format)
{
    bool fails = strikes(__func__);
    if (fails && how == MEMORY)
        return 0;
    if (fails && how == BEFORE)
        cut(connection);
    int sent = REAL(PQsendQueryParams, connection, sql, count, types, values, lengths, formats, format);
    if (fails)
        cut(connection);
    return sent;
}

int PQsetSingleRowMode(PGconn *connection)
{
    return strikes(__func__) ? 0 : REAL(PQsetSingleRowMode, connection);
}

int PQgetCopyData(PGconn *connection, char **bytes, int async)
{
    if (!strikes(__func__))
        return REAL(PQgetCopyData, connection, bytes, async);
    *bytes = NULL;
    if (how != MEMORY)
        cut(connection);
    return how == MEMORY ? -2 : REAL(PQgetCopyData, connection, bytes, async);
}

PQconninfoOption *PQconninfoParse(const char *dsn, char **error)
{
    if (!strikes(__func__))
        return REAL(PQconninfoParse, dsn, error);
    if (error)
        *error = NULL;
    return NULL;
}

/* --- librdkafka --- */

/* The call `name` with these parameters, or `failure`. */
#define UNPACK(...) __VA_ARGS__
#define MAY_FAIL(type, name, failure, parameters, arguments)                                                 \
    type name parameters                                                                                     \
    {                                                                                                        \
        return strikes(#name) ? (failure) : REAL(name, UNPACK arguments);                                    \
    }

#include "failing_kafka_calls.h"
MAY_FAIL(rd_kafka_resp_err_t, rd_kafka_offsets_for_times, RD_KAFKA_RESP_ERR__TIMED_OUT,
         (rd_kafka_t * handle, rd_kafka_topic_partition_list_t *offsets, int timeout_ms),
         (handle, offsets, timeout_ms))
MAY_FAIL(rd_kafka_resp_err_t, rd_kafka_header_add, RD_KAFKA_RESP_ERR__FAIL,
         (rd_kafka_headers_t * headers, const char *name, ssize_t name_size, const void *value, ssize_t size),
         (headers, name, name_size, value, size))
MAY_FAIL(rd_kafka_conf_res_t, rd_kafka_conf_set, (snprintf(error, size, "on purpose"), RD_KAFKA_CONF_INVALID),
         (rd_kafka_conf_t * conf, const char *name, const char *value, char *error, size_t size),
         (conf, name, value, error, size))

rd_kafka_resp_err_t rd_kafka_producev(rd_kafka_t *handle, ...)
{
    va_list arguments;
    if (strikes(__func__))
        return RD_KAFKA_RESP_ERR__FAIL;
    va_start(arguments, handle);
    rd_kafka_resp_err_t code = producev_listed(handle, arguments);
    va_end(arguments);
    return code;
}
