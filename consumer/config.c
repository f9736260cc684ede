#include "config.h"

#include <stdlib.h>
#include <unistd.h>

#include "config_reader.h"

const char *const config_search_path[] = {"config.yaml", "/etc/usagebox/config.yaml", NULL};

static const char *find_file(void)
{
    for (const char *const *path = config_search_path; *path; path++)
        if (access(*path, F_OK) == 0)
            return *path;
    return NULL;
}

static struct config_place place_of_key(const struct config_reader *reader, const char *path)
{
    size_t i = 0;
    while (strcmp(config_keys[i].path, path) != 0)
        i++;
    return reader->places[i];
}

/* Topics must differ: a topic that we read and write too would feed on itself. */
static void check_topic(struct config_reader *reader, const struct config *config, const char *path,
                        const char *topic)
{
    for (size_t i = 0; i < config->kafka.usage_topics.count; i++)
        if (strcmp(config->kafka.usage_topics.items[i], topic) == 0)
            config_wrong(reader, place_of_key(reader, path), path, "%s is one of kafka.usage_topics too",
                         topic);
}

static void check_repeats(struct config_reader *reader, const char *path, const struct config_texts *list)
{
    for (size_t i = 0; i < list->count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(list->items[i], list->items[j]) == 0)
                config_wrong(reader, place_of_key(reader, path), path, "%s is listed twice", list->items[i]);
}

/* They stand in usage_hourly's key, and PostgreSQL refuses index rows of more than 2,704 bytes. */
enum { DIMENSION_LIMIT = 7 };

static void check_dimensions(struct config_reader *reader, const struct config *config)
{
    const char *path = "rollup.dimensions";
    check_repeats(reader, path, &config->rollup.dimensions);
    if (config->rollup.dimensions.count > DIMENSION_LIMIT)
        config_wrong(reader, place_of_key(reader, path), path, "expected at most %d fields, found %zu",
                     DIMENSION_LIMIT, config->rollup.dimensions.count);
}

/* What no key can say alone. */
static void check(struct config_reader *reader, const struct config *config)
{
    const char *dead_letters = "kafka.dead_letter_topic";
    check_repeats(reader, "kafka.usage_topics", &config->kafka.usage_topics);
    check_dimensions(reader, config);
    if (config->kafka.usage_topics.count == 0)
        config_wrong(reader, place_of_key(reader, "kafka.usage_topics"), "kafka.usage_topics",
                     "expected at least one");
    check_topic(reader, config, "kafka.enforcement_topic", config->kafka.enforcement_topic);
    check_topic(reader, config, dead_letters, config->kafka.dead_letter_topic);
    if (strcmp(config->kafka.dead_letter_topic, config->kafka.enforcement_topic) == 0)
        config_wrong(reader, place_of_key(reader, dead_letters), dead_letters,
                     "%s is kafka.enforcement_topic too", config->kafka.dead_letter_topic);
}

static void read_tree(struct config_reader *reader, const struct config_scope *scope,
                      const struct tree_node *root)
{
    if (root->kind == TREE_MAP)
        config_read_map(reader, scope, "", root);
    else if (!root->absent)
        config_wrong(reader, config_place_of(root), "", "expected a map of settings, such as kafka:");
}

static void read_file(struct config_reader *reader, const struct config_scope *scope)
{
    struct arena arena;
    struct tree_error error;
    arena_init(&arena, 65536);
    const struct tree_node *root = tree_read(reader->path, &arena, &error);
    if (root)
        read_tree(reader, scope, root);
    else
        config_wrong(reader, (struct config_place){.line = error.line, .column = error.column}, "", "%s",
                     error.sentence);
    arena_free(&arena);
}

static void read_all(struct config_reader *reader, struct config *config)
{
    struct config_scope scope = {config_keys, config, reader->places};
    config_read_defaults(reader, &scope);
    if (reader->out_of_memory)
        return;
    read_file(reader, &scope);
    config_read_environment(reader, &scope, &config->kafka.properties);
    check(reader, config);
    if (config->postgres.owner_dsn[0] == 0)
        config->postgres.owner_dsn = config->postgres.dsn;
}

static const char *copy_path(const char *path, struct config_reader *reader)
{
    struct text copy = arena_text(reader->arena, (struct text){path, (uint32_t)strlen(path) + 1});
    reader->out_of_memory |= !copy.bytes;
    return copy.bytes;
}

bool config_load(const char *path, struct config *config, struct config_errors *errors)
{
    const char *found = path ? path : find_file();
    *config = (struct config){0};
    arena_init(&config->arena, 16384);
    struct config_reader reader = {
        .path = found ? found : config_search_path[0], .arena = &config->arena, .errors = errors};
    if (found)
        read_all(&reader, config);
    else
        config_wrong(&reader, (struct config_place){0}, "",
                     "no such file, nor %s: write one, or name one with -c", config_search_path[1]);
    config->path = copy_path(reader.path, &reader);
    if (reader.out_of_memory)
        config_wrong(&reader, (struct config_place){0}, "", "out of memory");
    free(reader.orders);
    bool valid = errors->count == 0 && !reader.out_of_memory;
    if (!valid)
        config_free(config);
    return valid;
}

void config_free(struct config *config)
{
    arena_free(&config->arena);
    *config = (struct config){0};
}
