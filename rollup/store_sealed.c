/* Events of sealed days: the unique index of the day's leaf says which of them are new. They are staged in a
 * temporary table, inserted with ON CONFLICT DO NOTHING, and those that did not come back are compared with
 * the row that was there first. */
#include "postgres_store_parts.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

enum answer { ANSWER_NONE, ANSWER_ACCEPTED, ANSWER_SAME, ANSWER_OTHER };

/* What is beside the event's own columns. */
#define STAGING "pg_temp.usagebox_staging"
enum { EXTRA_FIELDS = 2, SQL_BYTES = 3000 };

#define SAYS(row)                                                                                            \
    row ".kind, " row ".corrects, " row ".quantity, " row ".model, " row ".provider, " row                   \
        ".service_tier, " row ".gpu_type, " row ".agent_id, " row ".run_id, " row ".parent_run_id, " row     \
        ".user_id, " row ".operation, " row ".tool_name, " row ".context_window"
#define SAME_IDENTITY "l.customer_id = s.customer_id AND l.meter = s.meter AND l.event_id = s.event_id"

static uint8_t *put_16(uint8_t *out, uint16_t value)
{
    value = htobe16(value);
    return mempcpy(out, &value, sizeof value);
}

static uint8_t *put_32(uint8_t *out, uint32_t value)
{
    value = htobe32(value);
    return mempcpy(out, &value, sizeof value);
}

/* The event's COPY row with two more fields: where it stands in batch->sealed, and whether its time is its
 * own. */
static bool send_staged(struct postgres_store *store, const struct batch_sealed *sealed, size_t index)
{
    uint8_t head[2], tail[4 + 4 + 4 + 1];
    uint16_t fields;
    memcpy(&fields, sealed->row.bytes, sizeof fields);
    put_16(head, (uint16_t)(be16toh(fields) + EXTRA_FIELDS));
    uint8_t *end = put_32(put_32(put_32(tail, 4), (uint32_t)index), 1);
    *end = sealed->event.time_defaulted;
    return store_copy_bytes(store, head, sizeof head) &&
           store_copy_bytes(store, sealed->row.bytes + sizeof fields, sealed->row.length - sizeof fields) &&
           store_copy_bytes(store, tail, sizeof tail);
}

static bool open_staging(struct postgres_store *store)
{
    char sql[512];
    if (!pg_run(
            &store->pg,
            "CREATE TEMPORARY TABLE IF NOT EXISTS usagebox_staging (LIKE public.usage_event INCLUDING "
            "DEFAULTS INCLUDING CONSTRAINTS, ordinal integer, time_defaulted boolean) ON COMMIT DELETE ROWS"))
        return false;
    snprintf(sql, sizeof sql, "COPY " STAGING " (%s, ordinal, time_defaulted) FROM STDIN (FORMAT binary)",
             copy_columns);
    PGresult *result = PQexec(store->pg.connection, sql);
    if (!pg_expect(&store->pg, result, PGRES_COPY_IN))
        return false;
    PQclear(result);
    return store_copy_bytes(store, copy_header, COPY_HEADER_BYTES);
}

static bool stage(struct postgres_store *store, const struct batch *batch)
{
    int64_t rows;
    if (!open_staging(store))
        return false;
    store->copy_day = batch->sealed[0].day; /* a COPY is open */
    for (size_t i = 0; i < batch->sealed_count; i++)
        if (!send_staged(store, &batch->sealed[i], i))
            return false;
    return store_copy_end(store, &rows) &&
           pg_run(&store->pg,
                  "ANALYZE " STAGING); /* else the planner may scan the whole leaf for a handful */
}

/* A day whose index could not be built, for it holds duplicates, must be searched. */
static bool has_unique_index(struct postgres_store *store, const char *leaf, bool *has)
{
    PG_RESULT *result =
        pg_query(&store->pg,
                 "SELECT EXISTS (SELECT FROM pg_index i WHERE indrelid = to_regclass($1) AND indisunique "
                 "AND indisvalid AND indpred IS NULL AND (SELECT array_agg(attname::text ORDER BY attname) "
                 "FROM pg_attribute WHERE attrelid = i.indrelid AND attnum = ANY (i.indkey)) = "
                 "'{customer_id,event_id,meter}')",
                 &leaf, 1);
    if (result)
        *has = pg_bool(result, 0, 0);
    return result;
}

static bool mark(struct postgres_store *store, const PGresult *result, enum answer *answers, size_t count)
{
    for (int row = 0; row < PQntuples(result); row++) {
        int32_t index = pg_int4(result, row, 0);
        if (index < 0 || (size_t)index >= count)
            return pg_fail(&store->pg, PG_OTHER, "a staged row came back that was never sent");
        answers[index] = PQnfields(result) == 1    ? ANSWER_ACCEPTED
                         : pg_bool(result, row, 1) ? ANSWER_SAME
                                                   : ANSWER_OTHER;
    }
    return true;
}

