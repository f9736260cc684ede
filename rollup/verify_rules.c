/* Seals, dedupe segments, decisions, counters, protection: what must hold between small tables. */
#include "verify_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../consumer/ceiling.h"
#include "../consumer/dedupe.h"

enum { SQL_BYTES = 6000 };

/* --- seals --- */

/* Segments are dropped once all lanes have adopted the seal of a day that has its index, perhaps while we
 * look: pg_class is of the snapshot, as all else here, and to_regclass() would be of now. */
/* clang-format off */
static const char seals_sql[] =
    "WITH leaf AS (SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day, c.oid"
    "  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
    "  WHERE i.inhparent = 'usage_event'::regclass AND c.relname ~ '^usage_event_[0-9]{8}$'),"
    " proved AS (SELECT day, EXISTS (SELECT FROM pg_index i WHERE i.indrelid = leaf.oid AND indisunique"
    "   AND indisvalid AND indisready AND indpred IS NULL AND '{customer_id,event_id,meter}' ="
    "    (SELECT array_agg(attname::text ORDER BY attname) FROM pg_attribute"
    "     WHERE attrelid = i.indrelid AND attnum = ANY (i.indkey))) AS yes FROM leaf),"
    " wanted AS (SELECT lanes FROM lane_count),"
    " adopted AS (SELECT day, count(DISTINCT lane) AS lanes FROM sealed_day_adoption, wanted w"
    "  WHERE lane < w.lanes GROUP BY day) "
    "SELECT s.day::text, 'events are there twice: see sealed_day.report, and retract them', '0',"
    "  s.duplicates::text FROM sealed_day s WHERE s.duplicates > 0 "
    "UNION ALL SELECT s.day::text, CASE WHEN p.day IS NULL THEN 'a sealed day without its table'"
    "  ELSE 'a sealed day without its unique index on (customer_id, meter, event_id)' END,"
    "  'a valid index', 'none' FROM sealed_day s LEFT JOIN proved p USING (day)"
    "  WHERE s.duplicates = 0 AND p.yes IS NOT true "
    "UNION ALL SELECT a.day::text, 'lanes rely on a seal that is not there', 'a sealed day', 'none'"
    "  FROM (SELECT DISTINCT day FROM sealed_day_adoption) a LEFT JOIN sealed_day s USING (day)"
    "  WHERE s.day IS NULL "
    "UNION ALL SELECT l.day::text, 'its dedupe keys were dropped before all lanes had adopted its seal',"
    "  w.lanes || ' lanes', coalesce(a.lanes, 0) || ' lanes'"
    "  FROM leaf l CROSS JOIN wanted w LEFT JOIN adopted a USING (day) LEFT JOIN sealed_day s USING (day)"
    "  WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace"
    "    AND c.relname = 'dedupe_segment_' || to_char(l.day, 'YYYYMMDD'))"
    "   AND (s.day IS NULL OR s.duplicates > 0 OR coalesce(a.lanes, 0) < w.lanes) ORDER BY 1";
/* clang-format on */

bool verify_seals(struct verify *v)
{
    return verify_count(v, "SELECT count(*) FROM sealed_day", &v->examined) && verify_query(v, seals_sql);
}

/* --- segments --- */

/* clang-format off */
static const char segments_sql[] =
    "WITH kept AS (SELECT lane, sum(octet_length(keys)) / %d AS keys FROM dedupe_segment_%s GROUP BY lane),"
    " events AS (SELECT kafka_partition AS lane, count(*) AS events FROM ONLY %s GROUP BY 1) "
    "SELECT '%s lane ' || lane, 'events of an open day and their dedupe keys differ',"
    " coalesce(e.events, 0) || ' keys', coalesce(k.keys, 0) || ' keys'"
    " FROM kept k FULL JOIN events e USING (lane) WHERE coalesce(e.events, 0) <> coalesce(k.keys, 0)"
    "  AND NOT EXISTS (SELECT FROM sealed_day_adoption a WHERE a.day = '%s' AND a.lane ="
    "   coalesce(k.lane, e.lane))%s ORDER BY lane";
