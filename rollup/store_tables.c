/* What a batch writes beside raw events, ceilings and offsets. */
#include "store_writes.h"

#include <stdio.h>

/* Writes what is gathered once there is enough of it. */
static void put_dead_letter(struct store_link *link, struct pg_columns *c,
                            const struct batch_dead_letter *dead)
{
    pg_put_text(c, text_of(refusal_names[dead->reason]));
    pg_put_text(c, dead->detail);
    pg_put_bytes(c, dead->key.bytes, dead->key.length);
    pg_put_bytes(c, dead->payload.bytes, dead->payload.length);
    pg_put_text(c, dead->headers);
    if (dead->record_time_ms >= 0)
        pg_put_time(c, dead->record_time_ms * 1000);
    else
        pg_put_null(c);
    pg_put_text(c, store_topic(link, dead->topic));
    pg_put_int4(c, dead->partition);
    pg_put_int8(c, dead->offset);
}

bool store_write_dead_letters(struct store_link *link, const struct batch *batch)
{
    static const char sql[] = "INSERT INTO dead_letter (reason, detail, key, payload, headers, record_time, "
                              "topic, kafka_partition, "
                              "kafka_offset) SELECT reason, detail, key, payload, headers::json, "
                              "record_time, topic, kafka_partition, "
                              "kafka_offset FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) AS d(reason, "
                              "detail, key, payload, headers, "
                              "record_time, topic, kafka_partition, kafka_offset)";
    struct pg_columns columns;
    pg_columns_begin(&columns, "ttxxtztij");
    bool ok = true;
    for (size_t i = 0; ok && i < batch->dead_letter_count; i++) {
        put_dead_letter(link, &columns, &batch->dead_letters[i]);
        ok = pg_columns_run_if_full(&link->pg, sql, &columns);
    }
    ok = ok && pg_columns_run(&link->pg, sql, &columns);
    pg_columns_free(&columns);
    return ok;
}

static void put_conflict(struct store_link *link, struct pg_columns *c, const struct batch_conflict *conflict)
{
    static const char *const kinds[] = {"usage", "correction", "retraction"};
    const struct event *event = &conflict->event;
    pg_put_text(c, event->customer_id);
    pg_put_text(c, event->meter);
    pg_put_text(c, event->event_id);
    pg_put_text(c, store_topic(link, conflict->topic));
    pg_put_int4(c, conflict->partition);
    pg_put_int8(c, conflict->offset);
    pg_put_time(c, event->time_us);
    pg_put_numeric(c, event->quantity);
    pg_put_text(c, text_of(kinds[event->kind]));
    pg_put_text(c, event->model);
    pg_put_text(c, conflict->payload);
}

bool store_write_conflicts(struct store_link *link, const struct batch *batch)
{
    static const char sql[] = "INSERT INTO event_conflict (customer_id, meter, event_id, topic, "
                              "kafka_partition, kafka_offset, event_time, "
                              "quantity, kind, model, payload) SELECT customer_id, meter, event_id, topic, "
                              "kafka_partition, kafka_offset, "
                              "event_time, quantity, kind, model, payload::json FROM unnest($1, $2, $3, $4, "
                              "$5, $6, $7, $8, $9, $10, $11) AS "
                              "c(customer_id, meter, event_id, topic, kafka_partition, kafka_offset, "
                              "event_time, quantity, kind, model, "
                              "payload)";
    struct pg_columns columns;
    pg_columns_begin(&columns, "ttttijznttt");
    bool ok = true;
    for (size_t i = 0; ok && i < batch->conflict_count; i++) {
        put_conflict(link, &columns, &batch->conflicts[i]);
        ok = pg_columns_run_if_full(&link->pg, sql, &columns);
    }
    ok = ok && pg_columns_run(&link->pg, sql, &columns);
    pg_columns_free(&columns);
    return ok;
}

/* The segments of one day, from `first` on, which is the day's first in the batch. */
static bool write_day_segments(struct store_link *link, const struct batch *batch, size_t first)
{
    char table[STORE_NAME_BYTES], sql[200];
    uint16_t day = batch->segments[first].day;
    store_day_name(table, "dedupe_segment", day);
    snprintf(sql, sizeof sql, "INSERT INTO %s (lane, batch_id, keys) SELECT * FROM unnest($1, $2, $3)",
             table);
    struct pg_columns columns;
    pg_columns_begin(&columns, "ijx");
    bool ok = true;
    for (size_t i = first; ok && i < batch->segment_count; i++) {
        const struct batch_segment *segment = &batch->segments[i];
        if (segment->day != day || segment->keys.size_bytes == 0)
            continue;
        pg_put_int4(&columns, segment->lane);
        pg_put_int8(&columns, link->batch_id);
        pg_put_bytes(&columns, segment->keys.bytes, segment->keys.size_bytes);
        ok = pg_columns_run_if_full(&link->pg, sql, &columns);
    }
    ok = ok && pg_columns_run(&link->pg, sql, &columns);
    pg_columns_free(&columns);
    return ok;
}

