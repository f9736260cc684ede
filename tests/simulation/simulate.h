/* One simulated deployment, from its start until all is quiet and judged. */
#ifndef UB_SIMULATE_H
#define UB_SIMULATE_H

#include "basics.h"
#include "faults.h"

struct sim_result {
    uint64_t hash, faults, events;
    uint64_t fault_counts[FAULT_KINDS];
    bool failed;
    char failure[512];
};
/* A whole run. With a fuzzer's bytes it goes on until they are used up. */
struct sim_result sim_run(struct random random, bool trace);

#endif
