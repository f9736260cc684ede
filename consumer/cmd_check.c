#include "check.h"
#include "commands.h"
#include "tables.h"

struct check_options {
    bool config_only;
    bool print;
    bool keys;
    int64_t timeout_us;
};

enum { DEFAULT_TIMEOUT_S = 10 };

static int print_findings(const struct command_context *context, const struct findings *findings)
{
    bool printed = !findings->out_of_memory;
    if (context->json)
        printed = json_print(findings_json(findings), stdout);
    else
        findings_print(findings, stdout);
    if (!printed)
        return command_fail(context, EXIT_FAILED, "out of memory");
    return findings->counts[FINDING_ERROR] > 0 ? EXIT_FAILED : EXIT_DONE;
}

static void check_servers(const struct config *config, int64_t timeout_us, struct findings *findings)
{
    struct check check = {.config = config, .findings = findings, .timeout_ms = (int)(timeout_us / 1000)};
    check_kafka(&check);
    check_postgres(&check);
    check_positions(&check);
    check_close(&check);
}

static int check_all(const struct command_context *context, const struct config *config,
                     const struct check_options *options)
{
    struct findings findings = {0};
    log_configure(config->log.level, config->log.format);
    if (!options->config_only)
        check_servers(config, options->timeout_us, &findings);
    if (!context->json)
        printf("%s: configuration is valid\n", config->path);
    int code = context->json || !options->config_only ? print_findings(context, &findings) : EXIT_DONE;
    findings_free(&findings);
    return code;
}

/* Each sentence names its place itself, as file:line:column. */
static int refuse_config(const struct command_context *context, const struct config_errors *errors)
{
    struct findings findings = {0};
    for (size_t i = 0; i < errors->count; i++)
        if (context->json)
            findings_add(&findings, FINDING_ERROR, "configuration", "%s", errors->items[i]);
        else
            printf("%s\n", errors->items[i]);
    if (context->json)
        print_findings(context, &findings);
    findings_free(&findings);
    return EXIT_FAILED;
}

static int check_config(const struct command_context *context, const struct check_options *options)
{
    struct config config;
    struct config_errors errors = {0};
    int code = EXIT_DONE;
    bool valid = config_load(context->config_path, &config, &errors);
    if (!valid)
        code = refuse_config(context, &errors);
    else if (options->print)
        config_print(&config, stdout);
    else
        code = check_all(context, &config, options);
    config_errors_free(&errors);
    if (valid)
        config_free(&config);
    return code;
}

int cmd_check(struct command_context *context, int argc, char **argv)
{
    struct check_options chosen = {.timeout_us = DEFAULT_TIMEOUT_S * INT64_C(1000000)};
    const struct option_row rows[] = {
        {.name = "config-only",
         .type = OPTION_FLAG,
         .value = &chosen.config_only,
         .help = "check the configuration only, connect to nothing"},
        {.name = "print",
         .type = OPTION_FLAG,
         .value = &chosen.print,
         .help = "print the configuration in force, secrets redacted; implies --config-only"},
        {.name = "keys",
         .type = OPTION_FLAG,
         .value = &chosen.keys,
         .help = "print the reference of all configuration keys"},
        {.name = "timeout",
         .type = OPTION_DURATION,
         .value = &chosen.timeout_us,
         .argument = "DURATION",
         .help = "how long to wait for each of Kafka's answers",
         .least = 100000,
         .most = INT64_C(600000000)},
        {.name = NULL}};
    const struct options options = {
        .about =
            "Checks the configuration, the servers that it names, topics, privileges, schema and positions,\n"
            "and says of each finding what to do. Reads only. Exits 1 if there is an error.",
        .rows = rows};
    int first;
    int exit_code = command_options(context, &options, argc, argv, &first);
    if (exit_code >= 0)
        return exit_code;
    if (chosen.keys) {
        config_document(stdout);
        return EXIT_DONE;
    }
    return check_config(context, &chosen);
}
