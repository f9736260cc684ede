/* What changes beside the batches: settings, sealed days, ceilings; and the sums that new ceilings begin
 * with. */
#include "postgres_store_parts.h"

#include <stdio.h>
#include <stdlib.h>

#include "../consumer/system_clock.h"

/* --- settings --- */

static enum partitioner partitioner_named(struct text name)
{
    int p = PARTITIONER_COUNT - 1;
    while (p > PARTITIONER_UNKNOWN && !text_equal(name, text_of(partitioner_names[p])))
        p--;
    return (enum partitioner)p;
}

static bool read_secret(struct store_link *link, const PGresult *result, struct store_settings *settings)
{
    if (PQgetlength(result, 0, 0) != IDENTITY_SECRET_BYTES)
        return pg_fail(&link->pg, PG_OTHER, "the setting identity_secret is missing: run usagebox migrate");
    memcpy(settings->secret.bytes, PQgetvalue(result, 0, 0), IDENTITY_SECRET_BYTES);
    link->store->secret = settings->secret;
    return true;
}

/* u: the repartition under way; r: the last one that is done. An adoption's batch was committed behind the
 * flags that its lane had to publish, or half a minute after them. */
/* clang-format off */
static const char settings_sql[] =
    "SELECT coalesce((SELECT bytes FROM setting WHERE name = 'identity_secret'), ''),"
    " coalesce((SELECT value FROM setting WHERE name = 'partitioner'), ''), n.lanes,"
    " coalesce((SELECT value::bigint FROM setting WHERE name = 'ceilings_generation'), 0),"
    " coalesce(u.repartition_id, 0), coalesce(u.to_count, 0),"
    " coalesce((SELECT string_agg(lane::text, ', ' ORDER BY lane) FROM (SELECT DISTINCT kafka_partition AS lane"
    "  FROM repartition_waits ORDER BY 1 LIMIT 20) w), ''),"
    " coalesce(r.batch_id, 0), coalesce(r.epoch, 0),"
    " coalesce(r.finished_at < now() - interval '1 minute' AND r.to_count <="
    "  (SELECT count(*) FROM ceiling_adoption a WHERE a.batch_id > r.batch_id), false)"
    " FROM lane_count n LEFT JOIN repartition u ON u.finished_at IS NULL LEFT JOIN (SELECT * FROM repartition"
    "  WHERE finished_at IS NOT NULL ORDER BY repartition_id DESC LIMIT 1) r ON true";
/* clang-format on */

bool store_read_settings(struct store_link *link, struct store_job *job, int64_t *generation)
{
    PG_RESULT *result = pg_query(&link->pg, settings_sql, NULL, 0);
    struct store_settings *settings = &job->settings;
    if (!result || !read_secret(link, result, settings))
        return false;
    settings->partitioner = partitioner_named(pg_text(result, 0, 1));
    settings->partition_count = pg_int4(result, 0, 2);
    *generation = pg_int8(result, 0, 3);
    settings->repartition_id = pg_int8(result, 0, 4);
    settings->repartition_to = pg_int4(result, 0, 5);
    snprintf(settings->waits_for, sizeof settings->waits_for, "%s", PQgetvalue(result, 0, 6));
    settings->rehomed_batch = pg_int8(result, 0, 7);
    settings->rehomed_epoch = pg_int8(result, 0, 8);
    settings->flags_said = pg_bool(result, 0, 9);
    return true;
}

/* --- ceilings --- */

static bool index_of(struct text name, const char *const *names, int count, int *index)
{
    for (*index = 0; *index < count; (*index)++)
        if (text_equal(name, text_of(names[*index])))
            return true;
    return false;
}

static bool read_ceiling(struct store_link *link, const PGresult *rows, int row, struct ceiling *ceiling)
{
    int who, scope, period, policy;
    if (!index_of(pg_text(rows, row, 2), ceiling_who_names, WHO_COUNT, &who) ||
        !index_of(pg_text(rows, row, 4), ceiling_scope_names, SCOPE_COUNT, &scope) ||
        !index_of(pg_text(rows, row, 6), ceiling_period_names, PERIOD_COUNT, &period) ||
        !index_of(pg_text(rows, row, 9), ceiling_policy_names, POLICY_COUNT, &policy) ||
        !pg_numeric(rows, row, 7, &ceiling->limit) || !pg_numeric(rows, row, 8, &ceiling->clear_level))
        return pg_fail(&link->pg, PG_OTHER, "ceiling %s is of a kind that this program does not know",
                       PQgetvalue(rows, row, 0));
    ceiling->name = pg_text(rows, row, 0);
    ceiling->version = pg_int8(rows, row, 1);
    ceiling->who_kind = (enum ceiling_who)who;
    ceiling->who = pg_text(rows, row, 3);
    ceiling->scope = (enum ceiling_scope)scope;
    ceiling->meter = pg_text(rows, row, 5);
    ceiling->period = (enum ceiling_period)period;
    ceiling->policy = (enum ceiling_policy)policy;
    ceiling->created_at_us = pg_time_us(rows, row, 10);
    return true;
}

