/* How a ceiling_book decides: transitions, by an event, by the clock, by other ceilings. */
#include <sodium.h>
#include <stdlib.h>

#include "ceiling_judge.h"
#include "json_load.h"

const char *const decision_source_names[DECISION_SOURCES] = {"event", "clock", "ceilings"};

enum { DECISION_ID_BYTES = 16 };

/* A transition about to be made. */
struct turn {
    uint32_t state;
    const struct ceiling *ceiling; /* NULL: what the state itself remembers */
    bool active;
    enum decision_reason reason;
    decimal_t before, used;
};

static void hash_number(crypto_generichash_state *hash, int64_t number)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)number >> (8 * i));
    crypto_generichash_update(hash, bytes, sizeof bytes);
}

static void hash_text(crypto_generichash_state *hash, struct text text)
{
    hash_number(hash, text.length);
    crypto_generichash_update(hash, (const unsigned char *)text.bytes, text.length);
}

static void name_decision(const struct ceiling_book *book, const struct state_key *key,
                          struct verdict *verdict)
{
    crypto_generichash_state hash;
    unsigned char digest[DECISION_ID_BYTES];
    crypto_generichash_init(&hash, NULL, 0, sizeof digest);
    hash_text(&hash, customer_text(book, key->customer));
    hash_text(&hash, word_text(book, key->ceiling));
    hash_text(&hash, word_text(book, key->scope));
    hash_number(&hash, key->start_us);
    hash_number(&hash, verdict->end_us);
    hash_number(&hash, verdict->transition);
    crypto_generichash_final(&hash, digest, sizeof digest);
    sodium_bin2hex(verdict->decision_id, sizeof verdict->decision_id, digest, sizeof digest);
}

static enum ceiling_period period_between(int64_t start_us, int64_t end_us)
{
    for (enum ceiling_period period = 0; period < PERIOD_MONTH; period++)
        if (ceiling_period_end(period, start_us) == end_us)
            return period;
    return PERIOD_MONTH;
}

static decimal_t json_decimal(const json_t *json)
{
    decimal_t value = 0;
    if (json_is_string(json))
        decimal_parse(json_string_value(json), json_string_length(json), &value);
    return value;
}

static bool recall_flag(struct ceiling_book *book, struct verdict *verdict, const json_t *flag)
{
    const char *meter = json_string_value(json_object_get(flag, "meter"));
    const char *policy = json_string_value(json_object_get(flag, "policy"));
    for (int i = 0; policy && i < POLICY_COUNT; i++)
        if (strcmp(policy, ceiling_policy_names[i]) == 0)
            verdict->policy = (uint8_t)i;
    verdict->limit = json_decimal(json_object_get(flag, "limit"));
    verdict->used = json_decimal(json_object_get(flag, "used"));
    verdict->meter = word_keep(book, text_of(meter ? meter : ""));
    return verdict->meter != LOOKUP_END;
}

/* What a restored state remembers only in its flag. */
static bool recall(struct ceiling_book *book, struct verdict *verdict)
{
    if (verdict->meter != LOOKUP_END)
        return true;
    bool starved;
    json_t *flag =
        json_load_text((struct text){verdict->flag, (uint32_t)verdict->flag_length}, 0, NULL, &starved);
    bool recalled = !starved && recall_flag(book, verdict, flag);
    json_decref(flag);
    return recalled;
}

static bool is_published(const struct ceiling_book *book, const struct state *state,
                         enum decision_source source, int64_t now_us)
{
    if (source == DECIDED_BY_EVENT && state->verdict.end_us <= now_us)
        return false;
    return !state_other_active(book, state, state->verdict.active);
}

static void tell_event(struct decision *decision, const struct cause *cause)
{
    const struct event *event = cause->event;
    decision->event_id = event->event_id;
    decision->event_time_us = event->time_us;
    decision->topic = cause->origin.topic;
    decision->partition = cause->origin.partition;
    decision->offset = cause->origin.offset;
    decision->plan_tier = event->plan_tier;
    decision->has_credit_balance = event->has_credit_balance;
    decision->has_contractual_cap = event->has_contractual_cap;
    decision->credit_balance = event->credit_balance;
    decision->contractual_cap = event->contractual_cap;
}

