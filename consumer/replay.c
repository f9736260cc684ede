#include "replay.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>

#include "kafka_options.h"

enum { METADATA_TIMEOUT_MS = 10000, POLL_MS = 100 };

struct replay_topic {
    int32_t partition_count; /* 0: not known yet */
};

struct replay {
    const struct config *config;
    enum partitioner partitioner;
    rd_kafka_t *producer;
    rd_kafka_queue_t *queue;     /* delivery reports */
    struct replay_topic *topics; /* by index into kafka.usage_topics */
    size_t under_way;
};

static enum partitioner choose_partitioner(const struct config *config, enum partitioner stored)
{
    if (config->kafka.partitioner != PARTITIONER_UNKNOWN)
        return config->kafka.partitioner;
    return stored != PARTITIONER_UNKNOWN ? stored : PARTITIONER_MURMUR2;
}

struct replay *replay_new(const struct config *config, enum partitioner stored, char *error,
                          size_t error_size)
{
    char reason[KAFKA_ERROR_BYTES] = "out of memory";
    struct replay *replay = calloc(1, sizeof *replay);
    struct kafka_options options = kafka_options_of(config);
    if (replay) {
        replay->config = config;
        replay->partitioner = choose_partitioner(config, stored);
        replay->topics = calloc(config->kafka.usage_topics.count, sizeof *replay->topics);
        replay->producer = replay->topics ? kafka_handle_new(&options, KAFKA_PRODUCER, NULL, reason) : NULL;
        replay->queue = replay->producer ? rd_kafka_queue_get_main(replay->producer) : NULL;
    }
    if (replay && replay->queue)
        return replay;
    snprintf(error, error_size, "%s", reason);
    replay_free(replay);
    return NULL;
}

void replay_free(struct replay *replay)
{
    if (!replay)
        return;
    if (replay->queue)
        rd_kafka_queue_destroy(replay->queue);
    kafka_handle_free(replay->producer);
    free(replay->topics);
    free(replay);
}

__attribute__((format(printf, 2, 3))) static void refuse(struct replay_letter *letter, const char *format,
                                                         ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(letter->detail, sizeof letter->detail, format, arguments);
    va_end(arguments);
}

static int find_topic(const struct replay *replay, const char *name)
{
    for (size_t i = 0; i < replay->config->kafka.usage_topics.count; i++)
        if (strcmp(replay->config->kafka.usage_topics.items[i], name) == 0)
            return (int)i;
    return -1;
}

static int32_t ask_partition_count(struct replay *replay, const char *name, char *error, size_t error_size)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(replay->producer, name, NULL);
    int32_t count = 0;
    if (!topic) {
        snprintf(error, error_size, "%s", rd_kafka_err2str(rd_kafka_last_error()));
        return 0;
    }
    rd_kafka_resp_err_t failed =
        rd_kafka_metadata(replay->producer, 0, topic, &metadata, METADATA_TIMEOUT_MS);
    rd_kafka_topic_destroy(topic);
    if (!failed) {
        failed = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        count = failed ? 0 : metadata->topics[0].partition_cnt;
        rd_kafka_metadata_destroy(metadata);
    }
    if (failed)
        snprintf(error, error_size, "%s", rd_kafka_err2str(failed));
    return count;
}

/* Nothing against it so far: the partition count of its topic. 0: detail says why. */
static int32_t partition_count(struct replay *replay, struct replay_letter *letter)
{
    char error[REPLAY_DETAIL_BYTES / 2] = "";
    int topic = find_topic(replay, letter->topic);
    if (topic < 0) {
        refuse(letter, "topic %.128s is not among kafka.usage_topics: nobody would read it", letter->topic);
        return 0;
    }
    int32_t *count = &replay->topics[topic].partition_count;
    if (*count == 0)
        *count = ask_partition_count(replay, letter->topic, error, sizeof error);
    if (*count == 0)
        refuse(letter, "topic %.100s: %s", letter->topic, error);
    return *count;
}

static struct text member_text(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_string(value) || json_string_length(value) == 0)
        return (struct text){NULL, 0};
    return (struct text){json_string_value(value), (uint32_t)json_string_length(value)};
}

static const char *header_name(const json_t *header)
{
    const char *name = json_string_value(json_array_get(header, 0));
    return name ? name : "";
}

