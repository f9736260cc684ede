#include <jansson.h>
#include <sodium.h>
#include <stdlib.h>

#include "../rollup/json_text.h"
#include "dead_letters.h"
#include "event.h"
#include "json_load.h"
#include "printable.h"
#include "tables.h"
#include "units.h"

static const char mend_it[] =
    "Its bytes never change, so it would be refused again: have the producer send the mended "
    "event under the same event_id.";
static const char hold_key[] =
    "Have producers use the customer_id as the record's key. `usagebox dead-letters replay` "
    "sends this one to where it belongs.";

static const char send_home[] =
    "Have all producers use the same partitioner. `usagebox dead-letters replay` sends "
    "this one to where it belongs.";
static const char raise_age[] =
    "Raise events.max_age, restart, and replay it, if it is to be counted all the same.";
static const char wait_for_it[] =
    "The producer's clock is ahead. Replayed once its time has come, it is counted.";
static const char ask_store[] = "PostgreSQL alone refuses it: see the detail. Replay it once that is mended.";

static const char *const hints[REFUSAL_COUNT] = {
    [REFUSAL_TOO_OLD] = raise_age,       [REFUSAL_IN_FUTURE] = wait_for_it,
    [REFUSAL_KEY_MISMATCH] = hold_key,   [REFUSAL_WRONG_PARTITION] = send_home,
    [REFUSAL_STORE_REFUSED] = ask_store,
};

const char *dead_letter_hint(struct text reason)
{
    for (int i = 0; i < REFUSAL_COUNT; i++)
        if (hints[i] && text_equal(reason, text_of(refusal_names[i])))
            return hints[i];
    return mend_it;
}

