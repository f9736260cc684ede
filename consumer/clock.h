/* Time for the core: production passes the system's clocks, the simulator its own. When something happened is
 * told by the wall clock, which may step; how long something takes by the steady one. */
#ifndef UB_CLOCK_H
#define UB_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t (*now_us)(void *self);    /* µs since 1970; may step, the core never assumes that it rises */
    int64_t (*steady_us)(void *self); /* never goes back; tells nothing but differences */
    void *self;
};

static inline int64_t clock_now_us(const struct clock *clock)
{
    return clock->now_us(clock->self);
}

static inline int64_t clock_steady_us(const struct clock *clock)
{
    return clock->steady_us(clock->self);
}

#endif
