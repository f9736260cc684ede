/* The same deployments with the core short of memory: `starve SEED COUNT` fails COUNT allocations of a short
 * run, spread evenly over it, each in a run of its own, alone or with those after it; without COUNT each in
 * turn. Whatever fails, the run must end as it always does: all counted once, all flags right, all memory
 * freed. Half of them are allocations as they are, half are pieces of arenas, too. `starve SEED FROM COUNT`
 * replays one with a trace, and with one more word one among pieces. */
#include "simulate.h"
#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/failing_memory.h"

/* Only the core runs out of memory. The world around it has enough: what it does in the core's turn, through
 * the ports, and what it does itself. */
static struct pipeline_ports real_ports[WORLD_PROCESSES];
enum { CHOICES_BYTES = 16000 }; /* a run that is short, for there are many */

char *failing_strndup(const char *text, size_t length);
struct pipeline *starved_pipeline_new(const struct pipeline_options *options,
                                      const struct pipeline_ports *ports);
void starved_pipeline_turn(struct pipeline *pipeline, int timeout_ms);

char *failing_strndup(const char *text, size_t length)
{
    size_t kept = strnlen(text, length);
    char *copy = failing_malloc(kept + 1);
    memcpy(copy, text, kept);
    copy[kept] = 0;
    return copy;
}

static struct pipeline_ports *enter(void *self)
{
    fail_nowhere = true;
    return self;
}

static void leave(void)
{
    fail_nowhere = false;
}

#define WELL_FED(call)                                                                                       \
    struct pipeline_ports *real = enter(self);                                                               \
    real->call;                                                                                              \
    leave()
#define WELL_FED_RESULT(type, call)                                                                          \
    struct pipeline_ports *real = enter(self);                                                               \
    type result = real->call;                                                                                \
    leave();                                                                                                 \
    return result

static void source_poll(void *self, int timeout_ms, struct source_event *event)
{
    WELL_FED(source.poll(real->source.self, timeout_ms, event));
}

static uint64_t source_consume(void *self, const struct source_position *positions, size_t count)
{
    WELL_FED_RESULT(uint64_t, source.consume(real->source.self, positions, count));
}

static void source_hold(void *self, bool held)
{
    WELL_FED(source.hold(real->source.self, held));
}

static void source_probe(void *self, uint32_t topic, int32_t partition, int64_t fingerprint_offset,
                         uint64_t question)
{
    WELL_FED(source.probe(real->source.self, topic, partition, fingerprint_offset, question));
}

static void source_release(void *self)
{
    WELL_FED(source.release(real->source.self));
}

static void source_committed(void *self, const struct source_position *positions, size_t count)
{
    WELL_FED(source.committed(real->source.self, positions, count));
}

static void store_submit(void *self, struct store_job *job)
{
    WELL_FED(store.submit(real->store.self, job));
}

static struct store_job *store_poll(void *self)
{
    WELL_FED_RESULT(struct store_job *, store.poll(real->store.self));
}

static bool flags_publish(void *self, int32_t lane, struct text key, struct text value,
                          struct flag_sequence sequence, uint64_t cookie)
{
    WELL_FED_RESULT(bool, flags.publish(real->flags.self, lane, key, value, sequence, cookie));
}

static void flags_poll(void *self, struct flag_event *event)
{
    WELL_FED(flags.poll(real->flags.self, event));
}

static void flags_tail(void *self, int32_t lane)
{
    WELL_FED(flags.tail(real->flags.self, lane));
}

static void flags_untail(void *self, int32_t lane)
{
    WELL_FED(flags.untail(real->flags.self, lane));
}

struct pipeline *starved_pipeline_new(const struct pipeline_options *options,
                                      const struct pipeline_ports *ports)
{
    const struct process *process = ports->clock.self;
    struct pipeline_ports *real = &real_ports[process->number];
    struct pipeline_ports starved = {.source = {source_poll, source_consume, source_hold, source_probe,
                                                source_release, source_committed, real},
                                     .store = {store_submit, store_poll, real},
                                     .flags = {flags_publish, flags_poll, flags_tail, flags_untail, real},
                                     .clock = ports->clock,
                                     .observer = ports->observer};
    *real = *ports;
    leave();
    struct pipeline *pipeline = pipeline_new(options, &starved);
    enter(NULL);
    return pipeline;
}

void starved_pipeline_turn(struct pipeline *pipeline, int timeout_ms)
{
    leave();
    pipeline_turn(pipeline, timeout_ms);
    enter(NULL);
}

/* --- runs --- */

static struct sim_result run(uint64_t seed, uint64_t from, uint64_t count, bool trace)
{
    uint8_t choices[CHOICES_BYTES];
    struct random random = {.state = seed};
    for (size_t i = 0; i < sizeof choices; i++)
        choices[i] = (uint8_t)random_next(&random);
    allocations = 0;
    fail_allocations(from, count);
    enter(NULL);
    struct sim_result result =
        sim_run((struct random){.state = seed, .bytes = choices, .left = sizeof choices}, trace);
    if (!result.failed && held_bytes > 0) {
        result.failed = true;
        snprintf(result.failure, sizeof result.failure, "%zu bytes are never freed", held_bytes);
    }
    held_bytes = 0;
    return result;
}

static bool starve(const char *program, uint64_t seed, uint64_t number, uint64_t count)
{
    struct sim_result result = run(seed, number, count, false);
    if (result.failed)
        printf("seed %" PRIu64 ", allocations %" PRIu64 " to %" PRIu64 ": %s\n  replay: %s %" PRIu64
               " %" PRIu64 " %" PRIu64 "%s\n",
               seed, number, number + count - 1, result.failure, program, seed, number, count,
               pieces_apart ? " apart" : "");
    return !result.failed;
}

/* wanted: how many of them; 0: each. */
static bool starve_in_turn(const char *program, uint64_t seed, uint64_t wanted)
{
    struct sim_result whole = run(seed, UINT64_MAX, 0, false);
    uint64_t total = allocations, failed = 0, done = 0;
    uint64_t step = wanted > 0 && wanted < total ? total / wanted : 1;
    for (uint64_t number = seed % step; number < total; number += step, done++)
        failed += !starve(program, seed, number, 1 + done % 3 * 7);
    printf("starved: %" PRIu64 " of the %" PRIu64 " %s of seed %" PRIu64 " (%" PRIu64 " events), %" PRIu64
           " failed\n",
           done, total, pieces_apart ? "pieces" : "allocations", seed, whole.events, failed);
    return !whole.failed && failed == 0;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    pieces_apart = argc > 4;
    if (argc > 3) {
        struct sim_result result = run(seed, strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10), true);
        printf("%s\n", result.failed ? result.failure : "passed");
        return result.failed;
    }
    uint64_t wanted = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    bool well = starve_in_turn(argv[0], seed, (wanted + 1) / 2);
    pieces_apart = true;
    return !(starve_in_turn(argv[0], seed, (wanted + 1) / 2) && well);
}
