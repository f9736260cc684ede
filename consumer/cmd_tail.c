#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "../rollup/migrate.h"
#include "commands.h"
#include "since.h"
#include "tail_lines.h"
#include "wake.h"
#include "system_clock.h"

enum { LOOK_EVERY_MS = 200, AGAIN_MS = 1000 };

struct chosen {
    const char *customer;
    bool flags_only, events_only;
    bool from_beginning;
    const char *since;
    int64_t duration_us;
    int64_t count;
};

struct tail {
    struct command_context *context;
    const struct config *config;
    const struct chosen *chosen;
    struct tail_lines lines;
    struct pg pg;
    struct follow *follow;      /* NULL: flags only */
    struct kafka_reader *flags; /* NULL: events only */
    int signals_fd, wake_fd;
    int64_t look_at_ms; /* when PostgreSQL is to be asked next */
    int64_t end_at_ms;  /* INT64_MAX: never */
    bool is_lost;       /* PostgreSQL, and it was said */
};

/* --- events --- */

static void on_event(void *context, const struct followed_event *event)
{
    struct tail *tail = context;
    tail_event(&tail->lines, event);
}

static void on_missed(void *context, int64_t count)
{
    const struct tail *tail = context;
    command_fail(tail->context, 0,
                 "%" PRId64 " events were accepted that lie too far back in their day's table to look for",
                 count);
}

static void lose(struct tail *tail)
{
    if (!tail->is_lost)
        command_fail(tail->context, 0, "%s; trying again", tail->pg.failure.detail);
    tail->is_lost = true;
    tail->look_at_ms = system_steady_ms() + AGAIN_MS;
    pg_close(&tail->pg);
}

static void look(struct tail *tail)
{
    const struct follow_calls calls = {.context = tail, .event = on_event, .missed = on_missed};
    tail->look_at_ms = system_steady_ms() + LOOK_EVERY_MS;
    if (!pg_is_open(&tail->pg) && !pg_open(&tail->pg, tail->config->postgres.dsn, tail->context->name)) {
        lose(tail);
        return;
    }
    if (!follow_poll(tail->follow, &calls)) {
        lose(tail);
        return;
    }
    if (tail->is_lost)
        command_fail(tail->context, 0, "PostgreSQL is back");
    tail->is_lost = false;
}

/* --- flags --- */

static void read_flags(struct tail *tail)
{
    struct kafka_read read;
    while (!tail_is_full(&tail->lines) && kafka_reader_next(tail->flags, &read)) {
        if (read.trouble)
            command_fail(tail->context, 0, "enforcement topic: %s", read.trouble);
        else
            tail_flag(&tail->lines, &read);
    }
}

/* --- the loop --- */

static int pause_ms(const struct tail *tail)
{
    int64_t until_ms = tail->end_at_ms;
    if (tail->follow && tail->look_at_ms < until_ms)
        until_ms = tail->look_at_ms;
    if (until_ms == INT64_MAX)
        return -1;
    int64_t pause = until_ms - system_steady_ms();
    return pause < 0 ? 0 : pause > 60000 ? 60000 : (int)pause;
}

/* False: a signal asks to end. */
static bool sleep_until_something(struct tail *tail)
{
    struct pollfd fds[] = {{.fd = tail->signals_fd, .events = POLLIN},
                           {.fd = tail->wake_fd, .events = POLLIN}};
    if (poll(fds, sizeof fds / sizeof *fds, pause_ms(tail)) < 0 && errno != EINTR)
        return false;
    if (fds[1].revents)
        wake_hear(tail->wake_fd);
    return !fds[0].revents;
}

static int follow_all(struct tail *tail)
{
    do {
        if (tail->flags)
            read_flags(tail);
        if (tail->follow && system_steady_ms() >= tail->look_at_ms)
            look(tail);
        if (fflush(stdout) != 0)
            return EXIT_FAILED; /* whoever read it has gone */
        if (tail_is_full(&tail->lines) || system_steady_ms() >= tail->end_at_ms)
            return EXIT_DONE;
    } while (sleep_until_something(tail));
    return EXIT_DONE;
}

/* --- the command --- */

/* Blocked before any thread is made, so that none of librdkafka's is interrupted. */
static int catch_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
}

static bool open_events(struct tail *tail)
{
    if (tail->chosen->flags_only)
        return true;
    if (pg_open(&tail->pg, tail->config->postgres.dsn, tail->context->name) &&
        migrate_check(&tail->pg, migrations))
        tail->follow = follow_open(&tail->pg);
    if (!tail->follow)
        command_fail(tail->context, 0, "%s (--flags-only does without PostgreSQL)", tail->pg.failure.detail);
    return tail->follow;
}

