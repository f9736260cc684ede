/* Kafka: can it be reached, and who is in the consumer group? */
#include <stdlib.h>
#include <string.h>

#include "check.h"

static const char group_where[] = "kafka.group";

static bool is_usage_topic(const struct check *check, const char *name)
{
    const struct config_texts *topics = &check->config->kafka.usage_topics;
    for (size_t i = 0; i < topics->count; i++)
        if (strcmp(topics->items[i], name) == 0)
            return true;
    return false;
}

/* A member that reads other topics is another program, or one with another configuration. */
static const char *foreign_topic(const struct check *check, const rd_kafka_MemberDescription_t *member)
{
    const rd_kafka_topic_partition_list_t *assigned =
        rd_kafka_MemberAssignment_partitions(rd_kafka_MemberDescription_assignment(member));
    for (int i = 0; assigned && i < assigned->cnt; i++)
        if (!is_usage_topic(check, assigned->elems[i].topic))
            return assigned->elems[i].topic;
    return NULL;
}

static void check_members(struct check *check, const rd_kafka_ConsumerGroupDescription_t *group)
{
    size_t count = rd_kafka_ConsumerGroupDescription_member_count(group);
    const char *assignor = rd_kafka_ConsumerGroupDescription_partition_assignor(group);
    if (count == 0)
        findings_add(check->findings, FINDING_NOTICE, group_where,
                     "no process is a member of group %s: nothing is counted now\nusagebox run starts one",
                     check->config->kafka.group);
    else if (assignor && *assignor && strcmp(assignor, "range") != 0)
        findings_add(check->findings, FINDING_ERROR, group_where,
                     "group %s shares partitions out by \"%s\": a member of it is not UsageBox\n"
                     "give UsageBox a group of its own",
                     check->config->kafka.group, assignor);
    for (size_t i = 0; i < count; i++) {
        const rd_kafka_MemberDescription_t *member = rd_kafka_ConsumerGroupDescription_member(group, i);
        const char *topic = foreign_topic(check, member);
        if (topic)
            findings_add(
                check->findings, FINDING_ERROR, group_where,
                "member %s on %s reads topic %s, which is not in kafka.usage_topics\n"
                "give each program a group of its own, and all processes of a group one configuration",
                rd_kafka_MemberDescription_client_id(member), rd_kafka_MemberDescription_host(member), topic);
    }
}

static void check_group(struct check *check)
{
    char error[KAFKA_ERROR_BYTES];
    rd_kafka_event_t *event;
    const rd_kafka_ConsumerGroupDescription_t *group =
        kafka_admin_group(check->kafka, check->config->kafka.group, &event, error);
    if (!group) {
        findings_add(check->findings, FINDING_ERROR, group_where,
                     "the consumer group can't be described: %s\n%s", error, check_group_remedy(error));
        return;
    }
    check_members(check, group);
    rd_kafka_event_destroy(event);
}

bool check_reach_kafka(struct check *check)
{
    char error[KAFKA_ERROR_BYTES];
    struct kafka_options options = kafka_options_of(check->config);
    size_t topic_count = check->config->kafka.usage_topics.count;
    check->usage_topics = calloc(topic_count, sizeof *check->usage_topics);
    if (!check->usage_topics) {
        check->findings->out_of_memory = true;
        return false;
    }
    for (size_t i = 0; i < topic_count; i++)
        check->usage_topics[i].name = check->config->kafka.usage_topics.items[i];
    check->kafka = kafka_admin_open(&options, check->timeout_ms, error);
    if (!check->kafka)
        findings_add(check->findings, FINDING_ERROR, "kafka.bootstrap_servers", "%s\n%s", error,
                     check_kafka_remedy(error));
    return check->kafka;
}

void check_kafka(struct check *check)
{
    if (!check_reach_kafka(check))
        return;
    check_topics(check);
    check_group(check);
}
