#include <inttypes.h>
#include <stdarg.h>

#include "../rollup/json_text.h"
#include "metrics.h"

#define S INT64_C(1000000) /* µs */
#define TURN_LIMIT_US (30 * S)
/* Idle partitions commit too, so that records that wait this long behind no commit are not on their way. */
#define PROGRESS_LIMIT_US (120 * S)

enum { REASONS_LIMIT = 20, SENTENCE_BYTES = 600 };

/* Writes a JSON array of sentences, the first REASONS_LIMIT of them. */
struct reasons {
    FILE *out;
    size_t count;
};

__attribute__((format(printf, 2, 3))) static void say(struct reasons *reasons, const char *format, ...)
{
    char sentence[SENTENCE_BYTES], escaped[6 * SENTENCE_BYTES];
    if (reasons->count++ >= REASONS_LIMIT)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    /* A sentence that was cut may end inside a character: what is no UTF-8 is replaced. */
    char *end = json_text_put(escaped, text_of(sentence));
    fprintf(reasons->out, "%s\"%.*s\"", reasons->count > 1 ? "," : "", (int)(end - escaped), escaped);
}

static bool turned_lately(const struct metrics_snapshot *snapshot, int64_t now_us)
{
    return snapshot->published && now_us - snapshot->turned_us < TURN_LIMIT_US;
}

static void say_turning(struct reasons *reasons, const struct metrics_snapshot *snapshot, int64_t now_us)
{
    if (!snapshot->published)
        say(reasons, "the engine has not turned yet");
    else if (!turned_lately(snapshot, now_us))
        say(reasons, "the engine has not turned for %" PRId64 " s", (now_us - snapshot->turned_us) / S);
}

static void say_lane(struct reasons *reasons, const struct metrics_partition *partition)
{
    static const char *const doing[LANE_PHASES] = {
        [LANE_READING_FLAGS] = "reads its partition of the enforcement topic",
        [LANE_TAKING] = "is being taken over: its state is read from PostgreSQL",
        [LANE_CHECKING] = "is held against what is remembered of its log",
        [LANE_WAITING] = "waits to be taken over again",
    };
    if (partition->phase == LANE_STOPPED)
        say(reasons, "lane %" PRId32 " is stopped: %s", partition->partition, partition->stop_reason);
    else if (doing[partition->phase])
        say(reasons, "lane %" PRId32 " %s", partition->partition, doing[partition->phase]);
}

static void say_lanes(struct reasons *reasons, const struct metrics_snapshot *snapshot)
{
    bool assigned = false;
    for (size_t i = 0; i < snapshot->partition_count; i++) {
        const struct metrics_partition *partition = &snapshot->partitions[i];
        assigned = assigned || partition->phase != LANE_IDLE;
        if (i == 0 || partition->partition != partition[-1].partition)
            say_lane(reasons, partition);
    }
    if (snapshot->stats.lanes_unmade > 0)
        say(reasons, "%zu lanes can't be taken over for want of memory", snapshot->stats.lanes_unmade);
    else if (!assigned)
        say(reasons, "no lane is assigned to this process");
}

static void say_repartition(struct reasons *reasons, const struct pipeline_stats *stats)
{
    if (stats->lanes_at_limit > 0)
        say(reasons,
            "a repartition to %" PRId32
            " partitions is under way: %zu lanes have read up to it and wait for %s%s",
            stats->repartition_to, stats->lanes_at_limit, *stats->waits_for ? "lanes " : "being re-homed",
            stats->waits_for);
}

static bool records_wait(const struct metrics_snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->partition_count; i++) {
        const struct metrics_partition *partition = &snapshot->partitions[i];
        if (partition->phase == LANE_RUNNING && !partition->at_limit &&
            partition->committed < partition->high_offset)
            return true;
    }
    return false;
}

static void say_progress(struct reasons *reasons, const struct metrics_snapshot *snapshot)
{
    int64_t since_commit_us = snapshot->clock_us - snapshot->stats.last_commit_us;
    if (!snapshot->stats.store_up)
        say(reasons, "PostgreSQL does not answer");
    if (since_commit_us >= PROGRESS_LIMIT_US && records_wait(snapshot))
        say(reasons, "records wait, and nothing was committed for %" PRId64 " s", since_commit_us / S);
}

static bool finish(const struct reasons *reasons, const char *name)
{
    if (reasons->count > REASONS_LIMIT)
        fprintf(reasons->out, ",\"and %zu more\"", reasons->count - REASONS_LIMIT);
    bool good = reasons->count == 0;
    fprintf(reasons->out, "],\"%s\":%s}\n", name, good ? "true" : "false");
    return good;
}

bool metrics_alive(const struct metrics_snapshot *snapshot, int64_t now_us, FILE *out)
{
    struct reasons reasons = {.out = out};
    fputs("{\"reasons\":[", out);
    say_turning(&reasons, snapshot, now_us);
    return finish(&reasons, "alive");
}

bool metrics_ready(const struct metrics_snapshot *snapshot, int64_t now_us, FILE *out)
{
    struct reasons reasons = {.out = out};
    fputs("{\"reasons\":[", out);
    say_turning(&reasons, snapshot, now_us);
    if (snapshot->published) {
        say_progress(&reasons, snapshot);
        say_lanes(&reasons, snapshot);
        say_repartition(&reasons, &snapshot->stats);
    }
    return finish(&reasons, "ready");
}
