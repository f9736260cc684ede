/* Partitions are added: lanes stop, until a repartition is ordered; read up to its limits; wait there for
 * each other; and are taken over anew once they are re-homed. */
#include "engine.h"

#include <stdio.h>

/* 0: not known yet. */
static int32_t expected(const struct pipeline *p)
{
    return p->settings.repartition_to ? p->settings.repartition_to : p->partition_count;
}

bool rehome_fits(struct pipeline *p, int32_t present)
{
    if (expected(p) == 0 || present == expected(p))
        return true;
    for (size_t i = 0; i < p->lane_count; i++)
        if (p->lanes[i] && p->lanes[i]->assigned)
            takeover_stop(p, p->lanes[i],
                          "the usage topics had %d partitions and have %d now: customers would change lanes. "
                          "Nothing is taken in until `usagebox offsets repartition` has re-homed them",
                          expected(p), present);
    return false;
}

/* Lanes were fenced: whoever has nothing to commit would not learn of it. */
static void start_over(struct pipeline *p)
{
    for (size_t i = 0; i < p->lane_count; i++)
        if (p->lanes[i] && p->lanes[i]->phase != LANE_TAKING)
            takeover_forget(p, p->lanes[i]);
    settle_rewind(p, "lanes are re-homed");
}

static void tell_flags(struct pipeline *p)
{
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *lane = p->lanes[i];
        if (!lane || !lane_has_state(lane) || rehome_flags(p, lane))
            continue;
        takeover_forget(p, lane);
        engine_out_of_memory(p);
    }
}

void rehome_settings(struct pipeline *p, const struct store_settings *settings)
{
    const struct store_settings before = p->settings;
    p->settings = *settings;
    p->secret = settings->secret;
    if (p->options.partitioner == PARTITIONER_UNKNOWN && settings->partitioner != PARTITIONER_UNKNOWN) {
        p->partitioner = settings->partitioner;
        p->partitioner_stored = true;
    }
    bool began = p->partition_count > 0;
    bool changed = settings->partition_count != p->partition_count ||
                   settings->repartition_to != before.repartition_to ||
                   settings->repartition_id != before.repartition_id;
    p->partition_count = settings->partition_count;
    if (!began || !changed) {
        if (settings->flags_said != before.flags_said)
            tell_flags(p);
        return;
    }
    if (settings->repartition_to)
        engine_note(p, NOTE_INFO, -1,
                    "a repartition from %d to %d partitions: lanes read up to where their logs ended, then "
                    "wait for each other",
                    settings->partition_count, settings->repartition_to);
    else
        engine_note(p, NOTE_INFO, -1, "customers are re-homed: there are %d lanes now",
                    settings->partition_count);
    start_over(p);
}

/* Keys of customers who are another lane's now are that lane's business. */
bool rehome_flags(struct pipeline *p, struct lane *lane)
{
    if (p->settings.rehomed_batch == 0 || p->partitioner == PARTITIONER_UNKNOWN)
        return true;
    const struct flag_homes homes = {.partitioner = p->partitioner,
                                     .lanes = p->partition_count,
                                     .epoch = p->settings.rehomed_epoch,
                                     .said = p->settings.flags_said};
    return flag_book_homes(lane->flags, &homes);
}

struct former *rehome_former(struct pipeline *p)
{
    for (size_t i = 0; i < p->lane_count; i++)
        if (p->lanes[i] && p->lanes[i]->former)
            return p->lanes[i]->former;
    return NULL;
}

void rehome_measure(struct pipeline *p)
{
    p->stats.repartition_to = p->settings.repartition_to;
    p->stats.lanes_at_limit = 0;
    for (size_t i = 0; i < p->lane_count; i++)
        p->stats.lanes_at_limit += engine_running(p->lanes[i]) && lane_at_limit(p->lanes[i]);
    memcpy(p->stats.waits_for, p->settings.waits_for, sizeof p->stats.waits_for);
}
