#include "lane.h"

#include <stdlib.h>

enum { JOURNAL_FIRST_CAPACITY = 1024 };

bool lane_init(struct lane *lane, int32_t number, size_t topic_count)
{
    *lane = (struct lane){.number = number, .topic_count = topic_count, .phase = LANE_IDLE};
    lane->topics = calloc(topic_count, sizeof *lane->topics);
    lane->sealed = calloc(LANE_DAYS / 8, 1);
    if (!lane->topics || !lane->sealed) {
        lane_clear(lane);
        return false;
    }
    for (size_t i = 0; i < topic_count; i++)
        lane->topics[i] =
            (struct lane_topic){.high_offset = -1, .row = SIZE_MAX, .last_offset = -1, .limit = INT64_MAX};
    return true;
}

void lane_clear(struct lane *lane)
{
    lane_drop(lane);
    flag_book_free(lane->flags);
    for (size_t i = 0; lane->topics && i < lane->topic_count; i++)
        free(lane->topics[i].eras);
    free(lane->topics);
    free(lane->sealed);
    free(lane->journal);
    lane->topics = NULL;
    lane->sealed = NULL;
    lane->journal = NULL;
}

void lane_drop(struct lane *lane)
{
    dedupe_free(lane->dedupe);
    former_release(lane->former);
    ceiling_book_free(lane->book);
    lane_release_pending(lane);
    lane->dedupe = NULL;
    lane->former = NULL;
    lane->book = NULL;
    lane->journal_first = lane->journal_next = 0;
    lane->committed = lane->opened = (struct lane_mark){0};
    lane->adopting_count = 0;
    lane->shadowing = lane->owes_pending = false;
    lane->catching_up = lane->winding_up = false;
    lane->late_batch = 0;
    lane->epoch = 0;
}

void lane_release_pending(struct lane *lane)
{
    if (!lane->pending)
        return;
    arena_free(lane->pending->arena);
    free(lane->pending->arena);
    free(lane->pending);
    lane->pending = NULL;
}

bool lane_has_state(const struct lane *lane)
{
    return lane->dedupe != NULL;
}

static bool restore_eras(struct lane_topic *topic, const struct store_lane_offset *row)
{
    topic->limit = row->limited ? row->limit : INT64_MAX;
    topic->era_count = 0;
    struct store_era *eras = realloc(topic->eras, (row->era_count + 1) * sizeof *eras);
    if (!eras)
        return false;
    topic->eras = eras;
    topic->era_count = row->era_count;
    if (row->era_count > 0)
        memcpy(eras, row->eras, row->era_count * sizeof *eras);
    return true;
}

static void restore_topic(struct lane_topic *topic, const struct store_lane_offset *row)
{
    topic->committed = topic->stored = row->fresh ? -1 : row->next_offset;
    topic->witness = (struct lane_record){row->witness_offset, row->witness_fingerprint};
    topic->committed_last_offset = row->last_offset;
    topic->committed_fingerprint = row->last_fingerprint;
    topic->committed_through_us = row->seen_through_us;
    topic->position = row->fresh ? 0 : row->next_offset;
    topic->last_offset = row->last_offset;
    topic->last_fingerprint = row->last_fingerprint;
    topic->seen_through_us = row->seen_through_us;
    topic->noted_through_us = row->seen_through_us;
    topic->reached = 0;
    topic->gap = 0;
    topic->row = SIZE_MAX;
    topic->jumped_at = -1;
    topic->jumps_trusted = false;
}

bool lane_restore(struct lane *lane, struct store_lane *restored)
{
    lane->dedupe = restored->dedupe;
    lane->book = restored->book;
    restored->dedupe = NULL;
    restored->book = NULL;
    lane->epoch = restored->epoch;
    lane->ceilings_generation = restored->ceilings_generation;
    memset(lane->sealed, 0, LANE_DAYS / 8);
    for (size_t i = 0; i < restored->sealed_day_count; i++)
        lane_seal(lane, restored->sealed_days[i]);
    for (size_t i = 0; i < lane->topic_count; i++)
        restore_topic(&lane->topics[i], &restored->offsets[i]);
    lane->journal_first = lane->journal_next = 0;
    lane->committed = lane->opened = lane_mark(lane);
    for (size_t i = 0; i < lane->topic_count; i++)
        if (!restore_eras(&lane->topics[i], &restored->offsets[i]))
            return false;
    return lane->dedupe && lane->book;
}

