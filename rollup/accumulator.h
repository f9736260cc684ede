/* Rollups of one batch: how much each (customer, hour, meter, model, dimensions) and each agent run used, so
 * that one row is upserted for many events. Texts live in the batch's arena; rows are found by a keyed hash,
 * so that no choice of keys makes them slow to find. */
#ifndef UB_ACCUMULATOR_H
#define UB_ACCUMULATOR_H

#include "../consumer/arena.h"
#include "../consumer/event.h"

struct hourly_row {
    struct text customer_id;
    struct text meter;
    struct text model;
    struct text dimensions; /* a JSON object, "{}" when no dimension is configured or present */
    int64_t hour_us;        /* start of the UTC hour */
    int64_t events;
    decimal_t quantity;   /* net */
    decimal_t adjustment; /* the part that came from corrections and retractions */
    int64_t first_event_us;
    int64_t last_event_us;
};

struct run_row {
    struct text customer_id;
    struct text run_id;
    struct text agent_id;
    struct text user_id;
    struct text meter;
    struct text model;
    struct text parent_run_id; /* the first one seen */
    int64_t events;
    decimal_t quantity;
    int64_t first_event_us;
    int64_t last_event_us;
};

/* A row in its place among the others. */
struct sorted_row {
    union {
        const struct hourly_row *hourly;
        const struct run_row *run;
    };
    uint64_t first, second; /* private: row_sort.c */
};

struct accumulator_rules {
    enum event_lifted dimensions[LIFTED_COUNT]; /* rollup.dimensions */
    size_t dimension_count;
    bool runs;             /* rollup.runs */
    uint64_t hash_seed[2]; /* random; decides where rows lie in memory, never what they say; of flags, too */
};

struct accumulator;

/* The rules are copied. The arena must outlive what is accumulated; reset both together. A reset keeps
 * memory, unless little of it was used for long. NULL: out of memory. */
struct accumulator *accumulator_new(const struct accumulator_rules *rules, struct arena *arena);
void accumulator_free(struct accumulator *accumulator);
void accumulator_reset(struct accumulator *accumulator);

/* All memory it holds, without the arena's. */
size_t accumulator_bytes(const struct accumulator *accumulator);

/* What of it is for rows added since the last reset. */
size_t accumulator_used_bytes(const struct accumulator *accumulator);

/* Where an event's rows are looked for: hashes of their keys. It stays true. */
struct accumulator_place {
    uint32_t hourly_tag;
    uint32_t run_tag;
    bool in_run;
};

/* Starts fetching what leads to the rows. */
struct accumulator_place accumulator_locate(const struct accumulator *accumulator, const struct event *event);

/* Starts fetching the rows themselves, some time after they were located. */
void accumulator_prefetch(const struct accumulator *accumulator, const struct accumulator_place *place);

/* Adds one accepted event. False: out of memory or a sum beyond 128 bits; the batch must then be given up. */
bool accumulator_add(struct accumulator *accumulator, const struct event *event);
bool accumulator_add_at(struct accumulator *accumulator, const struct accumulator_place *place,
                        const struct event *event);

/* Sorts the rows in the order of their tables' primary keys (bytewise), so that two writers never deadlock,
 * and hands them out: by customer_id, hour, meter, model, dimensions, and by customer_id, run_id, agent_id,
 * user_id, meter, model. Rows stay the accumulator's and as they are until the next add or reset. NULL if
 * there are none. */
const struct sorted_row *accumulator_hourly(struct accumulator *accumulator, size_t *count);
const struct sorted_row *accumulator_runs(struct accumulator *accumulator, size_t *count);

#endif