static bool open_flags(struct tail *tail, int64_t since_us)
{
    char error[KAFKA_ERROR_BYTES];
    const struct kafka_options options = kafka_options_of(tail->config);
    if (tail->chosen->events_only)
        return true;
    tail->flags = kafka_reader_open(&options, since_us, tail->wake_fd, error);
    if (!tail->flags)
        command_fail(tail->context, 0, "%s (--events-only does without Kafka)", error);
    return tail->flags;
}

static int run_tail(struct tail *tail, int64_t since_us)
{
    tail->signals_fd = catch_signals();
    tail->wake_fd = wake_new();
    if (tail->signals_fd < 0 || tail->wake_fd < 0)
        return command_fail(tail->context, EXIT_FAILED, "no file descriptor is to be had");
    bool open = open_events(tail) && open_flags(tail, since_us);
    tail->end_at_ms =
        tail->chosen->duration_us ? system_steady_ms() + tail->chosen->duration_us / 1000 : INT64_MAX;
    int code = open ? follow_all(tail) : EXIT_FAILED;
    kafka_reader_close(tail->flags);
    follow_close(tail->follow);
    pg_close(&tail->pg);
    close(tail->signals_fd);
    close(tail->wake_fd);
    return code;
}

static int tail_all(struct command_context *context, const struct config *config, const void *options,
                    int operand_count, char **operands)
{
    (void)operand_count, (void)operands;
    const struct chosen *chosen = options;
    int64_t since_us = chosen->from_beginning ? INT64_MIN : INT64_MAX;
    if (chosen->flags_only && chosen->events_only)
        return command_fail(context, EXIT_USAGE, "--flags-only and --events-only leave nothing to show");
    if (chosen->since && !since_parse(text_of(chosen->since), system_wall_us(), &since_us))
        return command_fail(
            context, EXIT_USAGE,
            "--since: expected a time such as 2026-11-22T18:30:00Z, a day, or how long ago such "
            "as 24h, found \"%s\"",
            chosen->since);
    struct tail tail = {
        .context = context,
        .config = config,
        .chosen = chosen,
        .lines = {.customer = chosen->customer, .json = context->json, .most = chosen->count},
    };
    return run_tail(&tail, since_us);
}

int cmd_tail(struct command_context *context, int argc, char **argv)
{
    struct chosen chosen = {0};
    const struct option_row rows[] = {
        {.name = "customer",
         .type = OPTION_TEXT,
         .value = &chosen.customer,
         .argument = "ID",
         .help = "only what concerns this customer"},
        {.name = "flags-only", .type = OPTION_FLAG, .value = &chosen.flags_only, .help = "no events"},
        {.name = "events-only", .type = OPTION_FLAG, .value = &chosen.events_only, .help = "no flags"},
        {.name = "from-beginning",
         .type = OPTION_FLAG,
         .value = &chosen.from_beginning,
         .help = "first all flags that the enforcement topic holds"},
        {.name = "since",
         .type = OPTION_TEXT,
         .value = &chosen.since,
         .argument = "TIME",
         .help = "first the flags published since (2026-11-22T18:30:00Z, 2026-11-22, or 1h for an hour ago)"},
        {.name = "for",
         .type = OPTION_DURATION,
         .value = &chosen.duration_us,
         .argument = "DURATION",
         .help = "end after so long"},
        {.name = "count",
         .type = OPTION_INTEGER,
         .value = &chosen.count,
         .argument = "N",
         .help = "end after N lines",
         .most = INT64_MAX},
        {0}};
    const struct options options = {
        .about =
            "Shows accepted events as they are committed and flags as they are published, one line each, "
            "times\n"
            "in UTC; --json prints one object a line. Goes on until Ctrl-C, --for or --count ends it.\n\n"
            "Events come from PostgreSQL, asked five times a second: one look at the ledger by its primary "
            "key,\n"
            "and where something was committed, the last 8 MiB of today's and yesterday's tables; the last "
            "64 KiB\n"
            "of the other days' and the last 512 MiB of today's only if some are still missing. Events that\n"
            "lie elsewhere are counted, not shown. Flags come from Kafka, read without a consumer group.",
        .rows = rows};
    return command_run(context, &options, argc, argv, tail_all, &chosen);
}
