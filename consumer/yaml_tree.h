/* A YAML file as a small tree in which every node knows its line and column. Takes one document of scalars,
 * lists and maps with scalar keys; refuses what a configuration has no use for: anchors, aliases, tags, deep
 * nesting. */
#ifndef UB_YAML_TREE_H
#define UB_YAML_TREE_H

#include "arena.h"

enum tree_kind { TREE_SCALAR, TREE_LIST, TREE_MAP };

struct tree_node {
    enum tree_kind kind;
    int line, column;        /* from 1 */
    bool absent;             /* a scalar that is nothing at all, ~ or null, without quotes */
    struct text text;        /* of a scalar; NUL-terminated besides */
    struct tree_node *first; /* of a list its items; of a map its keys, scalars each */
    struct tree_node *next;  /* the next item or key */
    struct tree_node *value; /* of a key */
};

struct tree_error {
    int line, column; /* 0: of the whole file */
    char sentence[200];
};

enum { TREE_FILE_LIMIT_BYTES = 1 << 20, TREE_DEPTH_LIMIT = 16 };

/* NULL: error says why. The tree lives in arena. An empty document is an absent scalar. */
struct tree_node *tree_read(const char *path, struct arena *arena, struct tree_error *error);

/* Reads a whole file of at most limit_bytes into arena, NUL-terminated. bytes NULL: errno says why (EFBIG:
 * over the limit). */
struct text file_read(const char *path, size_t limit_bytes, struct arena *arena);

#endif
