/* What a flag_book knows of its partition of the topic, and how it mends it. */
#include <stdlib.h>

#include "flag_rows.h"

enum { BURY_SLICE = 1024 };
static const int64_t sequence_limit = (int64_t)1 << 53; /* what any JSON reader takes as it is */

/* What the topic holds */

static bool reach(struct flag_book *book, const struct flag_message *message)
{
    if (!message->has_event || message->partition != book->lane)
        return true;
    for (size_t i = 0; i < book->reach_count; i++) {
        struct flag_reach *known = &book->reaches[i];
        if (text_equal((struct text){known->topic, known->topic_length}, message->topic)) {
            known->offset = message->offset > known->offset ? message->offset : known->offset;
            return true;
        }
    }
    struct flag_reach *reaches = realloc(book->reaches, (book->reach_count + 1) * sizeof *reaches);
    if (!reaches)
        return false;
    book->reaches = reaches;
    char *topic = malloc((size_t)message->topic.length + 1);
    if (!topic)
        return false;
    memcpy(topic, message->topic.bytes, message->topic.length);
    reaches[book->reach_count++] = (struct flag_reach){topic, message->topic.length, message->offset};
    return true;
}

int64_t flag_book_reached(const struct flag_book *book, struct text topic, int32_t partition)
{
    for (size_t i = 0; partition == book->lane && i < book->reach_count; i++)
        if (text_equal((struct text){book->reaches[i].topic, book->reaches[i].topic_length}, topic))
            return book->reaches[i].offset;
    return -1;
}

struct sighting {
    enum held_kind kind;
    struct wish *wish;             /* of HELD_FLAG */
    struct flag_sequence sequence; /* {0, 0}: unreadable; lower than any */
};

static bool sight(struct flag_book *book, struct text value, struct sighting *sighting)
{
    struct flag_message message;
    sighting->kind = HELD_TOMBSTONE;
    if (!value.bytes)
        return true;
    arena_reset(&book->arena);
    enum flag_reading reading = flag_parse(&book->arena, value, &message);
    sighting->kind = reading == FLAG_READ ? HELD_FLAG : HELD_FOREIGN;
    if (reading != FLAG_READ)
        return reading == FLAG_FOREIGN;
    if (!message.active)
        value.length = 0;
    if (reach(book, &message))
        sighting->wish = wish_new(book, message.decision_id, message.active, message.decided_at_us, value);
    return sighting->wish;
}

static int sequence_order(struct flag_sequence a, struct flag_sequence b)
{
    if (a.epoch != b.epoch)
        return a.epoch < b.epoch ? -1 : 1;
    return (a.count > b.count) - (a.count < b.count);
}

static struct flag_sequence readable(bool has_sequence, struct flag_sequence sequence)
{
    bool sound = has_sequence && sequence.epoch >= 1 && sequence.epoch < sequence_limit &&
                 sequence.count >= 1 && sequence.count < sequence_limit;
    return sound ? sequence : (struct flag_sequence){0, 0};
}

/* Takes the sighting over as the last message for its key. */
static void row_sight(struct flag_book *book, struct flag_row *row, const struct sighting *sighting)
{
    row->held_kind = sighting->kind;
    wish_replace(book, &row->held, sighting->wish);
    if (row->unseen && sequence_order(sighting->sequence, row->sent) == 0)
        row->unseen = false;
    row->overridden = sequence_order(sighting->sequence, row->highest) < 0;
    if (row->overridden)
        return;
    row->highest = sighting->sequence;
    row->highest_active = sighting->wish && sighting->wish->active;
}

bool flag_book_seen(struct flag_book *book, struct text key, struct text value, bool has_sequence,
                    struct flag_sequence sequence)
{
    struct sighting sighting = {.sequence = readable(has_sequence, sequence)};
    if (sighting.sequence.epoch > book->highest_epoch)
        book->highest_epoch = sighting.sequence.epoch;
    uint32_t number = row_of(book, key);
    if (number == LOOKUP_END || !sight(book, value, &sighting))
        return false;
    struct flag_row *row = row_at(book, number);
    row_sight(book, row, &sighting);
    if (book->holding || row->ticket != 0 || !differs(book, row))
        return true;
    return mend(book, number, book->now_us);
}

void flag_book_read_again(struct flag_book *book)
{
    book->holding = true;
    for (uint32_t i = 0; i < book->rows.count; i++) {
        struct flag_row *row = row_at(book, i);
        row->held_kind = HELD_NOTHING;
        wish_replace(book, &row->held, NULL);
        row->highest = (struct flag_sequence){0, 0};
        row->highest_active = row->overridden = false;
        row->unseen =
            row->unseen && row->in_flight > 0; /* what is acknowledged is there, if nothing followed it */
    }
}

/* Mending */

bool flag_book_reconcile(struct flag_book *book, int64_t now_us)
{
    book->now_us = now_us;
    for (uint32_t i = 0; i < book->rows.count; i++) {
        const struct flag_row *row = row_at(book, i);
        if (row->live && row->ticket == 0 && differs(book, row) && !mend(book, i, now_us))
            return false;
    }
    book->holding = false;
    return true;
}

/* Nothing is crossed, and nothing is on its way. */
static bool at_rest(const struct flag_row *row)
{
    const struct wish *want = desired(row);
    return !row->first && !(want && want->active) && row->ticket == 0 && !row->unseen &&
           row->in_flight == 0 && !row->overridden;
}

static bool bury_row(struct flag_book *book, uint32_t number, int64_t before_us)
{
    struct flag_row *row = row_at(book, number);
    if (row->live && row->foreign)
        return bury_foreign(book, number);
    if (!row->live || !at_rest(row) || (row->held_kind == HELD_FLAG && row->held->active))
        return true;
    if (row->held_kind != HELD_FLAG) {
        row_remove(book, number);
        return true;
    }
    if (row->held->at_us > before_us && same_message(row->held, desired(row)))
        return true;
    row->tombstone = true;
    return make_due(book, number);
}

bool flag_book_bury(struct flag_book *book, int64_t now_us, int64_t keep_us)
{
    book->now_us = now_us;
    if (book->homes.lanes > 0 && !book->homes.said)
        return true;
    for (uint32_t i = 0; i < BURY_SLICE && i < book->rows.count && !book->holding; i++) {
        book->swept = (book->swept + 1) % book->rows.count;
        if (!bury_row(book, book->swept, now_us - keep_us))
            return false;
    }
    return true;
}
