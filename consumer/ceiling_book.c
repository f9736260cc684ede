#include "ceiling_book.h"

#include <assert.h>
#include <stdlib.h>

#include "ceiling_judge.h"

enum { WHOLE_CUSTOMER = 0 };  /* number of "{}" among the words: the first one held */
enum { FORGET_SLICE = 1024 }; /* rows looked at by one call: some 10 us */

struct ceiling_book *ceiling_book_new(int32_t lane, struct lookup_seed seed)
{
    struct ceiling_book *book = calloc(1, sizeof *book);
    if (!book)
        return NULL;
    book->lane = lane;
    book->horizon_us = INT64_MIN;
    book->next_end_us = INT64_MAX;
    book->counters.row_bytes = sizeof(struct counter);
    book->states.row_bytes = sizeof(struct state);
    intern_init(&book->customers, seed);
    intern_init(&book->words, seed);
    if (word_keep(book, TEXT("{}")) == WHOLE_CUSTOMER)
        return book;
    ceiling_book_free(book);
    return NULL;
}

void ceiling_book_free(struct ceiling_book *book)
{
    if (!book)
        return;
    journal_free(book);
    for (uint32_t i = 0; i < book->states.count; i++)
        free(state_at(book, i)->verdict.flag);
    rows_free(&book->counters);
    rows_free(&book->states);
    intern_free(&book->customers);
    intern_free(&book->words);
    lookup_free(&book->by_counter);
    lookup_free(&book->by_state);
    lookup_free(&book->by_key);
    free(book->picks);
    free(book);
}

/* Meters, names and scopes are few: what was met once stays. */
uint32_t word_keep(struct ceiling_book *book, struct text text)
{
    uint32_t word = intern_find(&book->words, text);
    return word != LOOKUP_END ? word : intern_hold(&book->words, text);
}

/* Counters */

static uint64_t counter_hash(const struct counter_key *key)
{
    uint64_t hash = lookup_mix(key->customer, (uint64_t)key->meter << 32 | key->scope);
    return lookup_mix(hash ^ key->period, (uint64_t)key->start_us);
}

uint32_t counter_find(const struct ceiling_book *book, const struct counter_key *key)
{
    struct lookup_walk walk = lookup_walk(&book->by_counter, counter_hash(key));
    uint32_t row;
    while ((row = lookup_next(&book->by_counter, &walk)) != LOOKUP_END) {
        const struct counter_key *found = &counter_at(book, row)->key;
        if (found->customer == key->customer && found->meter == key->meter && found->scope == key->scope &&
            found->period == key->period && found->start_us == key->start_us)
            return row;
    }
    return LOOKUP_END;
}

static uint32_t counter_make(struct ceiling_book *book, const struct counter_key *key, bool partial)
{
    if (!lookup_reserve(&book->by_counter, 1))
        return LOOKUP_END;
    uint32_t row = rows_take(&book->counters);
    if (row == ROWS_NONE)
        return LOOKUP_END;
    *counter_at(book, row) = (struct counter){.live = true,
                                              .partial = partial,
                                              .key = *key,
                                              .end_us = ceiling_period_end(key->period, key->start_us)};
    intern_hold_again(&book->customers, key->customer);
    lookup_insert(&book->by_counter, counter_hash(key), row);
    return row;
}

/* Finds or makes the counter of a row that the store holds. */
uint32_t counter_hold(struct ceiling_book *book, const struct ceiling_counter *counter, bool partial)
{
    uint32_t customer = intern_hold(&book->customers, counter->customer_id);
    if (customer == LOOKUP_END)
        return LOOKUP_END;
    uint32_t row = LOOKUP_END;
    struct counter_key key = {.customer = customer,
                              .meter = word_keep(book, counter->meter),
                              .scope = word_keep(book, counter->scope),
                              .period = counter->period,
                              .start_us = counter->period_start_us};
    if (key.meter != LOOKUP_END && key.scope != LOOKUP_END) {
        row = counter_find(book, &key);
        if (row == LOOKUP_END)
            row = counter_make(book, &key, partial);
    }
    intern_release(&book->customers, customer);
    return row;
}

void counter_give(struct ceiling_book *book, uint32_t row)
{
    intern_release(&book->customers, counter_at(book, row)->key.customer);
    rows_give(&book->counters, row);
}

