/* What a query says, as a command's output: JSON, a table, or a sentence where there is nothing to list. */
#ifndef UB_LISTING_H
#define UB_LISTING_H

#include "../rollup/pg.h"
#include "commands.h"
#include "tables.h"

/* The first rows of result, a column each, NULL as absent. NULL: out of memory. */
struct table *listing_table(const struct table_column *columns, const PGresult *result, int rows);

/* JSON, a table or the sentence if_none. False: out of memory or standard output failed. */
bool listing_print(const struct command_context *context, const struct table *table, int rows,
                   const char *if_none);

struct listing {
    const struct table_column *columns;
    const char *sql; /* its columns are text, in the table's order */
    const char *const *parameters;
    int parameter_count;
    const char *if_none;
};

/* Asks PostgreSQL, whose schema has to suit this program, and prints the answer. Returns an exit code. */
int listing_run(const struct command_context *context, const struct config *config,
                const struct listing *listing);

#endif
