/* Raw events of open days, by COPY BINARY straight into the day's leaf. */
#include "store_writes.h"

#include <stdio.h>
#include <stdlib.h>

enum { PIECE_BYTES = 256 << 10 }; /* what libpq is given at a time: it copies */

void store_refuse(struct postgres_store *store, struct store_job *job)
{
    if (store->pg.failure.trouble == PG_VALUE)
        job->status = STORE_REFUSED;
}

bool store_contested(struct postgres_store *store)
{
    if (strcmp(store->pg.failure.sqlstate, "23505") == 0)
        store->pg.failure.trouble = PG_PASSING;
    return false;
}

/* Begins the batch's transaction, unless streaming has done so. */
static bool open_batch(struct postgres_store *store)
{
    if (store->in_transaction)
        return true;
    if (!store_begin(store, "BEGIN"))
        return false;
    PG_RESULT *result = pg_query(&store->pg, "SELECT nextval('batch_id')", NULL, 0);
    if (result)
        store->batch_id = pg_int8(result, 0, 0);
    return result;
}

bool store_copy_bytes(struct postgres_store *store, const void *bytes, size_t size)
{
    for (const char *at = bytes; size > 0;) {
        size_t piece = size < PIECE_BYTES ? size : PIECE_BYTES;
        if (PQputCopyData(store->pg.connection, at, (int)piece) != 1)
            return pg_fail_by_itself(&store->pg, PG_GONE);
        at += piece;
        size -= piece;
    }
    return true;
}

static bool copy_rows(struct postgres_store *store, const struct row_queue *rows)
{
    for (const struct row_block *block = rows->first; block; block = block->next)
        if (!store_copy_bytes(store, block->bytes, block->size_bytes))
            return false;
    return true;
}

bool store_copy_end(struct postgres_store *store, int64_t *rows)
{
    store->copy_day = 0;
    if (!store_copy_bytes(store, copy_trailer, COPY_TRAILER_BYTES))
        return false;
    if (PQputCopyEnd(store->pg.connection, NULL) != 1)
        return pg_fail_by_itself(&store->pg, PG_GONE);
    PGresult *result = PQgetResult(store->pg.connection);
    bool ok = pg_expect(&store->pg, result, PGRES_COMMAND_OK);
    if (ok) {
        *rows = strtoll(PQcmdTuples(result), NULL, 10);
        PQclear(result);
    }
    for (PGresult *more; (more = PQgetResult(store->pg.connection));)
        PQclear(more);
    return ok;
}

/* A leaf that is gone was dropped by hand: it is made again when the batch is. */
static bool leaf_is_gone(struct postgres_store *store, uint16_t day)
{
    if (strcmp(store->pg.failure.sqlstate, "42P01") == 0) {
        day_set_remove(&store->days, day);
        store->pg.failure.trouble = PG_PASSING;
    }
    return false;
}

bool store_copy_begin(struct postgres_store *store, uint16_t day, uint32_t left_out)
{
    char leaf[STORE_NAME_BYTES], columns[COPY_COLUMNS_BYTES], sql[COPY_COLUMNS_BYTES + 100];
    store_day_name(leaf, "usage_event", day);
    copy_columns_without(left_out, columns);
    snprintf(sql, sizeof sql, "COPY %s (%s) FROM STDIN (FORMAT binary)", leaf, columns);
    PGresult *result = PQexec(store->pg.connection, sql);
    if (!pg_expect(&store->pg, result, PGRES_COPY_IN))
        return leaf_is_gone(store, day);
    PQclear(result);
    store->copy_day = day;
    return store_copy_bytes(store, copy_header, COPY_HEADER_BYTES);
}

bool store_stream(struct postgres_store *store, struct store_job *job)
{
    if (store->copy_day != job->stream_day || store->copy_batch != job->stream_batch) {
        if (store->in_transaction)
            store_rollback(store); /* another batch's, that was given up */
        if (!store_need_day(store, job->stream_day) || !open_batch(store) ||
            !store_copy_begin(store, job->stream_day, job->stream_left_out))
            return false;
        store->copy_batch = job->stream_batch;
    }
    return copy_rows(store, &job->rows);
}

/* What was counted in memory must be what arrived: rows streamed for a batch that was given up would show
 * here. */
static bool close_copy(struct postgres_store *store, const struct batch_day *day)
{
    int64_t rows = 0;
    if (!store_copy_end(store, &rows))
        return false;
    return (size_t)rows == day->row_count ||
           pg_fail(&store->pg, PG_PASSING, "COPY took %lld rows where the batch has %zu", (long long)rows,
                   day->row_count);
}

static bool write_day(struct postgres_store *store, const struct batch_day *day, bool streamed)
{
    if (day->row_count == 0 && !streamed)
        return true;
    if (!streamed && (!store_need_day(store, day->day) || !store_copy_begin(store, day->day, day->left_out)))
        return false;
    return copy_rows(store, &day->rows) && close_copy(store, day);
}

/* The day that is being streamed comes first: its COPY occupies the connection. */
static bool write_days(struct postgres_store *store, const struct batch *batch, uint16_t stream_day)
{
    for (int turn = 0; turn < 2; turn++)
        for (size_t i = 0; i < batch->day_count; i++) {
            const struct batch_day *day = &batch->days[i];
            bool streamed = stream_day && day->day == stream_day && day->left_out == batch->left_out;
            if (streamed == (turn == 0) && !write_day(store, day, streamed))
                return false;
        }
    return true;
}

bool store_write_rows(struct postgres_store *store, struct store_job *job)
{
    bool is_ours = store->copy_day == 0 || store->copy_batch == job->batch->number;
    if (store->copy_day != job->stream_day || !is_ours) {
        if (job->stream_day)
            return pg_fail(&store->pg, PG_PASSING, "the rows that were streamed are gone");
        store_rollback(store); /* a batch that was given up */
    }
    if (open_batch(store) && write_days(store, job->batch, job->stream_day))
        return true;
    store_refuse(store, job);
    return false;
}
