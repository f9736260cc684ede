/* Where PostgreSQL says that reading stands, against what the logs hold: nothing skipped, nothing about to be
 * removed unread. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"

enum { HOUR_MS = 3600000, DAY_MS = 24 * HOUR_MS, HALVINGS = 9 };

/* A partition with records that nobody has read yet. */
struct unread {
    int32_t partition;
    int64_t next_offset;
    int64_t count;
    /* The oldest of them may be removed after… */
    int64_t later_than_ms;
    int64_t earlier_than_ms;
    bool endangered;
};

struct topic_positions {
    struct check *check;
    const struct kafka_topic *topic;
    const PGresult *offsets; /* topic, kafka_partition, next_offset */
    struct unread *unread;   /* room for every partition */
    size_t unread_count;
    int64_t retention_ms;
};

/* -1: nothing was read yet. */
static int64_t stored_offset(const struct topic_positions *t, int32_t partition)
{
    for (int row = 0; row < PQntuples(t->offsets); row++)
        if (pg_int4(t->offsets, row, 1) == partition &&
            text_equal(pg_text(t->offsets, row, 0), text_of(t->topic->name)))
            return pg_int8(t->offsets, row, 2);
    return -1;
}

static void say_where(const struct topic_positions *t, int32_t partition, char where[CHECK_WHERE_BYTES])
{
    snprintf(where, CHECK_WHERE_BYTES, "topic %s partition %d", t->topic->name, partition);
}

static void judge_position(struct topic_positions *t, int32_t partition, int64_t low_offset,
                           int64_t high_offset)
{
    char where[CHECK_WHERE_BYTES];
    say_where(t, partition, where);
    int64_t stored = stored_offset(t, partition);
    int64_t next = stored < 0 ? low_offset : stored;
    if (next > high_offset)
        findings_add(t->check->findings, FINDING_ERROR, where,
                     "offset %" PRId64 " is to be read next, and the log ends at %" PRId64
                     ": the topic was made anew, or has lost records; this lane stops\nusagebox offsets "
                     "--help says how to go on",
                     next, high_offset);
    else if (next < low_offset)
        findings_add(
            t->check->findings, FINDING_ERROR, where,
            "offsets %" PRId64 " to %" PRId64 " were removed before they were read; this lane stops\n"
            "usagebox offsets accept records the gap and goes on behind it; then lengthen retention.ms",
            next, low_offset - 1);
    else if (next < high_offset)
        t->unread[t->unread_count++] =
            (struct unread){.partition = partition, .next_offset = next, .count = high_offset - next};
}

static bool read_positions(struct topic_positions *t)
{
    char error[KAFKA_ERROR_BYTES], where[CHECK_WHERE_BYTES];
    for (int32_t partition = 0; partition < t->topic->partition_count; partition++) {
        int64_t low_offset, high_offset;
        if (!kafka_admin_watermarks(t->check->kafka, t->topic->name, partition, &low_offset, &high_offset,
                                    error)) {
            say_where(t, partition, where);
            findings_add(t->check->findings, FINDING_ERROR, where,
                         "%s\nlook at its leader; further partitions were not asked for", error);
            return false;
        }
        judge_position(t, partition, low_offset, high_offset);
    }
    return true;
}

/* --- how long until unread records are removed ---------------------------------------------------------- */

/* Asks of each partition whether its oldest unread record is so old that it may be removed within
 * margin_ms(u): then the first record younger than that lies behind it. */
static bool ask_ages(struct topic_positions *t, int64_t (*margin_ms)(const struct unread *),
                     void (*hear)(struct unread *, bool))
{
    char error[KAFKA_ERROR_BYTES];
    int64_t now_ms = (int64_t)time(NULL) * 1000;
    rd_kafka_topic_partition_list_t *times = rd_kafka_topic_partition_list_new((int)t->unread_count);
    for (size_t i = 0; i < t->unread_count; i++)
        rd_kafka_topic_partition_list_add(times, t->topic->name, t->unread[i].partition)->offset =
            now_ms - t->retention_ms + margin_ms(&t->unread[i]);
    bool asked = kafka_admin_offsets_for_times(t->check->kafka, times, error);
    for (size_t i = 0; asked && i < t->unread_count; i++) {
        const rd_kafka_topic_partition_t *answer =
            rd_kafka_topic_partition_list_find(times, t->topic->name, t->unread[i].partition);
        if (!answer->err)
            hear(&t->unread[i], answer->offset < 0 || answer->offset > t->unread[i].next_offset);
    }
    rd_kafka_topic_partition_list_destroy(times);
    return asked;
}

