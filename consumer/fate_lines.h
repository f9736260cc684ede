/* What `usagebox produce --wait` prints of each event, for a person or as one JSON object a line. */
#ifndef UB_FATE_LINES_H
#define UB_FATE_LINES_H

#include "../rollup/outcomes.h"

struct fate_event { /* the one that a line is about */
    bool json;
    uint64_t line; /* of the producer's file, or its number */
    const char *topic;
    const struct outcome_key *key;
};

struct fate_difference {
    struct text field, value, first;
};

void fate_accepted(const struct fate_event *event, struct text quantity);
void fate_duplicate(const struct fate_event *event);
void fate_conflict(const struct fate_event *event, const struct fate_difference *differences, size_t count);
void fate_refused(const struct fate_event *event, struct text reason, struct text detail);

/* row: of outcome_decisions() */
void fate_flag(const struct fate_event *event, const PGresult *result, int row);

#endif
