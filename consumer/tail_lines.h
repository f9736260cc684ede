/* What `usagebox tail` prints: one line for each accepted event and each flag, for a person or as JSON. */
#ifndef UB_TAIL_LINES_H
#define UB_TAIL_LINES_H

#include "../rollup/follow.h"
#include "kafka_reader.h"

struct tail_lines {
    const char *customer; /* only this one's; NULL: all */
    bool json;
    int64_t most;  /* print no more than so many; 0: no limit */
    int64_t count; /* printed */
};

/* What does not fit the filter is not printed. */
void tail_event(struct tail_lines *lines, const struct followed_event *event);
void tail_flag(struct tail_lines *lines, const struct kafka_read *read);

bool tail_is_full(const struct tail_lines *lines);

#endif