static bool tell(const struct ceiling_book *book, const struct state *state, const struct turn *turn,
                 const struct cause *cause)
{
    const struct verdict *verdict = &state->verdict;
    struct decision decision = {.lane = book->lane,
                                .customer_id = customer_text(book, state->key.customer),
                                .ceiling = word_text(book, state->key.ceiling),
                                .scope = word_text(book, state->key.scope),
                                .meter = word_text(book, verdict->meter),
                                .version = verdict->version,
                                .policy = verdict->policy,
                                .period = period_between(state->key.start_us, state->verdict.end_us),
                                .period_start_us = state->key.start_us,
                                .period_end_us = state->verdict.end_us,
                                .transition = verdict->transition,
                                .active = verdict->active,
                                .limit = verdict->limit,
                                .used_before = turn->before,
                                .used = turn->used,
                                .source = cause->source,
                                .reason = turn->reason,
                                .decided_at_us = cause->now_us,
                                .published = is_published(book, state, cause->source, cause->now_us)};
    memcpy(decision.id, verdict->decision_id, sizeof decision.id);
    if (cause->event)
        tell_event(&decision, cause);
    return cause->decided(cause->context, &decision);
}

static bool verdict_of(struct ceiling_book *book, const struct turn *turn, struct verdict *verdict)
{
    struct state *state = state_at(book, turn->state);
    if (!turn->ceiling && !recall(book, &state->verdict))
        return false;
    *verdict = state->verdict;
    verdict->flag = NULL;
    verdict->flag_length = 0;
    verdict->transition++;
    verdict->active = turn->active;
    verdict->used = turn->used;
    if (turn->ceiling) {
        verdict->end_us = ceiling_period_end(turn->ceiling->period, state->key.start_us);
        verdict->version = turn->ceiling->version;
        verdict->policy = (uint8_t)turn->ceiling->policy;
        verdict->limit = turn->ceiling->limit;
        verdict->meter = word_keep(book, turn->ceiling->meter);
    }
    name_decision(book, &state->key, verdict);
    return verdict->meter != LOOKUP_END;
}

static bool make_turn(struct ceiling_book *book, const struct turn *turn, const struct cause *cause)
{
    struct verdict verdict;
    if (!journal_reserve(book, 1) || !lookup_reserve(&book->by_key, 1) || !verdict_of(book, turn, &verdict))
        return false;
    struct verdict *former = malloc(sizeof *former);
    if (!former)
        return false;
    struct state *state = state_at(book, turn->state);
    *former = state->verdict;
    journal_decided(book, turn->state, former);
    state_turn(book, turn->state, &verdict);
    return tell(book, state, turn, cause);
}

/* The state that a ceiling has for a counter's customer and period. */
static bool state_key_of(const struct ceiling_book *book, const struct ceiling *ceiling,
                         const struct counter *counter, struct state_key *key)
{
    *key = (struct state_key){.customer = counter->key.customer,
                              .ceiling = intern_find(&book->words, ceiling->name),
                              .scope = counter->key.scope,
                              .start_us = counter->key.start_us};
    return key->ceiling != LOOKUP_END;
}

/* LOOKUP_END: it was never crossed. */
static uint32_t state_of(const struct ceiling_book *book, const struct ceiling *ceiling,
                         const struct counter *counter)
{
    struct state_key key;
    uint32_t row = state_key_of(book, ceiling, counter, &key) ? state_find(book, &key) : LOOKUP_END;
    return row != LOOKUP_END && state_at(book, row)->verdict.transition > 0 ? row : LOOKUP_END;
}

enum judgement { STAYS, CROSSES, CLEARS };

/* In a period that is over only what rises over the limit crosses again: the clock has cleared it. */
static enum judgement judge(const struct ceiling_book *book, const struct ceiling *ceiling,
                            const struct counter *counter, uint32_t row, decimal_t before, int64_t now_us)
{
    if (counter->end_us <= ceiling->created_at_us)
        return STAYS;
    if (row != LOOKUP_END && state_at(book, row)->verdict.active)
        return counter->used <= ceiling->clear_level ? CLEARS : STAYS;
    if (counter->used <= ceiling->limit)
        return STAYS;
    bool again = row != LOOKUP_END && counter->end_us <= now_us;
    return again && before > ceiling->limit ? STAYS : CROSSES;
}

