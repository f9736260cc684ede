/* What a check finds: how grave, where, what, and what to do about it. Collected first, so that all of it is
 * shown at once, to a person as lines or to a program as JSON. */
#ifndef UB_FINDINGS_H
#define UB_FINDINGS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum finding_level {
    FINDING_NOTICE,  /* good to know */
    FINDING_WARNING, /* works, until something else goes wrong */
    FINDING_ERROR,   /* does not work, or counts wrongly */
    FINDING_LEVELS
};

struct finding {
    enum finding_level level;
    char *where;
    char *what;
    char *remedy; /* "": there is none */
};

/* Zero-initialise. */
struct findings {
    struct finding *items;
    size_t count;
    size_t capacity;
    size_t counts[FINDING_LEVELS];
    bool out_of_memory; /* something was found that is not among the items */
};

/* The format's first line says what was found, its second, if there is one, what to do. All is copied. */
void findings_add(struct findings *findings, enum finding_level level, const char *where, const char *format,
                  ...) __attribute__((format(printf, 4, 5)));
void findings_free(struct findings *findings);

/* Errors first, then a line that counts. */
void findings_print(const struct findings *findings, FILE *out);

/* {"passed": no error, "errors": 1, …, "findings": [{"level", "where", "what", "remedy"}, …]}. The caller
 * owns it; NULL: out of memory. */
json_t *findings_json(const struct findings *findings);

#endif