void counter_drop(struct ceiling_book *book, uint32_t row)
{
    struct counter *counter = counter_at(book, row);
    lookup_remove(&book->by_counter, counter_hash(&counter->key), row);
    counter->live = false;
    if (!journal_pins(book, counter->entry))
        counter_give(book, row);
}

static bool looked_at(const struct ceiling_book *book, const struct ceiling_catalogue *catalogue,
                      const struct counter *counter)
{
    struct ceiling_walk walk = ceiling_walk(catalogue, word_text(book, counter->key.meter),
                                            customer_text(book, counter->key.customer));
    return counter->key.scope == WHOLE_CUSTOMER &&
           ceiling_walk_judges(walk, counter->key.period, counter->key.start_us);
}

void counters_drop_unwatched(struct ceiling_book *book)
{
    for (uint32_t row = 0; row < book->counters.count; row++) {
        const struct counter *counter = counter_at(book, row);
        if (counter->live && !looked_at(book, book->adopted, counter) &&
            !looked_at(book, book->shadow, counter))
            counter_drop(book, row);
    }
}

/* States */

static uint64_t key_hash(const struct state_key *key)
{
    return lookup_mix(key->customer, (uint64_t)key->ceiling << 32 | key->scope);
}

static uint64_t state_hash(const struct state_key *key)
{
    return lookup_mix(key_hash(key), (uint64_t)key->start_us);
}

static bool same_key(const struct state_key *a, const struct state_key *b)
{
    return a->customer == b->customer && a->ceiling == b->ceiling && a->scope == b->scope;
}

/* By texts, customer first: the same after any restart. The period is left out. */
int state_key_order(const struct ceiling_book *book, const struct state_key *a, const struct state_key *b)
{
    int order = text_order(customer_text(book, a->customer), customer_text(book, b->customer));
    if (order == 0)
        order = text_order(word_text(book, a->ceiling), word_text(book, b->ceiling));
    return order != 0 ? order : text_order(word_text(book, a->scope), word_text(book, b->scope));
}

uint32_t state_find(const struct ceiling_book *book, const struct state_key *key)
{
    struct lookup_walk walk = lookup_walk(&book->by_state, state_hash(key));
    uint32_t row;
    while ((row = lookup_next(&book->by_state, &walk)) != LOOKUP_END) {
        const struct state_key *found = &state_at(book, row)->key;
        if (same_key(found, key) && found->start_us == key->start_us)
            return row;
    }
    return LOOKUP_END;
}

uint32_t state_make(struct ceiling_book *book, const struct state_key *key)
{
    if (!lookup_reserve(&book->by_state, 1))
        return LOOKUP_END;
    uint32_t row = rows_take(&book->states);
    if (row == ROWS_NONE)
        return LOOKUP_END;
    *state_at(book, row) = (struct state){.live = true, .key = *key, .verdict.meter = LOOKUP_END};
    intern_hold_again(&book->customers, key->customer);
    lookup_insert(&book->by_state, state_hash(key), row);
    return row;
}

void state_turn(struct ceiling_book *book, uint32_t row, const struct verdict *verdict)
{
    struct state *state = state_at(book, row);
    if (state->verdict.active && !verdict->active)
        lookup_remove(&book->by_key, key_hash(&state->key), row);
    if (!state->verdict.active && verdict->active)
        lookup_insert(&book->by_key, key_hash(&state->key), row);
    if (verdict->active && verdict->end_us < book->next_end_us)
        book->next_end_us = verdict->end_us;
    state->verdict = *verdict;
}

/* Is another period of the same customer, ceiling and scope crossed? later: one that starts later. */
bool state_other_active(const struct ceiling_book *book, const struct state *state, bool later)
{
    struct lookup_walk walk = lookup_walk(&book->by_key, key_hash(&state->key));
    uint32_t row;
    while ((row = lookup_next(&book->by_key, &walk)) != LOOKUP_END) {
        const struct state_key *other = &state_at(book, row)->key;
        if (same_key(other, &state->key) &&
            (later ? other->start_us > state->key.start_us : other->start_us != state->key.start_us))
            return true;
    }
    return false;
}

static void state_drop(struct ceiling_book *book, uint32_t row)
{
    struct state *state = state_at(book, row);
    lookup_remove(&book->by_state, state_hash(&state->key), row);
    intern_release(&book->customers, state->key.customer);
    free(state->verdict.flag);
    rows_give(&book->states, row);
}

