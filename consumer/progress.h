/* A progress bar on standard error, drawn only if that is a terminal, and at most ten times a second. */
#ifndef UB_PROGRESS_H
#define UB_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *label;
    uint64_t total; /* 0: not known; then it shows a count instead of a bar */
    int64_t started_us;
    int64_t drawn_us;
    bool visible;
};

/* label must outlive the bar. */
struct progress progress_begin(const char *label, uint64_t total);
void progress_update(struct progress *progress, uint64_t done);
/* Wipes it away, so that what is printed next starts on a clean line. */
void progress_end(struct progress *progress);

#endif
