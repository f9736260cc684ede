/* Holds logs against what is remembered of them: asks brokers for watermarks and records, and judges the
 * answers. */
#include "engine.h"

#include <inttypes.h>

#define PROBE_LOST_US (120 * ENGINE_SECOND_US)

/* Beside the watermarks, one record may be asked for. */
enum asked { ASKED_NONE, ASKED_LAST, ASKED_WITNESS };

static struct lane_record record_of(const struct lane_topic *topic, enum asked asked)
{
    switch (asked) {
    case ASKED_LAST:
        return (struct lane_record){topic->committed_last_offset, topic->committed_fingerprint};
    case ASKED_WITNESS:
        return topic->witness;
    default:
        return (struct lane_record){-1, 0};
    }
}

/* While a lane is checked. */
static enum asked next_asked(const struct lane_topic *topic)
{
    return topic->last_checked ? ASKED_WITNESS : ASKED_LAST;
}

static void ask(struct pipeline *p, struct lane *lane, uint32_t topic_index, enum asked asked)
{
    struct lane_topic *topic = &lane->topics[topic_index];
    if (topic->probing && p->steady_us - topic->asked_at_us < PROBE_LOST_US)
        return;
    topic->probing = true;
    topic->question++;
    topic->asked_at_us = p->steady_us;
    topic->asked_position = topic->position;
    topic->asked_reached = topic->reached;
    topic->heir = record_of(topic, ASKED_LAST);
    struct lane_record record = record_of(topic, asked);
    topic->asked_offset = record.offset;
    topic->asked_fingerprint = record.fingerprint;
    p->ports.source.probe(p->ports.source.self, topic_index, lane->number, topic->asked_offset,
                          topic->question);
}

/* A record that was read stays a record until retention removes it, and all before it. */
static bool holds_another(const struct lane_topic *topic, int64_t low_offset, bool found,
                          uint64_t fingerprint)
{
    if (topic->asked_offset < low_offset || topic->asked_offset < 0)
        return false;
    return !found || fingerprint != topic->asked_fingerprint;
}

/* What the log lacks of what the store remembers; true if nothing. */
bool probing_log_matches(struct pipeline *p, struct lane *lane, struct lane_topic *topic, const char *name)
{
    bool fresh = topic->committed < 0;
    if (fresh) {
        topic->position = topic->gap = topic->low_offset;
    } else if (topic->high_offset < topic->committed) {
        takeover_stop(
            p, lane,
            "%s/%d ends at offset %" PRId64 ", but offsets up to %" PRId64
            " were read: the topic was recreated or truncated. Free the lane with `usagebox offsets seek`",
            name, lane->number, topic->high_offset, topic->committed);
        return false;
    } else if (topic->low_offset > topic->committed) {
        takeover_stop(p, lane,
                      "%s/%d begins at offset %" PRId64 ": %" PRId64 " records from offset %" PRId64
                      " on were removed before they were read. Free the lane with `usagebox offsets accept`",
                      name, lane->number, topic->low_offset, topic->low_offset - topic->committed,
                      topic->committed);
        return false;
    } else if (holds_another(topic, topic->low_offset, topic->found, topic->found_fingerprint)) {
        takeover_stop(p, lane,
                      "%s/%d holds something else at offset %" PRId64
                      " than the record that was read: the topic was recreated. Free the lane with `usagebox "
                      "offsets seek`",
                      name, lane->number, topic->asked_offset);
        return false;
    } else if (topic->asked_offset >= 0 && !topic->found) {
        engine_note(p, NOTE_WARN, lane->number,
                    "%s/%d: the last record read, at offset %" PRId64
                    ", is gone (retention): that this is the same topic can't be verified",
                    name, lane->number, topic->asked_offset);
    }
    return true;
}

void probing_begin(struct pipeline *p, struct lane *lane)
{
    for (uint32_t i = 0; i < lane->topic_count; i++) {
        lane->topics[i].probed = lane->topics[i].last_checked = false;
        ask(p, lane, i, lane->phase == LANE_CHECKING ? ASKED_LAST : ASKED_NONE);
    }
}

/* While a lane runs: its watermarks once a second, and now and then whether its log still is the one that was
 * read. */
