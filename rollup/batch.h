/* All that one transaction writes: raw rows, rollups, dead letters, conflicts, ledger, dedupe segments,
 * decisions, counters and offsets. The engine fills it, the store writes it; one of them owns it at a time.
 * All memory is the batch's own arena and buffers and lives until batch_reset(). */
#ifndef UB_BATCH_H
#define UB_BATCH_H

#include "../consumer/decision.h"
#include "../consumer/partitioner.h"
#include "accumulator.h"
#include "batch_parts.h"
#include "copy.h"

/* The last row that went in; kept only while one that PostgreSQL refuses is searched for. */
struct batch_suspect {
    bool known;
    struct ceiling_origin origin;
    uint64_t fingerprint;
};

struct batch {
    uint64_t number;
    struct arena *arena;
    struct accumulator *accumulator;
    size_t event_count; /* records of any outcome */
    size_t row_count;   /* accepted rows of open days */
    int64_t opened_at_us;

    struct row_pool *pool; /* private: of rows */
    uint32_t left_out;     /* columns that rows do without, unless one needs them */
    struct copy_census census;
    struct batch_day *days;
    size_t day_count, day_capacity;
    struct batch_sealed *sealed;
    size_t sealed_count, sealed_capacity;
    struct batch_dead_letter *dead_letters;
    size_t dead_letter_count, dead_letter_capacity;
    struct batch_conflict *conflicts;
    size_t conflict_count, conflict_capacity;
    struct batch_segment *segments;
    size_t segment_count, segment_capacity;
    struct batch_partition *partitions; /* set when the batch is opened: all partitions of running lanes */
    size_t partition_count, partition_capacity;

    struct ceiling_change *changes; /* counters and states as they are when the batch closes; by lane */
    size_t change_count, change_capacity;
    struct decision *decisions;
    size_t decision_count, decision_capacity;
    struct batch_adoption *adoptions;
    size_t adoption_count, adoption_capacity;
    int32_t *ceilings_adopted; /* lanes that adopt the catalogue `ceilings_generation` with this batch */
    size_t ceilings_adopted_count, ceilings_adopted_capacity;
    int64_t ceilings_generation;
    enum partitioner learned;       /* UNKNOWN: nothing learned with this batch */
    struct ceiling_origin *settled; /* pending events of sealed days whose decisions are in this batch */
    size_t settled_count, settled_capacity;
    struct batch_suspect suspect;

    struct batch_index *index; /* private: from lane and day to its day or segment */
    unsigned quiet_resets;     /* private */
};

/* Rows lie in blocks of `pool`, which must outlive the batch. NULL: out of memory. */
struct batch *batch_new(const struct accumulator_rules *rules, struct row_pool *pool);
void batch_free(struct batch *batch);
void batch_reset(struct batch *batch);

/* Each adds one thing and copies what it needs; false: out of memory, and the batch must be given up.
 * `partition` is an index into partitions. */
bool batch_add_partition(struct batch *batch, const struct batch_partition *partition);
bool batch_accept(struct batch *batch, const struct identity_secret *secret, size_t partition,
                  const struct event *event,
                  const struct copy_origin *origin); /* open day: row, rollups, digest */
bool batch_accept_at(
    struct batch *batch, size_t partition, const struct event *event, const struct copy_origin *origin,
    const struct accumulator_place *place,
    const struct digest *digest); /* the same, located in batch->accumulator, with its digest */
bool batch_defer(struct batch *batch, size_t partition, const struct event *event,
                 const struct copy_origin *origin,
                 bool counted); /* sealed day: waits for the store's answer */
/* The same of what may not be new any more: a repeat, or the dead letter of that record. */
bool batch_defer_or_refuse(struct batch *batch, size_t partition, const struct event *event,
                           const struct copy_origin *origin, const struct record *record, enum refusal reason,
                           const char *detail);
bool batch_segment_add(struct batch *batch, int32_t lane, uint16_t day, struct dedupe_key key,
                       uint32_t content);
bool batch_dead(struct batch *batch, const struct identity_secret *secret, size_t partition,
                const struct record *record, enum refusal reason, const char *detail);
bool batch_duplicate(struct batch *batch, size_t partition);
bool batch_conflict_add(struct batch *batch, size_t partition, const struct event *event,
                        const struct copy_origin *origin); /* counts as a duplicate too */
bool batch_change(struct batch *batch, const struct ceiling_change *change);
/* Copies the decision with all its texts; *copy points into the batch (until the next one is added). */
bool batch_decide(struct batch *batch, const struct decision *decision, struct decision **copy);
bool batch_adopt_seal(struct batch *batch, int32_t lane, uint16_t day);
bool batch_adopt_ceilings(struct batch *batch, int32_t lane, int64_t generation);
bool batch_settle(struct batch *batch, struct ceiling_origin origin);

/* The store's answer for one deferred event, before it reads the rollups: accepted adds rollups, ledger and
 * digest; repeated is a duplicate, or a conflict; refused, for what is not new any more, a dead letter. */
bool batch_sealed_accepted(struct batch *batch, const struct identity_secret *secret, size_t sealed);
bool batch_sealed_repeated(struct batch *batch, size_t sealed, bool conflict);
bool batch_sealed_refused(struct batch *batch, const struct identity_secret *secret, size_t sealed);

size_t batch_bytes(const struct batch *batch); /* all memory it holds */

/* What it was filled with since the last reset; next to nothing for an empty one, whatever it holds. */
size_t batch_used_bytes(const struct batch *batch);

#endif
