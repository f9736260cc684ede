/* From decisions to flags on the enforcement topic. */
#include "engine.h"
#include "flag.h"

enum { COOKIE_BITS = 40, SLOTS_TRIED = 8 };

static uint64_t sink_cookie(const struct lane *lane, uint64_t cookie)
{
    return ((uint64_t)lane->flags_serial << COOKIE_BITS) | cookie;
}

/* The slot near the cookie's home that holds `holds`, 0 for a free one; else the home itself. Cookies of
 * several lanes are alike but for their serial: spread by a multiplication (Knuth, "The Art of Computer
 * Programming", 6.4). */
static struct latency_slot *slot_of(struct pipeline *p, uint64_t cookie, uint64_t holds)
{
    uint64_t home = (cookie * UINT64_C(0x9e3779b97f4a7c15)) >> 32;
    for (uint64_t i = 0; i < SLOTS_TRIED; i++) {
        struct latency_slot *slot = &p->latencies[(home + i) % ENGINE_LATENCY_SLOTS];
        if (slot->cookie == holds)
            return slot;
    }
    return &p->latencies[home % ENGINE_LATENCY_SLOTS];
}

/* Publishes at once: the record that crossed a ceiling may be the first of many in this turn. */
static bool desire(struct enforce_context *context, struct text key, struct text value,
                   const struct decision *decision)
{
    struct pipeline *p = context->pipeline;
    struct flag_book *flags = context->lane->flags;
    uint64_t before = flag_book_last_cookie(flags);
    if (!flag_book_decide(flags, key, value, decision->id, decision->active, p->now_us))
        return false;
    enforce_send(p);
    if (flag_book_last_cookie(flags) > before) {
        uint64_t cookie = sink_cookie(context->lane, flag_book_last_cookie(flags));
        *slot_of(p, cookie, 0) = (struct latency_slot){cookie, p->steady_us, context->record_ms};
    }
    return true;
}

bool enforce_decided(void *self, const struct decision *decision)
{
    struct enforce_context *context = self;
    struct pipeline *p = context->pipeline;
    struct arena *arena = p->ahead ? p->scratch : p->open->arena;
    struct decision *copy = NULL;
    if (!p->ahead && !batch_decide(p->open, decision, &copy))
        return false;
    struct text key = flag_key(arena, decision->customer_id, decision->ceiling, decision->scope);
    struct text value = flag_value(arena, decision, p->options.topics);
    if (!key.bytes || !value.bytes)
        return false;
    if (copy) {
        copy->trace = flag_trace(arena, copy, value);
        if (!copy->trace.bytes)
            return false;
    }
    return !decision->published || desire(context, key, value, decision);
}

static void send_lane(struct pipeline *p, struct lane *lane)
{
    struct flag_due due;
    while (flag_book_due(lane->flags, &due)) {
        if (!p->ports.flags.publish(p->ports.flags.self, lane->number, due.key, due.value, due.sequence,
                                    sink_cookie(lane, due.cookie)))
            return;
        flag_book_published(lane->flags, due.cookie);
        p->stats.flags_published++;
    }
}

void enforce_send(struct pipeline *p)
{
    for (size_t i = 0; i < p->lane_count; i++)
        if (engine_enforcing(p->lanes[i]))
            send_lane(p, p->lanes[i]);
}

static void acknowledged(struct pipeline *p, struct lane *lane, const struct flag_event *event)
{
    uint64_t cookie = event->cookie & ((UINT64_C(1) << COOKIE_BITS) - 1);
    p->stats.flags_failed += event->kind == FLAG_FAILED;
    p->stats.flags_acknowledged += event->kind == FLAG_ACKNOWLEDGED;
    if (!lane->flags || event->cookie >> COOKIE_BITS != lane->flags_serial)
        return;
    if (event->kind == FLAG_FAILED) {
        engine_note(p, NOTE_WARN, lane->number, "a flag was not taken by Kafka and is sent again: %s",
                    event->detail);
        flag_book_failed(lane->flags, cookie);
        return;
    }
    flag_book_acknowledged(lane->flags, cookie);
    struct latency_slot *slot = slot_of(p, event->cookie, event->cookie);
    if (slot->cookie != event->cookie)
        return;
    int64_t since_record_us = slot->record_ms < 0 ? -1 : event->acknowledged_at_us - slot->record_ms * 1000;
    p->ports.observer.flag_done(p->ports.observer.self,
                                event->acknowledged_steady_us - slot->decided_steady_us, since_record_us);
    slot->cookie = 0;
}

/* What the topic holds is said once: without it the lane is read again. */
static void seen(struct pipeline *p, struct lane *lane, const struct flag_event *event)
{
    if (!lane->flags ||
        flag_book_seen(lane->flags, event->key, event->value, event->has_sequence, event->sequence))
        return;
    takeover_forget(p, lane);
    engine_out_of_memory(p);
}

void enforce_poll(struct pipeline *p)
{
    struct flag_event event;
    for (;;) {
        event = (struct flag_event){.kind = FLAG_NOTHING};
        p->ports.flags.poll(p->ports.flags.self, &event);
        struct lane *lane = engine_lane(p, event.lane);
        if (event.kind == FLAG_NOTHING)
            return;
        if (event.kind == FLAG_TROUBLE)
            engine_note(p, NOTE_WARN, -1, "enforcement topic: %s", event.detail);
        else if (!lane)
            continue;
        else if (event.kind == FLAG_SEEN)
            seen(p, lane, &event);
        else if (event.kind == FLAG_CAUGHT_UP)
            lane->flags_caught_up = true;
        else
            acknowledged(p, lane, &event);
    }
}

