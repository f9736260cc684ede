/* Random histories of a book against a model that keeps all events and adds them up anew at each question.
 * What is undone, seeded, adopted or cancelled on the way must not make a difference. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "ceiling_fixture.h"
#include "suite.h"

enum { CUSTOMERS = 3, NAMES = 8, HOURS = 60, EVENTS = 4000, CATALOGUES = 200, MARKS = 64 };

static const char *const customers[CUSTOMERS] = {"acme", "bolt", "zed"};
static const char *const plans[] = {"", "pro", "free"};
static const char *const meters[] = {"tokens", "calls"};
static const char *const names[NAMES] = {"c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"};
#define ORIGIN_US ((int64_t)1796000400000000) /* 2026-11-30T01:00:00Z: a month ends on the way */

struct use {
    int customer, meter, plan, quantity;
    int64_t time_us;
};

struct known {
    long transition;
    bool active;
};

/* What undo() takes back. */
struct past {
    uint64_t mark;
    size_t uses;
    struct known known[CUSTOMERS][NAMES]
                      [HOURS]; /* by the hour that the period starts in; 0: before the first one */
    struct ceiling_catalogue *adopted;
    int adoption; /* number of adoptions before */
};

static struct model {
    unsigned random;
    struct ceiling_book *book;
    struct use uses[EVENTS];
    struct past now, past[MARKS];
    size_t past_count; /* uncommitted marks, oldest first; the first one is where commit() was */
    struct ceiling_catalogue *catalogues[CATALOGUES];
    size_t catalogue_count;
    struct ceiling_catalogue *shadow;
    uint64_t shadow_mark;
    size_t shadow_uses; /* at its boundary */
    bool seeded;
    int64_t clock_us;
    int64_t created_us[NAMES]; /* a name's first version is as old as it is, whatever its last one says */
    char expected[65536];
    size_t expected_length;
    size_t decisions;
} model;

static unsigned pick(unsigned below)
{
    model.random = model.random * 1103515245u + 12345u;
    return (model.random >> 16) % below;
}

static const struct ceiling *ceilings(size_t *count)
{
    *count = model.now.adopted->count;
    return model.now.adopted->ceilings;
}

static int name_of(const struct ceiling *ceiling)
{
    return ceiling->name.bytes[1] - '0';
}

static int slot_of(int64_t start_us)
{
    int64_t hour = (start_us - ORIGIN_US) / HOUR_US + 1;
    return hour < 0 ? 0 : (int)hour;
}

static decimal_t used(size_t uses, int customer, struct text meter, enum ceiling_period period,
                      int64_t start_us)
{
    decimal_t sum = 0;
    for (size_t i = 0; i < uses; i++)
        if (model.uses[i].customer == customer && text_equal(text_of(meters[model.uses[i].meter]), meter) &&
            ceiling_period_start(period, model.uses[i].time_us) == start_us)
            sum += model.uses[i].quantity * DECIMAL_ONE;
    return sum;
}

static bool is_for(const struct ceiling *ceiling, int customer)
{
    return ceiling->who_kind != WHO_CUSTOMER || text_equal(ceiling->who, text_of(customers[customer]));
}

/* Is another period of the key active? later: one that starts later. */
static bool other_active(int customer, int name, int slot, bool later)
{
    for (int other = later ? slot + 1 : 0; other < HOURS; other++)
        if (other != slot && model.now.known[customer][name][other].active)
            return true;
    return false;
}

static void expect(int customer, const struct ceiling *ceiling, int64_t start_us, decimal_t before,
                   decimal_t after, const char *why, bool hidden)
{
    int slot = slot_of(start_us);
    struct known *known = &model.now.known[customer][name_of(ceiling)][slot];
    known->active = !known->active;
    known->transition++;
    hidden = hidden || other_active(customer, name_of(ceiling), slot, known->active);
    char numbers[3][DECIMAL_TEXT_BYTES];
    decimal_text(before, numbers[0]);
    decimal_text(after, numbers[1]);
    decimal_text(ceiling->limit, numbers[2]);
    model.expected_length += (size_t)snprintf(
        model.expected + model.expected_length, sizeof model.expected - model.expected_length,
        "%s/%s %c%ld %s>%s/%s %s%s\n", customers[customer], names[name_of(ceiling)],
        known->active ? '+' : '-', known->transition, numbers[0], numbers[1], numbers[2], why,
        hidden ? " unpublished" : "");
    model.decisions++;
}

