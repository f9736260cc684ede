#include "dead_letter_copy.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../rollup/chore.h"
#include "../rollup/migrate.h"
#include "letter.h"

enum { PAUSE_MS = 1000, NUMBER_BYTES = 24 };

struct dead_letter_copy {
    const struct config *config;
    struct letter_sender *sender;
    struct chore *chore;
};

/* What is sent and marked in one transaction. */
struct chunk {
    struct letter letters[LETTERS_MOST];
    struct numbers {
        char partition[NUMBER_BYTES], offset[NUMBER_BYTES], time_ms[NUMBER_BYTES];
    } numbers[LETTERS_MOST];
    size_t count;
};

static void add(struct letter *letter, struct text name, struct text value)
{
    letter->added[letter->added_count++] = (struct record_header){name, value};
}

static void address(const struct dead_letter_copy *copy, struct letter *letter, struct numbers *numbers)
{
    letter->to_topic = copy->config->kafka.dead_letter_topic;
    letter->to_partition = RD_KAFKA_PARTITION_UA;
    snprintf(numbers->partition, sizeof numbers->partition, "%" PRId32, letter->partition);
    snprintf(numbers->offset, sizeof numbers->offset, "%" PRId64, letter->offset);
    snprintf(numbers->time_ms, sizeof numbers->time_ms, "%" PRId64, letter->record_time_ms);
    add(letter, TEXT("usagebox_reason"), letter->reason);
    add(letter, TEXT("usagebox_detail"), letter->detail);
    add(letter, TEXT("usagebox_topic"), text_of(letter->topic));
    add(letter, TEXT("usagebox_partition"), text_of(numbers->partition));
    add(letter, TEXT("usagebox_offset"), text_of(numbers->offset));
    if (letter->record_time_ms >= 0 && !letter_has_header(letter, "usagebox_time"))
        add(letter, TEXT("usagebox_time"), text_of(numbers->time_ms));
}

static bool is_over(void *chore)
{
    return chore_is_stopping(chore);
}

/* A batch that is too large fails as a whole, whatever each of its messages would have come to. */
static void send_alone(const struct dead_letter_copy *copy, struct chore *chore, struct letter *letter)
{
    letter->hopeless = false;
    letter_send(copy->sender, letter);
    letters_wait(copy->sender, is_over, chore);
}

static void send_all(const struct dead_letter_copy *copy, struct chore *chore, struct chunk *chunk)
{
    for (size_t i = 0; i < chunk->count; i++) {
        address(copy, &chunk->letters[i], &chunk->numbers[i]);
        letter_send(copy->sender, &chunk->letters[i]);
    }
    letters_wait(copy->sender, is_over, chore);
    for (size_t i = 0; i < chunk->count; i++)
        if (chunk->letters[i].hopeless)
            send_alone(copy, chore, &chunk->letters[i]);
}

/* One that the brokers never take stays in PostgreSQL alone: it must not hold up those behind it. */
static const char *give_hopeless_up(struct chunk *chunk)
{
    const char *trouble = NULL;
    for (size_t i = 0; i < chunk->count; i++) {
        struct letter *letter = &chunk->letters[i];
        if (letter->hopeless) {
            letter->delivered = true;
            log_error("a dead letter can't be copied: it stays in PostgreSQL only",
                      LOG_INT("dead_letter_id", letter->id), LOG_TEXT("detail", letter->trouble));
        }
        if (!letter->delivered)
            trouble = letter->trouble;
    }
    return trouble;
}

static bool mark(struct pg *pg, const struct chunk *chunk)
{
    char ids[LETTERS_IDS_BYTES];
    letters_delivered(chunk->letters, chunk->count, ids);
    PG_RESULT *result =
        pg_query(pg, "UPDATE dead_letter SET copied_at = now() WHERE dead_letter_id = ANY ($1::bigint[])",
                 (const char *[]){ids}, 1);
    return result && pg_commit(pg);
}

static bool copy_rows(const struct dead_letter_copy *copy, struct chore *chore, struct pg *pg,
                      const PGresult *result)
{
    struct chunk chunk = {.count = 0};
    size_t rows = (size_t)PQntuples(result);
    while (chunk.count < rows && letter_of(result, (int)chunk.count, &chunk.letters[chunk.count]))
        chunk.count++;
    bool done = chunk.count == rows || pg_fail(pg, PG_PASSING, "out of memory");
    if (done) {
        send_all(copy, chore, &chunk);
        const char *trouble = give_hopeless_up(&chunk);
        done = mark(pg, &chunk) && (!trouble || pg_fail(pg, PG_PASSING, "%s: %s",
                                                        copy->config->kafka.dead_letter_topic, trouble));
    }
    for (size_t i = 0; i < chunk.count; i++)
        letter_free(&chunk.letters[i]);
    return done;
}

/* Rows that another process is copying are passed by. */
static bool copy_chunk(const struct dead_letter_copy *copy, struct chore *chore, struct pg *pg, bool *more)
{
    static const char sql[] = "SELECT " LETTER_COLUMNS " FROM dead_letter WHERE copied_at IS NULL "
                              "ORDER BY dead_letter_id LIMIT 50 FOR UPDATE SKIP LOCKED";
    if (!pg_run(pg, "BEGIN"))
        return false;
    PG_RESULT *result = pg_query(pg, sql, NULL, 0);
    if (!result)
        return false;
    *more = PQntuples(result) > 0;
    return *more ? copy_rows(copy, chore, pg, result) : pg_commit(pg);
}

static bool turn(void *self, struct chore *chore, struct pg *pg)
{
    bool more = true;
    while (more && !chore_is_stopping(chore))
        if (!copy_chunk(self, chore, pg, &more))
            return false;
    return true;
}

static bool open_writer(struct pg *pg, const char *dsn, const char *name)
{
    if (!pg_open(pg, dsn, name))
        return false;
    if (migrate_check(pg, migrations))
        return true;
    pg_close(pg);
    return false;
}

struct dead_letter_copy *dead_letter_copy_start(const struct config *config, char error[KAFKA_ERROR_BYTES])
{
    snprintf(error, KAFKA_ERROR_BYTES, "no memory or no thread to be had");
    struct dead_letter_copy *copy = calloc(1, sizeof *copy);
    if (!copy)
        return NULL;
    copy->config = config;
    copy->sender = letter_sender_new(config, error);
    const struct chore_options chore = {.name = "usagebox dead letters",
                                        .open = open_writer,
                                        .dsn = config->postgres.dsn,
                                        .pause_ms = PAUSE_MS,
                                        .turn = turn,
                                        .self = copy};
    if (copy->sender)
        copy->chore = chore_start(&chore);
    if (copy->chore)
        return copy;
    dead_letter_copy_stop(copy);
    return NULL;
}

void dead_letter_copy_stop(struct dead_letter_copy *copy)
{
    if (!copy)
        return;
    chore_stop(copy->chore);
    letter_sender_free(copy->sender);
    free(copy);
}
