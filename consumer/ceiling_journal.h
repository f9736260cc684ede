/* What a ceiling_book can take back: a ring of entries at absolute positions. Private to ceiling_*.c. */
#ifndef UB_CEILING_JOURNAL_H
#define UB_CEILING_JOURNAL_H

#include "ceiling_book.h"

struct verdict;

enum entry_kind {
    ENTRY_COUNTED,   /* a counter, by delta */
    ENTRY_ADOPTED,   /* a counter that was partial */
    ENTRY_DECIDED,   /* a state; `former` verdict */
    ENTRY_CATALOGUE, /* adopt(): `outgoing` catalogue */
    ENTRY_JUDGED     /* judge() */
};
struct entry {
    enum entry_kind kind;
    uint32_t row;
    uint64_t before; /* the row's `entry` before this one */
    union {
        decimal_t delta;
        struct verdict *former;
        const struct ceiling_catalogue *outgoing;
    };
    bool owed, unjudged; /* the book's, before adopt() */
};

/* Makes room before anything is changed; then adding cannot fail. */
bool journal_reserve(struct ceiling_book *book, size_t more);
void journal_counted(struct ceiling_book *book, uint32_t row, decimal_t delta);
void journal_decided(struct ceiling_book *book, uint32_t row,
                     struct verdict *former); /* which it owns from now on */
/* row_entry: of the row that the entry names; NULL: it names none. */
void journal_add(struct ceiling_book *book, struct entry entry, uint64_t *row_entry);
/* Does an entry that can be taken back name the row? */
bool journal_pins(const struct ceiling_book *book, uint64_t row_entry);
void journal_free(struct ceiling_book *book);

#endif
