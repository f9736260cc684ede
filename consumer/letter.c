#include "letter.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>

#include "json_load.h"

enum { POLL_MS = 100 };

struct letter_sender {
    rd_kafka_t *producer;
    rd_kafka_queue_t *reports;
    size_t under_way;
};

static struct text optional(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? (struct text){NULL, 0} : pg_text(result, row, column);
}

bool letter_of(const PGresult *result, int row, struct letter *letter)
{
    *letter = (struct letter){
        .id = pg_int8(result, row, 0),
        .topic = PQgetvalue(result, row, 1),
        .partition = pg_int4(result, row, 2),
        .key = optional(result, row, 3),
        .payload = optional(result, row, 4),
        .record_time_ms = PQgetisnull(result, row, 6) ? -1 : pg_time_us(result, row, 6) / 1000,
        .offset = pg_int8(result, row, 7),
        .reason = pg_text(result, row, 8),
        .detail = pg_text(result, row, 9),
    };
    bool starved;
    letter->headers = json_load_text(pg_text(result, row, 5), JSON_ALLOW_NUL, NULL, &starved);
    letter->to_topic = letter->topic;
    letter->to_partition = letter->partition;
    letter->to_key = letter->key;
    return letter->headers != NULL;
}

void letter_free(struct letter *letter)
{
    json_decref(letter->headers);
    letter->headers = NULL;
}

const char *letters_delivered(const struct letter *letters, size_t count, char out[LETTERS_IDS_BYTES])
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        if (letters[i].delivered)
            used += (size_t)snprintf(out + used, LETTERS_IDS_BYTES - used, "%c%" PRId64, used > 0 ? ',' : '{',
                                     letters[i].id);
    snprintf(out + used, LETTERS_IDS_BYTES - used, "%s", used > 0 ? "}" : "{}");
    return out;
}

bool letter_has_header(const struct letter *letter, const char *name)
{
    for (size_t i = 0; i < json_array_size(letter->headers); i++) {
        const json_t *header = json_array_get(letter->headers, i);
        const char *found = json_string_value(json_array_get(header, 0));
        if (found && strcmp(found, name) == 0 && json_string_length(json_array_get(header, 1)) > 0)
            return true;
    }
    return false;
}

void letter_refuse(struct letter *letter, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(letter->trouble, sizeof letter->trouble, format, arguments);
    va_end(arguments);
}

struct letter_sender *letter_sender_new(const struct config *config, char error[KAFKA_ERROR_BYTES])
{
    struct letter_sender *sender = calloc(1, sizeof *sender);
    const struct kafka_options options = kafka_options_of(config);
    snprintf(error, KAFKA_ERROR_BYTES, "out of memory");
    if (!sender)
        return NULL;
    sender->producer = kafka_handle_new(&options, KAFKA_PRODUCER, NULL, error);
    if (!sender->producer) {
        free(sender);
        return NULL;
    }
    sender->reports = rd_kafka_queue_get_main(sender->producer);
    return sender;
}

void letter_sender_free(struct letter_sender *sender)
{
    if (!sender)
        return;
    rd_kafka_queue_destroy(sender->reports);
    kafka_handle_free(sender->producer);
    free(sender);
}

rd_kafka_t *letter_sender_handle(const struct letter_sender *sender)
{
    return sender->producer;
}

static bool add_header(rd_kafka_headers_t *headers, const json_t *header)
{
    const json_t *name = json_array_get(header, 0), *value = json_array_get(header, 1);
    if (!json_is_string(name))
        return false;
    ssize_t name_length = (ssize_t)json_string_length(name);
    if (!json_is_string(value))
        return rd_kafka_header_add(headers, json_string_value(name), name_length, NULL, 0) == 0;
    size_t bound = json_string_length(value) + 1, length;
    unsigned char *bytes = malloc(bound);
    bool added =
        bytes &&
        sodium_base642bin(bytes, bound, json_string_value(value), json_string_length(value), NULL, &length,
                          NULL, sodium_base64_VARIANT_ORIGINAL) == 0 &&
        rd_kafka_header_add(headers, json_string_value(name), name_length, bytes, (ssize_t)length) == 0;
    free(bytes);
    return added;
}

static rd_kafka_headers_t *make_headers(const struct letter *letter)
{
    size_t count = json_array_size(letter->headers);
    rd_kafka_headers_t *headers = rd_kafka_headers_new(count + letter->added_count);
    bool complete = headers != NULL;
    for (size_t i = 0; i < count && complete; i++)
        complete = add_header(headers, json_array_get(letter->headers, i));
    for (size_t i = 0; i < letter->added_count && complete; i++) {
        const struct record_header *added = &letter->added[i];
        complete = rd_kafka_header_add(headers, added->name.bytes, added->name.length, added->value.bytes,
                                       added->value.length) == 0;
    }
    if (complete)
        return headers;
    if (headers)
        rd_kafka_headers_destroy(headers);
    return NULL;
}

static void give_up(struct letter *letter, rd_kafka_resp_err_t error)
{
    letter->hopeless = error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
                       error == RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE ||
                       error == RD_KAFKA_RESP_ERR_INVALID_RECORD;
    letter_refuse(letter, "not delivered: %s", rd_kafka_err2str(error));
}

static void take_reports(struct letter_sender *sender, int timeout_ms)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(sender->reports, timeout_ms);
    if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR) {
        for (const rd_kafka_message_t *message; (message = rd_kafka_event_message_next(event));) {
            struct letter *letter = message->_private;
            letter->delivered = !message->err;
            if (message->err)
                give_up(letter, message->err);
            sender->under_way--;
        }
    }
    if (event)
        rd_kafka_event_destroy(event);
}

static rd_kafka_resp_err_t produce(struct letter_sender *sender, struct letter *letter,
                                   rd_kafka_headers_t *headers)
{
    return rd_kafka_producev(
        sender->producer, RD_KAFKA_V_TOPIC(letter->to_topic), RD_KAFKA_V_PARTITION(letter->to_partition),
        RD_KAFKA_V_KEY(letter->to_key.bytes, letter->to_key.length),
        RD_KAFKA_V_VALUE((void *)letter->payload.bytes, letter->payload.length), RD_KAFKA_V_HEADERS(headers),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_OPAQUE(letter), RD_KAFKA_V_END);
}

void letter_send(struct letter_sender *sender, struct letter *letter)
{
    rd_kafka_headers_t *headers = make_headers(letter);
    if (!headers) {
        letter_refuse(letter, "its headers can't be made again");
        return;
    }
    rd_kafka_resp_err_t error;
    while ((error = produce(sender, letter, headers)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        take_reports(sender, POLL_MS);
    if (!error) {
        sender->under_way++; /* headers belong to the message now */
        return;
    }
    rd_kafka_headers_destroy(headers);
    give_up(letter, error);
}

/* Every message is reported within the producer's message.timeout.ms. */
void letters_wait(struct letter_sender *sender, bool (*is_over)(void *context), void *context)
{
    while (sender->under_way > 0) {
        if (is_over && is_over(context))
            rd_kafka_purge(sender->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        take_reports(sender, POLL_MS);
    }
}
