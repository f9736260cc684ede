/* Becoming the owner of lanes: former owners' connections are ended, the epochs of all rows raised, so that
 * whatever they still try is fenced off, and the state is read in a snapshot taken after that. */
#include "postgres_store_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Columns: all topics of the lanes. */
static void put_places(struct postgres_store *store, struct pg_columns *c, const struct store_job *job)
{
    for (uint32_t topic = 0; topic < store->options.topic_count; topic++)
        for (size_t i = 0; i < job->lane_count; i++) {
            pg_put_text(c, store_topic(store, topic));
            pg_put_int4(c, job->lanes[i].lane);
        }
}

#define OF_PLACES "(topic, kafka_partition) IN (SELECT * FROM unnest($1, $2))"

static PGresult *query_places(struct postgres_store *store, const struct store_job *job, const char *sql)
{
    struct pg_columns columns;
    pg_columns_begin(&columns, "ti");
    put_places(store, &columns, job);
    PGresult *result = pg_columns_query(&store->pg, sql, &columns);
    pg_columns_free(&columns);
    return result;
}

/* More than can have been given out between the last transaction that was kept and the failure. */
#define LOST_EPOCHS "1000000"

/* A former owner that stalls inside a transaction may hold locks on the lane's rollups for ever. One that is
 * well gave the lane up before we got it, and goes on with others: what it has open is over soon, and it is
 * left alone. */
enum { FORMER_OWNER_MS = 3000 };

static bool end_former_owners(struct postgres_store *store, const struct store_job *job)
{
    PG_RESULT *result =
        query_places(store, job,
                     "SELECT DISTINCT backend_pid, backend_start::text, owner FROM consumer_offset WHERE "
                     "backend_pid IS NOT NULL AND backend_start IS NOT NULL AND " OF_PLACES);
    for (int row = 0; row < PQntuples(result); row++) {
        struct store_backend backend = {.pid = pg_int4(result, row, 0)};
        snprintf(backend.start, sizeof backend.start, "%s", PQgetvalue(result, row, 1));
        bool ours = backend.pid == store->backend.pid && strcmp(backend.start, store->backend.start) == 0;
        if (!ours)
            store_end_backend(store, &backend, FORMER_OWNER_MS);
    }
    return result;
}

static struct store_lane *lane_of(struct store_job *job, int32_t number)
{
    for (size_t i = 0; i < job->lane_count; i++)
        if (job->lanes[i].lane == number)
            return &job->lanes[i];
    return NULL;
}

/* A lane whose rows are all still ours is kept as it is; any other gets an epoch above all that were seen. */
static void choose_epochs(struct postgres_store *store, struct store_job *job, const PGresult *rows)
{
    for (size_t i = 0; i < job->lane_count; i++) {
        job->lanes[i].kept = job->lanes[i].kept_epoch > 0;
        job->lanes[i].epoch = job->lanes[i].epoch_above;
    }
    for (int row = 0; row < PQntuples(rows); row++) {
        struct store_lane *lane = lane_of(job, pg_int4(rows, row, 0));
        int64_t epoch = pg_int8(rows, row, 1);
        bool ours = text_equal(pg_text(rows, row, 2), text_of(store->owner));
        if (epoch > lane->epoch)
            lane->epoch = epoch;
        lane->kept = lane->kept && ours && epoch == lane->kept_epoch;
    }
    for (size_t i = 0; i < job->lane_count; i++)
        job->lanes[i].epoch = job->lanes[i].kept ? job->lanes[i].kept_epoch : job->lanes[i].epoch + 1;
}

static bool write_epochs(struct postgres_store *store, const struct store_job *job)
{
    static const char sql[] =
        "UPDATE consumer_offset o SET epoch = n.epoch, owner = n.owner, backend_pid = n.pid, backend_start = "
        "n.start::timestamptz, updated_at = now(), retired_at = NULL FROM unnest($1, $2, $3, $4, $5, $6) AS "
        "n(topic, "
        "kafka_partition, "
        "epoch, owner, pid, start) WHERE o.topic = n.topic AND o.kafka_partition = n.kafka_partition";
    struct pg_columns columns;
    pg_columns_begin(&columns, "tijtit");
    for (uint32_t topic = 0; topic < store->options.topic_count; topic++)
        for (size_t i = 0; i < job->lane_count; i++) {
            pg_put_text(&columns, store_topic(store, topic));
            pg_put_int4(&columns, job->lanes[i].lane);
            pg_put_int8(&columns, job->lanes[i].epoch);
            pg_put_text(&columns, text_of(store->owner));
            pg_put_int4(&columns, store->backend.pid);
            pg_put_text(&columns, text_of(store->backend.start));
        }
    bool ok = pg_columns_run(&store->pg, sql, &columns);
    pg_columns_free(&columns);
    return ok;
}

