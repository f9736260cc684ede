#include "kafka_source.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "kafka_intake.h"
#include "kafka_probe.h"
#include "log.h"
#include "wake.h"
#include "system_clock.h"

enum {
    SETTLE_MS = 300,
    CLOSE_TIMEOUT_MS = 5000,
    COMMIT_EVERY_MS = 5000,
    COMMIT_AFTER_FAILURE_MS = 30000,
    ASSIGN_AGAIN_MS = 1000
};

struct kafka_source {
    struct kafka_options options;
    rd_kafka_t *member;
    rd_kafka_queue_t *group_queue; /* rebalances and errors; no records */
    struct kafka_intake *intake;
    struct kafka_probe *probe;
    int wake_fd;
    struct pollfd watched[1 + KAFKA_SOURCE_WATCHED]; /* ours first */
    nfds_t watched_count;
    bool assigned; /* between ASSIGNED and REVOKED: consume() is obeyed */
    bool held;
    bool committing; /* librdkafka has one under way */
    int64_t next_commit_ms;
    rd_kafka_topic_partition_list_t *waiting; /* to be assigned once the last assignment has settled */
    bool is_waiting;                          /* for waiting; NULL: nothing at all */
    bool stopping;                            /* the last assignment stopped partitions, perhaps still does */
    bool reading;                             /* it started some */
    int64_t assigned_ms;                      /* when it was made */
    int64_t assign_again_ms;                  /* after one that failed */
    struct source_position *assignment;       /* of ASSIGNED */
    char detail[KAFKA_ERROR_BYTES];
    char refused[KAFKA_ERROR_BYTES]; /* why the last consume() was; empty: it was not */
};

/* --- the group --- */

static bool topic_index(const struct kafka_source *source, const char *name, uint32_t *index)
{
    for (uint32_t i = 0; i < source->options.usage_topic_count; i++)
        if (strcmp(source->options.usage_topics[i], name) == 0) {
            *index = i;
            return true;
        }
    return false;
}

/* False: out of memory. */
static bool copy_assignment(struct kafka_source *source, const rd_kafka_topic_partition_list_t *list,
                            struct source_event *event)
{
    size_t room = (size_t)list->cnt + 1; /* realloc to nothing would look like a failure */
    struct source_position *assignment = realloc(source->assignment, room * sizeof(*assignment));
    if (!assignment) {
        snprintf(source->refused, sizeof(source->refused), "out of memory for an assignment");
        return false;
    }
    source->assignment = assignment;
    for (int i = 0; i < list->cnt; i++) {
        struct source_position *position = &assignment[event->assigned_count];
        position->partition = list->elems[i].partition;
        position->offset = -1;
        event->assigned_count += topic_index(source, list->elems[i].topic, &position->topic);
    }
    event->assigned = assignment;
    return true;
}

/* librdkafka aborts the process when partitions are taken away that it is still stopping after the assignment
 * before (its issue 5573). It starts new ones when it has stopped the old ones, so a record tells; else time.
 */
static bool is_settled(const struct kafka_source *source)
{
    int64_t now_ms = system_steady_ms();
    return now_ms >= source->assign_again_ms &&
           (!source->stopping || now_ms - source->assigned_ms >= SETTLE_MS);
}

/* False: it failed, and is to be tried again. */
static bool assign_now(struct kafka_source *source, const rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_resp_err_t error = rd_kafka_assign(source->member, list);
    if (error) {
        snprintf(source->refused, sizeof(source->refused), "partitions could not be assigned: %s",
                 rd_kafka_err2str(error));
        source->assign_again_ms = system_steady_ms() + ASSIGN_AGAIN_MS;
        return false;
    }
    source->stopping = source->reading;
    source->reading = list && list->cnt > 0;
    source->assigned_ms = system_steady_ms();
    return true;
}

static void forget_waiting(struct kafka_source *source)
{
    if (source->waiting)
        rd_kafka_topic_partition_list_destroy(source->waiting);
    source->waiting = NULL;
    source->is_waiting = false;
}

