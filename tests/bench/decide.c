/* What deciding costs by event, through the pure parts that the engine is made of: each stage does all that
 * the one before it does, and one thing more. Prints: name, ns of the best round, ns of the median round. */
#include "bench.h"
#include "consumer/ceiling_book.h"
#include "rollup/batch.h"

enum { STREAM_BYTES = 256 << 10 };
enum stage { DECODE, DEDUPE, CEILINGS, ROWS, RUNS, STAGES };
static const char *const stage_names[STAGES] = {"decode", "with_dedupe", "with_ceilings",
                                                "with_rows_and_hourly", "with_runs"};

/* All that one round uses; made outside of what is measured, as it is once per process. */
struct bench {
    const struct corpus *corpus;
    enum stage stage;
    struct identity_secret secret;
    struct decoder *decoder;
    struct dedupe *dedupe;
    struct ceiling_catalogue *catalogue;
    struct ceiling_book *book;
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
            buffer_reset(&batch->days[i].rows);
}

static void take(struct bench *bench, const struct record *record)
{
    struct event event;
    must(event_decode(bench->decoder, record, BENCH_NOW_US, &event) == REFUSAL_NONE,
         "a good event is refused");
    if (bench->stage < DEDUPE)
        return;
    struct dedupe_key key = identity_key(&bench->secret, &event);
    uint32_t content = identity_content(&bench->secret, &event);
    uint16_t day = (uint16_t)(event.time_us / (INT64_C(86400) * 1000000));
    enum dedupe_verdict verdict = dedupe_insert(bench->dedupe, key, content, day);
    if (verdict == DEDUPE_REPEAT)
        return;
    must(verdict == DEDUPE_NEW, "not a new event");
    if (bench->stage >= CEILINGS)
        must(ceiling_book_count(bench->book, &event, (struct ceiling_origin){0, 0, record->offset},
                                BENCH_NOW_US, heard, bench),
             "out of memory");
    struct copy_origin origin = {TEXT("usage"), 0, record->offset, BENCH_NOW_US, record->value};
    if (bench->stage >= ROWS)
        must(batch_accept(bench->batch, &bench->secret, 0, &event, &origin) &&
                 batch_segment_add(bench->batch, 0, day, key, content),
             "out of memory");
}

static uint64_t bench_round(struct bench *bench)
{
    uint64_t start_ns = cpu_ns();
    for (size_t i = 0; i < BENCH_EVENTS; i++) {
        take(bench, &bench->corpus->records[i]);
        if (i % 100 == 99)
            stream(bench->batch);
        if (i % 1000 == 999)
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
    bench->book = ceiling_book_new(0);
    bench->batch = batch_new(&rules);
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

int main(void)
{
    static uint64_t rounds_ns[STAGES][BENCH_ROUNDS], sort_ns[BENCH_ROUNDS];
    struct corpus *corpus = corpus_new();
    for (int round = 0; round < BENCH_ROUNDS; round++)
        for (enum stage stage = 0; stage < STAGES; stage++) {
            struct bench bench = {.corpus = corpus, .stage = stage};
            bench_begin(&bench);
            rounds_ns[stage][round] = bench_round(&bench);
            must(stage < CEILINGS || bench.decisions > 0, "no ceiling was crossed");
            if (stage == RUNS)
                sort_ns[round] = sort_rollups(&bench);
            bench_end(&bench);
        }
    for (enum stage stage = 0; stage < STAGES; stage++)
        report(stage_names[stage], rounds_ns[stage]);
    report("sort_of_rollups", sort_ns);
    corpus_free(corpus);
    return EXIT_SUCCESS;
}
