/* Ledger and offset rows: what a transaction writes last. */
#include "store_writes.h"

#include <inttypes.h>
#include <stdlib.h>

struct store_chain *store_chain_of(struct store_link *link, uint32_t topic, int32_t partition)
{
    for (size_t i = 0; i < link->store->chain_count; i++)
        if (link->store->chains[i].topic == topic && link->store->chains[i].partition == partition)
            return &link->store->chains[i];
    if (link->store->chain_count == link->store->chain_capacity) {
        size_t capacity = link->store->chain_capacity * 2 + 16;
        struct store_chain *grown = realloc(link->store->chains, capacity * sizeof *grown);
        if (!grown)
            return NULL;
        link->store->chains = grown;
        link->store->chain_capacity = capacity;
    }
    struct store_chain *chain = &link->store->chains[link->store->chain_count++];
    *chain = (struct store_chain){.topic = topic, .partition = partition};
    return chain;
}

static struct ledger_row row_of(const struct store_link *link, const struct batch_partition *part)
{
    return (struct ledger_row){
        .topic = store_topic(link, part->topic),
        .partition = part->partition,
        .batch_id = link->batch_id,
        .epoch = part->epoch,
        .first_offset = part->first_offset < 0 ? 0 : part->first_offset, /* -1: there was no row */
        .next_offset = part->next_offset,
        .accepted = part->accepted,
        .duplicate = part->duplicate,
        .dead = part->dead,
        .hole = part->hole,
        .gap = part->gap,
        .digest = part->digest,
        .reason =
            part->gap > 0 ? TEXT("the log began behind these offsets when it was first read") : TEXT(""),
        .actor = TEXT(""),
    };
}

static void put_ledger(struct pg_columns *c, const struct ledger_row *row, const struct ledger_chain *chain)
{
    uint8_t digest[LEDGER_DIGEST_BYTES];
    ledger_digest_bytes(row->digest, digest);
    pg_put_int8(c, row->batch_id);
    pg_put_text(c, row->topic);
    pg_put_int4(c, row->partition);
    pg_put_int8(c, row->epoch);
    pg_put_int8(c, row->first_offset);
    pg_put_int8(c, row->next_offset);
    pg_put_int8(c, row->accepted);
    pg_put_int8(c, row->duplicate);
    pg_put_int8(c, row->dead);
    pg_put_int8(c, row->hole);
    pg_put_int8(c, row->gap);
    pg_put_bytes(c, digest, sizeof digest);
    pg_put_bytes(c, chain->bytes, sizeof chain->bytes);
    pg_put_text(c, row->reason);
    pg_put_text(c, row->actor);
}

/* Offsets that are not accounted for must not be committed. */
static bool adds_up(const struct ledger_row *row)
{
    return row->next_offset >= row->first_offset &&
           row->next_offset - row->first_offset ==
               row->accepted + row->duplicate + row->dead + row->hole + row->gap;
}

static bool add_row(struct store_link *link, const struct batch_partition *part, struct pg_columns *columns)
{
    struct store_chain *chain = store_chain_of(link, part->topic, part->partition);
    if (!chain)
        return pg_fail(&link->pg, PG_PASSING, "out of memory");
    struct ledger_row row = row_of(link, part);
    chain->next = chain->committed;
    if (!adds_up(&row))
        return pg_fail(&link->pg, PG_OTHER,
                       "offsets %" PRId64 " to %" PRId64
                       " of partition %d are not all accounted for: %" PRId64 " accepted, %" PRId64
                       " duplicate, %" PRId64 " dead, %" PRId64 " hole, %" PRId64 " gap",
                       row.first_offset, row.next_offset, row.partition, row.accepted, row.duplicate,
                       row.dead, row.hole, row.gap);
    if (row.first_offset == row.next_offset)
        return true;
    chain->next = ledger_chain(&chain->committed, &row);
    put_ledger(columns, &row, &chain->next);
    return true;
}

/* The month's partition is made ahead; should it be missing all the same, it is made for the next try. */
static bool month_is_missing(struct store_link *link)
{
    struct pg_failure why = link->pg.failure;
    if (strcmp(why.sqlstate, "23514") == 0 && !*why.constraint && store_make_partitions(link)) {
        link->pg.failure = why;
        link->pg.failure.trouble = PG_PASSING;
    }
    return false;
}

