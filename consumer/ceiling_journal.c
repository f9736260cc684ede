#include <assert.h>
#include <stdlib.h>

#include "ceiling_rows.h"

enum { LEAST_ENTRIES = 64 };

static struct entry *entry_at(const struct ceiling_book *book, uint64_t position)
{
    return &book->entries[position & (book->entry_capacity - 1)];
}

bool journal_reserve(struct ceiling_book *book, size_t more)
{
    size_t held = (size_t)(book->next - book->first);
    size_t capacity = book->entry_capacity ? book->entry_capacity : LEAST_ENTRIES;
    while (capacity < held + more)
        capacity *= 2;
    if (capacity == book->entry_capacity)
        return true;
    struct entry *entries = malloc(capacity * sizeof *entries);
    if (!entries)
        return false;
    for (uint64_t position = book->first; position < book->next; position++)
        entries[position & (capacity - 1)] = *entry_at(book, position);
    free(book->entries);
    book->entries = entries;
    book->entry_capacity = capacity;
    return true;
}

void journal_add(struct ceiling_book *book, struct entry entry, uint64_t *row_entry)
{
    assert(book->next - book->first < book->entry_capacity);
    if (row_entry) {
        entry.before = *row_entry;
        *row_entry = book->next + 1;
    }
    *entry_at(book, book->next++) = entry;
}

/* What a counter adds up between two marks is one entry. */
void journal_counted(struct ceiling_book *book, uint32_t row, decimal_t delta)
{
    struct counter *counter = counter_at(book, row);
    if (counter->entry > book->marked && counter->entry > book->first) {
        struct entry *entry = entry_at(book, counter->entry - 1);
        if (entry->kind == ENTRY_COUNTED && decimal_add(&entry->delta, delta))
            return;
    }
    journal_add(book, (struct entry){.kind = ENTRY_COUNTED, .row = row, .delta = delta}, &counter->entry);
}

void journal_decided(struct ceiling_book *book, uint32_t row, struct verdict *former)
{
    journal_add(book, (struct entry){.kind = ENTRY_DECIDED, .row = row, .former = former},
                &state_at(book, row)->entry);
}

bool journal_pins(const struct ceiling_book *book, uint64_t row_entry)
{
    return row_entry > book->first;
}

uint64_t ceiling_book_mark(struct ceiling_book *book)
{
    book->marked = book->next;
    return book->next;
}

static void verdict_free(struct verdict *verdict)
{
    free(verdict->flag);
    free(verdict);
}

/* A dropped counter waits for the last entry that names it. */
static void give_if_dropped(struct ceiling_book *book, uint32_t row)
{
    const struct counter *counter = counter_at(book, row);
    if (!counter->live && !journal_pins(book, counter->entry))
        counter_give(book, row);
}

static void undo_counter(struct ceiling_book *book, const struct entry *entry)
{
    struct counter *counter = counter_at(book, entry->row);
    if (entry->kind == ENTRY_COUNTED)
        counter->used -= entry->delta;
    else
        counter->partial = true;
    counter->entry = entry->before;
    give_if_dropped(book, entry->row);
}

static void undo_state(struct ceiling_book *book, const struct entry *entry)
{
    struct state *state = state_at(book, entry->row);
    free(state->verdict.flag);
    state_turn(book, entry->row, entry->former);
    free(entry->former);
    state->entry = entry->before;
}

void ceiling_book_undo(struct ceiling_book *book, uint64_t mark)
{
    if (mark < book->first)
        mark = book->first;
    while (book->next > mark) {
        const struct entry entry = *entry_at(book, --book->next);
        switch (entry.kind) {
        case ENTRY_COUNTED:
        case ENTRY_ADOPTED:
            undo_counter(book, &entry);
            break;
        case ENTRY_DECIDED:
            undo_state(book, &entry);
            break;
        case ENTRY_CATALOGUE:
            book->shadow = book->adopted;
            book->adopted = entry.outgoing;
            book->owed = entry.owed;
            book->unjudged = entry.unjudged;
            break;
        case ENTRY_JUDGED:
            book->owed = book->unjudged = true;
            break;
        }
    }
    book->marked = mark;
}

void ceiling_book_commit(struct ceiling_book *book, uint64_t mark)
{
    assert(mark <= book->next);
    bool adopted = false;
    while (book->first < mark) {
        const struct entry *entry = entry_at(book, book->first++);
        if (entry->kind == ENTRY_DECIDED)
            verdict_free(entry->former);
        else if (entry->kind == ENTRY_CATALOGUE)
            adopted = true;
        else if (entry->kind != ENTRY_JUDGED)
            give_if_dropped(book, entry->row);
    }
    if (adopted)
        counters_drop_unwatched(book);
}

