#include <stdarg.h>
#include <stdlib.h>

#include "config_reader.h"
#include "printable.h"

bool config_may_go_on(const struct config_reader *reader)
{
    return !reader->out_of_memory && reader->errors->count < CONFIG_ERRORS_LIMIT;
}

static int64_t order_of(struct config_place place)
{
    return place.variable ? INT64_MAX : (int64_t)place.line << 32 | place.column;
}

/* Errors are found section by section and shown in the order of the file. Takes ownership of sentence. */
static void insert(struct config_reader *reader, int64_t order, char *sentence)
{
    struct config_errors *errors = reader->errors;
    char **items = realloc(errors->items, (errors->count + 1) * sizeof *items);
    if (items)
        errors->items = items;
    int64_t *orders = realloc(reader->orders, (errors->count + 1) * sizeof *orders);
    if (orders)
        reader->orders = orders;
    if (!items || !orders) {
        free(sentence);
        reader->out_of_memory = true;
        return;
    }
    size_t at = errors->count++;
    for (; at > 0 && orders[at - 1] > order; at--) {
        items[at] = items[at - 1];
        orders[at] = orders[at - 1];
    }
    items[at] = sentence;
    orders[at] = order;
}

static void write_place(const struct config_reader *reader, struct config_place place, FILE *out)
{
    printable_write(PRINTABLE_PLAIN, text_of(place.variable ? place.variable : reader->path), out);
    if (!place.variable && place.line > 0)
        fprintf(out, ":%d:%d", place.line, place.column);
    fputs(": ", out);
}

void config_wrong(struct config_reader *reader, struct config_place place, const char *path,
                  const char *format, ...)
{
    char sentence[1024], *line = NULL;
    size_t length = 0;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    FILE *out = open_memstream(&line, &length);
    if (!out) {
        reader->out_of_memory = true;
        return;
    }
    write_place(reader, place, out);
    printable_write(PRINTABLE_PLAIN, text_of(path), out);
    fputs(path[0] ? ": " : "", out);
    printable_write(PRINTABLE_PLAIN, text_of(sentence), out);
    if (fclose(out) == 0) {
        insert(reader, order_of(place), line);
    } else {
        free(line);
        reader->out_of_memory = true;
    }
}

static void write_choices(const struct config_key *key, FILE *out)
{
    const char *gap = " ";
    for (size_t i = 0; i < key->choice_count; i++) {
        if (!key->choices[i])
            continue;
        fprintf(out, "%s%s", gap, key->choices[i]);
        gap = ", ";
    }
}

static void write_expected(const struct config_key *key, enum config_outcome outcome, FILE *out)
{
    const struct config_type_row *type = &config_types[key->type];
    fprintf(out, "%s", type->noun);
    if (outcome == CONFIG_OUT_OF_RANGE) {
        fputs(" from ", out);
        type->print(key, &key->least, out);
        fputs(" to ", out);
        type->print(key, &key->most, out);
    } else if (key->choices) {
        write_choices(key, out);
    } else if (type->example) {
        fprintf(out, " such as %s", type->example);
    }
}

void config_unexpected(struct config_reader *reader, struct config_place place, const struct config_key *key,
                       enum config_outcome outcome, const char *found)
{
    char expected[512] = "";
    FILE *out = fmemopen(expected, sizeof expected, "w");
    if (!out) {
        reader->out_of_memory = true;
        return;
    }
    write_expected(key, outcome, out);
    fclose(out);
    config_wrong(reader, place, key->path, "expected %s, found %s", expected, found);
}

void config_errors_free(struct config_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++)
        free(errors->items[i]);
    free(errors->items);
    *errors = (struct config_errors){0};
}
