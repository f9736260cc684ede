#include "kafka_probe.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kafka_intake.h"
#include "wake.h"
#include "system_clock.h"

/* Short, so that the thread ends soon when it is told to. */
enum {
    ASK_TIMEOUT_MS = 3000,
    NUDGE_TIMEOUT_MS = 100,
    FETCH_TIMEOUT_MS = 10000,
    FETCH_POLL_MS = 100,
    FETCHER_IDLE_S = 1
};

/* A question and, later, its answer. */
struct question {
    struct question *next;
    uint32_t topic;
    int32_t partition;
    int64_t fingerprint_offset;
    rd_kafka_t *nudged; /* NULL unless it is no question but a nudge */
    struct source_probe answer;
    bool failed;
    char detail[KAFKA_ERROR_BYTES];
};

struct question_list {
    struct question *first;
    struct question **end;
};

struct kafka_probe {
    struct kafka_options options;
    int wake_fd;
    rd_kafka_t *reader;  /* reads no partition: metadata and watermarks */
    rd_kafka_t *fetcher; /* the thread's alone; NULL unless records were asked for lately */
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t asked_or_stopping;
    struct question_list asked;
    struct question_list answered;
    bool stopping;
    bool has_secret;
    struct identity_secret secret;
    struct question *handed_out; /* the asking thread's alone: it holds `detail` */
};

static void list_init(struct question_list *list)
{
    *list = (struct question_list){NULL, &list->first};
}

static void list_push(struct question_list *list, struct question *question)
{
    question->next = NULL;
    *list->end = question;
    list->end = &question->next;
}

static struct question *list_pop(struct question_list *list)
{
    struct question *question = list->first;
    if (question) {
        list->first = question->next;
        if (!list->first)
            list->end = &list->first;
    }
    return question;
}

static void list_free(struct question_list *list)
{
    for (struct question *question; (question = list_pop(list));)
        free(question);
}

static bool is_stopping(struct kafka_probe *probe)
{
    pthread_mutex_lock(&probe->lock);
    bool stopping = probe->stopping;
    pthread_mutex_unlock(&probe->lock);
    return stopping;
}

static bool get_secret(struct kafka_probe *probe, struct identity_secret *secret)
{
    pthread_mutex_lock(&probe->lock);
    bool has = probe->has_secret;
    *secret = probe->secret;
    pthread_mutex_unlock(&probe->lock);
    return has;
}

static void fail(struct kafka_probe *probe, struct question *question, const char *what, const char *why)
{
    question->failed = true;
    snprintf(question->detail, sizeof(question->detail), "%s partition %d: %s: %s",
             probe->options.usage_topics[question->topic], (int)question->partition, what, why);
}

/* False: it failed, as with all that follow. */
static bool ask_partition_count(struct kafka_probe *probe, struct question *question, rd_kafka_topic_t *topic)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t error = rd_kafka_metadata(probe->reader, 0, topic, &metadata, ASK_TIMEOUT_MS);
    if (error) {
        fail(probe, question, "its topic's metadata could not be read", rd_kafka_err2str(error));
        return false;
    }
    error = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (error)
        fail(probe, question, "its topic's metadata could not be read", rd_kafka_err2str(error));
    else
        question->answer.partition_count = metadata->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(metadata);
    return !question->failed;
}

static bool ask_watermarks(struct kafka_probe *probe, struct question *question)
{
    rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(
        probe->reader, probe->options.usage_topics[question->topic], question->partition,
        &question->answer.low_offset, &question->answer.high_offset, ASK_TIMEOUT_MS);
    if (error)
        fail(probe, question, "its watermarks could not be read", rd_kafka_err2str(error));
    return !error;
}

/* What the log holds at or behind the offset says whether the record is there. False: nothing is known yet.
 */
static bool judge(struct kafka_probe *probe, struct question *question, const struct identity_secret *secret,
                  const rd_kafka_message_t *message)
{
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF ||
        message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
        return true; /* not there */
    if (message->err) {
        fail(probe, question, "the record could not be read", rd_kafka_message_errstr(message));
        return true;
    }
    if (message->offset < question->fingerprint_offset)
        return false;
    if (message->offset == question->fingerprint_offset) {
        struct record record = kafka_record(question->topic, message);
        question->answer.found = true;
        question->answer.fingerprint = identity_fingerprint(secret, &record);
    }
    return true;
}

