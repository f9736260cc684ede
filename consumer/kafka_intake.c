#include "kafka_intake.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "arena.h"

/* BATCH: half a millisecond's work, for between two batches flags are sent and heard of. BACKLOG: a shorter
 * queue was hardly full. */
enum { BATCH_MESSAGES = 250, BACKLOG_MESSAGES = 2000, HEADER_CHUNK_BYTES = 64 * 1024 };

struct intake_partition {
    struct source_position position; /* offset: the least that may come next */
    rd_kafka_queue_t *queue;
    size_t peak; /* length of its queue at most, since it ran low last */
    bool broken; /* nothing behind the error may be read: librdkafka might have skipped something */
};

struct kafka_intake {
    rd_kafka_t *handle;
    const char *const *topics;
    int wake_fd;
    uint64_t generation;
    struct intake_partition *partitions;
    size_t partition_count;
    size_t partition_capacity;
    size_t turn;                                  /* whose queue is looked at first */
    rd_kafka_message_t *messages[BATCH_MESSAGES]; /* of one partition: the one at `reading` */
    size_t message_count;
    size_t message_next; /* the first that is not handed out yet */
    size_t reading;
    bool ran_low; /* the queue at `reading`, with this batch */
    struct record records[BATCH_MESSAGES];
    struct record_keeper keeper; /* of the records' headers */
    struct arena headers;
    char gone[KAFKA_ERROR_BYTES / 2]; /* what on_error() was told while a queue was read; empty: nothing */
    char detail[KAFKA_ERROR_BYTES];
};

static bool read_headers(void *self, const struct record *record, struct record_headers *headers)
{
    struct kafka_intake *intake = self;
    rd_kafka_headers_t *found;
    *headers = (struct record_headers){NULL, 0};
    if (rd_kafka_message_headers(record->kept, &found) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return true; /* it has none */
    size_t count = rd_kafka_header_cnt(found);
    struct record_header *list = arena_alloc(&intake->headers, count * sizeof(*list));
    if (!list)
        return false;
    for (size_t i = 0; i < count; i++) {
        const char *name;
        const void *value;
        size_t length;
        rd_kafka_header_get_all(found, i, &name, &value, &length);
        list[i] = (struct record_header){text_of(name), {value, (uint32_t)length}};
    }
    *headers = (struct record_headers){list, count};
    return true;
}

/* librdkafka makes a buffer for each message that it is asked about, only to find most times that there are
 * no headers. Their number stands right behind the value, which librdkafka leaves where it came: what is no
 * zero is a sign of headers. Formats that have none may end with the value, so nothing is read of a page that
 * it does not reach into. */
static __attribute__((no_sanitize_address)) bool seems_bare(const struct record *record)
{
    enum { PAGE_BYTES = 4096 };
    const char *end = record->value.bytes + record->value.length;
    return record->value.length > 0 && (uintptr_t)end % PAGE_BYTES != 0 && *end == 0;
}

struct kafka_intake *kafka_intake_new(const char *const *topics, int wake_fd)
{
    struct kafka_intake *intake = calloc(1, sizeof(*intake));
    if (!intake)
        return NULL;
    intake->topics = topics;
    intake->wake_fd = wake_fd;
    intake->keeper = (struct record_keeper){read_headers, seems_bare, intake};
    arena_init(&intake->headers, HEADER_CHUNK_BYTES);
    return intake;
}

void kafka_intake_open(struct kafka_intake *intake, rd_kafka_t *handle)
{
    intake->handle = handle;
}

/* Errors that concern no partition come as events of the group's queue instead. */
static void on_error(rd_kafka_t *handle, int error, const char *reason, void *self)
{
    struct kafka_intake *intake = self;
    (void)handle;
    snprintf(intake->gone, sizeof(intake->gone), "%s (%s)", reason,
             rd_kafka_err2name((rd_kafka_resp_err_t)error));
}

struct kafka_listener kafka_intake_listener(struct kafka_intake *intake)
{
    return (struct kafka_listener){.on_error = on_error, .self = intake};
}

static void drop_messages(struct kafka_intake *intake)
{
    for (size_t i = 0; i < intake->message_count; i++)
        rd_kafka_message_destroy(intake->messages[i]);
    intake->message_count = intake->message_next = 0;
    arena_reset(&intake->headers);
}

static void close_queues(struct kafka_intake *intake)
{
    for (size_t i = 0; i < intake->partition_count; i++) {
        rd_kafka_queue_t *queue = intake->partitions[i].queue;
        if (!queue)
            continue;
        rd_kafka_queue_io_event_enable(queue, -1, NULL, 0);
        rd_kafka_queue_destroy(queue);
    }
    intake->partition_count = 0;
}

void kafka_intake_close(struct kafka_intake *intake)
{
    drop_messages(intake);
    close_queues(intake);
}

void kafka_intake_free(struct kafka_intake *intake)
{
    if (!intake)
        return;
    kafka_intake_close(intake);
    free(intake->partitions);
    arena_free(&intake->headers);
    free(intake);
}

/* Taken anew each time: librdkafka forgets a partition whose topic went and came back, and its queue with it.
 */
static rd_kafka_queue_t *open_queue(const struct kafka_intake *intake, const struct source_position *position)
{
    static const uint64_t ring = 1;
    rd_kafka_queue_t *queue =
        rd_kafka_queue_get_partition(intake->handle, intake->topics[position->topic], position->partition);
    if (!queue)
        return NULL;
    rd_kafka_queue_forward(queue, NULL);
    rd_kafka_queue_io_event_enable(queue, intake->wake_fd, &ring, sizeof(ring));
    return queue;
}

/* Grows only, so that a rewind takes no memory. */
static bool reserve(struct kafka_intake *intake, size_t count)
{
    if (count <= intake->partition_capacity)
        return true;
    struct intake_partition *grown = realloc(intake->partitions, count * sizeof(*grown));
    if (!grown)
        return false;
    intake->partitions = grown;
    intake->partition_capacity = count;
    return true;
}

uint64_t kafka_intake_begin(struct kafka_intake *intake, const struct source_position *positions,
                            size_t count)
{
    close_queues(intake);
    intake->message_next = intake->message_count;
    intake->ran_low = false;
    intake->turn = 0;
    intake->partition_count = reserve(intake, count) ? count : 0;
    for (size_t i = 0; i < intake->partition_count; i++)
        intake->partitions[i] =
            (struct intake_partition){.position = positions[i], .queue = open_queue(intake, &positions[i])};
    return ++intake->generation;
}

rd_kafka_topic_partition_list_t *kafka_intake_list(const struct kafka_intake *intake)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)intake->partition_count);
    for (size_t i = 0; i < intake->partition_count; i++) {
        const struct source_position *position = &intake->partitions[i].position;
        rd_kafka_topic_partition_list_add(list, intake->topics[position->topic], position->partition)
            ->offset = position->offset;
    }
    return list;
}

