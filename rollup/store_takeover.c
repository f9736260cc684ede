/* Becoming the owner of lanes: former owners' connections are ended, the epochs of all rows raised, so that
 * whatever they still try is fenced off, and the state is read in a snapshot taken after that. */
#include "postgres_store_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../consumer/system_clock.h"

/* Columns: all topics of the lanes. */
static void put_places(struct store_link *link, struct pg_columns *c, const struct store_job *job)
{
    for (uint32_t topic = 0; topic < link->store->options.topic_count; topic++)
        for (size_t i = 0; i < job->lane_count; i++) {
            pg_put_text(c, store_topic(link, topic));
            pg_put_int4(c, job->lanes[i].lane);
        }
}

#define OF_PLACES "(topic, kafka_partition) IN (SELECT * FROM unnest($1, $2))"

static PGresult *query_places(struct store_link *link, const struct store_job *job, const char *sql)
{
    struct pg_columns columns;
    pg_columns_begin(&columns, "ti");
    put_places(link, &columns, job);
    PGresult *result = pg_columns_query(&link->pg, sql, &columns);
    pg_columns_free(&columns);
    return result;
}

/* More than can have been given out between the last transaction that was kept and the failure. */
#define LOST_EPOCHS "1000000"

/* A former owner that stalls inside a transaction may hold locks on the lane's rollups for ever. One that is
 * well gave the lane up before we got it, and goes on with others: what it has open is over soon, and it is
 * left alone. */
#define FORMER_OWNER_US INT64_C(3000000)

static bool is_ours(const struct store_link *link, const struct store_backend *backend)
{
    for (size_t i = 0; i < STORE_LINKS; i++) {
        const struct store_backend *own = &link->store->links[i].backend;
        if (own->pid == backend->pid && strcmp(own->start, backend->start) == 0)
            return true;
    }
    return false;
}

