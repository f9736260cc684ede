/* Dead letters on their way out of PostgreSQL and into a topic: rows of dead_letter as records, sent with
 * their bytes, key and headers as they were, and confirmed. */
#ifndef UB_LETTER_H
#define UB_LETTER_H

#include <jansson.h>

#include "../rollup/pg.h"
#include "kafka_options.h"
#include "record.h"

enum { LETTER_TROUBLE_BYTES = 256, LETTER_HEADERS_MOST = 8 };
enum { LETTERS_MOST = 50, LETTERS_IDS_BYTES = LETTERS_MOST * 21 + 3 }; /* sent at a time */

/* What letter_of() reads. */
#define LETTER_COLUMNS                                                                                       \
    "dead_letter_id, topic, kafka_partition, key, payload, headers, record_time, kafka_offset, reason, "     \
    "detail"

struct letter {
    int64_t id;
    const char *topic;
    int32_t partition;
    int64_t offset;
    struct text key;        /* bytes NULL: none */
    struct text payload;    /* bytes NULL: none */
    int64_t record_time_ms; /* -1: none */
    struct text reason;
    struct text detail;
    json_t *headers; /* array of [name, base64 of its value or null] */

    const char *to_topic;
    int32_t to_partition; /* RD_KAFKA_PARTITION_UA: any */
    struct text to_key;
    struct record_header added[LETTER_HEADERS_MOST]; /* behind its own */
    size_t added_count;

    bool delivered;
    bool hopeless;                      /* not delivered, and never will be: the brokers don't take it */
    char trouble[LETTER_TROUBLE_BYTES]; /* why it is not */
};

/* Views live as long as the result. On its way back to where it came from. False: out of memory. */
bool letter_of(const PGresult *result, int row, struct letter *letter);
void letter_free(struct letter *letter);

/* The ids of those that are delivered, as PostgreSQL writes an array: "{1,2}". At most LETTERS_MOST. Returns
 * out. */
const char *letters_delivered(const struct letter *letters, size_t count, char out[LETTERS_IDS_BYTES]);

/* A header of that name that is not empty. */
bool letter_has_header(const struct letter *letter, const char *name);

__attribute__((format(printf, 2, 3))) void letter_refuse(struct letter *letter, const char *format, ...);

struct letter_sender;

/* NULL: error says why. config outlives it. */
struct letter_sender *letter_sender_new(const struct config *config, char error[KAFKA_ERROR_BYTES]);
void letter_sender_free(struct letter_sender *sender);
rd_kafka_t *letter_sender_handle(const struct letter_sender *sender);

/* Sends a letter. It must stay where it is until letters_wait() has returned: then it is delivered, or
 * trouble says why not. */
void letter_send(struct letter_sender *sender, struct letter *letter);

/* Waits until each is delivered or given up: a minute at the most, or once is_over() says so. is_over may be
 * NULL. */
void letters_wait(struct letter_sender *sender, bool (*is_over)(void *context), void *context);

#endif
