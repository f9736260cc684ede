#include "config_reader.h"
#include "kafka_options.h"
#include "printable.h"

static bool is_secret(const char *name)
{
    static const char *const parts[] = {"password", "secret", "pem", "oauthbearer.config", "token"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strstr(name, parts[i]))
            return true;
    return false;
}

static const char *terminated(struct config_reader *reader, struct text text)
{
    char *copy = arena_alloc(reader->arena, text.length + 1);
    if (!copy) {
        reader->out_of_memory = true;
        return NULL;
    }
    memcpy(copy, text.bytes, text.length);
    copy[text.length] = 0;
    return copy;
}

static bool is_reserved(struct config_reader *reader, struct config_place place, const char *path,
                        const char *name)
{
    const char *why = kafka_property_refusal(name);
    if (why)
        config_wrong(reader, place, path, "%s", why);
    return why != NULL;
}

/* librdkafka itself says whether it knows the name and takes the value. Its sentence may quote the value. */
static bool is_known(struct config_reader *reader, struct config_place place, const char *path,
                     const struct config_property *property)
{
    char why[256] = "";
    rd_kafka_conf_t *scratch = rd_kafka_conf_new();
    rd_kafka_conf_res_t set = rd_kafka_conf_set(scratch, property->name, property->value, why, sizeof why);
    rd_kafka_conf_destroy(scratch);
    if (set == RD_KAFKA_CONF_UNKNOWN)
        config_wrong(reader, place, path, "librdkafka has no property of this name");
    else if (set != RD_KAFKA_CONF_OK)
        config_wrong(reader, place, path, "%s", property->secret ? "librdkafka refuses this value" : why);
    return set == RD_KAFKA_CONF_OK;
}

static void keep(struct config_reader *reader, struct config_property property,
                 struct config_properties *properties)
{
    for (size_t i = 0; i < properties->count; i++) {
        if (strcmp(properties->items[i].name, property.name) == 0) {
            properties->items[i] = property;
            return;
        }
    }
    struct config_property *items = arena_alloc(reader->arena, (properties->count + 1) * sizeof *items);
    if (!items) {
        reader->out_of_memory = true;
        return;
    }
    for (size_t i = 0; i < properties->count; i++)
        items[i] = properties->items[i];
    items[properties->count] = property;
    *properties = (struct config_properties){items, properties->count + 1};
}

void config_read_property(struct config_reader *reader, struct config_place place, struct text name,
                          struct text value, struct config_properties *properties)
{
    char path[192];
    struct config_property property = {terminated(reader, name), terminated(reader, value), false};
    if (!property.name || !property.value)
        return;
    snprintf(path, sizeof path, "kafka.properties.%s", property.name);
    property.secret = is_secret(property.name);
    bool pem = strstr(property.name, "pem") != NULL; /* lines of base64 */
    if (strlen(property.name) != name.length || strlen(property.value) != value.length)
        config_wrong(reader, place, path, "expected text without NUL");
    else if (!pem && !printable_is_plain(value))
        config_wrong(reader, place, path, "expected UTF-8 without control characters");
    else if (!is_reserved(reader, place, path, property.name) && is_known(reader, place, path, &property))
        keep(reader, property, properties);
}