/* Takeover */

bool ceiling_book_restore_counter(struct ceiling_book *book, const struct ceiling_counter *counter)
{
    uint32_t row = counter_hold(book, counter, false);
    if (row == LOOKUP_END)
        return false;
    counter_at(book, row)->used = counter->used;
    return true;
}

static bool verdict_restore(struct verdict *verdict, const struct ceiling_state *state)
{
    *verdict = (struct verdict){.end_us = state->period_end_us,
                                .version = state->version,
                                .transition = state->transition,
                                .active = state->active,
                                .meter = LOOKUP_END,
                                .flag_length = state->flag.length};
    memcpy(verdict->decision_id, state->decision_id, sizeof verdict->decision_id - 1);
    if (state->flag.length == 0)
        return true;
    verdict->flag = malloc(state->flag.length);
    if (!verdict->flag)
        return false;
    memcpy(verdict->flag, state->flag.bytes, state->flag.length);
    return true;
}

static uint32_t state_restored(struct ceiling_book *book, const struct ceiling_state *state)
{
    uint32_t customer = intern_hold(&book->customers, state->customer_id);
    if (customer == LOOKUP_END)
        return LOOKUP_END;
    struct state_key key = {.customer = customer,
                            .ceiling = word_keep(book, state->ceiling),
                            .scope = word_keep(book, state->scope),
                            .start_us = state->period_start_us};
    uint32_t row = LOOKUP_END;
    if (key.ceiling != LOOKUP_END && key.scope != LOOKUP_END) {
        row = state_find(book, &key);
        if (row == LOOKUP_END)
            row = state_make(book, &key);
    }
    intern_release(&book->customers, customer);
    return row;
}

bool ceiling_book_restore_state(struct ceiling_book *book, const struct ceiling_state *state)
{
    uint32_t row = state_restored(book, state);
    struct verdict verdict;
    if (row == LOOKUP_END || !lookup_reserve(&book->by_key, 1) || !verdict_restore(&verdict, state))
        return false;
    free(state_at(book, row)->verdict.flag);
    state_turn(book, row, &verdict);
    return true;
}

void ceiling_book_use(struct ceiling_book *book, const struct ceiling_catalogue *catalogue)
{
    book->adopted = catalogue;
    book->unjudged = true;
    counters_drop_unwatched(book);
}

const struct ceiling_catalogue *ceiling_book_catalogue(const struct ceiling_book *book)
{
    return book->adopted;
}

/* Counting */

struct watch { /* what one event counts in */
    struct ceiling_walk adopted, shadow;
    uint32_t counters[PERIOD_COUNT]; /* LOOKUP_END: not counted */
    decimal_t before[PERIOD_COUNT];
};

static struct watch watch_event(const struct ceiling_book *book, const struct event *event)
{
    struct watch watch = {.adopted = ceiling_walk(book->adopted, event->meter, event->customer_id),
                          .shadow = ceiling_walk(book->shadow, event->meter, event->customer_id)};
    for (int period = 0; period < PERIOD_COUNT; period++)
        watch.counters[period] = LOOKUP_END;
    return watch;
}

static bool within_horizon(const struct ceiling_book *book, enum ceiling_period period, int64_t time_us)
{
    return time_us > book->horizon_us || ceiling_period_end(period, time_us) > book->horizon_us;
}

bool ceiling_book_counts(const struct ceiling_book *book, const struct event *event)
{
    struct watch watch = watch_event(book, event);
    for (enum ceiling_period period = 0; period < PERIOD_COUNT; period++)
        if (within_horizon(book, period, event->time_us) &&
            (ceiling_walk_judges(watch.adopted, period, event->time_us) ||
             ceiling_walk_judges(watch.shadow, period, event->time_us)))
            return true;
    return false;
}

/* A counter that is there is one that some ceiling looks at. */
static bool count_in(struct ceiling_book *book, struct watch *watch, const struct counter_key *key,
                     decimal_t quantity)
{
    uint32_t row = counter_find(book, key);
    if (row == LOOKUP_END) {
        bool adopted = ceiling_walk_judges(watch->adopted, key->period, key->start_us);
        if (!adopted && !ceiling_walk_judges(watch->shadow, key->period, key->start_us))
            return true;
        row = counter_make(book, key, !adopted);
    }
    if (row == LOOKUP_END || !journal_reserve(book, 1))
        return false;
    struct counter *counter = counter_at(book, row);
    watch->counters[key->period] = row;
    watch->before[key->period] = counter->used;
    if (!decimal_add(&counter->used, quantity))
        return false;
    journal_counted(book, row, quantity);
    return true;
}