static bool any_on_its_way(const struct pipeline *p)
{
    for (size_t i = 0; i < p->lane_count; i++) {
        const struct lane *lane = p->lanes[i];
        if (engine_enforcing(lane) && !flag_book_settled(lane->flags, flag_book_last_cookie(lane->flags)))
            return true;
    }
    return false;
}

/* What may be given is saved up while nothing is: a share of the time, but not for long. */
static void count_way(struct pipeline *p)
{
    int64_t passed_us = p->steady_us - p->way_seen_us;
    p->way_seen_us = p->steady_us;
    p->way_left_us += p->giving_way ? -passed_us : passed_us / (ENGINE_WAY_SHARE - 1);
    if (p->way_left_us > ENGINE_SECOND_US / 10)
        p->way_left_us = ENGINE_SECOND_US / 10;
}

/* While a backlog is drained, it is our own work, and what it gives PostgreSQL to do, that keeps Kafka and
 * its client from the cores: it stands still until the flags that are out are acknowledged. Where that takes
 * long, the backlog goes on. */
void enforce_give_way(struct pipeline *p)
{
    count_way(p);
    if (!p->behind || !any_on_its_way(p))
        p->way_since_us = 0;
    else if (p->way_since_us == 0)
        p->way_since_us = p->steady_us;
    p->giving_way =
        p->way_since_us != 0 && p->way_left_us > 0 && p->steady_us - p->way_since_us < ENGINE_WAY_US;
}

/* Periods that are over, or a judgement that was taken back and is due again. */
static bool clock_is_due(const struct pipeline *p, const struct lane *lane)
{
    return ceiling_book_next_end_us(lane->book) <= p->now_us;
}

/* Not before all is decided again: a flag that still lacks its decision would be withdrawn. */
static void reached(struct pipeline *p, struct lane *lane)
{
    if (!lane->catching_up || lane->late_batch > 0 || clock_is_due(p, lane) || p->rewind_asked)
        return;
    for (size_t i = 0; i < lane->topic_count; i++)
        if (lane->topics[i].position < lane->topics[i].reached)
            return;
    lane->catching_up = false;
    if (!flag_book_reconcile(lane->flags, p->now_us))
        engine_out_of_memory(p);
    if (p->closed && !p->closed_submitted) /* what it decides may have waited for this */
        lane->flags_at_close = flag_book_last_cookie(lane->flags);
}

void enforce_catch_up(struct pipeline *p)
{
    for (size_t i = 0; i < p->lane_count; i++)
        if (engine_running(p->lanes[i]))
            reached(p, p->lanes[i]);
}

static void tick_lane(struct pipeline *p, struct lane *lane)
{
    struct enforce_context context = {p, lane, -1};
    if (clock_is_due(p, lane) && (p->ahead || p->open))
        if (!ceiling_book_tick(lane->book, p->now_us, enforce_decided, &context))
            engine_out_of_memory(p);
    dedupe_sweep(lane->dedupe);
    reached(p, lane);
}

void enforce_tick(struct pipeline *p)
{
    bool second = p->steady_us >= p->tick_at_us;
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *lane = p->lanes[i];
        if (!engine_running(lane))
            continue;
        tick_lane(p, lane);
        if (!second)
            continue;
        ceiling_book_forget(lane->book, p->now_us - CEILING_COUNTED_US);
        if (!flag_book_bury(lane->flags, p->now_us, ENGINE_TOMBSTONE_US))
            engine_out_of_memory(p);
    }
    if (second) {
        p->tick_at_us = p->steady_us + ENGINE_SECOND_US / 10;
        pipeline_stats(p);
        intake_watch_memory(p);
    }
}

void enforce_committed(struct pipeline *p, const struct batch *batch)
{
    for (size_t i = 0; i < batch->decision_count; i++) {
        const struct decision *decision = &batch->decisions[i];
        struct lane *lane = p->lanes[decision->lane];
        p->stats.decisions++;
        if (!decision->published || !lane->flags)
            continue;
        struct text key = flag_key(p->scratch, decision->customer_id, decision->ceiling, decision->scope);
        if (key.bytes) {
            flag_book_commit(lane->flags, key, decision->id);
        } else {
            takeover_forget(p, lane);
            p->rewind_asked = "out of memory";
        }
    }
}

struct restoring {
    struct pipeline *p;
    struct lane *lane;
};

static bool restore_state(void *self, const struct ceiling_state *state)
{
    struct restoring *restoring = self;
    struct arena *arena = restoring->p->scratch;
    struct text key = flag_key(arena, state->customer_id, state->ceiling, state->scope);
    return key.bytes &&
           flag_book_restore(restoring->lane->flags, key, state->flag, state->decision_id, state->active);
}

bool enforce_restore(struct pipeline *p, struct lane *lane)
{
    struct restoring restoring = {p, lane};
    return ceiling_book_states(lane->book, restore_state, &restoring);
}
