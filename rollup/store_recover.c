/* After a failure: where do the offsets stand? Asked FOR UPDATE, which waits out a COMMIT that is still on
 * its way, over connections that are recorded before they write anything. */
#include "postgres_store_parts.h"

#include <stdio.h>

static PGresult *query_facts(struct store_link *link, const struct store_job *job, const char *sql)
{
    struct pg_columns columns;
    pg_columns_begin(&columns, "ti");
    for (size_t i = 0; i < job->fact_count; i++) {
        pg_put_text(&columns, store_topic(link, job->facts[i].topic));
        pg_put_int4(&columns, job->facts[i].partition);
    }
    PGresult *result = pg_columns_query(&link->pg, sql, &columns);
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

static bool read_fact(struct store_link *link, struct store_job *job, const PGresult *rows, int row)
{
    uint32_t topic;
    struct store_fact *fact = store_topic_index(link, pg_text(rows, row, 0), &topic)
                                  ? fact_of(job, topic, pg_int4(rows, row, 1))
                                  : NULL;
    if (!fact)
        return true;
    struct store_chain *chain = store_chain_of(link, topic, fact->partition);
    if (!chain)
        return pg_fail(&link->pg, PG_PASSING, "out of memory");
    fact->found = true;
    fact->epoch = pg_int8(rows, row, 2);
    fact->next_offset = pg_int8(rows, row, 3);
    memcpy(chain->committed.bytes, PQgetvalue(rows, row, 4), LEDGER_CHAIN_BYTES);
    return true;
}

static bool read_facts(struct store_link *link, struct store_job *job)
{
    PG_RESULT *rows =
        query_facts(link, job,
                    "SELECT topic, kafka_partition, epoch, next_offset, chain FROM consumer_offset WHERE "
                    "(topic, kafka_partition) IN (SELECT * FROM unnest($1, $2)) ORDER BY topic, "
                    "kafka_partition FOR UPDATE");
    for (size_t i = 0; i < job->fact_count; i++)
        job->facts[i].found = false;
    for (int row = 0; rows && row < PQntuples(rows); row++)
        if (!read_fact(link, job, rows, row))
            return false;
    return rows;
}

/* All rows that are ours, so that a next owner finds these connections and not those before. */
static bool record_backends(struct store_link *link)
{
    const struct store_link *links = link->store->links;
    char pids[STORE_LINKS][16];
    for (size_t i = 0; i < STORE_LINKS; i++)
        snprintf(pids[i], sizeof pids[i], "%d", links[i].backend.pid);
    PG_RESULT *result =
        pg_query(&link->pg,
                 "UPDATE consumer_offset SET backend_pid = $1::int, backend_start = $2::timestamptz, "
                 "second_backend_pid = $3::int, second_backend_start = $4::timestamptz WHERE owner = $5 AND "
                 "(backend_pid, backend_start, second_backend_pid, second_backend_start) IS DISTINCT FROM "
                 "($1::int, $2::timestamptz, $3::int, $4::timestamptz)",
                 (const char *[]){pids[0], links[0].backend.start, pids[1], links[1].backend.start,
                                  link->store->owner},
                 5);
    return result;
}

/* Nothing else is under way: batches that were given up are rolled back, and connections that have broken
 * unnoticed are found out. */
static void end_all(struct store_link *links)
{
    for (size_t i = 0; i < STORE_LINKS; i++) {
        if (links[i].in_transaction)
            store_rollback(&links[i]);
        if (pg_is_open(&links[i].pg) && !store_look_at_cluster(&links[i]))
            store_disconnect(&links[i]);
    }
}

bool store_recover(struct store_link *link, struct store_job *job)
{
    end_all(link->store->links);
    if (!store_connect(link) || !store_begin(link, "BEGIN") || !read_facts(link, job) ||
        !record_backends(link) || !store_end(link))
        return false;
    job->store_went_back = link->store->went_back;
    link->store->went_back = false;
    return true;
}
