/* Command-line options as a table: the rows that parse them also print their help. */
#ifndef UB_OPTIONS_H
#define UB_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum option_type {
    OPTION_FLAG,     /* bool *: set true */
    OPTION_TEXT,     /* const char **: points into argv; the last one wins */
    OPTION_INTEGER,  /* int64_t *: least <= value <= most */
    OPTION_DURATION, /* int64_t *: microseconds, from 250ms, 30s, 5m, 24h or 400d; least and most in µs */
    OPTION_SIZE      /* int64_t *: bytes, from 512KiB, 64MiB or 4GiB */
};

struct option_row {
    const char *name; /* without its dashes; NULL ends a table */
    char letter;      /* 0: none */
    enum option_type type;
    void *value;          /* stays as it is if the option is absent: set the default before */
    const char *argument; /* "FILE"; NULL for OPTION_FLAG */
    const char *help;
    int64_t least, most; /* both 0: 0 to INT64_MAX */
};

struct options {
    const char *operands; /* "[FILE]"; NULL: the command takes none */
    const char *about;    /* what the command does, for --help: a few lines */
    const struct option_row *rows;
    const struct option_row *shared; /* the global options, shown apart; may be NULL */
    bool stop_at_operand;            /* the first operand ends the options: what follows belongs to it */
};

enum options_outcome { OPTIONS_PARSED, OPTIONS_HELP, OPTIONS_WRONG };

/* Options may stand before, after and between operands, "--" ends them; argv is reordered so that the
 * operands stand last, from *first_operand on. argv[0] is skipped. --help and -h print the help
 * (OPTIONS_HELP); what is wrong is said in one line on standard error (OPTIONS_WRONG). name starts both:
 * "usagebox verify". Uses getopt_long: one thread at a time. */
enum options_outcome options_parse(const char *name, const struct options *options, int argc, char **argv,
                                   int *first_operand);

/* Prints usage, about and one line per option, defaults included: what the rows' values hold, if that is more
 * than 0. */
void options_help(const char *name, const struct options *options, FILE *out);

#endif
