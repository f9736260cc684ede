/* A producer of flags that fails for good. The source is included for its producer, which librdkafka lets us
 * break; no broker is needed for that. */
#include "../../consumer/kafka_flags.c"

#include <check.h> /* last: it takes the name fail() */

#include "suite.h"

static const struct flag_sequence sequence = {3, 1};

static struct flag_event await(struct flag_sink *sink, enum flag_event_kind kind)
{
    struct flag_event event;
    do {
        sink->poll(sink->self, &event);
        ck_assert_int_ne(event.kind, FLAG_ACKNOWLEDGED);
    } while (event.kind != kind);
    return event;
}

START_TEST(after_a_fatal_error_all_is_reported_as_failed_and_a_new_producer_takes_over)
{
    struct kafka_options options = {.bootstrap_servers = "127.0.0.1:1", .enforcement_topic = "enforcement"};
    char error[KAFKA_ERROR_BYTES] = "";
    struct kafka_flags *flags = kafka_flags_new(&options, error);
    ck_assert_msg(flags != NULL, "%s", error);
    struct flag_sink sink = kafka_flags_interface(flags);
    ck_assert(sink.publish(sink.self, 2, TEXT("key"), TEXT("value"), sequence, 71));
    rd_kafka_test_fatal_error(flags->producer, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "on purpose");
    ck_assert(sink.publish(sink.self, 2, TEXT("key"), TEXT("value"), sequence, 72));
    uint64_t failed = await(&sink, FLAG_FAILED).cookie + await(&sink, FLAG_FAILED).cookie;
    ck_assert_uint_eq(failed, 71 + 72);
    ck_assert(sink.publish(sink.self, 2, TEXT("key"), TEXT("value"), sequence, 73));
    ck_assert_int_eq(rd_kafka_fatal_error(flags->producer, NULL, 0), RD_KAFKA_RESP_ERR_NO_ERROR);
    ck_assert_int_ge(rd_kafka_outq_len(flags->producer), 1); /* beside it, what it may have to say */
    kafka_flags_free(flags, 0);
}
END_TEST

START_TEST(a_failure_is_held_back_so_that_it_is_not_tried_without_pause)
{
    struct kafka_options options = {.bootstrap_servers = "127.0.0.1:1", .enforcement_topic = "enforcement"};
    char error[KAFKA_ERROR_BYTES] = "";
    struct kafka_flags *flags = kafka_flags_new(&options, error);
    struct flag_sink sink = kafka_flags_interface(flags);
    int64_t begun_us = system_steady_us();
    rd_kafka_test_fatal_error(flags->producer, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "on purpose");
    ck_assert(sink.publish(sink.self, 0, TEXT("key"), (struct text){NULL, 0}, sequence, 5));
    ck_assert_uint_eq(await(&sink, FLAG_FAILED).cookie, 5);
    ck_assert_int_ge(system_steady_us() - begun_us, INT64_C(1000) * FAILURE_PAUSE_MS - 1000);
    kafka_flags_free(flags, 0);
}
END_TEST

/* The handles' brokers are librdkafka's own, within this process. */
START_TEST(a_flag_counts_as_acknowledged_when_the_answer_came_not_when_it_is_polled)
{
    const struct config_property mock = {.name = "test.mock.num.brokers", .value = "1"};
    struct kafka_options options = {.bootstrap_servers = "127.0.0.1:1",
                                    .enforcement_topic = "enforcement",
                                    .properties = &mock,
                                    .property_count = 1};
    char error[KAFKA_ERROR_BYTES] = "";
    struct kafka_flags *flags = kafka_flags_new(&options, error);
    ck_assert_msg(flags != NULL, "%s", error);
    struct flag_sink sink = kafka_flags_interface(flags);
    int64_t begun_us = system_steady_us();
    ck_assert(sink.publish(sink.self, 0, TEXT("key"), TEXT("value"), sequence, 7));
    while (rd_kafka_queue_length(flags->reports) == 0)
        usleep(1000);
    int64_t answered_us = system_steady_us();
    usleep(20000);
    struct flag_event event = {.kind = FLAG_NOTHING};
    while (event.kind != FLAG_ACKNOWLEDGED)
        sink.poll(sink.self, &event);
    ck_assert_uint_eq(event.cookie, 7);
    ck_assert_int_ge(event.acknowledged_steady_us, begun_us);
    ck_assert_int_le(event.acknowledged_steady_us, answered_us);
    kafka_flags_free(flags, 0);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, after_a_fatal_error_all_is_reported_as_failed_and_a_new_producer_takes_over);
    tcase_add_test(tests, a_failure_is_held_back_so_that_it_is_not_tried_without_pause);
    tcase_add_test(tests, a_flag_counts_as_acknowledged_when_the_answer_came_not_when_it_is_polled);
}

int main(void)
{
    return run_suite("kafka_flags", add_tests);
}
