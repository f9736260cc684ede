#include "commands.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "nearest.h"
#include "printable.h"

enum { SHARED_ROWS = 3 };

static void shared_rows(struct command_context *context, struct option_row rows[SHARED_ROWS])
{
    rows[0] = (struct option_row){.name = "config",
                                  .letter = 'c',
                                  .type = OPTION_TEXT,
                                  .value = &context->config_path,
                                  .argument = "FILE",
                                  .help = "read FILE instead of ./config.yaml or /etc/usagebox/config.yaml"};
    rows[1] = (struct option_row){
        .name = "json", .type = OPTION_FLAG, .value = &context->json, .help = "print the result as JSON"};
    rows[2] = (struct option_row){.name = NULL};
}

int command_fail(const struct command_context *context, int exit_code, const char *format, ...)
{
    char sentence[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s: ", context->name);
    printable_write(PRINTABLE_PLAIN, text_of(sentence), stderr);
    fputc('\n', stderr);
    return exit_code;
}

int command_options(struct command_context *context, const struct options *options, int argc, char **argv,
                    int *first_operand)
{
    struct option_row shared[SHARED_ROWS];
    shared_rows(context, shared);
    struct options all = *options;
    all.shared = shared;
    switch (options_parse(context->name, &all, argc, argv, first_operand)) {
    case OPTIONS_PARSED:
        return -1;
    case OPTIONS_HELP:
        options_help(context->name, &all, stdout);
        return EXIT_DONE;
    case OPTIONS_WRONG:
        break;
    }
    return EXIT_USAGE;
}

bool command_config(struct command_context *context, struct config *config)
{
    struct config_errors errors = {0};
    bool loaded = config_load(context->config_path, config, &errors);
    for (size_t i = 0; i < errors.count; i++)
        fprintf(stderr, "%s\n", errors.items[i]);
    config_errors_free(&errors);
    if (loaded)
        log_configure(config->log.level, config->log.format);
    return loaded;
}

int command_run(struct command_context *context, const struct options *options, int argc, char **argv,
                command_body body, const void *chosen)
{
    struct config config;
    int first = argc;
    int code = command_options(context, options, argc, argv, &first);
    if (code >= 0)
        return code;
    if (!command_config(context, &config))
        return EXIT_FAILED;
    code = body(context, &config, chosen, argc - first, argv + first);
    config_free(&config);
    return code;
}

static void print_commands(const struct command_context *context, const struct command *table,
                           const char *about, FILE *out)
{
    fprintf(out, "usage: %s [-c FILE] [--json] COMMAND [OPTION…]\n\n%s\n\ncommands:\n", context->name, about);
    for (; table->name; table++)
        fprintf(out, "  %-14s%s\n", table->name, table->summary);
    fprintf(out, "  %-14s%s\n", "help", "explain a command");
    fprintf(out, "\n%s COMMAND --help explains a command and its options.\n", context->name);
}

static const struct command *find_command(const struct command_context *context, const struct command *table,
                                          const char *name)
{
    struct nearest nearest = {.word = name};
    nearest_try(&nearest, "help");
    for (; table->name; table++) {
        if (strcmp(table->name, name) == 0)
            return table;
        nearest_try(&nearest, table->name);
    }
    if (nearest.best)
        command_fail(context, EXIT_USAGE, "unknown command \"%s\", did you mean %s?", name, nearest.best);
    else
        command_fail(context, EXIT_USAGE, "unknown command \"%s\" (%s help lists the commands)", name,
                     context->name);
    return NULL;
}

static int run_command(struct command_context *context, const struct command *table, int argc, char **argv)
{
    const struct command *command = find_command(context, table, argv[0]);
    if (!command)
        return EXIT_USAGE;
    size_t used = strlen(context->name);
    snprintf(context->name + used, sizeof context->name - used, " %s", command->name);
    return command->run(context, argc, argv);
}

int commands_dispatch(struct command_context *context, const struct command *table, const char *about,
                      int argc, char **argv)
{
    struct option_row shared[SHARED_ROWS];
    shared_rows(context, shared);
    struct options options = {.operands = "COMMAND", .shared = shared, .stop_at_operand = true};
    int first = argc;
    enum options_outcome outcome = options_parse(context->name, &options, argc, argv, &first);
    if (outcome == OPTIONS_WRONG)
        return EXIT_USAGE;
    bool help = outcome == OPTIONS_PARSED && first < argc && strcmp(argv[first], "help") == 0;
    bool topic = help && first + 1 < argc && strcmp(argv[first + 1], "help") != 0;
    if (outcome == OPTIONS_HELP || (help && !topic)) {
        print_commands(context, table, about, stdout);
        return EXIT_DONE;
    }
    if (first == argc) {
        print_commands(context, table, about, stderr);
        return EXIT_USAGE;
    }
    if (help) /* "help verify" is "verify --help" */
        return run_command(context, table, 2, (char *[]){argv[first + 1], "--help", NULL});
    return run_command(context, table, argc - first, argv + first);
}
