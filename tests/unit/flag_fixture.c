#include "flag_fixture.h"

#include <check.h>
#include <stdio.h>

#include "consumer/flag.h"
#include "with_sequence.h"

struct flag_book *book;
uint64_t last_published;
static struct arena arena;
static const char *const topics[] = {"usage"};

void new_book(void)
{
    arena_init(&arena, 4096);
    book = flag_book_new(LANE, (struct lookup_seed){{1, 2}});
    ck_assert_ptr_nonnull(book);
}

void free_book(void)
{
    flag_book_free(book);
    arena_free(&arena);
}

struct decision decision_of(char letter)
{
    struct decision decision = {.customer_id = TEXT("acme"),
                                .ceiling = TEXT("cap"),
                                .scope = TEXT("{}"),
                                .meter = TEXT("tokens"),
                                .period = PERIOD_DAY,
                                .active = letter >= 'a',
                                .source = DECIDED_BY_EVENT,
                                .period_end_us = NOW_US,
                                .partition = LANE,
                                .offset = letter,
                                .decided_at_us = NOW_US};
    memset(decision.id, letter, 32);
    return decision;
}

struct text value_of(char letter)
{
    struct decision decision = decision_of(letter);
    struct text value = flag_value(&arena, &decision, topics);
    ck_assert_ptr_nonnull(value.bytes);
    return value;
}

void decide(const char *key, char letter)
{
    struct decision decision = decision_of(letter);
    ck_assert(flag_book_decide(book, text_of(key), value_of(letter), decision.id, decision.active, NOW_US));
}

void restore(const char *key, char letter)
{
    struct decision decision = decision_of(letter);
    ck_assert(flag_book_restore(book, text_of(key), value_of(letter), decision.id, decision.active));
}

void commit(const char *key, char letter)
{
    flag_book_commit(book, text_of(key), decision_of(letter).id);
}

void see(const char *key, char letter, int64_t epoch, int64_t count)
{
    struct flag_sequence sequence = {epoch, count};
    struct text value = letter == '-'   ? (struct text){NULL, 0}
                        : letter == '?' ? TEXT("what?")
                                        : value_of(letter);
    if (letter != '-' && letter != '?')
        value = with_sequence(&arena, value, sequence);
    ck_assert(flag_book_seen(book, text_of(key), value, epoch > 0, sequence));
}

void reconcile(void)
{
    ck_assert(flag_book_reconcile(book, NOW_US));
}

const char *publish(void)
{
    static char line[200];
    struct flag_due due;
    if (!flag_book_due(book, &due))
        return "nothing";
    char letter = '-', state = ' ';
    if (due.value.bytes) {
        struct flag_message message;
        char sequence[60];
        snprintf(sequence, sizeof sequence, ",\"sequence\":[%ld,%ld],", (long)due.sequence.epoch,
                 (long)due.sequence.count);
        ck_assert_ptr_nonnull(memmem(due.value.bytes, due.value.length, sequence, strlen(sequence)));
        ck_assert_int_eq(flag_parse(&arena, due.value, &message), FLAG_READ);
        letter = message.decision_id.bytes[0];
        state = message.active ? '+' : '.';
    }
    snprintf(line, sizeof line, "%.*s %c%c [%ld,%ld]", (int)due.key.length, due.key.bytes, letter, state,
             (long)due.sequence.epoch, (long)due.sequence.count);
    last_published = due.cookie;
    flag_book_published(book, due.cookie);
    return line;
}

void run(void)
{
    flag_book_epoch(book, EPOCH);
    reconcile();
}
