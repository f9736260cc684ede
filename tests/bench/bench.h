/* What the in-memory benches share: a corpus of generated events as records, and the best of several rounds.
 * A header, as each bench is one program of one file. */
#ifndef UB_BENCH_H
#define UB_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "consumer/arena.h"
#include "consumer/event.h"
#include "consumer/generate.h"
#include "counting_memory.h"

enum { BENCH_EVENTS = 200000, BENCH_ROUNDS = 7 };
#define BENCH_NOW_US INT64_C(1795339800000000) /* 2026-11-22T09:30:00Z */

static const struct event_rules bench_rules = {.max_age_us = INT64_C(400) * 86400 * 1000000,
                                               .max_future_us = INT64_C(300) * 1000000};

struct corpus {
    struct arena arena;
    struct record records[BENCH_EVENTS];
    size_t bytes; /* of all values */
};

static inline uint64_t cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static inline void must(bool fine, const char *what)
{
    if (!fine) {
        fprintf(stderr, "bench: %s\n", what);
        exit(EXIT_FAILURE);
    }
}

static inline struct text kept(struct corpus *corpus, struct text text)
{
    struct text copy = arena_text(&corpus->arena, text);
    must(copy.bytes != NULL, "out of memory");
    return copy;
}

/* The events of two hours as bench.py publishes them, in memory; or of so many times the hours and customers.
 */
static inline struct corpus *corpus_new(uint32_t times)
{
    int64_t span_us = times * INT64_C(7200000000);
    struct generate_plan plan = {.seed = 1,
                                 .count = BENCH_EVENTS,
                                 .first_time_us = BENCH_NOW_US - span_us,
                                 .span_us = span_us,
                                 .customers = 1000 * times,
                                 .duplicate_share = 0.01,
                                 .late_share = 0.01};
    struct generator *generator = generator_new(&plan);
    struct corpus *corpus = calloc(1, sizeof *corpus);
    must(generator && corpus, "out of memory");
    arena_init(&corpus->arena, 1 << 20);
    for (size_t i = 0; i < BENCH_EVENTS; i++) {
        struct generated made = generator_make(generator, i);
        corpus->bytes += made.value.length;
        corpus->records[i] = (struct record){.offset = (int64_t)i,
                                             .time_ms = BENCH_NOW_US / 1000,
                                             .key = kept(corpus, made.key),
                                             .value = kept(corpus, made.value)};
    }
    generator_free(generator);
    return corpus;
}

static inline void corpus_free(struct corpus *corpus)
{
    arena_free(&corpus->arena);
    free(corpus);
}

static inline int by_size(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* One line that bench.py reads: name, CPU ns by event of the best and of the median round, allocations by
 * event. */
static inline void report(const char *name, const char *suffix, uint64_t rounds_ns[BENCH_ROUNDS],
                          uint64_t allocations)
{
    qsort(rounds_ns, BENCH_ROUNDS, sizeof *rounds_ns, by_size);
    printf("%s%s %.1f %.1f %.4f\n", name, suffix, (double)rounds_ns[0] / BENCH_EVENTS,
           (double)rounds_ns[BENCH_ROUNDS / 2] / BENCH_EVENTS, (double)allocations / BENCH_EVENTS);
}

#endif
