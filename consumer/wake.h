/* A bell for a thread that sleeps in poll(2): any thread may ring it, and rings that nobody heard yet count
 * as one. It is an eventfd, so librdkafka can ring it as well. */
#ifndef UB_WAKE_H
#define UB_WAKE_H

#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A file descriptor, readable once it was rung; the caller closes it. Negative: none to be had. */
static inline int wake_new(void)
{
    return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

static inline void wake_ring(int fd)
{
    const uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof(one));
    (void)written; /* fails only where 2^64 rings are waiting to be heard */
}

static inline void wake_hear(int fd)
{
    uint64_t rings;
    ssize_t got = read(fd, &rings, sizeof(rings));
    (void)got; /* nothing to read: it was not rung */
}

#endif