static void check_heard(void)
{
    if (strcmp(heard(), model.expected) != 0)
        ck_abort_msg("heard:\n%sexpected:\n%s", heard(), model.expected);
    heard_clear();
    model.expected_length = 0;
    model.expected[0] = '\0';
}

/* Counting */

static void expect_judged(const struct use *use, const struct ceiling *ceiling)
{
    int64_t start_us = ceiling_period_start(ceiling->period, use->time_us);
    int64_t end_us = ceiling_period_end(ceiling->period, use->time_us);
    decimal_t after = used(model.now.uses, use->customer, ceiling->meter, ceiling->period, start_us);
    decimal_t before = after - use->quantity * DECIMAL_ONE;
    const struct known *known = &model.now.known[use->customer][name_of(ceiling)][slot_of(start_us)];
    bool over = end_us <= model.clock_us;
    bool again = over && known->transition > 0;
    bool crosses = !known->active && after > ceiling->limit && !(again && before > ceiling->limit);
    bool clears = known->active && after <= ceiling->clear_level;
    if (end_us > ceiling->created_at_us && (crosses || clears))
        expect(use->customer, ceiling, start_us, before, after, "event", over);
}

static void do_count(void)
{
    if (model.now.uses == EVENTS)
        return;
    struct use *use = &model.uses[model.now.uses++];
    int64_t late_us = pick(4) ? pick(50) * HOUR_US / 100 : pick(30) * HOUR_US;
    *use = (struct use){.customer = (int)pick(CUSTOMERS),
                        .meter = (int)pick(2),
                        .plan = (int)pick(3),
                        .quantity = (int)pick(30) - 8,
                        .time_us = model.clock_us + HOUR_US / 10 - late_us};
    if (use->time_us < ORIGIN_US)
        use->time_us = ORIGIN_US;
    ck_assert(count(model.book, customers[use->customer], meters[use->meter], plans[use->plan], use->quantity,
                    use->time_us, model.clock_us));
    size_t rules;
    const struct ceiling *ceiling = ceilings(&rules);
    for (size_t i = 0; i < rules; i++)
        if (text_equal(ceiling[i].meter, text_of(meters[use->meter])) && is_for(&ceiling[i], use->customer) &&
            (ceiling[i].who_kind != WHO_PLAN || text_equal(ceiling[i].who, text_of(plans[use->plan]))))
            expect_judged(use, &ceiling[i]);
    check_heard();
}

/* Judging all */

static const struct ceiling *adopted_by_name(int name)
{
    return ceiling_catalogue_find(model.now.adopted, text_of(names[name]));
}

/* Each name has one meter and one period in every catalogue. */
static enum ceiling_period period_of(int name)
{
    return (enum ceiling_period)(name % PERIOD_COUNT);
}

static int64_t start_of(int name, int slot)
{
    return ceiling_period_start(period_of(name), ORIGIN_US + (slot > 0 ? slot - 1 : 0) * HOUR_US);
}

static void each_slot(void (*visit)(int customer, int name, int slot))
{
    for (int customer = 0; customer < CUSTOMERS; customer++)
        for (int name = 0; name < NAMES; name++)
            for (int slot = 0; slot < HOURS; slot++)
                visit(customer, name, slot);
}

static void end_one(int customer, int name, int slot)
{
    struct known *known = &model.now.known[customer][name][slot];
    const struct ceiling *ceiling = adopted_by_name(name);
    int64_t start_us = start_of(name, slot);
    if (!known->active || ceiling_period_end(period_of(name), start_us) > model.clock_us)
        return;
    struct text meter = text_of(meters[name % 2]);
    decimal_t sum = used(model.now.uses, customer, meter, period_of(name), start_us);
    if (!ceiling || !is_for(ceiling, customer))
        ck_abort_msg("an active state without its ceiling");
    expect(customer, ceiling, start_us, sum, sum, "clock over", false);
}

