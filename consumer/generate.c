#include "generate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "timestamp.h"
#include "uuid7.h"

enum {
    RUN_SLOTS = 28,      /* numbers that a run spans; those that it leaves over are events outside of runs */
    RUNS_AT_ONCE = 8,    /* runs that interleave */
    RUN_LEAST = 14,      /* operations of a run */
    REPEAT_REACH = 1000, /* how far back a duplicate's original lies at most */
    KEY_BYTES = 32,
    VALUE_BYTES = 1024,
};
static const double zipf_exponent = 1.07;
static const int64_t hour_us = INT64_C(3600000000);

const char *const generated_kind_names[GENERATED_KINDS] = {"fresh", "duplicate", "late", "bad"};

struct generator {
    struct generate_plan plan;
    double *share_up_to; /* by customer: what it and those before it use of all */
    char key[KEY_BYTES];
    char value[VALUE_BYTES];
};

/* What one event says, before it is written. */
struct content {
    uint32_t customer;
    const char *meter;
    char quantity[24];
    char event_id[UUID7_TEXT_BYTES];
    char timestamp[TIMESTAMP_TEXT_BYTES];
    const char *operation;
    uint64_t run; /* 0: outside of runs */
    unsigned user;
    unsigned model;
    uint64_t chance; /* what has not been used for the rest */
};

/* Chance without state: SplitMix64's finish (Steele, Lea and Flood, "Fast splittable pseudorandom number
 * generators") of the seed, what it is for, and a number. */
enum purpose { OF_KIND, OF_ORIGIN, OF_RUN, OF_EVENT, OF_IDENTITY, OF_LATENESS };

static uint64_t mix(uint64_t bits)
{
    bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9;
    bits = (bits ^ bits >> 27) * 0x94d049bb133111eb;
    return bits ^ bits >> 31;
}

static uint64_t chance(const struct generator *generator, enum purpose purpose, uint64_t number)
{
    return mix(mix(generator->plan.seed + 0x9e3779b97f4a7c15 * ((uint64_t)purpose + 1)) +
               0x9e3779b97f4a7c15 * number);
}

