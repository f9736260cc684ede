/* usagebox offsets repartition */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "../rollup/migrate.h"
#include "../rollup/owner.h"
#include "../rollup/repartition.h"
#include "actor.h"
#include "commands.h"
#include "kafka_admin.h"
#include "tables.h"

enum { KAFKA_TIMEOUT_MS = 15000, WAIT_POLL_MS = 500 };

struct repartition_choice {
    bool anew;
    bool wait;
};

/* What the cluster says of the topics. */
struct topics {
    struct kafka_topic *items; /* the usage topics, then the enforcement topic */
    size_t count;
    struct repartition_end *ends;
    size_t end_count;
};

static void topics_free(struct topics *topics)
{
    free(topics->items);
    free(topics->ends);
}

/* --- from Kafka --- */

static bool describe(struct kafka_admin *kafka, const struct config *config, struct topics *topics,
                     char error[KAFKA_ERROR_BYTES])
{
    size_t usage_count = config->kafka.usage_topics.count;
    topics->count = usage_count + 1;
    topics->items = calloc(topics->count, sizeof *topics->items);
    if (!topics->items) {
        snprintf(error, KAFKA_ERROR_BYTES, "out of memory");
        return false;
    }
    for (size_t i = 0; i < usage_count; i++)
        topics->items[i].name = config->kafka.usage_topics.items[i];
    topics->items[usage_count].name = config->kafka.enforcement_topic;
    return kafka_admin_describe(kafka, topics->items, topics->count, error);
}

static bool is_there(const struct kafka_topic *topic, char error[KAFKA_ERROR_BYTES])
{
    if (!topic->exists)
        snprintf(error, KAFKA_ERROR_BYTES, "there is no topic %s, or this user may not see it", topic->name);
    else if (topic->leaderless_count > 0)
        snprintf(error, KAFKA_ERROR_BYTES, "%d partitions of %s have no leader: try again",
                 topic->leaderless_count, topic->name);
    return topic->exists && topic->leaderless_count == 0;
}

/* Partition i of all usage topics is one lane, whose flags go to partition i of the enforcement topic: that
 * may have more. */
static bool are_alike(const struct topics *topics, char error[KAFKA_ERROR_BYTES])
{
    const struct kafka_topic *largest = &topics->items[0], *enforcement = &topics->items[topics->count - 1];
    for (const struct kafka_topic *topic = largest; topic < enforcement; topic++)
        if (topic->partition_count > largest->partition_count)
            largest = topic;
    for (const struct kafka_topic *topic = topics->items; topic <= enforcement; topic++) {
        if (!is_there(topic, error))
            return false;
        bool fits = topic == enforcement ? topic->partition_count >= largest->partition_count
                                         : topic->partition_count == largest->partition_count;
        if (fits)
            continue;
        snprintf(error, KAFKA_ERROR_BYTES,
                 "%s has %d partitions and %s has %d: partition i of all of them is one lane. Add partitions "
                 "(kafka-topics.sh --alter --topic %s --partitions %d), then order this again",
                 topic->name, topic->partition_count, largest->name, largest->partition_count, topic->name,
                 largest->partition_count);
        return false;
    }
    return true;
}

static bool read_ends(struct kafka_admin *kafka, struct topics *topics, char error[KAFKA_ERROR_BYTES])
{
    int32_t partitions = topics->items[0].partition_count;
    topics->ends = calloc((topics->count - 1) * (size_t)partitions + 1, sizeof *topics->ends);
    if (!topics->ends) {
        snprintf(error, KAFKA_ERROR_BYTES, "out of memory");
        return false;
    }
    for (size_t i = 0; i + 1 < topics->count; i++)
        for (int32_t partition = 0; partition < partitions; partition++) {
            int64_t low_offset, end_offset;
            if (!kafka_admin_watermarks(kafka, topics->items[i].name, partition, &low_offset, &end_offset,
                                        error))
                return false;
            topics->ends[topics->end_count++] =
                (struct repartition_end){topics->items[i].name, partition, end_offset};
        }
    return true;
}

static bool ask_kafka(const struct config *config, struct topics *topics, char error[KAFKA_ERROR_BYTES])
{
    const struct kafka_options options = kafka_options_of(config);
    struct kafka_admin *kafka = kafka_admin_open(&options, KAFKA_TIMEOUT_MS, error);
    bool asked = kafka && describe(kafka, config, topics, error) && are_alike(topics, error) &&
                 read_ends(kafka, topics, error);
    kafka_admin_close(kafka);
    return asked;
}

/* --- what is said --- */

static const char *const answer_names[] = {[REPARTITION_NOTHING_READ] = "nothing_read",
                                           [REPARTITION_AS_BEFORE] = "as_before",
                                           [REPARTITION_UNDER_WAY] = "under_way",
                                           [REPARTITION_ORDERED] = "ordered"};

