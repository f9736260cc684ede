/* Raw events of open days, by COPY BINARY straight into the day's leaf. */
#include "store_writes.h"

#include <stdio.h>
#include <stdlib.h>

enum { PIECE_BYTES = 256 << 10 }; /* what libpq is given at a time: it copies */

void store_refuse(struct store_link *link, struct store_job *job)
{
    if (link->pg.failure.trouble == PG_VALUE)
        job->status = STORE_REFUSED;
}

bool store_contested(struct store_link *link)
{
    if (strcmp(link->pg.failure.sqlstate, "23505") == 0)
        link->pg.failure.trouble = PG_PASSING;
    return false;
}

/* Begins the batch's transaction, unless streaming has done so. The batch before may be committed since: each
 * statement shall see that. */
static bool open_batch(struct store_link *link)
{
    return link->in_transaction || store_begin(link, "BEGIN ISOLATION LEVEL READ COMMITTED");
}

/* Once the batch before is committed, so that numbers rise as batches do. */
static bool number_batch(struct store_link *link)
{
    PG_RESULT *result = pg_query(&link->pg, "SELECT nextval('batch_id')", NULL, 0);
    if (result)
        link->batch_id = pg_int8(result, 0, 0);
    return result;
}

bool store_copy_bytes(struct store_link *link, const void *bytes, size_t size)
{
    for (const char *at = bytes; size > 0;) {
        size_t piece = size < PIECE_BYTES ? size : PIECE_BYTES;
        if (PQputCopyData(link->pg.connection, at, (int)piece) != 1)
            return pg_fail_by_itself(&link->pg, PG_GONE);
        at += piece;
        size -= piece;
    }
    return true;
}

static bool copy_rows(struct store_link *link, const struct row_queue *rows)
{
    for (const struct row_block *block = rows->first; block; block = block->next)
        if (!store_copy_bytes(link, block->bytes, block->size_bytes))
            return false;
    return true;
}

bool store_copy_end(struct store_link *link, int64_t *rows)
{
    link->copy_day = 0;
    if (!store_copy_bytes(link, copy_trailer, COPY_TRAILER_BYTES))
        return false;
    if (PQputCopyEnd(link->pg.connection, NULL) != 1)
        return pg_fail_by_itself(&link->pg, PG_GONE);
    PGresult *result = PQgetResult(link->pg.connection);
    bool ok = pg_expect(&link->pg, result, PGRES_COMMAND_OK);
    if (ok) {
        *rows = strtoll(PQcmdTuples(result), NULL, 10);
        PQclear(result);
    }
    for (PGresult *more; (more = PQgetResult(link->pg.connection));)
        PQclear(more);
    return ok;
}

/* A leaf that is gone was dropped by hand: it is made again when the batch is. */
static bool leaf_is_gone(struct store_link *link, uint16_t day)
{
    if (strcmp(link->pg.failure.sqlstate, "42P01") == 0) {
        day_set_remove(&link->days, day);
        link->pg.failure.trouble = PG_PASSING;
    }
    return false;
}

bool store_copy_begin(struct store_link *link, uint16_t day, uint32_t left_out)
{
    char leaf[STORE_NAME_BYTES], columns[COPY_COLUMNS_BYTES], sql[COPY_COLUMNS_BYTES + 100];
    store_day_name(leaf, "usage_event", day);
    copy_columns_without(left_out, columns);
    snprintf(sql, sizeof sql, "COPY %s (%s) FROM STDIN (FORMAT binary)", leaf, columns);
    PGresult *result = PQexec(link->pg.connection, sql);
    if (!pg_expect(&link->pg, result, PGRES_COPY_IN))
        return leaf_is_gone(link, day);
    PQclear(result);
    link->copy_day = day;
    return store_copy_bytes(link, copy_header, COPY_HEADER_BYTES);
}

bool store_stream(struct store_link *link, struct store_job *job)
{
    if (link->copy_day != job->stream_day || link->copy_batch != job->stream_batch) {
        if (link->in_transaction)
            store_rollback(link); /* another batch's, that was given up */
        if (!store_need_day(link, job->stream_day) || !open_batch(link) ||
            !store_copy_begin(link, job->stream_day, job->stream_left_out))
            return false;
        link->copy_batch = job->stream_batch;
    }
    return copy_rows(link, &job->rows);
}

/* What was counted in memory must be what arrived: rows streamed for a batch that was given up would show
 * here. */
static bool close_copy(struct store_link *link, const struct batch_day *day)
{
    int64_t rows = 0;
    if (!store_copy_end(link, &rows))
        return false;
    return (size_t)rows == day->row_count ||
           pg_fail(&link->pg, PG_PASSING, "COPY took %lld rows where the batch has %zu", (long long)rows,
                   day->row_count);
}

static bool write_day(struct store_link *link, const struct batch_day *day, bool streamed)
{
    if (day->row_count == 0 && !streamed)
        return true;
    if (!streamed && (!store_need_day(link, day->day) || !store_copy_begin(link, day->day, day->left_out)))
        return false;
    return copy_rows(link, &day->rows) && close_copy(link, day);
}

/* The day that is being streamed comes first: its COPY occupies the connection. */
static bool write_days(struct store_link *link, const struct batch *batch, uint16_t stream_day)
{
    for (int turn = 0; turn < 2; turn++)
        for (size_t i = 0; i < batch->day_count; i++) {
            const struct batch_day *day = &batch->days[i];
            bool streamed = stream_day && day->day == stream_day && day->left_out == batch->left_out;
            if (streamed == (turn == 0) && !write_day(link, day, streamed))
                return false;
        }
    return true;
}

bool store_write_rows(struct store_link *link, struct store_job *job)
{
    bool is_ours = link->copy_day == 0 || link->copy_batch == job->batch->number;
    if (link->copy_day != job->stream_day || !is_ours) {
        if (job->stream_day)
            return pg_fail(&link->pg, PG_PASSING, "the rows that were streamed are gone");
        store_rollback(link); /* a batch that was given up */
    }
    if (open_batch(link) && write_days(link, job->batch, job->stream_day))
        return number_batch(link);
    store_refuse(link, job);
    return false;
}
