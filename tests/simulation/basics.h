/* What every part of the simulator uses: the stream of random numbers, and a growing table. */
#ifndef UB_SIM_BASICS_H
#define UB_SIM_BASICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WORLD_PROCESSES = 3, WORLD_PARTITIONS = 5, WORLD_TOPICS = 2, WORLD_METERS = 3, WORLD_NAME_BYTES = 24 };
#define WORLD_SECOND_US INT64_C(1000000)
#define WORLD_HOUR_US (3600 * WORLD_SECOND_US)
#define WORLD_DAY_US (24 * WORLD_HOUR_US)

struct random {
    uint64_t state;
    const uint8_t *bytes; /* not NULL: a fuzzer's; choices are read from them while any are left */
    size_t left;
};
uint64_t random_next(struct random *random);
uint64_t random_below(struct random *random, uint64_t bound);
bool random_chance(struct random *random, double probability);

/* Growing array of anything: count elements of a kind known by its user. */
struct table {
    void *rows;
    size_t count, capacity;
};
/* A zeroed row; never NULL: the simulator gives up instead. */
void *table_add(struct table *table, size_t row_bytes);
void table_copy(struct table *to, const struct table *from, size_t row_bytes);
void table_free(struct table *table);

#endif
