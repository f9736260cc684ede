/* Holds one counter against one ceiling, and makes the transition that follows. Private to ceiling_*.c. */
#ifndef UB_CEILING_JUDGE_H
#define UB_CEILING_JUDGE_H

#include "ceiling_rows.h"

/* Why a counter is looked at, and who hears of the decision. */
struct cause {
    enum decision_source source;
    int64_t now_us;
    const struct event *event; /* NULL unless DECIDED_BY_EVENT */
    struct ceiling_origin origin;
    ceiling_decided decided;
    void *context;
};
bool judge_counted(struct ceiling_book *book, const struct ceiling *ceiling, uint32_t counter,
                   decimal_t before, const struct cause *cause);

#endif
