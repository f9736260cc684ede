/* The partitions that are being read, each from a queue of its own, and the batch of messages that is being
 * handed out. A queue left unread is back-pressure: librdkafka stops fetching for it, and nothing is lost. */
#ifndef UB_KAFKA_INTAKE_H
#define UB_KAFKA_INTAKE_H

#include "kafka_options.h"
#include "source.h"

struct kafka_intake;

/* wake_fd is rung when a queue is no longer empty. topics: the usage topics' names. NULL: out of memory. */
struct kafka_intake *kafka_intake_new(const char *const *topics, int wake_fd);
struct kafka_listener kafka_intake_listener(struct kafka_intake *intake); /* for the handle */
void kafka_intake_open(struct kafka_intake *intake, rd_kafka_t *handle);  /* once, before anything is read */

/* Gives back messages and queues. Both must be gone before their handle: kafka_intake_close(), at any time.
 */
void kafka_intake_close(struct kafka_intake *intake);
void kafka_intake_free(struct kafka_intake *intake);

/* From now on these partitions are read; queues come before rd_kafka_assign(), or messages would go to the
 * queue of the whole group. Whatever was fetched before is dropped. Returns the new generation; views handed
 * out stay valid until the next kafka_intake_next(). A partition for which memory was wanting is
 * SOURCE_BROKEN. */
uint64_t kafka_intake_begin(struct kafka_intake *intake, const struct source_position *positions,
                            size_t count);

/* The list for rd_kafka_assign(); the caller destroys it. */
rd_kafka_topic_partition_list_t *kafka_intake_list(const struct kafka_intake *intake);

/* The next RECORDS, END, BROKEN or TROUBLE, partitions taking turns. False: nothing has come. */
bool kafka_intake_next(struct kafka_intake *intake, struct source_event *event);

/* A partition whose queue has just become short, or NULL; says so once. librdkafka stops fetching for a full
 * queue and may sleep for a second before it looks at it again, unless it is woken. */
const struct source_position *kafka_intake_running_low(struct kafka_intake *intake);

/* A record that views into the message; without its headers. */
struct record kafka_record(uint32_t topic, const rd_kafka_message_t *message);

#endif