static bool has_header(const struct replay_letter *letter, const char *name)
{
    size_t i;
    json_t *header;
    json_array_foreach(letter->header_list, i, header)
    {
        if (strcmp(header_name(header), name) == 0 && json_string_length(json_array_get(header, 1)) > 0)
            return true;
    }
    return false;
}

/* As lenient as JSON allows: most of these were refused for being wrong somewhere. */
static json_t *read_json(struct text text)
{
    if (!text.bytes)
        return NULL;
    return json_loadb(text.bytes, text.length, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
}

bool replay_plan(struct replay *replay, struct replay_letter *letter, bool force)
{
    letter->event = read_json(letter->payload);
    letter->header_list = read_json(letter->headers);
    if (!letter->header_list)
        letter->header_list = json_array();
    int32_t count = partition_count(replay, letter);
    struct text customer = member_text(letter->event, "customer_id");
    if (!customer.bytes)
        customer = member_text(letter->event, "account_id");
    letter->to_key = customer.bytes ? customer : letter->key;
    letter->to_partition = letter->partition;
    if (customer.bytes && count > 0)
        letter->to_partition = partitioner_lane(replay->partitioner, customer, count);
    bool identified = member_text(letter->event, "event_id").bytes || has_header(letter, "event_id");
    if (count > 0 && letter->to_partition >= count)
        refuse(letter, "partition %" PRId32 " of %.128s does not exist any more", letter->to_partition,
               letter->topic);
    else if (count > 0 && !identified && !force)
        refuse(letter, "it has no event_id and would be refused again: --force sends it all the same");
    else
        letter->ready = count > 0;
    return letter->header_list != NULL;
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

/* Those that it had, and the time that counts where the event names none. */
static rd_kafka_headers_t *make_headers(const struct replay_letter *letter)
{
    size_t count = json_array_size(letter->header_list);
    rd_kafka_headers_t *headers = rd_kafka_headers_new(count + 1);
    bool complete = headers != NULL;
    for (size_t i = 0; i < count && complete; i++)
        complete = add_header(headers, json_array_get(letter->header_list, i));
    if (complete && letter->record_time_ms >= 0 && !has_header(letter, "usagebox_time")) {
        char time_ms[24];
        int length = snprintf(time_ms, sizeof time_ms, "%" PRId64, letter->record_time_ms);
        complete = rd_kafka_header_add(headers, "usagebox_time", -1, time_ms, length) == 0;
    }
    if (complete)
        return headers;
    if (headers)
        rd_kafka_headers_destroy(headers);
    return NULL;
}

static void take_reports(struct replay *replay, int timeout_ms)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(replay->queue, timeout_ms);
    if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR) {
        for (const rd_kafka_message_t *message; (message = rd_kafka_event_message_next(event));) {
            struct replay_letter *letter = message->_private;
            letter->delivered = !message->err;
            if (message->err)
                refuse(letter, "not delivered: %s", rd_kafka_err2str(message->err));
            replay->under_way--;
        }
    }
    if (event)
        rd_kafka_event_destroy(event);
}

static rd_kafka_resp_err_t produce(struct replay *replay, struct replay_letter *letter,
                                   rd_kafka_headers_t *headers)
{
    return rd_kafka_producev(
        replay->producer, RD_KAFKA_V_TOPIC(letter->topic), RD_KAFKA_V_PARTITION(letter->to_partition),
        RD_KAFKA_V_KEY(letter->to_key.bytes, letter->to_key.length),
        RD_KAFKA_V_VALUE((void *)letter->payload.bytes, letter->payload.length), RD_KAFKA_V_HEADERS(headers),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_OPAQUE(letter), RD_KAFKA_V_END);
}

void replay_send(struct replay *replay, struct replay_letter *letter)
{
    rd_kafka_headers_t *headers = make_headers(letter);
    if (!headers) {
        refuse(letter, "its headers can't be made again");
        return;
    }
    rd_kafka_resp_err_t error;
    while ((error = produce(replay, letter, headers)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        take_reports(replay, POLL_MS);
    if (!error) {
        replay->under_way++; /* headers belong to the message now */
        return;
    }
    rd_kafka_headers_destroy(headers);
    refuse(letter, "not sent: %s", rd_kafka_err2str(error));
}

/* Every message is delivered or given up within the producer's message.timeout.ms. */
void replay_wait(struct replay *replay)
{
    while (replay->under_way > 0)
        take_reports(replay, POLL_MS);
}

void replay_letter_free(struct replay_letter *letter)
{
    json_decref(letter->event);
    json_decref(letter->header_list);
}
