/* Sends records to one usage topic, each to the partition that its key belongs in, and tells of each what
 * became of it. One thread at a time. */
#ifndef UB_SENDER_H
#define UB_SENDER_H

#include "config.h"

enum { SENDER_ERROR_BYTES = 512 };

/* partition and offset say where it is on the topic; error is NULL unless it is not. */
typedef void (*sender_report)(void *context, uint64_t cookie, int32_t partition, int64_t offset,
                              const char *error);

struct sender;

/* Asks the brokers for the topic's partitions first. config and topic outlive it. NULL: error says why. */
struct sender *sender_new(const struct config *config, const char *topic, sender_report report, void *context,
                          char error[SENDER_ERROR_BYTES]);
void sender_free(struct sender *sender);

int32_t sender_partition_count(const struct sender *sender);

/* How keys choose partitions; murmur2 unless said before the first send. Not PARTITIONER_UNKNOWN. */
void sender_partition_by(struct sender *sender, enum partitioner partitioner);

/* Copies and sends; waits while librdkafka's queue is full. key.bytes NULL: no key, any partition. Reports
 * come during sends and waits, that of a record that can't be sent at all during its own. */
void sender_send(struct sender *sender, struct text key, struct text value, uint64_t cookie);

/* Takes reports for up to timeout_ms, or until none is due. */
void sender_wait(struct sender *sender, int timeout_ms);

/* Records whose report is due. Each comes within the producer's message.timeout.ms. */
uint64_t sender_pending(const struct sender *sender);

#endif
