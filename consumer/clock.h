/* Wall-clock time for the core: production passes the system's clock, the simulator its own. */
#ifndef UB_CLOCK_H
#define UB_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t (*now_us)(void *self); /* µs since 1970; may step, the core never assumes that it rises */
    void *self;
};

static inline int64_t clock_now_us(const struct clock *clock)
{
    return clock->now_us(clock->self);
}

#endif
