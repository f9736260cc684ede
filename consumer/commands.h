/* The commands: one row each in main.c's table, one file each (cmd_NAME.c). Here is what they share: the
 * global options, loading the configuration, and choosing a command by its name, which commands with
 * subcommands use too. */
#ifndef UB_COMMANDS_H
#define UB_COMMANDS_H

#include "config.h"
#include "options.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct command_context {
    char name[64];           /* "usagebox ceilings apply": what messages start with */
    const char *config_path; /* --config; NULL: the search path */
    bool json;               /* --json */
};

struct command {
    const char *name;    /* NULL ends a table */
    const char *summary; /* one line */
    int (*run)(struct command_context *context, int argc,
               char **argv); /* argv[0] is the name; returns an exit code */
};

/* Runs the command that argv[0] names. An unknown name gets the nearest one suggested; none, "help" or --help
 * lists the table; "help NAME" is NAME --help. */
int commands_dispatch(struct command_context *context, const struct command *table, const char *about,
                      int argc, char **argv);

/* Parses a command's own options and the global ones. Negative: go on, operands start at
 * argv[*first_operand]; else return it as the command's exit code (help was printed, or one line said what is
 * wrong). */
int command_options(struct command_context *context, const struct options *options, int argc, char **argv,
                    int *first_operand);

/* Loads the configuration and sets the log up as it says. False: everything wrong with it was printed; return
 * EXIT_FAILED. */
bool command_config(struct command_context *context, struct config *config);

/* What most commands are: options, then the configuration, then the body with what is left of the arguments.
 * chosen: where the options' rows point into. */
typedef int (*command_body)(struct command_context *context, const struct config *config, const void *chosen,
                            int operand_count, char **operands);
int command_run(struct command_context *context, const struct options *options, int argc, char **argv,
                command_body body, const void *chosen);

/* Prints "NAME: sentence" on standard error. Returns exit_code. */
int command_fail(const struct command_context *context, int exit_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

int cmd_run(struct command_context *context, int argc, char **argv);
int cmd_migrate(struct command_context *context, int argc, char **argv);
int cmd_check(struct command_context *context, int argc, char **argv);
int cmd_offsets(struct command_context *context, int argc, char **argv);
int cmd_repartition(struct command_context *context, int argc, char **argv); /* of offsets */
int cmd_retire(struct command_context *context, int argc, char **argv);      /* of offsets */
int cmd_produce(struct command_context *context, int argc, char **argv);
int cmd_dead_letters(struct command_context *context, int argc, char **argv);
int cmd_seal(struct command_context *context, int argc, char **argv);
int cmd_ceilings(struct command_context *context, int argc, char **argv);
int cmd_status(struct command_context *context, int argc, char **argv);
int cmd_tail(struct command_context *context, int argc, char **argv);
int cmd_verify(struct command_context *context, int argc, char **argv);

#endif