/* The group waits for rd_kafka_assign() after each rebalance. An empty one completes it: which partitions are
 * read from where is for the engine to say. Until the assignment before has settled this one waits, and
 * nothing is handed out: what is fetched by then is of the one before. One that fails waits too. */
static void assign(struct kafka_source *source, const rd_kafka_topic_partition_list_t *list)
{
    forget_waiting(source);
    if (is_settled(source) && assign_now(source, list))
        return;
    source->waiting = list ? rd_kafka_topic_partition_list_copy(list) : NULL;
    source->is_waiting = true;
}

static void assign_waiting(struct kafka_source *source)
{
    if (source->is_waiting && is_settled(source) && assign_now(source, source->waiting))
        forget_waiting(source);
}

static void on_assigned(struct kafka_source *source, const rd_kafka_topic_partition_list_t *list,
                        struct source_event *event)
{
    kafka_intake_begin(source->intake, NULL, 0);
    rd_kafka_topic_partition_list_t *nothing = rd_kafka_topic_partition_list_new(0);
    assign(source, nothing);
    source->assigned = copy_assignment(source, list, event);
    event->kind = source->assigned ? SOURCE_ASSIGNED : SOURCE_NOTHING;
    rd_kafka_topic_partition_list_destroy(nothing);
}

static void on_revoked(struct kafka_source *source, struct source_event *event)
{
    source->assigned = false;
    kafka_intake_begin(source->intake, NULL, 0);
    event->kind = SOURCE_REVOKED;
    event->lost = rd_kafka_assignment_lost(source->member);
}

static void on_rebalance(struct kafka_source *source, rd_kafka_event_t *rebalance, struct source_event *event)
{
    switch (rd_kafka_event_error(rebalance)) {
    case RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS:
        on_assigned(source, rd_kafka_event_topic_partition_list(rebalance), event);
        break;
    case RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS:
        on_revoked(source, event);
        break;
    default:
        on_revoked(source, event);
        event->lost = true;
        break;
    }
}

static void trouble(struct kafka_source *source, const char *what, const char *why,
                    struct source_event *event)
{
    snprintf(source->detail, sizeof(source->detail), "%s: %s", what, why);
    event->kind = SOURCE_TROUBLE;
    event->detail = source->detail;
}

static void on_error(struct kafka_source *source, rd_kafka_event_t *failure, struct source_event *event)
{
    if (rd_kafka_event_error_is_fatal(failure))
        trouble(source, "Kafka consumer failed for good, restart this process",
                rd_kafka_event_error_string(failure), event);
    else
        trouble(source, rd_kafka_err2name(rd_kafka_event_error(failure)),
                rd_kafka_event_error_string(failure), event);
}

static void on_committed(struct kafka_source *source, rd_kafka_event_t *result)
{
    source->committing = false;
    if (!rd_kafka_event_error(result))
        return;
    source->next_commit_ms = system_steady_ms() + COMMIT_AFTER_FAILURE_MS;
    log_debug("offsets not committed to Kafka", LOG_TEXT("detail", rd_kafka_event_error_string(result)));
}

/* What the group has to say. False: nothing. */
static bool group_event(struct kafka_source *source, struct source_event *event)
{
    while (event->kind == SOURCE_NOTHING) {
        rd_kafka_event_t *happened = rd_kafka_queue_poll(source->group_queue, 0);
        if (!happened)
            break;
        if (rd_kafka_event_type(happened) == RD_KAFKA_EVENT_REBALANCE)
            on_rebalance(source, happened, event);
        else if (rd_kafka_event_type(happened) == RD_KAFKA_EVENT_ERROR)
            on_error(source, happened, event);
        else if (rd_kafka_event_type(happened) == RD_KAFKA_EVENT_OFFSET_COMMIT)
            on_committed(source, happened);
        rd_kafka_event_destroy(happened);
    }
    return event->kind != SOURCE_NOTHING;
}

/* --- the interface --- */

static bool refused_event(struct kafka_source *source, struct source_event *event)
{
    if (!source->refused[0])
        return false;
    memcpy(source->detail, source->refused, sizeof(source->detail));
    source->refused[0] = '\0';
    event->kind = SOURCE_TROUBLE;
    event->detail = source->detail;
    return true;
}