void probing_watch(struct pipeline *p, struct lane *lane)
{
    for (uint32_t i = 0; i < lane->topic_count; i++) {
        struct lane_topic *topic = &lane->topics[i];
        if (p->steady_us - topic->asked_at_us < ENGINE_SECOND_US)
            continue;
        bool fingerprint = p->steady_us - topic->fingerprint_at_us >= ENGINE_FINGERPRINT_US;
        if (fingerprint && !topic->probing)
            topic->fingerprint_at_us = p->steady_us;
        ask(p, lane, i, fingerprint ? ASKED_WITNESS : ASKED_NONE);
    }
}

void probing_ask_again(struct pipeline *p, struct lane *lane)
{
    for (uint32_t i = 0; i < lane->topic_count; i++)
        if (!lane->topics[i].probed && p->steady_us - lane->topics[i].asked_at_us >= ENGINE_SECOND_US)
            ask(p, lane, i, lane->phase == LANE_CHECKING ? next_asked(&lane->topics[i]) : ASKED_NONE);
}

/* Everything that was read is behind a log's end that was asked for when nothing newer could be in it. */
static void watermarks_seen(struct pipeline *p, struct lane *lane, struct lane_topic *topic,
                            const struct source_probe *probe)
{
    if (probe->high_offset < topic->asked_position) {
        takeover_stop(
            p, lane,
            "the log ends at offset %" PRId64 ", but offsets up to %" PRId64
            " were read: the topic was recreated or truncated. Free the lane with `usagebox offsets seek`",
            probe->high_offset, topic->asked_position);
    } else if (holds_another(topic, probe->low_offset, probe->found, probe->fingerprint)) {
        takeover_stop(p, lane,
                      "something else stands at offset %" PRId64
                      " than the record that was read: the topic was "
                      "recreated. Free the lane with `usagebox offsets seek`",
                      topic->asked_offset);
    } else {
        topic->witness = topic->asked_offset >= 0 ? topic->heir : topic->witness;
        if (topic->position >= probe->high_offset && probe->asked_at_us > topic->seen_through_us)
            topic->seen_through_us = probe->asked_at_us;
    }
}

/* The last record read may be one of another log, made anew before that was noticed: an older one, found
 * again in the log that was read all along, has its say too. */
static bool witness_is_next(struct lane_topic *topic)
{
    topic->last_checked = !topic->last_checked && topic->witness.offset >= topic->low_offset &&
                          topic->witness.offset != topic->committed_last_offset &&
                          !holds_another(topic, topic->low_offset, topic->found, topic->found_fingerprint);
    return topic->last_checked;
}

/* Brokers hear of new partitions one after the other: one that is assigned is there, whatever another says.
 */
static int32_t count_of(const struct lane *lane, int32_t told)
{
    return told > lane->number ? told : lane->number + 1;
}

void probing_answered(struct pipeline *p, const struct source_event *event)
{
    struct lane *lane = engine_lane(p, event->partition);
    if (!lane)
        return;
    struct lane_topic *topic = &lane->topics[event->topic];
    /* After a long sleep, a question that was given up for lost may be answered after all: what it says is
     * not about the position and the record that the lane has by now. */
    if (event->probe.question != topic->question)
        return;
    topic->probing = false;
    if (event->probe_failed) {
        engine_note(p, NOTE_DEBUG, lane->number, "watermarks of %s: %s", p->options.topics[event->topic],
                    event->detail);
        return;
    }
    /* Asked before the lane came to this phase: CHECKING needs the fingerprint of what was restored. */
    bool checking = lane->phase == LANE_CHECKING;
    if (checking && topic->asked_offset != record_of(topic, next_asked(topic)).offset) {
        ask(p, lane, event->topic, next_asked(topic));
        return;
    }
    topic->low_offset = event->probe.low_offset;
    topic->high_offset = event->probe.high_offset;
    topic->partition_count = count_of(lane, event->probe.partition_count);
    topic->found = event->probe.found;
    topic->found_fingerprint = event->probe.fingerprint;
    topic->probed = !checking || !witness_is_next(topic);
    if (!topic->probed)
        ask(p, lane, event->topic, ASKED_WITNESS);
    if (!engine_running(lane))
        return;
    if (topic->asked_reached > topic->high_offset) /* by now it may be more, in a log that has grown */
        lane_log_ends(topic, topic->high_offset);
    if (rehome_fits(p, topic->partition_count))
        watermarks_seen(p, lane, topic, &event->probe);
}