static bool count_periods(struct ceiling_book *book, struct watch *watch, struct counter_key *key,
                          const struct event *event)
{
    uint32_t period_mask = watch->adopted.period_mask | watch->shadow.period_mask;
    for (enum ceiling_period period = 0; period < PERIOD_COUNT; period++) {
        if (!(period_mask >> period & 1) || !within_horizon(book, period, event->time_us))
            continue;
        key->period = period;
        key->start_us = ceiling_period_start(period, event->time_us);
        if (!count_in(book, watch, key, event->quantity))
            return false;
    }
    return true;
}

static bool count_event(struct ceiling_book *book, struct watch *watch, const struct event *event)
{
    struct counter_key key = {.customer = intern_find(&book->customers, event->customer_id),
                              .meter = word_keep(book, event->meter),
                              .scope = WHOLE_CUSTOMER};
    if (key.meter == LOOKUP_END)
        return false;
    if (key.customer != LOOKUP_END)
        return count_periods(book, watch, &key, event);
    key.customer = intern_hold(&book->customers, event->customer_id);
    if (key.customer == LOOKUP_END)
        return false;
    bool counted = count_periods(book, watch, &key, event);
    intern_release(&book->customers, key.customer); /* its counters hold it now */
    return counted;
}

bool ceiling_book_count(struct ceiling_book *book, const struct event *event, struct ceiling_origin origin,
                        int64_t now_us, ceiling_decided decided, void *context)
{
    struct watch watch = watch_event(book, event);
    if ((watch.adopted.period_mask | watch.shadow.period_mask) == 0)
        return true;
    if (!count_event(book, &watch, event))
        return false;
    const struct cause cause = {.source = DECIDED_BY_EVENT,
                                .now_us = now_us,
                                .event = event,
                                .origin = origin,
                                .decided = decided,
                                .context = context};
    const struct ceiling *ceiling;
    while ((ceiling = ceiling_walk_next(&watch.adopted))) {
        uint32_t row = watch.counters[ceiling->period];
        bool meant = ceiling->who_kind != WHO_PLAN || text_equal(ceiling->who, event->plan_tier);
        if (row != LOOKUP_END && meant &&
            !judge_counted(book, ceiling, row, watch.before[ceiling->period], &cause))
            return false;
    }
    return true;
}

/* Housekeeping */

static void forget_counter(struct ceiling_book *book, uint32_t row)
{
    const struct counter *counter = counter_at(book, row);
    if (counter->live && counter->end_us <= book->horizon_us && !journal_pins(book, counter->entry))
        counter_drop(book, row);
}

static void forget_state(struct ceiling_book *book, uint32_t row)
{
    const struct state *state = state_at(book, row);
    if (state->live && state->verdict.end_us <= book->horizon_us && !state->verdict.active &&
        !journal_pins(book, state->entry))
        state_drop(book, row);
}

void ceiling_book_forget(struct ceiling_book *book, int64_t before_us)
{
    if (before_us > book->horizon_us)
        book->horizon_us = before_us;
    for (uint32_t i = 0; i < FORGET_SLICE && i < book->counters.count; i++) {
        book->swept_counter = (book->swept_counter + 1) % book->counters.count;
        forget_counter(book, book->swept_counter);
    }
    for (uint32_t i = 0; i < FORGET_SLICE && i < book->states.count; i++) {
        book->swept_state = (book->swept_state + 1) % book->states.count;
        forget_state(book, book->swept_state);
    }
}

size_t ceiling_book_bytes(const struct ceiling_book *book)
{
    return sizeof *book + intern_bytes(&book->customers) + intern_bytes(&book->words) +
           rows_bytes(&book->counters) + rows_bytes(&book->states) + lookup_bytes(&book->by_counter) +
           lookup_bytes(&book->by_state) + lookup_bytes(&book->by_key) +
           book->entry_capacity * sizeof *book->entries + book->pick_capacity * sizeof *book->picks;
}
