/* Runs whole deployments from seeds: `simulate SEED` replays one with a trace, `simulate SEED COUNT` runs
 * COUNT seeds from SEED on, `simulate SEED 0 SECONDS` as many as fit. Every failing seed, and some of the
 * others, run twice. */
#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

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

static bool run_seed(const char *program, uint64_t seed, bool twice, struct sim_result *sum)
{
    struct sim_result result = run(seed, false);
    sum->faults += result.faults;
    sum->events += result.events;
    if (result.failed) {
        printf("seed %" PRIu64 " failed: %s\n  replay: %s %" PRIu64 "\n", seed, result.failure, program,
               seed);
        return false;
    }
    if (twice && run(seed, false).hash != result.hash) {
        printf("seed %" PRIu64 " ran differently the second time\n  replay: %s %" PRIu64 "\n", seed, program,
               seed);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    if (argc <= 2) {
        struct sim_result result = run(seed, true);
        printf("seed %" PRIu64 ": %s\n", seed, result.failed ? result.failure : "passed");
        return result.failed;
    }
    uint64_t count = strtoull(argv[2], NULL, 10), failed = 0, done = 0;
    double limit = argc > 3 ? strtod(argv[3], NULL) : 0, began = seconds();
    struct sim_result sum = {0};
    for (; count ? done < count : seconds() - began < limit; done++)
        failed += !run_seed(argv[0], seed + done, done % 50 == 0, &sum);
    printf("simulation: %" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " events, %" PRIu64
           " faults, %.0f seeds a minute\n"
           "%" PRIu64 " passed, %" PRIu64 " failed\n",
           done, seed, sum.events, sum.faults, (double)done * 60 / (seconds() - began), done - failed,
           failed);
    return failed > 0;
}
