#include "repartition.h"

#include <inttypes.h>
#include <stdio.h>

#include "../consumer/ceiling.h"
#include "pg_columns.h"

/* One at a time, so that those who order and those who finish never wait for each other's rows. */
static bool begin(struct pg *pg)
{
    return pg_run(pg, "BEGIN") && pg_run(pg, "SELECT pg_advisory_xact_lock(1430411330, 4)");
}

/* Rolls back what has failed, and keeps why. */
static bool end_transaction(struct pg *pg, bool done)
{
    if (done)
        return pg_commit(pg);
    struct pg_failure why = pg->failure;
    if (pg_is_open(pg))
        pg_run(pg, "ROLLBACK");
    pg->failure = why;
    return false;
}

/* In the order in which takeovers lock them. Whatever is being committed is committed then. */
static bool lock_offsets(struct pg *pg)
{
    return pg_run(pg, "SELECT FROM consumer_offset ORDER BY topic, kafka_partition FOR UPDATE");
}

/* --- ordering one --- */

static enum partitioner partitioner_named(struct text name)
{
    int p = PARTITIONER_COUNT - 1;
    while (p > PARTITIONER_UNKNOWN && !text_equal(name, text_of(partitioner_names[p])))
        p--;
    return (enum partitioner)p;
}

/* What is in force: how many lanes, and what is under way to how many. */
static bool read_present(struct pg *pg, struct repartition_order *order, int32_t *under_way_to)
{
    PG_RESULT *result =
        pg_query(pg,
                 "SELECT l.lanes, coalesce(r.to_count, 0), coalesce((SELECT value FROM setting WHERE name = "
                 "'partitioner'), '') FROM lane_count l LEFT JOIN repartition r ON r.finished_at IS NULL",
                 NULL, 0);
    if (!result)
        return false;
    order->from_count = pg_int4(result, 0, 0);
    *under_way_to = pg_int4(result, 0, 1);
    if (order->partitioner == PARTITIONER_UNKNOWN)
        order->partitioner = partitioner_named(pg_text(result, 0, 2));
    return true;
}

/* What is to be done; *refused: pg->failure says why. */
static enum repartition_answer judge(struct pg *pg, const struct repartition_order *order,
                                     int32_t under_way_to, bool *refused)
{
    int32_t least = under_way_to > order->from_count ? under_way_to : order->from_count;
    *refused = order->from_count > 0 && order->to_count < least;
    if (*refused)
        pg_fail(pg, PG_OTHER,
                "the usage topics had %d partitions and have %d now: lanes can't be given up. Add partitions "
                "until "
                "there are as many as there were",
                least, order->to_count);
    if (order->from_count == 0)
        return REPARTITION_NOTHING_READ;
    if (order->to_count == order->from_count)
        return REPARTITION_AS_BEFORE;
    if (order->to_count == under_way_to && !order->anew)
        return REPARTITION_UNDER_WAY;
    if (*refused || order->partitioner != PARTITIONER_UNKNOWN)
        return REPARTITION_ORDERED;
    *refused = true;
    pg_fail(pg, PG_OTHER,
            "nothing that was read so far tells which partitioner producers use: set kafka.partitioner to "
            "murmur2 "
            "(Java, kafkajs), crc32 (librdkafka) or fnv1a (Sarama)");
    return REPARTITION_ORDERED;
}

static bool write_order(struct pg *pg, const struct repartition_order *order)
{
    char from[16], to[16];
    snprintf(from, sizeof from, "%" PRId32, order->from_count);
    snprintf(to, sizeof to, "%" PRId32, order->to_count);
    const char *partitioner = partitioner_names[order->partitioner];
    PG_RESULT *kept =
        pg_query(pg, "INSERT INTO setting (name, value) VALUES ('partitioner', $1) ON CONFLICT DO NOTHING",
                 &partitioner, 1);
    if (!kept ||
        !pg_run(pg, "DELETE FROM repartition_end USING repartition r WHERE r.finished_at IS NULL AND "
                    "r.repartition_id = repartition_end.repartition_id") ||
        !pg_run(pg, "DELETE FROM repartition WHERE finished_at IS NULL"))
        return false;
    PG_RESULT *added =
        pg_query(pg,
                 "INSERT INTO repartition (from_count, to_count, partitioner, actor) VALUES ($1::int, "
                 "$2::int, $3, $4)",
                 (const char *[]){from, to, partitioner, order->actor}, 4);
    return added;
}

