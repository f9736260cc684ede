/* Where records come from. Production: librdkafka (kafka_source.h); simulation: a fake broker.
 *
 * Partition i of all usage topics is lane i. The source reports which partitions the consumer group gave us
 * and consumes only what source_consume() names, from the offsets it names. Everything is polled from one
 * thread and nothing blocks longer than the poll's timeout. */
#ifndef UB_SOURCE_H
#define UB_SOURCE_H

#include "record.h"

struct source_position {
    uint32_t topic; /* index into kafka.usage_topics */
    int32_t partition;
    int64_t offset; /* the next one wanted */
};

enum source_event_kind {
    SOURCE_NOTHING, /* the poll timed out */
    SOURCE_RECORDS, /* records of one partition, offsets rising */
    SOURCE_END, /* nothing more at offset: the next record to come will have this offset or a higher one */
    SOURCE_ASSIGNED, /* the group's whole assignment is now `assigned` */
    SOURCE_REVOKED,  /* stop; call release() within a few seconds. lost: it is already somebody else's */
    SOURCE_PROBED,   /* the answer to probe() */
    SOURCE_BROKEN,   /* this partition can't go on (`detail` says why): out of range, corrupt batch, gone */
    SOURCE_TROUBLE   /* brokers away, authentication failed …: passes by itself; `detail` is for the log */
};

struct source_probe {
    uint64_t question;       /* its number, as it was asked */
    int64_t low_offset;      /* the log's start */
    int64_t high_offset;     /* its end, as read_committed sees it */
    int64_t asked_at_us;     /* clock time just before the brokers were asked */
    int32_t partition_count; /* of the topic */
    int64_t asked_offset;    /* whose record was asked for; -1: none */
    bool found;              /* the record asked for exists, and these are its: */
    uint64_t fingerprint;    /* identity_fingerprint() */
};

/* Valid until the next poll(). */
struct source_event {
    enum source_event_kind kind;
    uint32_t topic;
    int32_t partition;
    uint64_t generation; /* of RECORDS, END, BROKEN: what consume() returned when they were fetched */
    const struct record *records;
    size_t record_count;
    int64_t offset;                         /* of END */
    const struct source_position *assigned; /* of ASSIGNED; offsets unused */
    size_t assigned_count;
    bool lost; /* of REVOKED */
    struct source_probe probe;
    bool probe_failed; /* of PROBED: ask again later; `detail` says why */
    const char *detail;
};

struct source {
    /* Fills *event with the next thing that happened. */
    void (*poll)(void *self, int timeout_ms, struct source_event *event);

    /* From now on exactly these partitions are consumed, each from its offset; whatever was fetched before is
     * dropped. Returns the new generation. Used to start lanes, to stop them and to rewind. */
    uint64_t (*consume)(void *self, const struct source_position *positions, size_t count);

    /* Back-pressure: while held, records stay unread (SOURCE_RECORDS and SOURCE_END do not come), all else
     * does. */
    void (*hold)(void *self, bool held);

    /* Asks for a partition's watermarks, and the record at fingerprint_offset unless that is -1. Answered by
     * SOURCE_PROBED, in any order; failed answers bear their question's number too. */
    void (*probe)(void *self, uint32_t topic, int32_t partition, int64_t fingerprint_offset,
                  uint64_t question);

    /* Gives up the revoked partitions: nothing of theirs is consumed any more. */
    void (*release)(void *self);

    /* A courtesy to lag monitors: tells Kafka what was committed, now and then. Never waited for. */
    void (*committed)(void *self, const struct source_position *positions, size_t count);

    void *self;
};

#endif