/* The first to take a lane over says how many partitions the topics have; later it is for a person to change.
 */
static bool store_partition_count(struct postgres_store *store, const struct store_job *job)
{
    if (job->settings.partition_count <= 0)
        return true;
    char count[16];
    snprintf(count, sizeof count, "%d", job->settings.partition_count);
    PG_RESULT *result = pg_query(
        &store->pg, "INSERT INTO setting (name, value) VALUES ('partition_count', $1) ON CONFLICT DO NOTHING",
        (const char *[]){count}, 1);
    return result;
}

/* A standby that was promoted, or a backup that was restored, lacks the last transactions, epochs among them:
 * who was given one of those may still publish flags under it. Whoever comes first to a server that these
 * tables have not met yet raises all epochs above them. */
static bool rise_above_lost_epochs(struct postgres_store *store)
{
    char server[64];
    snprintf(server, sizeof server, "server %" PRId64 " timeline %" PRId32, store->cluster.system_identifier,
             store->cluster.timeline);
    PG_RESULT *met = pg_query(&store->pg,
                              "WITH met AS (INSERT INTO setting (name) VALUES ($1) ON CONFLICT DO NOTHING "
                              "RETURNING name) SELECT (SELECT count(*) FROM met) > 0 AND EXISTS (SELECT FROM "
                              "setting WHERE name LIKE 'server %')",
                              (const char *[]){server}, 1);
    if (!met || !pg_bool(met, 0, 0))
        return met;
    PG_RESULT *locked = pg_query(
        &store->pg, "SELECT FROM consumer_offset ORDER BY topic, kafka_partition FOR UPDATE", NULL, 0);
    return locked && pg_run(&store->pg, "UPDATE consumer_offset SET epoch = epoch + " LOST_EPOCHS);
}

static bool raise_epochs(struct postgres_store *store, struct store_job *job)
{
    if (!store_begin(store, "BEGIN") || !store_partition_count(store, job) || !rise_above_lost_epochs(store))
        return false;
    PG_RESULT *made =
        query_places(store, job,
                     "INSERT INTO consumer_offset (topic, kafka_partition) SELECT * FROM unnest($1, $2) AS "
                     "p(topic, kafka_partition) ORDER BY topic COLLATE \"C\", kafka_partition ON CONFLICT "
                     "DO NOTHING");
    if (!made)
        return false;
    PG_RESULT *rows =
        query_places(store, job,
                     "SELECT kafka_partition, epoch, owner FROM consumer_offset WHERE " OF_PLACES
                     " ORDER BY topic, kafka_partition FOR UPDATE");
    if (!rows)
        return false;
    choose_epochs(store, job, rows);
    return write_epochs(store, job) && store_end(store);
}

static bool make_arenas(struct postgres_store *store, struct store_job *job)
{
    enum { CHUNK_BYTES = 16 << 10 };
    for (size_t i = 0; i < job->lane_count; i++) {
        struct store_lane *lane = &job->lanes[i];
        lane->arena = malloc(sizeof *lane->arena);
        if (!lane->arena)
            return pg_fail(&store->pg, PG_PASSING, "out of memory");
        arena_init(lane->arena, CHUNK_BYTES);
        lane->offsets = arena_alloc(lane->arena, store->options.topic_count * sizeof *lane->offsets);
        if (!lane->offsets)
            return pg_fail(&store->pg, PG_PASSING, "out of memory");
    }
    return true;
}

static void read_limit(const PGresult *rows, int row, struct store_lane_offset *offset)
{
    offset->limited = !PQgetisnull(rows, row, 10);
    if (offset->limited)
        offset->limit = pg_int8(rows, row, 10);
}

