#include "kafka_admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kafka_reach.h"
#include "system_clock.h"

enum { ANSWER_MARGIN_MS = 2000, AGAIN_MS = 200 };

struct kafka_admin {
    rd_kafka_t *handle;
    rd_kafka_queue_t *errors; /* what librdkafka reports unasked */
    rd_kafka_queue_t *answers;
    int timeout_ms;
    int broker_count;
    rd_kafka_event_t *settings; /* the last answer to a question about settings */
};

static bool fail(char error[KAFKA_ERROR_BYTES], const char *what, const char *why)
{
    snprintf(error, KAFKA_ERROR_BYTES, "%s: %s", what, why);
    return false;
}

/* --- connecting ----------------------------------------------------------------------------------------- */

static bool reach(struct kafka_admin *admin, char error[KAFKA_ERROR_BYTES])
{
    const struct rd_kafka_metadata *metadata =
        kafka_reach(admin->handle, admin->errors, NULL, false, admin->timeout_ms, error);
    if (!metadata)
        return false;
    admin->broker_count = metadata->broker_cnt;
    rd_kafka_metadata_destroy(metadata);
    return true;
}

struct kafka_admin *kafka_admin_open(const struct kafka_options *options, int timeout_ms,
                                     char error[KAFKA_ERROR_BYTES])
{
    snprintf(error, KAFKA_ERROR_BYTES, "out of memory");
    struct kafka_admin *admin = calloc(1, sizeof *admin);
    if (!admin)
        return NULL;
    admin->timeout_ms = timeout_ms;
    admin->handle = kafka_handle_new(options, KAFKA_ADMIN, NULL, error);
    if (admin->handle) {
        admin->errors = rd_kafka_queue_get_main(admin->handle);
        admin->answers = rd_kafka_queue_new(admin->handle);
        if (reach(admin, error))
            return admin;
    }
    kafka_admin_close(admin);
    return NULL;
}

void kafka_admin_close(struct kafka_admin *admin)
{
    if (!admin)
        return;
    if (admin->settings)
        rd_kafka_event_destroy(admin->settings);
    if (admin->handle) {
        rd_kafka_queue_destroy(admin->errors);
        rd_kafka_queue_destroy(admin->answers);
        kafka_handle_free(admin->handle);
    }
    free(admin);
}

int kafka_admin_broker_count(const struct kafka_admin *admin)
{
    return admin->broker_count;
}

/* --- topics --------------------------------------------------------------------------------------------- */

static void take_partitions(struct kafka_topic *topic, const struct rd_kafka_metadata_topic *metadata)
{
    topic->exists = true;
    topic->partition_count = metadata->partition_cnt;
    topic->least_replicas = metadata->partition_cnt > 0 ? metadata->partitions[0].replica_cnt : 0;
    for (int i = 0; i < metadata->partition_cnt; i++) {
        const struct rd_kafka_metadata_partition *partition = &metadata->partitions[i];
        topic->leaderless_count += partition->leader < 0;
        if (partition->replica_cnt < topic->least_replicas)
            topic->least_replicas = partition->replica_cnt;
    }
}

