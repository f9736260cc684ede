/* What deciding costs by event, through the pure parts that the engine is made of: each stage does all that
 * the one before it does, and one thing more; then the same with ten times the customers and the open hours.
 * Prints: name, ns of the best round, ns of the median round, allocations.
 * decide [STAGE]   one stage alone, for a profiler */
#include "bench.h"
#include "consumer/ceiling_book.h"
#include "rollup/batch.h"

enum { STREAM_BYTES = 256 << 10 };
enum stage { DECODE, DEDUPE, CEILINGS, HOURLY, RUNS, ROWS, STAGES };
static const char *const stage_names[STAGES] = {"decode",      "with_dedupe", "with_ceilings",
                                                "with_hourly", "with_runs",   "with_rows"};

/* All that one round uses; made outside of what is measured, as it is once per process. */
struct bench {
    const struct corpus *corpus;
    enum stage stage;
    struct identity_secret secret;
    struct decoder *decoder;
    struct dedupe *dedupe;
    struct ceiling_catalogue *catalogue;
    struct ceiling_book *book;
    struct row_pool pool;
    struct batch *batch;
    size_t decisions;
};

static bool heard(void *context, const struct decision *decision)
{
    (void)decision;
    ((struct bench *)context)->decisions++;
    return true;
}

/* The engine hands rows to the writer by pieces: so little memory is used over and over. */
static void stream(struct batch *batch)
{
    for (size_t i = 0; i < batch->day_count; i++)
        if (batch->days[i].rows.size_bytes >= STREAM_BYTES)
            row_queue_reset(&batch->days[i].rows, batch->pool);
}

/* What the engine finds out about some records before it takes them one by one. */
enum { GLIMPSES = 16 };
struct glimpse {
    struct event event;
    struct identity identity;
    struct digest digest;
    uint16_t day;
    struct accumulator_place place;
};

static void glimpse_at(const struct bench *bench, const struct record *record, struct glimpse *glimpse)
{
    struct event *event = &glimpse->event;
    must(event_decode(bench->decoder, record, BENCH_NOW_US, event) == REFUSAL_NONE,
         "a good event is refused");
    glimpse->day = (uint16_t)(event->time_us / (INT64_C(86400) * 1000000));
    if (bench->stage >= HOURLY)
        glimpse->place = accumulator_locate(bench->batch->accumulator, event);
}

static void hash_glimpses(const struct bench *bench, const struct record *records, struct glimpse *glimpses)
{
    const struct event *events[IDENTITY_SIDES];
    struct identity identities[IDENTITY_SIDES];
    struct digest digests[IDENTITY_SIDES];
    if (bench->stage < DEDUPE)
        return;
    for (size_t i = 0; i < IDENTITY_SIDES; i++)
        events[i] = &glimpses[i].event;
    identity_many(&bench->secret, events, IDENTITY_SIDES, identities);
    if (bench->stage >= ROWS)
        identity_digests(&bench->secret, records, IDENTITY_SIDES, digests);
    for (size_t i = 0; i < IDENTITY_SIDES; i++) {
        glimpses[i].identity = identities[i];
        if (bench->stage >= ROWS)
            glimpses[i].digest = digests[i];
    }
}

static void take_glimpses(const struct bench *bench, const struct record *records,
                          struct glimpse glimpses[GLIMPSES])
{
    for (size_t i = 0; i < GLIMPSES; i++)
        glimpse_at(bench, &records[i], &glimpses[i]);
    for (size_t i = 0; i < GLIMPSES; i += IDENTITY_SIDES)
        hash_glimpses(bench, records + i, glimpses + i);
    for (size_t i = 0; i < GLIMPSES; i++) {
        if (bench->stage >= DEDUPE)
            dedupe_approach(bench->dedupe, glimpses[i].identity.key);
        if (bench->stage >= HOURLY)
            accumulator_prefetch(bench->batch->accumulator, &glimpses[i].place);
    }
    for (size_t i = 0; i < GLIMPSES && bench->stage >= DEDUPE; i++)
        dedupe_prefetch(bench->dedupe, glimpses[i].identity.key);
}

static void take(struct bench *bench, const struct record *record, const struct glimpse *glimpse)
{
    const struct event *event = &glimpse->event;
    if (bench->stage < DEDUPE)
        return;
    enum dedupe_verdict verdict =
        dedupe_insert(bench->dedupe, glimpse->identity.key, glimpse->identity.content, glimpse->day);
    if (verdict == DEDUPE_REPEAT)
        return;
    must(verdict == DEDUPE_NEW, "not a new event");
    if (bench->stage >= CEILINGS)
        must(ceiling_book_count(bench->book, event, (struct ceiling_origin){0, 0, record->offset},
                                BENCH_NOW_US, heard, bench),
             "out of memory");
    struct copy_origin origin = {TEXT("usage"), 0, record->offset, BENCH_NOW_US, record->value};
    if (bench->stage == HOURLY || bench->stage == RUNS)
        must(accumulator_add_at(bench->batch->accumulator, &glimpse->place, event), "out of memory");
    if (bench->stage >= ROWS)
        must(batch_accept_at(bench->batch, 0, event, &origin, &glimpse->place, &glimpse->digest) &&
                 batch_segment_add(bench->batch, 0, glimpse->day, glimpse->identity.key,
                                   glimpse->identity.content),
             "out of memory");
}

