#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "metrics_render.h"

/* What /proc/self/stat has behind the command's name, which may hold anything: fields from `state`, the
 * third. */
enum { STAT_UTIME = 14 - 3, STAT_STIME = 15 - 3, STAT_START = 22 - 3, STAT_RSS = 24 - 3, STAT_FIELDS };

static bool read_file(const char *path, char *bytes, size_t size_bytes)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    size_t length = fread(bytes, 1, size_bytes - 1, file);
    bytes[length] = 0;
    return fclose(file) == 0 && length > 0;
}

static bool read_stat(uint64_t fields[STAT_FIELDS])
{
    char text[1024];
    if (!read_file("/proc/self/stat", text, sizeof text))
        return false;
    char *rest = strrchr(text, ')');
    if (!rest || rest[1] != ' ')
        return false;
    rest += 2;
    for (int i = 0; i < STAT_FIELDS; i++) {
        char *field = strsep(&rest, " ");
        if (!field)
            return false;
        fields[i] = strtoull(field, NULL, 10);
    }
    return true;
}

/* When the machine started, in seconds since 1970; 0: not known. */
static uint64_t boot_time(void)
{
    static const char name[] = "btime ";
    FILE *file = fopen("/proc/stat", "re");
    if (!file)
        return 0;
    char *line = NULL;
    size_t size_bytes = 0;
    uint64_t boot = 0;
    while (boot == 0 && getline(&line, &size_bytes, file) > 0)
        if (strncmp(line, name, sizeof name - 1) == 0)
            boot = strtoull(line + sizeof name - 1, NULL, 10);
    free(line);
    fclose(file);
    return boot;
}

static void render_seconds(FILE *out, const char *name, enum metrics_type type, const char *help,
                           uint64_t value_us)
{
    metrics_family(out, name, type, help);
    fprintf(out, "%s ", name);
    metrics_seconds(out, (int64_t)value_us);
    fputc('\n', out);
}

void metrics_render_process(FILE *out)
{
    uint64_t fields[STAT_FIELDS];
    long ticks = sysconf(_SC_CLK_TCK), page_bytes = sysconf(_SC_PAGESIZE);
    if (ticks <= 0 || page_bytes <= 0 || !read_stat(fields))
        return;
    uint64_t tick_us = 1000000 / (uint64_t)ticks;
    render_seconds(out, "process_cpu_seconds_total", METRICS_COUNTER, "Processor time used.",
                   (fields[STAT_UTIME] + fields[STAT_STIME]) * tick_us);
    metrics_family(out, "process_resident_memory_bytes", METRICS_GAUGE, "Memory in use.");
    fprintf(out, "process_resident_memory_bytes %" PRIu64 "\n", fields[STAT_RSS] * (uint64_t)page_bytes);
    uint64_t boot = boot_time();
    if (boot > 0)
        render_seconds(out, "process_start_time_seconds", METRICS_GAUGE,
                       "When the process started, since 1970.",
                       boot * 1000000 + fields[STAT_START] * tick_us);
}
