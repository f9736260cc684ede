/* Reads the enforcement topic as anybody may: all partitions, without a group, from now, from a time or from
 * the start. Shows what lies there, message by message; judging which one counts is for whoever obeys. */
#ifndef UB_KAFKA_READER_H
#define UB_KAFKA_READER_H

#include "flag_sink.h"
#include "kafka_options.h"

struct kafka_reader;

/* since_us: INT64_MIN for all that is there, INT64_MAX for what comes from now on. wake_fd is rung when
 * something has come. NULL: error says why. */
struct kafka_reader *kafka_reader_open(const struct kafka_options *options, int64_t since_us, int wake_fd,
                                       char error[KAFKA_ERROR_BYTES]);
void kafka_reader_close(struct kafka_reader *reader);

struct kafka_read {
    int32_t partition;
    int64_t offset;
    int64_t time_us; /* when it was published, as the topic keeps it, in ms; negative: the topic doesn't */
    struct text key;
    struct text value;   /* bytes NULL: a tombstone */
    const char *trouble; /* not NULL: no message, but why one could not be read */
};

/* Valid until the next call. False: nothing has come. */
bool kafka_reader_next(struct kafka_reader *reader, struct kafka_read *read);

#endif
