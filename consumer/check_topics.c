/* Topics: are they there, do they fit each other, do their settings keep what exact counting needs? */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { EVENT_BYTES_MAX = 1048576, RETENTION_LEAST_MS = 86400000, REPLICAS_WANTED = 3 };

struct topic_check {
    struct check *check;
    const struct kafka_topic *topic;
    char where[CHECK_WHERE_BYTES];
};

#define FIND(checked, level, ...)                                                                            \
    findings_add((checked)->check->findings, (level), (checked)->where, __VA_ARGS__)

/* What an operator types to change a topic's setting. */
#define ALTER "kafka-configs.sh --alter --topic %s --add-config "

static struct topic_check begin(struct check *check, const struct kafka_topic *topic)
{
    struct topic_check checked = {check, topic, ""};
    snprintf(checked.where, sizeof checked.where, "topic %s", topic->name);
    return checked;
}

static bool setting_is(const struct topic_check *t, const char *name, const char *value)
{
    const char *found = kafka_admin_setting(t->check->kafka, name);
    return found && strcmp(found, value) == 0;
}

static int64_t setting_number(const struct topic_check *t, const char *name, int64_t absent)
{
    const char *found = kafka_admin_setting(t->check->kafka, name);
    return found ? strtoll(found, NULL, 10) : absent;
}

/* --- what all topics have in common --------------------------------------------------------------------- */

static bool check_existence(const struct topic_check *t)
{
    if (!t->topic->exists)
        FIND(t, FINDING_ERROR,
             "there is no such topic, or this user may not see it\nusagebox migrate --topics makes it");
    else if (t->topic->leaderless_count > 0)
        FIND(t, FINDING_ERROR,
             "%d of its %d partitions have no leader: they can't be read or written\nlook at the brokers "
             "that hold them",
             t->topic->leaderless_count, t->topic->partition_count);
    return t->topic->exists;
}

static bool read_settings(const struct topic_check *t)
{
    char error[KAFKA_ERROR_BYTES];
    if (kafka_admin_read_settings(t->check->kafka, t->topic->name, error))
        return true;
    FIND(t, FINDING_WARNING, "its settings can't be checked: %s\nallow this user DescribeConfigs on it",
         error);
    return false;
}

static void check_replicas(const struct topic_check *t)
{
    int32_t replicas = t->topic->least_replicas;
    int64_t in_sync = setting_number(t, "min.insync.replicas", 1);
    if (replicas == 1)
        FIND(t, FINDING_WARNING,
             "its replication factor is 1: a broker that is lost takes what it held along\n"
             "keep %d copies in production (kafka-reassign-partitions.sh)",
             REPLICAS_WANTED);
    else if (replicas >= REPLICAS_WANTED && in_sync < 2)
        FIND(t, FINDING_WARNING,
             "min.insync.replicas is %" PRId64
             ": what one broker alone has acknowledged can be lost with it\n" ALTER "min.insync.replicas=2",
             in_sync, t->topic->name);
}

static void check_elections(const struct topic_check *t, enum finding_level level)
{
    if (setting_is(t, "unclean.leader.election.enable", "true"))
        FIND(t, level,
             "unclean.leader.election.enable is true: a broker that lags behind may become leader, and "
             "acknowledged records vanish\n" ALTER "unclean.leader.election.enable=false",
             t->topic->name);
}

/* --- usage topics --------------------------------------------------------------------------------------- */

static void check_retention(const struct topic_check *t)
{
    int64_t retention_ms = setting_number(t, "retention.ms", -1);
    int64_t retention_bytes = setting_number(t, "retention.bytes", -1);
    if (retention_ms >= 0 && retention_ms < RETENTION_LEAST_MS)
        FIND(t, FINDING_WARNING,
             "retention.ms is %" PRId64
             ", less than a day: an outage of that length loses events that were not read yet\n" ALTER
             "retention.ms=604800000",
             retention_ms, t->topic->name);
    if (retention_bytes >= 0)
        FIND(t, FINDING_WARNING,
             "retention.bytes is %" PRId64
             " a partition: beyond that events are removed whether they were read or not\n" ALTER
             "retention.bytes=-1",
             retention_bytes, t->topic->name);
}

