/* Tables for standard output: aligned columns for a person, or JSON for a program, from the same rows. */
#ifndef UB_TABLES_H
#define UB_TABLES_H

#include <stdio.h>
#include <jansson.h>

#include "text.h"

enum table_type {
    TABLE_TEXT,    /* left-aligned; JSON string */
    TABLE_INTEGER, /* right-aligned; JSON integer */
    TABLE_DECIMAL, /* right-aligned; JSON string, so that no reader rounds it */
    TABLE_BOOL     /* "true" or "false"; JSON boolean */
};

struct table_column {
    const char *heading; /* the JSON name too: lower case, words joined by _ ; NULL ends the columns */
    enum table_type type;
};

struct table;

/* columns must outlive the table. NULL: out of memory. */
struct table *table_new(const struct table_column *columns);
void table_free(struct table *table);

/* One cell per column, copied. A cell with bytes NULL is absent: "-", or null. False: out of memory. */
bool table_add(struct table *table, const struct text *cells);

/* Control characters and invalid UTF-8 come out escaped. */
void table_print(const struct table *table, FILE *out);

/* An array with one object per row. The caller owns it; NULL: out of memory. */
json_t *table_json(const struct table *table);

/* Prints value and a newline, laid out by jansson's flags, such that a terminal takes nothing in it for a
 * command. False: out of memory or out failed. */
bool json_write(const json_t *value, size_t flags, FILE *out);

/* Prints value and a newline, indented, keys in their order, and frees it. False: out of memory; whether out
 * failed is for ferror() to say. */
bool json_print(json_t *value, FILE *out);

#endif
