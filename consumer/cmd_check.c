#include <jansson.h>

#include "commands.h"
#include "tables.h"

struct check_options {
    bool config_only;
    bool print;
    bool keys;
};

/* {"valid": false, "findings": [{"check": "configuration", "text": "config.yaml:12:5: …"}]} */
static bool print_json(const struct config_errors *errors)
{
    json_t *findings = json_array();
    for (size_t i = 0; i < errors->count; i++) {
        json_t *finding = json_pack("{s:s, s:s}", "check", "configuration", "text", errors->items[i]);
        if (json_array_append_new(findings, finding) != 0) {
            json_decref(findings);
            return false;
        }
    }
    return json_print(json_pack("{s:b, s:o}", "valid", errors->count == 0, "findings", findings), stdout);
}

static int check_config(const struct command_context *context, const struct check_options *options)
{
    struct config config;
    struct config_errors errors = {0};
    bool valid = config_load(context->config_path, &config, &errors);
    bool printed = true;
    if (context->json)
        printed = print_json(&errors);
    for (size_t i = 0; i < errors.count && !context->json; i++)
        printf("%s\n", errors.items[i]);
    if (valid && !context->json && options->print)
        config_print(&config, stdout);
    else if (valid && !context->json)
        printf("%s: configuration is valid\n", config.path);
    config_errors_free(&errors);
    if (valid)
        config_free(&config);
    if (!printed)
        return command_fail(context, EXIT_FAILED, "out of memory");
    return valid ? EXIT_DONE : EXIT_FAILED;
}

int cmd_check(struct command_context *context, int argc, char **argv)
{
    struct check_options chosen = {0};
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
        {.name = NULL}};
    const struct options options = {.about = "Checks the configuration and says of each finding what to do.\n"
                                             "Exits 1 if there is any.",
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