bool store_write_segments(struct store_link *link, const struct batch *batch)
{
    struct day_set written = {0};
    for (size_t i = 0; i < batch->segment_count; i++)
        if (day_set_add(&written, batch->segments[i].day) && !write_day_segments(link, batch, i))
            return false;
    return true;
}

/* Every accepted event has a rollup, so the rollups name all customers and meters. Sorted, as all that two
 * writers may both write. */
bool store_write_names(struct store_link *link, const struct batch *batch)
{
    size_t count;
    const struct sorted_row *rows = accumulator_hourly(batch->accumulator, &count);
    struct pg_columns customers, meters;
    pg_columns_begin(&customers, "t");
    pg_columns_begin(&meters, "t");
    for (size_t i = 0; i < count; i++) {
        bool next_customer =
            i == 0 || !text_equal(rows[i].hourly->customer_id, rows[i - 1].hourly->customer_id);
        if (next_customer && seen_set_add(&link->customers, rows[i].hourly->customer_id))
            pg_put_text(&customers, rows[i].hourly->customer_id);
        if ((next_customer || !text_equal(rows[i].hourly->meter, rows[i - 1].hourly->meter)) &&
            seen_set_add(&link->meters, rows[i].hourly->meter))
            pg_put_text(&meters, rows[i].hourly->meter);
    }
    bool ok = pg_columns_run(
                  &link->pg,
                  "INSERT INTO customer (customer_id) SELECT DISTINCT id COLLATE \"C\" FROM unnest($1) id "
                  "ORDER BY 1 ON CONFLICT DO NOTHING",
                  &customers) &&
              pg_columns_run(&link->pg,
                             "INSERT INTO meter (meter) SELECT DISTINCT id COLLATE \"C\" FROM unnest($1) id "
                             "ORDER BY 1 ON CONFLICT DO NOTHING",
                             &meters);
    pg_columns_free(&customers);
    pg_columns_free(&meters);
    return ok;
}

static void put_hourly(struct pg_columns *c, const struct hourly_row *row)
{
    pg_put_text(c, row->customer_id);
    pg_put_time(c, row->hour_us);
    pg_put_text(c, row->meter);
    pg_put_text(c, row->model);
    pg_put_text(c, row->dimensions);
    pg_put_int8(c, row->events);
    pg_put_numeric(c, row->quantity);
    pg_put_numeric(c, row->adjustment);
    pg_put_time(c, row->first_event_us);
    pg_put_time(c, row->last_event_us);
}

/* In the order of the primary key, which is the accumulator's: two writers lock rows in the same order. */
static bool write_hourly(struct store_link *link, const struct batch *batch)
{
    static const char sql[] =
        "INSERT INTO usage_hourly AS h (customer_id, hour, meter, model, dimensions, events, quantity, "
        "adjustment, "
        "first_event_at, last_event_at) SELECT unnest($1), unnest($2), unnest($3), unnest($4), "
        "unnest($5)::jsonb, unnest($6), unnest($7), unnest($8), unnest($9), unnest($10) "
        "ON CONFLICT (customer_id, hour, meter, model, dimensions) DO UPDATE SET events = h.events + "
        "excluded.events, "
        "quantity = h.quantity + excluded.quantity, adjustment = h.adjustment + excluded.adjustment, "
        "first_event_at = least(h.first_event_at, excluded.first_event_at), "
        "last_event_at = greatest(h.last_event_at, excluded.last_event_at)";
    size_t count;
    const struct sorted_row *rows = accumulator_hourly(batch->accumulator, &count);
    struct pg_columns columns;
    pg_columns_begin(&columns, "tztttjnnzz");
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        put_hourly(&columns, rows[i].hourly);
        ok = pg_columns_run_if_full(&link->pg, sql, &columns);
    }
    ok = ok && pg_columns_run(&link->pg, sql, &columns);
    pg_columns_free(&columns);
    return ok;
}

bool store_write_rollups(struct store_link *link, const struct batch *batch)
{
    return write_hourly(link, batch) && store_write_runs(link, batch);
}
