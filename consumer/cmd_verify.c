#include <inttypes.h>
#include <jansson.h>

#include "../rollup/migrate.h"
#include "../rollup/verify.h"
#include "commands.h"
#include "printable.h"
#include "progress.h"
#include "since.h"
#include "tables.h"
#include "system_clock.h"

enum { CHECKS = 16 };

struct chosen {
    const char *since;
    int64_t partition;
    int64_t limit;
};

struct report {
    const struct chosen *chosen;
    bool json;
    struct progress progress;
    struct verify_outcome outcomes[CHECKS];
    size_t outcome_count;
    uint64_t differences;
    int64_t printed; /* of the check that runs */
    json_t *details, *notes;
};

static const struct table_column columns[] = {
    {"check", TABLE_TEXT},          {"examined", TABLE_INTEGER},    {"of", TABLE_TEXT},
    {"differences", TABLE_INTEGER}, {"what_it_proves", TABLE_TEXT}, {NULL, 0}};

/* --- as it goes on --- */

static void begins(void *context, const char *check, uint64_t total)
{
    struct report *report = context;
    progress_end(&report->progress);
    report->progress = progress_begin(check, total);
    report->printed = 0;
}

static void advances(void *context, uint64_t done)
{
    progress_update(&((struct report *)context)->progress, done);
}

static void print_text(const char *before, struct text text)
{
    fputs(before, stdout);
    printable_write(PRINTABLE_PLAIN, text, stdout);
}

/* On the terminal the bar may share the line with what is printed. */
static void print_difference(struct report *report, const struct verify_difference *difference)
{
    if (report->progress.visible)
        fputs("\r\x1b[K", stderr);
    print_text(difference->check, TEXT(": "));
    if (!difference->is_note)
        print_text("", difference->where);
    print_text(difference->is_note ? "" : ": ", difference->what);
    if (!difference->is_note) {
        print_text("\n    expected ", difference->expected);
        print_text("\n    found    ", difference->found);
    }
    putchar('\n');
}

static json_t *text_json(struct text text)
{
    return json_stringn(text.bytes, text.length);
}

static bool keep_difference(struct report *report, const struct verify_difference *difference)
{
    if (difference->is_note)
        return json_array_append_new(report->notes, json_pack("{s:s, s:o}", "check", difference->check,
                                                              "note", text_json(difference->what))) == 0;
    return json_array_append_new(report->details,
                                 json_pack("{s:s, s:o, s:o, s:o, s:o}", "check", difference->check, "where",
                                           text_json(difference->where), "what", text_json(difference->what),
                                           "expected", text_json(difference->expected), "found",
                                           text_json(difference->found))) == 0;
}

static bool differs(void *context, const struct verify_difference *difference)
{
    struct report *report = context;
    report->differences += !difference->is_note;
    if (!difference->is_note && ++report->printed > report->chosen->limit)
        return true;
    if (report->json)
        return keep_difference(report, difference);
    print_difference(report, difference);
    return true;
}

static bool ended(void *context, const struct verify_outcome *outcome)
{
    struct report *report = context;
    progress_end(&report->progress);
    if (report->outcome_count < CHECKS)
        report->outcomes[report->outcome_count++] = *outcome;
    if (!report->json && report->printed > report->chosen->limit)
        printf("%s: and %" PRIu64 " more (--limit shows more)\n", outcome->check,
               outcome->differences - (uint64_t)report->chosen->limit);
    return true;
}

/* --- the result --- */

static bool fill(const struct report *report, struct table *table)
{
    for (size_t i = 0; i < report->outcome_count; i++) {
        const struct verify_outcome *outcome = &report->outcomes[i];
        char examined[24], differences[24];
        snprintf(examined, sizeof examined, "%" PRIu64, outcome->examined);
        snprintf(differences, sizeof differences, "%" PRIu64, outcome->differences);
        const struct text cells[] = {text_of(outcome->check), text_of(examined), text_of(outcome->unit),
                                     text_of(differences),
                                     text_of(outcome->differences ? "NO: see above" : outcome->about)};
        if (!table_add(table, cells))
            return false;
    }
    return true;
}

static json_t *outcome_json(const struct verify_outcome *outcome)
{
    return json_pack("{s:s, s:I, s:s, s:I}", "check", outcome->check, "examined",
                     (json_int_t)outcome->examined, "of", outcome->unit, "differences",
                     (json_int_t)outcome->differences);
}

/* NULL: out of memory. */
static json_t *checks_json(const struct report *report)
{
    json_t *checks = json_array();
    for (size_t i = 0; i < report->outcome_count; i++)
        if (json_array_append_new(checks, outcome_json(&report->outcomes[i])) != 0) {
            json_decref(checks);
            return NULL;
        }
    return checks;
}