/* All of them are looked at before any is waited for: they end side by side. */
static bool end_former_owners(struct store_link *link, const struct store_job *job)
{
    PG_RESULT *result =
        query_places(link, job,
                     "SELECT DISTINCT b.pid, b.start::text, coalesce(a.xact_start::text, '') FROM "
                     "consumer_offset CROSS JOIN LATERAL (VALUES (backend_pid, backend_start), "
                     "(second_backend_pid, second_backend_start)) AS b(pid, start) JOIN pg_stat_activity a "
                     "ON a.pid = b.pid AND a.backend_start = b.start WHERE " OF_PLACES);
    int64_t until_us = system_steady_us() + FORMER_OWNER_US;
    for (int row = 0; row < PQntuples(result); row++) {
        struct store_backend backend = {.pid = pg_int4(result, row, 0)};
        snprintf(backend.start, sizeof backend.start, "%s", PQgetvalue(result, row, 1));
        if (!is_ours(link, &backend))
            store_end_transaction(link, &backend, PQgetvalue(result, row, 2), until_us);
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
static void choose_epochs(struct store_link *link, struct store_job *job, const PGresult *rows)
{
    for (size_t i = 0; i < job->lane_count; i++) {
        job->lanes[i].kept = job->lanes[i].kept_epoch > 0;
        job->lanes[i].epoch = job->lanes[i].epoch_above;
    }
    for (int row = 0; row < PQntuples(rows); row++) {
        struct store_lane *lane = lane_of(job, pg_int4(rows, row, 0));
        int64_t epoch = pg_int8(rows, row, 1);
        bool ours = text_equal(pg_text(rows, row, 2), text_of(link->store->owner));
        if (epoch > lane->epoch)
            lane->epoch = epoch;
        lane->kept = lane->kept && ours && epoch == lane->kept_epoch;
    }
    for (size_t i = 0; i < job->lane_count; i++)
        job->lanes[i].epoch = job->lanes[i].kept ? job->lanes[i].kept_epoch : job->lanes[i].epoch + 1;
}

static void put_backend(struct pg_columns *columns, const struct store_backend *backend)
{
    if (backend->pid) {
        pg_put_int4(columns, backend->pid);
        pg_put_text(columns, text_of(backend->start));
    } else {
        pg_put_null(columns);
        pg_put_null(columns);
    }
}

static bool write_epochs(struct store_link *link, const struct store_job *job)
{
    static const char sql[] =
        "UPDATE consumer_offset o SET epoch = n.epoch, owner = n.owner, backend_pid = n.pid, backend_start = "
        "n.start::timestamptz, second_backend_pid = n.pid2, second_backend_start = n.start2::timestamptz, "
        "updated_at = now(), retired_at = NULL FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS n(topic, "
        "kafka_partition, epoch, owner, pid, start, pid2, start2) WHERE o.topic = n.topic AND "
        "o.kafka_partition = n.kafka_partition";
    struct pg_columns columns;
    pg_columns_begin(&columns, "tijtitit");
    for (uint32_t topic = 0; topic < link->store->options.topic_count; topic++)
        for (size_t i = 0; i < job->lane_count; i++) {
            pg_put_text(&columns, store_topic(link, topic));
            pg_put_int4(&columns, job->lanes[i].lane);
            pg_put_int8(&columns, job->lanes[i].epoch);
            pg_put_text(&columns, text_of(link->store->owner));
            for (size_t l = 0; l < STORE_LINKS; l++)
                put_backend(&columns, &link->store->links[l].backend);
        }
    bool ok = pg_columns_run(&link->pg, sql, &columns);
    pg_columns_free(&columns);
    return ok;
}

/* The first to take a lane over says how many partitions the topics have; later it is for a person to change.
 */
static bool store_partition_count(struct store_link *link, const struct store_job *job)
{
    if (job->settings.partition_count <= 0)
        return true;
    char count[16];
    snprintf(count, sizeof count, "%d", job->settings.partition_count);
    PG_RESULT *result = pg_query(
        &link->pg, "INSERT INTO setting (name, value) VALUES ('partition_count', $1) ON CONFLICT DO NOTHING",
        (const char *[]){count}, 1);
    return result;
}

/* A standby that was promoted, or a backup that was restored, lacks the last transactions, epochs among them:
 * who was given one of those may still publish flags under it. Whoever comes first to a server that these
 * tables have not met yet raises all epochs above them. */
static bool rise_above_lost_epochs(struct store_link *link)
{
    char server[64];
    snprintf(server, sizeof server, "server %" PRId64 " timeline %" PRId32,
             link->store->cluster.system_identifier, link->store->cluster.timeline);
    PG_RESULT *met = pg_query(&link->pg,
                              "WITH met AS (INSERT INTO setting (name) VALUES ($1) ON CONFLICT DO NOTHING "
                              "RETURNING name) SELECT (SELECT count(*) FROM met) > 0 AND EXISTS (SELECT FROM "
                              "setting WHERE name LIKE 'server %')",
                              (const char *[]){server}, 1);
    if (!met || !pg_bool(met, 0, 0))
        return met;
    PG_RESULT *locked = pg_query(
        &link->pg, "SELECT FROM consumer_offset ORDER BY topic, kafka_partition FOR UPDATE", NULL, 0);
    return locked && pg_run(&link->pg, "UPDATE consumer_offset SET epoch = epoch + " LOST_EPOCHS);
}

static bool raise_epochs(struct store_link *link, struct store_job *job)
{
    if (!store_begin(link, "BEGIN") || !store_partition_count(link, job) || !rise_above_lost_epochs(link))
        return false;
    PG_RESULT *made =
        query_places(link, job,
                     "INSERT INTO consumer_offset (topic, kafka_partition) SELECT * FROM unnest($1, $2) AS "
                     "p(topic, kafka_partition) ORDER BY topic COLLATE \"C\", kafka_partition ON CONFLICT "
                     "DO NOTHING");
    if (!made)
        return false;
    PG_RESULT *rows =
        query_places(link, job,
                     "SELECT kafka_partition, epoch, owner FROM consumer_offset WHERE " OF_PLACES
                     " ORDER BY topic, kafka_partition FOR UPDATE");
    if (!rows)
        return false;
    choose_epochs(link, job, rows);
    return write_epochs(link, job) && store_end(link);
}

static bool make_arenas(struct store_link *link, struct store_job *job)
{
    enum { CHUNK_BYTES = 16 << 10 };
    for (size_t i = 0; i < job->lane_count; i++) {
        struct store_lane *lane = &job->lanes[i];
        lane->arena = malloc(sizeof *lane->arena);
        if (!lane->arena)
            return pg_fail(&link->pg, PG_PASSING, "out of memory");
        arena_init(lane->arena, CHUNK_BYTES);
        lane->offsets = arena_alloc(lane->arena, link->store->options.topic_count * sizeof *lane->offsets);
        if (!lane->offsets)
            return pg_fail(&link->pg, PG_PASSING, "out of memory");
    }
    return true;
}

static void read_limit(const PGresult *rows, int row, struct store_lane_offset *offset)
{
    offset->limited = !PQgetisnull(rows, row, 10);
    if (offset->limited)
        offset->limit = pg_int8(rows, row, 10);
}

static bool read_offset(struct store_link *link, struct store_job *job, const PGresult *rows, int row)
{
    uint32_t topic;
    struct store_lane *lane = lane_of(job, pg_int4(rows, row, 1));
    if (!store_topic_index(link, pg_text(rows, row, 0), &topic))
        return true;
    if (pg_int8(rows, row, 2) != lane->epoch) {
        job->status = STORE_FENCED;
        return pg_fail(&link->pg, PG_OTHER, "lane %d was taken over by another process at once", lane->lane);
    }
    struct store_chain *chain = store_chain_of(link, topic, lane->lane);
    if (!chain)
        return pg_fail(&link->pg, PG_PASSING, "out of memory");
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

static bool read_offsets(struct store_link *link, struct store_job *job)
{
    PG_RESULT *rows =
        query_places(link, job,
                     "SELECT o.topic, o.kafka_partition, o.epoch, o.next_offset, o.last_offset, "
                     "o.last_fingerprint, o.witness_offset, o.witness_fingerprint, o.seen_through, o.chain, "
                     "CASE WHEN r.repartition_id IS NOT NULL THEN "
                     "coalesce(e.end_offset, 0) END FROM consumer_offset o LEFT JOIN repartition r ON "
                     "r.finished_at IS NULL LEFT JOIN repartition_end e ON (e.repartition_id, e.topic, "
                     "e.kafka_partition) = (r.repartition_id, o.topic, o.kafka_partition) WHERE (o.topic, "
                     "o.kafka_partition) IN (SELECT * FROM unnest($1, $2))");
    if (!rows)
        return false;
    if ((size_t)PQntuples(rows) != job->lane_count * link->store->options.topic_count)
        return pg_fail(&link->pg, PG_PASSING, "offset rows were removed while lanes were taken over");
    for (int row = 0; row < PQntuples(rows); row++)
        if (!read_offset(link, job, rows, row))
            return false;
    return true;
}

static bool read_era(struct store_link *link, struct store_job *job, const PGresult *rows, int row)
{
    uint32_t topic;
    struct store_lane *lane = lane_of(job, pg_int4(rows, row, 1));
    if (!store_topic_index(link, pg_text(rows, row, 0), &topic))
        return true;
    struct store_lane_offset *offset = &lane->offsets[topic];
    struct store_era *eras = arena_alloc(lane->arena, (offset->era_count + 1) * sizeof *eras);
    if (!eras)
        return pg_fail(&link->pg, PG_PASSING, "out of memory");
    if (offset->era_count > 0)
        memcpy(eras, offset->eras, offset->era_count * sizeof *eras);
    eras[offset->era_count++] = (struct store_era){pg_int8(rows, row, 2), pg_int4(rows, row, 3)};
    offset->eras = eras;
    return true;
}

static bool read_eras(struct store_link *link, struct store_job *job)
{
    PG_RESULT *rows = query_places(
        link, job,
        "SELECT topic, kafka_partition, end_offset, from_count FROM repartition_end JOIN repartition "
        "USING (repartition_id) WHERE finished_at IS NOT NULL AND end_offset > 0 AND " OF_PLACES
        " ORDER BY repartition_id");
    for (int row = 0; rows && row < PQntuples(rows); row++)
        if (!read_era(link, job, rows, row))
            return false;
    return rows;
}

static bool read_state(struct store_link *link, struct store_job *job)
{
    int64_t generation = 0;
    return store_begin(link, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") && read_offsets(link, job) &&
           read_eras(link, job) && store_read_settings(link, job, &generation) &&
           (generation == job->known_generation || store_read_catalogue(link, generation, &job->catalogue)) &&
           store_restore(link, job) && store_end(link);
}

bool store_takeover(struct store_link *link, struct store_job *job)
{
    bool taken = make_arenas(link, job) && end_former_owners(link, job) && raise_epochs(link, job) &&
                 read_state(link, job);
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
