#include "follow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "pg_columns.h"

/* How far back before a leaf's former end rows may lie that are committed now, in blocks of 8 KiB: at first,
 * where usage of now goes; where late events go; and if some are still missing, for a long transaction wrote
 * them. */
enum {
    NEAR_BLOCKS = 1024,
    COLD_BLOCKS = 8,
    FAR_BLOCKS = 65536,
    HOT_POLLS = 300,
    TIME_BYTES = 40,
    NAME_BYTES = 64
};

struct place {
    char *topic;
    int32_t partition;
    int64_t batch_id; /* the last one told of */
};

struct leaf {
    char name[NAME_BYTES];
    int64_t blocks;       /* its size when it was looked at last */
    int hot_polls;        /* for so many more calls rows are expected in it */
    int64_t scanned_from; /* this call: the first block that was read; INT64_MAX: none */
};

struct range { /* of offsets that were committed */
    size_t place;
    int64_t first, next;
};

struct follow {
    struct pg *pg;
    char since[TIME_BYTES]; /* no batch of interest began before */
    struct place *places;
    size_t place_count;
    struct leaf *leaves;
    size_t leaf_count;
    struct range *ranges; /* of this call */
    size_t range_count;
    int64_t expected, found;
    const struct follow_calls *calls;
};

static bool no_memory(struct follow *follow)
{
    return pg_fail(follow->pg, PG_PASSING, "out of memory");
}

static void *grown(void *items, size_t count, size_t size)
{
    return (count & (count - 1)) == 0 ? reallocarray(items, count ? 2 * count : 1, size) : items;
}

/* --- what was committed --- */

static bool place_of(struct follow *follow, struct text topic, int32_t partition, size_t *index)
{
    for (*index = 0; *index < follow->place_count; ++*index) {
        const struct place *place = &follow->places[*index];
        if (place->partition == partition && text_equal(text_of(place->topic), topic))
            return true;
    }
    struct place *places = grown(follow->places, follow->place_count, sizeof *places);
    if (!places)
        return no_memory(follow);
    follow->places = places;
    places[*index] = (struct place){.topic = strndup(topic.bytes, topic.length), .partition = partition};
    if (!places[*index].topic)
        return no_memory(follow);
    follow->place_count++;
    return true;
}

static void put_places(const struct follow *follow, struct pg_columns *columns)
{
    pg_columns_begin(columns, "tij");
    for (size_t i = 0; i < follow->place_count; i++) {
        pg_put_text(columns, text_of(follow->places[i].topic));
        pg_put_int4(columns, follow->places[i].partition);
        pg_put_int8(columns, follow->places[i].batch_id);
    }
}

static bool add_range(struct follow *follow, const PGresult *result, int row)
{
    struct range *ranges = grown(follow->ranges, follow->range_count, sizeof *ranges);
    if (!ranges)
        return no_memory(follow);
    follow->ranges = ranges;
    struct range *range = &ranges[follow->range_count];
    if (!place_of(follow, pg_text(result, row, 0), pg_int4(result, row, 1), &range->place))
        return false;
    range->first = pg_int8(result, row, 3);
    range->next = pg_int8(result, row, 4);
    follow->expected += pg_int8(result, row, 5);
    follow->range_count++;
    return true;
}

/* By the ledger's primary key, a few probes for each partition. $1 to $3: the places and their last batches.
 */
static PGresult *read_ledger(struct follow *follow)
{
    char sql[800];
    struct pg_columns columns;
    snprintf(
        sql, sizeof sql,
        "SELECT o.topic, o.kafka_partition, l.batch_id, l.first_offset, l.next_offset, l.accepted FROM "
        "consumer_offset o LEFT JOIN unnest($1, $2, $3) AS k(topic, kafka_partition, batch_id) USING (topic, "
        "kafka_partition) CROSS JOIN LATERAL (SELECT * FROM batch_ledger b WHERE b.topic = o.topic AND "
        "b.kafka_partition = o.kafka_partition AND b.batch_id > coalesce(k.batch_id, 0) AND b.committed_at > "
        "'%s') l ORDER BY l.batch_id",
        follow->since);
    put_places(follow, &columns);
    PGresult *result = pg_columns_query(follow->pg, sql, &columns);
    pg_columns_free(&columns);
    return result;
}

