#include "kafka_options.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "log.h"

struct setting {
    const char *name;
    const char *value;
};

/* Behind each other: a role's own settings follow those of all roles. NULL ends a list. */
static const struct setting every_role[] = {{"client.id", "usagebox"},
                                            {"socket.nagle.disable", "true"},
                                            {"allow.auto.create.topics", "false"},
                                            {"reconnect.backoff.max.ms", "1000"},
                                            {"topic.metadata.refresh.interval.ms", "10000"},
                                            {NULL, NULL}};

/* An idle partition costs a request per fetch.wait.max.ms and broker; a partition just assigned waits that
 * long for the fetch that is under way. fetch.error.backoff.ms is how long a partition pauses after a passing
 * error. */
#define READING                                                                                              \
    {"auto.offset.reset", "error"}, {"isolation.level", "read_committed"}, {"check.crcs", "true"},           \
        {"enable.partition.eof", "true"}, {"enable.auto.commit", "false"},                                   \
        {"enable.auto.offset.store", "false"},                                                               \
    {                                                                                                        \
        "fetch.error.backoff.ms", "50"                                                                       \
    }

/* Read ahead of the engine for each partition: 4,000 messages, or librdkafka's default of 64 MiB if that is
 * less; and what fetches add to that before it is noticed, which compression multiplies. The session is as
 * short as brokers allow with some room: until it ends, nobody counts a dead process's lanes. */
static const struct setting member[] = {READING,
                                        {"fetch.wait.max.ms", "25"},
                                        {"queued.min.messages", "4000"},
                                        {"fetch.message.max.bytes", "262144"},
                                        {"partition.assignment.strategy", "range"},
                                        {"session.timeout.ms", "10000"},
                                        {"heartbeat.interval.ms", "1000"},
                                        {NULL, NULL}};
static const struct setting reader[] = {READING,
                                        {"fetch.wait.max.ms", "25"},
                                        {"queued.min.messages", "10000"},
                                        {"queued.max.messages.kbytes", "16384"},
                                        {NULL, NULL}};

/* Our own flags come back here, and only a takeover waits for any: without a least, each flag that is
 * appended costs the brokers a fetch of its own, in the way of the flags behind it. What there is comes after
 * 25 ms. */
static const struct setting tail[] = {READING,
                                      {"fetch.wait.max.ms", "25"},
                                      {"fetch.min.bytes", "262144"},
                                      {"queued.min.messages", "10000"},
                                      {"queued.max.messages.kbytes", "16384"},
                                      {NULL, NULL}};

/* A consumer, for asking about a topic must never make it. */
static const struct setting admin[] = {{"log_level", "0"}, {"socket.timeout.ms", "10000"}, {NULL, NULL}};

#define SENDING                                                                                              \
    {"enable.idempotence", "true"}, {"acks", "all"},                                                         \
    {                                                                                                        \
        "retry.backoff.ms", "50"                                                                             \
    }

/* message.timeout.ms 0: a flag waits for the brokers as long as they are away */
static const struct setting flagger[] = {
    SENDING, {"linger.ms", "0"}, {"message.timeout.ms", "0"}, {NULL, NULL}};
/* message.max.bytes: what is too large for UsageBox must be sendable, to be refused by it and not by us */
static const struct setting producer[] = {SENDING,
                                          {"linger.ms", "0.5"},
                                          {"message.timeout.ms", "60000"},
                                          {"message.max.bytes", "4194304"},
                                          {"compression.type", "lz4"},
                                          {"queue.buffering.max.messages", "100000"},
                                          {NULL, NULL}};

static const struct {
    const struct setting *settings;
    rd_kafka_type_t type;
    int events;
} roles[] = {
    [KAFKA_MEMBER] = {member, RD_KAFKA_CONSUMER,
                      RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_OFFSET_COMMIT},
    [KAFKA_READER] = {reader, RD_KAFKA_CONSUMER, 0}, /* nobody polls for events: errors go to the log */
    [KAFKA_TAIL] = {tail, RD_KAFKA_CONSUMER, 0},
    [KAFKA_FLAGGER] = {flagger, RD_KAFKA_PRODUCER, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR},
    [KAFKA_PRODUCER] = {producer, RD_KAFKA_PRODUCER, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR},
    [KAFKA_ADMIN] = {admin, RD_KAFKA_CONSUMER, RD_KAFKA_EVENT_ERROR},
};

