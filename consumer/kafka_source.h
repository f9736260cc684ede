/* Records from Kafka: a member of the consumer group that reads what the engine names, from the offsets that
 * it names. The usage topics' source in production; source.h is its interface. */
#ifndef UB_KAFKA_SOURCE_H
#define UB_KAFKA_SOURCE_H

#include "identity.h"
#include "kafka_options.h"
#include "source.h"

struct kafka_source;

/* Joins the group in the background; brokers that are away are waited for. What options points to must
 * outlive the source. NULL: error says why. */
struct kafka_source *kafka_source_new(const struct kafka_options *options, char error[KAFKA_ERROR_BYTES]);

/* Leaves the group at once, so that others need not wait for our session to end; a few seconds at most. */
void kafka_source_free(struct kafka_source *source);

/* Valid as long as the source. */
struct source kafka_source_interface(struct kafka_source *source);

/* What probes make fingerprints with; until it is set, probes that want one fail. */
void kafka_source_set_secret(struct kafka_source *source, const struct identity_secret *secret);

/* poll() also returns, with SOURCE_NOTHING, while fd is readable: somebody else has work for the engine, who
 * is to hear it (wake_hear()). False: KAFKA_SOURCE_WATCHED are watched already. */
enum { KAFKA_SOURCE_WATCHED = 4 };
bool kafka_source_watch(struct kafka_source *source, int fd);

#endif
