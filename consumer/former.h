/* The dedupe keys of all lanes from before partitions were added: customers have changed lanes since, so
 * every lane asks here, too, whether an event is a repeat. Read only, and shared by the lanes of a process;
 * held by one thread's lanes. */
#ifndef UB_FORMER_H
#define UB_FORMER_H

#include "dedupe.h"

struct former {
    int64_t batch; /* keys of batches below this one */
    struct dedupe *keys;
    uint16_t *days; /* those that were open for some lane */
    size_t day_count;
    size_t holders;
};

struct former *former_new(int64_t batch); /* held once; NULL: out of memory */
bool former_add_day(struct former *former, uint16_t day);
struct former *former_hold(struct former *former);
void former_release(struct former *former); /* NULL is fine */

#endif
