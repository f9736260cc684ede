/* What became of records of one usage topic, asked of PostgreSQL by where they lie, many at a time: refused,
 * in conflict with an earlier event, a crossed ceiling's cause. Each query reads by an index, but for the two
 * that say so. Accepted ones are told of by follow.h. Blocks; one thread at a time. */
#ifndef UB_OUTCOMES_H
#define UB_OUTCOMES_H

#include "pg.h"

enum { OUTCOMES_MOST = 4000 }; /* keys at a time */

/* One record. All text is empty where the record is no event. */
struct outcome_key {
    int32_t partition;
    int64_t offset;
    struct text customer_id;
    struct text meter;
    struct text event_id;
    int64_t time_us;
};

/* In each result the first column is the key's number, an int4. NULL: pg->failure says why. */

/* kafka_partition, next_offset: how far each partition was read. */
PGresult *outcome_positions(struct pg *pg, const char *topic);

/* number, reason, detail */
PGresult *outcome_refused(struct pg *pg, const char *topic, const struct outcome_key *keys, size_t count);

/* number */
PGresult *outcome_conflicts(struct pg *pg, const char *topic, const struct outcome_key *keys, size_t count);

/* Of conflicts, one row for each field that differs: number, field, its text, the first one's text. The first
 * ones are looked for in the tables of the keys' days and those beside them, for a few seconds: what is not
 * found by then is left out. */
PGresult *outcome_differences(struct pg *pg, const char *topic, const struct outcome_key *keys, size_t count);

/* number, quantity as text. Reads the tables of the keys' days and those beside them. */
PGresult *outcome_accepted(struct pg *pg, const char *topic, const struct outcome_key *keys, size_t count);

/* Decisions since since_us that they caused: number, ceiling, policy, whether it was crossed, used, limit,
 * decision_id. */
PGresult *outcome_decisions(struct pg *pg, const char *topic, const struct outcome_key *keys, size_t count,
                            int64_t since_us);

#endif
