/* Where flags go, and what the enforcement topic holds. Production: an idempotent librdkafka producer and a
 * tailing consumer (kafka_flags.h); simulation: a fake topic. Partition = lane. Polled from one thread, never
 * blocks. */
#ifndef UB_FLAG_SINK_H
#define UB_FLAG_SINK_H

#include "text.h"

struct flag_sequence {
    int64_t epoch; /* the lane's when it was published */
    int64_t count; /* of the lane's messages in that epoch, from 1 */
};

enum flag_event_kind {
    FLAG_NOTHING,
    FLAG_ACKNOWLEDGED, /* cookie's message is on the topic */
    FLAG_FAILED,       /* it is not, and won't be without another publish(): detail says why */
    FLAG_SEEN,         /* a message of the lane's partition, ours or another's, in its order there */
    FLAG_CAUGHT_UP,    /* all that the partition held when tail() was called has been seen */
    FLAG_TROUBLE       /* passes by itself; detail is for the log */
};

/* Valid until the next poll(). */
struct flag_event {
    enum flag_event_kind kind;
    int32_t lane;
    uint64_t cookie;
    struct text key;   /* of SEEN */
    struct text value; /* of SEEN; bytes NULL: a tombstone */
    bool has_sequence; /* of SEEN: the message's `sequence` header was readable */
    struct flag_sequence sequence;
    int64_t acknowledged_at_us;     /* of ACKNOWLEDGED, by the wall clock … */
    int64_t acknowledged_steady_us; /* … and by the steady one */
    const char *detail;
};

struct flag_sink {
    /* Copies and sends; value.bytes NULL: a tombstone. The sequence goes along as a header. False: the queue
     * is full, try again after poll(). */
    bool (*publish)(void *self, int32_t lane, struct text key, struct text value,
                    struct flag_sequence sequence, uint64_t cookie);
    void (*poll)(void *self, struct flag_event *event); /* returns at once; FLAG_NOTHING: no more now */
    void (*tail)(void *self, int32_t lane); /* read the lane's partition from its start, and follow it */
    void (*untail)(void *self, int32_t lane);
    void *self;
};

#endif