static int64_t upper_ms(const struct unread *unread)
{
    return unread->earlier_than_ms;
}

static int64_t middle_ms(const struct unread *unread)
{
    return (unread->later_than_ms + unread->earlier_than_ms) / 2;
}

static void hear_first(struct unread *unread, bool old)
{
    unread->endangered = old;
}

static void hear_middle(struct unread *unread, bool old)
{
    if (old)
        unread->earlier_than_ms = middle_ms(unread);
    else
        unread->later_than_ms = middle_ms(unread);
}

static void report_endangered(const struct topic_positions *t, const struct unread *unread)
{
    char where[CHECK_WHERE_BYTES];
    say_where(t, unread->partition, where);
    int64_t left_ms = middle_ms(unread);
    enum finding_level level = left_ms < HOUR_MS ? FINDING_ERROR : FINDING_WARNING;
    findings_add(t->check->findings, level, where,
                 "%" PRId64 " records are unread, and retention may remove the oldest in about %.1f h\n"
                 "kafka-configs.sh --alter --topic %s --add-config retention.ms=%" PRId64
                 " gives time; then see why usagebox run lags",
                 unread->count, (double)left_ms / HOUR_MS, t->topic->name,
                 t->retention_ms + 7 * (int64_t)DAY_MS);
}

/* Records that have waited for less than half of what the topic keeps are in no danger. */
static void check_ages(struct topic_positions *t)
{
    int64_t horizon_ms = t->retention_ms / 2 < DAY_MS ? t->retention_ms / 2 : DAY_MS;
    for (size_t i = 0; i < t->unread_count; i++)
        t->unread[i].earlier_than_ms = horizon_ms;
    if (!ask_ages(t, upper_ms, hear_first))
        return;
    bool any = false;
    for (size_t i = 0; i < t->unread_count; i++)
        any = any || t->unread[i].endangered;
    for (int i = 0; any && i < HALVINGS; i++)
        if (!ask_ages(t, middle_ms, hear_middle))
            return;
    for (size_t i = 0; i < t->unread_count; i++)
        if (t->unread[i].endangered)
            report_endangered(t, &t->unread[i]);
}

static int64_t retention_ms(struct check *check, const char *topic)
{
    char error[KAFKA_ERROR_BYTES];
    if (!kafka_admin_read_settings(check->kafka, topic, error)) /* said of the topic already */
        return -1;
    const char *policy = kafka_admin_setting(check->kafka, "cleanup.policy");
    const char *value = kafka_admin_setting(check->kafka, "retention.ms");
    return policy && strstr(policy, "delete") && value ? strtoll(value, NULL, 10) : -1;
}

static void check_topic(struct check *check, const struct kafka_topic *topic, const PGresult *offsets)
{
    struct topic_positions t = {.check = check, .topic = topic, .offsets = offsets};
    t.unread = calloc((size_t)topic->partition_count + 1, sizeof *t.unread);
    if (!t.unread) {
        check->findings->out_of_memory = true;
        return;
    }
    if (read_positions(&t) && t.unread_count > 0) {
        t.retention_ms = retention_ms(check, topic->name);
        if (t.retention_ms > 0)
            check_ages(&t);
    }
    free(t.unread);
}

/* --- what PostgreSQL remembers of the topics ------------------------------------------------------------ */

