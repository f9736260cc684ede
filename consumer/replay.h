/* Decides where a dead letter belongs that is to be replayed: under the key and in the partition where it
 * should have been, with the time of its first record. An event that was counted meanwhile is found to be a
 * repeat by its event_id: replaying counts nothing twice. */
#ifndef UB_REPLAY_H
#define UB_REPLAY_H

#include "letter.h"
#include "partitioner.h"

struct replay;

/* NULL: out of memory. What is given outlives it. stored: the partitioner that was learned, if
 * kafka.partitioner doesn't name one; unknown both: murmur2. */
struct replay *replay_new(const struct config *config, enum partitioner stored, rd_kafka_t *handle);
void replay_free(struct replay *replay);

/* Where one letter goes. */
struct replay_plan {
    bool ready;       /* nothing is against it; else letter->trouble says what */
    bool undecided;   /* not ready only because that could not be found out now */
    json_t *event;    /* owns letter->to_key */
    char time_ms[24]; /* of the header that is added */
};

/* force: even if it has no event_id, so that it will be refused again. The plan stays where it is until the
 * letter was sent. */
void replay_plan(struct replay *replay, struct letter *letter, bool force, struct replay_plan *plan);
void replay_plan_free(struct replay_plan *plan);

#endif
