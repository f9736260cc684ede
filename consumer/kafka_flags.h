/* Flags to and from the enforcement topic: an idempotent producer, and a reader of what the partitions hold.
 * flag_sink.h is its interface. */
#ifndef UB_KAFKA_FLAGS_H
#define UB_KAFKA_FLAGS_H

#include "flag_sink.h"
#include "kafka_options.h"

struct kafka_flags;

/* Connects in the background; brokers that are away are waited for, and what was published meanwhile too.
 * What options points to must outlive it. NULL: error says why.
 *
 * FAILED comes half a second after the failure, so that one that does not pass is not tried without pause. */
struct kafka_flags *kafka_flags_new(const struct kafka_options *options, char error[KAFKA_ERROR_BYTES]);

/* Gives messages that are not acknowledged yet up to wait_ms to be. */
void kafka_flags_free(struct kafka_flags *flags, int wait_ms);

/* Valid as long as flags. Its poll() hears the bell. */
struct flag_sink kafka_flags_interface(struct kafka_flags *flags);

/* Rung when poll() has something to say: for kafka_source_watch(). */
int kafka_flags_wake_fd(const struct kafka_flags *flags);

#endif
