#include "outcomes.h"

#include <inttypes.h>
#include <stdio.h>

#include "pg_columns.h"

enum { SQL_BYTES = 4096 };
static const int64_t day_us = INT64_C(86400000000);

/* $1 to $7. The topic is the same in all rows. */
#define KEYS                                                                                                 \
    "unnest($1, $2, $3, $4, $5, $6, $7) AS k(number, topic, kafka_partition, kafka_offset, customer_id, "    \
    "meter, event_id)"
#define PLACE "(topic, kafka_partition, kafka_offset)"
#define IDENTITY "(customer_id, meter, event_id)"

static void put_keys(struct pg_columns *columns, const char *topic, const struct outcome_key *keys,
                     size_t count)
{
    pg_columns_begin(columns, "itijttt");
    for (size_t i = 0; i < count; i++) {
        pg_put_int4(columns, (int32_t)i);
        pg_put_text(columns, text_of(topic));
        pg_put_int4(columns, keys[i].partition);
        pg_put_int8(columns, keys[i].offset);
        pg_put_text(columns, keys[i].customer_id);
        pg_put_text(columns, keys[i].meter);
        pg_put_text(columns, keys[i].event_id);
    }
}

static PGresult *ask(struct pg *pg, const char *sql, const char *topic, const struct outcome_key *keys,
                     size_t count)
{
    struct pg_columns columns;
    put_keys(&columns, topic, keys, count);
    PGresult *result = pg_columns_query(pg, sql, &columns);
    pg_columns_free(&columns);
    return result;
}

/* With the %s of format as a condition on u.event_time that leaves the days of the keys and those beside
 * them: constants, for with them PostgreSQL looks into no other table. */
__attribute__((format(printf, 2, 0))) static PGresult *
ask_days(struct pg *pg, const char *format, const char *topic, const struct outcome_key *keys, size_t count)
{
    char sql[SQL_BYTES], condition[200];
    int64_t least_us = INT64_MAX, most_us = INT64_MIN;
    for (size_t i = 0; i < count; i++) {
        least_us = keys[i].time_us < least_us ? keys[i].time_us : least_us;
        most_us = keys[i].time_us > most_us ? keys[i].time_us : most_us;
    }
    snprintf(condition, sizeof condition,
             "u.event_time >= timestamptz 'epoch' + interval '%" PRId64
             " s' AND u.event_time < timestamptz 'epoch' + interval '%" PRId64 " s'",
             (least_us - day_us) / 1000000, (most_us + day_us) / 1000000 + 1);
    snprintf(sql, sizeof sql, format, condition);
    return ask(pg, sql, topic, keys, count);
}

PGresult *outcome_positions(struct pg *pg, const char *topic)
{
    return pg_query(pg, "SELECT kafka_partition, next_offset FROM consumer_offset WHERE topic = $1",
                    (const char *[]){topic}, 1);
}

PGresult *outcome_refused(struct pg *pg, const char *topic, const struct outcome_key *keys, size_t count)
{
    return ask(pg, "SELECT k.number, d.reason, d.detail FROM " KEYS " JOIN dead_letter d USING " PLACE, topic,
               keys, count);
}

PGresult *outcome_conflicts(struct pg *pg, const char *topic, const struct outcome_key *keys, size_t count)
{
    return ask(pg,
               "SELECT k.number FROM " KEYS " JOIN event_conflict c USING " IDENTITY " WHERE "
               "(c.topic, c.kafka_partition, c.kafka_offset) = (k.topic, k.kafka_partition, k.kafka_offset)",
               topic, keys, count);
}

PGresult *outcome_differences(struct pg *pg, const char *topic, const struct outcome_key *keys, size_t count)
{
#define LIFTED(name) "('" name "', coalesce(c.payload->'metadata'->>'" name "', ''), u." name "), "
    static const char format[] =
        "SELECT k.number, f.field, f.sent, f.first FROM " KEYS " JOIN event_conflict c USING " IDENTITY
        " JOIN usage_event u USING " IDENTITY " CROSS JOIN LATERAL (VALUES ('quantity', "
        "trim_scale(c.quantity)::text, trim_scale(u.quantity)::text), ('timestamp', "
        "to_char(c.event_time, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), "
        "to_char(u.event_time, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')), ('kind', c.kind, u.kind), "
        "('model', c.model, u.model), " LIFTED("provider") LIFTED("service_tier") LIFTED("gpu_type")
            LIFTED("agent_id") LIFTED("run_id") LIFTED("parent_run_id") LIFTED("user_id") LIFTED("operation")
                LIFTED("tool_name")
                    LIFTED("context_window") "('corrects', CASE c.kind WHEN 'usage' THEN '' ELSE "
                                             "coalesce(c.payload->>'corrects', '') END, "
                                             "u.corrects)) f(field, sent, first) WHERE f.sent <> f.first AND "
                                             "(c.topic, c.kafka_partition, "
                                             "c.kafka_offset) = (k.topic, k.kafka_partition, k.kafka_offset) "
                                             "AND %s ORDER BY k.number";
#undef LIFTED
    if (!pg_run(pg, "SET statement_timeout = '5s'"))
        return NULL;
    PGresult *result = ask_days(pg, format, topic, keys, count);
    if (!pg_is_open(pg) || !pg_run(pg, "SET statement_timeout = 0")) {
        PQclear(result);
        return NULL;
    }
    return result;
}

PGresult *outcome_accepted(struct pg *pg, const char *topic, const struct outcome_key *keys, size_t count)
{
    return ask_days(pg,
                    "SELECT k.number, trim_scale(u.quantity)::text FROM " KEYS
                    " JOIN usage_event u USING " PLACE " WHERE %s",
                    topic, keys, count);
}

PGresult *outcome_decisions(struct pg *pg, const char *topic, const struct outcome_key *keys, size_t count,
                            int64_t since_us)
{
    char sql[SQL_BYTES];
    snprintf(sql, sizeof sql,
             "SELECT k.number, d.ceiling, d.policy, d.transition %% 2 = 1, trim_scale(d.used)::text, "
             "trim_scale(d.limit_quantity)::text, d.decision_id FROM " KEYS
             " JOIN policy_decision d USING (customer_id) WHERE (d.topic, d.kafka_partition, d.kafka_offset) "
             "= (k.topic, k.kafka_partition, k.kafka_offset) AND d.decided_at > timestamptz 'epoch' + "
             "interval '%" PRId64 " s' ORDER BY k.number, d.ceiling",
             since_us / 1000000);
    return ask(pg, sql, topic, keys, count);
}
