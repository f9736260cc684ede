/* Ceilings: who may use how much of a meter in a period, all those in force as a catalogue, and the rows that
 * the store keeps of what was counted (counters) and decided (states). ceiling_book.h does the counting. */
#ifndef UB_CEILING_H
#define UB_CEILING_H

#include "arena.h"
#include "event.h"

enum ceiling_period { PERIOD_HOUR, PERIOD_DAY, PERIOD_MONTH, PERIOD_COUNT }; /* UTC */
/* Events of a period are counted until so long after its end; what is kept of periods before that is of no
 * use. */
#define CEILING_COUNTED_US (INT64_C(7) * 86400 * 1000000)

enum ceiling_policy { POLICY_ALERT, POLICY_THROTTLE, POLICY_HARD_STOP, POLICY_COUNT };
enum ceiling_who { WHO_EVERYONE, WHO_CUSTOMER, WHO_PLAN, WHO_COUNT };
enum ceiling_scope { SCOPE_CUSTOMER, SCOPE_COUNT };          /* what each counter counts: a whole customer */
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

/* All ceilings in force at one generation. Immutable once filled; owned by whoever frees it, and must outlive
 * the books that were given it. */
struct ceiling_index; /* private to ceiling.c */
struct ceiling_catalogue {
    int64_t generation; /* rises with every `ceilings apply` that changed something; 0: none ever */
    struct arena *arena;
    struct ceiling *ceilings;
    size_t count;
    struct ceiling_index *index;
};
struct ceiling_catalogue *ceiling_catalogue_new(size_t capacity); /* NULL: out of memory */
/* Copies the ceiling's texts. False: over capacity, or a ceiling of this name is there. */
bool ceiling_catalogue_add(struct ceiling_catalogue *catalogue, const struct ceiling *ceiling);
void ceiling_catalogue_free(struct ceiling_catalogue *catalogue);

/* NULL: no such ceiling. */
const struct ceiling *ceiling_catalogue_find(const struct ceiling_catalogue *catalogue, struct text name);

/* The ceilings that look at a customer's use of a meter, in the catalogue's order: those for everyone, for
 * plans (whichever plan the customer is on) and for this customer. NULL catalogue: none. */
struct ceiling_walk {
    const struct ceiling_catalogue *catalogue;
    uint32_t shared, own; /* the next one for everyone or a plan, the next one for this customer */
    uint32_t period_mask; /* bit n: some ceiling of this walk has period n; 0: nothing to count */
};
struct ceiling_walk ceiling_walk(const struct ceiling_catalogue *catalogue, struct text meter,
                                 struct text customer_id);
const struct ceiling *ceiling_walk_next(struct ceiling_walk *walk); /* NULL: no more */
/* Does one of them judge the period that time_us lies in? Periods that ended before all of them are not
 * counted. */
bool ceiling_walk_judges(struct ceiling_walk walk, enum ceiling_period period, int64_t time_us);

/* The UTC period that time_us lies in: [start, end), µs since 1970. */
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
    struct text flag; /* decision_trace->'flag' of that decision: the message without its sequence. In changes
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

#endif