static struct ceiling_change counter_change(const struct ceiling_book *book, const struct counter *counter)
{
    return (struct ceiling_change){.lane = book->lane,
                                   .counter = {.customer_id = customer_text(book, counter->key.customer),
                                               .meter = word_text(book, counter->key.meter),
                                               .period = counter->key.period,
                                               .scope = word_text(book, counter->key.scope),
                                               .period_start_us = counter->key.start_us,
                                               .used = counter->used}};
}

static struct ceiling_state state_row(const struct ceiling_book *book, const struct state *state)
{
    struct ceiling_state row = {.customer_id = customer_text(book, state->key.customer),
                                .ceiling = word_text(book, state->key.ceiling),
                                .scope = word_text(book, state->key.scope),
                                .period_start_us = state->key.start_us,
                                .period_end_us = state->verdict.end_us,
                                .version = state->verdict.version,
                                .transition = state->verdict.transition,
                                .active = state->verdict.active};
    memcpy(row.decision_id, state->verdict.decision_id, sizeof row.decision_id);
    return row;
}

/* Has the row of this entry been handed out under this stamp? */
static bool stamped(struct ceiling_book *book, const struct entry *entry)
{
    uint64_t *stamp = entry->kind == ENTRY_DECIDED ? &state_at(book, entry->row)->stamp
                                                   : &counter_at(book, entry->row)->stamp;
    bool was = *stamp == book->stamp;
    *stamp = book->stamp;
    return was;
}

bool ceiling_book_changes(struct ceiling_book *book, uint64_t mark,
                          bool (*change)(void *context, const struct ceiling_change *change), void *context)
{
    book->stamp++;
    for (uint64_t position = mark < book->first ? book->first : mark; position < book->next; position++) {
        const struct entry *entry = entry_at(book, position);
        if (entry->kind == ENTRY_CATALOGUE || entry->kind == ENTRY_JUDGED || stamped(book, entry))
            continue;
        struct ceiling_change changed;
        if (entry->kind == ENTRY_DECIDED) {
            changed = (struct ceiling_change){
                .lane = book->lane, .is_state = true, .state = state_row(book, state_at(book, entry->row))};
        } else {
            const struct counter *counter = counter_at(book, entry->row);
            if (!counter->live || counter->partial)
                continue;
            changed = counter_change(book, counter);
        }
        if (!change(context, &changed))
            return false;
    }
    return true;
}

/* For one key the crossed periods come first, then the later ones. */
static int by_key_then_rank(const void *left, const void *right, void *context)
{
    const struct ceiling_book *book = context;
    const struct state *a = state_at(book, *(const uint32_t *)left);
    const struct state *b = state_at(book, *(const uint32_t *)right);
    int order = state_key_order(book, &a->key, &b->key);
    if (order == 0)
        order = b->verdict.active - a->verdict.active;
    if (order == 0)
        order = (a->key.start_us < b->key.start_us) - (a->key.start_us > b->key.start_us);
    return order;
}

static size_t states_sorted(const struct ceiling_book *book, uint32_t *rows)
{
    size_t count = 0;
    for (uint32_t row = 0; row < book->states.count; row++)
        if (state_at(book, row)->live && state_at(book, row)->verdict.transition > 0)
            rows[count++] = row;
    qsort_r(rows, count, sizeof *rows, by_key_then_rank, (void *)book);
    return count;
}

bool ceiling_book_states(const struct ceiling_book *book,
                         bool (*each)(void *context, const struct ceiling_state *state), void *context)
{
    uint32_t *rows = malloc((book->states.count + 1) * sizeof *rows);
    if (!rows)
        return false;
    size_t count = states_sorted(book, rows);
    bool ok = true;
    const struct state *former = NULL;
    for (size_t i = 0; ok && i < count; i++) {
        const struct state *state = state_at(book, rows[i]);
        if (former && state_key_order(book, &former->key, &state->key) == 0)
            continue;
        former = state;
        struct ceiling_state row = state_row(book, state);
        row.flag = (struct text){state->verdict.flag, state->verdict.flag_length};
        ok = each(context, &row);
    }
    free(rows);
    return ok;
}

void journal_free(struct ceiling_book *book)
{
    while (book->first < book->next) {
        const struct entry *entry = entry_at(book, book->first++);
        if (entry->kind == ENTRY_DECIDED)
            verdict_free(entry->former);
    }
    free(book->entries);
}
