/* The lanes that a process has: made when they are first assigned, or later if there was no memory then. */
#include "engine.h"

#include <stdlib.h>

static bool make_room(struct pipeline *p, int32_t number)
{
    if ((size_t)number < p->lane_count)
        return true;
    size_t count = (size_t)number + 1;
    struct lane **lanes = realloc(p->lanes, count * sizeof(struct lane *));
    if (!lanes)
        return false;
    for (size_t i = p->lane_count; i < count; i++)
        lanes[i] = NULL;
    p->lanes = lanes;
    p->lane_count = count;
    return true;
}

static struct lane *find_or_make(struct pipeline *p, int32_t number)
{
    if (!make_room(p, number))
        return NULL;
    if (p->lanes[number])
        return p->lanes[number];
    struct lane *lane = malloc(sizeof *lane);
    if (lane && !lane_init(lane, number, p->options.topic_count)) {
        free(lane);
        lane = NULL;
    }
    return p->lanes[number] = lane;
}

/* Nobody tells us of an assignment twice. */
static void remember_unmade(struct pipeline *p, int32_t number)
{
    bool later = p->unmade_count < ENGINE_UNMADE_LIMIT;
    engine_note(p, NOTE_ALERT, number, "out of memory: the lane can't be taken over%s",
                later ? " yet" : "; restart this process");
    if (later)
        p->unmade[p->unmade_count++] = number;
    p->unmade_at_us = p->steady_us + ENGINE_SECOND_US;
}

struct lane *lanes_make(struct pipeline *p, int32_t number)
{
    struct lane *lane = find_or_make(p, number);
    if (!lane)
        remember_unmade(p, number);
    return lane;
}

bool lanes_next_unmade(struct pipeline *p, int32_t *number)
{
    if (p->unmade_count == 0 || p->steady_us < p->unmade_at_us)
        return false;
    *number = p->unmade[--p->unmade_count];
    return true;
}
