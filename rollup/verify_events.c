/* Raw events and dead letters, all of them once, in whatever order they lie: each adds to the sums of its
 * stretch, which must then equal the ledger's. */
#include "verify_parts.h"

#include <endian.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>

/* "PGCOPY\n\377\r\n\0", flags, length of the header's extension. Source: PostgreSQL manual, COPY. */
enum {
    COPY_SIGNATURE_BYTES = 11,
    COPY_HEAD_BYTES = COPY_SIGNATURE_BYTES + 8,
    FIELDS = 4,
    PROGRESS_ROWS = 4096
};

enum field { FIELD_TOPIC, FIELD_PARTITION, FIELD_OFFSET, FIELD_PAYLOAD };

struct scan {
    struct verify *v;
    bool dead_letters;
    size_t place, stretch; /* the last ones found: the next record is often near */
};

/* One record as COPY hands it out; bytes NULL: null. */
struct raw {
    struct text topic;
    int32_t partition;
    int64_t offset;
    struct text payload;
};

static int32_t int_at(const char *at)
{
    uint32_t big;
    memcpy(&big, at, sizeof big);
    return (int32_t)be32toh(big);
}

static int64_t long_at(const char *at)
{
    uint64_t big;
    memcpy(&big, at, sizeof big);
    return (int64_t)be64toh(big);
}

/* Reads one row's fields at *at. False: the end, or not a row as it was asked for. */
static bool read_row(const char **at, const char *end, struct raw *raw)
{
    struct text fields[FIELDS];
    uint16_t count;
    if (end - *at < 2)
        return false;
    memcpy(&count, *at, sizeof count);
    *at += 2;
    if (be16toh(count) != FIELDS)
        return false;
    for (int i = 0; i < FIELDS; i++) {
        int32_t length = end - *at >= 4 ? int_at(*at) : INT32_MAX;
        if (length > end - *at - 4)
            return false;
        *at += 4;
        fields[i] = (struct text){length < 0 ? NULL : *at, length < 0 ? 0 : (uint32_t)length};
        *at += fields[i].length;
    }
    if (fields[FIELD_PARTITION].length != 4 || fields[FIELD_OFFSET].length != 8)
        return false;
    *raw = (struct raw){.topic = fields[FIELD_TOPIC],
                        .partition = int_at(fields[FIELD_PARTITION].bytes),
                        .offset = long_at(fields[FIELD_OFFSET].bytes),
                        .payload = fields[FIELD_PAYLOAD]};
    return true;
}

/* --- to whom it belongs --- */

static int compare_place(const struct verify_place *place, const struct raw *raw)
{
    if (place->partition != raw->partition)
        return place->partition < raw->partition ? -1 : 1;
    return text_order(place->topic, raw->topic);
}

