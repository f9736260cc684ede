/* Usage events as a fleet of AI agents would publish them, for demos, tests and benches: few customers use
 * most (Zipf's law), agent runs of some twenty operations interleave, and a share of the events is repeated,
 * late or broken. Each event is a function of the plan and its number alone: the same plan, the same bytes.
 */
#ifndef UB_GENERATE_H
#define UB_GENERATE_H

#include "text.h"

struct generate_plan {
    uint64_t seed;
    uint64_t count;        /* events are numbered from 0 */
    int64_t first_time_us; /* event time of number 0 */
    int64_t span_us;       /* from there to the time of number `count` */
    uint32_t customers;
    double duplicate_share; /* a repeat of one of the thousand before it, byte for byte */
    double late_share;      /* its timestamp lies one hour to three days back */
    double bad_share;       /* refused by every rule in turn */
};

enum generated_kind { GENERATED_FRESH, GENERATED_DUPLICATE, GENERATED_LATE, GENERATED_BAD, GENERATED_KINDS };
extern const char *const generated_kind_names[GENERATED_KINDS]; /* "fresh", "duplicate", … */

struct generated {
    enum generated_kind kind; /* a repeat of a broken event is GENERATED_BAD */
    struct text key;          /* the customer_id */
    struct text value;
};

struct generator;

/* NULL: out of memory. customers is at least 1, shares are 0 to 1 and at most 1 together. */
struct generator *generator_new(const struct generate_plan *plan);
void generator_free(struct generator *generator);

/* Views are valid until the next call. */
struct generated generator_make(struct generator *generator, uint64_t number);

#endif
