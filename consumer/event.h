/* A usage event, decoded from a record, and every reason for which a record is refused. The decoder accepts
 * exactly what the rules of README.md say; what it refuses becomes a dead letter with a reason code and a
 * sentence for a person. */
#ifndef UB_EVENT_H
#define UB_EVENT_H

#include "../rollup/decimal.h"
#include "record.h"
#include "text.h"

enum event_kind { EVENT_USAGE, EVENT_CORRECTION, EVENT_RETRACTION };

/* Fields of metadata that get a column of their own. */
enum event_lifted {
    LIFTED_PROVIDER,
    LIFTED_SERVICE_TIER,
    LIFTED_GPU_TYPE,
    LIFTED_AGENT_ID,
    LIFTED_RUN_ID,
    LIFTED_PARENT_RUN_ID,
    LIFTED_USER_ID,
    LIFTED_OPERATION,
    LIFTED_TOOL_NAME,
    LIFTED_CONTEXT_WINDOW,
    LIFTED_COUNT
};
extern const char *const event_lifted_names[LIFTED_COUNT];

/* Views point into the record's value or headers, or into the decoder's arena: they live until the shorter of
 * the record's batch and decoder_reset(). An absent text is empty (length 0). */
struct event {
    struct text event_id;
    struct text customer_id;
    struct text meter;
    struct text corrects; /* event_id of the event corrected; empty for EVENT_USAGE */
    struct text reason;   /* why it is corrected; empty for EVENT_USAGE */
    struct text model;
    struct text lifted[LIFTED_COUNT];
    struct text plan_tier;
    decimal_t quantity; /* units of 10^-9; signed for corrections and retractions only */
    decimal_t credit_balance;
    decimal_t contractual_cap;
    int64_t time_us; /* event time, µs since 1970 */
    enum event_kind kind;
    bool has_credit_balance;
    bool has_contractual_cap;
    bool time_defaulted; /* the event named no timestamp: the record's was taken */
};

/* Names and meanings are public: they stand in dead_letter.reason and in metrics. Where several apply, the
 * first one of the document's (down to REFUSAL_DUPLICATE_KEY) is given, else that of the first field in the
 * order event_id, customer_id, meter, kind, quantity, timestamp, corrects, reason, metadata, model, the
 * lifted fields, policy_metadata, plan_tier, credit_balance, contractual_cap; never does the order of keys
 * matter. */
enum refusal {
    REFUSAL_NONE,
    REFUSAL_EMPTY_VALUE,
    REFUSAL_TOO_LARGE, /* over 1 MiB */
    REFUSAL_NOT_UTF8,
    REFUSAL_NOT_JSON, /* not one whole valid JSON value */
    REFUSAL_NOT_AN_OBJECT,
    REFUSAL_TOO_DEEP,      /* nested deeper than 32 */
    REFUSAL_BAD_STRING,    /* NUL or a lone surrogate, anywhere */
    REFUSAL_DUPLICATE_KEY, /* at top level */
    REFUSAL_MISSING_FIELD,
    REFUSAL_WRONG_TYPE,
    REFUSAL_OUT_OF_RANGE,      /* a field's length, characters, digits or magnitude */
    REFUSAL_BAD_TIMESTAMP,     /* not RFC 3339 with offset, nor an integer since 1970 */
    REFUSAL_CONFLICTING_FIELD, /* two spellings of one field disagree */
    REFUSAL_TOO_OLD,           /* before events.max_age */
    REFUSAL_IN_FUTURE,         /* after events.max_future */
    REFUSAL_KEY_MISMATCH,      /* the record's key is not its customer_id */
    REFUSAL_WRONG_PARTITION,   /* lies in another lane than its key says */
    REFUSAL_STORE_REFUSED,     /* only PostgreSQL refuses it: a type or a named CHECK */
    REFUSAL_NO_MEMORY,         /* no fault of the record: never a dead letter, decode it again later */
    REFUSAL_COUNT
};
extern const char *const refusal_names[REFUSAL_COUNT]; /* "empty_value", … */

enum { EVENT_VALUE_LIMIT_BYTES = 1 << 20, EVENT_DEPTH_LIMIT = 32, EVENT_LIFTED_LIMIT_BYTES = 256 };

/* Event times before 1970-01-02 are too old whatever the rules: days are counted from 1. */
struct event_rules {
    int64_t max_age_us;    /* events.max_age */
    int64_t max_future_us; /* events.max_future */
};

/* Owns the scratch memory of decoding. One thread at a time. */
struct decoder;

/* NULL only when out of memory. */
struct decoder *decoder_new(const struct event_rules *rules);
void decoder_free(struct decoder *decoder);

/* Frees the arena that the views of all earlier events may point into. */
void decoder_reset(struct decoder *decoder);

/* Decodes record into event, judging its time against now_us. Anything but REFUSAL_NONE leaves event
 * undefined and a sentence that names the field and the remedy in decoder_detail(). Never looks at the
 * record's key: its lane is judged by the pipeline. */
enum refusal event_decode(struct decoder *decoder, const struct record *record, int64_t now_us,
                          struct event *event);

/* The sentence of the last refusal; valid until the next event_decode(). */
const char *decoder_detail(const struct decoder *decoder);

#endif
