#include "tables.h"

#include <stdlib.h>

#include "arena.h"
#include "printable.h"
#include "units.h"

struct table {
    const struct table_column *columns;
    size_t column_count;
    struct text *cells; /* row by row */
    size_t cell_count;
    size_t capacity;
    struct arena arena; /* their bytes */
};

struct table *table_new(const struct table_column *columns)
{
    struct table *table = calloc(1, sizeof *table);
    if (!table)
        return NULL;
    table->columns = columns;
    while (columns[table->column_count].heading)
        table->column_count++;
    arena_init(&table->arena, 16384);
    return table;
}

void table_free(struct table *table)
{
    if (!table)
        return;
    arena_free(&table->arena);
    free(table->cells);
    free(table);
}

static bool make_room(struct table *table)
{
    if (table->cell_count + table->column_count <= table->capacity)
        return true;
    size_t capacity = 2 * table->capacity + 16 * table->column_count;
    struct text *cells = realloc(table->cells, capacity * sizeof *cells);
    if (!cells)
        return false;
    table->cells = cells;
    table->capacity = capacity;
    return true;
}

bool table_add(struct table *table, const struct text *cells)
{
    if (!make_room(table))
        return false;
    for (size_t i = 0; i < table->column_count; i++) {
        struct text copy = {NULL, 0};
        if (cells[i].bytes)
            copy = arena_text(&table->arena, cells[i]);
        if (cells[i].bytes && !copy.bytes)
            return false;
        table->cells[table->cell_count + i] = copy;
    }
    table->cell_count += table->column_count;
    return true;
}

static struct text shown(struct text cell)
{
    return cell.bytes ? cell : TEXT("-");
}

/* Columns on a terminal, one per character. */
static size_t width_of(struct text text)
{
    char safe[PRINTABLE_BYTES];
    size_t width = 0;
    while (text.length > 0) {
        size_t length = printable_next(PRINTABLE_PLAIN, &text, safe);
        for (size_t i = 0; i < length; i++)
            width += (safe[i] & 0xC0) != 0x80;
    }
    return width;
}

static void print_cell(struct text text, size_t width, bool right, bool last, FILE *out)
{
    size_t used = width_of(text);
    int padding = used < width ? (int)(width - used) : 0;
    fprintf(out, "%*s", right ? padding : 0, "");
    printable_write(PRINTABLE_PLAIN, text, out);
    fprintf(out, "%*s", right || last ? 0 : padding, "");
    fputs(last ? "\n" : "  ", out);
}

static size_t column_width(const struct table *table, size_t column)
{
    size_t width = width_of(text_of(table->columns[column].heading));
    for (size_t i = column; i < table->cell_count; i += table->column_count) {
        size_t cell = width_of(shown(table->cells[i]));
        width = cell > width ? cell : width;
    }
    return width;
}

void table_print(const struct table *table, FILE *out)
{
    size_t widths[table->column_count];
    for (size_t i = 0; i < table->column_count; i++)
        widths[i] = column_width(table, i);
    for (size_t i = 0; i < table->cell_count + table->column_count; i++) {
        size_t column = i % table->column_count;
        enum table_type type = table->columns[column].type;
        struct text text = i < table->column_count ? text_of(table->columns[i].heading)
                                                   : shown(table->cells[i - table->column_count]);
        print_cell(text, widths[column], type == TABLE_INTEGER || type == TABLE_DECIMAL,
                   column + 1 == table->column_count, out);
    }
}

/* JSON holds UTF-8 only: bytes that are something else come out as \xNN. */
static json_t *json_text(struct text text)
{
    json_t *whole = json_stringn(text.bytes, text.length);
    if (whole)
        return whole;
    size_t size = 0;
    char *safe = NULL;
    FILE *out = open_memstream(&safe, &size);
    if (!out)
        return NULL;
    printable_write(PRINTABLE_QUOTED, text, out);
    json_t *escaped = fclose(out) == 0 ? json_stringn(safe, size) : NULL;
    free(safe);
    return escaped;
}

static json_t *json_cell(enum table_type type, struct text cell)
{
    int64_t integer;
    if (!cell.bytes)
        return json_null();
    if (type == TABLE_INTEGER && integer_parse(cell, &integer))
        return json_integer(integer);
    if (type == TABLE_BOOL)
        return json_boolean(text_equal(cell, TEXT("true")));
    return json_text(cell);
}

json_t *table_json(const struct table *table)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < table->cell_count; i += table->column_count) {
        json_t *row = json_object();
        bool whole = row != NULL;
        for (size_t j = 0; whole && j < table->column_count; j++) {
            const struct table_column *column = &table->columns[j];
            whole =
                json_object_set_new(row, column->heading, json_cell(column->type, table->cells[i + j])) == 0;
        }
        if (json_array_append_new(rows, row) != 0 || !whole) {
            json_decref(rows);
            return NULL;
        }
    }
    return rows;
}

/* False: out of memory. Whether it was written, out remembers. */
static bool put(const json_t *value, size_t flags, FILE *out)
{
    char *document = value ? json_dumps(value, flags) : NULL;
    if (!document)
        return false;
    printable_write(PRINTABLE_JSON_DOCUMENT, text_of(document), out);
    free(document);
    fputc('\n', out);
    return true;
}

bool json_write(const json_t *value, size_t flags, FILE *out)
{
    return put(value, flags, out) && !ferror(out);
}

bool json_print(json_t *value, FILE *out)
{
    bool made = put(value, JSON_INDENT(2) | JSON_PRESERVE_ORDER, out);
    json_decref(value);
    fflush(out);
    return made;
}
