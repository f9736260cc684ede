/* What the dedupe table costs: time and memory by key, the longest single call, and restoring.
 * Usage: dedupe_bench [keys, default 20000000] [days they spread over, default 3] */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "dedupe_loader.h"

enum { AHEAD = 16, FIRST_DAY = 20000 };

struct plan {
    uint64_t keys;
    uint64_t days;
};

static uint64_t now_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Steele, Lea and Flood's SplitMix64: any key of the run without keeping it. */
static uint64_t mixed(uint64_t number)
{
    uint64_t z = number * 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static struct dedupe_key key_of(uint64_t number)
{
    return (struct dedupe_key){mixed(2 * number), mixed(2 * number + 1)};
}

static uint16_t day_of(const struct plan *plan, uint64_t number)
{
    return (uint16_t)(FIRST_DAY + mixed(number) % plan->days);
}

static size_t resident_bytes(void)
{
    FILE *statm = fopen("/proc/self/statm", "r");
    size_t size = 0;
    size_t resident = 0;
    if (statm == NULL || fscanf(statm, "%zu %zu", &size, &resident) != 2)
        abort();
    fclose(statm);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void must(bool fine, const char *what)
{
    if (!fine) {
        fprintf(stderr, "dedupe_bench: %s\n", what);
        exit(EXIT_FAILURE);
    }
}

/* Returns ns by insertion of keys [from, to). */
static double insert(struct dedupe *dedupe, const struct plan *plan, uint64_t from, uint64_t to, int verdict)
{
    uint64_t start = now_ns(CLOCK_MONOTONIC);
    for (uint64_t i = from; i < to; i++) {
        dedupe_prefetch(dedupe, key_of(i + AHEAD));
        must((int)dedupe_insert(dedupe, key_of(i), (uint32_t)i, day_of(plan, i)) == verdict, "wrong verdict");
    }
    return (double)(now_ns(CLOCK_MONOTONIC) - start) / (double)(to - from);
}

static double lookup_cold(struct dedupe *dedupe, const struct plan *plan)
{
    enum { LOOKUPS = 1000000 };
    uint64_t start = now_ns(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < LOOKUPS; i++) {
        uint64_t number = mixed(i) % plan->keys;
        must(dedupe_insert(dedupe, key_of(number), (uint32_t)number, day_of(plan, number)) == DEDUPE_REPEAT,
             "a key is lost");
    }
    return (double)(now_ns(CLOCK_MONOTONIC) - start) / LOOKUPS;
}

static void measure_cost(const struct plan *plan)
{
    size_t before_bytes = resident_bytes();
    struct dedupe *dedupe = dedupe_new();
    must(dedupe != NULL, "out of memory");
    uint64_t marks[] = {1000,           plan->keys / 64, plan->keys / 40,    plan->keys / 30, plan->keys / 20,
                        plan->keys / 4, plan->keys / 2,  plan->keys * 3 / 4, plan->keys};
    uint64_t done = 0;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        double each_ns = insert(dedupe, plan, done, marks[i], DEDUPE_NEW);
        done = marks[i];
        double keys = (double)done;
        printf("%10lu keys: %6.1f ns/new key, %6.2f bytes/key resident, %6.2f allocated\n",
               (unsigned long)done, each_ns, (double)(resident_bytes() - before_bytes) / keys,
               (double)dedupe_bytes(dedupe) / keys);
    }
    printf("repeat, prefetched: %.1f ns\n", insert(dedupe, plan, 0, 1000000, DEDUPE_REPEAT));
    printf("repeat, not prefetched: %.1f ns\n", lookup_cold(dedupe, plan));
    dedupe_free(dedupe);
}

/* Lengths of calls, in steps of 1/16 of a power of two. A call's length is the lesser of the time that passed
 * and the thread's CPU time: what other processes, or interrupts after the first clock was read, take is not
 * its own. */
struct spread {
    uint64_t calls;
    uint64_t longest_ns;
    uint64_t over_1_ms;
    uint64_t buckets[64 * 16];
};

struct stopwatch {
    uint64_t cpu_ns;
    uint64_t wall_ns;
};

static struct stopwatch stopwatch_start(void)
{
    uint64_t cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    return (struct stopwatch){cpu_ns, now_ns(CLOCK_MONOTONIC)};
}

static void spread_add(struct spread *spread, struct stopwatch start)
{
    uint64_t ns = now_ns(CLOCK_MONOTONIC) - start.wall_ns;
    uint64_t cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - start.cpu_ns;
    if (cpu_ns < ns)
        ns = cpu_ns;
    unsigned power = 63 - (unsigned)__builtin_clzll(ns | 16);
    spread->buckets[power * 16 + (unsigned)(ns >> (power - 4) & 15)]++;
    spread->calls++;
    spread->over_1_ms += ns > 1000000;
    if (ns > spread->longest_ns)
        spread->longest_ns = ns;
}

static double spread_us(const struct spread *spread, double part)
{
    uint64_t below = 0;
    unsigned bucket = 0;
    while (bucket < 64 * 16 - 1 && (double)(below += spread->buckets[bucket]) < part * (double)spread->calls)
        bucket++;
    return (double)((16 + bucket % 16 + 1) * (UINT64_C(1) << (bucket / 16 - 4))) / 1000;
}

static void spread_print(const struct spread *spread, const char *what)
{
    printf("%s: %lu calls, p99.9 %.1f us, p99.99 %.1f us, longest %.1f us, %lu over 1 ms\n", what,
           (unsigned long)spread->calls, spread_us(spread, 0.999), spread_us(spread, 0.9999),
           (double)spread->longest_ns / 1000, (unsigned long)spread->over_1_ms);
}

/* What the machine itself puts between two readings of the clocks. */
static struct spread nothing;
static struct spread inserts;
static struct spread sweeps;

static void measure_stalls(const struct plan *plan)
{
    struct dedupe *dedupe = dedupe_new();
    must(dedupe != NULL, "out of memory");
    for (uint64_t i = 0; i < plan->keys; i++) {
        struct stopwatch start = stopwatch_start();
        must(dedupe_insert(dedupe, key_of(i), 0, day_of(plan, i)) == DEDUPE_NEW, "wrong verdict");
        spread_add(&inserts, start);
    }
    spread_print(&inserts, "insert");
    for (uint64_t i = 0; i < plan->keys; i++)
        spread_add(&nothing, stopwatch_start());
    spread_print(&nothing, "no work at all, as often");
    size_t full_bytes = dedupe_bytes(dedupe);
    dedupe_forget(dedupe, FIRST_DAY);
    for (bool more = true; more;) {
        struct stopwatch start = stopwatch_start();
        more = dedupe_sweep(dedupe);
        spread_add(&sweeps, start);
    }
    spread_print(&sweeps, "sweep");
    printf("one of %lu days forgotten: %.1f -> %.1f MB, %.2f bytes/key left\n", (unsigned long)plan->days,
           (double)full_bytes / 1e6, (double)dedupe_bytes(dedupe) / 1e6,
           (double)dedupe_bytes(dedupe) / (double)dedupe_count(dedupe));
    dedupe_free(dedupe);
}

static void measure_restore(const struct plan *plan)
{
    enum { SEGMENT_KEYS = 10000 };
    static uint8_t segment[SEGMENT_KEYS * DEDUPE_SEGMENT_BYTES];
    struct dedupe *dedupe = dedupe_new();
    must(dedupe != NULL, "out of memory");
    uint64_t spent_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    must(dedupe_reserve(dedupe, plan->keys), "out of memory");
    struct dedupe_loader *loader = dedupe_loader_new();
    must(loader != NULL, "out of memory");
    spent_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - spent_ns;
    for (uint64_t done = 0; done < plan->keys; done += SEGMENT_KEYS) {
        for (uint64_t i = 0; i < SEGMENT_KEYS; i++)
            dedupe_segment_put(segment + i * DEDUPE_SEGMENT_BYTES, key_of(done + i), 0);
        uint64_t start = now_ns(CLOCK_THREAD_CPUTIME_ID);
        must(dedupe_loader_add(loader, dedupe, FIRST_DAY, segment, sizeof segment), "restore failed");
        spent_ns += now_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    }
    uint64_t start = now_ns(CLOCK_THREAD_CPUTIME_ID);
    must(dedupe_loader_finish(loader), "restore failed");
    spent_ns += now_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    dedupe_loader_free(loader);
    printf("restore: %.2f million keys/s\n", (double)dedupe_count(dedupe) * 1e3 / (double)spent_ns);
    dedupe_free(dedupe);
}

int main(int argc, char **argv)
{
    setlinebuf(stdout);
    struct plan plan = {.keys = 20000000, .days = 3};
    if (argc > 1)
        plan.keys = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        plan.days = strtoull(argv[2], NULL, 10);
    must(plan.keys >= 1000000 && plan.days >= 1 && plan.days <= 1000, "usage: dedupe_bench [keys] [days]");
    measure_cost(&plan);
    measure_stalls(&plan);
    measure_restore(&plan);
    return EXIT_SUCCESS;
}
