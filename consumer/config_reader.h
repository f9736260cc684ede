/* How the configuration is read: values from the file's tree and from the environment go into fields by the
 * table of keys, and each error is kept with the place where the value came from. Shared by the files behind
 * config.h. */
#ifndef UB_CONFIG_READER_H
#define UB_CONFIG_READER_H

#include "config_keys.h"
#include "yaml_tree.h"

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

#endif