static void check_usage_settings(const struct topic_check *t)
{
    const char *policy = kafka_admin_setting(t->check->kafka, "cleanup.policy");
    int64_t message_bytes = setting_number(t, "max.message.bytes", EVENT_BYTES_MAX);
    if (policy && strstr(policy, "compact"))
        FIND(t, FINDING_ERROR,
             "cleanup.policy is %s: compaction removes all but a customer's last event\n" ALTER
             "cleanup.policy=delete",
             policy, t->topic->name);
    check_elections(t, FINDING_ERROR);
    check_replicas(t);
    check_retention(t);
    if (setting_is(t, "message.timestamp.type", "CreateTime"))
        FIND(t, FINDING_NOTICE,
             "message.timestamp.type is CreateTime: retention and usage_watermark go by producers' "
             "clocks\n" ALTER "message.timestamp.type=LogAppendTime",
             t->topic->name);
    if (message_bytes < EVENT_BYTES_MAX)
        FIND(t, FINDING_NOTICE,
             "max.message.bytes is %" PRId64
             ": brokers refuse events beyond it, though UsageBox takes 1 MiB\n" ALTER
             "max.message.bytes=2097152",
             message_bytes, t->topic->name);
}

static void check_usage_topic(struct check *check, const struct kafka_topic *topic)
{
    struct topic_check t = begin(check, topic);
    const struct kafka_topic *first = &check->usage_topics[0];
    if (!check_existence(&t))
        return;
    if (first->exists && topic->partition_count != first->partition_count)
        FIND(&t, FINDING_ERROR,
             "it has %d partitions and %s has %d: partition i of all usage topics is one lane, and nothing "
             "is read until they are alike\n"
             "add partitions to the smaller one before anything is produced to it (kafka-topics.sh --alter "
             "--partitions)",
             topic->partition_count, first->name, first->partition_count);
    if (read_settings(&t))
        check_usage_settings(&t);
}

/* --- the enforcement topic ------------------------------------------------------------------------------ */

static void check_lane_count(const struct topic_check *t)
{
    const struct kafka_topic *usage = &t->check->usage_topics[0];
    if (!usage->exists || t->topic->partition_count == usage->partition_count)
        return;
    bool fewer = t->topic->partition_count < usage->partition_count;
    FIND(t, fewer ? FINDING_ERROR : FINDING_WARNING,
         "it has %d partitions and %s has %d: a lane's flags go to the partition of the same number\n%s",
         t->topic->partition_count, usage->name, usage->partition_count,
         fewer ? "add partitions to it (kafka-topics.sh --alter --partitions)"
               : "harmless; readers assign partitions in vain");
}

static void check_compaction(const struct topic_check *t)
{
    const char *policy = kafka_admin_setting(t->check->kafka, "cleanup.policy");
    if (!policy || strcmp(policy, "compact") == 0)
        return;
    FIND(t, FINDING_ERROR,
         "cleanup.policy is %s: flags that are in force are removed once they are old\n" ALTER
         "cleanup.policy=compact",
         policy, t->topic->name);
}

static void check_enforcement_topic(struct check *check, const struct kafka_topic *topic)
{
    struct topic_check t = begin(check, topic);
    if (!check_existence(&t))
        return;
    check_lane_count(&t);
    if (!read_settings(&t))
        return;
    check_compaction(&t);
    check_elections(&t, FINDING_WARNING);
    check_replicas(&t);
}

/* --- the dead letter topic ------------------------------------------------------------------------------ */

static void check_dead_letter_topic(struct check *check, const struct kafka_topic *topic)
{
    struct topic_check t = begin(check, topic);
    if (!check_existence(&t) || !read_settings(&t))
        return;
    const char *policy = kafka_admin_setting(check->kafka, "cleanup.policy");
    if (policy && strstr(policy, "compact"))
        FIND(&t, FINDING_WARNING,
             "cleanup.policy is %s: of a customer's dead letters only the last is kept here\n" ALTER
             "cleanup.policy=delete",
             policy, topic->name);
    check_replicas(&t);
}

void check_topics(struct check *check)
{
    char error[KAFKA_ERROR_BYTES];
    const struct config *config = check->config;
    struct kafka_topic others[] = {{.name = config->kafka.enforcement_topic},
                                   {.name = config->kafka.dead_letter_topic}};
    size_t other_count = *others[1].name ? 2 : 1;
    if (!kafka_admin_describe(check->kafka, check->usage_topics, config->kafka.usage_topics.count, error) ||
        !kafka_admin_describe(check->kafka, others, other_count, error)) {
        findings_add(check->findings, FINDING_ERROR, "kafka.usage_topics",
                     "topics can't be described: %s\nallow this user Describe on them", error);
        return;
    }
    for (size_t i = 0; i < config->kafka.usage_topics.count; i++)
        check_usage_topic(check, &check->usage_topics[i]);
    check_enforcement_topic(check, &others[0]);
    if (other_count == 2)
        check_dead_letter_topic(check, &others[1]);
}
