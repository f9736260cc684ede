#include <jansson.h>
#include <stdlib.h>
#include <time.h>

#include "../rollup/owner.h"
#include "../rollup/seal.h"
#include "commands.h"
#include "tables.h"
#include "timestamp.h"

enum { WAIT_DEFAULT_S = 60, POLL_MS = 100 };

struct seal_choice {
    const char *day; /* NULL: all */
    bool now;
    int64_t wait_us;
};

static const struct table_column columns[] = {
    {"day", TABLE_TEXT}, {"sealed", TABLE_BOOL}, {"why", TABLE_TEXT}, {NULL, 0}};

struct sealing {
    struct pg pg;
    const struct seal_choice *choice;
    struct seal_rules rules;
    struct table *table;
    size_t shown;
    bool failed; /* a day that was named or due is not sealed */
};

static bool add_day(struct sealing *sealing, const struct seal_day *day)
{
    bool sealed = day->state == SEAL_SEALED;
    const struct text cells[] = {text_of(day->date), sealed ? TEXT("true") : TEXT("false"),
                                 sealed ? (struct text){NULL, 0} : text_of(seal_state_why[day->state])};
    sealing->shown++;
    return table_add(sealing->table, cells) || pg_fail(&sealing->pg, PG_OTHER, "out of memory");
}

static bool seal_one(struct sealing *sealing, struct seal_day *day)
{
    if (day->state == SEAL_DUE) {
        switch (seal_build(&sealing->pg, day)) {
        case SEAL_DONE:
            day->state = SEAL_SEALED;
            break;
        case SEAL_DUPLICATES:
            day->state = SEAL_MARKED;
            break;
        case SEAL_FAILED:
            return false;
        }
    }
    if (day->state != SEAL_SEALED && (sealing->choice->day || day->state == SEAL_MARKED))
        sealing->failed = true;
    return add_day(sealing, day);
}

static bool seal_all(struct sealing *sealing)
{
    struct seal_day *days;
    size_t count, done = 0;
    if (!seal_survey(&sealing->pg, &sealing->rules, sealing->choice->day, &days, &count))
        return false;
    if (count == 0 && sealing->choice->day) {
        free(days);
        return pg_fail(&sealing->pg, PG_OTHER, "%s has no partition: no event of that day was ever accepted",
                       sealing->choice->day);
    }
    while (done < count && seal_one(sealing, &days[done]))
        done++;
    free(days);
    return done == count;
}

static bool lock(struct sealing *sealing)
{
    bool locked = false;
    for (int64_t waited_us = 0; waited_us <= sealing->choice->wait_us; waited_us += POLL_MS * INT64_C(1000)) {
        if (!seal_lock(&sealing->pg, &locked))
            return false;
        if (locked)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
    }
    return pg_fail(&sealing->pg, PG_PASSING,
                   "another process is sealing: try again later or with a longer --wait");
}

static bool print_days(const struct command_context *context, const struct sealing *sealing)
{
    if (context->json)
        return json_print(table_json(sealing->table), stdout);
    if (sealing->shown > 0)
        table_print(sealing->table, stdout);
    else
        puts("no day that is over is left to seal");
    return true;
}

static int seal_and_print(struct command_context *context, struct sealing *sealing, const char *owner_dsn)
{
    bool done = owner_open(&sealing->pg, owner_dsn, context->name) && lock(sealing);
    if (done) {
        done = seal_all(sealing);
        seal_unlock(&sealing->pg);
    }
    pg_close(&sealing->pg);
    if ((done || sealing->shown > 0) && !print_days(context, sealing)) /* sealed before a failure, too */
        return command_fail(context, EXIT_FAILED, "out of memory");
    if (!done)
        return command_fail(context, EXIT_FAILED, "%s", sealing->pg.failure.detail);
    return sealing->failed ? EXIT_FAILED : EXIT_DONE;
}

/* YYYY-MM-DD, and in the calendar. */
static bool is_date(const char *text)
{
    char time[32];
    int64_t time_us;
    snprintf(time, sizeof time, "%.10sT00:00:00Z", text);
    return strlen(text) == SEAL_DATE_BYTES - 1 && timestamp_from_rfc3339(text_of(time), &time_us);
}

static int seal_days(struct command_context *context, const struct config *config, const void *chosen,
                     int operand_count, char **operands)
{
    (void)operand_count, (void)operands;
    const struct seal_choice *choice = chosen;
    if (choice->day && !is_date(choice->day))
        return command_fail(context, EXIT_USAGE, "--day: expected a date such as 2026-11-02, found \"%s\"",
                            choice->day);
    struct sealing sealing = {.choice = choice,
                              .rules = {.window_us = choice->now ? 0 : config->dedupe.window_us,
                                        .idle_us = choice->now ? 0 : SEAL_IDLE_US,
                                        .busy_us = SEAL_BUSY_US},
                              .table = table_new(columns)};
    if (!sealing.table)
        return command_fail(context, EXIT_FAILED, "out of memory");
    int code = seal_and_print(context, &sealing, config->postgres.owner_dsn);
    table_free(sealing.table);
    return code;
}

int cmd_seal(struct command_context *context, int argc, char **argv)
{
    struct seal_choice choice = {.wait_us = WAIT_DEFAULT_S * INT64_C(1000000)};
    const struct option_row rows[] = {
        {.name = "day",
         .type = OPTION_TEXT,
         .value = &choice.day,
         .argument = "YYYY-MM-DD",
         .help = "seal this day only"},
        {.name = "now",
         .type = OPTION_FLAG,
         .value = &choice.now,
         .help = "don't wait for dedupe.window and ten idle minutes to pass: days that are over and read"},
        {.name = "wait",
         .type = OPTION_DURATION,
         .value = &choice.wait_us,
         .argument = "DURATION",
         .help = "how long to wait for another process that seals",
         .most = INT64_C(86400000000)},
        {0}};
    const struct options options = {
        .about =
            "Does once what `usagebox run` does by itself: builds the unique index of each day that is due,\n"
            "by which PostgreSQL finds the day's repeats from then on, and says of each other day why it\n"
            "is not sealed. Exits 1 if the day asked for is not sealed, or if a day holds an event twice.",
        .rows = rows};
    return command_run(context, &options, argc, argv, seal_days, &choice);
}
