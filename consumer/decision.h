/* A decision: one transition of one state, crossed or cleared, and all that explains it. */
#ifndef UB_DECISION_H
#define UB_DECISION_H

#include "ceiling.h"

enum decision_source { DECIDED_BY_EVENT, DECIDED_BY_CLOCK, DECIDED_BY_CEILINGS, DECISION_SOURCES };
extern const char *const decision_source_names[DECISION_SOURCES]; /* "event", "clock", "ceilings" */
enum decision_reason { REASON_CROSSED, REASON_WITHIN_AGAIN, REASON_PERIOD_OVER, REASON_CEILING_GONE };

/* Where an event came from. */
struct ceiling_origin {
    uint32_t topic;
    int32_t partition;
    int64_t offset;
};

/* One transition of one state. Views live as long as the call that hands it out, unless said otherwise. */
struct decision {
    char id[33]; /* hex of 128 bits of BLAKE2b of customer, ceiling, scope, period and transition number */
    int32_t lane;
    struct text customer_id;
    struct text ceiling;
    struct text scope;
    struct text meter;
    int64_t version;
    enum ceiling_policy policy;
    enum ceiling_period period;
    int64_t period_start_us;
    int64_t period_end_us;
    int64_t transition;
    bool active;
    decimal_t limit;
    decimal_t used_before;
    decimal_t used;
    enum decision_source source;
    enum decision_reason reason;
    /* The event that caused it; event_id empty unless DECIDED_BY_EVENT. */
    struct text event_id;
    int64_t event_time_us;
    uint32_t topic;
    int32_t partition;
    int64_t offset;
    struct text plan_tier; /* the event's policy metadata, for the trace */
    bool has_credit_balance, has_contractual_cap;
    decimal_t credit_balance, contractual_cap;
    int64_t decided_at_us;
    bool published;    /* false: see ceiling_book.h */
    struct text trace; /* decision_trace as JSON; filled in by flag_trace() once it is in a batch */
};

/* Receives each decision as it is made. False stops (out of memory). */
typedef bool (*ceiling_decided)(void *context, const struct decision *decision);

#endif