/* Places are sorted by partition and topic. */
static const struct verify_place *place_of(struct scan *scan, const struct raw *raw)
{
    const struct verify *v = scan->v;
    size_t low = 0, high = v->place_count;
    if (scan->place < high && compare_place(&v->places[scan->place], raw) == 0)
        return &v->places[scan->place];
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare_place(&v->places[middle], raw);
        if (order == 0) {
            scan->place = middle;
            return &v->places[middle];
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static bool holds(const struct verify_stretch *stretch, int64_t offset)
{
    return offset >= stretch->first && offset < stretch->next;
}

static struct verify_stretch *stretch_of(struct scan *scan, const struct verify_place *place, int64_t offset)
{
    struct verify_stretch *stretches = scan->v->stretches;
    size_t low = place->begin, high = place->end;
    if (scan->stretch >= low && scan->stretch < high && holds(&stretches[scan->stretch], offset))
        return &stretches[scan->stretch];
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (holds(&stretches[middle], offset)) {
            scan->stretch = middle;
            return &stretches[middle];
        }
        if (stretches[middle].next <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static bool add(struct scan *scan, const struct raw *raw)
{
    struct verify *v = scan->v;
    const struct verify_place *place = place_of(scan, raw);
    struct verify_stretch *stretch = place ? stretch_of(scan, place, raw->offset) : NULL;
    if (!stretch) {
        char where[VERIFY_PLACE_BYTES + 40];
        if (place && raw->offset < place->left_before)
            return true;
        snprintf(where, sizeof where, "%.*s/%d offset %" PRId64, (int)raw->topic.length, raw->topic.bytes,
                 raw->partition, raw->offset);
        return verify_differs(v, where,
                              scan->dead_letters ? "a dead letter that no batch accounts for"
                                                 : "a raw event that no batch accounts for",
                              "none", "one");
    }
    stretch->accepted_found += !scan->dead_letters;
    stretch->dead_found += scan->dead_letters;
    identity_digest_add(&stretch->digest_found, &v->secret, raw->offset, raw->payload);
    if (++v->examined % PROGRESS_ROWS == 0)
        v->options->progress(v->options->context, v->examined);
    return true;
}

/* --- reading --- */

static bool read_piece(struct scan *scan, const char *bytes, int length, bool *headed)
{
    const char *at = bytes, *end = bytes + length;
    if (!*headed) {
        if (length < COPY_HEAD_BYTES || length - COPY_HEAD_BYTES < int_at(bytes + COPY_SIGNATURE_BYTES + 4))
            return pg_fail(scan->v->pg, PG_OTHER, "COPY begins with an unknown header");
        at += COPY_HEAD_BYTES + int_at(bytes + COPY_SIGNATURE_BYTES + 4);
        *headed = true;
    }
    struct raw raw;
    while (at < end && read_row(&at, end, &raw))
        if (!add(scan, &raw))
            return false;
    return true;
}

/* What is still to come is read all the same, so that the connection can be used for what it is needed for.
 */
static bool read_all(struct scan *scan)
{
    struct pg *pg = scan->v->pg;
    bool ok = true, headed = false;
    char *bytes;
    int length;
    while ((length = PQgetCopyData(pg->connection, &bytes, 0)) > 0) {
        ok = ok && read_piece(scan, bytes, length, &headed);
        PQfreemem(bytes);
    }
    if (length == -2)
        return pg_fail(pg, PG_GONE, "%s", PQerrorMessage(pg->connection));
    for (PGresult *result; (result = PQgetResult(pg->connection));) {
        if (!pg_expect(pg, result, PGRES_COMMAND_OK))
            return false;
        PQclear(result);
    }
    return ok;
}

/* The least offset that anything is wanted of: rows below it need not be sent. */
static int64_t least_offset(const struct verify *v)
{
    int64_t least = INT64_MAX;
    for (size_t i = 0; i < v->place_count; i++)
        if (v->places[i].left_before < least)
            least = v->places[i].left_before;
    return least == INT64_MAX ? 0 : least;
}

static bool scan_table(struct verify *v, const char *table, bool dead_letters)
{
    char sql[512], only[64] = "";
    struct scan scan = {.v = v, .dead_letters = dead_letters};
    if (v->options->partition >= 0)
        snprintf(only, sizeof only, " AND kafka_partition = %d", v->options->partition);
    snprintf(sql, sizeof sql,
             "COPY (SELECT topic, kafka_partition, kafka_offset, payload FROM ONLY %s WHERE kafka_offset >= "
             "%" PRId64 "%s) TO STDOUT (FORMAT binary)",
             table, least_offset(v), only);
    PGresult *result = PQexec(v->pg->connection, sql);
    if (!pg_expect(v->pg, result, PGRES_COPY_OUT))
        return false;
    PQclear(result);
    return read_all(&scan);
}

/* --- comparing --- */

static bool check_stretch(struct verify *v, const struct verify_place *place,
                          const struct verify_stretch *stretch)
{
    if (stretch->accepted == stretch->accepted_found && stretch->dead == stretch->dead_found &&
        stretch->digest.sum == stretch->digest_found.sum)
        return true;
    uint8_t digests[2][LEDGER_DIGEST_BYTES];
    char hex[2 * LEDGER_DIGEST_BYTES + 1], name[VERIFY_PLACE_BYTES], where[VERIFY_PLACE_BYTES + 120],
        more[48] = "", texts[2][160];
    verify_place_name(place, name, sizeof name);
    if (stretch->rows > 1)
        snprintf(more, sizeof more, " and %u more", stretch->rows - 1);
    snprintf(where, sizeof where, "%s offsets %" PRId64 " to %" PRId64 " batch %" PRId64 "%s", name,
             stretch->first, stretch->next - 1, stretch->batch_id, more);
    ledger_digest_bytes(stretch->digest, digests[0]);
    ledger_digest_bytes(stretch->digest_found, digests[1]);
    for (int i = 0; i < 2; i++)
        snprintf(texts[i], sizeof texts[i], "%" PRId64 " raw events, %" PRId64 " dead letters, digest %s",
                 i ? stretch->accepted_found : stretch->accepted, i ? stretch->dead_found : stretch->dead,
                 sodium_bin2hex(hex, sizeof hex, digests[i], LEDGER_DIGEST_BYTES));
    bool same_count = stretch->accepted == stretch->accepted_found && stretch->dead == stretch->dead_found;
    return verify_differs(
        v, where, same_count ? "a record is not what was consumed" : "records are missing or were added",
        texts[0], texts[1]);
}

bool verify_events(struct verify *v)
{
    uint64_t total = 0;
    for (size_t i = 0; i < v->stretch_count; i++)
        total += (uint64_t)(v->stretches[i].accepted + v->stretches[i].dead);
    v->options->begins(v->options->context, "reading raw events", total);
    for (size_t i = 0; i < v->leaf_count; i++)
        if (!scan_table(v, v->leaves[i].name, false))
            return false;
    if (!scan_table(v, "dead_letter", true))
        return false;
    for (size_t i = 0; i < v->place_count; i++)
        for (size_t s = v->places[i].begin; s < v->places[i].end; s++)
            if (!check_stretch(v, &v->places[i], &v->stretches[s]))
                return false;
    return true;
}