static bool query_day(struct postgres_store *store, const char *sql, uint16_t day, enum answer *answers,
                      size_t count)
{
    char from[32];
    snprintf(from, sizeof from, "%d", day);
    PG_RESULT *result = pg_query(&store->pg, sql, (const char *[]){from}, 1);
    return result && mark(store, result, answers, count);
}

#define OF_DAY                                                                                               \
    "s.event_time >= 'epoch'::timestamptz + $1::int * interval '24 hours' AND "                              \
    "s.event_time < 'epoch'::timestamptz + ($1::int + 1) * interval '24 hours'"

static bool insert_day(struct postgres_store *store, uint16_t day, enum answer *answers, size_t count)
{
    char leaf[STORE_NAME_BYTES], sql[SQL_BYTES], only_new[400] = "";
    bool unique = false;
    store_day_name(leaf, "usage_event", day);
    if (!has_unique_index(store, leaf, &unique))
        return false;
    if (!unique)
        snprintf(only_new, sizeof only_new, " AND NOT EXISTS (SELECT FROM %s l WHERE " SAME_IDENTITY ")",
                 leaf);
    snprintf(sql, sizeof sql,
             "WITH inserted AS (INSERT INTO %s (%s) SELECT %s FROM (SELECT DISTINCT ON (customer_id, meter, "
             "event_id) * "
             "FROM " STAGING " s WHERE " OF_DAY "%s ORDER BY customer_id, meter, event_id, ordinal) new "
             "ON CONFLICT DO NOTHING RETURNING topic, kafka_partition, kafka_offset) "
             "SELECT s.ordinal FROM inserted JOIN " STAGING " s USING (topic, kafka_partition, kafka_offset)",
             leaf, copy_columns, copy_columns, only_new);
    return query_day(store, sql, day, answers, count);
}

static bool compare_day(struct postgres_store *store, uint16_t day, enum answer *answers, size_t count)
{
    char leaf[STORE_NAME_BYTES], sql[SQL_BYTES];
    store_day_name(leaf, "usage_event", day);
    snprintf(sql, sizeof sql,
             "SELECT DISTINCT ON (s.ordinal) s.ordinal, (" SAYS("l") ") = (" SAYS(
                 "s") ") AND (s.time_defaulted OR s.event_time = l.event_time) FROM " STAGING
                      " s JOIN %s l ON " SAME_IDENTITY " WHERE " OF_DAY " AND NOT (l.topic = s.topic AND "
                      "l.kafka_partition = s.kafka_partition AND l.kafka_offset = s.kafka_offset) "
                      "ORDER BY s.ordinal, l.ingested_at, l.kafka_offset",
             leaf);
    enum answer *found = calloc(count, sizeof *found);
    if (!found)
        return pg_fail(&store->pg, PG_PASSING, "out of memory");
    bool ok = query_day(store, sql, day, found, count);
    for (size_t i = 0; ok && i < count; i++)
        if (answers[i] == ANSWER_NONE)
            answers[i] = found[i];
    free(found);
    return ok;
}

/* Each day is asked about once. */
static bool ask(struct postgres_store *store, const struct batch *batch, enum answer *answers)
{
    struct day_set asked = {0};
    for (size_t i = 0; i < batch->sealed_count; i++) {
        uint16_t day = batch->sealed[i].day;
        if (day_set_add(&asked, day) &&
            !(store_need_day(store, day) && insert_day(store, day, answers, batch->sealed_count) &&
              compare_day(store, day, answers, batch->sealed_count)))
            return false;
    }
    return true;
}

static bool answer(struct postgres_store *store, struct batch *batch, const enum answer *answers)
{
    for (size_t i = 0; i < batch->sealed_count; i++) {
        if (answers[i] == ANSWER_NONE)
            return pg_fail(&store->pg, PG_OTHER,
                           "an event of a sealed day was neither inserted nor found there");
        bool ok = answers[i] == ANSWER_ACCEPTED ? batch_sealed_accepted(batch, &store->secret, i)
                                                : batch_sealed_repeated(batch, i, answers[i] == ANSWER_OTHER);
        if (!ok)
            return pg_fail(&store->pg, PG_PASSING, "out of memory");
    }
    return true;
}

bool store_write_sealed(struct postgres_store *store, struct store_job *job)
{
    struct batch *batch = job->batch;
    if (batch->sealed_count == 0)
        return true;
    enum answer *answers = calloc(batch->sealed_count, sizeof *answers);
    if (!answers)
        return pg_fail(&store->pg, PG_PASSING, "out of memory");
    bool ok = stage(store, batch) && ask(store, batch, answers);
    if (!ok)
        store_refuse(store, job);
    ok = ok && answer(store, batch, answers);
    free(answers);
    return ok;
}
