#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"

#ifndef USAGEBOX_VERSION
#error "the build says which version this is: -DUSAGEBOX_VERSION"
#endif

/* In the order in which a newcomer needs them. */
static const struct command commands[] = {
    {"run", "take usage in, count it once, enforce ceilings", cmd_run},
    {"migrate", "make the tables, roles and partitions", cmd_migrate},
    {"check", "check the configuration and what it names", cmd_check},
    {"produce", "publish usage events: from a file, standard input or made up", cmd_produce},
    {"ceilings", "limits on use: apply, list", cmd_ceilings},
    {"dead-letters", "refused records: list, show, replay", cmd_dead_letters},
    {"offsets", "how far partitions were read: list, accept, seek, retire, repartition", cmd_offsets},
    {"seal", "seal days, by which PostgreSQL finds their repeats", cmd_seal},
    {"status", "how things stand: lag, totals, days, ceilings", cmd_status},
    {"tail", "accepted events and flags, live", cmd_tail},
    {"verify", "prove that every figure is right", cmd_verify},
    {NULL, NULL, NULL},
};

static const char about[] =
    "UsageBox meters AI usage: it counts every event of Kafka topics exactly once, keeps each for ever in\n"
    "PostgreSQL, sums up what finance bills from, and flags customers who cross their ceilings.\n\n"
    "usagebox --version prints the version. Exit codes: 0 done, 1 failed, 2 wrong usage.";

static int print_version(void)
{
    return puts("usagebox " USAGEBOX_VERSION) == EOF ? EXIT_FAILED : EXIT_DONE;
}

/* What was printed must have arrived: a full disk behind standard output is a failure. */
static int finish(struct command_context *context, int exit_code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_code;
    return exit_code ? exit_code : command_fail(context, EXIT_FAILED, "can't write to standard output");
}

/* Of the three that every program has, those that were closed would be given to the next sockets, and what is
 * printed or logged would go to PostgreSQL or Kafka. Opened the other way round, they fail as closed ones do.
 */
static bool hold_standard_files(void)
{
    static const int modes[] = {
        [STDIN_FILENO] = O_WRONLY, [STDOUT_FILENO] = O_RDONLY, [STDERR_FILENO] = O_RDONLY};
    for (int file = STDIN_FILENO; file <= STDERR_FILENO; file++)
        if (fcntl(file, F_GETFD) < 0 && open("/dev/null", modes[file]) != file)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    struct command_context context = {.name = "usagebox"};
    if (!hold_standard_files())
        return EXIT_FAILED;
    signal(SIGPIPE, SIG_IGN); /* a closed connection or pipe is an error to handle, not the end */
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        return finish(&context, print_version());
    return finish(&context, commands_dispatch(&context, commands, about, argc, argv));
}
