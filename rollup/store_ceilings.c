/* What a batch says about enforcement. */
#include "store_writes.h"

#include "../consumer/log.h"

static void put_optional(struct pg_columns *c, bool present, decimal_t value)
{
    if (present)
        pg_put_numeric(c, value);
    else
        pg_put_null(c);
}

static void put_decision_event(struct store_link *link, struct pg_columns *c, const struct decision *decision)
{
    if (decision->source != DECIDED_BY_EVENT) {
        pg_put_text(c, TEXT(""));
        pg_put_null(c);
        pg_put_null(c);
        pg_put_text(c, TEXT(""));
        pg_put_null(c);
        return;
    }
    pg_put_text(c, store_topic(link, decision->topic));
    pg_put_int4(c, decision->partition);
    pg_put_int8(c, decision->offset);
    pg_put_text(c, decision->event_id);
    pg_put_time(c, decision->event_time_us);
}

static void put_decision(struct store_link *link, struct pg_columns *c, const struct decision *decision)
{
    pg_put_text(c, text_of(decision->id));
    pg_put_int4(c, decision->lane);
    pg_put_text(c, decision->customer_id);
    pg_put_text(c, decision->ceiling);
    pg_put_int8(c, decision->version);
    pg_put_text(c, decision->scope);
    pg_put_text(c, text_of(ceiling_policy_names[decision->policy]));
    pg_put_text(c, decision->meter);
    pg_put_int8(c, decision->transition);
    pg_put_text(c, text_of(ceiling_period_names[decision->period]));
    pg_put_time(c, decision->period_start_us);
    pg_put_time(c, decision->period_end_us);
    pg_put_numeric(c, decision->limit);
    pg_put_numeric(c, decision->used);
    pg_put_text(c, text_of(decision_source_names[decision->source]));
    put_decision_event(link, c, decision);
    pg_put_time(c, decision->decided_at_us);
    pg_put_bool(c, decision->published);
    pg_put_text(c, decision->trace);
}

/* A decision is made once: its id is the same whenever it is made again, and it is kept once. That it is
 * there already means that somebody sent a lane back to an earlier offset. */
static bool insert_decisions(struct store_link *link, struct pg_columns *columns)
{
    static const char sql[] =
        "INSERT INTO policy_decision (decision_id, lane, customer_id, ceiling, version, scope, policy, "
        "meter, "
        "transition, period, period_start, period_end, limit_quantity, used, source, topic, kafka_partition, "
        "kafka_offset, event_id, event_time, decided_at, published, decision_trace) SELECT id, lane, "
        "customer_id, "
        "ceiling, version, scope, policy, meter, transition, period, period_start, period_end, "
        "limit_quantity, used, "
        "source, topic, kafka_partition, kafka_offset, event_id, event_time, decided_at, published, "
        "trace::jsonb FROM "
        "unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, "
        "$21, $22, "
        "$23) AS d(id, lane, customer_id, ceiling, version, scope, policy, meter, transition, period, "
        "period_start, "
        "period_end, limit_quantity, used, source, topic, kafka_partition, kafka_offset, event_id, "
        "event_time, "
        "decided_at, published, trace) ORDER BY id ON CONFLICT (decision_id) DO NOTHING RETURNING 1";
    size_t rows = columns->rows;
    if (rows == 0)
        return true;
    PG_RESULT *result = pg_columns_query(&link->pg, sql, columns);
    if (result && (size_t)PQntuples(result) != rows)
        log_warning("decisions were there already and are kept as they were",
                    LOG_UINT("count", rows - (size_t)PQntuples(result)));
    return result;
}

bool store_write_decisions(struct store_link *link, const struct batch *batch)
{
    struct pg_columns columns;
    pg_columns_begin(&columns, "tittjtttjtzznnttijtzzbt");
    bool ok = true;
    for (size_t i = 0; ok && i < batch->decision_count; i++) {
        put_decision(link, &columns, &batch->decisions[i]);
        ok = !pg_columns_full(&columns) || insert_decisions(link, &columns);
    }
    ok = ok && insert_decisions(link, &columns);
    pg_columns_free(&columns);
    return ok;
}

static void put_counter(struct pg_columns *c, int32_t lane, const struct ceiling_counter *counter)
{
    pg_put_int4(c, lane);
    pg_put_text(c, counter->customer_id);
    pg_put_text(c, counter->meter);
    pg_put_text(c, text_of(ceiling_period_names[counter->period]));
    pg_put_text(c, counter->scope);
    pg_put_time(c, counter->period_start_us);
    pg_put_numeric(c, counter->used);
}

