/* What the command line promises: options anywhere, one clear line about a wrong one, help that can't drift
 * from what is parsed; and tables and JSON from the same rows. */
#include <check.h>
#include <stdlib.h>
#include <unistd.h>
#include <stdio.h>

#include "commands.h"
#include "tables.h"
#include "suite.h"

enum { ARGUMENTS_LIMIT = 16 };

struct words {
    char *items[ARGUMENTS_LIMIT];
    int count;
};

/* Splits at spaces; the words live until the next split. */
static struct words split(const char *text)
{
    static char copy[256];
    struct words words = {0};
    snprintf(copy, sizeof copy, "%s", text);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        words.items[words.count++] = word;
    return words;
}

static char output[65536];

/* Runs body with file descriptor fd in a temporary file; what it wrote is in output. */
#define CAPTURE(stream, body)                                                                                \
    do {                                                                                                     \
        int fd_ = fileno(stream), saved_ = dup(fd_);                                                         \
        FILE *file_ = tmpfile();                                                                             \
        fflush(stream);                                                                                      \
        dup2(fileno(file_), fd_);                                                                            \
        body;                                                                                                \
        fflush(stream);                                                                                      \
        dup2(saved_, fd_);                                                                                   \
        close(saved_);                                                                                       \
        rewind(file_);                                                                                       \
        output[fread(output, 1, sizeof output - 1, file_)] = 0;                                              \
        fclose(file_);                                                                                       \
    } while (0)

struct values {
    bool flag;
    const char *text;
    int64_t integer, duration_us, size_bytes;
    int first_operand;
    enum options_outcome outcome;
};

static struct values parse(const char *line, const char *operands)
{
    struct values values = {.duration_us = 5000000};
    struct words words = split(line);
    const struct option_row rows[] = {
        {.name = "flag", .letter = 'f', .type = OPTION_FLAG, .value = &values.flag, .help = "a flag"},
        {"text", 't', OPTION_TEXT, &values.text, "WORD", "a text", 0, 0},
        {"rate", 0, OPTION_INTEGER, &values.integer, "N", "a number", 1, 1000},
        {"wait", 'w', OPTION_DURATION, &values.duration_us, "TIME", "a duration", 0, 0},
        {"size", 0, OPTION_SIZE, &values.size_bytes, "SIZE", "a size", 1024, 1 << 30},
        {.name = NULL}};
    const struct options options = {.operands = operands, .about = "Tries.", .rows = rows};
    CAPTURE(stderr, values.outcome = options_parse("usagebox try", &options, words.count, words.items,
                                                   &values.first_operand));
    if (values.outcome == OPTIONS_HELP)
        CAPTURE(stdout, options_help("usagebox try", &options, stdout));
    return values;
}

START_TEST(options_may_stand_before_after_and_between_operands)
{
    struct values values = parse("try one -ft word two --rate=7 --size 64KiB -w 2m", "FILE…");
    ck_assert_int_eq(values.outcome, OPTIONS_PARSED);
    ck_assert(values.flag);
    ck_assert_str_eq(values.text, "word");
    ck_assert_int_eq(values.integer, 7);
    ck_assert_int_eq(values.duration_us, 120000000);
    ck_assert_int_eq(values.size_bytes, 65536);
    ck_assert_int_eq(values.first_operand, 8);
}
END_TEST

START_TEST(two_dashes_end_the_options)
{
    struct values values = parse("try -- --flag", "FILE…");
    ck_assert_int_eq(values.outcome, OPTIONS_PARSED);
    ck_assert(!values.flag);
    ck_assert_int_eq(values.first_operand, 2);
}
END_TEST

START_TEST(an_absent_option_keeps_its_default)
{
    ck_assert_int_eq(parse("try", NULL).duration_us, 5000000);
}
END_TEST