static bool is_utf8(struct text text)
{
    for (size_t i = 0; i < text.length;) {
        size_t length = utf8_sequence_bytes(text.bytes + i, text.length - i);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

/* The columns up to SHOWN_TEXTS are text and shown as they are. */
enum { SHOWN_REASON = 1, SHOWN_TEXTS = 9, SHOWN_HEADERS = SHOWN_TEXTS, SHOWN_KEY, SHOWN_PAYLOAD };
static const char *const shown_names[SHOWN_TEXTS] = {
    "id", "reason", "detail", "topic", "partition", "offset", "record_time", "refused_at", "replayed_at"};
static const char show_sql[] =
    "SELECT dead_letter_id::text, reason, detail, topic, kafka_partition::text, "
    "kafka_offset::text, " DEAD_LETTER_TIME_SQL("record_time") ", " DEAD_LETTER_TIME_SQL(
        "created_at") ", " DEAD_LETTER_TIME_SQL("replayed_at") ", headers, key, payload FROM dead_letter "
                                                               "WHERE dead_letter_id = $1::bigint";

static struct text column(const PGresult *result, int index)
{
    return PQgetisnull(result, 0, index) ? (struct text){NULL, 0} : pg_text(result, 0, index);
}

/* Lower-case hexadecimal; the caller frees it. NULL: out of memory. */
static char *hex_of(struct text bytes)
{
    size_t size = 2 * (size_t)bytes.length + 1;
    char *hex = malloc(size);
    if (hex)
        sodium_bin2hex(hex, size, (const unsigned char *)bytes.bytes, bytes.length);
    return hex;
}

/* object[name] = the text, or null and object[name_hex] = its bytes where it is no UTF-8. */
static bool set_bytes(json_t *object, const char *name, struct text bytes)
{
    char hex_name[64];
    bool plain = bytes.bytes && is_utf8(bytes);
    if (json_object_set_new(object, name, plain ? json_stringn(bytes.bytes, bytes.length) : json_null()) != 0)
        return false;
    if (plain || !bytes.bytes)
        return true;
    char *hex = hex_of(bytes);
    snprintf(hex_name, sizeof hex_name, "%s_hex", name);
    bool set = hex && json_object_set_new(object, hex_name, json_string(hex)) == 0;
    free(hex);
    return set;
}

/* Calls each with name and value of every header; bytes NULL: null. Values live during the call. */
static bool each_header(const PGresult *result,
                        bool (*each)(void *context, const char *name, struct text value), void *context)
{
    struct text text = column(result, SHOWN_HEADERS);
    bool starved;
    json_t *headers = json_load_text(text, JSON_ALLOW_NUL, NULL, &starved);
    unsigned char *bytes = malloc(text.length + 1u);
    bool done = headers && bytes;
    for (size_t i = 0; done && i < json_array_size(headers); i++) {
        const json_t *name = json_array_get(json_array_get(headers, i), 0);
        const json_t *value = json_array_get(json_array_get(headers, i), 1);
        size_t length = 0;
        bool null = !json_is_string(value) ||
                    sodium_base642bin(bytes, text.length, json_string_value(value), json_string_length(value),
                                      NULL, &length, NULL, sodium_base64_VARIANT_ORIGINAL) != 0;
        done = each(context, json_is_string(name) ? json_string_value(name) : "",
                    (struct text){null ? NULL : (char *)bytes, (uint32_t)length});
    }
    free(bytes);
    json_decref(headers);
    return done;
}

static bool add_header_json(void *list, const char *name, struct text value)
{
    json_t *header = json_pack("{s:s}", "name", name);
    bool set = header && set_bytes(header, "value", value);
    return json_array_append_new(list, header) == 0 && set;
}

static bool print_json_of(const PGresult *result)
{
    json_t *object = json_object(), *headers = json_array();
    bool set = object && headers && each_header(result, add_header_json, headers);
    for (int i = 0; i < SHOWN_TEXTS && set; i++) {
        struct text text = column(result, i);
        set = json_object_set_new(object, shown_names[i],
                                  text.bytes ? json_stringn(text.bytes, text.length) : json_null()) == 0;
    }
    set = set &&
          json_object_set_new(object, "hint", json_string(dead_letter_hint(column(result, SHOWN_REASON)))) ==
              0 &&
          json_object_set(object, "headers", headers) == 0 &&
          set_bytes(object, "key", column(result, SHOWN_KEY)) &&
          set_bytes(object, "payload", column(result, SHOWN_PAYLOAD));
    json_decref(headers);
    if (set)
        return json_print(object, stdout);
    json_decref(object);
    return false;
}

static void print_label(const char *label)
{
    printf("%-12s ", label);
}

static bool print_bytes(struct text bytes)
{
    if (!bytes.bytes) {
        puts("-");
    } else if (is_utf8(bytes)) {
        printable_write(PRINTABLE_PLAIN, bytes, stdout);
        putchar('\n');
    } else {
        char *hex = hex_of(bytes);
        if (!hex)
            return false;
        printf("%u bytes, not UTF-8: %s\n", bytes.length, hex);
        free(hex);
    }
    return true;
}

static bool print_header(void *nothing, const char *name, struct text value)
{
    (void)nothing;
    print_label("header");
    printable_write(PRINTABLE_PLAIN, text_of(name), stdout);
    fputs(": ", stdout);
    return print_bytes(value);
}

static bool print_text_of(const PGresult *result)
{
    for (int i = 0; i < SHOWN_TEXTS; i++) {
        print_label(shown_names[i]);
        print_bytes(column(result, i));
    }
    print_label("what to do");
    puts(dead_letter_hint(column(result, SHOWN_REASON)));
    if (!each_header(result, print_header, NULL))
        return false;
    print_label("key");
    if (!print_bytes(column(result, SHOWN_KEY)))
        return false;
    print_label("payload");
    return print_bytes(column(result, SHOWN_PAYLOAD));
}

static int show(struct command_context *context, const struct config *config, const void *chosen,
                int operand_count, char **operands)
{
    (void)chosen;
    int64_t id;
    if (operand_count != 1 || !integer_parse(text_of(operands[0]), &id))
        return command_fail(context, EXIT_USAGE,
                            "expected one ID as `dead-letters list` shows it, such as 12");
    PG_RESULT *result = dead_letter_query(context, config, show_sql, (const char *[]){operands[0]}, 1);
    if (!result)
        return EXIT_FAILED;
    if (PQntuples(result) == 0)
        return command_fail(context, EXIT_FAILED, "there is no dead letter %s", operands[0]);
    bool printed = context->json ? print_json_of(result) : print_text_of(result);
    return printed ? EXIT_DONE : command_fail(context, EXIT_FAILED, "out of memory");
}

int dead_letters_show(struct command_context *context, int argc, char **argv)
{
    const struct option_row rows[] = {{0}};
    const struct options options = {.operands = "ID",
                                    .about = "Shows a refused record, why it was refused and what to do.\n"
                                             "Bytes that are not UTF-8 are shown as hexadecimal.",
                                    .rows = rows};
    return command_run(context, &options, argc, argv, show, NULL);
}