static bool fill_catalogue(struct store_link *link, const PGresult *rows, struct ceiling_catalogue *catalogue)
{
    for (int row = 0; row < PQntuples(rows); row++) {
        struct ceiling ceiling = {0};
        if (!read_ceiling(link, rows, row, &ceiling))
            return false;
        if (!ceiling_catalogue_add(catalogue, &ceiling))
            return pg_fail(&link->pg, PG_PASSING, "out of memory");
    }
    return true;
}

bool store_read_catalogue(struct store_link *link, int64_t generation, struct ceiling_catalogue **catalogue)
{
    char number[24];
    const char *parameter = number;
    snprintf(number, sizeof number, "%lld", (long long)generation);
    PG_RESULT *rows = pg_query(&link->pg,
                               "SELECT name, version, who_kind, who, scope, meter, period, limit_quantity, "
                               "clear_level, policy, since FROM "
                               "(SELECT *, min(created_at) OVER (PARTITION BY name) AS since FROM ceiling) c "
                               "WHERE generation <= $1 AND coalesce(retired_generation > $1, true) "
                               "ORDER BY name",
                               &parameter, 1);
    if (!rows)
        return false;
    struct ceiling_catalogue *made = ceiling_catalogue_new((size_t)PQntuples(rows));
    if (!made)
        return pg_fail(&link->pg, PG_PASSING, "out of memory");
    made->generation = generation;
    if (!fill_catalogue(link, rows, made)) {
        ceiling_catalogue_free(made);
        return false;
    }
    *catalogue = made;
    return true;
}

/* --- what is asked for every second --- */

static bool read_sealed_days(struct store_link *link, struct store_job *job)
{
    PG_RESULT *rows =
        pg_query(&link->pg, "SELECT day FROM sealed_day WHERE duplicates = 0 ORDER BY day", NULL, 0);
    if (!rows)
        return false;
    job->sealed_days = malloc((size_t)(PQntuples(rows) + 1) * sizeof *job->sealed_days);
    if (!job->sealed_days)
        return pg_fail(&link->pg, PG_PASSING, "out of memory");
    for (int row = 0; row < PQntuples(rows); row++)
        job->sealed_days[job->sealed_day_count++] = pg_day(rows, row, 0);
    return true;
}

