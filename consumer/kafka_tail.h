/* Partitions of the enforcement topic, read from their start and followed, without a group. */
#ifndef UB_KAFKA_TAIL_H
#define UB_KAFKA_TAIL_H

#include "flag_sink.h"
#include "kafka_options.h"

struct kafka_tail;

/* wake_fd is rung when something has come. NULL: error says why. */
struct kafka_tail *kafka_tail_new(const struct kafka_options *options, int wake_fd,
                                  char error[KAFKA_ERROR_BYTES]);
void kafka_tail_free(struct kafka_tail *tail);

/* From the partition's start, even if it is being read already. */
void kafka_tail_begin(struct kafka_tail *tail, int32_t lane);
void kafka_tail_end(struct kafka_tail *tail, int32_t lane);

/* The next SEEN, CAUGHT_UP or TROUBLE, valid until the next call. False: nothing has come. */
bool kafka_tail_next(struct kafka_tail *tail, struct flag_event *event);

/* Reads "[12,88123]". False: it is something else. */
bool kafka_sequence_parse(struct text text, struct flag_sequence *sequence);

#endif