static void go_one(int customer, int name, int slot)
{
    struct known *known = &model.now.known[customer][name][slot];
    const struct ceiling *ceiling = adopted_by_name(name);
    if (!known->active || (ceiling && is_for(ceiling, customer)))
        return;
    known->active = false;
    known->transition++;
}

static void judge_one(int customer, int name, int slot)
{
    const struct ceiling *ceiling = adopted_by_name(name);
    int64_t start_us = start_of(name, slot);
    if (!ceiling || !is_for(ceiling, customer) || slot_of(start_us) != slot)
        return;
    int64_t end_us = ceiling_period_end(period_of(name), start_us);
    struct known *known = &model.now.known[customer][name][slot];
    if (end_us <= model.clock_us || end_us <= ceiling->created_at_us ||
        (ceiling->who_kind == WHO_PLAN && known->transition == 0))
        return;
    decimal_t sum = used(model.now.uses, customer, ceiling->meter, ceiling->period, start_us);
    if (known->active ? sum <= ceiling->clear_level : sum > ceiling->limit)
        expect(customer, ceiling, start_us, sum, sum, "ceilings", false);
}

/* What a ceiling that is gone had for a limit is told by other tests; here only that it clears. */
static void drop_gone_lines(void)
{
    char kept[sizeof model.expected] = "";
    for (char *line = record_of_decisions.lines; *line;) {
        char *end = strchr(line, '\n') + 1;
        char *gone = memmem(line, (size_t)(end - line), " gone", 5);
        if (!gone)
            strncat(kept, line, (size_t)(end - line));
        line = end;
    }
    strcpy(record_of_decisions.lines, kept);
}

static void do_tick(void)
{
    model.clock_us += pick(3) * HOUR_US / 2;
    if (model.clock_us > ORIGIN_US + (HOURS - 4) * HOUR_US)
        model.clock_us = ORIGIN_US + (HOURS - 4) * HOUR_US;
    bool owed = ceiling_book_next_end_us(model.book) == INT64_MIN;
    ck_assert(ceiling_book_tick(model.book, model.clock_us, hear, NULL));
    if (owed) {
        each_slot(go_one);
        each_slot(judge_one);
    }
    each_slot(end_one);
    drop_gone_lines();
    check_heard();
}

static void judge_all(void)
{
    ck_assert(ceiling_book_judge(model.book, DECIDED_BY_CEILINGS, model.clock_us, hear, NULL));
    each_slot(go_one);
    each_slot(judge_one);
    drop_gone_lines();
    check_heard();
}

/* Marks */

static void remember(uint64_t mark)
{
    if (model.past_count == MARKS)
        return;
    model.now.mark = mark;
    model.past[model.past_count++] = model.now;
}

static void do_mark(void)
{
    remember(ceiling_book_mark(model.book));
}

static void do_commit(void)
{
    size_t which = pick((unsigned)model.past_count);
    ceiling_book_commit(model.book, model.past[which].mark);
    memmove(model.past, model.past + which, (model.past_count - which) * sizeof *model.past);
    model.past_count -= which;
}

/* Events that nothing counted leave no entries: the mark alone doesn't tell. */
static bool before_shadow(const struct past *past)
{
    return past->mark < model.shadow_mark || past->uses < model.shadow_uses;
}

static void do_undo(void)
{
    size_t which = pick((unsigned)model.past_count);
    const struct past *past = &model.past[which];
    int adoptions = model.now.adoption - past->adoption;
    if (model.shadow && before_shadow(past)) {
        ceiling_book_cancel(model.book);
        model.shadow = NULL;
    }
    struct ceiling_catalogue *adopted = model.now.adopted;
    ceiling_book_undo(model.book, past->mark);
    model.now = *past;
    model.past_count = which + 1;
    if (adoptions > 0) { /* the shadow again */
        model.shadow = adopted;
        model.seeded = true;
        if (before_shadow(past)) {
            ceiling_book_cancel(model.book);
            model.shadow = NULL;
        }
    }
}

/* Catalogues */

