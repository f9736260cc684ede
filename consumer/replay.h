/* Sends dead letters back to the usage topic that they came from: bytes untouched, under the key and in the
 * partition where they should have been, with the time of their first record. An event that was counted
 * meanwhile is found to be a repeat by its event_id: replaying counts nothing twice. */
#ifndef UB_REPLAY_H
#define UB_REPLAY_H

#include <jansson.h>

#include "config.h"

enum { REPLAY_DETAIL_BYTES = 256 };

/* A row of dead_letter, and what becomes of it. */
struct replay_letter {
    int64_t id;
    const char *topic;
    int32_t partition;
    struct text key;        /* bytes NULL: none */
    struct text payload;    /* bytes NULL: none */
    struct text headers;    /* JSON array of [name, base64 of its value or null] */
    int64_t record_time_ms; /* -1: none */

    bool ready; /* replay_plan() found nothing against it */
    bool delivered;
    struct text to_key;
    int32_t to_partition;
    char detail[REPLAY_DETAIL_BYTES]; /* why not, unless delivered */
    json_t *event;                    /* the payload, if it is a JSON object; owns to_key */
    json_t *header_list;
};

struct replay;

/* NULL: error says why. config outlives it. stored: the partitioner that was learned, if kafka.partitioner
 * doesn't name one; unknown both: murmur2. */
struct replay *replay_new(const struct config *config, enum partitioner stored, char *error,
                          size_t error_size);
void replay_free(struct replay *replay);

/* Decides where the letter goes. force: even if it has no event_id, so that it will be refused again. False:
 * out of memory. */
bool replay_plan(struct replay *replay, struct replay_letter *letter, bool force);

/* Sends a letter that is ready. Letters stay where they are until replay_wait() has returned: then each is
 * delivered, or its detail says why not. */
void replay_send(struct replay *replay, struct replay_letter *letter);
void replay_wait(struct replay *replay);

void replay_letter_free(struct replay_letter *letter);

#endif
