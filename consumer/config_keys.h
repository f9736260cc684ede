/* The table of configuration keys and that of their types. A row says everything about a key: adding one is
 * all it takes to have it parsed, checked, overridden, documented and printed. */
#ifndef UB_CONFIG_KEYS_H
#define UB_CONFIG_KEYS_H

#include "config.h"

enum config_type {
    CONFIG_TEXT,       /* const char * */
    CONFIG_TOPIC,      /* const char * */
    CONFIG_SERVERS,    /* const char *: host:port, joined by commas */
    CONFIG_ADDRESS,    /* const char *: host:port */
    CONFIG_DSN,        /* const char *: what libpq takes; secret */
    CONFIG_NAME,       /* struct text, 1 to 128 bytes */
    CONFIG_METER,      /* struct text */
    CONFIG_DURATION,   /* int64_t, µs */
    CONFIG_SIZE,       /* int64_t, bytes */
    CONFIG_INTEGER,    /* int64_t */
    CONFIG_DECIMAL,    /* decimal_t, not negative */
    CONFIG_BOOL,       /* bool */
    CONFIG_CHOICE,     /* an enum: index of one of choices */
    CONFIG_TOPICS,     /* struct config_texts */
    CONFIG_FIELDS,     /* struct config_texts: names of lifted fields */
    CONFIG_PROPERTIES, /* struct config_properties */
    CONFIG_CEILINGS,   /* struct config_ceilings */
    CONFIG_TYPES
};

struct config_key {
    const char *path; /* "dedupe.window"; NULL ends a table */
    enum config_type type;
    size_t offset;        /* of its field in struct config, or in struct ceiling_draft */
    const char *fallback; /* its default as text, a list's items joined by commas; NULL: it must be given */
    const char *help;
    bool may_be_empty;
    int64_t least, most; /* of DURATION, SIZE and INTEGER */
    const char *const *choices;
    size_t choice_count; /* choices may have holes (NULL) */
};

struct config_section {
    const char *name; /* NULL ends the table */
    const char *help;
};

extern const struct config_section config_sections[];
extern const struct config_key config_keys[];
extern const struct config_key config_ceiling_keys[];

enum { CONFIG_KEYS_LIMIT = 32 };

/* A ceiling as it stands in the file. */
struct ceiling_draft {
    struct text name, customer, plan, meter;
    enum ceiling_scope scope;
    enum ceiling_period period;
    enum ceiling_policy policy;
    decimal_t limit, clear_level;
};

enum config_shape { CONFIG_ONE, CONFIG_LIST, CONFIG_MAP, CONFIG_MAPS };
enum config_outcome { CONFIG_PARSED, CONFIG_MALFORMED, CONFIG_OUT_OF_RANGE, CONFIG_NO_MEMORY };

struct config_type_row {
    const char *noun; /* "a duration" */
    const char *example;
    enum config_shape shape;
    /* Of a list: appends one item. NULL for the shapes that are read from nodes only. */
    enum config_outcome (*parse)(const struct config_key *key, struct text text, struct arena *arena,
                                 void *field);
    void (*print)(const struct config_key *key, const void *field, FILE *out); /* as YAML on the key's line */
};
extern const struct config_type_row config_types[CONFIG_TYPES];

/* "dedupe.window" is overridden by USAGEBOX_DEDUPE_WINDOW. */
enum { CONFIG_VARIABLE_BYTES = 128 };
void config_variable(const char *path, char name[CONFIG_VARIABLE_BYTES]);

struct text config_take_item(struct text *text);     /* what comes before the first comma */
void config_print_text(struct text text, FILE *out); /* between double quotes */

#endif
