/* Lanes agree with those that the clients themselves choose. */
#include <check.h>
#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <stdio.h>

#include "partitioner.h"
#include "suite.h"

typedef int32_t client_partitioner(const rd_kafka_topic_t *, const void *, size_t, int32_t, void *, void *);

/* librdkafka speaks all three; these of its functions look at neither the topic nor the opaques. */
static client_partitioner *const clients[PARTITIONER_COUNT] = {
    [PARTITIONER_MURMUR2] = rd_kafka_msg_partitioner_murmur2,
    [PARTITIONER_CRC32] = rd_kafka_msg_partitioner_consistent,
    [PARTITIONER_FNV1A] = rd_kafka_msg_partitioner_fnv1a,
};

START_TEST(lanes_are_those_of_librdkafka)
{
    enum partitioner p = (enum partitioner)_i;
    char key[80];
    srand(1);
    for (int round = 0; round < 20000; round++) {
        /* Bytes of all values: signed chars are a classic way to get a hash wrong. */
        uint32_t length = (uint32_t)rand() % sizeof key;
        for (uint32_t i = 0; i < length; i++)
            key[i] = (char)(rand() >> 8);
        int32_t count = 1 + (round % 4 == 0 ? rand() % INT32_MAX : rand() % 100);
        int32_t theirs = clients[p](NULL, key, length, count, NULL, NULL);
        ck_assert_int_eq(partitioner_lane(p, (struct text){key, length}, count), theirs);
    }
}
END_TEST

/* The vectors of Kafka's own UtilsTest, made positive as its partitioner makes them. */
START_TEST(murmur2_is_that_of_the_java_client)
{
    static const struct {
        const char *key;
        int32_t hash;
    } vectors[] = {
        {"21", -973932308},
        {"foobar", -790332482},
        {"a-little-bit-long-string", -985981536},
        {"a-little-bit-longer-string", -1486304829},
        {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
        {"abc", 479470107},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        int32_t positive = vectors[i].hash & INT32_MAX;
        struct text key = text_of(vectors[i].key);
        ck_assert_int_eq(partitioner_lane(PARTITIONER_MURMUR2, key, INT32_MAX), positive);
        ck_assert_int_eq(partitioner_lane(PARTITIONER_MURMUR2, key, 12), positive % 12);
    }
}
END_TEST

START_TEST(crc32_is_that_of_zlib)
{
    ck_assert_int_eq(partitioner_lane(PARTITIONER_CRC32, TEXT("123456789"), 1000), (int)(0xcbf43926U % 1000));
    ck_assert_int_eq(partitioner_lane(PARTITIONER_CRC32, TEXT("acme-co"), 1000), (int)(0xf0dfc008U % 1000));
}
END_TEST

START_TEST(fnv1a_drops_the_sign_as_sarama_does)
{
    /* FNV-1a of "a" is 0xe40c292c: negative as an int32. */
    int32_t hash = -468965076;
    ck_assert_int_eq(partitioner_lane(PARTITIONER_FNV1A, TEXT("a"), 7), -(hash % 7));
    ck_assert_int_eq(partitioner_lane(PARTITIONER_FNV1A, TEXT("a"), INT32_MAX), -(hash % INT32_MAX));
}
END_TEST

START_TEST(a_missing_key_has_a_lane_as_an_empty_one)
{
    for (int p = PARTITIONER_MURMUR2; p < PARTITIONER_COUNT; p++)
        ck_assert_int_eq(partitioner_lane((enum partitioner)p, (struct text){NULL, 0}, 12),
                         partitioner_lane((enum partitioner)p, TEXT(""), 12));
}
END_TEST

static struct partitioner_votes votes_of(enum partitioner producer, int records, int32_t count)
{
    struct partitioner_votes votes = {0};
    for (int i = 0; i < records; i++) {
        char key[32];
        snprintf(key, sizeof key, "customer-%d", i);
        partitioner_vote(&votes, text_of(key), partitioner_lane(producer, text_of(key), count), count);
    }
    return votes;
}

START_TEST(the_partitioner_of_the_producers_is_elected)
{
    struct partitioner_votes votes = votes_of((enum partitioner)_i, 50, 6);
    ck_assert_uint_eq(votes.records, 50);
    ck_assert_uint_eq(votes.matches[_i], 50);
    ck_assert_int_eq(partitioner_elect(&votes), _i);
}
END_TEST

START_TEST(one_lane_elects_nobody)
{
    struct partitioner_votes votes = votes_of(PARTITIONER_CRC32, 50, 1);
    ck_assert_int_eq(partitioner_elect(&votes), PARTITIONER_UNKNOWN);
}
END_TEST

START_TEST(keyless_records_cast_no_vote)
{
    struct partitioner_votes votes = {0};
    partitioner_vote(&votes, TEXT(""), 0, 2);
    partitioner_vote(&votes, (struct text){NULL, 0}, 0, 2);
    ck_assert_uint_eq(votes.records, 0);
    ck_assert_int_eq(partitioner_elect(&votes), PARTITIONER_UNKNOWN);
}
END_TEST

START_TEST(half_of_the_records_is_not_enough)
{
    struct partitioner_votes votes = {.matches = {[PARTITIONER_CRC32] = 5}, .records = 10};
    ck_assert_int_eq(partitioner_elect(&votes), PARTITIONER_UNKNOWN);
    votes.matches[PARTITIONER_CRC32] = 6;
    ck_assert_int_eq(partitioner_elect(&votes), PARTITIONER_CRC32);
}
END_TEST

START_TEST(a_tie_elects_nobody_and_more_votes_break_it)
{
    struct partitioner_votes votes = {.matches = {0, 9, 9, 0}, .records = 10};
    ck_assert_int_eq(partitioner_elect(&votes), PARTITIONER_UNKNOWN);
    votes.matches[PARTITIONER_FNV1A] = 10;
    ck_assert_int_eq(partitioner_elect(&votes), PARTITIONER_FNV1A);
    votes.matches[PARTITIONER_MURMUR2] = 10;
    ck_assert_int_eq(partitioner_elect(&votes), PARTITIONER_UNKNOWN);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_loop_test(tests, lanes_are_those_of_librdkafka, PARTITIONER_MURMUR2, PARTITIONER_COUNT);
    tcase_add_test(tests, murmur2_is_that_of_the_java_client);
    tcase_add_test(tests, crc32_is_that_of_zlib);
    tcase_add_test(tests, fnv1a_drops_the_sign_as_sarama_does);
    tcase_add_test(tests, a_missing_key_has_a_lane_as_an_empty_one);
    tcase_add_loop_test(tests, the_partitioner_of_the_producers_is_elected, PARTITIONER_MURMUR2,
                        PARTITIONER_COUNT);
    tcase_add_test(tests, one_lane_elects_nobody);
    tcase_add_test(tests, keyless_records_cast_no_vote);
    tcase_add_test(tests, half_of_the_records_is_not_enough);
    tcase_add_test(tests, a_tie_elects_nobody_and_more_votes_break_it);
}

int main(void)
{
    return run_suite("partitioner", add_tests);
}