static bool records_event(struct kafka_source *source, struct source_event *event)
{
    if (source->held || source->is_waiting || !kafka_intake_next(source->intake, event))
        return false;
    source->stopping = source->stopping && event->kind != SOURCE_RECORDS && event->kind != SOURCE_END;
    const struct source_position *low = kafka_intake_running_low(source->intake);
    if (low)
        kafka_probe_nudge(source->probe, source->member, low->topic, low->partition);
    return true;
}

static bool anything(struct kafka_source *source, struct source_event *event)
{
    *event = (struct source_event){.kind = SOURCE_NOTHING};
    assign_waiting(source);
    return group_event(source, event) || refused_event(source, event) ||
           kafka_probe_answer(source->probe, event) || records_event(source, event);
}

/* Sleeps until our bell rings. False: it is time to return, or somebody else has work. */
static bool await_bell(struct kafka_source *source, int64_t deadline_ms)
{
    int64_t left_ms = deadline_ms - system_steady_ms();
    int ready = poll(source->watched, source->watched_count, left_ms > 0 ? (int)left_ms : 0);
    if (ready <= 0 || !(source->watched[0].revents & POLLIN))
        return false;
    wake_hear(source->wake_fd);
    return true;
}

static void source_poll(void *self, int timeout_ms, struct source_event *event)
{
    struct kafka_source *source = self;
    int64_t deadline_ms = system_steady_ms() + timeout_ms;
    while (!anything(source, event))
        if (!await_bell(source, deadline_ms))
            return;
}

static uint64_t source_consume(void *self, const struct source_position *positions, size_t count)
{
    struct kafka_source *source = self;
    uint64_t generation = kafka_intake_begin(source->intake, positions, source->assigned ? count : 0);
    if (!source->assigned)
        return generation; /* a rebalance came in between: REVOKED has been polled, ASSIGNED follows */
    rd_kafka_topic_partition_list_t *list = kafka_intake_list(source->intake);
    assign(source, list);
    rd_kafka_topic_partition_list_destroy(list);
    return generation;
}

static void source_hold(void *self, bool held)
{
    struct kafka_source *source = self;
    source->held = held;
}

static void source_probe(void *self, uint32_t topic, int32_t partition, int64_t fingerprint_offset,
                         uint64_t question)
{
    struct kafka_source *source = self;
    if (!kafka_probe_ask(source->probe, topic, partition, fingerprint_offset, question))
        snprintf(source->refused, sizeof(source->refused), "out of memory for a probe");
}

static void source_release(void *self)
{
    struct kafka_source *source = self;
    source->assigned = false;
    kafka_intake_begin(source->intake, NULL, 0);
    assign(source, NULL);
}

static rd_kafka_topic_partition_list_t *positions_list(const struct kafka_source *source,
                                                       const struct source_position *positions, size_t count)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
    for (size_t i = 0; i < count; i++)
        rd_kafka_topic_partition_list_add(list, source->options.usage_topics[positions[i].topic],
                                          positions[i].partition)
            ->offset = positions[i].offset;
    return list;
}

/* librdkafka holds up rebalances and new assignments while a commit is under way, for as long as the group's
 * coordinator is away: so there is one at a time, and seldom. */
static void source_committed(void *self, const struct source_position *positions, size_t count)
{
    struct kafka_source *source = self;
    int64_t now_ms = system_steady_ms();
    if (count == 0 || !source->assigned || source->committing || now_ms < source->next_commit_ms)
        return;
    rd_kafka_topic_partition_list_t *list = positions_list(source, positions, count);
    source->committing = !rd_kafka_commit_queue(source->member, list, source->group_queue, NULL, NULL);
    source->next_commit_ms = now_ms + COMMIT_EVERY_MS;
    rd_kafka_topic_partition_list_destroy(list);
}

struct source kafka_source_interface(struct kafka_source *source)
{
    return (struct source){
        .poll = source_poll,
        .consume = source_consume,
        .hold = source_hold,
        .probe = source_probe,
        .release = source_release,
        .committed = source_committed,
        .self = source,
    };
}