/* A lane may have read on until it was fenced. Of those that are new nothing belongs to the former count. */
static bool write_ends(struct pg *pg, const struct repartition_order *order)
{
    struct pg_columns columns;
    pg_columns_begin(&columns, "tij");
    for (size_t i = 0; i < order->end_count; i++) {
        const struct repartition_end *end = &order->ends[i];
        pg_put_text(&columns, text_of(end->topic));
        pg_put_int4(&columns, end->partition);
        pg_put_int8(&columns, end->partition < order->from_count ? end->offset : 0);
    }
    bool written = pg_columns_run(
        pg,
        "INSERT INTO repartition_end (repartition_id, topic, kafka_partition, end_offset) SELECT "
        "r.repartition_id, "
        "e.topic, e.kafka_partition, CASE WHEN e.kafka_partition < r.from_count THEN greatest(e.log_end, "
        "o.next_offset, 0) ELSE 0 END FROM unnest($1, $2, $3) AS e(topic, kafka_partition, log_end) CROSS "
        "JOIN "
        "repartition r LEFT JOIN consumer_offset o USING (topic, kafka_partition) WHERE r.finished_at IS "
        "NULL",
        &columns);
    pg_columns_free(&columns);
    return written;
}

static bool order_in_transaction(struct pg *pg, struct repartition_order *order)
{
    int32_t under_way_to;
    bool refused;
    if (!begin(pg) || !lock_offsets(pg) || !read_present(pg, order, &under_way_to))
        return false;
    order->answer = judge(pg, order, under_way_to, &refused);
    if (refused || order->answer != REPARTITION_ORDERED)
        return !refused;
    return write_order(pg, order) && write_ends(pg, order) &&
           pg_run(pg, "UPDATE consumer_offset SET epoch = epoch + 1, updated_at = now()");
}

bool repartition_order(struct pg *pg, struct repartition_order *order)
{
    return end_transaction(pg, order_in_transaction(pg, order));
}

/* --- finishing it --- */

static bool read_under_way(struct pg *pg, struct repartition_progress *progress,
                           enum partitioner *partitioner)
{
    PG_RESULT *result = pg_query(
        pg, "SELECT from_count, to_count, partitioner FROM repartition WHERE finished_at IS NULL FOR UPDATE",
        NULL, 0);
    if (!result)
        return false;
    progress->under_way = PQntuples(result) == 1;
    if (!progress->under_way)
        return true;
    progress->from_count = pg_int4(result, 0, 0);
    progress->to_count = pg_int4(result, 0, 1);
    *partitioner = partitioner_named(pg_text(result, 0, 2));
    return *partitioner != PARTITIONER_UNKNOWN ||
           pg_fail(pg, PG_OTHER, "repartition.partitioner is of a kind that this program does not know");
}

/* Accepted events that no ceiling has counted yet are their former lane's, which counts them with its next
 * batch. */
static bool read_waits(struct pg *pg, struct repartition_progress *progress)
{
    PG_RESULT *result = pg_query(
        pg,
        "SELECT coalesce(string_agg(lane::text, ', ' ORDER BY lane), '') FROM (SELECT kafka_partition AS "
        "lane FROM repartition_waits UNION SELECT lane FROM ceiling_pending ORDER BY 1 LIMIT 20) w",
        NULL, 0);
    if (result)
        snprintf(progress->waits_for, sizeof progress->waits_for, "%s", PQgetvalue(result, 0, 0));
    return result;
}

/* What a takeover restores; the rest is history and stays where it was. */
#define LIVE_STATE "(s.active OR s.period_end > now() - interval '9 days')"
#define LIVE_COUNTER "s.period_start + ('1 ' || s.period)::interval > now() - interval '9 days'"
_Static_assert(CEILING_COUNTED_US < 8 * INT64_C(86400000000),
               "takeovers restore no older periods than are moved");

static bool move_some(struct pg *pg, struct pg_columns *columns)
{
    static const char *const moves[] = {"UPDATE ceiling_state s SET lane = m.lane FROM unnest($1, $2) AS "
                                        "m(customer_id, lane) WHERE s.customer_id = "
                                        "m.customer_id AND s.lane <> m.lane AND " LIVE_STATE,
                                        "UPDATE ceiling_usage s SET lane = m.lane FROM unnest($1, $2) AS "
                                        "m(customer_id, lane) WHERE s.customer_id = "
                                        "m.customer_id AND s.lane <> m.lane AND " LIVE_COUNTER};
    for (size_t i = 0; i < sizeof moves / sizeof *moves; i++)
        if (!pg_columns_run(pg, moves[i], &columns[i]))
            return false;
    return true;
}

static bool move_customers(struct pg *pg, enum partitioner partitioner, int32_t to_count,
                           const PGresult *customers)
{
    struct pg_columns columns[2];
    pg_columns_begin(&columns[0], "ti");
    pg_columns_begin(&columns[1], "ti");
    bool moved = true;
    for (int row = 0; moved && row < PQntuples(customers); row++) {
        struct text customer = pg_text(customers, row, 0);
        for (int i = 0; i < 2; i++) {
            pg_put_text(&columns[i], customer);
            pg_put_int4(&columns[i], partitioner_lane(partitioner, customer, to_count));
        }
        moved = !pg_columns_full(&columns[0]) || move_some(pg, columns);
    }
    moved = moved && move_some(pg, columns);
    pg_columns_free(&columns[0]);
    pg_columns_free(&columns[1]);
    return moved;
}

