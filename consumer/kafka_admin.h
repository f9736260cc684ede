/* What a command asks the brokers and has them arrange: topics, their settings, offsets, the consumer group.
 * Each call waits for its answer, for the time-out at the most; one thread at a time. */
#ifndef UB_KAFKA_ADMIN_H
#define UB_KAFKA_ADMIN_H

#include "kafka_options.h"

struct kafka_admin;

/* Reaches the cluster and authenticates. Fails at once where waiting would not help. NULL: error says why. */
struct kafka_admin *kafka_admin_open(const struct kafka_options *options, int timeout_ms,
                                     char error[KAFKA_ERROR_BYTES]);
void kafka_admin_close(struct kafka_admin *admin);

int kafka_admin_broker_count(const struct kafka_admin *admin);

struct kafka_topic {
    const char *name; /* the caller's */
    bool exists;
    int32_t partition_count;
    int32_t least_replicas;   /* of any partition */
    int32_t leaderless_count; /* partitions without a leader */
};

/* Fills in what follows each name. A topic that this user may not see doesn't exist. */
bool kafka_admin_describe(struct kafka_admin *admin, struct kafka_topic *topics, size_t count,
                          char error[KAFKA_ERROR_BYTES]);

/* Reads a topic's settings, broker defaults included; kafka_admin_setting() then looks them up until the next
 * call, NULL: there is none of that name. */
bool kafka_admin_read_settings(struct kafka_admin *admin, const char *topic, char error[KAFKA_ERROR_BYTES]);
const char *kafka_admin_setting(const struct kafka_admin *admin, const char *name);

struct kafka_new_topic {
    const char *name;
    int32_t partition_count;
    int32_t replication_factor;
    const struct kafka_new_setting {
        const char *name;
        const char *value;
    } * settings; /* ends with a NULL name */
};

/* *existed: another was faster, which is no failure. */
bool kafka_admin_create(struct kafka_admin *admin, const struct kafka_new_topic *topic, bool *existed,
                        char error[KAFKA_ERROR_BYTES]);

bool kafka_admin_watermarks(struct kafka_admin *admin, const char *topic, int32_t partition,
                            int64_t *low_offset, int64_t *high_offset, char error[KAFKA_ERROR_BYTES]);

/* Each partition's offset holds a time, ms since 1970, and becomes the first offset not older than that, or
 * negative if there is none. */
bool kafka_admin_offsets_for_times(struct kafka_admin *admin, rd_kafka_topic_partition_list_t *times,
                                   char error[KAFKA_ERROR_BYTES]);

/* The group's description lives as long as *event, which the caller destroys. NULL: error says why. */
const rd_kafka_ConsumerGroupDescription_t *kafka_admin_group(struct kafka_admin *admin, const char *group,
                                                             rd_kafka_event_t **event,
                                                             char error[KAFKA_ERROR_BYTES]);

#endif