/* The time of now, not of when the transaction began: that of the next batch may have begun before. */
bool store_write_ledger(struct store_link *link, const struct batch *batch)
{
    static const char sql[] =
        "INSERT INTO batch_ledger (batch_id, topic, kafka_partition, epoch, first_offset, next_offset, "
        "accepted, duplicate, dead, hole, gap, digest, chain, reason, actor, committed_at) SELECT *, (SELECT "
        "clock_timestamp()) FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
    struct pg_columns columns;
    pg_columns_begin(&columns, "jtijjjjjjjjxxtt");
    bool ok = true;
    for (size_t i = 0; ok && i < batch->partition_count; i++)
        ok = add_row(link, &batch->partitions[i], &columns);
    if (ok && !pg_columns_run(&link->pg, sql, &columns))
        ok = month_is_missing(link);
    pg_columns_free(&columns);
    return ok;
}

static void put_offset(struct store_link *link, struct pg_columns *c, const struct batch_partition *part)
{
    const struct store_chain *chain = store_chain_of(link, part->topic, part->partition);
    pg_put_text(c, store_topic(link, part->topic));
    pg_put_int4(c, part->partition);
    pg_put_int8(c, part->epoch);
    pg_put_int8(c, part->first_offset);
    pg_put_int8(c, part->next_offset);
    pg_put_int8(c, part->last_offset);
    pg_put_int8(c, (int64_t)part->last_fingerprint);
    pg_put_int8(c, part->witness_offset);
    pg_put_int8(c, (int64_t)part->witness_fingerprint);
    pg_put_time(c, part->seen_through_us);
    pg_put_bytes(c, chain->next.bytes, sizeof chain->next.bytes);
}

static bool was_updated(const PGresult *result, struct text topic, int32_t partition)
{
    for (int row = 0; row < PQntuples(result); row++)
        if (pg_int4(result, row, 1) == partition && text_equal(pg_text(result, row, 0), topic))
            return true;
    return false;
}

static void add_fenced(struct store_job *job, int32_t lane)
{
    for (size_t i = 0; i < job->fenced_count; i++)
        if (job->fenced_lanes[i] == lane)
            return;
    job->fenced_lanes[job->fenced_count++] = lane;
}

/* Whoever raised an epoch, or moved an offset, has fenced us off. */
static bool name_fenced(struct store_link *link, struct store_job *job, const PGresult *result)
{
    const struct batch *batch = job->batch;
    job->fenced_count = 0;
    job->fenced_lanes = calloc(batch->partition_count, sizeof *job->fenced_lanes);
    if (!job->fenced_lanes)
        return pg_fail(&link->pg, PG_PASSING, "out of memory");
    for (size_t i = 0; i < batch->partition_count; i++) {
        const struct batch_partition *part = &batch->partitions[i];
        if (!was_updated(result, store_topic(link, part->topic), part->partition))
            add_fenced(job, part->partition);
    }
    job->status = STORE_FENCED;
    return pg_fail(&link->pg, PG_OTHER, "another process has taken over %zu of the batch's lanes",
                   job->fenced_count);
}

bool store_write_offsets(struct store_link *link, struct store_job *job)
{
    static const char sql[] =
        "UPDATE consumer_offset o SET next_offset = b.next_offset, last_offset = b.last_offset, "
        "last_fingerprint = b.last_fingerprint, witness_offset = b.witness_offset, witness_fingerprint = "
        "b.witness_fingerprint, seen_through = greatest(o.seen_through, b.seen_through), chain = b.chain, "
        "updated_at = clock_timestamp() FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS "
        "b(topic, "
        "kafka_partition, epoch, first_offset, next_offset, last_offset, last_fingerprint, witness_offset, "
        "witness_fingerprint, seen_through, chain) WHERE o.topic = b.topic AND "
        "o.kafka_partition = b.kafka_partition AND o.epoch = b.epoch AND o.next_offset = b.first_offset "
        "RETURNING o.topic, o.kafka_partition";
    const struct batch *batch = job->batch;
    if (batch->partition_count == 0)
        return true;
    struct pg_columns columns;
    pg_columns_begin(&columns, "tijjjjjjjzx");
    for (size_t i = 0; i < batch->partition_count; i++)
        put_offset(link, &columns, &batch->partitions[i]);
    PG_RESULT *result = pg_columns_query(&link->pg, sql, &columns);
    pg_columns_free(&columns);
    if (!result)
        return false;
    if ((size_t)PQntuples(result) == batch->partition_count)
        return true;
    return name_fenced(link, job, result);
}
