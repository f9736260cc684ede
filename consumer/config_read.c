#include "config_reader.h"
#include "nearest.h"
#include "printable.h"

enum { FOUND_BYTES = 96, PATH_BYTES = 192 };

struct config_place config_place_of(const struct tree_node *node)
{
    return (struct config_place){.line = node->line, .column = node->column};
}

/* How a wrong value is shown: never a secret one, and never all of a long one. */
static const char *show(const struct config_key *key, struct text text, char found[FOUND_BYTES])
{
    if (text.length == 0)
        return "nothing";
    if (key->type == CONFIG_DSN)
        return "something else";
    size_t used = 0;
    found[used++] = '"';
    while (text.length > 0 && used < FOUND_BYTES - PRINTABLE_BYTES - sizeof "…\"")
        used += printable_next(PRINTABLE_QUOTED, &text, found + used);
    strcpy(found + used, text.length > 0 ? "…\"" : "\"");
    return found;
}

static bool parse_item(struct config_reader *reader, const struct config_key *key, struct config_place place,
                       struct text item, void *field)
{
    char found[FOUND_BYTES];
    enum config_outcome outcome = CONFIG_MALFORMED;
    if (item.length > 0 || key->may_be_empty)
        outcome = config_types[key->type].parse(key, item, reader->arena, field);
    if (outcome == CONFIG_NO_MEMORY)
        reader->out_of_memory = true;
    else if (outcome != CONFIG_PARSED)
        config_unexpected(reader, place, key, outcome, show(key, item, found));
    return outcome == CONFIG_PARSED;
}

static void parse_list_text(struct config_reader *reader, const struct config_key *key,
                            struct config_place place, struct text text, struct config_texts *list)
{
    *list = (struct config_texts){0};
    while (text.length > 0)
        if (!parse_item(reader, key, place, config_take_item(&text), list))
            return;
}

void config_read_text(struct config_reader *reader, const struct config_scope *scope,
                      const struct config_key *key, struct config_place place, struct text text)
{
    char *field = (char *)scope->base + key->offset;
    scope->places[key - scope->keys] = place;
    if (config_types[key->type].shape == CONFIG_LIST)
        parse_list_text(reader, key, place, text, (struct config_texts *)field);
    else
        parse_item(reader, key, place, text, field);
}

void config_read_defaults(struct config_reader *reader, const struct config_scope *scope)
{
    for (const struct config_key *key = scope->keys; key->path; key++)
        if (key->fallback && config_types[key->type].parse)
            config_read_text(reader, scope, key, (struct config_place){0}, text_of(key->fallback));
}

static void wrong_kind(struct config_reader *reader, const struct config_key *key,
                       const struct tree_node *node)
{
    static const char *const kinds[] = {[TREE_LIST] = "a list", [TREE_MAP] = "a map"};
    char found[FOUND_BYTES];
    const char *what = node->kind == TREE_SCALAR ? show(key, node->text, found) : kinds[node->kind];
    config_unexpected(reader, config_place_of(node), key, CONFIG_MALFORMED, what);
}

static void read_list(struct config_reader *reader, const struct config_key *key,
                      const struct tree_node *list, struct config_texts *texts)
{
    *texts = (struct config_texts){0};
    for (const struct tree_node *item = list->first; item && config_may_go_on(reader); item = item->next) {
        if (item->kind == TREE_SCALAR)
            parse_item(reader, key, config_place_of(item), item->text, texts);
        else
            wrong_kind(reader, key, item);
    }
}

static bool is_repeated(struct config_reader *reader, const char *path, const struct tree_node *map,
                        const struct tree_node *name)
{
    const struct tree_node *other = map->first;
    while (other != name && !text_equal(other->text, name->text))
        other = other->next;
    if (other == name)
        return false;
    config_wrong(reader, config_place_of(name), path, "is given twice, first in line %d", other->line);
    return true;
}

