/* What the subcommands of `usagebox dead-letters` share: which rows are meant, and how times come out. */
#ifndef UB_DEAD_LETTERS_H
#define UB_DEAD_LETTERS_H

#include "../rollup/pg.h"
#include "commands.h"
#include "timestamp.h"

struct dead_letter_filter {
    const char *reason; /* NULL: any; so for the others */
    const char *since;
    const char *topic;
    int64_t partition; /* -1: any */
    char since_time[TIMESTAMP_TEXT_BYTES];
    char partition_text[24];
};

/* Option rows of a filter, to stand at the start of a command's table. */
#define DEAD_LETTER_FILTER_ROWS(filter)                                                                      \
    {.name = "reason",                                                                                       \
     .type = OPTION_TEXT,                                                                                    \
     .value = &(filter)->reason,                                                                             \
     .argument = "REASON",                                                                                   \
     .help = "only those refused for this reason, such as key_mismatch"},                                    \
        {.name = "since",                                                                                    \
         .type = OPTION_TEXT,                                                                                \
         .value = &(filter)->since,                                                                          \
         .argument = "TIME",                                                                                 \
         .help = "only those since 2026-11-22T09:30:00Z, or of the last 24h"},                               \
        {.name = "topic",                                                                                    \
         .type = OPTION_TEXT,                                                                                \
         .value = &(filter)->topic,                                                                          \
         .argument = "TOPIC",                                                                                \
         .help = "only those of this topic"},                                                                \
    {                                                                                                        \
        .name = "partition", .type = OPTION_INTEGER, .value = &(filter)->partition, .argument = "N",         \
        .help = "only those of this partition", .least = -1, .most = INT32_MAX                               \
    }

/* $1 to $4 of a statement: reason, since, topic, partition. */
#define DEAD_LETTER_FILTER_SQL                                                                               \
    "($1::text IS NULL OR reason = $1) AND ($2::timestamptz IS NULL OR created_at >= $2::timestamptz) "      \
    "AND ($3::text IS NULL OR topic = $3) AND ($4::int IS NULL OR kafka_partition = $4::int)"
enum { DEAD_LETTER_FILTER_PARAMETERS = 4 };

/* Negative: parameters are filled in, and live as long as the filter; else the exit code, and it was said
 * what is wrong. */
int dead_letter_filter_parse(const struct command_context *context, struct dead_letter_filter *filter,
                             const char *parameters[DEAD_LETTER_FILTER_PARAMETERS]);

/* What to do about a record that was refused for this reason: a sentence. */
const char *dead_letter_hint(struct text reason);

/* A time column as text in UTC. */
#define DEAD_LETTER_TIME_SQL(column) "to_char(" column ", 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"

/* Runs one statement over a connection of its own. NULL: it was said what failed. */
PGresult *dead_letter_query(struct command_context *context, const struct config *config, const char *sql,
                            const char *const *parameters, int count);

int dead_letters_list(struct command_context *context, int argc, char **argv);
int dead_letters_show(struct command_context *context, int argc, char **argv);
int dead_letters_replay(struct command_context *context, int argc, char **argv);

#endif
