#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "config_reader.h"

#define PREFIX "USAGEBOX_"
#define PROPERTIES_PREFIX PREFIX "KAFKA_PROPERTIES_"
#define FILE_SUFFIX "_FILE"
enum { SECRET_LIMIT_BYTES = 65536 };

void config_variable(const char *path, char name[CONFIG_VARIABLE_BYTES])
{
    snprintf(name, CONFIG_VARIABLE_BYTES, PREFIX "%s", path);
    for (char *letter = name; *letter; letter++)
        *letter = *letter == '.' ? '_' : (char)toupper((unsigned char)*letter);
}

/* A place outlives the loop that found it: its name is kept in the arena. */
static struct config_place place_of(struct config_reader *reader, const char *name, size_t length)
{
    char *copy = arena_alloc(reader->arena, length + sizeof FILE_SUFFIX);
    if (!copy) {
        reader->out_of_memory = true;
        return (struct config_place){.variable = PREFIX};
    }
    memcpy(copy, name, length);
    copy[length] = 0;
    return (struct config_place){.variable = copy};
}

/* What the file that a variable names holds, without its last newline. */
static struct text read_named_file(struct config_reader *reader, struct config_place place, const char *path,
                                   const char *file)
{
    struct text text = file_read(file, SECRET_LIMIT_BYTES, reader->arena);
    if (!text.bytes) {
        config_wrong(reader, place, path, "can't read \"%s\": %s", file, strerror(errno));
        return text;
    }
    if (text.length > 0 && text.bytes[text.length - 1] == '\n')
        text.length--;
    if (text.length > 0 && text.bytes[text.length - 1] == '\r')
        text.length--;
    return text;
}

/* The value that variable NAME, or the file that NAME_FILE names, gives; bytes NULL if neither does. */
static struct text find_value(struct config_reader *reader, const char *name, const char *path,
                              struct config_place *place)
{
    char with_suffix[CONFIG_VARIABLE_BYTES + sizeof FILE_SUFFIX];
    snprintf(with_suffix, sizeof with_suffix, "%s" FILE_SUFFIX, name);
    const char *value = getenv(name), *file = getenv(with_suffix);
    struct text none = {NULL, 0};
    if (!value && !file)
        return none;
    const char *used = file ? with_suffix : name;
    *place = place_of(reader, used, strlen(used));
    if (!file)
        return text_of(value);
    if (!value)
        return read_named_file(reader, *place, path, file);
    config_wrong(reader, *place, path, "%s is set as well: unset one of them", name);
    return none;
}

/* librdkafka's names are lower case words joined by dots: USAGEBOX_KAFKA_PROPERTIES_SASL_PASSWORD is
 * sasl.password. */
static void read_property(struct config_reader *reader, const char *variable,
                          struct config_properties *properties)
{
    char name[CONFIG_VARIABLE_BYTES], property[CONFIG_VARIABLE_BYTES], path[CONFIG_VARIABLE_BYTES];
    size_t length = strcspn(variable, "=");
    snprintf(name, sizeof name, "%.*s", (int)length, variable);
    length = strlen(name);
    size_t suffix = sizeof FILE_SUFFIX - 1;
    if (length > suffix && strcmp(name + length - suffix, FILE_SUFFIX) == 0) {
        name[length - suffix] = 0;
        if (getenv(name))
            return; /* its own turn reports that both are set */
    }
    snprintf(property, sizeof property, "%s", name + sizeof PROPERTIES_PREFIX - 1);
    for (char *letter = property; *letter; letter++)
        *letter = *letter == '_' ? '.' : (char)tolower((unsigned char)*letter);
    snprintf(path, sizeof path, "kafka.properties.%.80s", property);
    struct config_place place;
    struct text value = find_value(reader, name, path, &place);
    if (value.bytes)
        config_read_property(reader, place, text_of(property), value, properties);
}

void config_read_environment(struct config_reader *reader, const struct config_scope *scope,
                             struct config_properties *properties)
{
    for (const struct config_key *key = scope->keys; key->path && config_may_go_on(reader); key++) {
        char name[CONFIG_VARIABLE_BYTES];
        struct config_place place;
        if (!config_types[key->type].parse)
            continue; /* maps have no form as one text */
        config_variable(key->path, name);
        struct text value = find_value(reader, name, key->path, &place);
        if (value.bytes)
            config_read_text(reader, scope, key, place, value);
    }
    for (char **variable = environ; variable && *variable && config_may_go_on(reader); variable++)
        if (strncmp(*variable, PROPERTIES_PREFIX, sizeof PROPERTIES_PREFIX - 1) == 0)
            read_property(reader, *variable, properties);
}