static const struct {
    const char *line;
    const char *message;
} wrong[] = {
    {"try --flg", "unknown option --flg, did you mean --flag?"},
    {"try --entirely-else=5", "unknown option --entirely-else"},
    {"try -x", "unknown option -x"},
    {"try -fx", "unknown option -x"},
    {"try --flag=1", "--flag takes no argument"},
    {"try --text", "--text needs an argument"},
    {"try -t", "--text needs an argument"},
    {"try --rate 0", "--rate: expected an integer from 1 to 1000, found \"0\""},
    {"try --rate many", "--rate: expected an integer from 1 to 1000, found \"many\""},
    {"try --wait 5", "--wait: expected a duration such as 30s, found \"5\""},
    {"try --size 2GiB", "--size: expected a size from 1KiB to 1GiB, found \"2GiB\""},
    {"try operand", "takes no arguments, found \"operand\""},
    {"try \x1b[2J", "takes no arguments, found \"\\x1b[2J\""},
};

START_TEST(a_wrong_option_is_said_in_one_line)
{
    ck_assert_int_eq(parse(wrong[_i].line, NULL).outcome, OPTIONS_WRONG);
    char expected[256];
    snprintf(expected, sizeof expected, "usagebox try: %s (usagebox try --help lists the options)\n",
             wrong[_i].message);
    ck_assert_str_eq(output, expected);
}
END_TEST

START_TEST(help_shows_each_option_with_its_default)
{
    ck_assert_int_eq(parse("try --help", NULL).outcome, OPTIONS_HELP);
    ck_assert_str_eq(output, "usage: usagebox try [OPTION…]\n\nTries.\n\noptions:\n"
                             "  -f, --flag                  a flag\n"
                             "  -t, --text WORD             a text\n"
                             "      --rate N                a number\n"
                             "  -w, --wait TIME             a duration (default 5s)\n"
                             "      --size SIZE             a size\n"
                             "  -h, --help                  show this help\n");
}
END_TEST

/* A command that says how it was called. */
static int run_echo(struct command_context *context, int argc, char **argv)
{
    const struct options options = {.operands = "WORD…", .about = "Echoes."};
    int first;
    int exit_code = command_options(context, &options, argc, argv, &first);
    if (exit_code >= 0)
        return exit_code;
    printf("%s config=%s json=%d operands=%d\n", context->name,
           context->config_path ? context->config_path : "", context->json, argc - first);
    return EXIT_DONE;
}

static int run_group(struct command_context *context, int argc, char **argv)
{
    static const struct command table[] = {{"echo", "echoes", run_echo}, {NULL, NULL, NULL}};
    return commands_dispatch(context, table, "A group.", argc, argv);
}

static int dispatch(const char *line, bool errors)
{
    static const struct command table[] = {
        {"echo", "echoes", run_echo}, {"group", "has subcommands", run_group}, {NULL, NULL, NULL}};
    struct command_context context = {.name = "usagebox"};
    struct words words = split(line);
    int exit_code;
    CAPTURE(errors ? stderr : stdout,
            exit_code = commands_dispatch(&context, table, "Tries.", words.count, words.items));
    return exit_code;
}

START_TEST(global_options_may_stand_before_and_after_the_command)
{
    ck_assert_int_eq(dispatch("usagebox -c a --json echo x", false), EXIT_DONE);
    ck_assert_str_eq(output, "usagebox echo config=a json=1 operands=1\n");
    ck_assert_int_eq(dispatch("usagebox echo x y --config a", false), EXIT_DONE);
    ck_assert_str_eq(output, "usagebox echo config=a json=0 operands=2\n");
    ck_assert_int_eq(dispatch("usagebox -c a group --json echo", false), EXIT_DONE);
    ck_assert_str_eq(output, "usagebox group echo config=a json=1 operands=0\n");
}
END_TEST