static bool print_report(const struct report *report)
{
    if (report->json)
        return json_print(json_pack("{s:b, s:o, s:O, s:O}", "ok", report->differences == 0, "checks",
                                    checks_json(report), "differences", report->details, "notes",
                                    report->notes),
                          stdout);
    struct table *table = table_new(columns);
    bool ok = table && fill(report, table);
    if (ok)
        table_print(table, stdout);
    table_free(table);
    if (report->differences == 0)
        puts("no differences");
    else
        printf("%" PRIu64 " differences\n", report->differences);
    return ok;
}

/* --- the command --- */

static void take_dimensions(const struct config *config, struct verify_options *options)
{
    for (size_t i = 0; i < config->rollup.dimensions.count; i++)
        for (int name = 0; name < LIFTED_COUNT; name++)
            if (strcmp(config->rollup.dimensions.items[i], event_lifted_names[name]) == 0)
                options->dimensions[options->dimension_count++] = (enum event_lifted)name;
}

static int verify_database(struct command_context *context, const struct config *config,
                           struct report *report, const struct verify_options *options)
{
    struct pg pg = {0};
    bool done = pg_open(&pg, config->postgres.dsn, context->name) && migrate_check(&pg, migrations) &&
                verify_run(&pg, options);
    progress_end(&report->progress);
    pg_close(&pg);
    if (!done)
        return command_fail(context, EXIT_FAILED, "%s", pg.failure.detail);
    if (!print_report(report))
        return command_fail(context, EXIT_FAILED, "out of memory");
    return report->differences ? EXIT_FAILED : EXIT_DONE;
}

static int verify(struct command_context *context, const struct config *config, const void *options,
                  int operand_count, char **operands)
{
    (void)operand_count, (void)operands;
    const struct chosen *chosen = options;
    struct report report = {
        .chosen = chosen, .json = context->json, .details = json_array(), .notes = json_array()};
    struct verify_options verify_options = {.since_us = INT64_MIN,
                                            .partition = (int32_t)chosen->partition,
                                            .runs = config->rollup.runs,
                                            .context = &report,
                                            .begins = begins,
                                            .progress = advances,
                                            .differs = differs,
                                            .ended = ended};
    int code = EXIT_USAGE;
    take_dimensions(config, &verify_options);
    if (chosen->since && !since_parse(text_of(chosen->since), system_wall_us(), &verify_options.since_us))
        command_fail(context, EXIT_USAGE,
                     "--since: expected a time such as 2026-11-22T18:30:00Z, a day, or how long ago such as "
                     "24h, found \"%s\"",
                     chosen->since);
    else
        code = verify_database(context, config, &report, &verify_options);
    json_decref(report.details);
    json_decref(report.notes);
    return code;
}

int cmd_verify(struct command_context *context, int argc, char **argv)
{
    struct chosen chosen = {.partition = -1, .limit = 20};
    const struct option_row rows[] = {
        {.name = "since",
         .type = OPTION_TEXT,
         .value = &chosen.since,
         .argument = "TIME",
         .help =
             "only batches committed since (2026-11-22T18:30:00Z, 2026-11-22, or 24h for a day ago), only "
             "hours and runs that began since"},
        {.name = "partition",
         .type = OPTION_INTEGER,
         .value = &chosen.partition,
         .argument = "N",
         .help =
             "only this partition of the usage topics; -1: all. Leaves out what knows no partitions, such "
             "as rollups",
         .least = -1,
         .most = INT32_MAX},
        {.name = "limit",
         .type = OPTION_INTEGER,
         .value = &chosen.limit,
         .argument = "N",
         .help = "print at most N differences of each check; all are counted",
         .most = INT64_MAX},
        {0}};
    const struct options options = {
        .about =
            "Proves that the figures are right: every offset of the usage topics is accounted for, raw "
            "events\n"
            "and dead letters are byte for byte what was consumed, rollups and counters equal their sums, "
            "no\n"
            "event is counted twice, each decision follows from the one before. Prints every difference; "
            "exits\n"
            "1 if there is any.\n\n"
            "Reads only, from one snapshot, beside a running pipeline. Every raw event is read about five\n"
            "times, ten million of them in a minute or two, with little memory here and temporary files on\n"
            "the server; a seal that is due waits for its end. The login must be a member of usagebox_writer "
            "or\n"
            "usagebox_owner, for digests are made with the database's secret.",
        .rows = rows};
    return command_run(context, &options, argc, argv, verify, &chosen);
}
