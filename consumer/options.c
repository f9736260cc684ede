#include "options.h"

#include <getopt.h>
#include <stdarg.h>
#include <string.h>

#include "nearest.h"
#include "printable.h"
#include "units.h"

enum { ROWS_LIMIT = 32, HELP_COLUMN = 28 };

static const struct option_row help_row = {
    .name = "help", .letter = 'h', .type = OPTION_FLAG, .help = "show this help"};

/* The rows in the shape that getopt_long wants; longs[i] belongs to rows[i]. */
struct parser {
    const char *name;
    const struct option_row *rows[ROWS_LIMIT];
    struct option longs[ROWS_LIMIT + 1];
    char letters[2 * ROWS_LIMIT + 3];
    int count;
};

static void add_row(struct parser *parser, const struct option_row *row)
{
    if (parser->count == ROWS_LIMIT)
        __builtin_trap(); /* a table longer than any command's should be */
    bool argument = row->type != OPTION_FLAG;
    parser->rows[parser->count] = row;
    parser->longs[parser->count] =
        (struct option){row->name, argument ? required_argument : no_argument, NULL, 0};
    parser->count++;
    size_t used = strlen(parser->letters);
    if (row->letter != 0)
        parser->letters[used++] = row->letter;
    if (row->letter != 0 && argument)
        parser->letters[used] = ':';
}

static void add_rows(struct parser *parser, const struct option_row *rows)
{
    for (; rows && rows->name; rows++)
        add_row(parser, rows);
}

__attribute__((format(printf, 2, 3))) static enum options_outcome wrong(const char *name, const char *format,
                                                                        ...)
{
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s: ", name);
    printable_write(PRINTABLE_PLAIN, text_of(sentence), stderr);
    fprintf(stderr, " (%s --help lists the options)\n", name);
    return OPTIONS_WRONG;
}

static enum options_outcome wrong_number(const char *name, const struct option_row *row, const char *found)
{
    char least[UNITS_TEXT_BYTES], most[UNITS_TEXT_BYTES];
    const char *what, *such_as;
    int64_t most_value = row->least == 0 && row->most == 0 ? INT64_MAX : row->most;
    if (row->type == OPTION_INTEGER) {
        what = "an integer", such_as = "100";
        snprintf(least, sizeof least, "%lld", (long long)row->least);
        snprintf(most, sizeof most, "%lld", (long long)most_value);
    } else {
        bool duration = row->type == OPTION_DURATION;
        what = duration ? "a duration" : "a size", such_as = duration ? "30s" : "64MiB";
        (duration ? duration_text : size_text)(row->least, least);
        (duration ? duration_text : size_text)(most_value, most);
    }
    if (row->least == 0 && row->most == 0)
        return wrong(name, "--%s: expected %s such as %s, found \"%s\"", row->name, what, such_as, found);
    return wrong(name, "--%s: expected %s from %s to %s, found \"%s\"", row->name, what, least, most, found);
}

static enum options_outcome set_number(const char *name, const struct option_row *row, const char *found)
{
    bool (*const parse)(struct text, int64_t *) = row->type == OPTION_INTEGER    ? integer_parse
                                                  : row->type == OPTION_DURATION ? duration_parse
                                                                                 : size_parse;
    int64_t value;
    int64_t most = row->least == 0 && row->most == 0 ? INT64_MAX : row->most;
    if (!parse(text_of(found), &value) || value < row->least || value > most)
        return wrong_number(name, row, found);
    *(int64_t *)row->value = value;
    return OPTIONS_PARSED;
}

static enum options_outcome set_value(const char *name, const struct option_row *row, const char *found)
{
    switch (row->type) {
    case OPTION_FLAG:
        if (row == &help_row)
            return OPTIONS_HELP;
        *(bool *)row->value = true;
        return OPTIONS_PARSED;
    case OPTION_TEXT:
        *(const char **)row->value = found;
        return OPTIONS_PARSED;
    case OPTION_INTEGER:
    case OPTION_DURATION:
    case OPTION_SIZE:
        break;
    }
    return set_number(name, row, found);
}