static void await_record(struct kafka_probe *probe, struct question *question,
                         const struct identity_secret *secret, rd_kafka_queue_t *queue)
{
    int64_t deadline_us = system_steady_us() + (int64_t)FETCH_TIMEOUT_MS * 1000;
    bool known = false;
    while (!known && !is_stopping(probe)) {
        rd_kafka_message_t *message;
        if (rd_kafka_consume_batch_queue(queue, FETCH_POLL_MS, &message, 1) == 1) {
            known = judge(probe, question, secret, message);
            rd_kafka_message_destroy(message);
        } else if (system_steady_us() > deadline_us) {
            fail(probe, question, "the record could not be read", "no answer in time");
            known = true;
        }
    }
}

static void read_record(struct kafka_probe *probe, struct question *question,
                        const struct identity_secret *secret, rd_kafka_topic_t *topic)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_new(probe->fetcher);
    if (rd_kafka_consume_start_queue(topic, question->partition, question->fingerprint_offset, queue) == 0) {
        await_record(probe, question, secret, queue);
        rd_kafka_consume_stop(topic, question->partition);
    } else {
        fail(probe, question, "the record could not be read", rd_kafka_err2str(rd_kafka_last_error()));
    }
    rd_kafka_queue_destroy(queue);
}

static void fetch_record(struct kafka_probe *probe, struct question *question,
                         const struct identity_secret *secret)
{
    char error[KAFKA_ERROR_BYTES] = "";
    if (!probe->fetcher)
        probe->fetcher = kafka_handle_new(&probe->options, KAFKA_READER, NULL, error);
    if (!probe->fetcher) {
        fail(probe, question, "the record could not be read", error);
        return;
    }
    rd_kafka_topic_t *topic =
        rd_kafka_topic_new(probe->fetcher, probe->options.usage_topics[question->topic], NULL);
    if (topic)
        read_record(probe, question, secret, topic);
    else
        fail(probe, question, "the record could not be read", rd_kafka_err2str(rd_kafka_last_error()));
    if (topic)
        rd_kafka_topic_destroy(topic);
}

/* librdkafka never lets go of a partition that it read from and whose topic was then deleted and made again:
 * rd_kafka_destroy() would wait for ever. So what reads does not live long. */
static void drop_fetcher(struct kafka_probe *probe)
{
    kafka_handle_free(probe->fetcher);
    probe->fetcher = NULL;
}

static void ask_fingerprint(struct kafka_probe *probe, struct question *question)
{
    struct identity_secret secret;
    int64_t offset = question->fingerprint_offset;
    if (offset < question->answer.low_offset || offset >= question->answer.high_offset)
        return; /* -1: not wanted */
    if (get_secret(probe, &secret))
        fetch_record(probe, question, &secret);
    else
        fail(probe, question, "the record could not be compared", "the database's secret is not known yet");
}

static void ask_brokers(struct kafka_probe *probe, struct question *question)
{
    rd_kafka_topic_t *topic =
        rd_kafka_topic_new(probe->reader, probe->options.usage_topics[question->topic], NULL);
    if (!topic) {
        fail(probe, question, "it could not be asked about", rd_kafka_err2str(rd_kafka_last_error()));
        return;
    }
    question->answer.asked_at_us = system_wall_us();
    if (ask_partition_count(probe, question, topic) && ask_watermarks(probe, question))
        ask_fingerprint(probe, question);
    rd_kafka_topic_destroy(topic);
}

/* Waits until there is a question, it is time to stop, or nothing was asked for a while. */
static struct question *await_question(struct kafka_probe *probe, bool *stopping)
{
    struct timespec while_ends;
    clock_gettime(CLOCK_REALTIME, &while_ends);
    while_ends.tv_sec += FETCHER_IDLE_S;
    pthread_mutex_lock(&probe->lock);
    int timed_out = 0;
    while (!probe->stopping && !probe->asked.first && timed_out != ETIMEDOUT)
        timed_out = probe->fetcher
                        ? pthread_cond_timedwait(&probe->asked_or_stopping, &probe->lock, &while_ends)
                        : pthread_cond_wait(&probe->asked_or_stopping, &probe->lock);
    *stopping = probe->stopping;
    struct question *question = probe->stopping ? NULL : list_pop(&probe->asked);
    pthread_mutex_unlock(&probe->lock);
    return question;
}

