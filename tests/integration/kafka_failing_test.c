/* Each call of librdkafka that may fail fails in turn, while a source reads a topic and asks for its
 * watermarks and flags are published and read back, on a real Kafka. What fails is tried again: every record
 * comes, in order, every question is answered, every flag acknowledged. Linked with a shell whose calls of
 * librdkafka are those below. */
#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "consumer/kafka_flags.h"
#include "consumer/kafka_source.h"
#include "producev.h"
#include "tests/unit/suite.h"

enum { PARTITIONS = 2, DEADLINE_S = 30, TURN_MS = 20 };

static atomic_int calls;
static atomic_int fails_at;
static const char *volatile failed_call = "none";

static bool strikes(const char *call)
{
    if (atomic_fetch_add(&calls, 1) + 1 != atomic_load(&fails_at))
        return false;
    failed_call = call;
    return true;
}

/* The call `name` with these parameters, or `failure`. */
#define MAY_FAIL(type, name, failure, parameters, arguments)                                                 \
    type failing_##name parameters;                                                                          \
    type failing_##name parameters                                                                           \
    {                                                                                                        \
        return strikes(#name) ? (failure) : name arguments;                                                  \
    }

MAY_FAIL(rd_kafka_resp_err_t, rd_kafka_subscribe, RD_KAFKA_RESP_ERR__FAIL,
         (rd_kafka_t * handle, const rd_kafka_topic_partition_list_t *list), (handle, list))
MAY_FAIL(rd_kafka_resp_err_t, rd_kafka_assign, RD_KAFKA_RESP_ERR__FAIL,
         (rd_kafka_t * handle, const rd_kafka_topic_partition_list_t *list), (handle, list))
MAY_FAIL(rd_kafka_queue_t *, rd_kafka_queue_get_partition, NULL,
         (rd_kafka_t * handle, const char *topic, int32_t partition), (handle, topic, partition))
/* Called without end: a few of them stand for all. */
enum { POLLS_COUNTED = 4 };
static atomic_int polls;
ssize_t failing_rd_kafka_consume_batch_queue(rd_kafka_queue_t *queue, int timeout_ms,
                                             rd_kafka_message_t **messages, size_t room);
ssize_t failing_rd_kafka_consume_batch_queue(rd_kafka_queue_t *queue, int timeout_ms,
                                             rd_kafka_message_t **messages, size_t room)
{
    bool counted = atomic_fetch_add(&polls, 1) < POLLS_COUNTED;
    if (counted && strikes("rd_kafka_consume_batch_queue"))
        return -1;
    return rd_kafka_consume_batch_queue(queue, timeout_ms, messages, room);
}

#include "failing_kafka_calls.h"
MAY_FAIL(rd_kafka_resp_err_t, rd_kafka_commit_queue, RD_KAFKA_RESP_ERR__FAIL,
         (rd_kafka_t * handle, const rd_kafka_topic_partition_list_t *list, rd_kafka_queue_t *queue,
          void (*done)(rd_kafka_t *, rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t *, void *),
          void *self),
         (handle, list, queue, done, self))

MAY_FAIL(rd_kafka_conf_res_t, rd_kafka_topic_conf_set,
         (snprintf(error, size, "on purpose"), RD_KAFKA_CONF_INVALID),
         (rd_kafka_topic_conf_t * conf, const char *name, const char *value, char *error, size_t size),
         (conf, name, value, error, size))
MAY_FAIL(rd_kafka_error_t *, rd_kafka_consumer_close_queue,
         rd_kafka_error_new(RD_KAFKA_RESP_ERR__FAIL, "on purpose"),
         (rd_kafka_t * handle, rd_kafka_queue_t *queue), (handle, queue))
rd_kafka_resp_err_t failing_rd_kafka_producev(rd_kafka_t *handle, ...);
rd_kafka_resp_err_t failing_rd_kafka_producev(rd_kafka_t *handle, ...)
{
    va_list arguments;
    if (strikes("rd_kafka_producev"))
        return RD_KAFKA_RESP_ERR__FAIL;
    va_start(arguments, handle);
    rd_kafka_resp_err_t code = producev_listed(handle, arguments);
    va_end(arguments);
    return code;
}

/* --- what the engine does --- */

struct reading {
    struct source source;
    bool assigned;
    uint64_t generation;
    int64_t next[PARTITIONS];
    bool answered[PARTITIONS];
    time_t asked[PARTITIONS];
};

static void consume(struct reading *reading)
{
    struct source_position positions[PARTITIONS];
    for (int32_t i = 0; i < PARTITIONS; i++)
        positions[i] = (struct source_position){.partition = i, .offset = reading->next[i]};
    reading->generation = reading->source.consume(reading->source.self, positions, PARTITIONS);
}

static void take_records(struct reading *reading, const struct source_event *event)
{
    if (event->generation != reading->generation)
        return;
    for (size_t i = 0; i < event->record_count; i++)
        ck_assert_int_eq(event->records[i].offset, reading->next[event->partition]++);
}

static void take(struct reading *reading, const struct source_event *event)
{
    switch (event->kind) {
    case SOURCE_ASSIGNED:
        ck_assert_uint_eq(event->assigned_count, PARTITIONS);
        reading->assigned = true;
        consume(reading);
        break;
    case SOURCE_REVOKED:
        reading->assigned = false;
        reading->source.release(reading->source.self);
        break;
    case SOURCE_RECORDS:
        take_records(reading, event);
        break;
    case SOURCE_BROKEN:
        if (event->generation == reading->generation)
            consume(reading);
        break;
    case SOURCE_PROBED:
        reading->answered[event->partition] |= !event->probe_failed;
        reading->asked[event->partition] = 0;
        break;
    default:
        break;
    }
}

static bool all_read(struct reading *reading, int64_t records)
{
    bool all = true;
    for (int32_t i = 0; i < PARTITIONS; i++) {
        all = all && reading->next[i] == records && reading->answered[i];
        if (reading->answered[i] || reading->asked[i] != 0)
            continue;
        reading->asked[i] = time(NULL);
        reading->source.probe(reading->source.self, 0, i, -1, (uint64_t)i);
    }
    return all;
}

static void read_all(struct kafka_source *source, int64_t records)
{
    struct reading reading = {.source = kafka_source_interface(source)};
    time_t deadline = time(NULL) + DEADLINE_S;
    while (!all_read(&reading, records)) {
        struct source_event event;
        reading.source.poll(reading.source.self, TURN_MS, &event);
        take(&reading, &event);
        ck_assert_msg(time(NULL) < deadline, "%s failed: %lld and %lld of %lld records, assigned %d",
                      failed_call, (long long)reading.next[0], (long long)reading.next[1], (long long)records,
                      reading.assigned);
    }
    struct source_position position = {.offset = records};
    reading.source.committed(reading.source.self, &position, 1);
}

/* A flag goes out, and lane 0 is read to its end. */
static void publish_and_tail(struct kafka_flags *flags)
{
    struct flag_sink sink = kafka_flags_interface(flags);
    time_t deadline = time(NULL) + DEADLINE_S;
    bool acknowledged = false, caught_up = false, sent = false;
    sink.tail(sink.self, 0);
    while (!acknowledged || !caught_up) {
        struct flag_event event;
        if (!sent)
            sent = sink.publish(sink.self, 0, TEXT("key"), TEXT("value"), (struct flag_sequence){1, 1}, 7);
        sink.poll(sink.self, &event);
        acknowledged = acknowledged || event.kind == FLAG_ACKNOWLEDGED;
        caught_up = caught_up || event.kind == FLAG_CAUGHT_UP;
        sent = sent && event.kind != FLAG_FAILED;
        if (event.kind == FLAG_NOTHING)
            nanosleep(&(struct timespec){.tv_nsec = TURN_MS * 1000000L}, NULL);
        ck_assert_msg(time(NULL) < deadline, "%s failed: flag acknowledged %d, caught up %d", failed_call,
                      acknowledged, caught_up);
    }
}

static struct kafka_options options_from_environment(void)
{
    static const char *topics[1];
    /* a member that could not leave is soon forgotten */
    static const struct config_property properties[] = {
        {.name = "session.timeout.ms", .value = "2000"},
        {.name = "heartbeat.interval.ms", .value = "300"},
    };
    topics[0] = getenv("USAGEBOX_TEST_TOPIC");
    return (struct kafka_options){.bootstrap_servers = getenv("USAGEBOX_TEST_KAFKA"),
                                  .usage_topics = topics,
                                  .usage_topic_count = 1,
                                  .enforcement_topic = getenv("USAGEBOX_TEST_ENFORCEMENT"),
                                  .group = getenv("USAGEBOX_TEST_GROUP"),
                                  .properties = properties,
                                  .property_count = 2};
}

/* How many calls it took. What can't be made says why, and can be made the next time. */
static int session(int at)
{
    struct kafka_options options = options_from_environment();
    char error[KAFKA_ERROR_BYTES] = "";
    atomic_store(&calls, 0);
    atomic_store(&polls, 0);
    atomic_store(&fails_at, at);
    failed_call = "none";
    struct kafka_flags *flags = kafka_flags_new(&options, error);
    ck_assert_msg(flags || *error, "%s failed, and nothing says so", failed_call);
    flags = flags ? flags : kafka_flags_new(&options, error);
    publish_and_tail(flags);
    struct kafka_source *source = kafka_source_new(&options, error);
    ck_assert_msg(source || *error, "%s failed, and nothing says so", failed_call);
    source = source ? source : kafka_source_new(&options, error);
    read_all(source, atoll(getenv("USAGEBOX_TEST_RECORDS")));
    kafka_flags_free(flags, 1000);
    kafka_source_free(source);
    return atomic_load(&calls);
}

static int number_from(const char *variable)
{
    const char *given = getenv(variable);
    return given ? atoi(given) : 1;
}

/* STEP=N tries every Nth call only, beginning with FIRST. Polling calls without end: of those behind LAST,
 * none differs from the others. */
START_TEST(each_call_of_librdkafka_failing_in_turn_is_tried_again)
{
    int whole = session(0);
    for (int at = number_from("FIRST"); at <= whole; at += number_from("STEP")) {
        session(at);
        printf("call %d of %d: %s\n", at, whole, failed_call);
        fflush(stdout);
    }
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_set_timeout(tests, 0); /* whoever runs it has one */
    tcase_add_test(tests, each_call_of_librdkafka_failing_in_turn_is_tried_again);
}

int main(void)
{
    return run_suite("kafka: failing librdkafka", add_tests);
}
