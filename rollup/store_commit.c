/* One transaction per batch. What locks rows that others may want comes late, the offset rows come last. */
#include "store_writes.h"

/* While PostgreSQL still takes in the last rows that were streamed. */
static void sort_rollups(const struct batch *batch)
{
    size_t count;
    accumulator_hourly(batch->accumulator, &count);
    accumulator_runs(batch->accumulator, &count);
}

static bool write_all(struct postgres_store *store, struct store_job *job)
{
    const struct batch *batch = job->batch;
    return store_write_rows(store, job) && store_write_sealed(store, job) && /* decides what follows */
           store_write_dead_letters(store, batch) && store_write_conflicts(store, batch) &&
           store_write_segments(store, batch) && store_write_decisions(store, batch) &&
           store_write_pending(store, batch) && store_write_learned(store, batch) &&
           store_write_names(store, batch) && store_write_rollups(store, batch) &&
           store_write_counters(store, batch) && store_write_adoptions(store, batch) &&
           store_write_ledger(store, batch) && store_write_offsets(store, job);
}

static void move_chains(struct postgres_store *store, const struct batch *batch)
{
    for (size_t i = 0; i < batch->partition_count; i++) {
        struct store_chain *chain =
            store_chain_of(store, batch->partitions[i].topic, batch->partitions[i].partition);
        if (chain) /* it is there since the ledger was written */
            chain->committed = chain->next;
    }
}

bool store_commit(struct postgres_store *store, struct store_job *job)
{
    if (job->stream_day)
        sort_rollups(job->batch);
    if (!write_all(store, job) || !store_end(store))
        return false;
    move_chains(store, job->batch);
    return true;
}
