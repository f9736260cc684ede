#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "commands.h"
#include "fates.h"
#include "generate.h"
#include "learned.h"
#include "mint.h"
#include "produce_plan.h"
#include "progress.h"
#include "sender.h"
#include "tables.h"
#include "timestamp.h"
#include "system_clock.h"

enum {
    COMPLAINTS_MOST = 20, /* of one kind; the rest is counted */
    NAP_MOST_MS = 5,      /* between two looks at Ctrl-C and at reports */
    WAIT_MS = 100,
    LOOK_NAP_US = 5000,
};
static const int64_t default_timeout_us = INT64_C(30000000);

/* What the options say. */
struct choice {
    const char *topic;
    const char *key;
    const char *partitioner;
    bool raw;
    struct plan_choice plan;
    bool wait;
    int64_t timeout_us; /* 0: not given */
};

struct counts {
    uint64_t sent, acknowledged, failed, refused;
    uint64_t minted_ids, minted_timestamps;
    uint64_t generated[GENERATED_KINDS];
};

struct production {
    const struct command_context *context;
    const struct choice *choice;
    const char *topic;
    struct sender *sender;
    struct fates *fates; /* NULL: nobody waits for what becomes of events */
    bool gave_up;        /* waiting for it */
    struct counts counts;
    int64_t started_us;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

/* --- what became of what was sent --- */

static void on_report(void *context, uint64_t cookie, int32_t partition, int64_t offset, const char *error)
{
    struct production *production = context;
    if (production->fates) {
        if (error)
            fates_drop(production->fates, cookie);
        else
            fates_place(production->fates, cookie, partition, offset);
    }
    if (!error) {
        production->counts.acknowledged++;
    } else if (++production->counts.failed <= COMPLAINTS_MOST) {
        command_fail(production->context, EXIT_FAILED, "event %" PRIu64 ": not delivered: %s", cookie, error);
    }
}

static void await_all(struct production *production)
{
    while (sender_pending(production->sender) > 0)
        sender_wait(production->sender, WAIT_MS);
}

/* Ctrl-C asks to stop sending; so does it that nothing is heard of what was sent. */
static bool is_over(const struct production *production)
{
    return interrupted || production->gave_up;
}

/* An event may be counted before Kafka's word on where it lies has come here: that is waited for first. */
static void look(struct production *production)
{
    await_all(production);
    production->gave_up = !fates_look(production->fates);
}

static void nap_and_look(struct production *production)
{
    const struct timespec nap = {0, LOOK_NAP_US * 1000};
    sender_wait(production->sender, 0);
    nanosleep(&nap, NULL);
    if (fates_is_due(production->fates))
        look(production);
}

/* Makes room for event `number`. */
static void await_room(struct production *production, uint64_t number)
{
    if (fates_is_due(production->fates))
        look(production);
    while (!is_over(production) && fates_is_full(production->fates, number))
        nap_and_look(production);
}

/* False: it was not sent, for it's over. line: of the file, or the number of the event. */
static bool send_record(struct production *production, uint64_t line, struct text key, struct text value)
{
    uint64_t number = production->counts.sent + 1;
    if (production->fates) {
        await_room(production, number);
        if (is_over(production))
            return false;
        if (!fates_expect(production->fates, number, line, value)) {
            fates_drop(production->fates, number);
            production->gave_up = true;
            command_fail(production->context, EXIT_FAILED, "out of memory");
            return false;
        }
    }
    production->counts.sent = number;
    sender_send(production->sender, key, value, number);
    return true;
}

/* Ctrl-C ends it, unless it was what ended the sending. */
static void await_fates(struct production *production)
{
    sig_atomic_t before = interrupted;
    if (!production->fates)
        return;
    while (!production->gave_up && interrupted == before && fates_pending(production->fates) > 0)
        nap_and_look(production);
    if (fates_pending(production->fates) > 0)
        fates_complain(production->fates);
}

/* --- events from a file --- */

static bool draw(uint64_t chance[2])
{
    return getrandom(chance, 2 * sizeof *chance, 0) == (ssize_t)(2 * sizeof *chance);
}

static void refuse(struct production *production, const char *file, uint64_t line, const char *why)
{
    if (++production->counts.refused <= COMPLAINTS_MOST)
        command_fail(production->context, EXIT_FAILED, "%s:%" PRIu64 ": %s", file, line, why);
}

/* As it is, keyed if that can be. The sentence says why it was not sent; NULL: it was. */
static const char *send_raw(struct production *production, struct mint *mint, uint64_t number,
                            struct text line)
{
    struct minted minted;
    struct text key = {NULL, 0};
    enum mint_outcome outcome = mint_event(mint, line, 0, (const uint64_t[2]){0, 0}, &minted);
    if (outcome == MINT_DONE)
        key = minted.customer_id;
    if (production->choice->key)
        key = text_of(production->choice->key);
    else if (outcome == MINT_NO_MEMORY)
        return mint->detail; /* without its key it would lie in another's lane */
    send_record(production, number, key, line);
    return NULL;
}

/* The sentence says why not; NULL: it was sent. */
static const char *send_event(struct production *production, struct mint *mint, uint64_t number,
                              struct text line)
{
    struct minted minted;
    uint64_t chance[2];
    if (!draw(chance))
        return "no random bytes to be had";
    enum mint_outcome outcome = mint_event(mint, line, system_wall_us() / 1000, chance, &minted);
    if (outcome != MINT_DONE)
        return mint->detail;
    struct text key = production->choice->key ? text_of(production->choice->key) : minted.customer_id;
    if (send_record(production, number, key, minted.value)) {
        production->counts.minted_ids += minted.event_id;
        production->counts.minted_timestamps += minted.timestamp;
    }
    return NULL;
}

static const char *send_line(struct production *production, struct mint *mint, uint64_t number,
                             struct text line)
{
    if (production->choice->raw)
        return send_raw(production, mint, number, line);
    if (line.length > 0 && line.bytes[line.length - 1] == '\r')
        line.length--;
    return line.length > 0 ? send_event(production, mint, number, line) : NULL;
}

static void take_line(struct production *production, struct mint *mint, const char *file, uint64_t number,
                      struct text line)
{
    const char *why = send_line(production, mint, number, line);
    if (why)
        refuse(production, file, number, why);
}

static int send_lines(struct production *production, FILE *in, const char *file)
{
    struct mint mint = {0};
    char *bytes = NULL;
    size_t capacity = 0;
    ssize_t length;
    errno = 0;
    for (uint64_t number = 1; !is_over(production) && (length = getline(&bytes, &capacity, in)) >= 0;
         number++) {
        if (length > 0 && bytes[length - 1] == '\n')
            length--;
        take_line(production, &mint, file, number, (struct text){bytes, (uint32_t)length});
    }
    int code = EXIT_DONE;
    if (ferror(in) && !interrupted)
        code = command_fail(production->context, EXIT_FAILED, "%s: %s", file, strerror(errno));
    free(bytes);
    mint_free(&mint);
    return code;
}

static int send_file(struct production *production, const char *path)
{
    if (!path || strcmp(path, "-") == 0)
        return send_lines(production, stdin, "standard input");
    FILE *in = fopen(path, "re");
    if (!in)
        return command_fail(production->context, EXIT_FAILED, "%s: %s", path, strerror(errno));
    int code = send_lines(production, in, path);
    fclose(in);
    return code;
}

/* --- generated events --- */

static void nap_until(struct production *production, int64_t due_us)
{
    int64_t left_us;
    while (!interrupted && (left_us = due_us - system_steady_us()) > 0) {
        int64_t nap_us = left_us < NAP_MOST_MS * 1000 ? left_us : NAP_MOST_MS * 1000;
        struct timespec nap = {0, (long)nap_us * 1000};
        sender_wait(production->sender, 0);
        nanosleep(&nap, NULL);
    }
}

static int send_generated(struct production *production, const struct generate_plan *plan)
{
    struct generator *generator = generator_new(plan);
    if (!generator)
        return command_fail(production->context, EXIT_FAILED, "out of memory");
    struct progress progress = progress_begin("events", plan->count);
    int64_t rate = production->choice->plan.rate_per_s, begun_us = system_steady_us();
    for (uint64_t number = 0; number < plan->count && !is_over(production); number++) {
        if (rate > 0)
            nap_until(production, begun_us + (int64_t)((double)number * 1e6 / (double)rate));
        struct generated event = generator_make(generator, number);
        production->counts.generated[event.kind] +=
            send_record(production, number + 1, event.key, event.value);
        if (number % 1000 == 0)
            progress_update(&progress, number);
    }
    await_all(production);
    progress_end(&progress);
    generator_free(generator);
    return EXIT_DONE;
}

/* --- what is printed --- */

static json_t *generated_json(const struct counts *counts, const struct generate_plan *plan)
{
    char start[TIMESTAMP_TEXT_BYTES];
    timestamp_text(plan->first_time_us, start);
    json_t *json = json_pack("{s:I, s:s, s:I}", "seed", (json_int_t)plan->seed, "start", start, "span_us",
                             (json_int_t)plan->span_us);
    for (int kind = 0; kind < GENERATED_KINDS; kind++)
        json_object_set_new(json, generated_kind_names[kind],
                            json_integer((json_int_t)counts->generated[kind]));
    return json;
}

static bool print_json(const struct production *production, const struct generate_plan *plan, double seconds)
{
    const struct counts *counts = &production->counts;
    json_t *json = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "topic", production->topic, "sent",
                             (json_int_t)counts->sent, "acknowledged", (json_int_t)counts->acknowledged,
                             "failed", (json_int_t)counts->failed, "refused", (json_int_t)counts->refused,
                             "minted_event_ids", (json_int_t)counts->minted_ids, "minted_timestamps",
                             (json_int_t)counts->minted_timestamps, "seconds", seconds);
    if (plan->count > 0)
        json_object_set_new(json, "generated", generated_json(counts, plan));
    if (!production->fates)
        return json_print(json, stdout);
    json_object_set_new(json, "outcomes", fates_summary_json(production->fates));
    bool printed = json_write(json, JSON_COMPACT, stdout);
    json_decref(json);
    return printed;
}