static const struct option_row *row_by_letter(const struct parser *parser, int letter)
{
    for (int i = 0; i < parser->count; i++)
        if (parser->rows[i]->letter == letter)
            return parser->rows[i];
    return NULL;
}

/* A long option that getopt does not know, or that is ambiguous, or has an argument that it does not take. */
static enum options_outcome wrong_long(const struct parser *parser, const char *word)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    struct nearest nearest = {.word = name};
    for (int i = 0; i < parser->count; i++) {
        if (strcmp(parser->longs[i].name, name) == 0)
            return wrong(parser->name, "--%s takes no argument", name);
        nearest_try(&nearest, parser->longs[i].name);
    }
    if (nearest.best)
        return wrong(parser->name, "unknown option --%s, did you mean --%s?", name, nearest.best);
    return wrong(parser->name, "unknown option --%s", name);
}

static enum options_outcome wrong_option(const struct parser *parser, char **argv, bool argument_missing)
{
    if (argument_missing) {
        const struct option_row *row = optopt ? row_by_letter(parser, optopt) : NULL;
        return wrong(parser->name, "%s%s needs an argument", row ? "--" : "",
                     row ? row->name : argv[optind - 1]);
    }
    if (optopt != 0)
        return wrong(parser->name, "unknown option -%c", optopt);
    return wrong_long(parser, argv[optind - 1] + 2);
}

enum options_outcome options_parse(const char *name, const struct options *options, int argc, char **argv,
                                   int *first_operand)
{
    struct parser parser = {.name = name, .letters = ":"};
    if (options->stop_at_operand)
        strcpy(parser.letters, "+:");
    add_rows(&parser, options->rows);
    add_rows(&parser, options->shared);
    add_row(&parser, &help_row);
    optind = 0; /* glibc: start afresh */
    opterr = 0;
    for (;;) {
        int index = -1;
        int found = getopt_long(argc, argv, parser.letters, parser.longs, &index);
        if (found == -1)
            break;
        if (found == '?' || found == ':')
            return wrong_option(&parser, argv, found == ':');
        const struct option_row *row = index >= 0 ? parser.rows[index] : row_by_letter(&parser, found);
        enum options_outcome outcome = set_value(name, row, optarg);
        if (outcome != OPTIONS_PARSED)
            return outcome;
    }
    *first_operand = optind;
    if (!options->operands && optind < argc)
        return wrong(name, "takes no arguments, found \"%s\"", argv[optind]);
    return OPTIONS_PARSED;
}

static void print_default(const struct option_row *row, FILE *out)
{
    char text[UNITS_TEXT_BYTES];
    if (row->type == OPTION_FLAG)
        return;
    if (row->type == OPTION_TEXT) {
        if (*(const char **)row->value)
            fprintf(out, " (default %s)", *(const char **)row->value);
        return;
    }
    int64_t value = *(int64_t *)row->value;
    if (row->type == OPTION_INTEGER)
        snprintf(text, sizeof text, "%lld", (long long)value);
    else
        (row->type == OPTION_DURATION ? duration_text : size_text)(value, text);
    if (value > 0)
        fprintf(out, " (default %s)", text);
}

static void print_row(const struct option_row *row, FILE *out)
{
    char left[80];
    char letter[] = {'-', row->letter, ',', ' ', 0};
    int length = snprintf(left, sizeof left, "%s--%s%s%s", row->letter ? letter : "    ", row->name,
                          row->argument ? " " : "", row->argument ? row->argument : "");
    fprintf(out, "  %-*s", HELP_COLUMN, left);
    if (length >= HELP_COLUMN)
        fprintf(out, "\n  %*s", HELP_COLUMN, "");
    fprintf(out, "%s", row->help);
    print_default(row, out);
    fputc('\n', out);
}

void options_help(const char *name, const struct options *options, FILE *out)
{
    fprintf(out, "usage: %s [OPTION…]%s%s\n\n%s\n\noptions:\n", name, options->operands ? " " : "",
            options->operands ? options->operands : "", options->about);
    for (const struct option_row *row = options->rows; row && row->name; row++)
        print_row(row, out);
    for (const struct option_row *row = options->shared; row && row->name; row++)
        print_row(row, out);
    print_row(&help_row, out);
}
