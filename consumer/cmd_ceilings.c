#include <jansson.h>
#include <stdlib.h>

#include "../rollup/ceiling_apply.h"
#include "../rollup/migrate.h"
#include "../rollup/owner.h"
#include "actor.h"
#include "commands.h"
#include "listing.h"

static int finish(struct command_context *context, bool printed)
{
    return printed ? EXIT_DONE : command_fail(context, EXIT_FAILED, "out of memory");
}

/* apply -------------------------------------------------------------------------------------------------- */

static const struct table_column applied_columns[] = {{"change", TABLE_TEXT},
                                                      {"ceiling", TABLE_TEXT},
                                                      {"version", TABLE_INTEGER},
                                                      {"what", TABLE_TEXT},
                                                      {NULL, 0}};

static bool add_applied(void *table, const struct ceiling_applied *applied)
{
    char version[24];
    int length = snprintf(version, sizeof version, "%lld", (long long)applied->version);
    struct text none = {NULL, 0};
    const struct text cells[] = {text_of(ceiling_verdict_names[applied->verdict]),
                                 applied->name,
                                 {version, (uint32_t)length},
                                 *applied->changes ? text_of(applied->changes) : none};
    return table_add(table, cells);
}

static json_t *counts_json(const struct ceiling_apply *apply)
{
    json_t *counts = json_object();
    for (int i = 0; i < CEILING_VERDICTS; i++)
        if (json_object_set_new(counts, ceiling_verdict_names[i], json_integer((json_int_t)apply->counts[i])))
            break;
    return counts;
}

static bool print_applied(const struct command_context *context, const struct ceiling_apply *apply,
                          const struct table *table)
{
    const size_t *counts = apply->counts;
    if (context->json)
        return json_print(json_pack("{s:b, s:I, s:o, s:o}", "dry_run", apply->dry_run, "generation",
                                    (json_int_t)apply->generation, "counts", counts_json(apply), "ceilings",
                                    table_json(table)),
                          stdout);
    table_print(table, stdout);
    printf("%s%zu added, %zu changed, %zu retired, %zu unchanged; generation %lld\n",
           apply->dry_run ? "dry run, nothing written: " : "", counts[CEILING_ADDED], counts[CEILING_CHANGED],
           counts[CEILING_RETIRED], counts[CEILING_UNCHANGED], (long long)apply->generation);
    return true;
}

static int apply_config(struct command_context *context, const struct config *config, const void *dry_run,
                        int operand_count, char **operands)
{
    (void)operand_count, (void)operands;
    char actor[ACTOR_BYTES];
    struct pg pg = {0};
    struct table *table = table_new(applied_columns);
    struct ceiling_apply apply = {.wanted = config->ceilings.items,
                                  .wanted_count = config->ceilings.count,
                                  .actor = actor_name(actor),
                                  .dry_run = *(const bool *)dry_run,
                                  .said = add_applied,
                                  .context = table};
    if (!table)
        return finish(context, false);
    bool applied = owner_open(&pg, config->postgres.owner_dsn, context->name) && ceiling_apply(&pg, &apply);
    pg_close(&pg);
    int code = applied ? finish(context, print_applied(context, &apply, table))
                       : command_fail(context, EXIT_FAILED, "%s", pg.failure.detail);
    table_free(table);
    return code;
}

static int cmd_apply(struct command_context *context, int argc, char **argv)
{
    bool dry_run = false;
    const struct option_row rows[] = {{.name = "dry-run",
                                       .type = OPTION_FLAG,
                                       .value = &dry_run,
                                       .help = "say what would change, change nothing"},
                                      {0}};
    const struct options options = {
        .about =
            "Brings the ceilings of the configuration into force. What differs gets a new version, what is\n"
            "gone from the configuration is retired. Running processes adopt it within seconds.",
        .rows = rows};
    return command_run(context, &options, argc, argv, apply_config, &dry_run);
}

/* list --------------------------------------------------------------------------------------------------- */

static const struct table_column listed_columns[] = {
    {"ceiling", TABLE_TEXT},    {"version", TABLE_INTEGER},
    {"who", TABLE_TEXT},        {"scope", TABLE_TEXT},
    {"meter", TABLE_TEXT},      {"period", TABLE_TEXT},
    {"limit", TABLE_DECIMAL},   {"clear_level", TABLE_DECIMAL},
    {"policy", TABLE_TEXT},     {"over_now", TABLE_INTEGER},
    {"since", TABLE_TEXT},      {"retired", TABLE_TEXT},
    {"applied_by", TABLE_TEXT}, {NULL, 0}};

/* All as text, in the order of listed_columns. A customer is over a ceiling while its state is active in a
 * period that goes on. $1: retired ones too. */
static const char list_sql[] =
    "SELECT c.name, c.version::text, CASE who_kind WHEN 'everyone' THEN '*' WHEN 'plan' THEN 'plan ' || who "
    "ELSE who END, c.scope, c.meter, c.period, trim_scale(c.limit_quantity)::text, "
    "trim_scale(c.clear_level)::text, c.policy, "
    "CASE WHEN c.retired_at IS NULL THEN coalesce(o.customers, 0)::text END, "
    "to_char(c.created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), "
    "to_char(c.retired_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), c.applied_by "
    "FROM ceiling c LEFT JOIN (SELECT ceiling, count(DISTINCT customer_id) AS customers FROM ceiling_state "
    "WHERE active AND period_end > now() GROUP BY ceiling) o ON o.ceiling = c.name "
    "WHERE c.retired_at IS NULL OR $1::boolean ORDER BY c.name, c.version";

static int list_ceilings(struct command_context *context, const struct config *config, const void *all,
                         int operand_count, char **operands)
{
    (void)operand_count, (void)operands;
    const struct listing listing = {
        .columns = listed_columns,
        .sql = list_sql,
        .parameters = (const char *[]){*(const bool *)all ? "true" : "false"},
        .parameter_count = 1,
        .if_none = "no ceilings are in force: usagebox ceilings apply brings those of the configuration into "
                   "force"};
    return listing_run(context, config, &listing);
}

static int cmd_list(struct command_context *context, int argc, char **argv)
{
    bool all = false;
    const struct option_row rows[] = {
        {.name = "all", .type = OPTION_FLAG, .value = &all, .help = "retired versions too"}, {0}};
    const struct options options = {
        .about = "Lists the ceilings in force and how many customers are over each of them now.",
        .rows = rows};
    return command_run(context, &options, argc, argv, list_ceilings, &all);
}

int cmd_ceilings(struct command_context *context, int argc, char **argv)
{
    static const struct command commands[] = {
        {"apply", "bring the configuration's ceilings into force", cmd_apply},
        {"list", "list the ceilings in force, and who is over them", cmd_list},
        {NULL, NULL, NULL}};
    return commands_dispatch(context, commands, "Ceilings: who may use how much of a meter in a period.",
                             argc, argv);
}
