#include "listing.h"

#include "../rollup/migrate.h"

enum { COLUMNS_MOST = 24 };

static bool fill(struct table *table, const PGresult *result, int rows)
{
    for (int row = 0; row < rows; row++) {
        struct text cells[COLUMNS_MOST];
        for (int i = 0; i < PQnfields(result) && i < COLUMNS_MOST; i++)
            cells[i] = PQgetisnull(result, row, i) ? (struct text){NULL, 0} : pg_text(result, row, i);
        if (!table_add(table, cells))
            return false;
    }
    return true;
}

struct table *listing_table(const struct table_column *columns, const PGresult *result, int rows)
{
    struct table *table = table_new(columns);
    if (table && !fill(table, result, rows)) {
        table_free(table);
        return NULL;
    }
    return table;
}

bool listing_print(const struct command_context *context, const struct table *table, int rows,
                   const char *if_none)
{
    if (context->json)
        return json_print(table_json(table), stdout);
    if (rows > 0)
        table_print(table, stdout);
    else
        puts(if_none);
    return true;
}

int listing_run(const struct command_context *context, const struct config *config,
                const struct listing *listing)
{
    struct pg pg = {0};
    PG_RESULT *result = NULL;
    if (pg_open(&pg, config->postgres.dsn, context->name) && migrate_check(&pg, migrations))
        result = pg_query(&pg, listing->sql, listing->parameters, listing->parameter_count);
    pg_close(&pg);
    if (!result)
        return command_fail(context, EXIT_FAILED, "%s", pg.failure.detail);
    int rows = PQntuples(result);
    struct table *table = listing_table(listing->columns, result, rows);
    bool printed = table && listing_print(context, table, rows, listing->if_none);
    table_free(table);
    return printed ? EXIT_DONE : command_fail(context, EXIT_FAILED, "out of memory");
}
