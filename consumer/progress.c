#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "system_clock.h"

enum { BAR_COLUMNS = 30, REDRAW_US = 100000 };

struct progress progress_begin(const char *label, uint64_t total)
{
    struct progress progress = {.label = label, .total = total, .visible = isatty(STDERR_FILENO)};
    progress.started_us = system_steady_us();
    progress_update(&progress, 0);
    return progress;
}

/* "\r\x1b[K" goes back to the line's start and wipes it. */
static void draw_bar(const struct progress *progress, uint64_t done, int64_t spent_us)
{
    char bar[BAR_COLUMNS + 1];
    double share = done >= progress->total ? 1 : (double)done / (double)progress->total;
    size_t filled = (size_t)(share * BAR_COLUMNS);
    memset(bar, '.', BAR_COLUMNS);
    memset(bar, '#', filled);
    bar[BAR_COLUMNS] = 0;
    fprintf(stderr, "\r\x1b[K%s [%s] %3.0f %%  %" PRIu64 " of %" PRIu64, progress->label, bar, share * 100,
            done, progress->total);
    if (done > 0 && share < 1)
        fprintf(stderr, "  %.0f s left", (double)spent_us / 1e6 * (1 - share) / share);
}

void progress_update(struct progress *progress, uint64_t done)
{
    if (!progress->visible)
        return;
    int64_t now_us = system_steady_us();
    if (progress->drawn_us != 0 && now_us - progress->drawn_us < REDRAW_US)
        return;
    progress->drawn_us = now_us;
    int64_t spent_us = now_us - progress->started_us;
    if (progress->total > 0)
        draw_bar(progress, done, spent_us);
    else
        fprintf(stderr, "\r\x1b[K%s %" PRIu64 "  %.0f s", progress->label, done, (double)spent_us / 1e6);
    fflush(stderr);
}

void progress_end(struct progress *progress)
{
    if (progress->visible)
        fputs("\r\x1b[K", stderr);
    progress->visible = false;
}