/* clang-format on */

/* What a lane would restore must have a key for each of its events of an open day. */
static bool count_segments(struct verify *v, const struct verify_leaf *leaf)
{
    char sql[SQL_BYTES], only[64] = "";
    const char *suffix = leaf->name + sizeof "usage_event_" - 1;
    if (v->options->partition >= 0)
        snprintf(only, sizeof only, " AND lane = %d", v->options->partition);
    snprintf(sql, sizeof sql, segments_sql, DEDUPE_SEGMENT_BYTES, suffix, leaf->name, leaf->day, leaf->day,
             only);
    uint64_t keys;
    char count[200];
    snprintf(count, sizeof count,
             "SELECT (coalesce(sum(octet_length(keys)), 0) / %d)::bigint FROM dedupe_segment_%s",
             DEDUPE_SEGMENT_BYTES, suffix);
    if (!verify_count(v, count, &keys))
        return false;
    v->examined += keys;
    return verify_query(v, sql);
}

/* Its segments may be dropped while we look: then all lanes have adopted the seal. */
static bool check_segments(struct verify *v, const struct verify_leaf *leaf)
{
    if (!pg_run(v->pg, "SAVEPOINT segments"))
        return false;
    if (count_segments(v, leaf))
        return pg_run(v->pg, "RELEASE segments");
    bool is_gone = strcmp(v->pg->failure.sqlstate, "42P01") == 0;
    return is_gone && pg_run(v->pg, "ROLLBACK TO segments");
}

bool verify_segments(struct verify *v)
{
    v->options->begins(v->options->context, "counting dedupe keys", v->leaf_count);
    for (size_t i = 0; i < v->leaf_count; i++) {
        if (!check_segments(v, &v->leaves[i]))
            return false;
        v->options->progress(v->options->context, i + 1);
    }
    return true;
}

/* --- decisions --- */

#define STATE "customer_id, ceiling, scope, period_start"
#define STATE_NAMED                                                                                          \
    "concat_ws(' ', customer_id, ceiling, nullif(scope, '{}'), to_char(period_start, "                       \
    "'YYYY-MM-DD\"T\"HH24:MI\"Z\"'))"

/* Transitions 1, 2, 3 … of each state, the last one being what the state says; odd ones cross, even ones
 * clear.
 */
/* clang-format off */
static const char transitions_sql[] =
    "WITH d AS (SELECT " STATE ", count(*) AS decisions, min(transition) AS least, max(transition) AS most,"
    "   (array_agg(decision_id ORDER BY transition DESC))[1] AS last_id,"
    "   (array_agg(version ORDER BY transition DESC))[1] AS version"
    "  FROM policy_decision WHERE %s GROUP BY " STATE "),"
    " s AS (SELECT DISTINCT ON (" STATE ") " STATE ", transition, active, version, decision_id"
    "  FROM ceiling_state WHERE transition > 0 AND %s ORDER BY " STATE ", transition DESC),"
    " judged AS (SELECT *, d.least = 1 AND d.most = d.decisions AS whole, s.version AS state_version,"
    "   d.version AS decided_version FROM d FULL JOIN s USING (" STATE ")) "
    "SELECT " STATE_NAMED ", CASE WHEN NOT whole THEN 'a decision is missing'"
    "  WHEN most IS NULL THEN 'a state that no decision explains'"
    "  WHEN transition IS NULL THEN 'decisions without their state'"
    "  ELSE 'the state is not what was decided last' END,"
    " coalesce(format('%%s decisions, the last one %%s (%%s, version %%s)', most, last_id,"
    "  CASE most %% 2 WHEN 1 THEN 'active' ELSE 'cleared' END, decided_version), 'none'),"
    " CASE WHEN NOT whole THEN format('%%s decisions, transitions %%s to %%s', decisions, least, most)"
    "  WHEN transition IS NULL THEN 'none'"
    "  ELSE format('transition %%s, %%s (%%s, version %%s)', transition, decision_id,"
    "   CASE WHEN active THEN 'active' ELSE 'cleared' END, state_version) END"
    " FROM judged WHERE whole IS NOT true OR (most, last_id, decided_version, most %% 2 = 1)"
    "  IS DISTINCT FROM (transition, decision_id, state_version, active) ORDER BY 1";