static void print_generated(const struct counts *counts, const struct generate_plan *plan)
{
    printf("generated with --seed %" PRIu64 ":", plan->seed);
    for (int kind = 0; kind < GENERATED_KINDS; kind++)
        printf("%s %" PRIu64 " %s", kind ? "," : "", counts->generated[kind], generated_kind_names[kind]);
    putchar('\n');
}

static void print_text(const struct production *production, const struct generate_plan *plan, double seconds)
{
    const struct counts *counts = &production->counts;
    printf("%s: %" PRIu64 " sent, %" PRIu64 " acknowledged by Kafka", production->topic, counts->sent,
           counts->acknowledged);
    if (counts->failed > 0)
        printf(", %" PRIu64 " not delivered", counts->failed);
    if (counts->refused > 0)
        printf(", %" PRIu64 " refused and not sent", counts->refused);
    printf(" (%.1f s, %.0f/s)\n", seconds, (double)counts->acknowledged / (seconds > 0 ? seconds : 1));
    if (counts->minted_ids + counts->minted_timestamps > 0)
        printf("added %" PRIu64 " event_id and %" PRIu64 " timestamp\n", counts->minted_ids,
               counts->minted_timestamps);
    if (plan->count > 0)
        print_generated(counts, plan);
    if (production->fates)
        fates_summary(production->fates);
}