static struct ceiling_catalogue *random_catalogue(void)
{
    struct ceiling_catalogue *catalogue = ceiling_catalogue_new(NAMES);
    ck_assert_ptr_nonnull(catalogue);
    model.catalogues[model.catalogue_count++] = catalogue;
    for (int name = 0; name < NAMES; name++) {
        if (pick(3) == 0)
            continue;
        const char *who[] = {"*", "*", "plan:pro", "plan:free", "acme", "bolt"};
        int limit = 10 + (int)pick(period_of(name) == PERIOD_MONTH ? 300 : 60);
        add_rule(catalogue, names[name], who[pick(6)], meters[name % 2], period_of(name), limit,
                 limit - (int)pick(2) * (int)pick(10));
        catalogue->ceilings[catalogue->count - 1].created_at_us = model.created_us[name];
    }
    return catalogue;
}

static void do_shadow(void)
{
    if (model.shadow || model.catalogue_count == CATALOGUES || model.past_count == MARKS ||
        model.past[0].adoption != model.now.adoption)
        return;
    do_mark();
    model.shadow = random_catalogue();
    model.shadow_mark = model.now.mark;
    model.shadow_uses = model.now.uses;
    model.seeded = false;
    ck_assert(ceiling_book_shadow(model.book, model.shadow));
}

static void seed_hour(int customer, int meter, int hour)
{
    int64_t time_us = ORIGIN_US + hour * HOUR_US;
    for (enum ceiling_period period = 0; period < PERIOD_COUNT; period++) {
        int64_t start_us = ceiling_period_start(period, time_us);
        if (hour > 0 && start_us != time_us)
            continue;
        struct ceiling_counter sum = {
            .customer_id = text_of(customers[customer]),
            .meter = text_of(meters[meter]),
            .period = period,
            .scope = TEXT("{}"),
            .period_start_us = start_us,
            .used = used(model.shadow_uses, customer, text_of(meters[meter]), period, start_us)};
        ck_assert(ceiling_book_seed(model.book, &sum));
    }
}

static void do_seed(void)
{
    if (!model.shadow || model.seeded || before_shadow(&model.past[0]))
        return;
    for (int customer = 0; customer < CUSTOMERS; customer++)
        for (int meter = 0; meter < 2; meter++)
            for (int hour = 0; hour < HOURS; hour++)
                seed_hour(customer, meter, hour);
    model.seeded = true;
}

static void do_adopt(void)
{
    if (!model.shadow || !model.seeded || model.past_count == MARKS)
        return;
    do_mark();
    do_tick(); /* so that no period is over that the former ceilings would answer for */
    ck_assert(ceiling_book_adopt(model.book));
    model.now.adopted = model.shadow;
    model.now.adoption++;
    model.shadow = NULL;
    do_mark();
    judge_all();
    do_mark();
}

static void do_cancel(void)
{
    if (model.shadow && pick(4) == 0) {
        ceiling_book_cancel(model.book);
        model.shadow = NULL;
    }
}

static void run_history(unsigned seed)
{
    memset(&model, 0, sizeof model);
    heard_clear();
    model.random = seed;
    model.clock_us = ORIGIN_US + HOUR_US / 3;
    for (int name = 0; name < NAMES; name++)
        model.created_us[name] = pick(2) ? 0 : ORIGIN_US + pick(HOURS) * HOUR_US;
    model.book = ceiling_book_new(0, (struct lookup_seed){{1, 2}});
    model.now.adopted = random_catalogue();
    ceiling_book_use(model.book, model.now.adopted);
    do_mark();
    static void (*const steps[])(void) = {do_tick,   do_mark, do_commit, do_undo,
                                          do_shadow, do_seed, do_adopt,  do_cancel};
    for (int step = 0; step < 400; step++) {
        unsigned which = pick(24);
        if (which < 8)
            steps[which]();
        else
            do_count();
    }
    ceiling_book_free(model.book);
    for (size_t i = 0; i < model.catalogue_count; i++)
        ceiling_catalogue_free(model.catalogues[i]);
}

START_TEST(whatever_happened_on_the_way_decisions_follow_from_what_was_counted)
{
    size_t decisions = 0;
    for (unsigned seed = 1; seed <= 80; seed++) {
        run_history((unsigned)_i * 1000003u + seed);
        decisions += model.decisions;
    }
    ck_assert_uint_gt(decisions, 1000);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_loop_test(tests, whatever_happened_on_the_way_decisions_follow_from_what_was_counted, 0, 4);
}

int main(void)
{
    return run_suite("ceiling_model", add_tests);
}
