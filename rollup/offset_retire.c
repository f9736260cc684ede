#include "offset_retire.h"

#include <inttypes.h>
#include <stdio.h>

#include "offset_move.h"

/* Whoever reads a partition writes its row every second, whether there is something to read or not. */
#define READ_LATELY "updated_at > now() - interval '15 seconds' AND owner <> ''"

enum { COLUMN_PARTITION, COLUMN_NEXT, COLUMN_CHAIN, COLUMN_EPOCH, COLUMN_READ, COLUMN_OWNER };

static PGresult *lock_rows(struct pg *pg, const char *topic)
{
    return pg_query(pg,
                    "SELECT kafka_partition, next_offset, chain, epoch + 1, " READ_LATELY
                    ", owner FROM consumer_offset "
                    "WHERE topic = $1 AND retired_at IS NULL ORDER BY kafka_partition FOR UPDATE",
                    (const char *[]){topic}, 1);
}

static bool may_retire(struct pg *pg, const char *topic, const PGresult *rows)
{
    if (PQntuples(rows) == 0)
        return pg_fail(pg, PG_OTHER,
                       "nothing to retire: no partition of topic %s was read, or all are set aside", topic);
    for (int row = 0; row < PQntuples(rows); row++)
        if (pg_bool(rows, row, COLUMN_READ))
            return pg_fail(pg, PG_OTHER,
                           "%s/%" PRId32 " was read by %s within the last 15 s: take the topic out of "
                           "kafka.usage_topics of all processes first",
                           topic, pg_int4(rows, row, COLUMN_PARTITION), PQgetvalue(rows, row, COLUMN_OWNER));
    return true;
}

static bool next_batch_id(struct pg *pg, int64_t *batch_id)
{
    PG_RESULT *result = pg_query(pg, "SELECT nextval('batch_id')", NULL, 0);
    if (result)
        *batch_id = pg_int8(result, 0, 0);
    return result;
}

/* The epoch rises: a process that slept and wakes up with the topic in its configuration is fenced, and takes
 * the lane over as one that counts. */
static bool retire_partition(struct pg *pg, const struct offset_retire *retire, const PGresult *rows, int row)
{
    struct ledger_chain chain;
    int64_t next_offset = pg_int8(rows, row, COLUMN_NEXT);
    if (next_offset < 0)
        return true; /* nothing was ever read: nothing to account for */
    struct ledger_row record = {.topic = text_of(retire->topic),
                                .partition = pg_int4(rows, row, COLUMN_PARTITION),
                                .epoch = pg_int8(rows, row, COLUMN_EPOCH),
                                .first_offset = next_offset,
                                .next_offset = next_offset,
                                .reason = text_of(retire->reason),
                                .actor = text_of(retire->actor)};
    memcpy(chain.bytes, PQgetvalue(rows, row, COLUMN_CHAIN), LEDGER_CHAIN_BYTES);
    return next_batch_id(pg, &record.batch_id) && offset_move_record(pg, &record, &chain) &&
           offset_move_chain(pg, &record, &chain);
}

static bool mark(struct pg *pg, struct offset_retire *retire)
{
    PG_RESULT *marked = pg_query(pg,
                                 "UPDATE consumer_offset SET retired_at = now(), epoch = epoch + 1 WHERE "
                                 "topic = $1 AND retired_at IS NULL",
                                 (const char *[]){retire->topic}, 1);
    return marked;
}

static bool retire_in_transaction(struct pg *pg, struct offset_retire *retire)
{
    if (!pg_run(pg, "BEGIN"))
        return false;
    PG_RESULT *rows = lock_rows(pg, retire->topic);
    if (!rows || !may_retire(pg, retire->topic, rows))
        return false;
    for (int row = 0; row < PQntuples(rows); row++)
        if (!retire_partition(pg, retire, rows, row))
            return false;
    retire->partitions = PQntuples(rows);
    return mark(pg, retire) && pg_commit(pg);
}

bool offset_retire(struct pg *pg, struct offset_retire *retire)
{
    if (!pg_run(pg, "SELECT usagebox_make_month((now() AT TIME ZONE 'UTC')::date)"))
        return false;
    bool retired = retire_in_transaction(pg, retire);
    struct pg_failure why = pg->failure;
    if (!retired && pg_is_open(pg))
        pg_run(pg, "ROLLBACK");
    pg->failure = why;
    return retired;
}
