/* The table of configuration keys, and what the files that make up config.h share. A row says everything
 * about a key: adding one to the table is all it takes to have it parsed, checked, overridden, documented and
 * printed. */
#ifndef UB_CONFIG_KEYS_H
#define UB_CONFIG_KEYS_H

#include "config.h"
#include "yaml_tree.h"

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

/* Where a value came from: a variable of the environment, or a line and column; all zero: the default. */
struct config_place {
    const char *variable;
    int line, column;
};

struct config_reader {
    const char *path;
    struct arena *arena;
    struct config_errors *errors;
    int64_t *orders; /* of the errors: by place in the file, the environment's last */
    bool out_of_memory;
    struct config_place places[CONFIG_KEYS_LIMIT]; /* by index in config_keys */
};

/* The keys that a map may hold, where their values go, and where each was found. */
struct config_scope {
    const struct config_key *keys;
    void *base;
    struct config_place *places;
};

/* After this many errors reading stops: nobody reads more, and no file can make it take long. */
enum { CONFIG_ERRORS_LIMIT = 100 };
bool config_may_go_on(const struct config_reader *reader);

/* Adds an error: place, key path and a sentence. Its arguments may hold any bytes. */
void config_wrong(struct config_reader *reader, struct config_place place, const char *path,
                  const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Adds "expected a duration such as 25h, found …", in this order of words. */
void config_unexpected(struct config_reader *reader, struct config_place place, const struct config_key *key,
                       enum config_outcome outcome, const char *found);
struct config_place config_place_of(const struct tree_node *node);

/* The value of key is text: parses it into its field of the scope, and remembers the place. */
void config_read_text(struct config_reader *reader, const struct config_scope *scope,
                      const struct config_key *key, struct config_place place, struct text text);
/* Reads a map whose keys have paths that start with prefix: "dedupe", or "" for the whole file. */
void config_read_map(struct config_reader *reader, const struct config_scope *scope, const char *prefix,
                     const struct tree_node *map);
void config_read_defaults(struct config_reader *reader, const struct config_scope *scope);
void config_read_ceilings(struct config_reader *reader, const struct tree_node *list,
                          struct config_ceilings *ceilings);
/* Sets one property; a later setting of the same name wins. */
void config_read_property(struct config_reader *reader, struct config_place place, struct text name,
                          struct text value, struct config_properties *properties);
void config_read_environment(struct config_reader *reader, const struct config_scope *scope,
                             struct config_properties *properties);

/* "dedupe.window" is overridden by USAGEBOX_DEDUPE_WINDOW. */
enum { CONFIG_VARIABLE_BYTES = 128 };
void config_variable(const char *path, char name[CONFIG_VARIABLE_BYTES]);

struct text config_take_item(struct text *list);     /* what comes before the first comma */
void config_print_text(struct text text, FILE *out); /* between double quotes */

#endif
