#include "migrate_topics.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "check.h"
#include "tables.h"

enum { DEFAULT_PARTITIONS = 12, DEFAULT_REPLICAS = 3, LEADER_POLL_MS = 100 };

struct making {
    const struct command_context *context;
    struct check check; /* its findings are those of the topics */
    struct topics_wanted wanted;
    int64_t made;
    int64_t was_there;
};

/* Room for an event of 1 MiB with its key and headers, and for a dead letter with all of what was too large.
 */
#define LARGEST_EVENT "2097152"
#define LARGEST_DEAD_LETTER "8388608"

static bool is_safe(const struct making *m)
{
    return m->wanted.replication_factor >= DEFAULT_REPLICAS;
}

static bool refuse(const struct making *m, const char *error)
{
    command_fail(m->context, EXIT_FAILED, "Kafka: %s", error);
    return false;
}

/* Its metadata reach the brokers one by one: what follows should find it everywhere. One that has no leaders
 * in time is not our failure: the check that follows says so. */
static bool await_leaders(struct making *m, const char *name)
{
    char error[KAFKA_ERROR_BYTES];
    struct kafka_topic topic = {.name = name};
    for (int64_t waited_us = 0; waited_us <= m->wanted.timeout_us; waited_us += LEADER_POLL_MS * 1000) {
        if (!kafka_admin_describe(m->check.kafka, &topic, 1, error))
            return refuse(m, error);
        if (topic.exists && topic.partition_count > 0 && topic.leaderless_count == 0)
            break;
        nanosleep(&(struct timespec){.tv_nsec = LEADER_POLL_MS * 1000000L}, NULL);
    }
    return true;
}

static bool make_topic(struct making *m, const char *name, const struct kafka_new_setting *settings)
{
    char error[KAFKA_ERROR_BYTES];
    bool existed = false;
    struct kafka_topic there = {.name = name};
    if (!kafka_admin_describe(m->check.kafka, &there, 1, error))
        return refuse(m, error);
    struct kafka_new_topic topic = {name, (int32_t)m->wanted.partition_count,
                                    (int32_t)m->wanted.replication_factor, settings};
    if (!there.exists && !kafka_admin_create(m->check.kafka, &topic, &existed, error))
        return refuse(m, error);
    bool made = !there.exists && !existed;
    m->made += made;
    m->was_there += !made;
    if (made && !m->context->json)
        printf("made topic %s: %d partitions, replication factor %d\n", name, topic.partition_count,
               topic.replication_factor);
    return await_leaders(m, name);
}

/* --- which settings ------------------------------------------------------------------------------------- */

static bool make_usage_topics(struct making *m, const char *retention_ms)
{
    const struct kafka_new_setting settings[] = {{"cleanup.policy", "delete"},
                                                 {"retention.ms", retention_ms},
                                                 {"retention.bytes", "-1"},
                                                 {"message.timestamp.type", "LogAppendTime"},
                                                 {"max.message.bytes", LARGEST_EVENT},
                                                 {"unclean.leader.election.enable", "false"},
                                                 {"min.insync.replicas", is_safe(m) ? "2" : "1"},
                                                 {NULL, NULL}};
    const struct config_texts *topics = &m->check.config->kafka.usage_topics;
    for (size_t i = 0; i < topics->count; i++)
        if (!make_topic(m, topics->items[i], settings))
            return false;
    return true;
}

/* Small segments and an eager cleaner: who starts reads all of it, so it should hold little but the last word
 * on each key. */
static bool make_enforcement_topic(struct making *m)
{
    const struct kafka_new_setting settings[] = {{"cleanup.policy", "compact"},
                                                 {"min.cleanable.dirty.ratio", "0.1"},
                                                 {"segment.ms", "600000"},
                                                 {"message.timestamp.type", "LogAppendTime"},
                                                 {"unclean.leader.election.enable", "false"},
                                                 {"min.insync.replicas", is_safe(m) ? "2" : "1"},
                                                 {NULL, NULL}};
    return make_topic(m, m->check.config->kafka.enforcement_topic, settings);
}

