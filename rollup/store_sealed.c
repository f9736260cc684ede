/* Events of sealed days. The leaf's unique index is asked which of them are there already; the others go into
 * the leaf by COPY, where the index has the last word. */
#include "store_writes.h"

#include <stdio.h>
#include <stdlib.h>

enum answer { ANSWER_NONE, ANSWER_ACCEPTED, ANSWER_SAME, ANSWER_OTHER };

/* What the events of one batch turn out to be. */
struct asking {
    struct store_link *link;
    const struct batch *batch;
    enum answer *answers; /* by the index in batch->sealed */
};

static bool no_memory(struct store_link *link)
{
    return pg_fail(&link->pg, PG_PASSING, "out of memory");
}

static bool is_of(const struct asking *asking, size_t index, uint16_t day, enum answer answer)
{
    return asking->batch->sealed[index].day == day && asking->answers[index] == answer;
}

static enum answer compare(const struct event *first, const struct event *second)
{
    bool same = first->kind == second->kind && first->quantity == second->quantity &&
                (second->time_defaulted || first->time_us == second->time_us) &&
                text_equal(first->corrects, second->corrects) && text_equal(first->model, second->model);
    for (int i = 0; same && i < LIFTED_COUNT; i++)
        same = text_equal(first->lifted[i], second->lifted[i]);
    return same ? ANSWER_SAME : ANSWER_OTHER;
}

/* --- which of them are there --- */

/* A day whose index could not be built, for it holds duplicates, must be searched. */
static bool has_unique_index(struct store_link *link, const char *leaf, bool *has)
{
    PG_RESULT *result =
        pg_query(&link->pg,
                 "SELECT EXISTS (SELECT FROM pg_index i WHERE indrelid = to_regclass($1) AND indisunique "
                 "AND indisvalid AND indpred IS NULL AND (SELECT array_agg(attname::text ORDER BY attname) "
                 "FROM pg_attribute WHERE attrelid = i.indrelid AND attnum = ANY (i.indkey)) = "
                 "'{customer_id,event_id,meter}')",
                 &leaf, 1);
    if (result)
        *has = pg_bool(result, 0, 0);
    return result;
}

static void put_identities(struct pg_columns *columns, const struct asking *asking, uint16_t day)
{
    pg_columns_begin(columns, "ittt");
    for (size_t i = 0; i < asking->batch->sealed_count; i++) {
        const struct event *event = &asking->batch->sealed[i].event;
        if (!is_of(asking, i, day, ANSWER_NONE))
            continue;
        pg_put_int4(columns, (int32_t)i);
        pg_put_text(columns, event->customer_id);
        pg_put_text(columns, event->meter);
        pg_put_text(columns, event->event_id);
    }
}

#define FOUND_COLUMNS                                                                                        \
    "s.ordinal, array_position(ARRAY['usage', 'correction', 'retraction'], l.kind), l.quantity, "            \
    "l.event_time, l.corrects, l.model, l.provider, l.service_tier, l.gpu_type, l.agent_id, l.run_id, "      \
    "l.parent_run_id, l.user_id, l.operation, l.tool_name, l.context_window"
_Static_assert(EVENT_USAGE == 0 && EVENT_CORRECTION == 1 && EVENT_RETRACTION == 2,
               "as they stand in the array");
_Static_assert(LIFTED_PROVIDER == 0 && LIFTED_CONTEXT_WINDOW == 9 && LIFTED_COUNT == 10,
               "as they stand there");

static bool take_found(void *context, const PGresult *result)
{
    const struct asking *asking = context;
    int32_t index = pg_int4(result, 0, 0);
    struct event first = {.kind = (enum event_kind)(pg_int4(result, 0, 1) - 1),
                          .time_us = pg_time_us(result, 0, 3),
                          .corrects = pg_text(result, 0, 4),
                          .model = pg_text(result, 0, 5)};
    if (!pg_numeric(result, 0, 2, &first.quantity))
        return pg_fail(&asking->link->pg, PG_OTHER,
                       "usage_event holds a quantity that this program can't read");
    for (int i = 0; i < LIFTED_COUNT; i++)
        first.lifted[i] = pg_text(result, 0, 6 + i);
    asking->answers[index] = compare(&first, &asking->batch->sealed[index].event);
    return true;
}

/* One by one by the index, whatever the planner thinks of a leaf that it may know nothing about; without one,
 * all at once. */
static bool find_repeats(struct asking *asking, uint16_t day, const char *leaf)
{
    static const char same[] =
        "l.customer_id = s.customer_id AND l.meter = s.meter AND l.event_id = s.event_id";
    char join[300], sql[1200];
    bool unique = false;
    struct pg_columns columns;
    if (!has_unique_index(asking->link, leaf, &unique))
        return false;
    snprintf(join, sizeof join,
             unique ? "CROSS JOIN LATERAL (SELECT * FROM %s l WHERE %s LIMIT 1) l" : "JOIN %s l ON %s", leaf,
             same);
    snprintf(sql, sizeof sql,
             "SELECT DISTINCT ON (s.ordinal) " FOUND_COLUMNS " FROM unnest($1, $2, $3, $4) AS s (ordinal, "
             "customer_id, meter, event_id) %s ORDER BY s.ordinal, l.ingested_at, l.kafka_offset",
             join);
    put_identities(&columns, asking, day);
    bool ok = pg_columns_each(&asking->link->pg, sql, &columns, take_found, asking);
    pg_columns_free(&columns);
    return ok;
}

