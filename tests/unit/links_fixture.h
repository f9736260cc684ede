/* The engine with work for both links of the store: one commits a batch, the other streams the next. What
 * stands in committed batches is counted. */
#ifndef UB_LINKS_FIXTURE_H
#define UB_LINKS_FIXTURE_H

#include "engine_fixture.h"

/* A batch of so many rows is closed at once; rows that are worth a trip to the store are streamed. */
enum { ROWS_FULL = 16, ROWS_WORTH = 14 };

extern int64_t rows_committed;
extern bool commit_unheard; /* the next COMMIT that is lost took place */
extern int32_t fenced_lane; /* by the next COMMIT that is fenced */

struct pipeline_options small_batches(void);
void answer_commit(struct store_job *job); /* world.before, of all that is here */
void links_begin(const struct pipeline_options *options,
                 int32_t lanes);   /* in a new world, with lanes that run */
void use(int32_t lane, int count); /* so many events, long ones: "ann" of lane 0, or "cat" of lane 1 of two */

/* Silent and under way, each over a link of its own. `turned`: the other way round. */
void commit_beside_a_stream(bool turned);
void stream_beside_a_catalogue(bool turned);
void stream_beside_a_given_up_batch(bool turned); /* can't be turned, nor can the next */
void commit_beside_a_given_up_batch(bool turned);

void all_is_counted_once(const char *when); /* of lane 0 */

#endif
