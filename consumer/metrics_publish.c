#include "metrics.h"

#include <stdlib.h>

#include "system_clock.h"

#define PUBLISH_EVERY_US INT64_C(100000)

static void collect_partition(struct metrics_partition *to, const struct pipeline_partition *from,
                              const char *topic)
{
    *to = (struct metrics_partition){.partition = from->partition,
                                     .phase = from->phase,
                                     .committed = from->committed,
                                     .high_offset = from->high_offset,
                                     .seen_through_us = from->seen_through_us,
                                     .at_limit = from->at_limit};
    snprintf(to->topic, sizeof to->topic, "%s", topic);
    snprintf(to->stop_reason, sizeof to->stop_reason, "%s", from->stop_reason);
}

/* Fills partitions; returns how many there are. */
static size_t collect(struct metrics_partition *partitions, const struct pipeline *pipeline,
                      const char *const *topics)
{
    size_t count = 0, limit = pipeline_partitions(pipeline);
    struct pipeline_partition partition;
    for (size_t i = 0; i < limit; i++)
        if (pipeline_partition(pipeline, i, &partition))
            collect_partition(&partitions[count++], &partition, topics[partition.topic]);
    return count;
}

void metrics_publish(struct metrics *metrics, struct pipeline *pipeline, const char *const *topics)
{
    int64_t now_us = system_steady_us();
    if (!metrics_due(metrics, now_us - PUBLISH_EVERY_US))
        return;
    struct metrics_snapshot snapshot = {.published = true, .turned_us = now_us, .clock_us = system_wall_us()};
    snapshot.partitions = calloc(pipeline_partitions(pipeline) + 1, sizeof *snapshot.partitions);
    if (!snapshot.partitions)
        return;
    snapshot.partition_count = collect(snapshot.partitions, pipeline, topics);
    snapshot.stats = *pipeline_stats(pipeline);
    metrics_observed(metrics, &snapshot);
    metrics_publish_snapshot(metrics, &snapshot);
    free(snapshot.partitions);
}
