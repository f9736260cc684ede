/* The ledger: one partition after the other, its rows in the order in which they were committed. */
#include "verify_parts.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>

#include "pg_columns.h"

enum { SENTENCE_BYTES = VERIFY_PLACE_BYTES + 40, PROGRESS_ROWS = 1024 };

struct walk { /* over one partition's rows */
    struct verify *v;
    struct verify_place *place;
    char name[VERIFY_PLACE_BYTES];
    bool anchored; /* the first row only says where those that are looked at begin */
    bool begun;
    int64_t next_offset;
    struct ledger_chain chain;
};

void verify_place_name(const struct verify_place *place, char *out, size_t size)
{
    snprintf(out, size, "%.*s/%d", (int)place->topic.length, place->topic.bytes, place->partition);
}

/* --- places --- */

static bool add_place(struct verify *v, const PGresult *result, int row)
{
    struct verify_place *place = &v->places[v->place_count];
    struct text topic = pg_text(result, row, 0);
    place->topic_bytes = malloc(topic.length + 1);
    if (!place->topic_bytes)
        return verify_no_memory(v);
    memcpy(place->topic_bytes, topic.bytes, topic.length);
    place->topic = (struct text){place->topic_bytes, topic.length};
    place->partition = pg_int4(result, row, 1);
    place->has_offset = !PQgetisnull(result, row, 2);
    if (place->has_offset) {
        place->next_offset = pg_int8(result, row, 2);
        memcpy(place->chain.bytes, PQgetvalue(result, row, 3), LEDGER_CHAIN_BYTES);
    }
    v->place_count++;
    return true;
}

/* A partition may have lost its offset row: the ledger tells of it. */
static bool read_places(struct verify *v)
{
    static const char sql[] =
        "WITH RECURSIVE known AS ((SELECT topic, kafka_partition FROM batch_ledger ORDER BY topic, "
        "kafka_partition LIMIT 1) UNION ALL SELECT n.topic, n.kafka_partition FROM known k, LATERAL (SELECT "
        "topic, kafka_partition FROM batch_ledger l WHERE (l.topic, l.kafka_partition) > (k.topic, "
        "k.kafka_partition) ORDER BY topic, kafka_partition LIMIT 1) n) "
        "SELECT topic, kafka_partition, next_offset, chain FROM consumer_offset FULL JOIN known USING "
        "(topic, "
        "kafka_partition) WHERE $1::int < 0 OR kafka_partition = $1::int ORDER BY kafka_partition, topic";
    char partition[16];
    snprintf(partition, sizeof partition, "%d", v->options->partition);
    PG_RESULT *result = pg_query(v->pg, sql, (const char *[]){partition}, 1);
    if (!result)
        return false;
    int count = PQntuples(result);
    v->places = calloc((size_t)count + 1, sizeof *v->places);
    if (!v->places)
        return verify_no_memory(v);
    for (int row = 0; row < count; row++)
        if (!add_place(v, result, row))
            return false;
    return true;
}

/* --- stretches --- */

static void join(struct verify_stretch *into, const struct verify_stretch *more)
{
    into->first = more->first < into->first ? more->first : into->first;
    into->next = more->next > into->next ? more->next : into->next;
    into->batch_id = more->batch_id < into->batch_id ? more->batch_id : into->batch_id;
    into->rows += more->rows;
    into->accepted += more->accepted;
    into->dead += more->dead;
    into->digest.sum += more->digest.sum;
}

static bool push_stretch(struct verify *v, const struct verify_stretch *stretch)
{
    if (v->stretch_count == v->stretch_capacity) {
        size_t capacity = v->stretch_capacity * 2 + 1024;
        struct verify_stretch *grown = realloc(v->stretches, capacity * sizeof *grown);
        if (!grown)
            return verify_no_memory(v);
        v->stretches = grown;
        v->stretch_capacity = capacity;
    }
    v->stretches[v->stretch_count++] = *stretch;
    return true;
}

/* A partition that was sent back behind where --since begins: which batch its records there belong to can't
 * be told. */
static void leave_out(struct verify *v, struct verify_place *place, int64_t next_offset)
{
    place->left_before = next_offset > place->left_before ? next_offset : place->left_before;
    while (v->stretch_count > place->begin && v->stretches[v->stretch_count - 1].first < place->left_before) {
        const struct verify_stretch *last = &v->stretches[--v->stretch_count];
        place->left_before = last->next > place->left_before ? last->next : place->left_before;
    }
}

/* Rows that overlap, for a person sent the partition back, share a stretch: which of them a record belongs to
 * can't be told. */