_Static_assert(BENCH_EVENTS % GLIMPSES == 0 && GLIMPSES % IDENTITY_SIDES == 0, "whole groups");

static uint64_t bench_round(struct bench *bench)
{
    struct glimpse glimpses[GLIMPSES];
    uint64_t start_ns = cpu_ns();
    for (size_t i = 0; i < BENCH_EVENTS; i++) {
        const struct record *record = &bench->corpus->records[i];
        if (i % GLIMPSES == 0)
            take_glimpses(bench, record, glimpses);
        take(bench, record, &glimpses[i % GLIMPSES]);
        if (i % GLIMPSES == GLIMPSES - 1)
            stream(bench->batch);
        if (i % 1024 == 1023)
            decoder_reset(bench->decoder);
    }
    return cpu_ns() - start_ns;
}

/* A limit that few reach and one that most cross, as in production. */
static struct ceiling_catalogue *catalogue_new(void)
{
    struct ceiling_catalogue *catalogue = ceiling_catalogue_new(2);
    must(catalogue != NULL, "out of memory");
    struct ceiling high = {.name = TEXT("monthly-output"),
                           .version = 1,
                           .who_kind = WHO_PLAN,
                           .who = TEXT("pro"),
                           .meter = TEXT("llm_tokens_out"),
                           .period = PERIOD_MONTH,
                           .policy = POLICY_HARD_STOP,
                           .limit = 1000000 * DECIMAL_ONE,
                           .clear_level = 1000000 * DECIMAL_ONE};
    struct ceiling low = {.name = TEXT("hourly-calls"),
                          .version = 1,
                          .who_kind = WHO_EVERYONE,
                          .meter = TEXT("tool_calls"),
                          .period = PERIOD_HOUR,
                          .policy = POLICY_ALERT,
                          .limit = 100 * DECIMAL_ONE,
                          .clear_level = 90 * DECIMAL_ONE};
    must(ceiling_catalogue_add(catalogue, &high) && ceiling_catalogue_add(catalogue, &low), "no catalogue");
    return catalogue;
}

static void bench_begin(struct bench *bench)
{
    struct accumulator_rules rules = {.runs = bench->stage >= RUNS, .hash_seed = {1, 2}};
    struct batch_partition partition = {.epoch = 1};
    bench->decoder = decoder_new(&bench_rules);
    bench->dedupe = dedupe_new();
    bench->catalogue = catalogue_new();
    bench->book = ceiling_book_new(0, (struct lookup_seed){{1, 2}});
    bench->batch = batch_new(&rules, &bench->pool);
    must(bench->decoder && bench->dedupe && bench->book && bench->batch, "out of memory");
    ceiling_book_use(bench->book, bench->catalogue);
    must(batch_add_partition(bench->batch, &partition), "out of memory");
}

/* What the writer does before it sends the rollups. */
static uint64_t sort_rollups(struct bench *bench)
{
    size_t hourly, runs;
    uint64_t start_ns = cpu_ns();
    must(accumulator_hourly(bench->batch->accumulator, &hourly) &&
             accumulator_runs(bench->batch->accumulator, &runs),
         "no rollups");
    return cpu_ns() - start_ns;
}

static void bench_end(struct bench *bench)
{
    batch_free(bench->batch);
    ceiling_book_free(bench->book);
    ceiling_catalogue_free(bench->catalogue);
    dedupe_free(bench->dedupe);
    decoder_free(bench->decoder);
}

/* All stages take turns, so that what else the machine does hits them alike. */
static void bench_stages(uint32_t times, enum stage first, enum stage last)
{
    struct corpus *corpus = corpus_new(times);
    const char *suffix = times > 1 ? "_ten_times" : "";
    static uint64_t rounds_ns[STAGES][BENCH_ROUNDS], sort_ns[BENCH_ROUNDS], allocations[STAGES];
    for (int round = 0; round < BENCH_ROUNDS; round++)
        for (enum stage stage = first; stage <= last; stage++) {
            struct bench bench = {.corpus = corpus, .stage = stage};
            bench_begin(&bench);
            allocations[stage] = counted_allocations;
            rounds_ns[stage][round] = bench_round(&bench);
            allocations[stage] = counted_allocations - allocations[stage];
            must(stage < CEILINGS || bench.decisions > 0, "no ceiling was crossed");
            if (stage == ROWS)
                sort_ns[round] = sort_rollups(&bench);
            bench_end(&bench);
        }
    for (enum stage stage = first; stage <= last; stage++)
        report(stage_names[stage], suffix, rounds_ns[stage], allocations[stage]);
    if (last == ROWS)
        report("sort_of_rollups", suffix, sort_ns, 0);
    corpus_free(corpus);
}

static enum stage stage_of(const char *name)
{
    for (enum stage stage = 0; stage < STAGES; stage++)
        if (strcmp(stage_names[stage], name) == 0)
            return stage;
    must(false, "no such stage");
    return STAGES;
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        bench_stages(1, stage_of(argv[1]), stage_of(argv[1]));
    } else {
        bench_stages(1, 0, STAGES - 1);
        bench_stages(10, 0, STAGES - 1);
    }
    return EXIT_SUCCESS;
}