/* 0 <= it < 1 */
static double as_share(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

/* --- which events there are --- */

static enum generated_kind kind_of(const struct generator *generator, uint64_t number)
{
    const struct generate_plan *plan = &generator->plan;
    double at = as_share(chance(generator, OF_KIND, number));
    if (at < plan->duplicate_share)
        return number > 0 ? GENERATED_DUPLICATE : GENERATED_FRESH;
    if (at < plan->duplicate_share + plan->late_share)
        return GENERATED_LATE;
    return at < plan->duplicate_share + plan->late_share + plan->bad_share ? GENERATED_BAD : GENERATED_FRESH;
}

/* The number whose event this one repeats: never a duplicate itself. */
static uint64_t origin_of(const struct generator *generator, uint64_t number)
{
    while (kind_of(generator, number) == GENERATED_DUPLICATE) {
        uint64_t reach = number < REPEAT_REACH ? number : REPEAT_REACH;
        number -= 1 + chance(generator, OF_ORIGIN, number) % reach;
    }
    return number;
}

static uint32_t customer_at(const struct generator *generator, double share)
{
    uint32_t low = 0, high = generator->plan.customers - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (generator->share_up_to[middle] > share)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* --- what an event says --- */

static const struct {
    const char *name;
    const char *provider;
} models[] = {{"claude-4.5-sonnet", "anthropic"},
              {"claude-4.5-haiku", "anthropic"},
              {"gpt-5-mini", "openai"},
              {"gemini-2.5-pro", "google"},
              {"llama-4-70b", "self-hosted"}};
enum { MODELS = sizeof models / sizeof *models };

/* What agents do over and over: they think, answer, call a tool, remember. */
static const struct {
    const char *meter;
    const char *operation;
    unsigned least, most;
} cycle[] = {{"llm_tokens_in", "plan", 400, 24000},
             {"llm_tokens_out", "plan", 40, 3000},
             {"tool_calls", "act", 1, 1},
             {"memory_reads", "recall", 1, 12},
             {"llm_tokens_in", "reflect", 800, 32000},
             {"llm_tokens_out", "reflect", 60, 2000},
             {"memory_writes", "remember", 1, 4}};
enum { CYCLE = sizeof cycle / sizeof *cycle };

static unsigned between(uint64_t bits, unsigned least, unsigned most)
{
    return least + (unsigned)(bits % (most - least + 1));
}

static void set_time(const struct generator *generator, uint64_t number, enum generated_kind kind,
                     struct content *content)
{
    const struct generate_plan *plan = &generator->plan;
    double passed = plan->count ? (double)number / (double)plan->count : 0;
    int64_t time_us = plan->first_time_us + (int64_t)((double)plan->span_us * passed);
    uint64_t identity = chance(generator, OF_IDENTITY, number);
    uuid7_text(time_us / 1000, (uint16_t)(number & 0xfff), identity, content->event_id);
    if (kind == GENERATED_LATE)
        time_us -= hour_us + (int64_t)(chance(generator, OF_LATENESS, number) % (uint64_t)(71 * hour_us));
    timestamp_text_ms(time_us / 1000, content->timestamp);
}

static void set_run_step(const struct generator *generator, uint64_t run, unsigned step,
                         struct content *content)
{
    uint64_t bits = chance(generator, OF_RUN, run);
    content->run = run + 1;
    content->customer = customer_at(generator, as_share(bits));
    content->user = (unsigned)(mix(bits) % 50);
    content->model = (unsigned)(mix(bits + 1) % MODELS);
    if (step == 0) {
        content->meter = "ai_agent_run";
        content->operation = "start";
        snprintf(content->quantity, sizeof content->quantity, "1");
        return;
    }
    unsigned at = (step - 1) % CYCLE;
    content->meter = cycle[at].meter;
    content->operation = cycle[at].operation;
    snprintf(content->quantity, sizeof content->quantity, "%u",
             between(content->chance, cycle[at].least, cycle[at].most));
}

static void set_alone(const struct generator *generator, struct content *content)
{
    uint64_t bits = mix(content->chance);
    content->run = 0;
    content->customer = customer_at(generator, as_share(bits));
    content->user = (unsigned)(bits % 50);
    content->model = (unsigned)(bits / 50 % MODELS);
    content->operation = "batch";
    if (bits % 4 == 0) {
        content->meter = "gpu_minutes";
        snprintf(content->quantity, sizeof content->quantity, "%u.%02u", between(bits >> 8, 0, 90),
                 between(bits >> 24, 1, 99));
    } else {
        content->meter = bits % 4 == 1 ? "llm_tokens_out" : "llm_tokens_in";
        snprintf(content->quantity, sizeof content->quantity, "%u", between(bits >> 8, 20, 16000));
    }
}

static void decide(const struct generator *generator, uint64_t number, enum generated_kind kind,
                   struct content *content)
{
    enum { BLOCK = RUN_SLOTS * RUNS_AT_ONCE };
    uint64_t run = number / BLOCK * RUNS_AT_ONCE + number % RUNS_AT_ONCE;
    unsigned step = (unsigned)(number % BLOCK / RUNS_AT_ONCE);
    unsigned length = between(chance(generator, OF_RUN, run) >> 32, RUN_LEAST, RUN_SLOTS);
    content->chance = chance(generator, OF_EVENT, number);
    if (step < length)
        set_run_step(generator, run, step, content);
    else
        set_alone(generator, content);
    set_time(generator, number, kind, content);
}

/* --- how it is written --- */

static uint32_t write_event(struct generator *generator, const struct content *content, const char *quantity)
{
    static const char *const plans[] = {"free", "pro", "enterprise"};
    char run[80] = "";
    if (content->run)
        snprintf(run, sizeof run, ",\"run_id\":\"run_%08" PRIx64 "\",\"agent_id\":\"agent_%u\"", content->run,
                 content->user % 7);
    int length = snprintf(
        generator->value, sizeof generator->value,
        "{\"event_id\":\"%s\",\"customer_id\":\"%s\",\"meter\":\"%s\",\"quantity\":%s,\"timestamp\":\"%s\","
        "\"model\":\"%s\",\"metadata\":{\"provider\":\"%s\",\"user_id\":\"user_%u\",\"operation\":\"%s\"%s},"
        "\"policy_metadata\":{\"plan_tier\":\"%s\"}}",
        content->event_id, generator->key, content->meter, quantity, content->timestamp,
        models[content->model].name, models[content->model].provider, content->user, content->operation, run,
        plans[content->customer % 3]);
    return (uint32_t)length;
}

/* Ways in which producers go wrong. */
static uint32_t write_bad(struct generator *generator, struct content *content)
{
    enum { TRUNCATED, NEGATIVE, NOT_A_NUMBER, BAD_METER, BAD_TIME, NOT_AN_OBJECT, WAYS };
    switch (content->chance % WAYS) {
    case TRUNCATED:
        return write_event(generator, content, content->quantity) / 2;
    case NEGATIVE:
        return write_event(generator, content, "-5");
    case NOT_A_NUMBER:
        return write_event(generator, content, "\"a few\"");
    case BAD_METER:
        content->meter = "tokens in";
        return write_event(generator, content, content->quantity);
    case BAD_TIME:
        snprintf(content->timestamp, sizeof content->timestamp, "yesterday");
        return write_event(generator, content, content->quantity);
    default:
        return (uint32_t)snprintf(generator->value, sizeof generator->value, "[\"%s\",\"%s\",%s]",
                                  content->event_id, content->meter, content->quantity);
    }
}

struct generated generator_make(struct generator *generator, uint64_t number)
{
    struct content content;
    uint64_t origin = origin_of(generator, number);
    enum generated_kind kind = kind_of(generator, origin);
    decide(generator, origin, kind, &content);
    snprintf(generator->key, sizeof generator->key, "cust_%05" PRIu32, content.customer + 1);
    uint32_t length = kind == GENERATED_BAD ? write_bad(generator, &content)
                                            : write_event(generator, &content, content.quantity);
    return (struct generated){
        .kind = origin != number && kind != GENERATED_BAD ? GENERATED_DUPLICATE : kind,
        .key = text_of(generator->key),
        .value = {generator->value, length},
    };
}

/* --- its life --- */

struct generator *generator_new(const struct generate_plan *plan)
{
    struct generator *generator = calloc(1, sizeof *generator);
    double *share_up_to = calloc(plan->customers, sizeof *share_up_to);
    if (!generator || !share_up_to) {
        free(generator);
        free(share_up_to);
        return NULL;
    }
    double sum = 0;
    for (uint32_t i = 0; i < plan->customers; i++)
        share_up_to[i] = sum += pow(i + 1, -zipf_exponent);
    for (uint32_t i = 0; i < plan->customers; i++)
        share_up_to[i] /= sum;
    generator->plan = *plan;
    generator->share_up_to = share_up_to;
    return generator;
}

void generator_free(struct generator *generator)
{
    if (!generator)
        return;
    free(generator->share_up_to);
    free(generator);
}