static bool turn_counter(struct ceiling_book *book, const struct ceiling *ceiling, uint32_t counter_row,
                         enum judgement judgement, decimal_t before, const struct cause *cause)
{
    const struct counter *counter = counter_at(book, counter_row);
    struct state_key key;
    if (word_keep(book, ceiling->name) == LOOKUP_END || !state_key_of(book, ceiling, counter, &key))
        return false;
    uint32_t row = state_find(book, &key);
    if (row == LOOKUP_END)
        row = state_make(book, &key);
    if (row == LOOKUP_END)
        return false;
    const struct turn turn = {.state = row,
                              .ceiling = ceiling,
                              .active = judgement == CROSSES,
                              .reason = judgement == CROSSES ? REASON_CROSSED : REASON_WITHIN_AGAIN,
                              .before = before,
                              .used = counter->used};
    return make_turn(book, &turn, cause);
}

bool judge_counted(struct ceiling_book *book, const struct ceiling *ceiling, uint32_t counter_row,
                   decimal_t before, const struct cause *cause)
{
    const struct counter *counter = counter_at(book, counter_row);
    /* Whatever is judged at each event is cleared by now; that spares the common case a look at the state. */
    if (!book->unjudged && ceiling->who_kind != WHO_PLAN && counter->used <= ceiling->limit &&
        before <= ceiling->clear_level)
        return true;
    uint32_t row = state_of(book, ceiling, counter);
    enum judgement judgement = judge(book, ceiling, counter, row, before, cause->now_us);
    return judgement == STAYS || turn_counter(book, ceiling, counter_row, judgement, before, cause);
}

/* Judging many at once */

static bool pick_add(struct ceiling_book *book, const struct pick *pick)
{
    if (book->pick_count == book->pick_capacity) {
        size_t capacity = book->pick_capacity ? 2 * book->pick_capacity : 16;
        struct pick *picks = realloc(book->picks, capacity * sizeof *picks);
        if (!picks)
            return false;
        book->picks = picks;
        book->pick_capacity = capacity;
    }
    book->picks[book->pick_count++] = *pick;
    return true;
}

static int pick_order(const void *left, const void *right, void *context)
{
    const struct pick *a = left, *b = right;
    int order = state_key_order(context, &a->key, &b->key);
    return order != 0 ? order : (a->key.start_us > b->key.start_us) - (a->key.start_us < b->key.start_us);
}

static void picks_sort(struct ceiling_book *book)
{
    if (book->pick_count > 1)
        qsort_r(book->picks, book->pick_count, sizeof *book->picks, pick_order, book);
}

/* The counter that a state without its ceiling was about; LOOKUP_END: it is gone too. */
static uint32_t counter_of(const struct ceiling_book *book, const struct state *state)
{
    struct counter_key key = {.customer = state->key.customer,
                              .meter = state->verdict.meter,
                              .scope = state->key.scope,
                              .period = period_between(state->key.start_us, state->verdict.end_us),
                              .start_us = state->key.start_us};
    return counter_find(book, &key);
}

/* A state's ceiling, if it still means the same customer, meter and period. */
static const struct ceiling *meant_ceiling(const struct ceiling_book *book, const struct state *state)
{
    const struct ceiling *ceiling =
        ceiling_catalogue_find(book->adopted, word_text(book, state->key.ceiling));
    if (!ceiling || ceiling->period != period_between(state->key.start_us, state->verdict.end_us))
        return NULL;
    struct text meter = word_text(book, state->verdict.meter); /* empty: restored without its flag */
    if (meter.length > 0 && !text_equal(ceiling->meter, meter))
        return NULL;
    bool its = ceiling->who_kind != WHO_CUSTOMER ||
               text_equal(ceiling->who, customer_text(book, state->key.customer));
    return its ? ceiling : NULL;
}

static bool clear_picked(struct ceiling_book *book, enum decision_reason reason, const struct cause *cause)
{
    picks_sort(book);
    for (size_t i = 0; i < book->pick_count; i++) {
        struct state *state = state_at(book, book->picks[i].state);
        if (!recall(book, &state->verdict))
            return false;
        uint32_t counter = counter_of(book, state);
        decimal_t used = counter != LOOKUP_END ? counter_at(book, counter)->used : state->verdict.used;
        const struct turn turn = {.state = book->picks[i].state,
                                  .ceiling = meant_ceiling(book, state),
                                  .reason = reason,
                                  .before = used,
                                  .used = used};
        if (!make_turn(book, &turn, cause))
            return false;
    }
    return true;
}

static bool pick_ended(struct ceiling_book *book, int64_t now_us)
{
    size_t cell = 0;
    uint32_t row;
    book->pick_count = 0;
    while ((row = lookup_each(&book->by_key, &cell)) != LOOKUP_END) {
        const struct pick pick = {.key = state_at(book, row)->key, .state = row};
        if (state_at(book, row)->verdict.end_us <= now_us && !pick_add(book, &pick))
            return false;
    }
    return true;
}

