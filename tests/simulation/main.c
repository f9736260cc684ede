/* Runs whole deployments from seeds: `simulate SEED` replays one with a trace, `simulate SEED COUNT` runs
 * COUNT seeds from SEED on, `simulate SEED 0 SECONDS` as many as fit. Every failing seed, and some of the
 * others, run twice. */
#include "simulate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TWICE_EVERY = 50 };

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static struct sim_result run(uint64_t seed, bool trace)
{
    return sim_run((struct random){.state = seed}, trace);
}

static void add_up(struct sim_result *sum, const struct sim_result *result)
{
    sum->faults += result->faults;
    sum->events += result->events;
    for (int kind = 0; kind < FAULT_KINDS; kind++)
        sum->fault_counts[kind] += result->fault_counts[kind];
}

static bool run_seed(const char *program, uint64_t seed, bool twice, struct sim_result *sum)
{
    struct sim_result result = run(seed, false);
    add_up(sum, &result);
    bool same = !(twice || result.failed) || run(seed, false).hash == result.hash;
    if (result.failed)
        printf("seed %" PRIu64 " failed: %s\n  replay: %s %" PRIu64 "\n", seed, result.failure, program,
               seed);
    if (!same)
        printf("seed %" PRIu64 " ran differently the second time\n  replay: %s %" PRIu64 "\n", seed, program,
               seed);
    fflush(stdout);
    return same && !result.failed;
}

static void print_faults(const struct sim_result *sum)
{
    const char *between = "faults: ";
    for (int kind = 0; kind < FAULT_KINDS; kind++) {
        if (sum->fault_counts[kind] == 0)
            continue;
        printf("%s%s %" PRIu64, between, fault_names[kind], sum->fault_counts[kind]);
        between = ", ";
    }
    printf("\n");
}

static int run_many(const char *program, uint64_t seed, uint64_t count, double limit_s)
{
    double began = seconds();
    struct sim_result sum = {0};
    uint64_t failed = 0, done = 0;
    for (; count ? done < count : seconds() - began < limit_s; done++)
        failed += !run_seed(program, seed + done, done % TWICE_EVERY == 0, &sum);
    print_faults(&sum);
    printf("simulation: %" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " events, %" PRIu64
           " faults, %.0f seeds a minute\n"
           "%" PRIu64 " passed, %" PRIu64 " failed\n",
           done, seed, sum.events, sum.faults, (double)done * 60 / (seconds() - began), done - failed,
           failed);
    return failed > 0;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    if (argc > 2)
        return run_many(argv[0], seed, strtoull(argv[2], NULL, 10), argc > 3 ? strtod(argv[3], NULL) : 0);
    struct sim_result result = run(seed, true);
    printf("seed %" PRIu64 ": %s\n", seed, result.failed ? result.failure : "passed");
    return result.failed;
}
