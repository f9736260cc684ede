/* Which events `usagebox produce --generate` makes up: from its options to a plan. */
#ifndef UB_PRODUCE_PLAN_H
#define UB_PRODUCE_PLAN_H

#include "commands.h"
#include "generate.h"

/* What the options say; texts as they were given. */
struct plan_choice {
    int64_t count;       /* 0: as many as --duration takes */
    int64_t rate_per_s;  /* 0: all at once */
    int64_t duration_us; /* 0: until all are sent */
    int64_t seed;        /* 0: any */
    const char *start;   /* NULL: not given */
    int64_t span_us;     /* 0: not given */
    int64_t customers;
    const char *duplicates, *late, *bad; /* shares */
};

/* Negative: the plan is made; else the exit code, and it was said what is wrong. */
int plan_events(const struct command_context *context, const struct plan_choice *choice,
                struct generate_plan *plan);

#endif