/* Counters and states go with their customers. Of two of one state, the newer one counts. */
static bool move_ceilings(struct pg *pg, enum partitioner partitioner, int32_t to_count)
{
    if (!pg_run(pg,
                "DELETE FROM ceiling_state s USING ceiling_state t WHERE (s.customer_id, s.ceiling, s.scope, "
                "s.period_start) = (t.customer_id, t.ceiling, t.scope, t.period_start) AND (s.transition, "
                "s.lane) < (t.transition, t.lane)"))
        return false;
    PG_RESULT *customers = pg_query(pg,
                                    "SELECT customer_id FROM ceiling_state s WHERE " LIVE_STATE
                                    " UNION SELECT customer_id FROM ceiling_usage s WHERE " LIVE_COUNTER,
                                    NULL, 0);
    return customers && move_customers(pg, partitioner, to_count, customers);
}

/* With all lanes at the same ceilings, they are so at the new number, too. Else, or should some counter be
 * there twice, each lane adds up what was used as it adopts the newest ones. */
static bool settle_adoptions(struct pg *pg)
{
    PG_RESULT *result = pg_query(
        pg,
        "SELECT (SELECT count(*) = max(r.from_count) AND count(DISTINCT generation) = 1 FROM "
        "ceiling_adoption, (SELECT from_count FROM repartition ORDER BY repartition_id DESC LIMIT 1) r WHERE "
        "lane < r.from_count) IS true AND NOT EXISTS (SELECT FROM ceiling_usage s WHERE " LIVE_COUNTER
        " GROUP BY customer_id, meter, period, scope, period_start HAVING count(*) > 1)",
        NULL, 0);
    if (!result)
        return false;
    if (pg_bool(result, 0, 0))
        return pg_run(pg, "INSERT INTO ceiling_adoption (lane, generation, batch_id) SELECT l.lane, (SELECT "
                          "generation FROM ceiling_adoption WHERE lane = 0), r.batch_id FROM (SELECT * FROM "
                          "repartition ORDER BY repartition_id DESC LIMIT 1) r CROSS JOIN generate_series(0, "
                          "r.to_count - 1) l(lane) ON CONFLICT (lane) DO UPDATE SET generation = "
                          "excluded.generation, batch_id = excluded.batch_id");
    return pg_run(pg, "DELETE FROM ceiling_adoption") &&
           pg_run(pg, "DELETE FROM ceiling_usage s WHERE " LIVE_COUNTER);
}

/* Days that are sealed are decided by their index from now on, whatever lane an event comes to: a lane that
 * did not rely on it yet would look for the repeats of customers who were others' among its own. */
static bool rehome(struct pg *pg, enum partitioner partitioner, int32_t to_count)
{
    return pg_run(
               pg,
               "INSERT INTO consumer_offset (topic, kafka_partition) SELECT e.topic, e.kafka_partition FROM "
               "repartition_end e JOIN repartition r USING (repartition_id) WHERE r.finished_at IS NULL "
               "ORDER "
               "BY 1, 2 ON CONFLICT DO NOTHING") &&
           pg_run(
               pg,
               "UPDATE repartition SET batch_id = nextval('batch_id'), finished_at = now(), epoch = (SELECT "
               "max(epoch) + 1 FROM consumer_offset) WHERE finished_at IS NULL") &&
           pg_run(pg, "UPDATE consumer_offset SET updated_at = now(), epoch = (SELECT max(epoch) FROM "
                      "repartition)") &&
           pg_run(
               pg,
               "INSERT INTO sealed_day_adoption (day, lane, batch_id) SELECT s.day, l.lane, r.batch_id FROM "
               "sealed_day s CROSS JOIN (SELECT batch_id, to_count FROM repartition ORDER BY repartition_id "
               "DESC LIMIT 1) r CROSS JOIN generate_series(0, r.to_count - 1) l(lane) WHERE s.duplicates = 0 "
               "ON CONFLICT DO NOTHING") &&
           settle_adoptions(pg) && move_ceilings(pg, partitioner, to_count);
}

static bool advance_in_transaction(struct pg *pg, struct repartition_progress *progress)
{
    enum partitioner partitioner = PARTITIONER_UNKNOWN;
    if (!begin(pg) || !read_under_way(pg, progress, &partitioner))
        return false;
    if (!progress->under_way)
        return true;
    if (!read_waits(pg, progress))
        return false;
    if (*progress->waits_for)
        return true;
    /* Now that nobody can commit: is it still so? */
    if (!lock_offsets(pg) || !read_waits(pg, progress))
        return false;
    if (*progress->waits_for)
        return true;
    progress->under_way = false;
    progress->done = true;
    return rehome(pg, partitioner, progress->to_count);
}

bool repartition_advance(struct pg *pg, struct repartition_progress *progress)
{
    *progress = (struct repartition_progress){0};
    return end_transaction(pg, advance_in_transaction(pg, progress));
}
