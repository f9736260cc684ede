/* How a ceiling_book changes to a new catalogue without missing an event. */
#include <assert.h>

#include "ceiling_rows.h"

bool ceiling_book_shadow(struct ceiling_book *book, const struct ceiling_catalogue *catalogue)
{
    ceiling_book_cancel(book);
    book->shadow = catalogue;
    return true;
}

static bool looks_at(const struct ceiling_catalogue *catalogue, const struct ceiling_counter *counter)
{
    return ceiling_walk_judges(ceiling_walk(catalogue, counter->meter, counter->customer_id), counter->period,
                               counter->period_start_us);
}

bool ceiling_book_wants_seed(const struct ceiling_book *book, const struct ceiling_counter *sum)
{
    return text_equal(sum->scope, TEXT("{}")) && looks_at(book->shadow, sum) && !looks_at(book->adopted, sum);
}

bool ceiling_book_seed(struct ceiling_book *book, const struct ceiling_counter *sum)
{
    if (ceiling_period_end(sum->period, sum->period_start_us) <= book->horizon_us ||
        !ceiling_book_wants_seed(book, sum))
        return true;
    uint32_t row = counter_hold(book, sum, true);
    return row != LOOKUP_END && decimal_add(&counter_at(book, row)->used, sum->used);
}

bool ceiling_book_adopt(struct ceiling_book *book)
{
    assert(book->shadow);
    if (!journal_reserve(book, (size_t)book->counters.count + 1))
        return false;
    const struct entry entry = {
        .kind = ENTRY_CATALOGUE, .outgoing = book->adopted, .owed = book->owed, .unjudged = book->unjudged};
    journal_add(book, entry, NULL);
    book->owed = false;
    book->adopted = book->shadow;
    book->shadow = NULL;
    book->unjudged = true;
    for (uint32_t row = 0; row < book->counters.count; row++) {
        struct counter *counter = counter_at(book, row);
        if (!counter->live || !counter->partial)
            continue;
        counter->partial = false;
        journal_add(book, (struct entry){.kind = ENTRY_ADOPTED, .row = row}, &counter->entry);
    }
    return true;
}

void ceiling_book_cancel(struct ceiling_book *book)
{
    book->shadow = NULL;
    for (uint32_t row = 0; row < book->counters.count; row++)
        if (counter_at(book, row)->live && counter_at(book, row)->partial)
            counter_drop(book, row);
}