static bool take_topic(struct kafka_topic *topic, const struct rd_kafka_metadata *metadata,
                       char error[KAFKA_ERROR_BYTES])
{
    rd_kafka_resp_err_t code =
        metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        return true;
    /* without a leader right now: its partitions are listed all the same */
    if (code && code != RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
        return fail(error, topic->name, rd_kafka_err2str(code));
    take_partitions(topic, &metadata->topics[0]);
    return true;
}

static bool describe(struct kafka_admin *admin, struct kafka_topic *topic, char error[KAFKA_ERROR_BYTES])
{
    *topic = (struct kafka_topic){.name = topic->name};
    rd_kafka_topic_t *handle = rd_kafka_topic_new(admin->handle, topic->name, NULL);
    if (!handle)
        return fail(error, topic->name, rd_kafka_err2str(rd_kafka_last_error()));
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t code = rd_kafka_metadata(admin->handle, 0, handle, &metadata, admin->timeout_ms);
    rd_kafka_topic_destroy(handle);
    if (code)
        return fail(error, topic->name, rd_kafka_err2str(code));
    bool taken = take_topic(topic, metadata, error);
    rd_kafka_metadata_destroy(metadata);
    return taken;
}

bool kafka_admin_describe(struct kafka_admin *admin, struct kafka_topic *topics, size_t count,
                          char error[KAFKA_ERROR_BYTES])
{
    for (size_t i = 0; i < count; i++)
        if (!describe(admin, &topics[i], error))
            return false;
    return true;
}

/* --- the admin API: a question, then an event as its answer --------------------------------------------- */

static rd_kafka_AdminOptions_t *admin_options(const struct kafka_admin *admin, rd_kafka_admin_op_t operation)
{
    char reason[KAFKA_ERROR_BYTES / 2];
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(admin->handle, operation);
    /* fails for times out of range only, and then the default holds */
    rd_kafka_AdminOptions_set_request_timeout(options, admin->timeout_ms, reason, sizeof reason);
    return options;
}

static rd_kafka_event_t *await_answer(struct kafka_admin *admin, const char *what,
                                      char error[KAFKA_ERROR_BYTES])
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(admin->answers, admin->timeout_ms + ANSWER_MARGIN_MS);
    if (!event) {
        fail(error, what, "no answer in time");
    } else if (rd_kafka_event_error(event)) {
        fail(error, what, rd_kafka_event_error_string(event));
        rd_kafka_event_destroy(event);
        event = NULL;
    }
    return event;
}

static const rd_kafka_ConfigResource_t *answered_resource(rd_kafka_event_t *event)
{
    size_t count;
    const rd_kafka_ConfigResource_t **resources =
        rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &count);
    return count == 1 ? resources[0] : NULL;
}

bool kafka_admin_read_settings(struct kafka_admin *admin, const char *topic, char error[KAFKA_ERROR_BYTES])
{
    if (admin->settings)
        rd_kafka_event_destroy(admin->settings);
    rd_kafka_ConfigResource_t *asked = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    rd_kafka_AdminOptions_t *options = admin_options(admin, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_DescribeConfigs(admin->handle, &asked, 1, options, admin->answers);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_ConfigResource_destroy(asked);
    admin->settings = await_answer(admin, topic, error);
    if (!admin->settings)
        return false;
    const rd_kafka_ConfigResource_t *answer = answered_resource(admin->settings);
    if (answer && !rd_kafka_ConfigResource_error(answer))
        return true;
    const char *why = answer ? rd_kafka_ConfigResource_error_string(answer) : NULL;
    return fail(error, topic, why ? why : "its settings were not answered");
}

const char *kafka_admin_setting(const struct kafka_admin *admin, const char *name)
{
    const rd_kafka_ConfigResource_t *answer = admin->settings ? answered_resource(admin->settings) : NULL;
    size_t count = 0;
    const rd_kafka_ConfigEntry_t **entries = answer ? rd_kafka_ConfigResource_configs(answer, &count) : NULL;
    for (size_t i = 0; i < count; i++)
        if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), name) == 0)
            return rd_kafka_ConfigEntry_value(entries[i]);
    return NULL;
}

static rd_kafka_NewTopic_t *new_topic(const struct kafka_new_topic *topic, char error[KAFKA_ERROR_BYTES])
{
    char reason[KAFKA_ERROR_BYTES / 2];
    rd_kafka_NewTopic_t *made = rd_kafka_NewTopic_new(topic->name, topic->partition_count,
                                                      topic->replication_factor, reason, sizeof reason);
    if (!made) {
        fail(error, topic->name, reason);
        return NULL;
    }
    for (const struct kafka_new_setting *setting = topic->settings; setting->name; setting++)
        rd_kafka_NewTopic_set_config(made, setting->name, setting->value);
    return made;
}

