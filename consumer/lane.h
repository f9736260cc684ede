/* One lane's state in memory: partition i of every usage topic, the dedupe keys, counters and flags that
 * belong to it, and the journal that takes back whatever was not committed. Internal to the engine. */
#ifndef UB_LANE_H
#define UB_LANE_H

#include "flag_book.h"
#include "lane_topic.h"
#include "pipeline.h"

enum { LANE_DAYS = 65536, LANE_ADOPTING_LIMIT = 8 };

struct lane_mark {
    uint64_t keys; /* position in the journal of keys */
    uint64_t counters;
};

struct lane {
    int32_t number;
    enum lane_phase phase;
    bool assigned;
    int64_t epoch;
    struct dedupe *dedupe; /* NULL: no state */
    struct former *former; /* keys of all lanes from before they were re-homed; NULL: none are left */
    struct ceiling_book *book;
    struct flag_book *flags;
    bool flags_caught_up;
    uint32_t flags_serial;   /* tells this book's cookies from an earlier book's */
    uint64_t flags_at_close; /* last cookie when the closed batch closed */
    struct lane_topic *topics;
    size_t topic_count;

    struct dedupe_key *journal; /* ring of keys inserted and not committed */
    size_t journal_capacity;
    uint64_t journal_first, journal_next; /* absolute positions */
    struct lane_mark committed;           /* all before it is */
    struct lane_mark opened;              /* where the open batch begins */

    uint8_t *sealed; /* bitmap: days whose seal this lane has adopted */
    struct {
        uint16_t day;
        uint64_t batch;
    } adopting[LANE_ADOPTING_LIMIT];
    size_t adopting_count;

    int64_t ceilings_generation; /* adopted */
    bool owes_pending;           /* late events that were counted and taken back: only the store knows them */
    bool shadowing;
    bool catching_up;    /* some position is below what was reached before */
    uint64_t late_batch; /* the last one that holds a late event from below; 0: all are decided again */
    bool winding_up;     /* STOPPED while it ran: the flags of what it decided still go out */
    int64_t retry_at_us;
    int64_t backoff_us;
    char stop_reason[400];
    struct store_lane *pending; /* restored; its pending events are counted once the lane runs */
};

bool lane_init(struct lane *lane, int32_t number, size_t topic_count); /* false: out of memory */
void lane_clear(struct lane *lane);                                    /* frees all it owns */
void lane_drop(struct lane *lane); /* forgets keys, counters and journal; keeps its flags */
void lane_release_pending(struct lane *lane);
bool lane_has_state(const struct lane *lane);

/* Takes over what the store restored; the lane owns it from now on. */
bool lane_restore(struct lane *lane, struct store_lane *restored);

/* Remembers that key was inserted. */
bool lane_journal(struct lane *lane, struct dedupe_key key);
struct lane_mark lane_mark(const struct lane *lane);
void lane_commit(struct lane *lane, struct lane_mark mark);
void lane_undo(struct lane *lane); /* everything that is not committed, positions too */

/* Has it read all that it may before the other lanes have? */
bool lane_at_limit(const struct lane *lane);

/* Was there an event of this key in any lane before the lanes were re-homed, on a day that is open here? */
bool lane_find_former(const struct lane *lane, struct dedupe_key key, uint32_t *content);

bool lane_day_sealed(const struct lane *lane, uint16_t day);
bool lane_day_adopting(const struct lane *lane, uint16_t day);
void lane_seal(struct lane *lane, uint16_t day);
void lane_forget_former(struct lane *lane); /* once all of its days are sealed here */

#endif