static int conclude(const struct production *production, const struct generate_plan *plan, int code)
{
    const struct counts *counts = &production->counts;
    double seconds = (double)(system_steady_us() - production->started_us) / 1e6;
    if (!production->context->json)
        print_text(production, plan, seconds);
    else if (!print_json(production, plan, seconds))
        code = EXIT_FAILED;
    if (interrupted)
        code = command_fail(production->context, EXIT_FAILED, "interrupted: what was sent is acknowledged");
    bool failed = production->fates && (production->gave_up || fates_failed(production->fates));
    return failed || counts->failed + counts->refused > 0 ? EXIT_FAILED : code;
}

/* --- the command --- */

/* PARTITIONER_UNKNOWN: there is none of this name, or none was named. */
static enum partitioner partitioner_named(const char *name)
{
    for (int i = 1; name && i < PARTITIONER_COUNT; i++)
        if (strcmp(name, partitioner_names[i]) == 0)
            return (enum partitioner)i;
    return PARTITIONER_UNKNOWN;
}

/* As the other producers do, where nobody says. PostgreSQL may be slow to answer, or not to be reached from
 * here: it is asked only where the answer matters, and waited for, because events in the wrong partition are
 * refused. */
static void choose_partitioner(const struct production *production, const struct config *config)
{
    struct pg_failure failure;
    enum partitioner partitioner = partitioner_named(production->choice->partitioner);
    if (partitioner == PARTITIONER_UNKNOWN)
        partitioner = config->kafka.partitioner;
    bool matters = partitioner == PARTITIONER_UNKNOWN && sender_partition_count(production->sender) > 1;
    if (matters && !learned_partitioner(config, "usagebox produce", &partitioner, &failure))
        command_fail(
            production->context, 0,
            "PostgreSQL can't be asked which partitioner producers use, so it is murmur2 (--partitioner "
            "names another): %s",
            failure.detail);
    sender_partition_by(production->sender,
                        partitioner == PARTITIONER_UNKNOWN ? PARTITIONER_MURMUR2 : partitioner);
}

/* Ctrl-C ends the sending, not the waiting for what was sent; a second one ends all. */
static void catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static int send_all(struct production *production, const struct generate_plan *plan, const char *path)
{
    catch_interrupts();
    production->started_us = system_steady_us();
    int code = plan->count > 0 ? send_generated(production, plan) : send_file(production, path);
    await_all(production);
    await_fates(production);
    return conclude(production, plan, code);
}

static int produce(struct production *production, const struct config *config,
                   const struct generate_plan *plan, const char *path)
{
    char error[SENDER_ERROR_BYTES];
    production->sender = sender_new(config, production->topic, on_report, production, error);
    if (!production->sender)
        return command_fail(production->context, EXIT_FAILED, "%s", error);
    choose_partitioner(production, config);
    int code = send_all(production, plan, path);
    sender_free(production->sender);
    return code;
}

