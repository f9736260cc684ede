#include "offset_move.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>

#include "pg_columns.h"

static bool make_row(struct pg *pg, const struct offset_move *move, const char *partition)
{
    PG_RESULT *result = pg_query(
        pg,
        "INSERT INTO consumer_offset (topic, kafka_partition) VALUES ($1, $2::int) ON CONFLICT DO NOTHING",
        (const char *[]){move->topic, partition}, 2);
    return result;
}

/* All topics' partitions of this number are one lane, with one epoch. The batch_id comes after the lock, so
 * that the ledger's order is that of the commits. */
static bool lock_lane(struct pg *pg, const char *partition)
{
    PG_RESULT *result =
        pg_query(pg, "SELECT FROM consumer_offset WHERE kafka_partition = $1::int ORDER BY topic FOR UPDATE",
                 (const char *[]){partition}, 1);
    return result;
}

static bool read_place(struct pg *pg, struct offset_move *move, const char *partition,
                       struct ledger_chain *chain)
{
    PG_RESULT *result = pg_query(
        pg,
        "SELECT next_offset, chain, (SELECT max(epoch) + 1 FROM consumer_offset WHERE kafka_partition = "
        "$2::int), nextval('batch_id') FROM consumer_offset WHERE topic = $1 AND kafka_partition = $2::int",
        (const char *[]){move->topic, partition}, 2);
    if (!result)
        return false;
    int64_t next_offset = pg_int8(result, 0, 0);
    move->from_offset = next_offset < 0 ? 0 : next_offset;
    memcpy(chain->bytes, PQgetvalue(result, 0, 1), LEDGER_CHAIN_BYTES);
    move->epoch = pg_int8(result, 0, 2);
    move->batch_id = pg_int8(result, 0, 3);
    if (move->forward_only && move->to_offset <= move->from_offset)
        return pg_fail(pg, PG_OTHER,
                       "nothing to accept: the log begins at offset %" PRId64 ", and offset %" PRId64
                       " is next",
                       move->to_offset, move->from_offset);
    if (move->to_offset == next_offset)
        return pg_fail(pg, PG_OTHER, "offset %" PRId64 " is next already", next_offset);
    return true;
}

bool offset_move_record(struct pg *pg, const struct ledger_row *row, struct ledger_chain *chain)
{
    static const char sql[] =
        "INSERT INTO batch_ledger (batch_id, topic, kafka_partition, epoch, first_offset, next_offset, "
        "accepted, "
        "duplicate, dead, hole, gap, digest, chain, reason, actor, committed_at) "
        "SELECT b, t, p, e, f, n, 0, 0, 0, 0, g, d, c, r, a, clock_timestamp() "
        "FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS m(b, t, p, e, f, n, g, d, c, r, a)";
    const uint8_t digest[LEDGER_DIGEST_BYTES] = {0};
    struct pg_columns columns;
    *chain = ledger_chain(chain, row);
    pg_columns_begin(&columns, "jtijjjjxxtt");
    pg_put_int8(&columns, row->batch_id);
    pg_put_text(&columns, row->topic);
    pg_put_int4(&columns, row->partition);
    pg_put_int8(&columns, row->epoch);
    pg_put_int8(&columns, row->first_offset);
    pg_put_int8(&columns, row->next_offset);
    pg_put_int8(&columns, row->gap);
    pg_put_bytes(&columns, digest, sizeof digest);
    pg_put_bytes(&columns, chain->bytes, sizeof chain->bytes);
    pg_put_text(&columns, row->reason);
    pg_put_text(&columns, row->actor);
    bool written = pg_columns_run(pg, sql, &columns);
    pg_columns_free(&columns);
    return written;
}

