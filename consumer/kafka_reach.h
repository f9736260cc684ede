/* The first words with a cluster: connect, authenticate, ask. Says why that fails in librdkafka's fullest
 * words, and at once where waiting would not help. */
#ifndef UB_KAFKA_REACH_H
#define UB_KAFKA_REACH_H

#include "kafka_options.h"

/* errors: where the handle's errors come in, such as its main queue; nothing else must be due there. topic
 * NULL: no topic. is_patient: a cluster that is down may come back within the time-out; wrong credentials
 * don't. The caller destroys the metadata. NULL: error says why. */
const struct rd_kafka_metadata *kafka_reach(rd_kafka_t *handle, rd_kafka_queue_t *errors,
                                            rd_kafka_topic_t *topic, bool is_patient, int timeout_ms,
                                            char error[KAFKA_ERROR_BYTES]);

#endif
