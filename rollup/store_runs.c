/* usage_run. Most rows of a batch belong to runs that were never seen before: the table is asked once per
 * run, and the rows of those that it does not know go in by a plain INSERT, which costs half of what an
 * upsert does. Only the owner of a customer's lane writes his runs; should one who lost it come in between
 * all the same, the unique index refuses the row and the batch is tried again. */
#include "store_writes.h"

#include <stdlib.h>

#define INSERT_ROWS                                                                                          \
    "INSERT INTO usage_run AS r (customer_id, run_id, agent_id, user_id, meter, model, parent_run_id, "      \
    "events, quantity, first_event_at, last_event_at) SELECT unnest($1), unnest($2), unnest($3), "           \
    "unnest($4), unnest($5), unnest($6), unnest($7), unnest($8), unnest($9), unnest($10), unnest($11)"

static const char insert_sql[] = INSERT_ROWS;

static const char upsert_sql[] = INSERT_ROWS
    " ON CONFLICT (customer_id, run_id, agent_id, user_id, meter, model) DO UPDATE SET "
    "parent_run_id = CASE r.parent_run_id WHEN '' THEN excluded.parent_run_id ELSE r.parent_run_id END, "
    "events = r.events + excluded.events, quantity = r.quantity + excluded.quantity, "
    "first_event_at = least(r.first_event_at, excluded.first_event_at), "
    "last_event_at = greatest(r.last_event_at, excluded.last_event_at)";

/* A subquery that yields a value is asked row by row, through the primary key: a join might read the whole
 * table, which is large. */
static const char known_sql[] =
    "SELECT number FROM (SELECT unnest($1) AS customer_id, unnest($2) AS run_id, unnest($3) AS number) AS k "
    "WHERE (SELECT true FROM usage_run r WHERE r.customer_id = k.customer_id AND r.run_id = k.run_id LIMIT "
    "1)";

/* The batch's rows, a run's beside each other, and whether the table knows each one's run. */
struct runs {
    const struct sorted_row *rows;
    size_t count;
    bool *known;
};

static bool same_run(const struct run_row *a, const struct run_row *b)
{
    return text_equal(a->run_id, b->run_id) && text_equal(a->customer_id, b->customer_id);
}

static void mark_known(struct runs *runs, size_t first)
{
    for (size_t i = first; i < runs->count && same_run(runs->rows[i].run, runs->rows[first].run); i++)
        runs->known[i] = true;
}

static bool ask(struct store_link *link, struct pg_columns *columns, struct runs *runs)
{
    PG_RESULT *result = pg_columns_query(&link->pg, known_sql, columns);
    for (int row = 0; result && row < PQntuples(result); row++)
        mark_known(runs, (size_t)pg_int8(result, row, 0));
    return result;
}

static bool find_known(struct store_link *link, struct runs *runs)
{
    struct pg_columns columns;
    pg_columns_begin(&columns, "ttj");
    bool ok = true;
    for (size_t i = 0; ok && i < runs->count; i++) {
        if (i > 0 && same_run(runs->rows[i].run, runs->rows[i - 1].run))
            continue;
        pg_put_text(&columns, runs->rows[i].run->customer_id);
        pg_put_text(&columns, runs->rows[i].run->run_id);
        pg_put_int8(&columns, (int64_t)i);
        ok = !pg_columns_full(&columns) || ask(link, &columns, runs);
    }
    ok = ok && (columns.rows == 0 || ask(link, &columns, runs));
    pg_columns_free(&columns);
    return ok;
}

static void put_run(struct pg_columns *c, const struct run_row *row)
{
    pg_put_text(c, row->customer_id);
    pg_put_text(c, row->run_id);
    pg_put_text(c, row->agent_id);
    pg_put_text(c, row->user_id);
    pg_put_text(c, row->meter);
    pg_put_text(c, row->model);
    pg_put_text(c, row->parent_run_id);
    pg_put_int8(c, row->events);
    pg_put_numeric(c, row->quantity);
    pg_put_time(c, row->first_event_us);
    pg_put_time(c, row->last_event_us);
}

static bool write_some(struct store_link *link, const struct runs *runs, bool known)
{
    const char *sql = known ? upsert_sql : insert_sql;
    struct pg_columns columns;
    pg_columns_begin(&columns, "tttttttjnzz");
    bool ok = true;
    for (size_t i = 0; ok && i < runs->count; i++) {
        if (runs->known[i] != known)
            continue;
        put_run(&columns, runs->rows[i].run);
        ok = pg_columns_run_if_full(&link->pg, sql, &columns);
    }
    ok = ok && pg_columns_run(&link->pg, sql, &columns);
    pg_columns_free(&columns);
    return ok;
}

static bool insert_new(struct store_link *link, const struct runs *runs)
{
    return write_some(link, runs, false) || store_contested(link);
}

bool store_write_runs(struct store_link *link, const struct batch *batch)
{
    struct runs runs = {0};
    runs.rows = accumulator_runs(batch->accumulator, &runs.count);
    if (runs.count == 0)
        return true;
    runs.known = calloc(runs.count, sizeof *runs.known);
    if (!runs.known)
        return pg_fail(&link->pg, PG_PASSING, "out of memory");
    bool ok = find_known(link, &runs) && insert_new(link, &runs) && write_some(link, &runs, true);
    free(runs.known);
    return ok;
}