bool offset_move_chain(struct pg *pg, const struct ledger_row *row, const struct ledger_chain *chain)
{
    static const char sql[] =
        "UPDATE consumer_offset o SET chain = n.chain FROM unnest($1, $2, $3) AS n(topic, "
        "kafka_partition, chain) "
        "WHERE o.topic = n.topic AND o.kafka_partition = n.kafka_partition";
    struct pg_columns columns;
    pg_columns_begin(&columns, "tix");
    pg_put_text(&columns, row->topic);
    pg_put_int4(&columns, row->partition);
    pg_put_bytes(&columns, chain->bytes, sizeof chain->bytes);
    bool written = pg_columns_run(pg, sql, &columns);
    pg_columns_free(&columns);
    return written;
}

static bool write_ledger(struct pg *pg, const struct offset_move *move, struct ledger_chain *chain)
{
    const struct ledger_row row = {.topic = text_of(move->topic),
                                   .partition = move->partition,
                                   .batch_id = move->batch_id,
                                   .epoch = move->epoch,
                                   .first_offset = move->from_offset,
                                   .next_offset = move->to_offset,
                                   .gap = move->to_offset - move->from_offset,
                                   .reason = text_of(move->reason),
                                   .actor = text_of(move->actor)};
    return offset_move_record(pg, &row, chain);
}

static bool write_lane(struct pg *pg, const struct offset_move *move, const char *partition,
                       const struct ledger_chain *chain)
{
    char hex[2 * LEDGER_CHAIN_BYTES + 1], epoch[24], next[24];
    sodium_bin2hex(hex, sizeof hex, chain->bytes, LEDGER_CHAIN_BYTES);
    snprintf(epoch, sizeof epoch, "%" PRId64, move->epoch);
    snprintf(next, sizeof next, "%" PRId64, move->to_offset);
    PG_RESULT *raised = pg_query(pg,
                                 "UPDATE consumer_offset SET epoch = $2::bigint, updated_at = now() "
                                 "WHERE kafka_partition = $1::int",
                                 (const char *[]){partition, epoch}, 2);
    if (!raised)
        return false;
    PG_RESULT *moved = pg_query(
        pg,
        "UPDATE consumer_offset SET next_offset = $3::bigint, last_offset = -1, "
        "last_fingerprint = 0, witness_offset = -1, witness_fingerprint = 0, chain = decode($4, 'hex') "
        "WHERE topic = $1 AND kafka_partition = $2::int",
        (const char *[]){move->topic, partition, next, hex}, 4);
    return moved;
}

/* A repartition that is under way waits for where the log ended when it was ordered; one made anew may never
 * come there. */
static bool lower_limit(struct pg *pg, const struct offset_move *move, const char *partition)
{
    char end[24];
    snprintf(end, sizeof end, "%" PRId64, move->log_end);
    PG_RESULT *result =
        pg_query(pg,
                 "UPDATE repartition_end e SET end_offset = $3::bigint FROM repartition r WHERE "
                 "r.repartition_id = e.repartition_id AND r.finished_at IS NULL AND e.topic = $1 AND "
                 "e.kafka_partition = $2::int AND e.end_offset > $3::bigint",
                 (const char *[]){move->topic, partition, end}, 3);
    return result;
}

static bool move_in_transaction(struct pg *pg, struct offset_move *move)
{
    char partition[12];
    struct ledger_chain chain;
    snprintf(partition, sizeof partition, "%" PRId32, move->partition);
    return pg_run(pg, "BEGIN") && make_row(pg, move, partition) && lock_lane(pg, partition) &&
           read_place(pg, move, partition, &chain) && write_ledger(pg, move, &chain) &&
           write_lane(pg, move, partition, &chain) && lower_limit(pg, move, partition) && pg_commit(pg);
}

bool offset_move(struct pg *pg, struct offset_move *move)
{
    if (!pg_run(pg, "SELECT usagebox_make_month((now() AT TIME ZONE 'UTC')::date)"))
        return false;
    bool moved = move_in_transaction(pg, move);
    struct pg_failure why = pg->failure;
    if (!moved && pg_is_open(pg))
        pg_run(pg, "ROLLBACK");
    pg->failure = why;
    return moved;
}