static bool grow_journal(struct lane *lane)
{
    size_t capacity = lane->journal_capacity ? lane->journal_capacity * 2 : JOURNAL_FIRST_CAPACITY;
    struct dedupe_key *ring = malloc(capacity * sizeof *ring);
    if (!ring)
        return false;
    for (uint64_t at = lane->journal_first; at < lane->journal_next; at++)
        ring[at & (capacity - 1)] = lane->journal[at & (lane->journal_capacity - 1)];
    free(lane->journal);
    lane->journal = ring;
    lane->journal_capacity = capacity;
    return true;
}

bool lane_journal(struct lane *lane, struct dedupe_key key)
{
    if (lane->journal_next - lane->journal_first == lane->journal_capacity && !grow_journal(lane))
        return false;
    lane->journal[lane->journal_next++ & (lane->journal_capacity - 1)] = key;
    return true;
}

struct lane_mark lane_mark(const struct lane *lane)
{
    return (struct lane_mark){lane->journal_next, lane->book ? ceiling_book_mark(lane->book) : 0};
}

void lane_commit(struct lane *lane, struct lane_mark mark)
{
    lane->journal_first = mark.keys;
    lane->committed = mark;
    ceiling_book_commit(lane->book, mark.counters);
}

void lane_log_ends(struct lane_topic *topic, int64_t end_offset)
{
    if (topic->reached > end_offset)
        topic->reached = end_offset;
}

static void undo_topic(struct lane_topic *topic)
{
    if (topic->position > topic->reached)
        topic->reached = topic->position;
    topic->stored = topic->committed;
    topic->position = topic->committed < 0 ? 0 : topic->committed;
    topic->last_offset = topic->committed_last_offset;
    topic->last_fingerprint = topic->committed_fingerprint;
    topic->seen_through_us = topic->noted_through_us = topic->committed_through_us;
    topic->jumped_at = -1;
    topic->jumps_trusted = false;
    topic->row = SIZE_MAX;
    topic->gap = 0;
    if (topic->committed < 0 && topic->low_offset > 0)
        topic->position = topic->gap = topic->low_offset;
}

void lane_undo(struct lane *lane)
{
    while (lane->journal_next > lane->journal_first)
        dedupe_remove(lane->dedupe, lane->journal[--lane->journal_next & (lane->journal_capacity - 1)]);
    ceiling_book_undo(lane->book, lane->committed.counters);
    flag_book_undo(lane->flags);
    lane->adopting_count = 0;
    lane->catching_up = true;
    lane->late_batch = 0;
    lane->opened = lane_mark(lane);
    for (size_t i = 0; i < lane->topic_count; i++)
        undo_topic(&lane->topics[i]);
}

bool lane_at_limit(const struct lane *lane)
{
    for (size_t i = 0; i < lane->topic_count; i++)
        if (lane->topics[i].position < lane->topics[i].limit)
            return false;
    return true;
}

bool lane_find_former(const struct lane *lane, struct dedupe_key key, uint32_t *content)
{
    uint16_t day;
    return lane->former && dedupe_find(lane->former->keys, key, content, &day) && !lane_day_sealed(lane, day);
}

void lane_forget_former(struct lane *lane)
{
    for (size_t i = 0; lane->former && i < lane->former->day_count; i++)
        if (!lane_day_sealed(lane, lane->former->days[i]))
            return;
    former_release(lane->former);
    lane->former = NULL;
}

bool lane_day_sealed(const struct lane *lane, uint16_t day)
{
    return lane->sealed[day / 8] & (1u << (day % 8));
}

bool lane_day_adopting(const struct lane *lane, uint16_t day)
{
    for (size_t i = 0; i < lane->adopting_count; i++)
        if (lane->adopting[i].day == day)
            return true;
    return false;
}

void lane_seal(struct lane *lane, uint16_t day)
{
    lane->sealed[day / 8] = (uint8_t)(lane->sealed[day / 8] | (1u << (day % 8)));
}
