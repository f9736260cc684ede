/* One transaction per batch. What locks rows that others may want comes late, the offset rows come last. */
#include "store_writes.h"

/* While PostgreSQL still takes in the last rows that were streamed. */
static void sort_rollups(const struct batch *batch)
{
    size_t count;
    accumulator_hourly(batch->accumulator, &count);
    accumulator_runs(batch->accumulator, &count);
}

static bool write_all(struct store_link *link, struct store_job *job)
{
    const struct batch *batch = job->batch;
    return store_write_rows(link, job) && store_write_sealed(link, job) && /* decides what follows */
           store_write_dead_letters(link, batch) && store_write_conflicts(link, batch) &&
           store_write_segments(link, batch) && store_write_decisions(link, batch) &&
           store_write_pending(link, batch) && store_write_learned(link, batch) &&
           store_write_names(link, batch) && store_write_rollups(link, batch) &&
           store_write_counters(link, batch) && store_write_adoptions(link, batch) &&
           store_write_ledger(link, batch) && store_write_offsets(link, job);
}

static void move_chains(struct store_link *link, const struct batch *batch)
{
    for (size_t i = 0; i < batch->partition_count; i++) {
        struct store_chain *chain =
            store_chain_of(link, batch->partitions[i].topic, batch->partitions[i].partition);
        if (chain) /* it is there since the ledger was written */
            chain->committed = chain->next;
    }
}

bool store_commit(struct store_link *link, struct store_job *job)
{
    if (job->stream_day)
        sort_rollups(job->batch);
    if (!write_all(link, job) || !store_end(link))
        return false;
    move_chains(link, job->batch);
    return true;
}
