/* What a flag_book has due: differences found, messages sent, acknowledged or failed. */
#include <assert.h>
#include <stdlib.h>

#include "flag_rows.h"

void flag_book_epoch(struct flag_book *book, int64_t epoch)
{
    book->epoch = epoch;
    book->count = 0;
}

int64_t flag_book_highest_epoch(const struct flag_book *book)
{
    return book->highest_epoch;
}

/* Does a reader of the topic know something else than what is desired? Cleared is as good as nothing. */
bool differs(const struct flag_book *book, const struct flag_row *row)
{
    const struct wish *want = desired(row);
    if (row->foreign)
        return false;
    if (row->unseen)
        return want && want->active ? !same_message(row->sent_wish, want)
                                    : row->sent_wish && row->sent_wish->active;
    bool held_active = row->held_kind == HELD_FLAG && row->held->active;
    if (want && want->active)
        return row->overridden || row->highest.epoch < book->homes.epoch || !held_active ||
               !same_message(row->held, want);
    return held_active || (row->overridden && row->highest_active);
}

/* jsonb gives a restored message back in an order of its own. */
static bool put_in_order(struct flag_book *book, struct wish **place)
{
    static const char head[] = "{\"type\":\"flag\"";
    struct wish *wish = *place;
    if (wish->length >= sizeof head - 1 && memcmp(wish->value, head, sizeof head - 1) == 0)
        return true;
    size_t length;
    char *bytes = flag_message_in_order((struct text){wish->value, wish->length}, &length);
    if (!bytes)
        return false;
    struct wish *ordered =
        wish_new(book, text_of(wish->id), wish->active, wish->at_us, (struct text){bytes, (uint32_t)length});
    free(bytes);
    if (ordered)
        wish_replace(book, place, ordered);
    return ordered;
}

/* Nothing supports what the topic holds: what is desired from now on is its opposite. */
static bool withdraw(struct flag_book *book, struct flag_row *row, int64_t now_us)
{
    const struct wish *wrong = row->unseen ? row->sent_wish : row->held;
    row->tombstone = !wrong || !wrong->active;
    if (row->tombstone)
        return true;
    size_t length;
    char *bytes = flag_message_withdrawn((struct text){wrong->value, wrong->length}, now_us, &length);
    if (!bytes)
        return false;
    row->committed =
        wish_new(book, text_of(wrong->id), false, now_us, (struct text){bytes, (uint32_t)length});
    free(bytes);
    return row->committed;
}

/* A higher epoch on the topic is another owner's: whatever we'd say would be void. */
bool make_due(struct flag_book *book, uint32_t number)
{
    struct flag_row *row = row_at(book, number);
    if (row->ticket != 0 || (book->epoch > 0 && row->highest.epoch > book->epoch))
        return true;
    row->ticket = flag_tickets_open(&book->tickets, number);
    return row->ticket != 0;
}

void make_undue(struct flag_book *book, struct flag_row *row)
{
    if (row->ticket != 0)
        flag_tickets_done(&book->tickets, row->ticket);
    row->ticket = 0;
    row->tombstone = false;
}

/* A decision restored without its message can't be said again; what the topic holds stays. */
static bool sayable(const struct wish *wish)
{
    return wish->length > 1 && wish->value[0] == '{';
}

/* Makes a key due whose message differs. now_us: of a withdrawal. */
bool mend(struct flag_book *book, uint32_t number, int64_t now_us)
{
    struct flag_row *row = row_at(book, number);
    if (desired(row) && !sayable(desired(row)))
        return true;
    row->tombstone = false;
    if (!desired(row) && !withdraw(book, row, now_us))
        return false;
    if (!row->last && row->committed && !row->tombstone && !put_in_order(book, &row->committed))
        return false;
    return make_due(book, number);
}

/* Sending */

static struct flag_sequence next_sequence(const struct flag_book *book, const struct flag_row *row)
{
    if (!row->foreign)
        return (struct flag_sequence){book->epoch, book->count + 1};
    return (struct flag_sequence){row->highest.epoch > 0 ? row->highest.epoch : 1, row->highest.count + 1};
}

static struct flag_due due_message(const struct flag_book *book, const struct flag_row *row)
{
    struct flag_due due = {.key = row->key, .sequence = next_sequence(book, row), .cookie = row->ticket};
    if (row->tombstone)
        return due;
    const struct wish *want = desired(row);
    struct text value = {want->value, want->length};
    due.value = (struct text){book->scratch, (uint32_t)flag_put_sequence(book->scratch, value, due.sequence)};
    return due;
}

bool flag_book_due(struct flag_book *book, struct flag_due *due)
{
    uint64_t number;
    while (book->epoch > 0 && (number = flag_tickets_due(&book->tickets)) != 0) {
        struct flag_row *row = row_at(book, flag_tickets_at(&book->tickets, number)->row);
        if (row->highest.epoch <= book->epoch && (row->tombstone || desired(row))) {
            *due = due_message(book, row);
            return true;
        }
        make_undue(book, row);
    }
    return false;
}

static struct wish *wish_hold(struct wish *wish)
{
    if (wish)
        wish->holders++;
    return wish;
}

void flag_book_published(struct flag_book *book, uint64_t cookie)
{
    struct ticket *ticket = flag_tickets_at(&book->tickets, cookie);
    struct flag_row *row = row_at(book, ticket->row);
    assert(ticket->state == TICKET_DUE && row->ticket == cookie);
    row->sent = next_sequence(book, row);
    book->count += !row->foreign;
    row->unseen = true;
    wish_replace(book, &row->sent_wish, row->tombstone ? NULL : wish_hold(desired(row)));
    ticket->state = TICKET_SENT;
    ticket->sequence = row->sent;
    row->ticket = 0;
    row->in_flight++;
}

void flag_book_acknowledged(struct flag_book *book, uint64_t cookie)
{
    const struct ticket *ticket = flag_tickets_at(&book->tickets, cookie);
    if (!ticket || ticket->state != TICKET_SENT)
        return;
    row_at(book, ticket->row)->in_flight--;
    flag_tickets_done(&book->tickets, cookie);
}

/* Is a message that failed still what has to be said? */
static bool still_needed(const struct flag_book *book, const struct flag_row *row, const struct wish *failed)
{
    const struct wish *want = desired(row);
    if (same_message(want, failed))
        return true;
    return !book->holding && (differs(book, row) || row->tombstone);
}

void flag_book_failed(struct flag_book *book, uint64_t cookie)
{
    struct ticket *ticket = flag_tickets_at(&book->tickets, cookie);
    if (!ticket || ticket->state != TICKET_SENT)
        return;
    struct flag_row *row = row_at(book, ticket->row);
    row->in_flight--;
    bool latest = ticket->sequence.epoch == row->sent.epoch && ticket->sequence.count == row->sent.count;
    if (latest)
        row->unseen = false;
    if (!latest || row->ticket != 0 || !still_needed(book, row, row->sent_wish)) {
        flag_tickets_done(&book->tickets, cookie);
        return;
    }
    row->ticket = cookie;
    flag_tickets_again(&book->tickets, cookie);
}

uint64_t flag_book_last_cookie(const struct flag_book *book)
{
    return flag_tickets_last(&book->tickets);
}

bool flag_book_settled(const struct flag_book *book, uint64_t cookie)
{
    return flag_tickets_settled(&book->tickets, cookie);
}