static const char own_servers[] = "not to be set here: use kafka.bootstrap_servers";
static const char own_group[] = "not to be set here: use kafka.group";
static const char own_partitioner[] = "not to be set here: use kafka.partitioner";
static const char exactness[] = "not to be set: exactly-once rests on how usagebox sets it";
static const char ownership[] = "not to be set: which process counts a lane rests on how usagebox sets it";
static const char plugins[] = "not to be set: usagebox loads no code that it was not built with";

static const struct setting refused[] = {
    {"bootstrap.servers", own_servers},
    {"metadata.broker.list", own_servers},
    {"group.id", own_group},
    {"partitioner", own_partitioner},
    {"enable.auto.commit", exactness},
    {"auto.commit.enable", exactness},
    {"enable.auto.offset.store", exactness},
    {"offset.store.method", exactness},
    {"auto.offset.reset", exactness},
    {"isolation.level", exactness},
    {"check.crcs", exactness},
    {"enable.partition.eof", exactness},
    {"topic.blacklist", exactness},
    {"enable.idempotence", exactness},
    {"acks", exactness},
    {"request.required.acks", exactness},
    {"transactional.id", exactness},
    {"message.timeout.ms", exactness},
    {"delivery.timeout.ms", exactness},
    {"partition.assignment.strategy", ownership},
    {"group.instance.id", ownership},
    {"group.protocol.type", ownership},
    {"plugin.library.paths", plugins},
};

const char *kafka_property_refusal(const char *name)
{
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (strcmp(refused[i].name, name) == 0)
            return refused[i].value;
    return NULL;
}

struct kafka_options kafka_options_of(const struct config *config)
{
    return (struct kafka_options){
        .bootstrap_servers = config->kafka.bootstrap_servers,
        .usage_topics = config->kafka.usage_topics.items,
        .usage_topic_count = config->kafka.usage_topics.count,
        .enforcement_topic = config->kafka.enforcement_topic,
        .group = config->kafka.group,
        .properties = config->kafka.properties.items,
        .property_count = config->kafka.properties.count,
    };
}

/* FAIL: each connection that broke, told at length as an error too, and once for all by "brokers are down".
 * COMMITFAIL: what Kafka is told about offsets is a courtesy. */
static enum log_level level_of(int syslog_level, const char *facility)
{
    if (strcmp(facility, "FAIL") == 0 || strcmp(facility, "COMMITFAIL") == 0)
        return LOG_DEBUG;
    return syslog_level <= 4 ? LOG_WARNING : syslog_level <= 6 ? LOG_INFO : LOG_DEBUG;
}

static void log_to_ours(const rd_kafka_t *handle, int syslog_level, const char *facility, const char *text)
{
    (void)handle;
    if (strcmp(facility, "CONFWARN") == 0) /* a property meant for another of our handles */
        return;
    log_event(level_of(syslog_level, facility), "librdkafka", LOG_TEXT("facility", facility),
              LOG_TEXT("detail", text), LOG_END);
}

static bool set(rd_kafka_conf_t *conf, const char *name, const char *value, char error[KAFKA_ERROR_BYTES])
{
    char reason[KAFKA_ERROR_BYTES / 2];
    if (rd_kafka_conf_set(conf, name, value, reason, sizeof(reason)) == RD_KAFKA_CONF_OK)
        return true;
    snprintf(error, KAFKA_ERROR_BYTES, "kafka.properties.%s: %s", name, reason);
    return false;
}

static bool set_all(rd_kafka_conf_t *conf, const struct setting *settings, char error[KAFKA_ERROR_BYTES])
{
    for (; settings->name; settings++)
        if (!set(conf, settings->name, settings->value, error))
            return false;
    return true;
}