/* The planner reads the events once, past a hash of the decisions. */
static const char causes_sql[] =
    "SELECT " STATE_NAMED " || ' decision ' || decision_id,"
    " 'the event that caused it is not among the raw events',"
    " concat(p.event_id, ' (', p.topic, '/', p.kafka_partition, '@', p.kafka_offset, ')'), 'none'"
    " FROM policy_decision p WHERE p.source = 'event' AND %s AND NOT EXISTS (SELECT FROM usage_event u"
    "  WHERE u.event_time = p.event_time AND u.topic = p.topic AND u.kafka_partition = p.kafka_partition"
    "   AND u.kafka_offset = p.kafka_offset AND u.customer_id = p.customer_id AND u.event_id = p.event_id"
    "   AND u.meter = p.meter)";
/* clang-format on */

/* Whichever lane made them: where partitions were added, states have moved with their customers. */
static void say_decisions_of(int32_t lane, char *out, size_t size)
{
    snprintf(out, size,
             "((" STATE ") IN (SELECT " STATE " FROM ceiling_state WHERE lane = %d) OR (lane = %d AND (" STATE
             ") NOT IN (SELECT " STATE " FROM ceiling_state)))",
             lane, lane);
}

bool verify_decisions(struct verify *v)
{
    char lane[80] = "true", decided[400] = "true", narrow[600], states[SQL_BYTES], causes[SQL_BYTES],
         count[SQL_BYTES];
    if (v->options->partition >= 0) {
        snprintf(lane, sizeof lane, "lane = %d", v->options->partition);
        say_decisions_of(v->options->partition, decided, sizeof decided);
    }
    snprintf(narrow, sizeof narrow, "%s", decided);
    if (v->options->since_us != INT64_MIN)
        snprintf(narrow, sizeof narrow,
                 "%s AND decided_at >= 'epoch'::timestamptz + %" PRId64 " * interval '1 microsecond'",
                 decided, v->options->since_us);
    snprintf(count, sizeof count, "SELECT count(*) FROM policy_decision WHERE %s", narrow);
    snprintf(states, sizeof states, transitions_sql, decided, lane);
    snprintf(causes, sizeof causes, causes_sql, narrow);
    return verify_count(v, count, &v->examined) && verify_query(v, states) && verify_query(v, causes);
}

/* --- counters --- */

/* Of lanes that have adopted the ceilings in force, for periods that one of them judges and whose events are
 * still counted (a day less than that, for clocks that disagree): a counter and what it should count, without
 * the events that wait to be counted. In the period that goes on, whoever used anything has a counter. */
/* clang-format off */
#define ENDS(start, period) start " + ('1 ' || " period ")::interval"
#define IS_WANTED(row, period, start)                                                                        \
    "EXISTS (SELECT FROM wanted w WHERE w.meter = " row ".meter AND w.period = " period                      \
    " AND (w.shared OR w.customer_id = " row ".customer_id) AND " ENDS(start, period) " > w.since)"
