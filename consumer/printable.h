/* Makes any bytes safe to show on a terminal, in a log or in an error: control characters, bytes that are not
 * UTF-8 and characters that reorder a line come out escaped. */
#ifndef UB_PRINTABLE_H
#define UB_PRINTABLE_H

#include <stdio.h>

#include "text.h"

enum printable_style {
    PRINTABLE_PLAIN,        /* \n \t \r \x1b \u202e */
    PRINTABLE_QUOTED,       /* the same, " and \ too: for text between double quotes */
    PRINTABLE_JSON,         /* inside a JSON string; what is not UTF-8 becomes \ufffd */
    PRINTABLE_JSON_DOCUMENT /* all of a JSON document: what its strings may hold and a terminal should not */
};

enum { PRINTABLE_BYTES = 16 };

/* Writes the next character of *text in its safe form and moves *text past it; *text must not be empty.
 * Returns how many bytes were written. A character that stays as it is counts as one column, escapes are
 * ASCII. */
size_t printable_next(enum printable_style style, struct text *text, char out[PRINTABLE_BYTES]);

void printable_write(enum printable_style style, struct text text, FILE *out);

/* One word of a line: between double quotes if it is empty, or holds a blank, a quote or a backslash, so that
 * no name passes for several words. */
void printable_word(struct text word, FILE *out);

/* Is all of it UTF-8 without control characters and the like? */
bool printable_is_plain(struct text text);

#endif
