/* What a flag_book is made of. Private to flag_*.c. */
#ifndef UB_FLAG_ROWS_H
#define UB_FLAG_ROWS_H

#include "flag_book.h"
#include "flag_message.h"
#include "flag_tickets.h"
#include "lookup.h"
#include "rows.h"

/* A message's value, shared by all that refer to it. */
struct wish {
    uint32_t holders;
    bool active;
    int64_t at_us; /* decided at */
    char id[FLAG_DECISION_ID_BYTES + 1];
    struct wish *next; /* the decision for the same key that was made after it */
    uint32_t length;
    char value[];
};

enum held_kind { HELD_NOTHING, HELD_FOREIGN, HELD_TOMBSTONE, HELD_FLAG };

struct flag_row {
    bool live;
    bool foreign; /* another lane's, which speaks for it on its own partition */
    struct text key;
    uint64_t hash;
    /* Decided: the committed wish, then those of decisions that are not committed, oldest first. */
    struct wish *committed, *first, *last;
    /* On the topic: the last message for the key, and the highest one. */
    enum held_kind held_kind;
    struct wish *held; /* of HELD_FLAG; without value unless active */
    struct flag_sequence highest;
    bool highest_active;
    bool overridden; /* the last one is lower than the highest one, and compaction would keep it */
    /* Our last message, while it was not seen on the topic yet. */
    bool unseen;
    struct flag_sequence sent;
    struct wish *sent_wish; /* NULL: a tombstone */
    uint64_t ticket;        /* due under this number; 0: not due */
    bool tombstone;         /* what is due is a tombstone */
    uint32_t in_flight;
};

struct flag_reach {
    char *topic;
    uint32_t topic_length;
    int64_t offset;
};

struct flag_book {
    int32_t lane;
    int64_t epoch; /* 0: not set; nothing is due */
    int64_t highest_epoch;
    int64_t count;
    struct flag_homes homes;
    bool holding; /* from the start and from a rewind on until reconcile(): differences may still vanish */
    struct rows rows;
    struct lookup by_key;
    struct lookup_seed seed;
    struct flag_tickets tickets;
    struct flag_reach *reaches;
    size_t reach_count;
    struct arena arena; /* of one call */
    char *scratch;      /* the message that due() hands out; room for any wish with its sequence */
    size_t scratch_bytes;
    uint32_t swept; /* where burying goes on */
    int64_t now_us; /* the newest time told */
    size_t text_bytes;
};

static inline struct flag_row *row_at(const struct flag_book *book, uint32_t number)
{
    return rows_at(&book->rows, number);
}

/* flag_book.c */
struct wish *wish_new(struct flag_book *book, struct text id, bool active, int64_t at_us, struct text value);
void wish_replace(struct flag_book *book, struct wish **place, struct wish *wish);
bool same_message(const struct wish *a, const struct wish *b); /* NULL: the same as none */
struct wish *desired(const struct flag_row *row);              /* NULL: nothing was decided */
uint32_t row_of(struct flag_book *book, struct text key);      /* found or made; LOOKUP_END: out of memory */
void row_remove(struct flag_book *book, uint32_t number);

/* flag_homes.c */
bool row_is_foreign(const struct flag_book *book, struct text key, bool *foreign); /* false: no memory */
bool bury_foreign(struct flag_book *book, uint32_t number); /* all lanes have said theirs */

/* flag_due.c */
bool differs(const struct flag_book *book, const struct flag_row *row);
bool make_due(struct flag_book *book, uint32_t number);
void make_undue(struct flag_book *book, struct flag_row *row);
bool mend(struct flag_book *book, uint32_t number, int64_t now_us); /* makes a key due that differs */

#endif
