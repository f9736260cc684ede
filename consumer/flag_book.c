/* The reconciler of one lane: what was decided for each key, against what the topic holds. */
#include <assert.h>
#include <stdlib.h>

#include "flag_rows.h"

enum { ARENA_CHUNK_BYTES = 4096 };

struct flag_book *flag_book_new(int32_t lane, struct lookup_seed seed)
{
    struct flag_book *book = calloc(1, sizeof *book);
    if (!book)
        return NULL;
    book->lane = lane;
    book->seed = seed;
    book->holding = true;
    book->rows.row_bytes = sizeof(struct flag_row);
    arena_init(&book->arena, ARENA_CHUNK_BYTES);
    return book;
}

/* Wishes */

struct wish *wish_new(struct flag_book *book, struct text id, bool active, int64_t at_us, struct text value)
{
    size_t scratch_bytes = (size_t)value.length + FLAG_SEQUENCE_BYTES;
    if (scratch_bytes > book->scratch_bytes) {
        char *scratch = realloc(book->scratch, scratch_bytes);
        if (!scratch)
            return NULL;
        book->scratch = scratch;
        book->scratch_bytes = scratch_bytes;
    }
    struct wish *wish = malloc(sizeof *wish + value.length);
    if (!wish)
        return NULL;
    *wish = (struct wish){.holders = 1, .active = active, .at_us = at_us, .length = value.length};
    memcpy(wish->id, id.bytes, id.length < FLAG_DECISION_ID_BYTES ? id.length : FLAG_DECISION_ID_BYTES);
    if (value.length > 0)
        memcpy(wish->value, value.bytes, value.length);
    book->text_bytes += sizeof *wish + value.length;
    return wish;
}

static void wish_release(struct flag_book *book, struct wish *wish)
{
    if (!wish || --wish->holders > 0)
        return;
    book->text_bytes -= sizeof *wish + wish->length;
    free(wish);
}

void wish_replace(struct flag_book *book, struct wish **place, struct wish *wish)
{
    wish_release(book, *place);
    *place = wish;
}

bool same_message(const struct wish *a, const struct wish *b)
{
    return a && b && a->active == b->active && strcmp(a->id, b->id) == 0;
}

struct wish *desired(const struct flag_row *row)
{
    return row->last ? row->last : row->committed;
}

/* Rows */

static uint32_t row_find(const struct flag_book *book, struct text key)
{
    struct lookup_walk walk = lookup_walk(&book->by_key, lookup_keyed(book->seed, key));
    uint32_t number;
    while ((number = lookup_next(&book->by_key, &walk)) != LOOKUP_END)
        if (text_equal(row_at(book, number)->key, key))
            return number;
    return LOOKUP_END;
}

static uint32_t row_add(struct flag_book *book, struct text key)
{
    bool foreign;
    char *bytes = row_is_foreign(book, key, &foreign) ? malloc(key.length + 1) : NULL;
    uint32_t number = bytes && lookup_reserve(&book->by_key, 1) ? rows_take(&book->rows) : ROWS_NONE;
    if (number == ROWS_NONE) {
        free(bytes);
        return LOOKUP_END;
    }
    if (key.length > 0)
        memcpy(bytes, key.bytes, key.length);
    uint64_t hash = lookup_keyed(book->seed, key);
    struct flag_row *row = row_at(book, number);
    *row = (struct flag_row){.live = true, .foreign = foreign, .hash = hash};
    row->key.bytes = bytes;
    row->key.length = key.length;
    lookup_insert(&book->by_key, hash, number);
    book->text_bytes += key.length + 1;
    return number;
}

uint32_t row_of(struct flag_book *book, struct text key)
{
    uint32_t number = row_find(book, key);
    return number != LOOKUP_END ? number : row_add(book, key);
}

/* Takes back the decisions that are not committed. */
static void drop_uncommitted(struct flag_book *book, struct flag_row *row)
{
    while (row->first) {
        struct wish *next = row->first->next;
        row->first->next = NULL;
        wish_release(book, row->first);
        row->first = next;
    }
    row->last = NULL;
}

