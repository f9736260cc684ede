/* Makes the topics that the configuration names, with settings that keep what exact counting needs. Those
 * that are there already are left alone, and checked. */
#ifndef UB_MIGRATE_TOPICS_H
#define UB_MIGRATE_TOPICS_H

#include "commands.h"

struct topics_wanted {
    int64_t partition_count;    /* 0: as many as the usage topics that are there, or else 12 */
    int64_t replication_factor; /* 0: 3, or as many as there are brokers if they are fewer */
    int64_t retention_us;       /* of the usage topics and the dead letter topic */
    int64_t timeout_us;         /* for each of Kafka's answers */
};

/* Prints what it does and what it finds. Returns the command's exit code. */
int migrate_topics(const struct command_context *context, const struct config *config,
                   const struct topics_wanted *wanted);

#endif
