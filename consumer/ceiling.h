/* Ceilings of one lane: counts what customers use per period and says when a ceiling is crossed or cleared.
 *
 * A counter (customer, meter, period, scope) is what ceilings look at; ceilings that count the same thing share
 * one. A state (customer, ceiling, scope, period) says whether the ceiling is crossed and how often that changed.
 * Crossed means used > limit; cleared means used <= clear_level again, or the period's end. Pure memory; all
 * changes go through a journal, so that whatever was not committed can be undone. */
#ifndef UB_CEILING_H
#define UB_CEILING_H

#include "arena.h"
#include "event.h"

enum ceiling_period { PERIOD_HOUR, PERIOD_DAY, PERIOD_MONTH, PERIOD_COUNT }; /* UTC */
enum ceiling_policy { POLICY_ALERT, POLICY_THROTTLE, POLICY_HARD_STOP, POLICY_COUNT };
enum ceiling_who { WHO_EVERYONE, WHO_CUSTOMER, WHO_PLAN, WHO_COUNT };
enum ceiling_scope { SCOPE_CUSTOMER, SCOPE_COUNT }; /* what each counter counts: a whole customer */
extern const char *const ceiling_period_names[PERIOD_COUNT]; /* "hour", … */
extern const char *const ceiling_policy_names[POLICY_COUNT]; /* "alert", "throttle", "hard-stop" */
extern const char *const ceiling_who_names[WHO_COUNT];       /* "everyone", "customer", "plan" */
extern const char *const ceiling_scope_names[SCOPE_COUNT];   /* "customer" */

struct ceiling {
    struct text name;
    int64_t version; /* rises with every change of this name's definition */
    enum ceiling_who who_kind;
    struct text who; /* customer_id or plan; empty for everyone */
    enum ceiling_scope scope;
    struct text meter;
    enum ceiling_period period;
    enum ceiling_policy policy;
    decimal_t limit;
    decimal_t clear_level; /* <= limit */
    int64_t created_at_us; /* of this name's first version: periods that ended before are not judged */
};

/* All ceilings in force at one generation. Immutable once filled; owned by whoever frees it, and must outlive the
 * books that were given it. */
struct ceiling_catalogue {
    int64_t generation; /* rises with every `ceilings apply` that changed something; 0: none ever */
    struct arena *arena;
    struct ceiling *ceilings;
    size_t count;
};
struct ceiling_catalogue *ceiling_catalogue_new(size_t capacity);
/* Copies the ceiling's texts. False: out of memory or over capacity. */
bool ceiling_catalogue_add(struct ceiling_catalogue *catalogue, const struct ceiling *ceiling);
void ceiling_catalogue_free(struct ceiling_catalogue *catalogue);

int64_t ceiling_period_start(enum ceiling_period period, int64_t time_us);
int64_t ceiling_period_end(enum ceiling_period period, int64_t time_us);

/* A row of ceiling_usage. */
struct ceiling_counter {
    struct text customer_id;
    struct text meter;
    enum ceiling_period period;
    struct text scope; /* JSON object, canonical; "{}" for SCOPE_CUSTOMER */
    int64_t period_start_us;
    decimal_t used;
};

/* A row of ceiling_state. */
struct ceiling_state {
    struct text customer_id;
    struct text ceiling;
    struct text scope;
    int64_t period_start_us;
    int64_t period_end_us;
    int64_t version;    /* of the ceiling, at the last transition */
    int64_t transition; /* number of the last transition: odd crossed, even cleared */
    bool active;
    char decision_id[33]; /* of the last transition */
    struct text flag;     /* decision_trace->'flag' of that decision: the message without its sequence. In changes
                             the book leaves it empty. */
};

struct ceiling_change {
    int32_t lane;
    bool is_state;
    union {
        struct ceiling_counter counter;
        struct ceiling_state state;
    };
};