/* Producers may write any 64 bits as a record's time: what is beyond the calendar (the year 294247, in us) is
 * none. */
static int64_t time_of(const rd_kafka_message_t *message)
{
    rd_kafka_timestamp_type_t type;
    int64_t time_ms = rd_kafka_message_timestamp(message, &type);
    bool is_time =
        type != RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && time_ms >= 0 && time_ms <= RECORD_TIME_LIMIT_MS;
    return is_time ? time_ms : -1;
}

struct record kafka_record(uint32_t topic, const rd_kafka_message_t *message)
{
    return (struct record){
        .topic = topic,
        .partition = message->partition,
        .offset = message->offset,
        .time_ms = time_of(message),
        .key = {message->key, (uint32_t)message->key_len},
        .value = {message->payload, (uint32_t)message->len},
    };
}

/* What librdkafka may have stepped over, or can't get past. An answer of the broker's (positive) leaves the
 * offset where it is and is asked again; errors of its own (negative) need not. */
static bool is_breaking(rd_kafka_resp_err_t error)
{
    switch (error) {
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        return true;
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
    case RD_KAFKA_RESP_ERR__RESOLVE:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR__SSL:
        return false;
    default:
        return error < 0;
    }
}

/* An event about the partition that is being read. */
static void start_event(const struct kafka_intake *intake, enum source_event_kind kind,
                        struct source_event *event)
{
    const struct intake_partition *partition = &intake->partitions[intake->reading];
    *event = (struct source_event){
        .kind = kind,
        .topic = partition->position.topic,
        .partition = partition->position.partition,
        .generation = intake->generation,
        .detail = intake->detail,
    };
}

