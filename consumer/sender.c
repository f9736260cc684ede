#include "sender.h"

#include <stdlib.h>

#include "kafka_reach.h"

enum { METADATA_TIMEOUT_MS = 15000, QUEUE_FULL_WAIT_MS = 100 };

struct sender {
    rd_kafka_t *producer;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue; /* reports and errors */
    enum partitioner partitioner;
    int32_t partition_count;
    uint64_t pending;
    sender_report report;
    void *context;
    rd_kafka_resp_err_t trouble; /* what last kept librdkafka from sending */
};

static bool ask_partition_count(struct sender *sender, const char *name, char error[SENDER_ERROR_BYTES])
{
    char why[KAFKA_ERROR_BYTES];
    const struct rd_kafka_metadata *metadata =
        kafka_reach(sender->producer, sender->queue, sender->topic, true, METADATA_TIMEOUT_MS, why);
    if (!metadata) {
        snprintf(error, SENDER_ERROR_BYTES, "%s", why);
        return false;
    }
    rd_kafka_resp_err_t failed =
        metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    sender->partition_count = failed ? 0 : metadata->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(metadata);
    if (failed)
        snprintf(error, SENDER_ERROR_BYTES, "topic %s: %s", name, rd_kafka_err2str(failed));
    return sender->partition_count > 0;
}

static bool open_topic(struct sender *sender, const struct config *config, const char *topic,
                       char error[SENDER_ERROR_BYTES])
{
    struct kafka_options options = kafka_options_of(config);
    sender->producer = kafka_handle_new(&options, KAFKA_PRODUCER, NULL, error);
    if (!sender->producer)
        return false;
    sender->queue = rd_kafka_queue_get_main(sender->producer);
    sender->topic = rd_kafka_topic_new(sender->producer, topic, NULL);
    if (!sender->topic)
        snprintf(error, SENDER_ERROR_BYTES, "topic %s: %s", topic, rd_kafka_err2str(rd_kafka_last_error()));
    return sender->topic && ask_partition_count(sender, topic, error);
}

struct sender *sender_new(const struct config *config, const char *topic, sender_report report, void *context,
                          char error[SENDER_ERROR_BYTES])
{
    snprintf(error, SENDER_ERROR_BYTES, "out of memory");
    struct sender *sender = calloc(1, sizeof *sender);
    if (!sender)
        return NULL;
    *sender = (struct sender){.partitioner = PARTITIONER_MURMUR2, .report = report, .context = context};
    if (open_topic(sender, config, topic, error))
        return sender;
    sender_free(sender);
    return NULL;
}

void sender_free(struct sender *sender)
{
    if (!sender)
        return;
    if (sender->producer)
        rd_kafka_purge(sender->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    if (sender->queue)
        rd_kafka_queue_destroy(sender->queue);
    if (sender->topic)
        rd_kafka_topic_destroy(sender->topic);
    kafka_handle_free(sender->producer);
    free(sender);
}

int32_t sender_partition_count(const struct sender *sender)
{
    return sender->partition_count;
}

void sender_partition_by(struct sender *sender, enum partitioner partitioner)
{
    sender->partitioner = partitioner;
}

static void tell(struct sender *sender, const rd_kafka_message_t *message)
{
    rd_kafka_resp_err_t error = message->err;
    if (error == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT && sender->trouble)
        error = sender->trouble; /* says more */
    sender->pending--;
    sender->report(sender->context, (uint64_t)(uintptr_t)message->_private, message->partition,
                   message->offset, message->err ? rd_kafka_err2str(error) : NULL);
}

/* False: none came in time. */
static bool take_reports(struct sender *sender, int timeout_ms)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(sender->queue, timeout_ms);
    if (!event)
        return false;
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
        sender->trouble = rd_kafka_event_error(event);
    for (const rd_kafka_message_t *message; (message = rd_kafka_event_message_next(event));)
        tell(sender, message);
    rd_kafka_event_destroy(event);
    return true;
}

static rd_kafka_resp_err_t produce(struct sender *sender, struct text key, struct text value, uint64_t cookie)
{
    int32_t partition = key.bytes ? partitioner_lane(sender->partitioner, key, sender->partition_count)
                                  : (int32_t)(cookie % (uint64_t)sender->partition_count);
    void *opaque = (void *)(uintptr_t)cookie; // NOLINT(performance-no-int-to-ptr): librdkafka hands it back
    return rd_kafka_producev(sender->producer, RD_KAFKA_V_RKT(sender->topic), RD_KAFKA_V_PARTITION(partition),
                             RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(key.bytes, key.length),
                             RD_KAFKA_V_VALUE((void *)value.bytes, value.length), RD_KAFKA_V_OPAQUE(opaque),
                             RD_KAFKA_V_END);
}

void sender_send(struct sender *sender, struct text key, struct text value, uint64_t cookie)
{
    rd_kafka_resp_err_t error;
    while ((error = produce(sender, key, value, cookie)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        take_reports(sender, QUEUE_FULL_WAIT_MS);
    if (error)
        sender->report(sender->context, cookie, -1, -1, rd_kafka_err2str(error));
    else
        sender->pending++;
    take_reports(sender, 0);
}

void sender_wait(struct sender *sender, int timeout_ms)
{
    while (sender->pending > 0 && take_reports(sender, timeout_ms))
        timeout_ms = 0; /* what is there already */
}

uint64_t sender_pending(const struct sender *sender)
{
    return sender->pending;
}
