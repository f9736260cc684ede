/* Whole deployments, steered byte by byte: which event comes, which process dies, when time leaps. The world
 * and its oracle are the simulator's. */
#include "fuzz.h"

#include "tests/simulation/simulate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct random choices = {.state = 1, .bytes = size > 0 ? data : NULL, .left = size};
    if (!choices.bytes)
        return 0;
    struct sim_result result = sim_run(choices, getenv("FUZZ_TRACE") != NULL);
    FUZZ_CHECK(!result.failed, "%s (FUZZ_TRACE=1 shows the run)", result.failure);
    return 0;
}