static bool take_ranges(struct follow *follow, const PGresult *result)
{
    follow->range_count = 0;
    follow->expected = follow->found = 0;
    for (int row = 0; row < PQntuples(result); row++)
        if (!add_range(follow, result, row))
            return false;
    return true;
}

/* Only once they were told of: a call that fails is made again. */
static bool move_on(struct follow *follow, const PGresult *result)
{
    for (int row = 0; row < PQntuples(result); row++) {
        size_t place;
        if (!place_of(follow, pg_text(result, row, 0), pg_int4(result, row, 1), &place))
            return false;
        follow->places[place].batch_id = pg_int8(result, row, 2);
    }
    return true;
}

/* --- leaves --- */

static struct leaf *leaf_of(struct follow *follow, const char *name)
{
    for (size_t i = 0; i < follow->leaf_count; i++)
        if (strcmp(follow->leaves[i].name, name) == 0)
            return &follow->leaves[i];
    struct leaf *leaves = grown(follow->leaves, follow->leaf_count, sizeof *leaves);
    if (!leaves)
        return NULL;
    follow->leaves = leaves;
    struct leaf *leaf = &leaves[follow->leaf_count++];
    *leaf = (struct leaf){.blocks = 0};
    snprintf(leaf->name, sizeof leaf->name, "%s", name);
    return leaf;
}

/* Yesterday's, today's and tomorrow's are where usage of now goes. */
static PGresult *list_leaves(struct follow *follow)
{
    return pg_query(
        follow->pg,
        "SELECT c.relname::text, pg_relation_size(c.oid) / current_setting('block_size')::int, "
        "abs(to_date(right(c.relname, 8), 'YYYYMMDD') - (now() AT TIME ZONE 'UTC')::date) <= 1 FROM "
        "pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = "
        "'usage_event'::regclass AND c.relname ~ '^usage_event_[0-9]{8}$'",
        NULL, 0);
}

static bool begin_leaves(struct follow *follow, const PGresult *result)
{
    for (int row = 0; row < PQntuples(result); row++) {
        struct leaf *leaf = leaf_of(follow, PQgetvalue(result, row, 0));
        if (!leaf)
            return no_memory(follow);
        if (pg_bool(result, row, 2))
            leaf->hot_polls = HOT_POLLS;
        leaf->scanned_from = INT64_MAX;
    }
    return true;
}

static void end_leaves(struct follow *follow, const PGresult *result)
{
    for (int row = 0; row < PQntuples(result); row++) {
        struct leaf *leaf = leaf_of(follow, PQgetvalue(result, row, 0));
        leaf->blocks = pg_int8(result, row, 1); /* as it was before it was read */
        leaf->hot_polls -= leaf->hot_polls > 0;
    }
}

/* --- events --- */

static bool tell(void *context, const PGresult *result)
{
    struct follow *follow = context;
    const struct followed_event event = {.customer_id = pg_text(result, 0, 0),
                                         .event_id = pg_text(result, 0, 1),
                                         .meter = pg_text(result, 0, 2),
                                         .model = pg_text(result, 0, 3),
                                         .kind = pg_text(result, 0, 4),
                                         .corrects = pg_text(result, 0, 5),
                                         .quantity = pg_text(result, 0, 6),
                                         .event_time_us = pg_time_us(result, 0, 7),
                                         .ingested_at_us = pg_time_us(result, 0, 8),
                                         .topic = pg_text(result, 0, 9),
                                         .partition = pg_int4(result, 0, 10),
                                         .offset = pg_int8(result, 0, 11)};
    follow->found++;
    follow->calls->event(follow->calls->context, &event);
    return true;
}

static void put_ranges(const struct follow *follow, struct pg_columns *columns)
{
    pg_columns_begin(columns, "tijj");
    for (size_t i = 0; i < follow->range_count; i++) {
        const struct range *range = &follow->ranges[i];
        pg_put_text(columns, text_of(follow->places[range->place].topic));
        pg_put_int4(columns, follow->places[range->place].partition);
        pg_put_int8(columns, range->first);
        pg_put_int8(columns, range->next);
    }
}

