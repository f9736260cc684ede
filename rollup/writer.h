/* The writer: a thread for each link of the store, which does the link's jobs one at a time, in the order
 * submitted, so that the engine never waits for PostgreSQL. One thread submits and polls. */
#ifndef UB_WRITER_H
#define UB_WRITER_H

#include "store.h"

/* Does a job in the thread of its link; may take as long as it needs. */
typedef void (*writer_perform)(void *context, struct store_job *job);

struct writer;

/* NULL: no thread or no memory. */
struct writer *writer_start(writer_perform perform, void *context);

/* The port that the engine uses; submit() never blocks. Valid until writer_stop(). */
struct store writer_store(struct writer *writer);

/* Readable while finished jobs wait to be polled: wakes a poll(2). Polling until NULL makes it unreadable
 * again. */
int writer_descriptor(const struct writer *writer);

/* Lets the jobs under way end (interrupt them beforehand, if they must end soon), does no other, and ends the
 * threads. Jobs not polled are returned as a list by `next`, finished ones first; those never begun have
 * status STORE_LOST. */
struct store_job *writer_stop(struct writer *writer);

#endif