START_TEST(help_can_be_asked_for_in_every_way)
{
    ck_assert_int_eq(dispatch("usagebox help", false), EXIT_DONE);
    ck_assert_ptr_nonnull(strstr(output, "  echo          echoes\n  group         has subcommands\n  help "));
    char *listing = strdup(output);
    ck_assert_int_eq(dispatch("usagebox --help", false), EXIT_DONE);
    ck_assert_str_eq(output, listing);
    ck_assert_int_eq(dispatch("usagebox", true), EXIT_USAGE);
    ck_assert_str_eq(output, listing);
    free(listing);
    ck_assert_int_eq(dispatch("usagebox echo --help", false), EXIT_DONE);
    ck_assert_ptr_nonnull(strstr(output, "usage: usagebox echo [OPTION…] WORD…\n\nEchoes.\n"));
    ck_assert_ptr_nonnull(strstr(output, "-c, --config FILE"));
    listing = strdup(output);
    ck_assert_int_eq(dispatch("usagebox help echo", false), EXIT_DONE);
    ck_assert_str_eq(output, listing);
    free(listing);
    ck_assert_int_eq(dispatch("usagebox group help echo", false), EXIT_DONE);
    ck_assert_ptr_nonnull(strstr(output, "usage: usagebox group echo"));
}
END_TEST

START_TEST(an_unknown_command_gets_the_nearest_suggested)
{
    ck_assert_int_eq(dispatch("usagebox ehco", true), EXIT_USAGE);
    ck_assert_str_eq(output, "usagebox: unknown command \"ehco\", did you mean echo?\n");
    ck_assert_int_eq(dispatch("usagebox help xyzzy", true), EXIT_USAGE);
    ck_assert_str_eq(output, "usagebox: unknown command \"xyzzy\" (usagebox help lists the commands)\n");
}
END_TEST

static const struct table_column columns[] = {{"customer_id", TABLE_TEXT},
                                              {"events", TABLE_INTEGER},
                                              {"used", TABLE_DECIMAL},
                                              {"active", TABLE_BOOL},
                                              {NULL, TABLE_TEXT}};

static struct table *filled_table(void)
{
    struct table *table = table_new(columns);
    ck_assert(table_add(table, (struct text[]){TEXT("Zoë"), TEXT("12"), TEXT("0.5"), TEXT("true")}));
    ck_assert(table_add(table, (struct text[]){TEXT("a\n\xff"), TEXT("3"), {NULL, 0}, TEXT("false")}));
    return table;
}

START_TEST(a_table_is_aligned_and_safe_to_show)
{
    struct table *table = filled_table();
    CAPTURE(stdout, table_print(table, stdout));
    ck_assert_str_eq(output, "customer_id  events  used  active\n"
                             "Zoë              12   0.5  true\n"
                             "a\\n\\xff           3     -  false\n");
    table_free(table);
}
END_TEST

START_TEST(a_table_is_json_too)
{
    struct table *table = filled_table();
    CAPTURE(stdout, ck_assert(json_print(table_json(table), stdout)));
    json_t *found = json_loads(output, 0, NULL);
    json_t *expected =
        json_pack("[{s:s, s:i, s:s, s:b}, {s:s, s:i, s:n, s:b}]", "customer_id", "Zoë", "events", 12, "used",
                  "0.5", "active", 1, "customer_id", "a\\n\\xff", "events", 3, "used", "active", 0);
    ck_assert(json_equal(found, expected));
    json_decref(found);
    json_decref(expected);
    table_free(table);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, options_may_stand_before_after_and_between_operands);
    tcase_add_test(tests, two_dashes_end_the_options);
    tcase_add_test(tests, an_absent_option_keeps_its_default);
    tcase_add_loop_test(tests, a_wrong_option_is_said_in_one_line, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(tests, help_shows_each_option_with_its_default);
    tcase_add_test(tests, global_options_may_stand_before_and_after_the_command);
    tcase_add_test(tests, help_can_be_asked_for_in_every_way);
    tcase_add_test(tests, an_unknown_command_gets_the_nearest_suggested);
    tcase_add_test(tests, a_table_is_aligned_and_safe_to_show);
    tcase_add_test(tests, a_table_is_json_too);
}

int main(void)
{
    return run_suite("options", add_tests);
}