/* Of those that are not there, the first of each identity is new, unless it may not be. */
static bool find_new(const struct asking *asking, uint16_t day, size_t *count)
{
    struct store_link *link = asking->link;
    const struct batch_sealed *sealed = asking->batch->sealed;
    struct dedupe *firsts = dedupe_new(); /* holds where they stand instead of what they say */
    bool ok = firsts != NULL;
    for (size_t i = 0; ok && i < asking->batch->sealed_count; i++) {
        uint32_t first = 0;
        if (!is_of(asking, i, day, ANSWER_NONE) || sealed[i].otherwise)
            continue;
        struct dedupe_key key = identity_key(&link->store->secret, &sealed[i].event);
        enum dedupe_verdict verdict = dedupe_insert(firsts, key, (uint32_t)i, day);
        ok = verdict != DEDUPE_NO_MEMORY && dedupe_find(firsts, key, &first, &(uint16_t){0});
        asking->answers[i] =
            verdict == DEDUPE_NEW ? ANSWER_ACCEPTED : compare(&sealed[first].event, &sealed[i].event);
        *count += verdict == DEDUPE_NEW;
    }
    dedupe_free(firsts);
    return ok || no_memory(link);
}

/* --- those that are new --- */

/* A row on its way to the server, with others, for the kernel is asked each time. */
static bool gather(struct store_link *link, struct buffer *rows, struct text row)
{
    enum { PIECE_BYTES = 256 << 10 };
    if (!buffer_reserve(rows, row.length))
        return no_memory(link);
    memcpy(rows->bytes + rows->size_bytes, row.bytes, row.length);
    rows->size_bytes += row.length;
    if (rows->size_bytes < PIECE_BYTES)
        return true;
    bool ok = store_copy_bytes(link, rows->bytes, rows->size_bytes);
    rows->size_bytes = 0;
    return ok;
}

static bool send_new(const struct asking *asking, uint16_t day)
{
    struct buffer rows = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < asking->batch->sealed_count; i++)
        ok = !is_of(asking, i, day, ANSWER_ACCEPTED) ||
             gather(asking->link, &rows, asking->batch->sealed[i].row);
    ok = ok && store_copy_bytes(asking->link, rows.bytes, rows.size_bytes);
    buffer_free(&rows);
    return ok;
}

/* Whoever put the same event there since we looked, in another lane while it is not known how producers
 * choose partitions, is found the next time. */
static bool end_copy(struct store_link *link, size_t count)
{
    int64_t taken = 0;
    if (!store_copy_end(link, &taken))
        return store_contested(link);
    return (size_t)taken == count ||
           pg_fail(&link->pg, PG_PASSING, "COPY took %lld events of a sealed day where there are %zu",
                   (long long)taken, count);
}

static bool write_day(struct asking *asking, uint16_t day)
{
    struct store_link *link = asking->link;
    char leaf[STORE_NAME_BYTES];
    size_t count = 0;
    store_day_name(leaf, "usage_event", day);
    if (!store_need_day(link, day) || !find_repeats(asking, day, leaf) || !find_new(asking, day, &count))
        return false;
    return count == 0 || (store_copy_begin(link, day, 0) && send_new(asking, day) && end_copy(link, count));
}

/* Each day is asked about once. */
static bool write_days(struct asking *asking)
{
    struct day_set written = {0};
    for (size_t i = 0; i < asking->batch->sealed_count; i++) {
        uint16_t day = asking->batch->sealed[i].day;
        if (day_set_add(&written, day) && !write_day(asking, day))
            return false;
    }
    return true;
}

static bool tell(const struct store_link *link, struct batch *batch, size_t sealed, enum answer answer)
{
    switch (answer) {
    case ANSWER_NONE:
        return batch_sealed_refused(batch, &link->store->secret, sealed);
    case ANSWER_ACCEPTED:
        return batch_sealed_accepted(batch, &link->store->secret, sealed);
    case ANSWER_SAME:
    case ANSWER_OTHER:
        break;
    }
    return batch_sealed_repeated(batch, sealed, answer == ANSWER_OTHER);
}

static bool tell_all(struct store_link *link, struct batch *batch, const enum answer *answers)
{
    for (size_t i = 0; i < batch->sealed_count; i++)
        if (!tell(link, batch, i, answers[i]))
            return no_memory(link);
    return true;
}

bool store_write_sealed(struct store_link *link, struct store_job *job)
{
    struct batch *batch = job->batch;
    if (batch->sealed_count == 0)
        return true;
    struct asking asking = {link, batch, calloc(batch->sealed_count, sizeof *asking.answers)};
    if (!asking.answers)
        return no_memory(link);
    bool ok = write_days(&asking);
    if (!ok)
        store_refuse(link, job);
    ok = ok && tell_all(link, batch, asking.answers);
    free(asking.answers);
    return ok;
}
