#include <stdlib.h>

#include <libpq-fe.h>

#include "config_keys.h"
#include "printable.h"
#include "units.h"

typedef enum config_outcome outcome; /* the table of parsers below is wide enough */

static bool is_word(struct text text, uint32_t limit)
{
    for (uint32_t i = 0; i < text.length; i++) {
        char byte = text.bytes[i];
        bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
        if (!letter && (byte < '0' || byte > '9') && byte != '.' && byte != '_' && byte != '-')
            return false;
    }
    return text.length > 0 && text.length <= limit;
}

/* Kafka's own rule (org.apache.kafka.common.internals.Topic). */
static bool is_topic(struct text text)
{
    return is_word(text, 249) && !text_equal(text, TEXT(".")) && !text_equal(text, TEXT(".."));
}

static bool is_address(struct text text)
{
    struct text host;
    uint16_t port;
    return address_parse(text, &host, &port);
}

/* Takes what comes before the first comma off *text, without the spaces around it. */
struct text config_take_item(struct text *text)
{
    const char *comma = memchr(text->bytes, ',', text->length);
    struct text item = {text->bytes, comma ? (uint32_t)(comma - text->bytes) : text->length};
    uint32_t used = item.length + (comma != NULL);
    text->bytes += used;
    text->length -= used;
    while (item.length > 0 && item.bytes[0] == ' ')
        item.bytes++, item.length--;
    while (item.length > 0 && item.bytes[item.length - 1] == ' ')
        item.length--;
    return item;
}

static bool is_servers(struct text text)
{
    while (text.length > 0)
        if (!is_address(config_take_item(&text)))
            return false;
    return true;
}

static bool is_dsn(struct text text)
{
    PQconninfoOption *parts = PQconninfoParse(text.bytes, NULL);
    PQconninfoFree(parts);
    return parts != NULL;
}

static outcome parse_text(const struct config_key *key, struct text text, struct arena *arena, void *field)
{
    bool (*const check)(struct text) = key->type == CONFIG_TOPIC     ? is_topic
                                       : key->type == CONFIG_SERVERS ? is_servers
                                       : key->type == CONFIG_ADDRESS ? is_address
                                       : key->type == CONFIG_DSN     ? is_dsn
                                                                     : printable_is_plain;
    char *copy = arena_alloc(arena, text.length + 1);
    if (!copy)
        return CONFIG_NO_MEMORY;
    memcpy(copy, text.bytes, text.length);
    copy[text.length] = 0;
    if (text.length > 0 && (!check((struct text){copy, text.length}) || !printable_is_plain(text)))
        return CONFIG_MALFORMED;
    *(const char **)field = copy;
    return CONFIG_PARSED;
}

static outcome parse_view(const struct config_key *key, struct text text, struct arena *arena, void *field)
{
    if (key->type == CONFIG_METER ? !is_word(text, 64) : text.length > 128 || !printable_is_plain(text))
        return CONFIG_MALFORMED;
    struct text copy = arena_text(arena, text);
    if (!copy.bytes)
        return CONFIG_NO_MEMORY;
    *(struct text *)field = copy;
    return CONFIG_PARSED;
}

static outcome parse_number(const struct config_key *key, struct text text, struct arena *arena, void *field)
{
    (void)arena;
    int64_t value;
    bool parsed = key->type == CONFIG_DURATION ? duration_parse(text, &value)
                  : key->type == CONFIG_SIZE   ? size_parse(text, &value)
                                               : integer_parse(text, &value);
    if (!parsed)
        return CONFIG_MALFORMED;
    if (value < key->least || value > key->most)
        return CONFIG_OUT_OF_RANGE;
    *(int64_t *)field = value;
    return CONFIG_PARSED;
}

static outcome parse_decimal(const struct config_key *key, struct text text, struct arena *arena, void *field)
{
    (void)key, (void)arena;
    decimal_t value;
    if (text.length == 0)
        return CONFIG_PARSED; /* only a key that may be empty gets here: the field stays as it is */
    if (decimal_parse(text.bytes, text.length, &value) != DECIMAL_OK || value < 0)
        return CONFIG_MALFORMED;
    *(decimal_t *)field = value;
    return CONFIG_PARSED;
}

static outcome parse_bool(const struct config_key *key, struct text text, struct arena *arena, void *field)
{
    (void)key, (void)arena;
    *(bool *)field = text_equal(text, TEXT("true"));
    return *(bool *)field || text_equal(text, TEXT("false")) ? CONFIG_PARSED : CONFIG_MALFORMED;
}

static const char *find_choice(const struct config_key *key, struct text text, unsigned *index)
{
    for (*index = 0; *index < key->choice_count; ++*index)
        if (key->choices[*index] && text_equal(text, text_of(key->choices[*index])))
            return key->choices[*index];
    return NULL;
}

static outcome parse_choice(const struct config_key *key, struct text text, struct arena *arena, void *field)
{
    (void)arena;
    unsigned index;
    if (!find_choice(key, text, &index))
        return CONFIG_MALFORMED;
    *(unsigned *)field = index; /* enums without negative values are unsigned here */
    return CONFIG_PARSED;
}

