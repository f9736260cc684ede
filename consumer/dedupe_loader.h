/* Brings stored dedupe segments into a table, faster than key by key: gathers many keys and puts them in
 * shard by shard, so that what the processor fetches of a shard serves them all. A table is far larger than
 * its caches. */
#ifndef UB_DEDUPE_LOADER_H
#define UB_DEDUPE_LOADER_H

#include "dedupe.h"

struct dedupe_loader;

struct dedupe_loader *dedupe_loader_new(void); /* some 10 MB; NULL: out of memory */
void dedupe_loader_free(struct dedupe_loader *loader);

/* Adds a whole segment, now or when more have come. Cheap as long as one table and day follow themselves.
 * False: it is malformed or memory ran out. */
bool dedupe_loader_add(struct dedupe_loader *loader, struct dedupe *dedupe, uint16_t day,
                       const uint8_t *bytes, size_t size_bytes);

/* Puts in what is still gathered. */
bool dedupe_loader_finish(struct dedupe_loader *loader);

#endif