static const char counters_sql[] =
    "WITH wanted AS (SELECT meter, period, who_kind <> 'customer' AS shared,"
    "   CASE who_kind WHEN 'customer' THEN who ELSE '' END AS customer_id, min(since) AS since"
    "  FROM (SELECT *, min(created_at) OVER (PARTITION BY name) AS since FROM ceiling) c"
    "  WHERE retired_at IS NULL AND scope = 'customer' GROUP BY 1, 2, 3, 4),"
    " live AS (SELECT DISTINCT period FROM wanted),"
    " lanes AS (SELECT lane FROM ceiling_adoption WHERE generation ="
    "  coalesce((SELECT value::bigint FROM setting WHERE name = 'ceilings_generation'), 0)),"
    " used AS (SELECT h.customer_id, h.meter, l.period, date_trunc(l.period, h.hour) AS period_start,"
    "   sum(h.quantity) AS used FROM usage_hourly h CROSS JOIN live l"
    "  WHERE " ENDS("date_trunc(l.period, h.hour)", "l.period") " > now() - interval '%d days'"
    "   AND " IS_WANTED("h", "l.period", "date_trunc(l.period, h.hour)") " GROUP BY 1, 2, 3, 4),"
    " waiting AS (SELECT p.customer_id, p.meter, l.period,"
    "   date_trunc(l.period, p.event_time) AS period_start, sum(p.quantity) AS waiting"
    "  FROM ceiling_pending p CROSS JOIN live l GROUP BY 1, 2, 3, 4),"
    " expected AS (SELECT customer_id, meter, period, period_start, used - coalesce(waiting, 0) AS used,"
    "   waiting IS NOT NULL AS waits"
    "  FROM used LEFT JOIN waiting USING (customer_id, meter, period, period_start)),"
    " counted AS (SELECT c.lane, c.customer_id, c.meter, c.period, c.period_start, c.used"
    "  FROM ceiling_usage c JOIN lanes USING (lane) WHERE c.scope = '{}'"
    "   AND " ENDS("c.period_start", "c.period") " > now() - interval '%d days'"
    "   AND " IS_WANTED("c", "c.period", "c.period_start") ") "
    "SELECT concat_ws(' ', customer_id, meter, period, to_char(period_start, 'YYYY-MM-DD\"T\"HH24:MI\"Z\"')),"
    " CASE WHEN c.used IS NULL THEN 'a counter is missing'"
    "  ELSE 'the counter of lane ' || c.lane || ' differs from usage_hourly' END,"
    " trim_scale(coalesce(e.used, 0))::text, coalesce(trim_scale(c.used)::text, 'none')"
    " FROM counted c FULL JOIN expected e USING (customer_id, meter, period, period_start)"
    " WHERE %s AND CASE WHEN c.used IS NULL THEN NOT e.waits AND " ENDS("e.period_start", "period") " > now()"
    "   AND (SELECT count(*) FROM lanes) = (SELECT count(DISTINCT kafka_partition) FROM consumer_offset)"
    "  ELSE c.used <> coalesce(e.used, 0) END ORDER BY 1, 2";
/* clang-format on */

bool verify_counters(struct verify *v)
{
    char sql[SQL_BYTES], lane[80] = "true";
    int days = (int)(CEILING_COUNTED_US / (INT64_C(86400) * 1000000)) - 1;
    if (v->options->partition >= 0)
        snprintf(lane, sizeof lane, "c.lane = %d", v->options->partition);
    snprintf(sql, sizeof sql, counters_sql, days, days, lane);
    return verify_count(v, "SELECT count(*) FROM ceiling_usage", &v->examined) && verify_query(v, sql);
}

/* --- protection --- */

#define PROTECTED                                                                                            \
    "c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND c.relname ~ "                   \
    "'^(usage_event(_[0-9]{8})?|batch_ledger(_[0-9]{6})?|policy_decision)$'"

static const char protection_sql[] =
    "SELECT c.relname::text, 'nothing keeps its rows from being changed', "
    "'trigger append_only, always enabled', CASE t.tgenabled WHEN 'D' THEN 'disabled' "
    "WHEN 'O' THEN 'enabled, but not always' WHEN 'R' THEN 'enabled for replicas only' ELSE 'none' END "
    "FROM pg_class c LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'append_only' "
    "WHERE " PROTECTED " AND t.tgenabled IS DISTINCT FROM 'A' ORDER BY 1";

bool verify_protection(struct verify *v)
{
    return verify_count(v, "SELECT count(*) FROM pg_class c WHERE " PROTECTED, &v->examined) &&
           verify_query(v, protection_sql);
}
