#include "replay.h"

#include <inttypes.h>
#include <stdlib.h>

#include "json_load.h"

enum { METADATA_TIMEOUT_MS = 10000 };

struct replay {
    const struct config *config;
    enum partitioner partitioner;
    rd_kafka_t *handle;
    int32_t *partition_counts; /* by index into kafka.usage_topics; 0: not known yet */
};

static enum partitioner choose_partitioner(const struct config *config, enum partitioner stored)
{
    if (config->kafka.partitioner != PARTITIONER_UNKNOWN)
        return config->kafka.partitioner;
    return stored != PARTITIONER_UNKNOWN ? stored : PARTITIONER_MURMUR2;
}

struct replay *replay_new(const struct config *config, enum partitioner stored, rd_kafka_t *handle)
{
    struct replay *replay = calloc(1, sizeof *replay);
    if (!replay)
        return NULL;
    *replay = (struct replay){
        .config = config, .partitioner = choose_partitioner(config, stored), .handle = handle};
    replay->partition_counts = calloc(config->kafka.usage_topics.count, sizeof *replay->partition_counts);
    if (replay->partition_counts)
        return replay;
    free(replay);
    return NULL;
}

void replay_free(struct replay *replay)
{
    if (!replay)
        return;
    free(replay->partition_counts);
    free(replay);
}

static int find_topic(const struct replay *replay, const char *name)
{
    for (size_t i = 0; i < replay->config->kafka.usage_topics.count; i++)
        if (strcmp(replay->config->kafka.usage_topics.items[i], name) == 0)
            return (int)i;
    return -1;
}

static int32_t ask_partition_count(struct replay *replay, const char *name, char *error, size_t error_size)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(replay->handle, name, NULL);
    int32_t count = 0;
    if (!topic) {
        snprintf(error, error_size, "%s", rd_kafka_err2str(rd_kafka_last_error()));
        return 0;
    }
    rd_kafka_resp_err_t failed = rd_kafka_metadata(replay->handle, 0, topic, &metadata, METADATA_TIMEOUT_MS);
    rd_kafka_topic_destroy(topic);
    if (!failed) {
        failed = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        count = failed ? 0 : metadata->topics[0].partition_cnt;
        rd_kafka_metadata_destroy(metadata);
    }
    if (failed)
        snprintf(error, error_size, "%s", rd_kafka_err2str(failed));
    return count;
}

/* Nothing against it so far: the partition count of its topic. Else trouble says why: 0: it is not to be
 * sent; -1: nobody could be asked. */
static int32_t partition_count(struct replay *replay, struct letter *letter)
{
    char error[LETTER_TROUBLE_BYTES / 2] = "";
    int topic = find_topic(replay, letter->topic);
    if (topic < 0) {
        letter_refuse(letter, "topic %.128s is not among kafka.usage_topics: nobody would read it",
                      letter->topic);
        return 0;
    }
    int32_t *count = &replay->partition_counts[topic];
    if (*count == 0)
        *count = ask_partition_count(replay, letter->topic, error, sizeof error);
    if (*count == 0)
        letter_refuse(letter, "topic %.100s: %s", letter->topic, error);
    return *count > 0 ? *count : -1;
}

static struct text member_text(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_string(value) || json_string_length(value) == 0)
        return (struct text){NULL, 0};
    return (struct text){json_string_value(value), (uint32_t)json_string_length(value)};
}

/* As lenient as JSON allows: most of these were refused for being wrong somewhere. */
static json_t *read_json(struct text text, bool *starved)
{
    return json_load_text(text, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL, starved);
}

/* The time that counts where the event names none. */
static void bring_time(struct letter *letter, struct replay_plan *plan)
{
    if (letter->record_time_ms < 0 || letter_has_header(letter, "usagebox_time"))
        return;
    snprintf(plan->time_ms, sizeof plan->time_ms, "%" PRId64, letter->record_time_ms);
    letter->added[letter->added_count++] =
        (struct record_header){TEXT("usagebox_time"), text_of(plan->time_ms)};
}

void replay_plan(struct replay *replay, struct letter *letter, bool force, struct replay_plan *plan)
{
    bool starved;
    *plan = (struct replay_plan){.event = read_json(letter->payload, &starved)};
    int32_t count = partition_count(replay, letter);
    struct text customer = member_text(plan->event, "customer_id");
    if (!customer.bytes)
        customer = member_text(plan->event, "account_id");
    if (customer.bytes)
        letter->to_key = customer;
    if (customer.bytes && count > 0)
        letter->to_partition = partitioner_lane(replay->partitioner, customer, count);
    bool identified = member_text(plan->event, "event_id").bytes || letter_has_header(letter, "event_id");
    plan->undecided = starved || count < 0;
    if (starved)
        letter_refuse(letter, "out of memory");
    else if (count > 0 && letter->to_partition >= count)
        letter_refuse(letter, "partition %" PRId32 " of %.128s does not exist any more", letter->to_partition,
                      letter->topic);
    else if (count > 0 && !identified && !force)
        letter_refuse(letter, "it has no event_id and would be refused again: --force sends it all the same");
    else
        plan->ready = count > 0;
    bring_time(letter, plan);
}

void replay_plan_free(struct replay_plan *plan)
{
    json_decref(plan->event);
}
