/* After a failure: where do the offsets stand? Asked FOR UPDATE, which waits out a COMMIT that is still on
 * its way, over a connection that is recorded before it writes anything. */
#include "postgres_store_parts.h"

#include <stdio.h>

static PGresult *query_facts(struct postgres_store *store, const struct store_job *job, const char *sql)
{
    struct pg_columns columns;
    pg_columns_begin(&columns, "ti");
    for (size_t i = 0; i < job->fact_count; i++) {
        pg_put_text(&columns, store_topic(store, job->facts[i].topic));
        pg_put_int4(&columns, job->facts[i].partition);
    }
    PGresult *result = pg_columns_query(&store->pg, sql, &columns);
    pg_columns_free(&columns);
    return result;
}

static struct store_fact *fact_of(struct store_job *job, uint32_t topic, int32_t partition)
{
    for (size_t i = 0; i < job->fact_count; i++)
        if (job->facts[i].topic == topic && job->facts[i].partition == partition)
            return &job->facts[i];
    return NULL;
}

static bool read_fact(struct postgres_store *store, struct store_job *job, const PGresult *rows, int row)
{
    uint32_t topic;
    struct store_fact *fact = store_topic_index(store, pg_text(rows, row, 0), &topic)
                                  ? fact_of(job, topic, pg_int4(rows, row, 1))
                                  : NULL;
    if (!fact)
        return true;
    struct store_chain *chain = store_chain_of(store, topic, fact->partition);
    if (!chain)
        return pg_fail(&store->pg, PG_PASSING, "out of memory");
    fact->found = true;
    fact->epoch = pg_int8(rows, row, 2);
    fact->next_offset = pg_int8(rows, row, 3);
    memcpy(chain->committed.bytes, PQgetvalue(rows, row, 4), LEDGER_CHAIN_BYTES);
    return true;
}

static bool read_facts(struct postgres_store *store, struct store_job *job)
{
    PG_RESULT *rows =
        query_facts(store, job,
                    "SELECT topic, kafka_partition, epoch, next_offset, chain FROM consumer_offset WHERE "
                    "(topic, kafka_partition) IN (SELECT * FROM unnest($1, $2)) ORDER BY topic, "
                    "kafka_partition FOR UPDATE");
    for (size_t i = 0; i < job->fact_count; i++)
        job->facts[i].found = false;
    for (int row = 0; rows && row < PQntuples(rows); row++)
        if (!read_fact(store, job, rows, row))
            return false;
    return rows;
}

/* All rows that are ours, so that a next owner finds this connection and not the one before. */
static bool record_backend(struct postgres_store *store)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", store->backend.pid);
    PG_RESULT *result =
        pg_query(&store->pg,
                 "UPDATE consumer_offset SET backend_pid = $1::int, backend_start = $2::timestamptz "
                 "WHERE owner = $3 AND (backend_pid, backend_start) IS DISTINCT FROM ($1::int, "
                 "$2::timestamptz)",
                 (const char *[]){pid, store->backend.start, store->owner}, 3);
    return result;
}

bool store_recover(struct postgres_store *store, struct store_job *job)
{
    if (!store_connect(store) || !store_begin(store, "BEGIN") || !read_facts(store, job) ||
        !record_backend(store) || !store_end(store))
        return false;
    job->store_went_back = store->went_back;
    store->went_back = false;
    return true;
}