static void answer(struct kafka_probe *probe, struct question *question)
{
    ask_brokers(probe, question);
    pthread_mutex_lock(&probe->lock);
    list_push(&probe->answered, question);
    pthread_mutex_unlock(&probe->lock);
    wake_ring(probe->wake_fd);
}

static void nudge(struct kafka_probe *probe, struct question *question)
{
    int64_t low, high;
    rd_kafka_query_watermark_offsets(question->nudged, probe->options.usage_topics[question->topic],
                                     question->partition, &low, &high, NUDGE_TIMEOUT_MS);
    free(question);
}

static void *answer_questions(void *self)
{
    struct kafka_probe *probe = self;
    bool stopping = false;
    while (!stopping) {
        struct question *question = await_question(probe, &stopping);
        if (question && question->nudged)
            nudge(probe, question);
        else if (question)
            answer(probe, question);
        else
            drop_fetcher(probe);
    }
    return NULL;
}

static void release(struct kafka_probe *probe)
{
    list_free(&probe->asked);
    list_free(&probe->answered);
    free(probe->handed_out);
    kafka_handle_free(probe->reader);
    pthread_cond_destroy(&probe->asked_or_stopping);
    pthread_mutex_destroy(&probe->lock);
    free(probe);
}

struct kafka_probe *kafka_probe_new(const struct kafka_options *options, int wake_fd,
                                    char error[KAFKA_ERROR_BYTES])
{
    snprintf(error, KAFKA_ERROR_BYTES, "no memory or no thread to be had");
    struct kafka_probe *probe = calloc(1, sizeof(*probe));
    if (!probe)
        return NULL;
    probe->options = *options;
    probe->wake_fd = wake_fd;
    list_init(&probe->asked);
    list_init(&probe->answered);
    pthread_mutex_init(&probe->lock, NULL);
    pthread_cond_init(&probe->asked_or_stopping, NULL);
    probe->reader = kafka_handle_new(options, KAFKA_READER, NULL, error);
    if (probe->reader && pthread_create(&probe->thread, NULL, answer_questions, probe) == 0)
        return probe;
    release(probe);
    return NULL;
}

void kafka_probe_free(struct kafka_probe *probe)
{
    if (!probe)
        return;
    pthread_mutex_lock(&probe->lock);
    probe->stopping = true;
    pthread_cond_signal(&probe->asked_or_stopping);
    pthread_mutex_unlock(&probe->lock);
    pthread_join(probe->thread, NULL);
    release(probe);
}

void kafka_probe_secret(struct kafka_probe *probe, const struct identity_secret *secret)
{
    pthread_mutex_lock(&probe->lock);
    probe->secret = *secret;
    probe->has_secret = true;
    pthread_mutex_unlock(&probe->lock);
}

static bool ask(struct kafka_probe *probe, struct question wanted)
{
    struct question *question = malloc(sizeof(*question));
    if (!question)
        return false;
    *question = wanted;
    pthread_mutex_lock(&probe->lock);
    list_push(&probe->asked, question);
    pthread_cond_signal(&probe->asked_or_stopping);
    pthread_mutex_unlock(&probe->lock);
    return true;
}

bool kafka_probe_ask(struct kafka_probe *probe, uint32_t topic, int32_t partition, int64_t fingerprint_offset,
                     uint64_t number)
{
    return ask(probe, (struct question){.topic = topic,
                                        .partition = partition,
                                        .fingerprint_offset = fingerprint_offset,
                                        .answer.question = number,
                                        .answer.asked_offset = fingerprint_offset});
}

/* Without memory for it, librdkafka wakes up by itself after a second. */
void kafka_probe_nudge(struct kafka_probe *probe, rd_kafka_t *handle, uint32_t topic, int32_t partition)
{
    ask(probe, (struct question){.topic = topic, .partition = partition, .nudged = handle});
}

bool kafka_probe_answer(struct kafka_probe *probe, struct source_event *event)
{
    pthread_mutex_lock(&probe->lock);
    struct question *question = list_pop(&probe->answered);
    pthread_mutex_unlock(&probe->lock);
    if (!question)
        return false;
    free(probe->handed_out);
    probe->handed_out = question;
    *event = (struct source_event){
        .kind = SOURCE_PROBED,
        .topic = question->topic,
        .partition = question->partition,
        .probe = question->answer,
        .probe_failed = question->failed,
        .detail = question->detail,
    };
    return true;
}
