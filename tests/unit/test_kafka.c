/* What can be said of the Kafka handles without a broker. */
#include <check.h>

#include "kafka_options.h"
#include "kafka_source.h"
#include "kafka_tail.h"
#include "suite.h"

static const char *const topics[] = {"usage"};

static struct kafka_options options_with(const struct config_property *property)
{
    return (struct kafka_options){
        .bootstrap_servers = "127.0.0.1:1", /* nobody listens there */
        .usage_topics = topics,
        .usage_topic_count = 1,
        .enforcement_topic = "enforcement",
        .group = "usagebox",
        .properties = property,
        .property_count = property ? 1 : 0,
    };
}

START_TEST(every_role_is_made_of_properties_that_librdkafka_knows)
{
    static const enum kafka_role roles[] = {KAFKA_MEMBER, KAFKA_READER, KAFKA_TAIL, KAFKA_FLAGGER,
                                            KAFKA_PRODUCER};
    struct kafka_options options = options_with(NULL);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        char error[KAFKA_ERROR_BYTES] = "";
        rd_kafka_t *handle = kafka_handle_new(&options, roles[i], NULL, error);
        ck_assert_msg(handle != NULL, "%s", error);
        kafka_handle_free(handle);
    }
}
END_TEST

START_TEST(properties_that_exact_counting_rests_on_are_refused_by_name)
{
    static const char *const names[] = {"enable.auto.commit",   "auto.offset.reset",
                                        "isolation.level",      "check.crcs",
                                        "enable.partition.eof", "partition.assignment.strategy",
                                        "group.instance.id",    "enable.idempotence"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct config_property property = {.name = names[i], .value = "true"};
        struct kafka_options options = options_with(&property);
        char error[KAFKA_ERROR_BYTES] = "";
        ck_assert_ptr_null(kafka_handle_new(&options, KAFKA_MEMBER, NULL, error));
        ck_assert_ptr_nonnull(strstr(error, names[i]));
    }
    ck_assert_ptr_null(kafka_property_refusal("security.protocol"));
}
END_TEST

START_TEST(a_secret_that_is_refused_is_not_repeated)
{
    const struct config_property wrong = {.name = "security.protocol", .value = "hunter2", .secret = true};
    struct kafka_options options = options_with(&wrong);
    char error[KAFKA_ERROR_BYTES] = "";
    ck_assert_ptr_null(kafka_handle_new(&options, KAFKA_READER, NULL, error));
    ck_assert_ptr_null(strstr(error, wrong.value));
}
END_TEST

START_TEST(a_sequence_header_is_read_whole_or_not_at_all)
{
    static const char *const wrong[] = {"",         "[1,2",    "[1]",
                                        "1,2",      "[1,2]x",  "[1,2,3]",
                                        "[-1,2]",   "[1.5,2]", "[99999999999999999999,1]",
                                        "[\"1\",2]"};
    struct flag_sequence sequence;
    ck_assert(kafka_sequence_parse(TEXT("[12,88123]"), &sequence));
    ck_assert_int_eq(sequence.epoch, 12);
    ck_assert_int_eq(sequence.count, 88123);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(!kafka_sequence_parse(text_of(wrong[i]), &sequence), "%s", wrong[i]);
    ck_assert(!kafka_sequence_parse((struct text){"[1,2]\0", 6}, &sequence));
}
END_TEST

START_TEST(without_a_broker_the_source_says_trouble_and_closes_soon)
{
    struct kafka_options options = options_with(NULL);
    char error[KAFKA_ERROR_BYTES] = "";
    struct kafka_source *source = kafka_source_new(&options, error);
    ck_assert_msg(source != NULL, "%s", error);
    struct source port = kafka_source_interface(source);
    struct source_event event;
    do {
        port.poll(port.self, 1000, &event);
        ck_assert(event.kind == SOURCE_NOTHING || event.kind == SOURCE_TROUBLE);
    } while (event.kind != SOURCE_TROUBLE);
    ck_assert_uint_gt(strlen(event.detail), 0);
    ck_assert_uint_gt(port.consume(port.self, &(struct source_position){0, 3, 17}, 1), 0);
    port.release(port.self);
    kafka_source_free(source);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, every_role_is_made_of_properties_that_librdkafka_knows);
    tcase_add_test(tests, properties_that_exact_counting_rests_on_are_refused_by_name);
    tcase_add_test(tests, a_secret_that_is_refused_is_not_repeated);
    tcase_add_test(tests, a_sequence_header_is_read_whole_or_not_at_all);
    tcase_add_test(tests, without_a_broker_the_source_says_trouble_and_closes_soon);
}

int main(void)
{
    return run_suite("kafka", add_tests);
}
