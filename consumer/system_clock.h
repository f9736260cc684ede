/* The system's two clocks, for all that is not core; the core is given its own through clock.h. */
#ifndef UB_SYSTEM_CLOCK_H
#define UB_SYSTEM_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t system_clock_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* µs since 1970: when something happens. It may step. */
static inline int64_t system_wall_us(void)
{
    return system_clock_us(CLOCK_REALTIME);
}

/* Never goes back: how long something takes. */
static inline int64_t system_steady_us(void)
{
    return system_clock_us(CLOCK_MONOTONIC);
}

static inline int64_t system_steady_ms(void)
{
    return system_steady_us() / 1000;
}

#endif
