/* Random lives of a flag book beside a log: takeovers, rewinds, failed sends, compaction and a zombie that
 * writes late. Once all is quiet, whoever reads the log from its start and whoever followed it must know what
 * is desired. */
#include "consumer/flag.h"
#include "consumer/flag_book.h"
#include "suite.h"
#include "with_sequence.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

enum { KEYS = 5, LOG = 20000, PENDING = 1000 };
#define NOW_US ((int64_t)1795372200000000)
#define DAY_US ((int64_t)86400000000)

static const char *const keys[KEYS] = {"k0", "k1", "k2", "k3", "k4"};
static const char *const topics[] = {"usage"};

struct message {
    int key;
    char *value; /* NULL: a tombstone */
    uint32_t length;
    struct flag_sequence sequence;
    uint64_t cookie; /* of ours, in this life */
    int number;      /* of the decision; 0: a tombstone */
    bool active;
};

static struct model {
    unsigned random;
    struct flag_book *book;
    int64_t epoch, zombie_epoch, zombie_count;
    struct message log[LOG];
    size_t log_count, seen, appended;
    struct message flying[PENDING]; /* sent, not on the log yet */
    size_t flying_count;
    int committed[KEYS], desired[KEYS]; /* decision numbers; odd: crossed; 0: none */
    struct {
        int key, number;
    } pending[PENDING]; /* decided, not committed */
    size_t pending_count;
} model;

static struct arena arena;

static unsigned pick(unsigned below)
{
    model.random = model.random * 1103515245u + 12345u;
    return (model.random >> 16) % below;
}

static struct decision decision_of(int key, int number)
{
    struct decision decision = {.customer_id = text_of(keys[key]),
                                .ceiling = TEXT("cap"),
                                .scope = TEXT("{}"),
                                .active = number % 2,
                                .decided_at_us = NOW_US,
                                .period_end_us = NOW_US};
    snprintf(decision.id, sizeof decision.id, "%08d%024d", key, number);
    return decision;
}

static struct text value_of(const struct decision *decision)
{
    struct text value = flag_value(&arena, decision, topics);
    ck_assert_ptr_nonnull(value.bytes);
    return value;
}

static struct message message_of(int key, struct text value, struct flag_sequence sequence)
{
    struct message message = {.key = key, .sequence = sequence, .length = value.length};
    struct flag_message parsed;
    if (!value.bytes)
        return message;
    message.value = memcpy(malloc(value.length), value.bytes, value.length);
    if (flag_parse(&arena, value, &parsed) != FLAG_READ)
        ck_abort_msg("a message that is none");
    message.active = parsed.active;
    message.number = atoi(parsed.decision_id.bytes + 8);
    return message;
}

static void append(struct message message)
{
    if (model.log_count == LOG)
        ck_abort_msg("the log is full");
    model.log[model.log_count++] = message;
    model.appended++;
}

/* Ours */

static void do_decide(void)
{
    if (model.pending_count == PENDING)
        return;
    int key = (int)pick(KEYS);
    int number = ++model.desired[key];
    struct decision decision = decision_of(key, number);
    ck_assert(flag_book_decide(model.book, text_of(keys[key]), value_of(&decision), decision.id,
                               decision.active, NOW_US));
    model.pending[model.pending_count].key = key;
    model.pending[model.pending_count++].number = number;
}

static void do_commit(void)
{
    size_t count = pick((unsigned)model.pending_count + 1);
    for (size_t i = 0; i < count; i++) {
        struct decision decision = decision_of(model.pending[i].key, model.pending[i].number);
        flag_book_commit(model.book, text_of(keys[model.pending[i].key]), decision.id);
        model.committed[model.pending[i].key] = model.pending[i].number;
    }
    memmove(model.pending, model.pending + count, (model.pending_count - count) * sizeof *model.pending);
    model.pending_count -= count;
}

static void do_undo(void)
{
    flag_book_undo(model.book);
    memcpy(model.desired, model.committed, sizeof model.desired);
    model.pending_count = 0;
}

static void do_reconcile(void)
{
    ck_assert(flag_book_reconcile(model.book, NOW_US));
}

static void do_publish(void)
{
    struct flag_due due;
    for (unsigned i = pick(4); i > 0 && model.flying_count < PENDING && flag_book_due(model.book, &due);
         i--) {
        struct message message = message_of(due.key.bytes[1] - '0', due.value, due.sequence);
        message.cookie = due.cookie;
        model.flying[model.flying_count++] = message;
        flag_book_published(model.book, due.cookie);
    }
}

/* What flies arrives in its order, or fails all together, as an idempotent producer has it. */
static void do_arrive(void)
{
    size_t count = pick((unsigned)model.flying_count + 1);
    bool fails = pick(6) == 0;
    for (size_t i = 0; i < count; i++) {
        struct message *message = &model.flying[i];
        if (fails) {
            flag_book_failed(model.book, message->cookie);
            if (pick(3) == 0) /* and yet it is there */
                append(*message);
            else
                free(message->value);
            continue;
        }
        append(*message);
        flag_book_acknowledged(model.book, message->cookie);
    }
    memmove(model.flying, model.flying + count, (model.flying_count - count) * sizeof *model.flying);
    model.flying_count -= count;
}

static void see_next(void)
{
    const struct message *message = &model.log[model.seen++];
    ck_assert(flag_book_seen(model.book, text_of(keys[message->key]),
                             (struct text){message->value, message->length}, true, message->sequence));
}

static void do_see(void)
{
    for (unsigned i = pick(6); i > 0 && model.seen < model.log_count; i--)
        see_next();
}

