#include "kafka_tail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "system_clock.h"

enum { BATCH_MESSAGES = 500, SEQUENCE_BYTES = 48, START_AGAIN_MS = 1000 };

struct tailed {
    bool wanted;
    bool reading; /* false though it is wanted: it could not be started */
    bool caught_up;
    int64_t next_offset;
    int64_t end_offset; /* what the first fetch said; -1: not known yet */
};

struct kafka_tail {
    rd_kafka_t *reader;
    rd_kafka_topic_t *topic;
    const char *topic_name;
    rd_kafka_queue_t *queue; /* all lanes' messages */
    struct tailed *lanes;
    size_t lane_count;
    int64_t start_again_ms; /* when what could not be started is tried again; 0: all is */
    rd_kafka_message_t *messages[BATCH_MESSAGES];
    size_t message_count;
    size_t message_next;
    char detail[KAFKA_ERROR_BYTES];
    bool refused; /* `detail` says why the last begin was, and nobody has heard it yet */
};

/* A compacted partition's start moves. Where the place that we were at is gone, all is read again: each
 * message carries its sequence, so that harms nobody. */
static rd_kafka_topic_t *open_topic(rd_kafka_t *reader, const char *name, char error[KAFKA_ERROR_BYTES])
{
    rd_kafka_topic_conf_t *conf = rd_kafka_topic_conf_new();
    if (rd_kafka_topic_conf_set(conf, "auto.offset.reset", "earliest", error, KAFKA_ERROR_BYTES) !=
        RD_KAFKA_CONF_OK) {
        rd_kafka_topic_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_topic_t *topic = rd_kafka_topic_new(reader, name, conf); /* takes conf, even if it fails */
    if (!topic)
        snprintf(error, KAFKA_ERROR_BYTES, "kafka.enforcement_topic: %s",
                 rd_kafka_err2str(rd_kafka_last_error()));
    return topic;
}

struct kafka_tail *kafka_tail_new(const struct kafka_options *options, int wake_fd,
                                  char error[KAFKA_ERROR_BYTES])
{
    static const uint64_t ring = 1;
    snprintf(error, KAFKA_ERROR_BYTES, "out of memory");
    struct kafka_tail *tail = calloc(1, sizeof(*tail));
    if (!tail)
        return NULL;
    tail->topic_name = options->enforcement_topic;
    tail->reader = kafka_handle_new(options, KAFKA_TAIL, NULL, error);
    if (tail->reader)
        tail->topic = open_topic(tail->reader, tail->topic_name, error);
    if (!tail->topic) {
        kafka_tail_free(tail);
        return NULL;
    }
    tail->queue = rd_kafka_queue_new(tail->reader);
    rd_kafka_queue_io_event_enable(tail->queue, wake_fd, &ring, sizeof(ring));
    return tail;
}

static void drop_messages(struct kafka_tail *tail)
{
    for (size_t i = 0; i < tail->message_count; i++)
        rd_kafka_message_destroy(tail->messages[i]);
    tail->message_count = tail->message_next = 0;
}

/* What was fetched of an earlier reading must not be taken for the next one's. */
static void drop_lane(struct kafka_tail *tail, int32_t lane)
{
    size_t kept = tail->message_next;
    for (size_t i = tail->message_next; i < tail->message_count; i++) {
        if (tail->messages[i]->partition == lane)
            rd_kafka_message_destroy(tail->messages[i]);
        else
            tail->messages[kept++] = tail->messages[i];
    }
    tail->message_count = kept;
}

void kafka_tail_end(struct kafka_tail *tail, int32_t lane)
{
    if (lane < 0 || (size_t)lane >= tail->lane_count)
        return;
    bool reading = tail->lanes[lane].reading;
    tail->lanes[lane].reading = tail->lanes[lane].wanted = false;
    if (!reading)
        return;
    rd_kafka_consume_stop(tail->topic, lane);
    drop_lane(tail, lane);
}

void kafka_tail_free(struct kafka_tail *tail)
{
    if (!tail)
        return;
    drop_messages(tail);
    for (size_t i = 0; i < tail->lane_count; i++)
        kafka_tail_end(tail, (int32_t)i);
    if (tail->queue) {
        rd_kafka_queue_io_event_enable(tail->queue, -1, NULL, 0);
        rd_kafka_queue_destroy(tail->queue);
    }
    if (tail->topic)
        rd_kafka_topic_destroy(tail->topic);
    kafka_handle_free(tail->reader);
    free(tail->lanes);
    free(tail);
}

static bool reserve(struct kafka_tail *tail, size_t lane_count)
{
    if (lane_count <= tail->lane_count)
        return true;
    struct tailed *grown = realloc(tail->lanes, lane_count * sizeof(*grown));
    if (!grown)
        return false;
    memset(grown + tail->lane_count, 0, (lane_count - tail->lane_count) * sizeof(*grown));
    tail->lanes = grown;
    tail->lane_count = lane_count;
    return true;
}

static void refuse(struct kafka_tail *tail, int32_t lane, const char *why)
{
    snprintf(tail->detail, sizeof(tail->detail), "%s partition %d cannot be read: %s", tail->topic_name,
             (int)lane, why);
    tail->refused = true;
}

static void start(struct kafka_tail *tail, int32_t lane)
{
    tail->lanes[lane] = (struct tailed){.wanted = true, .reading = true, .end_offset = -1};
    if (rd_kafka_consume_start_queue(tail->topic, lane, RD_KAFKA_OFFSET_BEGINNING, tail->queue) == 0)
        return;
    refuse(tail, lane, rd_kafka_err2str(rd_kafka_last_error()));
    tail->lanes[lane].reading = false;
    tail->start_again_ms = system_steady_ms() + START_AGAIN_MS;
}

void kafka_tail_begin(struct kafka_tail *tail, int32_t lane)
{
    kafka_tail_end(tail, lane);
    if (reserve(tail, (size_t)lane + 1))
        start(tail, lane);
    else
        refuse(tail, lane, "out of memory");
}

static void start_again(struct kafka_tail *tail)
{
    if (tail->start_again_ms == 0 || system_steady_ms() < tail->start_again_ms)
        return;
    tail->start_again_ms = 0;
    for (size_t i = 0; i < tail->lane_count; i++)
        if (tail->lanes[i].wanted && !tail->lanes[i].reading)
            start(tail, (int32_t)i);
}

bool kafka_sequence_parse(struct text text, struct flag_sequence *sequence)
{
    char bytes[SEQUENCE_BYTES];
    int length = 0;
    if (text.length >= sizeof(bytes) || memchr(text.bytes, '\0', text.length))
        return false;
    memcpy(bytes, text.bytes, text.length);
    bytes[text.length] = '\0';
    errno = 0;
    return sscanf(bytes, "[%" SCNd64 ",%" SCNd64 "]%n", &sequence->epoch, &sequence->count, &length) == 2 &&
           errno == 0 && length > 0 && (size_t)length == text.length && sequence->epoch >= 0 &&
           sequence->count >= 0;
}

static void read_sequence(const rd_kafka_message_t *message, struct flag_event *event)
{
    rd_kafka_headers_t *headers;
    const void *value;
    size_t length;
    if (rd_kafka_message_headers(message, &headers) ||
        rd_kafka_header_get_last(headers, "sequence", &value, &length))
        return;
    event->has_sequence =
        value && kafka_sequence_parse((struct text){value, (uint32_t)length}, &event->sequence);
}

/* The end is read off the first answer that came after tail(): at least what the partition held at tail(). */
static void note_place(struct kafka_tail *tail, const rd_kafka_message_t *message)
{
    struct tailed *lane = &tail->lanes[message->partition];
    int64_t low;
    lane->next_offset = message->offset + 1;
    if (lane->end_offset < 0 &&
        rd_kafka_get_watermark_offsets(tail->reader, tail->topic_name, message->partition, &low,
                                       &lane->end_offset) != 0)
        lane->end_offset = -1;
}

static void hand_out_message(struct kafka_tail *tail, const rd_kafka_message_t *message,
                             struct flag_event *event)
{
    event->kind = FLAG_SEEN;
    event->key = (struct text){message->key, (uint32_t)message->key_len};
    event->value = (struct text){message->payload, (uint32_t)message->len};
    read_sequence(message, event);
    note_place(tail, message);
}

static void hand_out(struct kafka_tail *tail, const rd_kafka_message_t *message, struct flag_event *event)
{
    *event = (struct flag_event){.kind = FLAG_NOTHING, .lane = message->partition};
    struct tailed *lane = &tail->lanes[message->partition];
    if (!message->err) {
        hand_out_message(tail, message, event);
    } else if (message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        refuse(tail, message->partition, rd_kafka_message_errstr(message));
    } else if (!lane->caught_up) {
        lane->caught_up = true;
        event->kind = FLAG_CAUGHT_UP;
    }
}

/* The message handed out last may have been the last that tail() asked for. Compaction may have taken that
 * one: then the partition's end, which librdkafka tells, is what counts. */
static bool caught_up(struct kafka_tail *tail, struct flag_event *event)
{
    int32_t at = tail->message_next ? tail->messages[tail->message_next - 1]->partition : -1;
    struct tailed *lane = at >= 0 ? &tail->lanes[at] : NULL;
    if (!lane || !lane->reading || lane->caught_up || lane->end_offset < 0 ||
        lane->next_offset < lane->end_offset)
        return false;
    lane->caught_up = true;
    *event = (struct flag_event){.kind = FLAG_CAUGHT_UP, .lane = at};
    return true;
}

static bool refused(struct kafka_tail *tail, struct flag_event *event)
{
    if (!tail->refused)
        return false;
    tail->refused = false;
    *event = (struct flag_event){.kind = FLAG_TROUBLE, .detail = tail->detail};
    return true;
}

static bool fetch(struct kafka_tail *tail)
{
    drop_messages(tail);
    ssize_t count = rd_kafka_consume_batch_queue(tail->queue, 0, tail->messages, BATCH_MESSAGES);
    tail->message_count = count > 0 ? (size_t)count : 0;
    return count > 0;
}

bool kafka_tail_next(struct kafka_tail *tail, struct flag_event *event)
{
    start_again(tail);
    while (!caught_up(tail, event) && !refused(tail, event)) {
        if (tail->message_next == tail->message_count && !fetch(tail))
            return false;
        hand_out(tail, tail->messages[tail->message_next++], event);
        if (event->kind != FLAG_NOTHING)
            return true;
    }
    return true;
}
