#include "kafka_reader.h"

#include <stdio.h>
#include <stdlib.h>

#include "kafka_admin.h"

enum { TIMEOUT_MS = 5000 };

struct kafka_reader {
    rd_kafka_t *handle;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue; /* all partitions' messages */
    rd_kafka_topic_partition_list_t *starts;
    int started;                 /* so many of them are being read */
    rd_kafka_message_t *message; /* handed out last */
};

static bool explain(char error[KAFKA_ERROR_BYTES], const char *topic, const char *why)
{
    snprintf(error, KAFKA_ERROR_BYTES, "kafka.enforcement_topic: %s %s", topic, why);
    return false;
}

static rd_kafka_topic_partition_list_t *list_partitions(struct kafka_admin *admin, const char *name,
                                                        char error[KAFKA_ERROR_BYTES])
{
    struct kafka_topic topic = {.name = name};
    if (!kafka_admin_describe(admin, &topic, 1, error))
        return NULL;
    if (!topic.exists) {
        explain(error, name, "is not there");
        return NULL;
    }
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(topic.partition_count);
    for (int32_t i = 0; i < topic.partition_count; i++)
        rd_kafka_topic_partition_list_add(list, name, i);
    return list;
}

/* The partition's end is asked for, so that what comes while we start is not missed. */
static bool find_ends(struct kafka_admin *admin, rd_kafka_topic_partition_list_t *starts, bool only_missing,
                      char error[KAFKA_ERROR_BYTES])
{
    for (int i = 0; i < starts->cnt; i++) {
        rd_kafka_topic_partition_t *start = &starts->elems[i];
        int64_t low_offset, end_offset;
        if (only_missing && start->offset >= 0)
            continue;
        if (!kafka_admin_watermarks(admin, start->topic, start->partition, &low_offset, &end_offset, error))
            return false;
        start->offset = end_offset;
    }
    return true;
}

static bool find_starts(struct kafka_admin *admin, rd_kafka_topic_partition_list_t *starts, int64_t since_us,
                        char error[KAFKA_ERROR_BYTES])
{
    if (since_us == INT64_MAX)
        return find_ends(admin, starts, false, error);
    for (int i = 0; i < starts->cnt; i++)
        starts->elems[i].offset = since_us == INT64_MIN ? RD_KAFKA_OFFSET_BEGINNING : since_us / 1000;
    if (since_us == INT64_MIN)
        return true;
    return kafka_admin_offsets_for_times(admin, starts, error) && find_ends(admin, starts, true, error);
}

static bool ask_starts(struct kafka_reader *reader, const struct kafka_options *options, int64_t since_us,
                       char error[KAFKA_ERROR_BYTES])
{
    struct kafka_admin *admin = kafka_admin_open(options, TIMEOUT_MS, error);
    if (!admin)
        return false;
    reader->starts = list_partitions(admin, options->enforcement_topic, error);
    bool found = reader->starts && find_starts(admin, reader->starts, since_us, error);
    kafka_admin_close(admin);
    return found;
}

static bool start_reading(struct kafka_reader *reader, const char *topic, char error[KAFKA_ERROR_BYTES])
{
    for (; reader->started < reader->starts->cnt; reader->started++) {
        const rd_kafka_topic_partition_t *start = &reader->starts->elems[reader->started];
        if (rd_kafka_consume_start_queue(reader->topic, start->partition, start->offset, reader->queue) != 0)
            return explain(error, topic, rd_kafka_err2str(rd_kafka_last_error()));
    }
    return true;
}

/* A compacted partition's start moves: where the place that we were at is gone, reading goes on at its start.
 */
static bool open_topic(struct kafka_reader *reader, const char *name, char error[KAFKA_ERROR_BYTES])
{
    rd_kafka_topic_conf_t *conf = rd_kafka_topic_conf_new();
    if (rd_kafka_topic_conf_set(conf, "auto.offset.reset", "earliest", error, KAFKA_ERROR_BYTES) !=
        RD_KAFKA_CONF_OK) {
        rd_kafka_topic_conf_destroy(conf);
        return false;
    }
    reader->topic = rd_kafka_topic_new(reader->handle, name, conf); /* takes conf, even if it fails */
    return reader->topic || explain(error, name, rd_kafka_err2str(rd_kafka_last_error()));
}

struct kafka_reader *kafka_reader_open(const struct kafka_options *options, int64_t since_us, int wake_fd,
                                       char error[KAFKA_ERROR_BYTES])
{
    static const uint64_t ring = 1;
    snprintf(error, KAFKA_ERROR_BYTES, "out of memory");
    struct kafka_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return NULL;
    bool ok = ask_starts(reader, options, since_us, error);
    if (ok)
        reader->handle = kafka_handle_new(options, KAFKA_READER, NULL, error);
    ok = ok && reader->handle && open_topic(reader, options->enforcement_topic, error);
    if (ok) {
        reader->queue = rd_kafka_queue_new(reader->handle);
        rd_kafka_queue_io_event_enable(reader->queue, wake_fd, &ring, sizeof ring);
        ok = start_reading(reader, options->enforcement_topic, error);
    }
    if (ok)
        return reader;
    kafka_reader_close(reader);
    return NULL;
}

void kafka_reader_close(struct kafka_reader *reader)
{
    if (!reader)
        return;
    if (reader->message)
        rd_kafka_message_destroy(reader->message);
    while (reader->started > 0)
        rd_kafka_consume_stop(reader->topic, reader->starts->elems[--reader->started].partition);
    if (reader->queue) {
        rd_kafka_queue_io_event_enable(reader->queue, -1, NULL, 0);
        rd_kafka_queue_destroy(reader->queue);
    }
    if (reader->topic)
        rd_kafka_topic_destroy(reader->topic);
    kafka_handle_free(reader->handle);
    if (reader->starts)
        rd_kafka_topic_partition_list_destroy(reader->starts);
    free(reader);
}

bool kafka_reader_next(struct kafka_reader *reader, struct kafka_read *read)
{
    do {
        if (reader->message)
            rd_kafka_message_destroy(reader->message);
        reader->message = rd_kafka_consume_queue(reader->queue, 0);
        if (!reader->message)
            return false;
    } while (reader->message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF);
    const rd_kafka_message_t *message = reader->message;
    *read = (struct kafka_read){.partition = message->partition, .offset = message->offset};
    if (message->err) {
        read->trouble = rd_kafka_message_errstr(message);
        return true;
    }
    rd_kafka_timestamp_type_t type;
    read->time_us = rd_kafka_message_timestamp(message, &type) * 1000;
    read->key = (struct text){message->key, (uint32_t)message->key_len};
    read->value = (struct text){message->payload, (uint32_t)message->len};
    return true;
}
