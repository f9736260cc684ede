/* What decoding costs by event, and what jansson alone takes to parse the same bytes.
 * Prints: name, ns of the best round, ns of the median round, allocations. */
#include <jansson.h>

#include "bench.h"
#include "tests/unit/core_memory.h"

static uint64_t decode_round(struct decoder *decoder, const struct corpus *corpus)
{
    struct event event;
    uint64_t start_ns = cpu_ns();
    for (size_t i = 0; i < BENCH_EVENTS; i++) {
        must(event_decode(decoder, &corpus->records[i], BENCH_NOW_US, &event) == REFUSAL_NONE,
             "a good event is refused");
        if (i % 1000 == 999)
            decoder_reset(decoder);
    }
    return cpu_ns() - start_ns;
}

static uint64_t jansson_round(const struct corpus *corpus)
{
    uint64_t start_ns = cpu_ns();
    for (size_t i = 0; i < BENCH_EVENTS; i++) {
        struct text value = corpus->records[i].value;
        json_t *json = json_loadb(value.bytes, value.length, JSON_REJECT_DUPLICATES, NULL);
        must(json != NULL, "jansson refuses a good event");
        json_decref(json);
    }
    return cpu_ns() - start_ns;
}

int main(void)
{
    uint64_t decode_ns[BENCH_ROUNDS], jansson_ns[BENCH_ROUNDS], before, decoded = 0;
    struct corpus *corpus = corpus_new(1);
    struct decoder *decoder = decoder_new(&bench_rules);
    must(decoder != NULL, "out of memory");
    json_set_alloc_funcs(failing_malloc, failing_free);
    for (int round = 0; round < BENCH_ROUNDS; round++) {
        before = counted_allocations;
        decode_ns[round] = decode_round(decoder, corpus);
        decoded = counted_allocations;
        jansson_ns[round] = jansson_round(corpus);
    }
    report("decode", "", decode_ns, decoded - before);
    report("jansson_parse", "", jansson_ns, counted_allocations - decoded);
    decoder_free(decoder);
    corpus_free(corpus);
    return EXIT_SUCCESS;
}