static outcome append(struct config_texts *list, const char *item, struct arena *arena)
{
    const char **items = arena_alloc(arena, (list->count + 1) * sizeof *items);
    if (!items)
        return CONFIG_NO_MEMORY;
    for (size_t i = 0; i < list->count; i++)
        items[i] = list->items[i];
    items[list->count] = item;
    *list = (struct config_texts){items, list->count + 1};
    return CONFIG_PARSED;
}

static outcome parse_topics(const struct config_key *key, struct text text, struct arena *arena, void *field)
{
    if (!is_topic(text))
        return CONFIG_MALFORMED;
    const char *item;
    outcome parsed = parse_text(key, text, arena, &item);
    return parsed == CONFIG_PARSED ? append(field, item, arena) : parsed;
}

static outcome parse_fields(const struct config_key *key, struct text text, struct arena *arena, void *field)
{
    unsigned index;
    const char *name = find_choice(key, text, &index);
    return name ? append(field, name, arena) : CONFIG_MALFORMED;
}

void config_print_text(struct text text, FILE *out)
{
    fputc('"', out);
    printable_write(PRINTABLE_JSON, text, out);
    fputc('"', out);
}

static void print_text(const struct config_key *key, const void *field, FILE *out)
{
    (void)key;
    config_print_text(text_of(*(const char *const *)field), out);
}

static void print_dsn(const struct config_key *key, const void *field, FILE *out)
{
    (void)key;
    char *redacted = config_dsn_redacted(*(const char *const *)field);
    config_print_text(text_of(redacted ? redacted : "****"), out);
    free(redacted);
}

static void print_view(const struct config_key *key, const void *field, FILE *out)
{
    (void)key;
    config_print_text(*(const struct text *)field, out);
}

static void print_number(const struct config_key *key, const void *field, FILE *out)
{
    char text[UNITS_TEXT_BYTES];
    int64_t value = *(const int64_t *)field;
    if (key->type == CONFIG_INTEGER)
        fprintf(out, "%lld", (long long)value);
    else
        fputs((key->type == CONFIG_DURATION ? duration_text : size_text)(value, text), out);
}

static void print_decimal(const struct config_key *key, const void *field, FILE *out)
{
    (void)key;
    char text[DECIMAL_TEXT_BYTES];
    decimal_text(*(const decimal_t *)field, text);
    fputs(text, out);
}

static void print_bool(const struct config_key *key, const void *field, FILE *out)
{
    (void)key;
    fputs(*(const bool *)field ? "true" : "false", out);
}

static void print_choice(const struct config_key *key, const void *field, FILE *out)
{
    fputs(key->choices[*(const unsigned *)field], out);
}

static void print_list(const struct config_key *key, const void *field, FILE *out)
{
    (void)key;
    const struct config_texts *list = field;
    fputc('[', out);
    for (size_t i = 0; i < list->count; i++)
        fprintf(out, "%s%s", i > 0 ? ", " : "", list->items[i]);
    fputc(']', out);
}

const struct config_type_row config_types[CONFIG_TYPES] = {
    [CONFIG_TEXT] = {"text", "usagebox", CONFIG_ONE, parse_text, print_text},
    [CONFIG_TOPIC] = {"a topic's name", "usage", CONFIG_ONE, parse_text, print_text},
    [CONFIG_SERVERS] = {"host:port, several joined by commas,", "kafka-1:9092,kafka-2:9092", CONFIG_ONE,
                        parse_text, print_text},
    [CONFIG_ADDRESS] = {"host:port", "127.0.0.1:9464", CONFIG_ONE, parse_text, print_text},
    [CONFIG_DSN] = {"a PostgreSQL connection string", "postgresql://usagebox@db.example/usagebox", CONFIG_ONE,
                    parse_text, print_dsn},
    [CONFIG_NAME] = {"1 to 128 bytes", "pro-monthly-output", CONFIG_ONE, parse_view, print_view},
    [CONFIG_METER] = {"a meter, 1 to 64 of A-Z a-z 0-9 . _ -,", "llm_tokens_out", CONFIG_ONE, parse_view,
                      print_view},
    [CONFIG_DURATION] = {"a duration", "25h", CONFIG_ONE, parse_number, print_number},
    [CONFIG_SIZE] = {"a size", "4GiB", CONFIG_ONE, parse_number, print_number},
    [CONFIG_INTEGER] = {"an integer", "250000", CONFIG_ONE, parse_number, print_number},
    [CONFIG_DECIMAL] = {"a number from 0 on with up to 9 digits after the point,", "1000000", CONFIG_ONE,
                        parse_decimal, print_decimal},
    [CONFIG_BOOL] = {"true or false", NULL, CONFIG_ONE, parse_bool, print_bool},
    [CONFIG_CHOICE] = {"one of", NULL, CONFIG_ONE, parse_choice, print_choice},
    [CONFIG_TOPICS] = {"a list of topics' names", "[usage]", CONFIG_LIST, parse_topics, print_list},
    [CONFIG_FIELDS] = {"a list out of", NULL, CONFIG_LIST, parse_fields, print_list},
    [CONFIG_PROPERTIES] = {"a map", "{security.protocol: SSL}", CONFIG_MAP, NULL, NULL},
    [CONFIG_CEILINGS] = {"a list of maps", "[{name: …, customer: …}]", CONFIG_MAPS, NULL, NULL},
};
