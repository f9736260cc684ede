/* What a ceiling_book is made of: rows of counters and states, and the journal. Private to ceiling_*.c. */
#ifndef UB_CEILING_ROWS_H
#define UB_CEILING_ROWS_H

#include "ceiling_book.h"
#include "ceiling_journal.h"
#include "intern.h"
#include "lookup.h"
#include "rows.h"

struct counter_key {
    uint32_t customer, meter, scope; /* numbers in customers, words, words */
    enum ceiling_period period;
    int64_t start_us;
};
struct counter {
    bool live;    /* can be found */
    bool partial; /* counts for the shadow catalogue only: since shadow(), plus seeds */
    struct counter_key key;
    int64_t end_us;
    decimal_t used;
    uint64_t entry; /* newest journal entry that names this row, + 1; 0: none */
    uint64_t stamp;
};

/* What a transition changes in a state. */
struct verdict {
    int64_t end_us; /* of the period; a redefined ceiling may begin another kind of period at the same time */
    int64_t version;
    int64_t transition; /* 0: never crossed, as good as not there */
    bool active;
    uint8_t policy;
    uint32_t meter; /* in words; LOOKUP_END: restored, still to be read from the flag, as are policy, limit,
                       used */
    decimal_t limit;
    decimal_t used;
    char decision_id[33];
    char *flag; /* restored: the decision's flag; NULL: none */
    uint32_t flag_length;
};

struct state_key {
    uint32_t customer, ceiling, scope; /* numbers in customers, words, words */
    int64_t start_us;
};
struct state {
    bool live;
    struct state_key key;
    struct verdict verdict;
    uint64_t entry; /* as in struct counter */
    uint64_t stamp;
};

/* A transition found while all rows are looked at. They are sorted before any is made. */
struct pick {
    struct state_key key;
    const struct ceiling *ceiling; /* NULL: the period is over, or the ceiling is gone */
    uint32_t counter;              /* LOOKUP_END: none */
    uint32_t state;                /* LOOKUP_END: none yet */
};

struct ceiling_book {
    int32_t lane;
    const struct ceiling_catalogue *adopted, *shadow;
    bool unjudged;      /* some states may not be as the adopted catalogue says: judge() has not been here */
    bool owed;          /* judge() was here, and was taken back or had no memory */
    int64_t horizon_us; /* periods that ended here or before are not counted */
    struct intern customers, words;
    struct rows counters, states;
    struct lookup by_counter;            /* counters by their whole key */
    struct lookup by_state;              /* states by their whole key */
    struct lookup by_key;                /* active states by customer, ceiling, scope */
    int64_t next_end_us;                 /* no active state ends before */
    uint32_t swept_counter, swept_state; /* where forgetting goes on */
    struct entry *entries;               /* ring of entry_capacity, a power of two */
    size_t entry_capacity;
    uint64_t first, next, marked; /* positions: oldest entry, next entry, newest mark */
    uint64_t stamp;
    struct pick *picks;
    size_t pick_count, pick_capacity;
};

static inline struct counter *counter_at(const struct ceiling_book *book, uint32_t row)
{
    return rows_at(&book->counters, row);
}
static inline struct state *state_at(const struct ceiling_book *book, uint32_t row)
{
    return rows_at(&book->states, row);
}
static inline struct text word_text(const struct ceiling_book *book, uint32_t word)
{
    return intern_text(&book->words, word);
}
static inline struct text customer_text(const struct ceiling_book *book, uint32_t customer)
{
    return intern_text(&book->customers, customer);
}

/* ceiling_book.c. LOOKUP_END: find: not there; others: out of memory. */
uint32_t word_keep(struct ceiling_book *book, struct text text); /* for as long as the book */
uint32_t counter_find(const struct ceiling_book *book, const struct counter_key *key);
uint32_t counter_hold(struct ceiling_book *book, const struct ceiling_counter *counter, bool partial);
/* Gone at once; its memory is given back when the journal lets it go. */
void counter_drop(struct ceiling_book *book, uint32_t row);
void counter_give(struct ceiling_book *book, uint32_t row);
void counters_drop_unwatched(struct ceiling_book *book); /* that neither catalogue looks at */
uint32_t state_find(const struct ceiling_book *book, const struct state_key *key);
uint32_t state_make(struct ceiling_book *book, const struct state_key *key);
void state_turn(struct ceiling_book *book, uint32_t row,
                const struct verdict *verdict); /* needs room in by_key */
int state_key_order(const struct ceiling_book *book, const struct state_key *a, const struct state_key *b);
bool state_other_active(const struct ceiling_book *book, const struct state *state, bool later);

#endif