static bool read_offset(struct postgres_store *store, struct store_job *job, const PGresult *rows, int row)
{
    uint32_t topic;
    struct store_lane *lane = lane_of(job, pg_int4(rows, row, 1));
    if (!store_topic_index(store, pg_text(rows, row, 0), &topic))
        return true;
    if (pg_int8(rows, row, 2) != lane->epoch) {
        job->status = STORE_FENCED;
        return pg_fail(&store->pg, PG_OTHER, "lane %d was taken over by another process at once", lane->lane);
    }
    struct store_chain *chain = store_chain_of(store, topic, lane->lane);
    if (!chain)
        return pg_fail(&store->pg, PG_PASSING, "out of memory");
    memcpy(chain->committed.bytes, PQgetvalue(rows, row, 9), LEDGER_CHAIN_BYTES);
    int64_t next_offset = pg_int8(rows, row, 3);
    lane->offsets[topic] = (struct store_lane_offset){
        .topic = topic,
        .fresh = next_offset < 0,
        .next_offset = next_offset,
        .last_offset = pg_int8(rows, row, 4),
        .last_fingerprint = (uint64_t)pg_int8(rows, row, 5),
        .witness_offset = pg_int8(rows, row, 6),
        .witness_fingerprint = (uint64_t)pg_int8(rows, row, 7),
        .seen_through_us = pg_time_us(rows, row, 8),
    };
    read_limit(rows, row, &lane->offsets[topic]);
    return true;
}

static bool read_offsets(struct postgres_store *store, struct store_job *job)
{
    PG_RESULT *rows =
        query_places(store, job,
                     "SELECT o.topic, o.kafka_partition, o.epoch, o.next_offset, o.last_offset, "
                     "o.last_fingerprint, o.witness_offset, o.witness_fingerprint, o.seen_through, o.chain, "
                     "CASE WHEN r.repartition_id IS NOT NULL THEN "
                     "coalesce(e.end_offset, 0) END FROM consumer_offset o LEFT JOIN repartition r ON "
                     "r.finished_at IS NULL LEFT JOIN repartition_end e ON (e.repartition_id, e.topic, "
                     "e.kafka_partition) = (r.repartition_id, o.topic, o.kafka_partition) WHERE (o.topic, "
                     "o.kafka_partition) IN (SELECT * FROM unnest($1, $2))");
    if (!rows)
        return false;
    if ((size_t)PQntuples(rows) != job->lane_count * store->options.topic_count)
        return pg_fail(&store->pg, PG_PASSING, "offset rows were removed while lanes were taken over");
    for (int row = 0; row < PQntuples(rows); row++)
        if (!read_offset(store, job, rows, row))
            return false;
    return true;
}

static bool read_era(struct postgres_store *store, struct store_job *job, const PGresult *rows, int row)
{
    uint32_t topic;
    struct store_lane *lane = lane_of(job, pg_int4(rows, row, 1));
    if (!store_topic_index(store, pg_text(rows, row, 0), &topic))
        return true;
    struct store_lane_offset *offset = &lane->offsets[topic];
    struct store_era *eras = arena_alloc(lane->arena, (offset->era_count + 1) * sizeof *eras);
    if (!eras)
        return pg_fail(&store->pg, PG_PASSING, "out of memory");
    if (offset->era_count > 0)
        memcpy(eras, offset->eras, offset->era_count * sizeof *eras);
    eras[offset->era_count++] = (struct store_era){pg_int8(rows, row, 2), pg_int4(rows, row, 3)};
    offset->eras = eras;
    return true;
}

static bool read_eras(struct postgres_store *store, struct store_job *job)
{
    PG_RESULT *rows = query_places(
        store, job,
        "SELECT topic, kafka_partition, end_offset, from_count FROM repartition_end JOIN repartition "
        "USING (repartition_id) WHERE finished_at IS NOT NULL AND end_offset > 0 AND " OF_PLACES
        " ORDER BY repartition_id");
    for (int row = 0; rows && row < PQntuples(rows); row++)
        if (!read_era(store, job, rows, row))
            return false;
    return rows;
}

static bool read_state(struct postgres_store *store, struct store_job *job)
{
    int64_t generation = 0;
    return store_begin(store, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") &&
           read_offsets(store, job) && read_eras(store, job) &&
           store_read_settings(store, job, &generation) &&
           (generation == job->known_generation ||
            store_read_catalogue(store, generation, &job->catalogue)) &&
           store_restore(store, job) && store_end(store);
}

bool store_takeover(struct postgres_store *store, struct store_job *job)
{
    bool taken = make_arenas(store, job) && end_former_owners(store, job) && raise_epochs(store, job) &&
                 read_state(store, job);
    if (!taken) {
        former_release(job->former);
        job->former = NULL;
    }
    if (!taken && job->catalogue) {
        ceiling_catalogue_free(job->catalogue);
        job->catalogue = NULL;
    }
    return taken;
}