static int64_t least_end_us(const struct ceiling_book *book)
{
    int64_t least_us = INT64_MAX;
    size_t cell = 0;
    uint32_t row;
    while ((row = lookup_each(&book->by_key, &cell)) != LOOKUP_END)
        if (state_at(book, row)->verdict.end_us < least_us)
            least_us = state_at(book, row)->verdict.end_us;
    return least_us;
}

static bool pick_gone(struct ceiling_book *book)
{
    size_t cell = 0;
    uint32_t row;
    book->pick_count = 0;
    while ((row = lookup_each(&book->by_key, &cell)) != LOOKUP_END) {
        struct state *state = state_at(book, row);
        const struct pick pick = {.key = state->key, .state = row};
        if (!recall(book, &state->verdict) || (!meant_ceiling(book, state) && !pick_add(book, &pick)))
            return false;
    }
    return true;
}

static bool pick_counter(struct ceiling_book *book, uint32_t counter_row, int64_t now_us)
{
    const struct counter *counter = counter_at(book, counter_row);
    struct ceiling_walk walk = ceiling_walk(book->adopted, word_text(book, counter->key.meter),
                                            customer_text(book, counter->key.customer));
    const struct ceiling *ceiling;
    while ((ceiling = ceiling_walk_next(&walk))) {
        uint32_t row = ceiling->period == counter->key.period ? state_of(book, ceiling, counter) : LOOKUP_END;
        if (ceiling->period != counter->key.period || (ceiling->who_kind == WHO_PLAN && row == LOOKUP_END) ||
            judge(book, ceiling, counter, row, counter->used, now_us) == STAYS)
            continue;
        struct pick pick = {.ceiling = ceiling, .counter = counter_row, .state = row};
        if (word_keep(book, ceiling->name) == LOOKUP_END ||
            !state_key_of(book, ceiling, counter, &pick.key) || !pick_add(book, &pick))
            return false;
    }
    return true;
}

static bool pick_counters(struct ceiling_book *book, int64_t now_us)
{
    book->pick_count = 0;
    for (uint32_t row = 0; row < book->counters.count; row++) {
        const struct counter *counter = counter_at(book, row);
        if (counter->live && !counter->partial && counter->end_us > now_us &&
            !pick_counter(book, row, now_us))
            return false;
    }
    return true;
}

static bool turn_picked(struct ceiling_book *book, const struct cause *cause)
{
    picks_sort(book);
    for (size_t i = 0; i < book->pick_count; i++) {
        const struct pick *pick = &book->picks[i];
        const struct counter *counter = counter_at(book, pick->counter);
        enum judgement judgement =
            judge(book, pick->ceiling, counter, pick->state, counter->used, cause->now_us);
        if (!turn_counter(book, pick->ceiling, pick->counter, judgement, counter->used, cause))
            return false;
    }
    return true;
}

bool ceiling_book_judge(struct ceiling_book *book, enum decision_source source, int64_t now_us,
                        ceiling_decided decided, void *context)
{
    const struct cause cause = {.source = source, .now_us = now_us, .decided = decided, .context = context};
    book->owed = !journal_reserve(book, 1);
    if (book->owed)
        return false;
    journal_add(book, (struct entry){.kind = ENTRY_JUDGED}, NULL);
    book->unjudged = false;
    return pick_gone(book) && clear_picked(book, REASON_CEILING_GONE, &cause) &&
           pick_counters(book, now_us) && turn_picked(book, &cause);
}

bool ceiling_book_tick(struct ceiling_book *book, int64_t now_us, ceiling_decided decided, void *context)
{
    if (now_us < ceiling_book_next_end_us(book))
        return true;
    const struct cause cause = {
        .source = DECIDED_BY_CLOCK, .now_us = now_us, .decided = decided, .context = context};
    if (book->owed && !ceiling_book_judge(book, DECIDED_BY_CEILINGS, now_us, decided, context))
        return false;
    if (!pick_ended(book, now_us) || !clear_picked(book, REASON_PERIOD_OVER, &cause))
        return false;
    book->next_end_us = least_end_us(book);
    return true;
}

int64_t ceiling_book_next_end_us(const struct ceiling_book *book)
{
    if (book->owed)
        return INT64_MIN;
    return book->by_key.count > 0 ? book->next_end_us : INT64_MAX;
}