static bool make_dead_letter_topic(struct making *m, const char *retention_ms)
{
    const struct kafka_new_setting settings[] = {{"cleanup.policy", "delete"},
                                                 {"retention.ms", retention_ms},
                                                 {"max.message.bytes", LARGEST_DEAD_LETTER},
                                                 {"min.insync.replicas", is_safe(m) ? "2" : "1"},
                                                 {NULL, NULL}};
    const char *name = m->check.config->kafka.dead_letter_topic;
    return !*name || make_topic(m, name, settings);
}

/* --- how many partitions and copies --------------------------------------------------------------------- */

/* Usage topics must be alike: those that are there say how many partitions the others get. */
static bool choose_partition_count(struct making *m)
{
    char error[KAFKA_ERROR_BYTES];
    size_t count = m->check.config->kafka.usage_topics.count;
    const struct kafka_topic *topics = m->check.usage_topics;
    if (!kafka_admin_describe(m->check.kafka, m->check.usage_topics, count, error))
        return refuse(m, error);
    for (size_t i = 0; i < count; i++) {
        if (!topics[i].exists)
            continue;
        if (m->wanted.partition_count != 0 && m->wanted.partition_count != topics[i].partition_count) {
            command_fail(m->context, EXIT_FAILED,
                         "topic %s has %d partitions, not %" PRId64 ": all usage topics need the same number",
                         topics[i].name, topics[i].partition_count, m->wanted.partition_count);
            return false;
        }
        m->wanted.partition_count = topics[i].partition_count;
    }
    if (m->wanted.partition_count == 0)
        m->wanted.partition_count = DEFAULT_PARTITIONS;
    return true;
}

static void choose_replication_factor(struct making *m)
{
    int brokers = kafka_admin_broker_count(m->check.kafka);
    if (m->wanted.replication_factor == 0)
        m->wanted.replication_factor = brokers < DEFAULT_REPLICAS ? brokers : DEFAULT_REPLICAS;
}

static bool make_topics(struct making *m)
{
    char retention_ms[24];
    snprintf(retention_ms, sizeof retention_ms, "%" PRId64, m->wanted.retention_us / 1000);
    choose_replication_factor(m);
    return choose_partition_count(m) && make_usage_topics(m, retention_ms) && make_enforcement_topic(m) &&
           make_dead_letter_topic(m, retention_ms);
}

static int report(struct making *m)
{
    const struct findings *findings = m->check.findings;
    bool printed = !findings->out_of_memory;
    if (m->context->json) {
        printed = json_print(json_pack("{s:I, s:I, s:o}", "made", (json_int_t)m->made, "was_there",
                                       (json_int_t)m->was_there, "check", findings_json(findings)),
                             stdout);
    } else {
        printf("%" PRId64 " made, %" PRId64 " there already\n", m->made, m->was_there);
        findings_print(findings, stdout);
    }
    if (!printed)
        return command_fail(m->context, EXIT_FAILED, "out of memory");
    return findings->counts[FINDING_ERROR] > 0 ? EXIT_FAILED : EXIT_DONE;
}

int migrate_topics(const struct command_context *context, const struct config *config,
                   const struct topics_wanted *wanted)
{
    struct findings findings = {0};
    struct making m = {
        .context = context,
        .check = {.config = config, .findings = &findings, .timeout_ms = (int)(wanted->timeout_us / 1000)},
        .wanted = *wanted};
    int code = EXIT_FAILED;
    if (!check_reach_kafka(&m.check)) {
        if (findings.count > 0)
            command_fail(context, EXIT_FAILED, "%s: %s", findings.items[0].what, findings.items[0].remedy);
    } else if (make_topics(&m)) {
        check_topics(&m.check);
        code = report(&m);
    }
    check_close(&m.check);
    findings_free(&findings);
    return code;
}
