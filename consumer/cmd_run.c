/* usagebox run: the engine with its real surroundings. */
#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>

#include "../rollup/keeper.h"
#include "../rollup/postgres_store.h"
#include "../rollup/writer.h"
#include "commands.h"
#include "dead_letter_copy.h"
#include "kafka_flags.h"
#include "http.h"
#include "kafka_source.h"
#include "metrics.h"
#include "pipeline.h"
#include "system_clock.h"

enum { BATCH_BYTES = 48 << 20 };
enum { TURN_MS = 10, DRAIN_LIMIT_S = 60, FLAGS_LAST_MS = 2000 };

static volatile sig_atomic_t stop_signals;

/* The first one drains; who sends a second one does not want to wait. */
static void on_signal(int signal_number)
{
    (void)signal_number;
    if (++stop_signals > 1)
        _exit(EXIT_FAILED);
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

static int64_t wall_us(void *self)
{
    (void)self;
    return system_wall_us();
}

static int64_t steady_us(void *self)
{
    (void)self;
    return system_steady_us();
}

/* Everything that a run holds; zero-initialised parts were not made. */
struct run {
    struct config config;
    struct kafka_options kafka;
    struct kafka_source *source;
    struct kafka_flags *flags;
    struct postgres_store *store;
    struct writer *writer;
    struct pipeline *pipeline;
    struct metrics *metrics;
    struct http *http;
    struct keeper *keeper;
    struct dead_letter_copy *copy;
    bool secret_set;
};

/* --- what the engine tells --- */

static void on_note(void *self, enum note_level level, int32_t lane, const char *sentence)
{
    (void)self;
    static const enum log_level levels[] = {LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR};
    if (lane >= 0)
        log_event(levels[level], sentence, LOG_INT("lane", lane), LOG_END);
    else
        log_event(levels[level], sentence, LOG_END);
}

static void on_batch(void *self, const struct store_job *job)
{
    metrics_batch_done(((struct run *)self)->metrics, job);
    log_debug("batch", LOG_UINT("batch", job->batch->number), LOG_UINT("events", job->batch->event_count),
              LOG_UINT("rows", job->batch->row_count), LOG_MS("took_ms", job->elapsed_us),
              LOG_INT("status", job->status), LOG_TEXT("detail", job->detail));
}

static void on_flag(void *self, int64_t since_decided_us, int64_t since_record_us)
{
    struct metrics *metrics = ((struct run *)self)->metrics;
    metrics_observe(metrics, METRICS_FLAG_DECIDED_SECONDS, since_decided_us);
    if (since_record_us >= 0)
        metrics_observe(metrics, METRICS_FLAG_RECORD_SECONDS, since_record_us);
    log_debug("flag acknowledged", LOG_MS("since_decided_ms", since_decided_us),
              LOG_MS("since_record_ms", since_record_us));
}

/* --- making the parts --- */

static struct pipeline_options pipeline_options_of(const struct config *config)
{
    struct pipeline_options options = {
        .topics = config->kafka.usage_topics.items,
        .topic_count = config->kafka.usage_topics.count,
        .rules = {config->events.max_age_us, config->events.max_future_us},
        .partitioner = config->kafka.partitioner,
        .max_rows = config->batch.max_rows,
        .max_delay_us = config->batch.max_delay_us,
        .max_batch_bytes = BATCH_BYTES,
        .memory_limit_bytes = config->dedupe.memory_limit_bytes,
    };
    options.rollup.runs = config->rollup.runs;
    for (size_t i = 0; i < config->rollup.dimensions.count; i++)
        for (int lifted = 0; lifted < LIFTED_COUNT; lifted++)
            if (strcmp(config->rollup.dimensions.items[i], event_lifted_names[lifted]) == 0)
                options.rollup.dimensions[options.rollup.dimension_count++] = (enum event_lifted)lifted;
    randombytes_buf(options.rollup.hash_seed, sizeof options.rollup.hash_seed);
    return options;
}

static bool make_kafka(struct command_context *context, struct run *run)
{
    char error[KAFKA_ERROR_BYTES];
    run->kafka = kafka_options_of(&run->config);
    run->source = kafka_source_new(&run->kafka, error);
    if (run->source)
        run->flags = kafka_flags_new(&run->kafka, error);
    if (!run->flags)
        command_fail(context, EXIT_FAILED, "Kafka: %s", error);
    return run->flags != NULL;
}

static bool make_store(struct command_context *context, struct run *run)
{
    struct postgres_store_options options = {run->config.postgres.dsn, run->config.postgres.owner_dsn,
                                             run->config.kafka.usage_topics.items,
                                             run->config.kafka.usage_topics.count};
    run->store = postgres_store_new(&options);
    if (run->store)
        run->writer = writer_start(postgres_store_perform, run->store);
    if (!run->writer)
        command_fail(context, EXIT_FAILED, "the writer can't be started: out of memory or threads");
    return run->writer != NULL;
}

static bool make_pipeline(struct command_context *context, struct run *run)
{
    struct pipeline_options options = pipeline_options_of(&run->config);
    struct pipeline_ports ports = {
        .source = kafka_source_interface(run->source),
        .store = writer_store(run->writer),
        .flags = kafka_flags_interface(run->flags),
        .clock = {wall_us, steady_us, NULL},
        .observer = {on_note, on_batch, on_flag, run},
    };
    kafka_source_watch(run->source, kafka_flags_wake_fd(run->flags));
    kafka_source_watch(run->source, writer_descriptor(run->writer));
    run->pipeline = pipeline_new(&options, &ports);
    if (!run->pipeline)
        command_fail(context, EXIT_FAILED, "out of memory");
    return run->pipeline != NULL;
}

static bool make_http(struct command_context *context, struct run *run)
{
    char error[HTTP_ERROR_BYTES];
    run->metrics = metrics_new();
    if (!run->metrics) {
        command_fail(context, EXIT_FAILED, "out of memory");
        return false;
    }
    if (!run->config.http.listen[0])
        return true;
    run->http = http_start(run->config.http.listen, run->metrics, error);
    if (!run->http)
        command_fail(context, EXIT_FAILED, "http.listen: %s", error);
    return run->http != NULL;
}

static bool make_keeper(struct command_context *context, struct run *run)
{
    struct keeper_options options = {run->config.postgres.owner_dsn, run->config.dedupe.window_us};
    run->keeper = keeper_start(&options);
    if (!run->keeper)
        command_fail(context, EXIT_FAILED, "the keeper can't be started: out of memory or threads");
    return run->keeper != NULL;
}

static bool make_copy(struct command_context *context, struct run *run)
{
    char error[KAFKA_ERROR_BYTES];
    if (!run->config.kafka.dead_letter_topic[0])
        return true;
    run->copy = dead_letter_copy_start(&run->config, error);
    if (!run->copy)
        command_fail(context, EXIT_FAILED, "kafka.dead_letter_topic: %s", error);
    return run->copy != NULL;
}

/* The writer is stopped before the pipeline, whose batches it may hold. */
static void free_run(struct run *run)
{
    if (run->store)
        postgres_store_interrupt(run->store);
    struct store_job *unfinished = run->writer ? writer_stop(run->writer) : NULL;
    pipeline_abandon(run->pipeline, unfinished);
    pipeline_free(run->pipeline);
    if (run->flags)
        kafka_flags_free(run->flags, FLAGS_LAST_MS);
    if (run->source)
        kafka_source_free(run->source);
    postgres_store_free(run->store);
    keeper_stop(run->keeper);
    dead_letter_copy_stop(run->copy);
    http_stop(run->http);
    metrics_free(run->metrics);
    config_free(&run->config);
}

/* --- running --- */

static void turn(struct run *run)
{
    pipeline_turn(run->pipeline, TURN_MS);
    if (!run->secret_set && pipeline_secret(run->pipeline)) {
        kafka_source_set_secret(run->source, pipeline_secret(run->pipeline));
        run->secret_set = true;
    }
    metrics_restored(run->metrics, postgres_store_restored(run->store));
    metrics_kept(run->metrics, keeper_report(run->keeper));
    metrics_publish(run->metrics, run->pipeline, run->config.kafka.usage_topics.items);
}

static int drain(struct run *run)
{
    log_info("stopping: what is decided is committed first; another signal stops at once");
    int64_t limit_us = steady_us(NULL) + DRAIN_LIMIT_S * INT64_C(1000000);
    pipeline_drain(run->pipeline);
    while (!pipeline_drained(run->pipeline) && steady_us(NULL) < limit_us)
        turn(run);
    if (pipeline_clean(run->pipeline)) {
        log_info("stopped");
        return EXIT_DONE;
    }
    log_error("stopped without committing the last batch: its records are read again by whoever takes the "
              "lanes over");
    return EXIT_FAILED;
}

static int run_until_stopped(struct run *run)
{
    log_info("usagebox runs", LOG_TEXT("version", USAGEBOX_VERSION),
             LOG_TEXT("owner", postgres_store_owner(run->store)));
    while (!stop_signals)
        turn(run);
    return drain(run);
}

int cmd_run(struct command_context *context, int argc, char **argv)
{
    const struct option_row rows[] = {{0}};
    const struct options options = {
        .about = "Takes usage events in, counts each exactly once into PostgreSQL, and publishes flags when "
                 "ceilings\n"
                 "are crossed. Runs until SIGTERM or SIGINT, which drains; a second one quits at once.",
        .rows = rows,
    };
    int operand;
    int code = command_options(context, &options, argc, argv, &operand);
    if (code >= 0)
        return code;
    struct run run = {0};
    if (!command_config(context, &run.config))
        return EXIT_FAILED;
    if (sodium_init() < 0)
        return command_fail(context, EXIT_FAILED, "libsodium can't be initialised");
    catch_signals();
    code = EXIT_FAILED;
    if (make_http(context, &run) && make_kafka(context, &run) && make_store(context, &run) &&
        make_pipeline(context, &run) && make_keeper(context, &run) && make_copy(context, &run))
        code = run_until_stopped(&run);
    free_run(&run);
    return code;
}