static void print_answer(const struct repartition_order *order)
{
    switch (order->answer) {
    case REPARTITION_NOTHING_READ:
        puts("nothing was read yet: usagebox run takes the topics as they are");
        break;
    case REPARTITION_AS_BEFORE:
        printf("the topics have %d partitions, as they had when events were last counted: nothing to do\n",
               order->to_count);
        break;
    case REPARTITION_UNDER_WAY:
        printf("a repartition from %d to %d partitions is under way already: nothing was changed\n",
               order->from_count, order->to_count);
        break;
    case REPARTITION_ORDERED:
        printf("from %d to %d partitions: what lies in the topics now is read by the former count, what "
               "comes from "
               "now on by the new one\n"
               "records that producers put where the other count would not have become dead letters "
               "(wrong_partition); usagebox dead-letters replay brings them home\n",
               order->from_count, order->to_count);
        break;
    }
}

static void print_progress(const struct repartition_progress *progress)
{
    if (progress->done)
        puts("customers are re-homed: all lanes had come to their ends");
    else if (progress->under_way)
        printf(
            "lanes that have to come to their ends yet: %s; customers are re-homed as soon as they have, by "
            "usagebox run\n",
            progress->waits_for);
}

static bool print_json(const struct repartition_order *order, const struct repartition_progress *progress)
{
    return json_print(json_pack("{s:s, s:i, s:i, s:b, s:b, s:s}", "answer", answer_names[order->answer],
                                "from", (int)order->from_count, "to", (int)order->to_count, "under_way",
                                (int)progress->under_way, "done", (int)progress->done, "waits_for_lanes",
                                progress->waits_for),
                      stdout);
}

/* --- the command --- */

/* Whoever runs finishes it as well; here it is only for a person who wants to see it done. */
static bool advance(struct pg *pg, const struct repartition_choice *choice,
                    struct repartition_progress *progress)
{
    if (!repartition_advance(pg, progress))
        return false;
    while (choice->wait && progress->under_way) {
        nanosleep(&(struct timespec){.tv_nsec = WAIT_POLL_MS * 1000000L}, NULL);
        struct repartition_progress last = *progress;
        if (!repartition_advance(pg, progress))
            return false;
        if (!progress->under_way && !progress->done) { /* somebody else was faster */
            *progress = last;
            progress->under_way = false;
            progress->done = true;
        }
    }
    return true;
}

static int order_over(struct command_context *context, struct pg *pg, struct repartition_order *order,
                      const struct repartition_choice *choice)
{
    struct repartition_progress progress;
    if (!repartition_order(pg, order))
        return command_fail(context, EXIT_FAILED, "%s", pg->failure.detail);
    if (!context->json)
        print_answer(order);
    fflush(stdout);
    if (!advance(pg, choice, &progress))
        return command_fail(context, EXIT_FAILED, "%s", pg->failure.detail);
    if (!context->json)
        print_progress(&progress);
    else if (!print_json(order, &progress))
        return command_fail(context, EXIT_FAILED, "out of memory");
    return EXIT_DONE;
}

static int repartition(struct command_context *context, const struct config *config, const void *chosen,
                       int operand_count, char **operands)
{
    (void)operand_count, (void)operands;
    const struct repartition_choice *choice = chosen;
    char error[KAFKA_ERROR_BYTES], actor[ACTOR_BYTES];
    struct topics topics = {0};
    struct pg pg = {0};
    int code;
    if (!ask_kafka(config, &topics, error)) {
        code = command_fail(context, EXIT_FAILED, "%s", error);
    } else if (!owner_open(&pg, config->postgres.owner_dsn, context->name)) {
        code = command_fail(context, EXIT_FAILED, "%s", pg.failure.detail);
    } else {
        struct repartition_order order = {.to_count = topics.items[0].partition_count,
                                          .partitioner = config->kafka.partitioner,
                                          .ends = topics.ends,
                                          .end_count = topics.end_count,
                                          .anew = choice->anew,
                                          .actor = actor_name(actor)};
        code = order_over(context, &pg, &order, choice);
    }
    pg_close(&pg);
    topics_free(&topics);
    return code;
}

int cmd_repartition(struct command_context *context, int argc, char **argv)
{
    struct repartition_choice choice = {0};
    const struct option_row rows[] = {
        {.name = "wait", .type = OPTION_FLAG, .value = &choice.wait, .help = "wait until it is done"},
        {.name = "anew",
         .type = OPTION_FLAG,
         .value = &choice.anew,
         .help = "although one is under way: record the topics' ends of now in place of those recorded"},
        {0}};
    const struct options options = {
        .about = "Re-homes customers after partitions were added to all usage topics and the enforcement "
                 "topic. Records\n"
                 "where each log ends: what lies below is read by the former number of partitions, and once "
                 "all lanes\n"
                 "have come so far, what follows by the new one. Until then lanes that are there already "
                 "wait for the\n"
                 "others, as no event may count twice that lies in its customer's former partition and in "
                 "the new one.\n"
                 "Producers learn of new partitions minutes later: what they put where the other number "
                 "would not have\n"
                 "becomes a dead letter (wrong_partition), and usagebox dead-letters replay brings it home.",
        .rows = rows};
    return command_run(context, &options, argc, argv, repartition, &choice);
}