void kafka_source_set_secret(struct kafka_source *source, const struct identity_secret *secret)
{
    kafka_probe_secret(source->probe, secret);
}

bool kafka_source_watch(struct kafka_source *source, int fd)
{
    if (source->watched_count > KAFKA_SOURCE_WATCHED)
        return false;
    source->watched[source->watched_count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    return true;
}

/* --- its life --- */

static bool subscribe(struct kafka_source *source, char error[KAFKA_ERROR_BYTES])
{
    rd_kafka_topic_partition_list_t *topics =
        rd_kafka_topic_partition_list_new((int)source->options.usage_topic_count);
    for (size_t i = 0; i < source->options.usage_topic_count; i++)
        rd_kafka_topic_partition_list_add(topics, source->options.usage_topics[i], RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t failure = rd_kafka_subscribe(source->member, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    if (failure)
        snprintf(error, KAFKA_ERROR_BYTES, "kafka.usage_topics: %s", rd_kafka_err2str(failure));
    return !failure;
}

static bool open_member(struct kafka_source *source, char error[KAFKA_ERROR_BYTES])
{
    static const uint64_t ring = 1;
    source->intake = kafka_intake_new(source->options.usage_topics, source->wake_fd);
    if (!source->intake)
        return false;
    struct kafka_listener listener = kafka_intake_listener(source->intake);
    source->member = kafka_handle_new(&source->options, KAFKA_MEMBER, &listener, error);
    if (!source->member)
        return false;
    kafka_intake_open(source->intake, source->member);
    rd_kafka_poll_set_consumer(source->member);
    source->group_queue = rd_kafka_queue_get_consumer(source->member);
    rd_kafka_queue_io_event_enable(source->group_queue, source->wake_fd, &ring, sizeof(ring));
    return true;
}

struct kafka_source *kafka_source_new(const struct kafka_options *options, char error[KAFKA_ERROR_BYTES])
{
    snprintf(error, KAFKA_ERROR_BYTES, "no memory or no file descriptor to be had");
    struct kafka_source *source = calloc(1, sizeof(*source));
    if (!source)
        return NULL;
    source->options = *options;
    source->wake_fd = wake_new();
    kafka_source_watch(source, source->wake_fd);
    if (source->wake_fd >= 0 && open_member(source, error))
        source->probe = kafka_probe_new(options, source->wake_fd, error);
    if (source->probe && subscribe(source, error))
        return source;
    kafka_source_free(source);
    return NULL;
}

/* Until the broker has heard that we leave. */
static void leave_group(struct kafka_source *source)
{
    int64_t deadline_ms = system_steady_ms() + CLOSE_TIMEOUT_MS;
    rd_kafka_queue_t *last_words = rd_kafka_queue_new(source->member);
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(source->member, last_words);
    if (error) {
        log_warning("consumer group not left", LOG_TEXT("detail", rd_kafka_error_string(error)));
        rd_kafka_error_destroy(error);
    }
    while (!error && !rd_kafka_consumer_closed(source->member) && system_steady_ms() < deadline_ms) {
        rd_kafka_event_t *happened = rd_kafka_queue_poll(last_words, 20);
        if (happened && rd_kafka_event_type(happened) == RD_KAFKA_EVENT_REBALANCE)
            rd_kafka_assign(source->member, NULL);
        rd_kafka_event_destroy(happened);
    }
    rd_kafka_queue_destroy(last_words);
}

static void close_member(struct kafka_source *source)
{
    if (!source->member)
        return;
    kafka_intake_close(source->intake);
    rd_kafka_queue_io_event_enable(source->group_queue, -1, NULL, 0);
    rd_kafka_queue_destroy(source->group_queue); /* must be given back before the close */
    forget_waiting(source);
    while (!is_settled(source))
        poll(NULL, 0, 10);
    leave_group(source);
    kafka_handle_free(source->member);
}

void kafka_source_free(struct kafka_source *source)
{
    if (!source)
        return;
    kafka_probe_free(source->probe);
    close_member(source);
    kafka_intake_free(source->intake);
    if (source->wake_fd >= 0)
        close(source->wake_fd);
    free(source->assignment);
    free(source);
}