static bool set_property(rd_kafka_conf_t *conf, const struct config_property *property,
                         char error[KAFKA_ERROR_BYTES])
{
    const char *why = kafka_property_refusal(property->name);
    if (why) {
        snprintf(error, KAFKA_ERROR_BYTES, "kafka.properties.%s: %s", property->name, why);
        return false;
    }
    bool taken = set(conf, property->name, property->value, error);
    if (!taken && property->secret) /* the reason may quote it */
        snprintf(error, KAFKA_ERROR_BYTES, "kafka.properties.%s: librdkafka refuses this value",
                 property->name);
    return taken;
}

static bool set_properties(rd_kafka_conf_t *conf, const struct kafka_options *options,
                           char error[KAFKA_ERROR_BYTES])
{
    for (size_t i = 0; i < options->property_count; i++)
        if (!set_property(conf, &options->properties[i], error))
            return false;
    return true;
}

/* librdkafka takes interceptors of messages from those of new handles alone. */
static rd_kafka_resp_err_t intercept(rd_kafka_t *handle, const rd_kafka_conf_t *conf, void *self,
                                     char *reason, size_t reason_size)
{
    const struct kafka_listener *listener = self;
    (void)conf, (void)reason, (void)reason_size;
    return rd_kafka_interceptor_add_on_acknowledgement(handle, "usagebox", listener->on_acknowledgement,
                                                       listener->self);
}

static bool add_listener(rd_kafka_conf_t *conf, const struct kafka_listener *listener,
                         char error[KAFKA_ERROR_BYTES])
{
    rd_kafka_conf_set_error_cb(conf, listener->on_error);
    rd_kafka_conf_set_opaque(conf, listener->self);
    if (!listener->on_acknowledgement)
        return true;
    rd_kafka_resp_err_t failure =
        rd_kafka_conf_interceptor_add_on_new(conf, "usagebox", intercept, (void *)listener);
    if (failure)
        snprintf(error, KAFKA_ERROR_BYTES, "Kafka client: %s", rd_kafka_err2str(failure));
    return !failure;
}

static bool configure(rd_kafka_conf_t *conf, const struct kafka_options *options, enum kafka_role role,
                      char error[KAFKA_ERROR_BYTES])
{
    rd_kafka_conf_set_log_cb(conf, log_to_ours);
    rd_kafka_conf_set_events(conf, roles[role].events);
    return set_all(conf, every_role, error) &&
           set(conf, "bootstrap.servers", options->bootstrap_servers, error) &&
           set_all(conf, roles[role].settings, error) &&
           (role != KAFKA_MEMBER || set(conf, "group.id", options->group, error)) &&
           set_properties(conf, options, error);
}

rd_kafka_t *kafka_handle_new(const struct kafka_options *options, enum kafka_role role,
                             const struct kafka_listener *listener, char error[KAFKA_ERROR_BYTES])
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if ((listener && !add_listener(conf, listener, error)) || !configure(conf, options, role, error)) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    char reason[KAFKA_ERROR_BYTES / 2];
    rd_kafka_t *handle = rd_kafka_new(roles[role].type, conf, reason, sizeof(reason)); /* takes conf */
    if (!handle) {
        rd_kafka_conf_destroy(conf);
        snprintf(error, KAFKA_ERROR_BYTES, "Kafka client: %s", reason);
    }
    return handle;
}

static void *destroy(void *handle)
{
    rd_kafka_destroy_flags(handle, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return NULL;
}

void kafka_handle_free(rd_kafka_t *handle)
{
    enum { PATIENCE_S = 5 };
    pthread_t thread;
    struct timespec deadline;
    if (!handle)
        return;
    if (pthread_create(&thread, NULL, destroy, handle) != 0) {
        destroy(handle);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += PATIENCE_S;
    if (pthread_timedjoin_np(thread, NULL, &deadline) != 0) {
        pthread_detach(thread);
        log_warning("a Kafka client does not end: leaving it behind");
    }
}