static bool judge_created(rd_kafka_event_t *event, const char *name, bool *existed,
                          char error[KAFKA_ERROR_BYTES])
{
    size_t count;
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    if (count != 1)
        return fail(error, name, "whether it was made was not answered");
    rd_kafka_resp_err_t code = rd_kafka_topic_result_error(results[0]);
    *existed = code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS;
    if (!code || *existed)
        return true;
    const char *why = rd_kafka_topic_result_error_string(results[0]);
    return fail(error, name, why ? why : rd_kafka_err2str(code));
}

bool kafka_admin_create(struct kafka_admin *admin, const struct kafka_new_topic *topic, bool *existed,
                        char error[KAFKA_ERROR_BYTES])
{
    char reason[KAFKA_ERROR_BYTES / 2];
    rd_kafka_NewTopic_t *made = new_topic(topic, error);
    if (!made)
        return false;
    rd_kafka_AdminOptions_t *options = admin_options(admin, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_AdminOptions_set_operation_timeout(options, admin->timeout_ms, reason, sizeof reason);
    rd_kafka_CreateTopics(admin->handle, &made, 1, options, admin->answers);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_NewTopic_destroy(made);
    rd_kafka_event_t *event = await_answer(admin, topic->name, error);
    if (!event)
        return false;
    bool done = judge_created(event, topic->name, existed, error);
    rd_kafka_event_destroy(event);
    return done;
}

/* --- offsets and the group ------------------------------------------------------------------------------ */

bool kafka_admin_watermarks(struct kafka_admin *admin, const char *topic, int32_t partition,
                            int64_t *low_offset, int64_t *high_offset, char error[KAFKA_ERROR_BYTES])
{
    rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(admin->handle, topic, partition, low_offset,
                                                                high_offset, admin->timeout_ms);
    return !code || fail(error, "its offsets could not be read", rd_kafka_err2str(code));
}

bool kafka_admin_offsets_for_times(struct kafka_admin *admin, rd_kafka_topic_partition_list_t *times,
                                   char error[KAFKA_ERROR_BYTES])
{
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(admin->handle, times, admin->timeout_ms);
    return !code || fail(error, "offsets could not be found by time", rd_kafka_err2str(code));
}

/* A group's coordinator is made with the first group, and moves with its broker: it is asked again. */
static bool may_pass(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_NOT_COORDINATOR || code == RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE ||
           code == RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS;
}

static rd_kafka_event_t *ask_group(struct kafka_admin *admin, const char *group,
                                   char error[KAFKA_ERROR_BYTES])
{
    rd_kafka_AdminOptions_t *options = admin_options(admin, RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS);
    rd_kafka_DescribeConsumerGroups(admin->handle, &group, 1, options, admin->answers);
    rd_kafka_AdminOptions_destroy(options);
    return await_answer(admin, group, error);
}

static const rd_kafka_ConsumerGroupDescription_t *answered_group(rd_kafka_event_t *event)
{
    size_t count;
    const rd_kafka_ConsumerGroupDescription_t **groups = rd_kafka_DescribeConsumerGroups_result_groups(
        rd_kafka_event_DescribeConsumerGroups_result(event), &count);
    return count == 1 ? groups[0] : NULL;
}

const rd_kafka_ConsumerGroupDescription_t *kafka_admin_group(struct kafka_admin *admin, const char *group,
                                                             rd_kafka_event_t **event,
                                                             char error[KAFKA_ERROR_BYTES])
{
    int64_t deadline_ms = system_steady_ms() + admin->timeout_ms;
    while ((*event = ask_group(admin, group, error))) {
        const rd_kafka_ConsumerGroupDescription_t *answer = answered_group(*event);
        const rd_kafka_error_t *why = answer ? rd_kafka_ConsumerGroupDescription_error(answer) : NULL;
        if (answer && !why)
            return answer;
        fail(error, group, why ? rd_kafka_error_string(why) : "the group was not answered");
        bool again = why && may_pass(rd_kafka_error_code(why)) && system_steady_ms() < deadline_ms;
        rd_kafka_event_destroy(*event);
        *event = NULL;
        if (!again)
            break;
        nanosleep(&(struct timespec){.tv_nsec = AGAIN_MS * 1000000L}, NULL);
    }
    return NULL;
}