static void read_properties(struct config_reader *reader, const struct tree_node *map,
                            struct config_properties *properties)
{
    for (const struct tree_node *name = map->first; name && config_may_go_on(reader); name = name->next) {
        const struct tree_node *value = name->value;
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "kafka.properties.%s", name->text.bytes);
        if (is_repeated(reader, path, map, name))
            continue;
        if (value->kind == TREE_SCALAR)
            config_read_property(reader, config_place_of(value), name->text, value->text, properties);
        else
            config_wrong(reader, config_place_of(value), path, "expected text, found a %s",
                         value->kind == TREE_LIST ? "list" : "map");
    }
}

static void read_value(struct config_reader *reader, const struct config_scope *scope,
                       const struct config_key *key, const struct tree_node *node)
{
    static const enum tree_kind kinds[] = {[CONFIG_ONE] = TREE_SCALAR,
                                           [CONFIG_LIST] = TREE_LIST,
                                           [CONFIG_MAP] = TREE_MAP,
                                           [CONFIG_MAPS] = TREE_LIST};
    enum config_shape shape = config_types[key->type].shape;
    void *field = (char *)scope->base + key->offset;
    struct text text = node->absent ? TEXT("") : node->text;
    scope->places[key - scope->keys] = config_place_of(node);
    bool nothing = node->absent && shape != CONFIG_ONE; /* a key whose items are all commented out */
    if (node->kind != kinds[shape] && !nothing)
        wrong_kind(reader, key, node);
    else if (shape == CONFIG_ONE)
        config_read_text(reader, scope, key, config_place_of(node), text);
    else if (shape == CONFIG_LIST)
        read_list(reader, key, node, field);
    else if (shape == CONFIG_MAP)
        read_properties(reader, node, field);
    else
        config_read_ceilings(reader, node, field);
}

static const struct config_key *find_key(const struct config_key *key, const char *path)
{
    while (key->path && strcmp(key->path, path) != 0)
        key++;
    return key->path ? key : NULL;
}

static bool is_section(const char *path)
{
    const struct config_section *section = config_sections;
    while (section->name && strcmp(section->name, path) != 0)
        section++;
    return section->name != NULL;
}

/* Tries the names that may stand beside the wrong one: those of the same map. */
static const char *suggest(const struct config_scope *scope, const char *prefix, const char *name)
{
    struct nearest nearest = {.word = name};
    size_t length = strlen(prefix);
    for (const struct config_key *key = scope->keys; key->path; key++) {
        const char *rest = key->path + (length > 0 ? length + 1 : 0);
        if (strncmp(key->path, prefix, length) == 0 && !strchr(rest, '.'))
            nearest_try(&nearest, rest);
    }
    for (const struct config_section *section = config_sections; length == 0 && section->name; section++)
        nearest_try(&nearest, section->name);
    return nearest.best;
}

static void wrong_name(struct config_reader *reader, const struct config_scope *scope, const char *prefix,
                       const char *path, const struct tree_node *name)
{
    const char *best = suggest(scope, prefix, name->text.bytes);
    config_wrong(reader, config_place_of(name), path, "unknown key%s%s%s", best ? ", did you mean " : "",
                 best ? best : "", best ? "?" : "");
}

static void read_section(struct config_reader *reader, const struct config_scope *scope, const char *path,
                         const struct tree_node *node)
{
    if (node->kind == TREE_MAP)
        config_read_map(reader, scope, path, node);
    else if (!node->absent)
        config_wrong(reader, config_place_of(node), path, "expected a map of settings");
}

void config_read_map(struct config_reader *reader, const struct config_scope *scope, const char *prefix,
                     const struct tree_node *map)
{
    for (const struct tree_node *name = map->first; name && config_may_go_on(reader); name = name->next) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] ? "." : "", name->text.bytes);
        const struct config_key *key = find_key(scope->keys, path);
        if (is_repeated(reader, path, map, name))
            continue;
        if (key && memchr(name->text.bytes, '.', name->text.length))
            config_wrong(reader, config_place_of(name), path, "write it nested: the first part as a map");
        else if (key)
            read_value(reader, scope, key, name->value);
        else if (is_section(path))
            read_section(reader, scope, path, name->value);
        else
            wrong_name(reader, scope, prefix, path, name);
    }
}
