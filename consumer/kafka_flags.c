#include "kafka_flags.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "kafka_tail.h"
#include "log.h"
#include "wake.h"
#include "system_clock.h"

enum { FAILURE_PAUSE_MS = 500, PURGE_MS = 1000, SEQUENCE_BYTES = 48 };

struct failure {
    int64_t due_ms;
    int32_t lane;
    uint64_t cookie;
    rd_kafka_resp_err_t error;
};

/* A message under way, with librdkafka until it is reported. The times are those at which Kafka's answer came
 * in: the engine hears of it when its turn is over. */
struct sent {
    uint64_t cookie;
    int64_t acknowledged_at_us;
    int64_t acknowledged_steady_us;
};

/* Oldest first, from `first` on. */
struct failures {
    struct failure *items;
    size_t first;
    size_t count;
    size_t capacity;
};

struct kafka_flags {
    struct kafka_options options;
    rd_kafka_t *producer;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *reports;
    rd_kafka_event_t *report; /* whose messages are being handed out */
    bool retiring;            /* the producer failed for good: a new one once all its messages are reported */
    struct failures failures;
    struct kafka_tail *tail;
    int wake_fd;
    char detail[KAFKA_ERROR_BYTES];
};

/* --- failures, held back for a while --- */

/* False: out of memory. */
static bool failures_push(struct failures *failures, struct failure failure)
{
    if (failures->first == failures->count)
        failures->first = failures->count = 0;
    if (failures->count == failures->capacity) {
        size_t capacity = failures->capacity ? 2 * failures->capacity : 64;
        struct failure *grown = realloc(failures->items, capacity * sizeof(*grown));
        if (!grown)
            return false;
        failures->items = grown;
        failures->capacity = capacity;
    }
    failures->items[failures->count++] = failure;
    return true;
}

static void hand_out_failure(struct kafka_flags *flags, const struct failure *failure,
                             struct flag_event *event)
{
    snprintf(flags->detail, sizeof(flags->detail), "%s partition %d: %s", flags->options.enforcement_topic,
             (int)failure->lane, rd_kafka_err2str(failure->error));
    *event = (struct flag_event){
        .kind = FLAG_FAILED, .lane = failure->lane, .cookie = failure->cookie, .detail = flags->detail};
}

static bool failure_event(struct kafka_flags *flags, struct flag_event *event)
{
    struct failures *failures = &flags->failures;
    if (failures->first == failures->count || system_steady_ms() < failures->items[failures->first].due_ms)
        return false;
    hand_out_failure(flags, &failures->items[failures->first++], event);
    return true;
}

/* Where there is no memory to hold it back, the failure is handed out at once. */
static void fail(struct kafka_flags *flags, int32_t lane, uint64_t cookie, rd_kafka_resp_err_t error,
                 struct flag_event *event)
{
    struct failure failure = {system_steady_ms() + FAILURE_PAUSE_MS, lane, cookie, error};
    if (!failures_push(&flags->failures, failure))
        hand_out_failure(flags, &failure, event);
}

/* --- the producer --- */