static bool add_stretch(struct walk *walk, const struct ledger_row *row)
{
    struct verify *v = walk->v;
    struct verify_place *place = walk->place;
    struct verify_stretch added = {.first = row->first_offset,
                                   .next = row->next_offset,
                                   .batch_id = row->batch_id,
                                   .rows = 1,
                                   .accepted = row->accepted,
                                   .dead = row->dead,
                                   .digest = row->digest};
    if (row->next_offset <= row->first_offset)
        return true;
    if (row->first_offset < place->left_before) {
        leave_out(v, place, row->next_offset);
        return true;
    }
    while (v->stretch_count > place->begin) {
        const struct verify_stretch *last = &v->stretches[v->stretch_count - 1];
        bool overlaps = last->next > added.first;
        bool has_room = last->next == added.first && last->rows + added.rows <= v->rows_per_stretch;
        if (!overlaps && !has_room)
            break;
        join(&added, last);
        v->stretch_count--;
    }
    return push_stretch(v, &added);
}

/* --- rows --- */

static bool row_differs(struct walk *walk, int64_t batch_id, const char *what, const char *expected,
                        const char *found)
{
    char where[SENTENCE_BYTES];
    snprintf(where, sizeof where, "%s batch %" PRId64, walk->name, batch_id);
    return verify_differs(walk->v, where, what, expected, found);
}

static bool numbers_differ(struct walk *walk, int64_t batch_id, const char *what, int64_t expected,
                           int64_t found)
{
    char texts[2][24];
    snprintf(texts[0], sizeof texts[0], "%" PRId64, expected);
    snprintf(texts[1], sizeof texts[1], "%" PRId64, found);
    return row_differs(walk, batch_id, what, texts[0], texts[1]);
}

static bool adds_up(struct walk *walk, const struct ledger_row *row)
{
    int64_t range = row->next_offset - row->first_offset;
    int64_t sum = row->accepted + row->duplicate + row->dead + row->hole + row->gap;
    bool negative = row->accepted < 0 || row->duplicate < 0 || row->dead < 0 || row->hole < 0;
    if (range == sum && !negative)
        return true;
    return numbers_differ(walk, row->batch_id,
                          "accepted, duplicate, dead, hole and gap do not add up to its offsets", range, sum);
}

static bool follows(struct walk *walk, const struct ledger_row *row)
{
    if (row->first_offset == walk->next_offset)
        return true;
    return numbers_differ(walk, row->batch_id,
                          row->first_offset > walk->next_offset
                              ? "offsets before it are in no batch: it should begin at"
                              : "it begins at offsets of an earlier batch: it should begin at",
                          walk->next_offset, row->first_offset);
}

static bool is_chained(struct walk *walk, const struct ledger_row *row, const struct ledger_chain *stored)
{
    char texts[2][2 * LEDGER_CHAIN_BYTES + 1];
    struct ledger_chain expected = ledger_chain(&walk->chain, row);
    if (memcmp(&expected, stored, sizeof expected) == 0)
        return true;
    sodium_bin2hex(texts[0], sizeof texts[0], expected.bytes, LEDGER_CHAIN_BYTES);
    sodium_bin2hex(texts[1], sizeof texts[1], stored->bytes, LEDGER_CHAIN_BYTES);
    return row_differs(walk, row->batch_id, "the chain is broken: this row, or one before it, was changed",
                       texts[0], texts[1]);
}

static struct ledger_row read_row(const struct walk *walk, const PGresult *result)
{
    return (struct ledger_row){.topic = walk->place->topic,
                               .partition = walk->place->partition,
                               .batch_id = pg_int8(result, 0, 0),
                               .epoch = pg_int8(result, 0, 1),
                               .first_offset = pg_int8(result, 0, 2),
                               .next_offset = pg_int8(result, 0, 3),
                               .accepted = pg_int8(result, 0, 4),
                               .duplicate = pg_int8(result, 0, 5),
                               .dead = pg_int8(result, 0, 6),
                               .hole = pg_int8(result, 0, 7),
                               .gap = pg_int8(result, 0, 8),
                               .digest = ledger_digest((const uint8_t *)PQgetvalue(result, 0, 9)),
                               .reason = pg_text(result, 0, 11),
                               .actor = pg_text(result, 0, 12)};
}

/* From each row on, what it says itself is expected, so that one change is told once. */
static bool check_row(void *context, const PGresult *result)
{
    struct walk *walk = context;
    struct verify *v = walk->v;
    struct ledger_row row = read_row(walk, result);
    struct ledger_chain stored;
    memcpy(stored.bytes, PQgetvalue(result, 0, 10), LEDGER_CHAIN_BYTES);
    bool ok = true;
    if (!walk->anchored || walk->begun) {
        ok = adds_up(walk, &row) && follows(walk, &row) && is_chained(walk, &row, &stored) &&
             add_stretch(walk, &row);
        if (++v->examined % PROGRESS_ROWS == 0)
            v->options->progress(v->options->context, v->examined);
    } else {
        walk->place->left_before = row.next_offset;
    }
    walk->begun = true;
    walk->next_offset = row.next_offset;
    walk->chain = stored;
    return ok;
}

