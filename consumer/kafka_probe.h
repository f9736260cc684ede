/* Questions about partitions that need an answer from the brokers, asked by a thread of its own over a
 * connection of its own: watermarks, the partition count, one record's fingerprint. The asking thread never
 * waits. */
#ifndef UB_KAFKA_PROBE_H
#define UB_KAFKA_PROBE_H

#include "identity.h"
#include "kafka_options.h"
#include "source.h"

struct kafka_probe;

/* wake_fd is rung for each answer. NULL: error says why. */
struct kafka_probe *kafka_probe_new(const struct kafka_options *options, int wake_fd,
                                    char error[KAFKA_ERROR_BYTES]);
/* Waits for the question under way, a few seconds at most. */
void kafka_probe_free(struct kafka_probe *probe);

/* What fingerprints are made with. Until it is set, probes that want one fail. */
void kafka_probe_secret(struct kafka_probe *probe, const struct identity_secret *secret);

/* fingerprint_offset -1: no fingerprint wanted. False: out of memory, there will be no answer. */
bool kafka_probe_ask(struct kafka_probe *probe, uint32_t topic, int32_t partition, int64_t fingerprint_offset,
                     uint64_t number);

/* Wakes the thread of librdkafka that fetches the partition for this handle, which must outlive the probe:
 * any question to the partition's leader does. There is no answer. */
void kafka_probe_nudge(struct kafka_probe *probe, rd_kafka_t *handle, uint32_t topic, int32_t partition);

/* The next SOURCE_PROBED, valid until the next call. False: none now. */
bool kafka_probe_answer(struct kafka_probe *probe, struct source_event *event);

#endif
