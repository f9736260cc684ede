/* Copies each dead letter to kafka.dead_letter_topic, once at least, by a thread of `usagebox run`:
 * PostgreSQL keeps what was copied, so that neither a crash nor an outage loses one, and several processes
 * share the work.
 *
 * A copy has the record's key, value and headers, and behind them usagebox_reason, usagebox_detail,
 * usagebox_topic, usagebox_partition, usagebox_offset and usagebox_time (ms since 1970). */
#ifndef UB_DEAD_LETTER_COPY_H
#define UB_DEAD_LETTER_COPY_H

#include "kafka_options.h"

struct dead_letter_copy;

/* kafka.dead_letter_topic is not empty; config outlives it. NULL: error says why. */
struct dead_letter_copy *dead_letter_copy_start(const struct config *config, char error[KAFKA_ERROR_BYTES]);

/* What is under way and not acknowledged is copied again by the next one. NULL is fine. */
void dead_letter_copy_stop(struct dead_letter_copy *copy);

#endif