/* On librdkafka's thread. */
static rd_kafka_resp_err_t stamp(rd_kafka_t *producer, rd_kafka_message_t *message, void *self)
{
    struct sent *sent = message->_private;
    (void)producer, (void)self;
    sent->acknowledged_at_us = system_wall_us();
    sent->acknowledged_steady_us = system_steady_us();
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool open_producer(struct kafka_flags *flags, char error[KAFKA_ERROR_BYTES])
{
    static const uint64_t ring = 1;
    static const struct kafka_listener listener = {.on_acknowledgement = stamp};
    flags->producer = kafka_handle_new(&flags->options, KAFKA_FLAGGER, &listener, error);
    if (!flags->producer)
        return false;
    flags->topic = rd_kafka_topic_new(flags->producer, flags->options.enforcement_topic, NULL);
    if (!flags->topic) {
        snprintf(error, KAFKA_ERROR_BYTES, "kafka.enforcement_topic: %s",
                 rd_kafka_err2str(rd_kafka_last_error()));
        return false;
    }
    flags->reports = rd_kafka_queue_get_main(flags->producer);
    rd_kafka_queue_io_event_enable(flags->reports, flags->wake_fd, &ring, sizeof(ring));
    return true;
}

/* Unheard, what is left of it. */
static void drop_report(struct kafka_flags *flags)
{
    const rd_kafka_message_t *message;
    while (flags->report && (message = rd_kafka_event_message_next(flags->report)))
        free(message->_private);
    rd_kafka_event_destroy(flags->report);
    flags->report = NULL;
}

static void close_producer(struct kafka_flags *flags)
{
    drop_report(flags);
    if (flags->reports) {
        rd_kafka_queue_io_event_enable(flags->reports, -1, NULL, 0);
        rd_kafka_queue_destroy(flags->reports);
    }
    if (flags->topic)
        rd_kafka_topic_destroy(flags->topic);
    kafka_handle_free(flags->producer);
    flags->reports = NULL;
    flags->topic = NULL;
    flags->producer = NULL;
}

/* An idempotent producer that cannot tell any more what the broker has refuses all further work. What it had
 * under way is reported as failed and published again under a higher sequence, so a message that did arrive
 * harms nobody. */
static void retire_producer(struct kafka_flags *flags, struct flag_event *event)
{
    char reason[KAFKA_ERROR_BYTES / 2];
    rd_kafka_fatal_error(flags->producer, reason, sizeof(reason));
    snprintf(flags->detail, sizeof(flags->detail), "producer of flags is replaced: %s", reason);
    *event = (struct flag_event){.kind = FLAG_TROUBLE, .detail = flags->detail};
    flags->retiring = true;
    rd_kafka_purge(flags->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
}

/* The configuration was good for the producer before; without one, the next turn tries again. */
static void replace_producer(struct kafka_flags *flags)
{
    if (flags->producer && rd_kafka_outq_len(flags->producer) > 0)
        return;
    char error[KAFKA_ERROR_BYTES];
    close_producer(flags);
    if (open_producer(flags, error)) {
        flags->retiring = false;
    } else {
        log_error("producer of flags", LOG_TEXT("detail", error));
        close_producer(flags);
    }
}

static void on_report(struct kafka_flags *flags, const rd_kafka_message_t *message, struct flag_event *event)
{
    struct sent *sent = message->_private;
    if (message->err)
        fail(flags, message->partition, sent->cookie, message->err, event);
    else
        *event = (struct flag_event){.kind = FLAG_ACKNOWLEDGED,
                                     .lane = message->partition,
                                     .cookie = sent->cookie,
                                     .acknowledged_at_us = sent->acknowledged_at_us,
                                     .acknowledged_steady_us = sent->acknowledged_steady_us};
    free(sent);
}

static void on_error(struct kafka_flags *flags, rd_kafka_event_t *failure, struct flag_event *event)
{
    if (rd_kafka_event_error_is_fatal(failure)) {
        if (!flags->retiring)
            retire_producer(flags, event);
        return;
    }
    snprintf(flags->detail, sizeof(flags->detail), "%s: %s", rd_kafka_err2name(rd_kafka_event_error(failure)),
             rd_kafka_event_error_string(failure));
    *event = (struct flag_event){.kind = FLAG_TROUBLE, .detail = flags->detail};
}

/* One message of the report at hand, or the next report. False: there is none. */
static bool report_step(struct kafka_flags *flags, struct flag_event *event)
{
    if (!flags->report && flags->reports)
        flags->report = rd_kafka_queue_poll(flags->reports, 0);
    if (!flags->report)
        return false;
    if (rd_kafka_event_type(flags->report) == RD_KAFKA_EVENT_ERROR)
        on_error(flags, flags->report, event);
    const rd_kafka_message_t *message = rd_kafka_event_message_next(flags->report);
    if (message) {
        on_report(flags, message, event);
    } else {
        rd_kafka_event_destroy(flags->report);
        flags->report = NULL;
    }
    return true;
}

static bool report_event(struct kafka_flags *flags, struct flag_event *event)
{
    while (event->kind == FLAG_NOTHING)
        if (!report_step(flags, event))
            return false;
    return true;
}

/* --- the interface --- */

/* The bell is heard only when nothing is left, and all is looked through once more then: no ring is lost, and
 * a turn with work costs no system call. */
static void flags_poll(void *self, struct flag_event *event)
{
    struct kafka_flags *flags = self;
    *event = (struct flag_event){.kind = FLAG_NOTHING};
    if (flags->retiring && !flags->report)
        replace_producer(flags);
    for (int turn = 0; turn < 2; turn++) {
        if (failure_event(flags, event) || report_event(flags, event) || kafka_tail_next(flags->tail, event))
            return;
        wake_hear(flags->wake_fd);
    }
}

static rd_kafka_resp_err_t produce(struct kafka_flags *flags, int32_t lane, struct text key,
                                   struct text value, struct text sequence, struct sent *sent)
{
    return rd_kafka_producev(flags->producer, RD_KAFKA_V_RKT(flags->topic), RD_KAFKA_V_PARTITION(lane),
                             RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(key.bytes, key.length),
                             RD_KAFKA_V_VALUE((void *)value.bytes, value.length),
                             RD_KAFKA_V_HEADER("sequence", sequence.bytes, (ssize_t)sequence.length),
                             RD_KAFKA_V_OPAQUE(sent), RD_KAFKA_V_END);
}

static bool flags_publish(void *self, int32_t lane, struct text key, struct text value,
                          struct flag_sequence sequence, uint64_t cookie)
{
    struct kafka_flags *flags = self;
    struct sent *sent = flags->retiring ? NULL : calloc(1, sizeof(*sent));
    if (!sent)
        return false;
    sent->cookie = cookie;
    char header[SEQUENCE_BYTES];
    snprintf(header, sizeof(header), "[%" PRId64 ",%" PRId64 "]", sequence.epoch, sequence.count);
    rd_kafka_resp_err_t error = produce(flags, lane, key, value, text_of(header), sent);
    if (error)
        free(sent);
    if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL) // NOLINT(clang-analyzer-unix.Malloc): it hands sent back
        return false;
    struct failure failure = {system_steady_ms() + FAILURE_PAUSE_MS, lane, cookie, error};
    return !error || failures_push(&flags->failures, failure);
}

static void flags_tail(void *self, int32_t lane)
{
    struct kafka_flags *flags = self;
    kafka_tail_begin(flags->tail, lane);
}

static void flags_untail(void *self, int32_t lane)
{
    struct kafka_flags *flags = self;
    kafka_tail_end(flags->tail, lane);
}

struct flag_sink kafka_flags_interface(struct kafka_flags *flags)
{
    return (struct flag_sink){.publish = flags_publish,
                              .poll = flags_poll,
                              .tail = flags_tail,
                              .untail = flags_untail,
                              .self = flags};
}

int kafka_flags_wake_fd(const struct kafka_flags *flags)
{
    return flags->wake_fd;
}

struct kafka_flags *kafka_flags_new(const struct kafka_options *options, char error[KAFKA_ERROR_BYTES])
{
    snprintf(error, KAFKA_ERROR_BYTES, "no memory or no file descriptor to be had");
    struct kafka_flags *flags = calloc(1, sizeof(*flags));
    if (!flags)
        return NULL;
    flags->options = *options;
    flags->wake_fd = wake_new();
    if (flags->wake_fd >= 0 && open_producer(flags, error))
        flags->tail = kafka_tail_new(options, flags->wake_fd, error);
    if (flags->tail)
        return flags;
    kafka_flags_free(flags, 0);
    return NULL;
}

/* rd_kafka_flush() leaves reports that come as events to us, and counts them as messages under way. */
static void flush(struct kafka_flags *flags, int wait_ms)
{
    int64_t deadline_us = system_steady_us() + (int64_t)wait_ms * 1000;
    while (rd_kafka_outq_len(flags->producer) > 0 && system_steady_us() < deadline_us) {
        drop_report(flags);
        flags->report = rd_kafka_queue_poll(flags->reports, 10);
    }
}

void kafka_flags_free(struct kafka_flags *flags, int wait_ms)
{
    if (!flags)
        return;
    kafka_tail_free(flags->tail);
    if (flags->reports) {
        flush(flags, wait_ms);
        rd_kafka_purge(flags->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        flush(flags, PURGE_MS);
    }
    close_producer(flags);
    if (flags->wake_fd >= 0)
        close(flags->wake_fd);
    free(flags->failures.items);
    free(flags);
}