static void find_under_way(struct check *check, const char *where, const PGresult *stored)
{
    findings_add(
        check->findings, FINDING_WARNING, where,
        "a repartition from %d to %d partitions is under way%s%s: what was produced since it was ordered is "
        "read when it is done\nkeep usagebox run going; usagebox offsets repartition --wait says when it is",
        pg_int4(stored, 0, 0), pg_int4(stored, 0, 1),
        PQgetlength(stored, 0, 2) ? ", and waits for lanes " : "", PQgetvalue(stored, 0, 2));
}

/* Holds what was in force when events were last counted against what is there now. */
static void check_partition_count(struct check *check)
{
    PG_RESULT *stored = check_query(
        check, &check->writer, "PostgreSQL",
        "SELECT n.lanes, coalesce(r.to_count, 0), coalesce((SELECT string_agg(lane::text, ', ' ORDER BY "
        "lane) FROM "
        "(SELECT DISTINCT kafka_partition AS lane FROM repartition_waits ORDER BY 1 LIMIT 20) w), '') FROM "
        "lane_count n LEFT JOIN repartition r ON r.finished_at IS NULL");
    const struct kafka_topic *topic = &check->usage_topics[0];
    if (PQntuples(stored) != 1 || !topic->exists || pg_int4(stored, 0, 0) == 0)
        return;
    char where[CHECK_WHERE_BYTES];
    snprintf(where, sizeof where, "topic %s", topic->name);
    int32_t under_way_to = pg_int4(stored, 0, 1);
    int32_t expected = under_way_to ? under_way_to : pg_int4(stored, 0, 0);
    if (under_way_to)
        find_under_way(check, where, stored);
    if (expected != topic->partition_count)
        findings_add(check->findings, FINDING_ERROR, where,
                     "it has %d partitions and had %d when events were last counted: nothing is read until "
                     "customers' lanes are sorted out\n"
                     "usagebox offsets repartition does that",
                     topic->partition_count, expected);
}

static void check_partitioner(struct check *check)
{
    PG_RESULT *stored = check_query(check, &check->writer, "PostgreSQL",
                                    "SELECT value FROM setting WHERE name = 'partitioner'");
    enum partitioner configured = check->config->kafka.partitioner;
    if (PQntuples(stored) != 1 || configured == PARTITIONER_UNKNOWN ||
        text_equal(pg_text(stored, 0, 0), text_of(partitioner_names[configured])))
        return;
    findings_add(check->findings, FINDING_WARNING, "kafka.partitioner",
                 "it is %s, and producers were found to use %.*s: their events become dead letters\nset it "
                 "to auto, unless producers have changed",
                 partitioner_names[configured], PQgetlength(stored, 0, 0), PQgetvalue(stored, 0, 0));
}

static bool is_configured(const struct check *check, struct text topic)
{
    const struct config_texts *topics = &check->config->kafka.usage_topics;
    for (size_t i = 0; i < topics->count; i++)
        if (text_equal(text_of(topics->items[i]), topic))
            return true;
    return false;
}

static void check_foreign_offsets(struct check *check)
{
    PG_RESULT *topics =
        check_query(check, &check->writer, "PostgreSQL",
                    "SELECT DISTINCT topic FROM consumer_offset WHERE retired_at IS NULL ORDER BY topic");
    for (int row = 0; row < PQntuples(topics); row++)
        if (!is_configured(check, pg_text(topics, row, 0)))
            findings_add(check->findings, FINDING_WARNING, "kafka.usage_topics",
                         "events of topic %s were counted here, and it is not among them: usage_watermark "
                         "waits for it\n"
                         "add it, or set it aside: usagebox offsets retire %s --reason …",
                         PQgetvalue(topics, row, 0), PQgetvalue(topics, row, 0));
}

void check_positions(struct check *check)
{
    if (!check->kafka || !check->has_schema)
        return;
    PG_RESULT *offsets = check_query(check, &check->writer, "PostgreSQL",
                                     "SELECT topic, kafka_partition, next_offset FROM consumer_offset");
    if (!offsets)
        return;
    check_partition_count(check);
    check_partitioner(check);
    check_foreign_offsets(check);
    for (size_t i = 0; i < check->config->kafka.usage_topics.count; i++)
        if (check->usage_topics[i].exists)
            check_topic(check, &check->usage_topics[i], offsets);
}
