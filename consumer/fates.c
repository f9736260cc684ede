#include "fates.h"

#include <inttypes.h>
#include <stdlib.h>

#include "../rollup/follow.h"
#include "../rollup/migrate.h"
#include "event.h"
#include "fate_lines.h"
#include "system_clock.h"

enum { FATES_MOST = 1 << 16, LOOK_EVERY_MS = 100, AGAIN_MS = 1000, COMPLAINTS_MOST = 20 };
static const int64_t hour_us = INT64_C(3600000000);

enum state { FREE, SENT, PLACED, ACCEPTED };
enum outcome { OUT_ACCEPTED, OUT_DUPLICATE, OUT_CONFLICT, OUT_REFUSED, OUTCOMES };
static const char *const outcome_names[OUTCOMES] = {"accepted", "duplicate", "conflict", "refused"};

struct fate {
    enum state state;
    uint64_t line;
    struct outcome_key key;
    char *bytes; /* what the key's texts point into */
};

struct fates {
    struct command_context *context;
    const struct config *config;
    const char *topic;
    int64_t timeout_ms, news_at_ms, look_at_ms, began_us;
    struct pg pg;
    struct follow *follow;
    struct decoder *decoder;
    struct fate *slots; /* of FATES_MOST; event n is in slot n % FATES_MOST */
    uint32_t *order;    /* of this look: slots by where their records lie */
    size_t order_count;
    int64_t *positions; /* by partition; -1: never read */
    int32_t position_count;
    bool missed;  /* events were accepted that follow has not shown */
    bool is_lost; /* PostgreSQL, and it was said */
    uint64_t pending, counts[OUTCOMES], flags;
};

/* --- events on their way --- */

static struct fate *slot_of(const struct fates *fates, uint64_t number)
{
    return &fates->slots[number % FATES_MOST];
}

bool fates_is_full(const struct fates *fates, uint64_t number)
{
    return slot_of(fates, number)->state != FREE;
}

/* What is no event has a place only. */
bool fates_expect(struct fates *fates, uint64_t number, uint64_t line, struct text value)
{
    const struct record record = {.time_ms = system_wall_us() / 1000, .value = value};
    struct event event;
    struct fate *fate = slot_of(fates, number);
    *fate = (struct fate){.state = SENT, .line = line, .key.time_us = record.time_ms * 1000};
    fates->pending++;
    decoder_reset(fates->decoder);
    if (event_decode(fates->decoder, &record, system_wall_us(), &event) != REFUSAL_NONE)
        return true;
    size_t size = (size_t)event.customer_id.length + event.meter.length + event.event_id.length;
    char *at = fate->bytes = malloc(size);
    if (!at)
        return false;
    fate->key.customer_id = text_pack(&at, event.customer_id);
    fate->key.meter = text_pack(&at, event.meter);
    fate->key.event_id = text_pack(&at, event.event_id);
    fate->key.time_us = event.time_us;
    return true;
}

static void forget(struct fates *fates, struct fate *fate)
{
    free(fate->bytes);
    *fate = (struct fate){.state = FREE};
    fates->pending--;
    fates->news_at_ms = system_steady_ms();
}

void fates_place(struct fates *fates, uint64_t number, int32_t partition, int64_t offset)
{
    struct fate *fate = slot_of(fates, number);
    fate->state = PLACED;
    fate->key.partition = partition;
    fate->key.offset = offset;
    fates->news_at_ms = system_steady_ms();
}

void fates_drop(struct fates *fates, uint64_t number)
{
    forget(fates, slot_of(fates, number));
}

uint64_t fates_pending(const struct fates *fates)
{
    return fates->pending;
}

/* --- what is known --- */

static struct fate_event line_of(const struct fates *fates, const struct fate *fate)
{
    return (struct fate_event){
        .json = fates->context->json, .line = fate->line, .topic = fates->topic, .key = &fate->key};
}