/* Ceilings and their generation in one snapshot: `ceilings apply` may be at work. */
static bool read_new_catalogue(struct store_link *link, struct store_job *job)
{
    int64_t generation;
    return store_begin(link, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") &&
           store_read_settings(link, job, &generation) &&
           store_read_catalogue(link, generation, &job->catalogue) && store_end(link);
}

bool store_catalogue(struct store_link *link, struct store_job *job)
{
    int64_t generation;
    if (store_read_settings(link, job, &generation) && read_sealed_days(link, job) &&
        (generation == job->known_generation || read_new_catalogue(link, job)))
        return true;
    free(job->sealed_days);
    job->sealed_days = NULL;
    job->sealed_day_count = 0;
    if (job->catalogue)
        ceiling_catalogue_free(job->catalogue);
    job->catalogue = NULL;
    return false;
}

/* --- sums for new ceilings --- */

/* From the first period that is judged on, as far back as events are counted. */
static int64_t needed_since(const struct ceiling *ceiling)
{
    int64_t counted_us = system_wall_us() - CEILING_COUNTED_US;
    int64_t since_us = ceiling->created_at_us > counted_us ? ceiling->created_at_us : counted_us;
    return ceiling_period_start(ceiling->period, since_us);
}

static bool looks_at_all(const struct ceiling *ceiling, const struct ceiling *like)
{
    return ceiling->who_kind != WHO_CUSTOMER && ceiling->period == like->period &&
           text_equal(ceiling->meter, like->meter);
}

/* Ceilings that count the same thing share a counter, hence a sum: is there another one that asks for it? */
static bool asked_already(const struct ceiling_catalogue *catalogue, size_t index)
{
    const struct ceiling *ceiling = &catalogue->ceilings[index];
    for (size_t i = 0; i < catalogue->count; i++) {
        const struct ceiling *other = &catalogue->ceilings[i];
        if (looks_at_all(other, ceiling) && (i < index || ceiling->who_kind == WHO_CUSTOMER))
            return true;
        if (i < index && other->who_kind == WHO_CUSTOMER && ceiling->who_kind == WHO_CUSTOMER &&
            other->period == ceiling->period && text_equal(other->meter, ceiling->meter) &&
            text_equal(other->who, ceiling->who))
            return true;
    }
    return false;
}

static int64_t earliest_since(const struct ceiling_catalogue *catalogue, const struct ceiling *ceiling)
{
    int64_t since_us = needed_since(ceiling);
    for (size_t i = 0; i < catalogue->count; i++) {
        const struct ceiling *other = &catalogue->ceilings[i];
        if (other->period == ceiling->period && text_equal(other->meter, ceiling->meter) &&
            needed_since(other) < since_us)
            since_us = needed_since(other);
    }
    return since_us;
}

static void put_wanted(struct pg_columns *c, const struct ceiling_catalogue *catalogue)
{
    pg_columns_begin(c, "ttzbt");
    for (size_t i = 0; i < catalogue->count; i++) {
        const struct ceiling *ceiling = &catalogue->ceilings[i];
        if (asked_already(catalogue, i))
            continue;
        pg_put_text(c, ceiling->meter);
        pg_put_text(c, text_of(ceiling_period_names[ceiling->period]));
        pg_put_time(c, earliest_since(catalogue, ceiling));
        pg_put_bool(c, ceiling->who_kind != WHO_CUSTOMER);
        pg_put_text(c, ceiling->who);
    }
}

struct seeding {
    struct store_link *link;
    struct store_job *job;
    size_t capacity;
};

static bool grow_sums(struct seeding *s)
{
    struct store_job *job = s->job;
    if (job->sum_count < s->capacity)
        return true;
    size_t capacity = s->capacity ? 2 * s->capacity : 64;
    struct ceiling_counter *sums = arena_alloc(job->arena, capacity * sizeof *sums);
    if (!sums)
        return false;
    if (job->sum_count > 0)
        memcpy(sums, job->sums, job->sum_count * sizeof *sums);
    job->sums = sums;
    s->capacity = capacity;
    return true;
}

static bool add_sum(void *context, const PGresult *result)
{
    struct seeding *s = context;
    int period;
    struct ceiling_counter sum = {.scope = TEXT("{}"), .period_start_us = pg_time_us(result, 0, 3)};
    if (!index_of(pg_text(result, 0, 2), ceiling_period_names, PERIOD_COUNT, &period) ||
        !pg_numeric(result, 0, 4, &sum.used))
        return pg_fail(&s->link->pg, PG_OTHER, "a sum of usage_hourly does not fit a counter");
    sum.period = (enum ceiling_period)period;
    sum.customer_id = arena_text(s->job->arena, pg_text(result, 0, 0));
    sum.meter = arena_text(s->job->arena, pg_text(result, 0, 1));
    if (!sum.customer_id.bytes || !sum.meter.bytes || !grow_sums(s))
        return pg_fail(&s->link->pg, PG_PASSING, "out of memory");
    s->job->sums[s->job->sum_count++] = sum;
    return true;
}

static bool make_arena(struct store_job *job)
{
    enum { CHUNK_BYTES = 64 << 10 };
    job->arena = malloc(sizeof *job->arena);
    if (job->arena)
        arena_init(job->arena, CHUNK_BYTES);
    return job->arena;
}

bool store_seed(struct store_link *link, struct store_job *job)
{
    /* Pending events are in usage_hourly already, and will be counted when they are settled. */
    static const char sql[] = "SELECT h.customer_id, w.meter, w.period, date_trunc(w.period, h.hour, 'UTC') "
                              "AS start, sum(h.quantity) FROM "
                              "unnest($1, $2, $3, $4, $5) AS w(meter, period, since, everyone, customer_id) "
                              "JOIN (SELECT customer_id, meter, hour, quantity FROM usage_hourly UNION ALL "
                              "SELECT customer_id, meter, date_trunc('hour', event_time, 'UTC'), -quantity "
                              "FROM ceiling_pending) h ON h.meter = "
                              "w.meter AND h.hour >= w.since AND (w.everyone OR h.customer_id = "
                              "w.customer_id) GROUP BY h.customer_id, "
                              "w.meter, w.period, start";
    if (!make_arena(job))
        return pg_fail(&link->pg, PG_PASSING, "out of memory");
    struct seeding seeding = {.link = link, .job = job};
    struct pg_columns wanted;
    put_wanted(&wanted, job->seed_for);
    bool ok = wanted.rows == 0 || pg_columns_each(&link->pg, sql, &wanted, add_sum, &seeding);
    pg_columns_free(&wanted);
    return ok;
}