/* A leaf's blocks from so many before its former end on, those left out that this call has read. */
static bool scan(struct follow *follow, struct leaf *leaf, int64_t back_blocks)
{
    char sql[1000], until[64] = "";
    int64_t from = leaf->blocks > back_blocks ? leaf->blocks - back_blocks : 0;
    int64_t found = follow->found;
    struct pg_columns columns;
    if (from >= leaf->scanned_from)
        return true;
    if (leaf->scanned_from != INT64_MAX)
        snprintf(until, sizeof until, " AND u.ctid < '(%" PRId64 ",0)'", leaf->scanned_from);
    snprintf(sql, sizeof sql,
             "SELECT u.customer_id, u.event_id, u.meter, u.model, u.kind, u.corrects, "
             "trim_scale(u.quantity)::text, "
             "u.event_time, u.ingested_at, u.topic, u.kafka_partition, u.kafka_offset FROM ONLY %s u WHERE "
             "u.ctid >= "
             "'(%" PRId64
             ",0)'%s AND EXISTS (SELECT FROM unnest($1, $2, $3, $4) AS r(topic, partition, first, next) "
             "WHERE r.topic = u.topic AND r.partition = u.kafka_partition AND u.kafka_offset >= r.first AND "
             "u.kafka_offset < r.next)",
             leaf->name, from, until);
    put_ranges(follow, &columns);
    bool ok = pg_columns_each(follow->pg, sql, &columns, tell, follow);
    pg_columns_free(&columns);
    leaf->scanned_from = from;
    if (follow->found > found)
        leaf->hot_polls = HOT_POLLS;
    return ok;
}

static bool scan_leaves(struct follow *follow, bool hot, int64_t back_blocks)
{
    for (size_t i = 0; i < follow->leaf_count && follow->found < follow->expected; i++)
        if ((follow->leaves[i].hot_polls > 0) == hot && !scan(follow, &follow->leaves[i], back_blocks))
            return false;
    return true;
}

static bool tell_events(struct follow *follow)
{
    PG_RESULT *leaves = list_leaves(follow);
    if (!leaves || !begin_leaves(follow, leaves) || !scan_leaves(follow, true, NEAR_BLOCKS) ||
        !scan_leaves(follow, false, COLD_BLOCKS) || !scan_leaves(follow, true, FAR_BLOCKS))
        return false;
    end_leaves(follow, leaves);
    return true;
}

bool follow_poll(struct follow *follow, const struct follow_calls *calls)
{
    follow->calls = calls;
    PG_RESULT *ledger = read_ledger(follow);
    if (!ledger || !take_ranges(follow, ledger) || (follow->expected > 0 && !tell_events(follow)) ||
        !move_on(follow, ledger))
        return false;
    if (follow->found < follow->expected)
        calls->missed(calls->context, follow->expected - follow->found);
    return true;
}

/* --- life --- */

static bool read_start(struct follow *follow)
{
    PG_RESULT *result = pg_query(
        follow->pg, "SELECT to_char(now() - interval '1 hour', 'YYYY-MM-DD HH24:MI:SS\"+00\"')", NULL, 0);
    if (!result)
        return false;
    snprintf(follow->since, sizeof follow->since, "%.*s", PQgetlength(result, 0, 0),
             PQgetvalue(result, 0, 0));
    return true;
}

static bool start(struct follow *follow)
{
    if (!read_start(follow))
        return false;
    PG_RESULT *ledger = read_ledger(follow);
    PG_RESULT *leaves = ledger && move_on(follow, ledger) ? list_leaves(follow) : NULL;
    if (!leaves || !begin_leaves(follow, leaves))
        return false;
    end_leaves(follow, leaves);
    return true;
}

struct follow *follow_open(struct pg *pg)
{
    struct follow *follow = calloc(1, sizeof *follow);
    if (!follow) {
        pg_fail(pg, PG_PASSING, "out of memory");
        return NULL;
    }
    follow->pg = pg;
    if (start(follow))
        return follow;
    follow_close(follow);
    return NULL;
}

void follow_close(struct follow *follow)
{
    if (!follow)
        return;
    for (size_t i = 0; i < follow->place_count; i++)
        free(follow->places[i].topic);
    free(follow->places);
    free(follow->leaves);
    free(follow->ranges);
    free(follow);
}