/* --- partitions --- */

static bool check_offset_row(struct walk *walk)
{
    const struct verify_place *place = walk->place;
    char texts[2][2 * LEDGER_CHAIN_BYTES + 1];
    if (!place->has_offset)
        return verify_differs(walk->v, walk->name, "the ledger knows it, consumer_offset does not", "a row",
                              "none");
    int64_t stored = place->next_offset < 0 ? 0 : place->next_offset;
    if (stored != walk->next_offset) {
        snprintf(texts[0], sizeof texts[0], "%" PRId64, walk->next_offset);
        snprintf(texts[1], sizeof texts[1], "%" PRId64, stored);
        if (!verify_differs(walk->v, walk->name, "consumer_offset is not where the ledger ends", texts[0],
                            texts[1]))
            return false;
    }
    if (memcmp(&walk->chain, &place->chain, sizeof place->chain) == 0)
        return true;
    sodium_bin2hex(texts[0], sizeof texts[0], walk->chain.bytes, LEDGER_CHAIN_BYTES);
    sodium_bin2hex(texts[1], sizeof texts[1], place->chain.bytes, LEDGER_CHAIN_BYTES);
    return verify_differs(walk->v, walk->name, "consumer_offset does not hold the ledger's last chain",
                          texts[0], texts[1]);
}

/* With --since the last row before is read too: the chain goes on from it. */
static void rows_sql(const struct verify *v, char *sql, size_t size)
{
    static const char columns[] =
        "SELECT batch_id, epoch, first_offset, next_offset, accepted, duplicate, dead, hole, gap, digest, "
        "chain, reason, actor FROM batch_ledger WHERE topic = ($1)[1] AND kafka_partition = ($2)[1]";
    int length = snprintf(sql, size, "%s", columns);
    if (v->options->since_us != INT64_MIN)
        length +=
            snprintf(sql + length, size - (size_t)length,
                     " AND batch_id >= (SELECT coalesce(max(batch_id), 0) FROM batch_ledger WHERE topic "
                     "= ($1)[1] AND kafka_partition = ($2)[1] AND committed_at < 'epoch'::timestamptz + "
                     "%" PRId64 " * interval '1 microsecond')",
                     v->options->since_us);
    snprintf(sql + length, size - (size_t)length, " ORDER BY topic, kafka_partition, batch_id");
}

static bool has_anchor(struct verify *v, const struct verify_place *place, bool *has)
{
    char sql[512];
    struct pg_columns columns;
    *has = false;
    if (v->options->since_us == INT64_MIN)
        return true;
    snprintf(
        sql, sizeof sql,
        "SELECT EXISTS (SELECT FROM batch_ledger WHERE topic = ($1)[1] AND kafka_partition = ($2)[1] AND "
        "committed_at < 'epoch'::timestamptz + %" PRId64 " * interval '1 microsecond')",
        v->options->since_us);
    pg_columns_begin(&columns, "ti");
    pg_put_text(&columns, place->topic);
    pg_put_int4(&columns, place->partition);
    PG_RESULT *result = pg_columns_query(v->pg, sql, &columns);
    pg_columns_free(&columns);
    if (result)
        *has = pg_bool(result, 0, 0);
    return result;
}

static bool check_place(struct verify *v, struct verify_place *place)
{
    char sql[1024];
    struct walk walk = {.v = v, .place = place};
    struct pg_columns columns;
    verify_place_name(place, walk.name, sizeof walk.name);
    if (!has_anchor(v, place, &walk.anchored))
        return false;
    place->begin = v->stretch_count;
    rows_sql(v, sql, sizeof sql);
    pg_columns_begin(&columns, "ti");
    pg_put_text(&columns, place->topic);
    pg_put_int4(&columns, place->partition);
    bool ok = pg_columns_each(v->pg, sql, &columns, check_row, &walk);
    pg_columns_free(&columns);
    place->end = v->stretch_count;
    return ok && check_offset_row(&walk);
}

bool verify_ledger(struct verify *v)
{
    uint64_t rows;
    if (!verify_count(v, "SELECT count(*) FROM batch_ledger", &rows) || !read_places(v))
        return false;
    v->rows_per_stretch = (uint32_t)(rows / VERIFY_STRETCHES + 1);
    v->options->begins(v->options->context, "reading the ledger", rows);
    for (size_t i = 0; i < v->place_count; i++)
        if (!check_place(v, &v->places[i]))
            return false;
    return true;
}