static void put_state(struct pg_columns *c, int32_t lane, const struct ceiling_state *state)
{
    pg_put_int4(c, lane);
    pg_put_text(c, state->customer_id);
    pg_put_text(c, state->ceiling);
    pg_put_text(c, state->scope);
    pg_put_time(c, state->period_start_us);
    pg_put_time(c, state->period_end_us);
    pg_put_int8(c, state->version);
    pg_put_int8(c, state->transition);
    pg_put_bool(c, state->active);
    pg_put_text(c, text_of(state->decision_id));
}

static const char usage_sql[] =
    "INSERT INTO ceiling_usage (lane, customer_id, meter, period, scope, period_start, used) SELECT * FROM "
    "unnest($1, $2, $3, $4, $5, $6, $7) AS u(lane, customer_id, meter, period, scope, period_start, used) "
    "ORDER BY "
    "lane, customer_id COLLATE \"C\", meter COLLATE \"C\", period, scope COLLATE \"C\", period_start ON "
    "CONFLICT "
    "(lane, customer_id, meter, period, scope, period_start) DO UPDATE SET used = excluded.used";

static const char state_sql[] =
    "INSERT INTO ceiling_state AS s (lane, customer_id, ceiling, scope, period_start, period_end, version, "
    "transition, "
    "active, decision_id) SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) AS n(lane, "
    "customer_id, "
    "ceiling, scope, period_start, period_end, version, transition, active, decision_id) ORDER BY lane, "
    "customer_id "
    "COLLATE \"C\", ceiling COLLATE \"C\", scope COLLATE \"C\", period_start ON CONFLICT (lane, customer_id, "
    "ceiling, "
    "scope, period_start) DO UPDATE SET period_end = excluded.period_end, version = excluded.version, "
    "transition = "
    "excluded.transition, active = excluded.active, decision_id = excluded.decision_id";

/* Counters or states; the rows are whole, not differences. */
static bool write_changes(struct store_link *link, const struct batch *batch, bool states)
{
    const char *sql = states ? state_sql : usage_sql;
    struct pg_columns columns;
    pg_columns_begin(&columns, states ? "itttzzjjbt" : "ittttzn");
    bool ok = true;
    for (size_t i = 0; ok && i < batch->change_count; i++) {
        const struct ceiling_change *change = &batch->changes[i];
        if (change->is_state != states)
            continue;
        if (states)
            put_state(&columns, change->lane, &change->state);
        else
            put_counter(&columns, change->lane, &change->counter);
        ok = pg_columns_run_if_full(&link->pg, sql, &columns);
    }
    ok = ok && pg_columns_run(&link->pg, sql, &columns);
    pg_columns_free(&columns);
    return ok;
}

bool store_write_counters(struct store_link *link, const struct batch *batch)
{
    return write_changes(link, batch, false) && write_changes(link, batch, true);
}

static bool write_seal_adoptions(struct store_link *link, const struct batch *batch)
{
    struct pg_columns columns;
    pg_columns_begin(&columns, "dij");
    for (size_t i = 0; i < batch->adoption_count; i++) {
        pg_put_day(&columns, batch->adoptions[i].day);
        pg_put_int4(&columns, batch->adoptions[i].lane);
        pg_put_int8(&columns, link->batch_id);
    }
    bool ok = pg_columns_run(
        &link->pg,
        "INSERT INTO sealed_day_adoption (day, lane, batch_id) SELECT * FROM unnest($1, $2, $3) "
        "AS a(day, lane, batch_id) ORDER BY day, lane ON CONFLICT DO NOTHING",
        &columns);
    pg_columns_free(&columns);
    return ok;
}

static bool write_ceiling_adoptions(struct store_link *link, const struct batch *batch)
{
    struct pg_columns columns;
    pg_columns_begin(&columns, "ijj");
    for (size_t i = 0; i < batch->ceilings_adopted_count; i++) {
        pg_put_int4(&columns, batch->ceilings_adopted[i]);
        pg_put_int8(&columns, batch->ceilings_generation);
        pg_put_int8(&columns, link->batch_id);
    }
    bool ok = pg_columns_run(
        &link->pg,
        "INSERT INTO ceiling_adoption (lane, generation, batch_id) SELECT * FROM "
        "unnest($1, $2, $3) AS a(lane, generation, batch_id) ORDER BY lane ON CONFLICT (lane) DO "
        "UPDATE SET generation = excluded.generation, batch_id = excluded.batch_id",
        &columns);
    pg_columns_free(&columns);
    return ok;
}

