/* One stream of random numbers, from a seed or from the bytes that a fuzzer gives. */
#include "world.h"

/* splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators") */
uint64_t random_next(struct random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* As few bytes as the choice needs, so that changing one changes one choice. */
static uint64_t from_bytes(struct random *random, uint64_t bound)
{
    uint64_t value = 0;
    for (uint64_t most = bound - 1; most > 0 && random->left > 0; most >>= 8, random->left--)
        value = value << 8 | *random->bytes++;
    return value % bound;
}

uint64_t random_below(struct random *random, uint64_t bound)
{
    if (bound == 0)
        return 0;
    return random->left > 0 ? from_bytes(random, bound) : random_next(random) % bound;
}

bool random_chance(struct random *random, double probability)
{
    enum { STEPS = 1 << 16 };
    if (random->left > 0)
        return (double)from_bytes(random, STEPS) < probability * STEPS;
    return (double)(random_next(random) >> 11) * 0x1.0p-53 < probability;
}