static void do_bury(void)
{
    ck_assert(flag_book_bury(model.book, NOW_US + DAY_US, DAY_US));
}

/* Others */

static void do_zombie(void)
{
    int key = (int)pick(KEYS);
    struct flag_sequence sequence = {model.zombie_epoch, ++model.zombie_count};
    struct decision decision = decision_of(key, 1 + (int)pick((unsigned)model.desired[key] + 3));
    struct text value = {NULL, 0};
    if (pick(8))
        value = with_sequence(&arena, value_of(&decision), sequence);
    append(message_of(key, value, sequence));
}

static void do_compact(void)
{
    size_t kept = 0, seen = model.seen;
    for (size_t i = 0; i < model.log_count; i++) {
        bool last = true;
        for (size_t j = i + 1; j < seen; j++) /* the head is not compacted */
            last = last && model.log[j].key != model.log[i].key;
        bool keep = i >= seen || (last && (model.log[i].value || pick(2)));
        if (!keep)
            free(model.log[i].value);
        else
            model.log[kept++] = model.log[i];
        if (i + 1 == seen)
            model.seen = kept;
    }
    model.log_count = kept;
}

/* The group took the lane and gave it back: the log is read again, and our state stays. */
static void do_read_again(void)
{
    flag_book_read_again(model.book);
    model.seen = 0;
    while (model.seen < model.log_count)
        see_next();
}

/* A new owner: it reads the log, restores what is committed, and goes on above all epochs seen. What still
 * flies is the zombie's. */
static void do_takeover(void)
{
    for (size_t i = 0; i < model.flying_count; i++)
        append(model.flying[i]);
    model.flying_count = 0;
    flag_book_free(model.book);
    model.book = flag_book_new(0, (struct lookup_seed){{1, 2}});
    model.seen = 0;
    while (model.seen < model.log_count)
        see_next();
    model.zombie_epoch = model.epoch;
    model.zombie_count += 1000;
    model.epoch = (model.epoch > flag_book_highest_epoch(model.book) ? model.epoch
                                                                     : flag_book_highest_epoch(model.book)) +
                  1;
    flag_book_epoch(model.book, model.epoch);
    do_undo();
    for (int key = 0; key < KEYS; key++) {
        struct decision decision = decision_of(key, model.committed[key]);
        if (model.committed[key] > 0)
            ck_assert(flag_book_restore(model.book, text_of(keys[key]), value_of(&decision), decision.id,
                                        decision.active));
    }
}

/* Quiet */

static void settle(void)
{
    do_reconcile();
    for (int turn = 0; turn < 200; turn++) {
        while (model.seen < model.log_count)
            see_next();
        do_publish();
        for (size_t i = 0; i < model.flying_count; i++) {
            append(model.flying[i]);
            flag_book_acknowledged(model.book, model.flying[i].cookie);
        }
        model.flying_count = 0;
    }
    ck_assert(flag_book_settled(model.book, flag_book_last_cookie(model.book)));
}

static bool higher(const struct message *a, const struct message *b)
{
    return a->sequence.epoch != b->sequence.epoch ? a->sequence.epoch > b->sequence.epoch
                                                  : a->sequence.count > b->sequence.count;
}

static void check_message(const struct message *message, int key, const char *reader)
{
    bool crossed = model.desired[key] % 2;
    bool active = message && message->active;
    if (active != crossed || (crossed && message->number != model.desired[key]))
        ck_abort_msg("%s of %s knows %d%s, desired is %d", reader, keys[key], message ? message->number : 0,
                     active ? "+" : "", model.desired[key]);
}

static void check_key(int key)
{
    const struct message *last = NULL, *highest = NULL;
    for (size_t i = 0; i < model.log_count; i++) {
        const struct message *message = &model.log[i];
        if (message->key != key)
            continue;
        last = message;
        highest = !highest || higher(message, highest) ? message : highest;
    }
    check_message(highest, key, "a reader");
    check_message(last, key, "a reader after compaction");
}

static size_t run_life(unsigned seed)
{
    memset(&model, 0, sizeof model);
    arena_init(&arena, 1 << 16);
    model.random = seed;
    model.book = flag_book_new(0, (struct lookup_seed){{1, 2}});
    do_takeover();
    static void (*const rare[])(void) = {do_undo, do_takeover,  do_compact,
                                         do_bury, do_reconcile, do_read_again};
    static void (*const often[])(void) = {do_decide, do_commit, do_publish, do_arrive, do_see, do_zombie};
    for (int step = 0; step < 600; step++) {
        if (pick(12) == 0)
            rare[pick(sizeof rare / sizeof *rare)]();
        else
            often[pick(sizeof often / sizeof *often)]();
        if (step % 100 == 99) {
            settle();
            for (int key = 0; key < KEYS; key++)
                check_key(key);
        }
        arena_reset(&arena);
    }
    flag_book_free(model.book);
    for (size_t i = 0; i < model.log_count; i++)
        free(model.log[i].value);
    for (size_t i = 0; i < model.flying_count; i++)
        free(model.flying[i].value);
    arena_free(&arena);
    return model.appended;
}

START_TEST(once_quiet_every_reader_knows_what_is_desired)
{
    size_t messages = 0;
    for (unsigned seed = 1; seed <= 25; seed++)
        messages += run_life((unsigned)_i * 1000003u + seed);
    ck_assert_uint_gt(messages, 1000);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_loop_test(tests, once_quiet_every_reader_knows_what_is_desired, 0, 4);
}

int main(void)
{
    return run_suite("flag_model", add_tests);
}