bool store_write_adoptions(struct store_link *link, const struct batch *batch)
{
    return write_seal_adoptions(link, batch) && write_ceiling_adoptions(link, batch);
}

static void put_pending(struct store_link *link, struct pg_columns *c, const struct batch *batch,
                        const struct batch_sealed *sealed)
{
    const struct batch_partition *part = &batch->partitions[sealed->partition_row];
    const struct event *event = &sealed->event;
    pg_put_text(c, store_topic(link, part->topic));
    pg_put_int4(c, part->partition);
    pg_put_int8(c, sealed->offset);
    pg_put_int4(c, (int32_t)sealed->lane);
    pg_put_text(c, event->customer_id);
    pg_put_text(c, event->event_id);
    pg_put_text(c, event->meter);
    pg_put_numeric(c, event->quantity);
    pg_put_time(c, event->time_us);
    pg_put_text(c, event->model);
    pg_put_text(c, event->lifted[LIFTED_USER_ID]);
    pg_put_text(c, event->lifted[LIFTED_AGENT_ID]);
    pg_put_text(c, event->plan_tier);
    put_optional(c, event->has_credit_balance, event->credit_balance);
    put_optional(c, event->has_contractual_cap, event->contractual_cap);
}

static bool add_pending(struct store_link *link, const struct batch *batch)
{
    static const char sql[] = "INSERT INTO ceiling_pending (topic, kafka_partition, kafka_offset, lane, "
                              "customer_id, event_id, meter, "
                              "quantity, event_time, model, user_id, agent_id, plan_tier, credit_balance, "
                              "contractual_cap) SELECT * FROM "
                              "unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
    struct pg_columns columns;
    pg_columns_begin(&columns, "tijitttnzttttnn");
    bool ok = true;
    for (size_t i = 0; ok && i < batch->sealed_count; i++) {
        if (!batch->sealed[i].accepted || !batch->sealed[i].counted)
            continue;
        put_pending(link, &columns, batch, &batch->sealed[i]);
        ok = pg_columns_run_if_full(&link->pg, sql, &columns);
    }
    ok = ok && pg_columns_run(&link->pg, sql, &columns);
    pg_columns_free(&columns);
    return ok;
}

static bool delete_settled(struct store_link *link, const struct batch *batch)
{
    struct pg_columns columns;
    pg_columns_begin(&columns, "tij");
    for (size_t i = 0; i < batch->settled_count; i++) {
        pg_put_text(&columns, store_topic(link, batch->settled[i].topic));
        pg_put_int4(&columns, batch->settled[i].partition);
        pg_put_int8(&columns, batch->settled[i].offset);
    }
    bool ok =
        pg_columns_run(&link->pg,
                       "DELETE FROM ceiling_pending p USING unnest($1, $2, $3) AS s(topic, kafka_partition, "
                       "kafka_offset) WHERE p.topic = s.topic AND p.kafka_partition = s.kafka_partition AND "
                       "p.kafka_offset = s.kafka_offset",
                       &columns);
    pg_columns_free(&columns);
    return ok;
}

bool store_write_pending(struct store_link *link, const struct batch *batch)
{
    return add_pending(link, batch) && delete_settled(link, batch);
}

/* Stored once, by whoever is first; whoever learned something else reads everything again. */
bool store_write_learned(struct store_link *link, const struct batch *batch)
{
    if (batch->learned == PARTITIONER_UNKNOWN)
        return true;
    const char *learned = partitioner_names[batch->learned];
    PG_RESULT *added = pg_query(
        &link->pg, "INSERT INTO setting (name, value) VALUES ('partitioner', $1) ON CONFLICT DO NOTHING",
        &learned, 1);
    if (!added)
        return false;
    PG_RESULT *stored = pg_query(&link->pg, "SELECT value FROM setting WHERE name = 'partitioner'", NULL, 0);
    if (!stored)
        return false;
    if (PQntuples(stored) == 1 && text_equal(pg_text(stored, 0, 0), text_of(learned)))
        return true;
    return pg_fail(&link->pg, PG_PASSING, "another process has learned another partitioner than %s", learned);
}
