/* How a batch holds its memory: lists that grow, the index of its days and segments, and when memory goes
 * back to the system. Private to the batch. */
#ifndef UB_BATCH_MEMORY_H
#define UB_BATCH_MEMORY_H

#include "batch.h"

/* Makes room for one more item behind the `count` of a list, new memory zeroed. False: out of memory, nothing
 * changed. */
#define LIST_ROOM(list, count, capacity)                                                                     \
    ({                                                                                                       \
        void *grown_list = batch_list_grow((list), (count), &(capacity), sizeof *(list));                    \
        if (grown_list)                                                                                      \
            (list) = grown_list;                                                                             \
        grown_list != NULL;                                                                                  \
    })
void *batch_list_grow(void *list, size_t count, size_t *capacity, size_t item_bytes);

/* The rows of an open day, without the columns that the batch leaves out or with all; the keys of a lane and
 * day: made when first asked for. NULL: out of memory. */
struct batch_day *batch_day_of(struct batch *batch, uint16_t day, uint32_t left_out);
struct batch_segment *batch_segment_of(struct batch *batch, int32_t lane, uint16_t day);

/* Copies texts, which the pointers name, into the arena, in place. False: out of memory, nothing changed. */
bool batch_keep_texts(struct batch *batch, struct text *const *texts, size_t count);

#endif
