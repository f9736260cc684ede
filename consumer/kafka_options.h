/* How UsageBox speaks to Kafka: one place that turns the configuration into librdkafka's, for each part that
 * a handle plays. The user's own properties come last, save those on which exact counting rests. */
#ifndef UB_KAFKA_OPTIONS_H
#define UB_KAFKA_OPTIONS_H

#include <librdkafka/rdkafka.h>

#include "config.h"

/* All of it belongs to the configuration, which must outlive what is made from it. */
struct kafka_options {
    const char *bootstrap_servers;
    const char *const *usage_topics;
    size_t usage_topic_count;
    const char *enforcement_topic;
    const char *group;
    const struct config_property *properties;
    size_t property_count;
};
struct kafka_options kafka_options_of(const struct config *config);

enum kafka_role {
    KAFKA_MEMBER,   /* a member of the consumer group: usage topics */
    KAFKA_READER,   /* reads partitions without a group */
    KAFKA_TAIL,     /* follows the enforcement topic, a little behind */
    KAFKA_FLAGGER,  /* publishes flags: each at once, in order, for as long as it takes */
    KAFKA_PRODUCER, /* publishes usage events */
    KAFKA_ADMIN     /* asks and arranges, for a command that says itself what went wrong: logs nothing */
};

enum { KAFKA_ERROR_BYTES = 512 };

struct kafka_listener {
    /* What librdkafka says of a partition in no other way, such as that its topic is gone: called by the
     * thread that reads from the partition's queue, while it does. */
    void (*on_error)(rd_kafka_t *handle, int error, const char *reason, void *self);
    /* What became of a message that was produced: called by librdkafka's thread that heard it, before the
     * report of it is queued for ours. NULL: nobody asks. */
    rd_kafka_interceptor_f_on_acknowledgement_t *on_acknowledgement;
    void *self;
};

/* A configured handle, its logs in ours. listener may be NULL. NULL: error says why. */
rd_kafka_t *kafka_handle_new(const struct kafka_options *options, enum kafka_role role,
                             const struct kafka_listener *listener, char error[KAFKA_ERROR_BYTES]);

/* Destroys it, or leaves it to itself after a few seconds and says so in the log: a librdkafka that waits for
 * ever for a thread of its own must not keep a process from ending. NULL: nothing. */
void kafka_handle_free(rd_kafka_t *handle);

/* Why the user must not set this property, as a sentence that follows its name; NULL: he may. Refused is:
 *   what has a key of its own:       bootstrap.servers, metadata.broker.list, group.id, partitioner
 *   what exact counting rests on:    enable.auto.commit, auto.commit.enable, enable.auto.offset.store,
 *     offset.store.method, auto.offset.reset, isolation.level, check.crcs, enable.partition.eof,
 * topic.blacklist, enable.idempotence, acks, request.required.acks, transactional.id, message.timeout.ms,
 * delivery.timeout.ms what the ownership of lanes rests on: partition.assignment.strategy, group.instance.id,
 * group.protocol.type code that is loaded by name:     plugin.library.paths */
const char *kafka_property_refusal(const char *name);

#endif
