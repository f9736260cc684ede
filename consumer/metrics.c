#include "metrics.h"

#include <pthread.h>
#include <stdlib.h>

#include "metrics_render.h"

struct metrics {
    struct metrics_snapshot own; /* the engine's; without partitions */
    pthread_mutex_t lock;        /* over what follows */
    struct metrics_snapshot published;
    size_t published_capacity;
};

struct metrics *metrics_new(void)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics && pthread_mutex_init(&metrics->lock, NULL) != 0) {
        free(metrics);
        return NULL;
    }
    return metrics;
}

void metrics_free(struct metrics *metrics)
{
    if (!metrics)
        return;
    pthread_mutex_destroy(&metrics->lock);
    free(metrics->published.partitions);
    free(metrics);
}

void metrics_observe(struct metrics *metrics, enum metrics_histogram which, int64_t value)
{
    const struct histogram_shape *shape = &metrics_shapes[which];
    struct histogram *histogram = &metrics->own.histograms[which];
    if (value < 0)
        value = 0; /* clocks step, and those of producers differ */
    size_t bucket = 0;
    while (bucket < shape->count && value > shape->bounds[bucket])
        bucket++;
    histogram->counts[bucket]++;
    histogram->sum += (uint64_t)value;
}

void metrics_batch_done(struct metrics *metrics, const struct store_job *job)
{
    if (job->status != STORE_DONE) {
        metrics->own.rollbacks[job->status]++;
        return;
    }
    metrics_observe(metrics, METRICS_COMMIT_SECONDS, job->elapsed_us);
    int64_t rows = 0;
    for (size_t i = 0; i < job->batch->partition_count; i++)
        rows += job->batch->partitions[i].accepted;
    metrics_observe(metrics, METRICS_BATCH_ROWS, rows);
}

void metrics_restored(struct metrics *metrics, struct postgres_store_restored restored)
{
    metrics->own.restored = restored;
}

void metrics_kept(struct metrics *metrics, struct keeper_report report)
{
    metrics->own.keeper = report;
}

void metrics_observed(const struct metrics *metrics, struct metrics_snapshot *snapshot)
{
    memcpy(snapshot->histograms, metrics->own.histograms, sizeof snapshot->histograms);
    memcpy(snapshot->rollbacks, metrics->own.rollbacks, sizeof snapshot->rollbacks);
    snapshot->restored = metrics->own.restored;
    snapshot->keeper = metrics->own.keeper;
}

static bool reserve(struct metrics_partition **partitions, size_t *capacity, size_t wanted)
{
    if (wanted <= *capacity)
        return true;
    struct metrics_partition *larger = reallocarray(*partitions, wanted, sizeof *larger);
    if (!larger)
        return false;
    *partitions = larger;
    *capacity = wanted;
    return true;
}

/* Copies a snapshot over another, whose memory it keeps. */
static bool assign(struct metrics_snapshot *to, size_t *capacity, const struct metrics_snapshot *from)
{
    if (!reserve(&to->partitions, capacity, from->partition_count))
        return false;
    struct metrics_partition *partitions = to->partitions;
    *to = *from;
    to->partitions = partitions;
    if (from->partition_count > 0)
        memcpy(partitions, from->partitions, from->partition_count * sizeof *partitions);
    return true;
}

bool metrics_publish_snapshot(struct metrics *metrics, const struct metrics_snapshot *from)
{
    pthread_mutex_lock(&metrics->lock);
    bool ok = assign(&metrics->published, &metrics->published_capacity, from);
    pthread_mutex_unlock(&metrics->lock);
    return ok;
}

bool metrics_due(struct metrics *metrics, int64_t since_us)
{
    pthread_mutex_lock(&metrics->lock);
    bool due = !metrics->published.published || metrics->published.turned_us <= since_us;
    pthread_mutex_unlock(&metrics->lock);
    return due;
}

struct metrics_snapshot *metrics_snapshot(struct metrics *metrics)
{
    size_t capacity = 0;
    struct metrics_snapshot *copy = calloc(1, sizeof *copy);
    if (!copy)
        return NULL;
    pthread_mutex_lock(&metrics->lock);
    bool ok = assign(copy, &capacity, &metrics->published);
    pthread_mutex_unlock(&metrics->lock);
    if (ok)
        return copy;
    metrics_snapshot_free(copy);
    return NULL;
}

void metrics_snapshot_free(struct metrics_snapshot *snapshot)
{
    if (snapshot)
        free(snapshot->partitions);
    free(snapshot);
}