enum decision_source { DECIDED_BY_EVENT, DECIDED_BY_CLOCK, DECIDED_BY_CEILINGS, DECISION_SOURCES };
extern const char *const decision_source_names[DECISION_SOURCES]; /* "event", "clock", "ceilings" */

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
    bool published;      /* false: its period was over when it was decided by an event */
    struct text trace;   /* decision_trace as JSON; filled in by flag_trace() once it is in a batch */
};

/* Receives each decision as it is made. False stops (out of memory). */
typedef bool (*ceiling_decided)(void *context, const struct decision *decision);

struct ceiling_book;
struct ceiling_book *ceiling_book_new(int32_t lane);
void ceiling_book_free(struct ceiling_book *book);

/* Takeover: rows as the store holds them, then the catalogue that the lane had adopted. They copy. */
bool ceiling_book_restore_counter(struct ceiling_book *book, const struct ceiling_counter *counter);
bool ceiling_book_restore_state(struct ceiling_book *book, const struct ceiling_state *state);
void ceiling_book_use(struct ceiling_book *book, const struct ceiling_catalogue *catalogue);

/* Counts one accepted event in every counter that a ceiling (adopted or shadow) looks at, then judges the adopted
 * ones. False: out of memory or overflow; undo to the last mark. */
struct ceiling_origin {
    uint32_t topic;
    int32_t partition;
    int64_t offset;
};
bool ceiling_book_count(struct ceiling_book *book, const struct event *event, struct ceiling_origin origin,
                        int64_t now_us, ceiling_decided decided, void *context);
/* Does any counter of the adopted or shadow catalogue count this event? */
bool ceiling_book_counts(const struct ceiling_book *book, const struct event *event);

/* Judges every counter again: after a takeover, or after an adoption (a raised or lowered limit, a ceiling gone:
 * its active states are cleared). */
bool ceiling_book_judge(struct ceiling_book *book, enum decision_source source, int64_t now_us, ceiling_decided decided, void *context);

/* Clears every active state whose period is over, whether its customer is idle or not. */
bool ceiling_book_tick(struct ceiling_book *book, int64_t now_us, ceiling_decided decided, void *context);
int64_t ceiling_book_next_end_us(const struct ceiling_book *book); /* INT64_MAX: no state is active */

/* A new catalogue: shadow() at a batch boundary starts counting what it needs and nothing counts yet; then seed()
 * each sum that the store read right after that boundary's commit (it adds to what the shadow has counted since); adopt() at
 * a later boundary makes it the catalogue that decides. Undoing past shadow() is the caller's affair: cancel(). */
bool ceiling_book_shadow(struct ceiling_book *book, const struct ceiling_catalogue *catalogue);
bool ceiling_book_wants_seed(const struct ceiling_book *book, struct text customer_id, struct text meter, enum ceiling_period period, struct text scope);
bool ceiling_book_seed(struct ceiling_book *book, const struct ceiling_counter *sum);
bool ceiling_book_adopt(struct ceiling_book *book);
void ceiling_book_cancel(struct ceiling_book *book);
const struct ceiling_catalogue *ceiling_book_catalogue(const struct ceiling_book *book);

/* The journal: positions rise with every change. undo() takes back all after a mark, newest first; commit()
 * forgets how to take back what lies before a mark; changes() hands out the present row of each counter and state
 * touched since a mark (adopted counters all count as touched by adopt()), once each. */
uint64_t ceiling_book_mark(const struct ceiling_book *book);
void ceiling_book_undo(struct ceiling_book *book, uint64_t mark);
void ceiling_book_commit(struct ceiling_book *book, uint64_t mark);
bool ceiling_book_changes(struct ceiling_book *book, uint64_t mark, bool (*change)(void *context, const struct ceiling_change *change), void *context);

/* Every state's present row: what the enforcement topic is compared with on takeover. */
bool ceiling_book_states(const struct ceiling_book *book, bool (*each)(void *context, const struct ceiling_state *state), void *context);

/* Forgets counters and states of periods that ended before, as far as nothing uncommitted touches them. */
void ceiling_book_forget(struct ceiling_book *book, int64_t before_us);
size_t ceiling_book_bytes(const struct ceiling_book *book);

#endif