static void hand_out_broken(struct kafka_intake *intake, const char *problem, struct source_event *event)
{
    struct intake_partition *partition = &intake->partitions[intake->reading];
    snprintf(intake->detail, sizeof(intake->detail), "partition %d at offset %" PRId64 ": %s",
             (int)partition->position.partition, partition->position.offset, problem);
    partition->broken = true;
    intake->message_next = intake->message_count;
    start_event(intake, SOURCE_BROKEN, event);
}

static void hand_out_trouble(struct kafka_intake *intake, const char *problem, struct source_event *event)
{
    const struct source_position *position = &intake->partitions[intake->reading].position;
    snprintf(intake->detail, sizeof(intake->detail), "%s partition %d: %s", intake->topics[position->topic],
             (int)position->partition, problem);
    start_event(intake, SOURCE_TROUBLE, event);
}

static void hand_out_error(struct kafka_intake *intake, struct source_event *event)
{
    const rd_kafka_message_t *message = intake->messages[intake->message_next++];
    if (is_breaking(message->err)) {
        hand_out_broken(intake, rd_kafka_message_errstr(message), event);
    } else if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        start_event(intake, SOURCE_END, event);
        event->offset = message->offset;
    } else {
        hand_out_trouble(intake, rd_kafka_message_errstr(message), event);
    }
}

/* Records up to the next error or the batch's end. A record below the position was handed out before:
 * librdkafka may deliver a whole fetch again after it lost its leader. */
static void hand_out_records(struct kafka_intake *intake, struct source_event *event)
{
    struct source_position *position = &intake->partitions[intake->reading].position;
    size_t count = 0;
    for (; intake->message_next < intake->message_count; intake->message_next++) {
        const rd_kafka_message_t *message = intake->messages[intake->message_next];
        if (message->err)
            break;
        if (message->offset < position->offset)
            continue;
        struct record *record = &intake->records[count++];
        *record = kafka_record(position->topic, message);
        record->keeper = &intake->keeper;
        record->kept = message;
        position->offset = message->offset + 1;
    }
    start_event(intake, count ? SOURCE_RECORDS : SOURCE_NOTHING, event);
    event->records = intake->records;
    event->record_count = count;
}

static void note_length(struct kafka_intake *intake, struct intake_partition *partition)
{
    size_t left = rd_kafka_queue_length(partition->queue);
    size_t before = left + intake->message_count;
    if (partition->peak < before)
        partition->peak = before;
    intake->ran_low = partition->peak >= BACKLOG_MESSAGES && left < partition->peak / 2;
    if (intake->ran_low)
        partition->peak = left;
}

const struct source_position *kafka_intake_running_low(struct kafka_intake *intake)
{
    if (!intake->ran_low)
        return NULL;
    intake->ran_low = false;
    return &intake->partitions[intake->reading].position;
}

/* One batch of the partition whose turn is `at`. False: its queue is empty. */
static bool fetch_partition(struct kafka_intake *intake, size_t at)
{
    struct intake_partition *partition = &intake->partitions[at];
    if (partition->broken)
        return false;
    intake->reading = at;
    intake->gone[0] = '\0';
    if (!partition->queue) {
        snprintf(intake->gone, sizeof(intake->gone), "out of memory");
        return true;
    }
    ssize_t count = rd_kafka_consume_batch_queue(partition->queue, 0, intake->messages, BATCH_MESSAGES);
    intake->message_count = count > 0 ? (size_t)count : 0;
    if (count > 0)
        note_length(intake, partition);
    return count > 0 || intake->gone[0];
}

/* False: every queue is empty. */
static bool fetch(struct kafka_intake *intake)
{
    for (size_t i = 0; i < intake->partition_count; i++) {
        size_t at = (intake->turn + i) % intake->partition_count;
        if (fetch_partition(intake, at)) {
            intake->turn = at + 1;
            return true;
        }
    }
    return false;
}

bool kafka_intake_next(struct kafka_intake *intake, struct source_event *event)
{
    do {
        if (intake->message_next == intake->message_count) {
            drop_messages(intake);
            if (!fetch(intake))
                return false;
        }
        if (intake->gone[0])
            hand_out_broken(intake, intake->gone, event);
        else if (intake->messages[intake->message_next]->err)
            hand_out_error(intake, event);
        else
            hand_out_records(intake, event);
    } while (event->kind == SOURCE_NOTHING);
    return true;
}
