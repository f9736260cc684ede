/* Tells what became of each event that a producer sent: accepted, duplicate, conflict or refused, one line
 * each as PostgreSQL comes to know. Holds a bounded number of events at a time. One thread. */
#ifndef UB_FATES_H
#define UB_FATES_H

#include <jansson.h>

#include "commands.h"
#include "text.h"

struct fates;

/* topic: one of kafka.usage_topics. timeout_us: how long to wait without any news of the events. NULL: it was
 * said why. All arguments must outlive it. */
struct fates *fates_open(struct command_context *context, const struct config *config, const char *topic,
                         int64_t timeout_us);
void fates_close(struct fates *fates);

/* Is there no room for event `number` until earlier ones are known? Numbers rise by one. */
bool fates_is_full(const struct fates *fates, uint64_t number);

/* It is about to be sent. line: of the file, or its number. False: out of memory. */
bool fates_expect(struct fates *fates, uint64_t number, uint64_t line, struct text value);

/* Where Kafka put it; fates_drop() if it was not delivered. */
void fates_place(struct fates *fates, uint64_t number, int32_t partition, int64_t offset);
void fates_drop(struct fates *fates, uint64_t number);

/* Is it time to look? Never look while the place of an event is not known that has been sent. */
bool fates_is_due(const struct fates *fates);

/* Asks PostgreSQL once and prints what is new. False: the timeout is over. */
bool fates_look(struct fates *fates);

/* How many are not known yet. */
uint64_t fates_pending(const struct fates *fates);

/* Says where those lie that are not known, and what to look at. */
void fates_complain(struct fates *fates);

/* Was any refused or not heard of? */
bool fates_failed(const struct fates *fates);

/* How many became what: as a line, or as an object (NULL: out of memory). */
void fates_summary(const struct fates *fates);
json_t *fates_summary_json(const struct fates *fates);

#endif