static void row_free(struct flag_book *book, struct flag_row *row)
{
    drop_uncommitted(book, row);
    wish_replace(book, &row->committed, NULL);
    wish_replace(book, &row->held, NULL);
    wish_replace(book, &row->sent_wish, NULL);
    book->text_bytes -= row->key.length + 1;
    free((char *)row->key.bytes);
}

void row_remove(struct flag_book *book, uint32_t number)
{
    struct flag_row *row = row_at(book, number);
    lookup_remove(&book->by_key, row->hash, number);
    row_free(book, row);
    rows_give(&book->rows, number);
}

void flag_book_free(struct flag_book *book)
{
    if (!book)
        return;
    for (uint32_t i = 0; i < book->rows.count; i++)
        if (row_at(book, i)->live)
            row_free(book, row_at(book, i));
    for (size_t i = 0; i < book->reach_count; i++)
        free(book->reaches[i].topic);
    rows_free(&book->rows);
    lookup_free(&book->by_key);
    flag_tickets_free(&book->tickets);
    arena_free(&book->arena);
    free(book->reaches);
    free(book->scratch);
    free(book);
}

/* Decisions */

/* Before reconcile(): does the topic hold a decision for the key that is still to be made again? Then what
 * leads up to it was published too, and saying that again would withdraw for a while what holds. */
static bool is_ahead(const struct flag_book *book, const struct flag_row *row)
{
    const struct wish *there = row->unseen ? row->sent_wish : row->held;
    if (!book->holding || !there || (!row->unseen && row->overridden) || same_message(row->committed, there))
        return false;
    for (const struct wish *wish = row->first; wish; wish = wish->next)
        if (same_message(wish, there))
            return false;
    return true;
}

bool flag_book_decide(struct flag_book *book, struct text key, struct text value, const char *decision_id,
                      bool active, int64_t now_us)
{
    uint32_t number = row_of(book, key);
    struct wish *wish =
        number != LOOKUP_END ? wish_new(book, text_of(decision_id), active, now_us, value) : NULL;
    if (!wish)
        return false;
    struct flag_row *row = row_at(book, number);
    if (row->last && same_message(row->last, wish)) { /* it had failed, and is asked for again */
        wish_release(book, wish);
        wish = row->last;
    } else {
        *(row->last ? &row->last->next : &row->first) = wish;
        row->last = wish;
    }
    row->tombstone = false;
    const struct wish *there = row->unseen ? row->sent_wish : row->held;
    if (same_message(there, wish) && (row->unseen || !row->overridden)) {
        make_undue(book, row);
        return true;
    }
    return is_ahead(book, row) || make_due(book, number);
}

bool flag_book_restore(struct flag_book *book, struct text key, struct text value, const char *decision_id,
                       bool active)
{
    uint32_t number = row_of(book, key);
    if (number == LOOKUP_END)
        return false;
    struct wish *wish = NULL;
    if (decision_id[0] != '\0') {
        wish = wish_new(book, text_of(decision_id), active, 0, value);
        if (!wish)
            return false;
    }
    wish_replace(book, &row_at(book, number)->committed, wish);
    return true;
}

void flag_book_commit(struct flag_book *book, struct text key, const char *decision_id)
{
    uint32_t number = row_find(book, key);
    if (number == LOOKUP_END)
        return;
    struct flag_row *row = row_at(book, number);
    const struct wish *wish = row->first;
    while (wish && strcmp(wish->id, decision_id) != 0)
        wish = wish->next;
    while (wish && row->first) {
        struct wish *committed = row->first;
        row->first = committed->next;
        if (!row->first)
            row->last = NULL;
        committed->next = NULL;
        wish_replace(book, &row->committed, committed);
        if (committed == wish)
            return;
    }
}

void flag_book_undo(struct flag_book *book)
{
    book->holding = true;
    for (uint32_t i = 0; i < book->rows.count; i++) {
        struct flag_row *row = row_at(book, i);
        if (!row->live || !row->first)
            continue;
        drop_uncommitted(book, row);
        make_undue(book, row);
    }
}

size_t flag_book_bytes(const struct flag_book *book)
{
    return sizeof *book + book->text_bytes + rows_bytes(&book->rows) + lookup_bytes(&book->by_key) +
           book->tickets.capacity * sizeof *book->tickets.ring + book->scratch_bytes +
           arena_held_bytes(&book->arena);
}
