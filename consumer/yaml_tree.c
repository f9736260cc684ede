#include "yaml_tree.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <yaml.h>

/* Events come one after the other; open[depth - 1] is the list or map that they belong to. */
struct level {
    struct tree_node *node;
    struct tree_node *last; /* its last item or key */
    bool key_waits;         /* of a map: last has no value yet */
};

struct builder {
    struct arena *arena;
    struct tree_error *error;
    struct tree_node *root;
    struct level open[TREE_DEPTH_LIMIT];
    int depth;
    struct text bytes;
};

static bool fail(struct tree_error *error, int line, int column, const char *sentence)
{
    error->line = line;
    error->column = column;
    snprintf(error->sentence, sizeof error->sentence, "%s", sentence);
    return false;
}

static bool fail_at(struct builder *builder, const yaml_mark_t *mark, const char *sentence)
{
    return fail(builder->error, (int)mark->line + 1, (int)mark->column + 1, sentence);
}

static bool out_of_memory(struct builder *builder)
{
    return fail(builder->error, 0, 0, "out of memory");
}

/* Hangs a new node where it belongs: the root, an item, a key, or the value of the key before. */
static bool attach(struct builder *builder, struct tree_node *node)
{
    if (builder->depth == 0) {
        builder->root = node;
        return true;
    }
    struct level *level = &builder->open[builder->depth - 1];
    if (level->key_waits) {
        level->last->value = node;
        level->key_waits = false;
        return true;
    }
    assert(level->node);
    bool map = level->node->kind == TREE_MAP;
    if (map && node->kind != TREE_SCALAR)
        return fail(builder->error, node->line, node->column, "a key must be a plain word");
    *(level->last ? &level->last->next : &level->node->first) = node;
    level->last = node;
    level->key_waits = map;
    return true;
}

static struct tree_node *add_node(struct builder *builder, enum tree_kind kind, const yaml_mark_t *mark)
{
    struct tree_node *node = arena_alloc(builder->arena, sizeof *node);
    if (!node) {
        out_of_memory(builder);
        return NULL;
    }
    *node = (struct tree_node){.kind = kind, .line = (int)mark->line + 1, .column = (int)mark->column + 1};
    return attach(builder, node) ? node : NULL;
}

static bool add_scalar(struct builder *builder, const yaml_event_t *event)
{
    const char *bytes = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    struct tree_node *node = add_node(builder, TREE_SCALAR, &event->start_mark);
    char *copy = node ? arena_alloc(builder->arena, length + 1) : NULL;
    if (!copy)
        return node && out_of_memory(builder);
    memcpy(copy, bytes, length + 1);
    node->text = (struct text){copy, (uint32_t)length};
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->absent = plain && (length == 0 || strcmp(copy, "~") == 0 || strcmp(copy, "null") == 0);
    return true;
}

static bool open_collection(struct builder *builder, enum tree_kind kind, const yaml_event_t *event)
{
    struct tree_node *node = add_node(builder, kind, &event->start_mark);
    if (!node)
        return false;
    if (builder->depth == TREE_DEPTH_LIMIT)
        return fail_at(builder, &event->start_mark, "nested too deep");
    builder->open[builder->depth++] = (struct level){.node = node};
    return true;
}

static bool has_extras(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return event->data.scalar.anchor || event->data.scalar.tag;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.anchor || event->data.sequence_start.tag;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor || event->data.mapping_start.tag;
    default:
        return event->type == YAML_ALIAS_EVENT;
    }
}

static bool add_event(struct builder *builder, const yaml_event_t *event)
{
    if (has_extras(event))
        return fail_at(builder, &event->start_mark, "anchors, aliases and tags are not taken here");
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return add_scalar(builder, event);
    case YAML_SEQUENCE_START_EVENT:
        return open_collection(builder, TREE_LIST, event);
    case YAML_MAPPING_START_EVENT:
        return open_collection(builder, TREE_MAP, event);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        builder->depth--;
        return true;
    case YAML_DOCUMENT_START_EVENT:
        return !builder->root || fail_at(builder, &event->start_mark, "a second document: expected only one");
    default:
        return true;
    }
}

/* libyaml knows only the byte at which reading went wrong. */
static bool fail_at_byte(struct builder *builder, size_t offset, const char *sentence)
{
    int line = 1, column = 1;
    for (size_t i = 0; i < offset && i < builder->bytes.length; i++) {
        bool newline = builder->bytes.bytes[i] == '\n';
        line += newline;
        column = newline ? 1 : column + ((builder->bytes.bytes[i] & 0xC0) != 0x80);
    }
    return fail(builder->error, line, column, sentence);
}

static bool fail_as_parser(struct builder *builder, const yaml_parser_t *parser)
{
    char sentence[sizeof builder->error->sentence];
    if (parser->error == YAML_MEMORY_ERROR)
        return out_of_memory(builder);
    snprintf(sentence, sizeof sentence, "not valid YAML: %s%s%s", parser->context ? parser->context : "",
             parser->context ? ", " : "", parser->problem ? parser->problem : "unknown error");
    if (parser->error == YAML_READER_ERROR)
        return fail_at_byte(builder, parser->problem_offset, sentence);
    return fail_at(builder, &parser->problem_mark, sentence);
}

static bool build(struct builder *builder, yaml_parser_t *parser)
{
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event))
            return fail_as_parser(builder, parser);
        bool end = event.type == YAML_STREAM_END_EVENT;
        bool added = add_event(builder, &event);
        yaml_event_delete(&event);
        if (end || !added)
            return added;
    }
}

static struct tree_node *parse(struct text bytes, struct arena *arena, struct tree_error *error)
{
    struct builder builder = {.arena = arena, .error = error, .bytes = bytes};
    yaml_parser_t parser;
    *error = (struct tree_error){0};
    if (!yaml_parser_initialize(&parser)) {
        out_of_memory(&builder);
        return NULL;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)bytes.bytes, bytes.length);
    bool built = build(&builder, &parser);
    yaml_parser_delete(&parser);
    struct tree_node *root = built ? builder.root : NULL;
    if (built && !root)
        root = add_node(&builder, TREE_SCALAR, &(yaml_mark_t){0});
    if (root && !root->text.bytes)
        root->absent = root->kind == TREE_SCALAR;
    return root;
}

static struct text read_all(int file, size_t limit_bytes, struct arena *arena)
{
    char *bytes = arena_alloc(arena, limit_bytes + 2);
    size_t used = 0;
    ssize_t got = 1;
    while (bytes && got != 0 && used <= limit_bytes) {
        got = read(file, bytes + used, limit_bytes + 1 - used);
        if (got < 0 && errno != EINTR)
            return (struct text){NULL, 0};
        used += got > 0 ? (size_t)got : 0;
    }
    if (!bytes || used > limit_bytes) {
        errno = bytes ? EFBIG : ENOMEM;
        return (struct text){NULL, 0};
    }
    bytes[used] = 0;
    return (struct text){bytes, (uint32_t)used};
}

struct text file_read(const char *path, size_t limit_bytes, struct arena *arena)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return (struct text){NULL, 0};
    struct text bytes = read_all(file, limit_bytes, arena);
    int saved_errno = errno;
    close(file);
    errno = saved_errno;
    return bytes;
}

struct tree_node *tree_read(const char *path, struct arena *arena, struct tree_error *error)
{
    struct text bytes = file_read(path, TREE_FILE_LIMIT_BYTES, arena);
    if (bytes.bytes)
        return parse(bytes, arena, error);
    fail(error, 0, 0, strerror(errno));
    return NULL;
}
