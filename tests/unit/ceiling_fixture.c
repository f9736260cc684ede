#include "ceiling_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void add_rule(struct ceiling_catalogue *catalogue, const char *name, const char *who, const char *meter,
              enum ceiling_period period, int limit, int clear_level)
{
    const char *plan = strchr(who, ':');
    bool everyone = strcmp(who, "*") == 0;
    struct ceiling ceiling = {.name = text_of(name),
                              .version = 1,
                              .who_kind = plan       ? WHO_PLAN
                                          : everyone ? WHO_EVERYONE
                                                     : WHO_CUSTOMER,
                              .who = text_of(plan       ? plan + 1
                                             : everyone ? ""
                                                        : who),
                              .meter = text_of(meter),
                              .period = period,
                              .policy = POLICY_HARD_STOP,
                              .limit = limit * DECIMAL_ONE,
                              .clear_level = clear_level * DECIMAL_ONE};
    if (!ceiling_catalogue_add(catalogue, &ceiling))
        abort();
}

struct event event_of(const char *customer_id, const char *meter, const char *plan_tier, int quantity,
                      int64_t time_us)
{
    return (struct event){.event_id = TEXT("e1"),
                          .customer_id = text_of(customer_id),
                          .meter = text_of(meter),
                          .plan_tier = text_of(plan_tier),
                          .quantity = quantity * DECIMAL_ONE,
                          .time_us = time_us};
}

struct recorded record_of_decisions;

void heard_clear(void)
{
    memset(&record_of_decisions, 0, sizeof record_of_decisions);
}

const char *heard(void)
{
    return record_of_decisions.lines;
}

const char *heard_ids(void)
{
    return record_of_decisions.ids;
}

size_t heard_count(void)
{
    return record_of_decisions.count;
}

bool hear(void *context, const struct decision *decision)
{
    (void)context;
    static const char *const reasons[] = {"", "", " over", " gone"};
    char before[DECIMAL_TEXT_BYTES], used[DECIMAL_TEXT_BYTES], limit[DECIMAL_TEXT_BYTES];
    decimal_text(decision->used_before, before);
    decimal_text(decision->used, used);
    decimal_text(decision->limit, limit);
    struct recorded *all = &record_of_decisions;
    all->length += (size_t)snprintf(
        all->lines + all->length, sizeof all->lines - all->length, "%.*s/%.*s %c%ld %s>%s/%s %s%s%s\n",
        (int)decision->customer_id.length, decision->customer_id.bytes, (int)decision->ceiling.length,
        decision->ceiling.bytes, decision->active ? '+' : '-', (long)decision->transition, before, used,
        limit, decision_source_names[decision->source], reasons[decision->reason],
        decision->published ? "" : " unpublished");
    all->ids_length +=
        (size_t)snprintf(all->ids + all->ids_length, sizeof all->ids - all->ids_length, "%s\n", decision->id);
    all->count++;
    return true;
}

bool count_event(struct ceiling_book *book, const struct event *event, int64_t now_us)
{
    return ceiling_book_count(book, event, (struct ceiling_origin){.offset = 7}, now_us, hear, NULL);
}

bool count(struct ceiling_book *book, const char *customer_id, const char *meter, const char *plan_tier,
           int quantity, int64_t time_us, int64_t now_us)
{
    struct event event = event_of(customer_id, meter, plan_tier, quantity, time_us);
    return count_event(book, &event, now_us);
}

static void print_state(char *out, const struct ceiling_state *state)
{
    sprintf(out, "%.*s/%.*s %ld %s", (int)state->customer_id.length, state->customer_id.bytes,
            (int)state->ceiling.length, state->ceiling.bytes, (long)state->transition,
            state->active ? "active" : "cleared");
}

static bool print_change(void *context, const struct ceiling_change *change)
{
    char *out = context;
    out += strlen(out);
    if (change->is_state) {
        print_state(out, &change->state);
        strcat(out, "\n");
        return true;
    }
    char used[DECIMAL_TEXT_BYTES];
    decimal_text(change->counter.used, used);
    sprintf(out, "%.*s %.*s %s %s\n", (int)change->counter.customer_id.length,
            change->counter.customer_id.bytes, (int)change->counter.meter.length, change->counter.meter.bytes,
            ceiling_period_names[change->counter.period], used);
    return true;
}

const char *changes(struct ceiling_book *book, uint64_t mark)
{
    static char lines[16384];
    lines[0] = '\0';
    return ceiling_book_changes(book, mark, print_change, lines) ? lines : "failed";
}

static bool print_each_state(void *context, const struct ceiling_state *state)
{
    char *out = context;
    out += strlen(out);
    print_state(out, state);
    sprintf(out + strlen(out), " %ld\n", (long)state->period_start_us);
    return true;
}

const char *states(const struct ceiling_book *book)
{
    static char lines[16384];
    lines[0] = '\0';
    return ceiling_book_states(book, print_each_state, lines) ? lines : "failed";
}

static bool restore_change(void *context, const struct ceiling_change *change)
{
    return change->is_state ? ceiling_book_restore_state(context, &change->state)
                            : ceiling_book_restore_counter(context, &change->counter);
}

bool restore_all(struct ceiling_book *heir, struct ceiling_book *book)
{
    return ceiling_book_changes(book, 0, restore_change, heir);
}