static int run(struct command_context *context, const struct config *config, const void *chosen,
               int operand_count, char **operands)
{
    const struct choice *choice = chosen;
    struct generate_plan plan = {0};
    bool generate = choice->plan.count > 0 || choice->plan.duration_us > 0;
    if (choice->partitioner && partitioner_named(choice->partitioner) == PARTITIONER_UNKNOWN)
        return command_fail(context, EXIT_USAGE,
                            "--partitioner: expected murmur2, crc32 or fnv1a, found \"%s\"",
                            choice->partitioner);
    if (operand_count > 1 || (generate && operand_count > 0))
        return command_fail(context, EXIT_USAGE, "too many files: one, or none with --generate");
    if (choice->timeout_us > 0 && !choice->wait)
        return command_fail(context, EXIT_USAGE, "--timeout needs --wait");
    int code = generate ? plan_events(context, &choice->plan, &plan) : -1;
    if (code >= 0)
        return code;
    struct production production = {
        .context = context,
        .choice = choice,
        .topic = choice->topic ? choice->topic : config->kafka.usage_topics.items[0],
    };
    if (choice->wait)
        production.fates = fates_open(context, config, production.topic,
                                      choice->timeout_us ? choice->timeout_us : default_timeout_us);
    if (choice->wait && !production.fates)
        return EXIT_FAILED;
    code = produce(&production, config, &plan, operand_count > 0 ? operands[0] : NULL);
    fates_close(production.fates);
    return code;
}

int cmd_produce(struct command_context *context, int argc, char **argv)
{
    struct choice c = {.plan = {.customers = 1000, .duplicates = "0", .late = "0", .bad = "0"}};
    const struct option_row rows[] = {
        {"topic", 't', OPTION_TEXT, &c.topic, "TOPIC", "the usage topic (the first of kafka.usage_topics)", 0,
         0},
        {"key", 'k', OPTION_TEXT, &c.key, "KEY", "the records' key (each event's customer_id)", 0, 0},
        {"partitioner", 0, OPTION_TEXT, &c.partitioner, "NAME", "murmur2, crc32 or fnv1a (kafka.partitioner)",
         0, 0},
        {"raw", 0, OPTION_FLAG, &c.raw, NULL,
         "send lines as they are, whatever they are: nothing added or refused", 0, 0},
        {"wait", 'w', OPTION_FLAG, &c.wait, NULL,
         "tell what became of each event once PostgreSQL knows; exit 1 if one was refused", 0, 0},
        {"timeout", 0, OPTION_DURATION, &c.timeout_us, "TIME",
         "with --wait: give up without news of events for that long (30s)", 1000, INT64_MAX},
        {"generate", 'g', OPTION_INTEGER, &c.plan.count, "N", "make up N events", 1, INT64_MAX},
        {"rate", 0, OPTION_INTEGER, &c.plan.rate_per_s, "N", "make N events a second (all at once)", 1,
         100000000},
        {"duration", 0, OPTION_DURATION, &c.plan.duration_us, "TIME", "stop making events after that long", 1,
         INT64_MAX},
        {"seed", 0, OPTION_INTEGER, &c.plan.seed, "N",
         "the same seed, start and options make the same events (any)", 1, INT64_MAX},
        {"start", 0, OPTION_TEXT, &c.plan.start, "TIME",
         "when the first event happens (now with --rate, else an hour ago)", 0, 0},
        {"span", 0, OPTION_DURATION, &c.plan.span_us, "TIME",
         "from the first event to the last (what sending takes, else 1h)", 1, INT64_MAX},
        {"customers", 0, OPTION_INTEGER, &c.plan.customers, "N", "how many there are", 1, 10000000},
        {"duplicates", 0, OPTION_TEXT, &c.plan.duplicates, "SHARE", "share of repeats, such as 0.01", 0, 0},
        {"late", 0, OPTION_TEXT, &c.plan.late, "SHARE", "share of events that come hours or days late", 0, 0},
        {"bad", 0, OPTION_TEXT, &c.plan.bad, "SHARE", "share of events that break a rule", 0, 0},
        {0},
    };
    const struct options options = {
        .operands = "[FILE]",
        .about =
            "Publishes usage events: from FILE or standard input, one JSON object per line, or made up.\n"
            "An event without event_id or timestamp gets one. Ends when Kafka has acknowledged all. Where\n"
            "kafka.partitioner is auto, PostgreSQL is asked which one the other producers use; where it\n"
            "can't be asked within ten seconds or does not know yet, it is murmur2.",
        .rows = rows,
    };
    return command_run(context, &options, argc, argv, run, &c);
}