static int compare_places(const struct outcome_key *a, const struct outcome_key *b)
{
    if (a->partition != b->partition)
        return a->partition < b->partition ? -1 : 1;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

static int compare_slots(const void *a, const void *b, void *context)
{
    const struct fates *fates = context;
    return compare_places(&fates->slots[*(const uint32_t *)a].key, &fates->slots[*(const uint32_t *)b].key);
}

static void sort_places(struct fates *fates)
{
    fates->order_count = 0;
    for (uint32_t slot = 0; slot < FATES_MOST; slot++)
        if (fates->slots[slot].state == PLACED)
            fates->order[fates->order_count++] = slot;
    qsort_r(fates->order, fates->order_count, sizeof *fates->order, compare_slots, fates);
}

static struct fate *fate_at(const struct fates *fates, const struct outcome_key *place)
{
    size_t least = 0, most = fates->order_count;
    while (least < most) {
        size_t middle = least + (most - least) / 2;
        struct fate *fate = &fates->slots[fates->order[middle]];
        int order = compare_places(&fate->key, place);
        if (order == 0)
            return fate;
        if (order < 0)
            least = middle + 1;
        else
            most = middle;
    }
    return NULL;
}

static void accept(struct fates *fates, struct fate *fate, struct text quantity)
{
    const struct fate_event line = line_of(fates, fate);
    fate->state = ACCEPTED; /* until its flags are known */
    fates->counts[OUT_ACCEPTED]++;
    fate_accepted(&line, quantity);
}

static void on_event(void *context, const struct followed_event *event)
{
    struct fates *fates = context;
    const struct outcome_key place = {.partition = event->partition, .offset = event->offset};
    struct fate *fate = text_equal(event->topic, text_of(fates->topic)) ? fate_at(fates, &place) : NULL;
    if (!fate || fate->state != PLACED)
        return;
    fate->key.time_us = event->event_time_us;
    accept(fates, fate, event->quantity);
}

static void on_missed(void *context, int64_t count)
{
    struct fates *fates = context;
    (void)count;
    fates->missed = true;
}

/* Some of those that lie before the position, in one state: what one query asks about. */
struct some {
    size_t count;
    struct fate *fates[OUTCOMES_MOST];
    struct outcome_key keys[OUTCOMES_MOST];
};

static bool is_read(const struct fates *fates, const struct outcome_key *key)
{
    return key->partition < fates->position_count && key->offset < fates->positions[key->partition];
}

/* From order[*from] on, which moves behind what was looked at. */
static void gather(const struct fates *fates, enum state state, size_t *from, struct some *some)
{
    some->count = 0;
    for (; *from < fates->order_count && some->count < OUTCOMES_MOST; ++*from) {
        struct fate *fate = &fates->slots[fates->order[*from]];
        if (fate->state != state || (state == PLACED && !is_read(fates, &fate->key)))
            continue;
        some->keys[some->count] = fate->key;
        some->fates[some->count++] = fate;
    }
}

/* Leaves those out that are known by now. */
static void keep_unknown(struct some *some)
{
    size_t kept = 0;
    for (size_t i = 0; i < some->count; i++)
        if (some->fates[i]->state == PLACED) {
            some->keys[kept] = some->keys[i];
            some->fates[kept++] = some->fates[i];
        }
    some->count = kept;
}

static bool tell_refused(struct fates *fates, struct some *some)
{
    PG_RESULT *result = outcome_refused(&fates->pg, fates->topic, some->keys, some->count);
    for (int row = 0; result && row < PQntuples(result); row++) {
        struct fate *fate = some->fates[pg_int4(result, row, 0)];
        if (fate->state != PLACED) /* refused twice: a lane was set back by an operator */
            continue;
        const struct fate_event line = line_of(fates, fate);
        fates->counts[OUT_REFUSED]++;
        fate_refused(&line, pg_text(result, row, 1), pg_text(result, row, 2));
        forget(fates, fate);
    }
    keep_unknown(some);
    return result;
}

/* Differences of conflict `number`; returns how many. */
enum { DIFFERENCES_MOST = 20 };
static size_t differences_of(const PGresult *result, int32_t number,
                             struct fate_difference differences[DIFFERENCES_MOST])
{
    size_t count = 0;
    for (int row = 0; result && row < PQntuples(result) && count < DIFFERENCES_MOST; row++)
        if (pg_int4(result, row, 0) == number)
            differences[count++] = (struct fate_difference){pg_text(result, row, 1), pg_text(result, row, 2),
                                                            pg_text(result, row, 3)};
    return count;
}

static bool tell_conflicts(struct fates *fates, struct some *some)
{
    PG_RESULT *conflicts = outcome_conflicts(&fates->pg, fates->topic, some->keys, some->count);
    if (!conflicts || PQntuples(conflicts) == 0)
        return conflicts;
    PG_RESULT *differ = outcome_differences(&fates->pg, fates->topic, some->keys, some->count);
    if (!differ && strcmp(fates->pg.failure.sqlstate, "57014") != 0) /* took too long: told without */
        return false;
    for (int row = 0; row < PQntuples(conflicts); row++) {
        struct fate_difference differences[DIFFERENCES_MOST];
        int32_t number = pg_int4(conflicts, row, 0);
        struct fate *fate = some->fates[number];
        if (fate->state != PLACED)
            continue;
        const struct fate_event line = line_of(fates, fate);
        size_t count = differences_of(differ, number, differences);
        fates->counts[OUT_CONFLICT]++;
        fate_conflict(&line, differences, count);
        forget(fates, fate);
    }
    keep_unknown(some);
    return true;
}

static bool tell_missed(struct fates *fates, struct some *some)
{
    if (!fates->missed)
        return true;
    PG_RESULT *result = outcome_accepted(&fates->pg, fates->topic, some->keys, some->count);
    for (int row = 0; result && row < PQntuples(result); row++)
        accept(fates, some->fates[pg_int4(result, row, 0)], pg_text(result, row, 1));
    keep_unknown(some);
    return result;
}

/* Read, and neither accepted nor refused. */
static void tell_duplicates(struct fates *fates, const struct some *some)
{
    for (size_t i = 0; i < some->count; i++) {
        const struct fate_event line = line_of(fates, some->fates[i]);
        fates->counts[OUT_DUPLICATE]++;
        fate_duplicate(&line);
        forget(fates, some->fates[i]);
    }
}

static bool tell_flags(struct fates *fates, struct some *some)
{
    for (size_t from = 0; from < fates->order_count;) {
        gather(fates, ACCEPTED, &from, some);
        if (some->count == 0)
            break;
        PG_RESULT *result =
            outcome_decisions(&fates->pg, fates->topic, some->keys, some->count, fates->began_us - hour_us);
        if (!result)
            return false;
        for (int row = 0; row < PQntuples(result); row++) {
            const struct fate_event line = line_of(fates, some->fates[pg_int4(result, row, 0)]);
            fates->flags++;
            fate_flag(&line, result, row);
        }
        for (size_t i = 0; i < some->count; i++)
            forget(fates, some->fates[i]);
    }
    return true;
}

static bool tell_others(struct fates *fates, struct some *some)
{
    for (size_t from = 0; from < fates->order_count;) {
        gather(fates, PLACED, &from, some);
        if (some->count == 0)
            break;
        if (!tell_refused(fates, some) || !tell_conflicts(fates, some) || !tell_missed(fates, some))
            return false;
        tell_duplicates(fates, some);
    }
    fates->missed = false;
    return true;
}

/* --- a look --- */

/* Before events are followed: what lies before these positions is then known for good. */
static bool read_positions(struct fates *fates)
{
    PG_RESULT *result = outcome_positions(&fates->pg, fates->topic);
    for (int row = 0; result && row < PQntuples(result); row++) {
        int32_t partition = pg_int4(result, row, 0);
        while (fates->position_count <= partition) {
            int64_t *grown = reallocarray(fates->positions, (size_t)fates->position_count + 1, sizeof *grown);
            if (!grown)
                return pg_fail(&fates->pg, PG_PASSING, "out of memory");
            fates->positions = grown;
            fates->positions[fates->position_count++] = -1;
        }
        fates->positions[partition] = pg_int8(result, row, 1);
    }
    return result;
}

static bool look(struct fates *fates, struct some *some)
{
    const struct follow_calls calls = {.context = fates, .event = on_event, .missed = on_missed};
    return read_positions(fates) && follow_poll(fates->follow, &calls) && tell_others(fates, some) &&
           tell_flags(fates, some);
}

static void lose(struct fates *fates)
{
    if (!fates->is_lost)
        command_fail(fates->context, 0, "%s; trying again", fates->pg.failure.detail);
    fates->is_lost = true;
    fates->look_at_ms = system_steady_ms() + AGAIN_MS;
    pg_close(&fates->pg);
}

bool fates_is_due(const struct fates *fates)
{
    return system_steady_ms() >= fates->look_at_ms;
}

bool fates_look(struct fates *fates)
{
    struct some *some = malloc(sizeof *some);
    sort_places(fates);
    fates->look_at_ms = system_steady_ms() + LOOK_EVERY_MS;
    bool open = some && (pg_is_open(&fates->pg) ||
                         pg_open(&fates->pg, fates->config->postgres.dsn, fates->context->name));
    if (!open || !look(fates, some))
        lose(fates);
    else
        fates->is_lost = false;
    free(some);
    fflush(stdout);
    return fates->pending == 0 || system_steady_ms() < fates->news_at_ms + fates->timeout_ms;
}

/* --- the end --- */

/* Of one partition, the first ones first: they are sorted. */
static size_t complain_of(const struct fates *fates, size_t from)
{
    const struct outcome_key *first = &fates->slots[fates->order[from]].key;
    size_t end = from;
    while (end < fates->order_count && fates->slots[fates->order[end]].key.partition == first->partition)
        end++;
    bool known = first->partition < fates->position_count && fates->positions[first->partition] >= 0;
    char position[64] = "nothing of it was ever read";
    if (known)
        snprintf(position, sizeof position, "it is read up to offset %" PRId64,
                 fates->positions[first->partition]);
    command_fail(fates->context, EXIT_FAILED,
                 "%s partition %d: not known of %zu events from offset %" PRId64 " (line %" PRIu64 ") on: %s",
                 fates->topic, first->partition, end - from, first->offset,
                 fates->slots[fates->order[from]].line, position);
    return end;
}

void fates_complain(struct fates *fates)
{
    sort_places(fates);
    size_t from = 0;
    for (int told = 0; told < COMPLAINTS_MOST && from < fates->order_count; told++)
        from = complain_of(fates, from);
    command_fail(fates->context, EXIT_FAILED,
                 "no news of %" PRIu64
                 " events for %.0f s. Is `usagebox run` running, with this database and "
                 "topic? `usagebox status` shows how far it is",
                 fates->pending, (double)fates->timeout_ms / 1e3);
}

bool fates_failed(const struct fates *fates)
{
    return fates->pending > 0 || fates->counts[OUT_REFUSED] > 0;
}

void fates_summary(const struct fates *fates)
{
    for (int i = 0; i < OUTCOMES; i++)
        printf("%s%" PRIu64 " %s", i ? ", " : "", fates->counts[i], outcome_names[i]);
    if (fates->pending > 0)
        printf(", %" PRIu64 " not known", fates->pending);
    if (fates->flags > 0)
        printf("; %" PRIu64 " flag%s", fates->flags, fates->flags > 1 ? "s" : "");
    putchar('\n');
}

json_t *fates_summary_json(const struct fates *fates)
{
    json_t *json = json_object();
    for (int i = 0; i < OUTCOMES; i++)
        json_object_set_new(json, outcome_names[i], json_integer((json_int_t)fates->counts[i]));
    json_object_set_new(json, "unknown", json_integer((json_int_t)fates->pending));
    json_object_set_new(json, "flags", json_integer((json_int_t)fates->flags));
    return json;
}

/* --- life --- */

static bool is_usage_topic(const struct config *config, const char *topic)
{
    for (size_t i = 0; i < config->kafka.usage_topics.count; i++)
        if (strcmp(config->kafka.usage_topics.items[i], topic) == 0)
            return true;
    return false;
}

static bool open_all(struct fates *fates)
{
    /* judging times is the consumer's business */
    const struct event_rules any = {.max_age_us = INT64_MAX / 2, .max_future_us = INT64_MAX / 2};
    fates->slots = calloc(FATES_MOST, sizeof *fates->slots);
    fates->order = calloc(FATES_MOST, sizeof *fates->order);
    fates->decoder = decoder_new(&any);
    if (!fates->slots || !fates->order || !fates->decoder)
        return pg_fail(&fates->pg, PG_PASSING, "out of memory");
    if (!pg_open(&fates->pg, fates->config->postgres.dsn, fates->context->name) ||
        !migrate_check(&fates->pg, migrations))
        return false;
    fates->follow = follow_open(&fates->pg);
    return fates->follow;
}

struct fates *fates_open(struct command_context *context, const struct config *config, const char *topic,
                         int64_t timeout_us)
{
    struct fates *fates = calloc(1, sizeof *fates);
    if (!is_usage_topic(config, topic))
        command_fail(context, EXIT_FAILED, "--wait: %s is not among kafka.usage_topics: nobody reads it",
                     topic);
    else if (!fates)
        command_fail(context, EXIT_FAILED, "out of memory");
    else {
        *fates = (struct fates){.context = context,
                                .config = config,
                                .topic = topic,
                                .timeout_ms = timeout_us / 1000,
                                .news_at_ms = system_steady_ms(),
                                .began_us = system_wall_us()};
        if (open_all(fates))
            return fates;
        command_fail(context, EXIT_FAILED, "--wait: %s. Nothing was sent", fates->pg.failure.detail);
    }
    fates_close(fates);
    return NULL;
}

void fates_close(struct fates *fates)
{
    if (!fates)
        return;
    for (size_t i = 0; fates->slots && i < FATES_MOST; i++)
        free(fates->slots[i].bytes);
    free(fates->slots);
    free(fates->order);
    free(fates->positions);
    decoder_free(fates->decoder);
    follow_close(fates->follow);
    pg_close(&fates->pg);
    free(fates);
}
