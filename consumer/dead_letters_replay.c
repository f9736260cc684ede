#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#include "../rollup/migrate.h"
#include "dead_letters.h"
#include "progress.h"
#include "replay.h"
#include "tables.h"
#include "units.h"

enum { ID_BYTES = 21 };
enum { WITH_IDS = DEAD_LETTER_FILTER_PARAMETERS, WITH_AGAIN, WITH_AFTER, WITH_UNTIL, PARAMETERS };

struct replay_choice {
    struct dead_letter_filter filter;
    bool all, again, force, dry_run;
};

/* One run. */
struct replaying {
    struct command_context *context;
    struct replay_choice choice;
    const char *parameters[PARAMETERS];
    char *ids; /* "{1,2}" as they were given; NULL: by the filter */
    struct pg pg;
    struct letter_sender *sender;
    struct replay *replay;
    struct table *table;
    struct progress progress;
    char after[ID_BYTES], until[ID_BYTES]; /* dead_letter_ids: the rows to come */
    int64_t chosen, sent, skipped, failed;
};

static const struct table_column columns[] = {{"id", TABLE_INTEGER},
                                              {"replayed", TABLE_BOOL},
                                              {"topic", TABLE_TEXT},
                                              {"partition", TABLE_INTEGER},
                                              {"key", TABLE_TEXT},
                                              {"detail", TABLE_TEXT},
                                              {NULL, 0}};

/* $5: the ids, or null; $6: those replayed before, too; $7: behind this one. */
#define CHOSEN_SQL                                                                                           \
    "FROM dead_letter WHERE " DEAD_LETTER_FILTER_SQL " AND ($5::bigint[] IS NULL OR dead_letter_id = ANY "   \
    "($5::bigint[])) AND ($6::boolean OR replayed_at IS NULL) AND dead_letter_id > $7::bigint"
static const char count_sql[] =
    "SELECT count(*), coalesce(max(dead_letter_id), 0)::text, "
    "coalesce((SELECT value FROM setting WHERE name = 'partitioner'), '') " CHOSEN_SQL;
static const char chunk_sql[] = "SELECT " LETTER_COLUMNS " " CHOSEN_SQL
                                " AND dead_letter_id <= $8::bigint ORDER BY dead_letter_id LIMIT 50";

static bool add_row(struct replaying *r, int64_t id, bool replayed, const struct letter *letter,
                    const char *detail)
{
    const struct text none = {NULL, 0};
    char id_text[ID_BYTES], partition[12];
    snprintf(id_text, sizeof id_text, "%" PRId64, id);
    snprintf(partition, sizeof partition, "%" PRId32, letter ? letter->to_partition : 0);
    const struct text cells[] = {text_of(id_text),
                                 replayed ? TEXT("true") : TEXT("false"),
                                 letter ? text_of(letter->topic) : none,
                                 letter ? text_of(partition) : none,
                                 letter ? letter->to_key : none,
                                 *detail ? text_of(detail) : none};
    return table_add(r->table, cells) || pg_fail(&r->pg, PG_OTHER, "out of memory");
}

/* Ids that were asked for and won't be sent. */
static bool tell_missing(struct replaying *r)
{
    static const char sql[] = "SELECT id, dead_letter_id IS NOT NULL FROM unnest($1::bigint[]) id "
                              "LEFT JOIN dead_letter ON dead_letter_id = id "
                              "WHERE dead_letter_id IS NULL OR (replayed_at IS NOT NULL AND NOT $2::boolean)";
    if (!r->ids)
        return true;
    PG_RESULT *result = pg_query(&r->pg, sql, (const char *[]){r->ids, r->parameters[WITH_AGAIN]}, 2);
    for (int row = 0; result && row < PQntuples(result); row++) {
        bool there = pg_bool(result, row, 1);
        r->skipped++;
        if (!add_row(r, pg_int8(result, row, 0), false, NULL,
                     there ? "replayed before: --again sends it once more" : "there is no such dead letter"))
            return false;
    }
    return result;
}

/* False for a failure; nothing chosen leaves replay NULL. */
static bool begin(struct replaying *r, const struct config *config)
{
    char error[KAFKA_ERROR_BYTES];
    enum partitioner stored = PARTITIONER_COUNT - 1;
    PG_RESULT *result = pg_query(&r->pg, count_sql, r->parameters, WITH_AFTER + 1);
    if (!result)
        return false;
    r->chosen = pg_int8(result, 0, 0);
    snprintf(r->until, sizeof r->until, "%.*s", (int)sizeof r->until - 1, PQgetvalue(result, 0, 1));
    while (stored > PARTITIONER_UNKNOWN &&
           !text_equal(pg_text(result, 0, 2), text_of(partitioner_names[stored])))
        stored--;
    if (r->chosen == 0)
        return true;
    r->progress = progress_begin("replaying", (uint64_t)r->chosen);
    r->sender = letter_sender_new(config, error);
    if (!r->sender)
        return pg_fail(&r->pg, PG_OTHER, "%s", error);
    r->replay = replay_new(config, stored, letter_sender_handle(r->sender));
    return r->replay || pg_fail(&r->pg, PG_OTHER, "out of memory");
}

/* What is sent and marked at a time. */
struct chunk {
    struct letter letters[LETTERS_MOST];
    struct replay_plan plans[LETTERS_MOST];
    size_t count;
};

/* Marks what Kafka has acknowledged. Between the two a crash makes it be sent twice, which counts nothing
 * twice. */
static bool mark(struct replaying *r, const struct chunk *chunk)
{
    char ids[LETTERS_IDS_BYTES];
    letters_delivered(chunk->letters, chunk->count, ids);
    PG_RESULT *result = pg_query(
        &r->pg, "UPDATE dead_letter SET replayed_at = now() WHERE dead_letter_id = ANY ($1::bigint[])",
        (const char *[]){ids}, 1);
    return result;
}

static bool tell(struct replaying *r, const struct letter *letter, const struct replay_plan *plan)
{
    bool planned = r->choice.dry_run && plan->ready;
    r->sent += letter->delivered || planned;
    r->failed += plan->undecided || (plan->ready && !letter->delivered && !planned);
    r->skipped += !plan->ready && !plan->undecided;
    return add_row(r, letter->id, letter->delivered, letter, planned ? "would be sent" : letter->trouble);
}

static bool send_chunk(struct replaying *r, struct chunk *chunk)
{
    for (size_t i = 0; i < chunk->count; i++) {
        replay_plan(r->replay, &chunk->letters[i], r->choice.force, &chunk->plans[i]);
        if (chunk->plans[i].ready && !r->choice.dry_run)
            letter_send(r->sender, &chunk->letters[i]);
    }
    letters_wait(r->sender, NULL, NULL);
    bool done = r->choice.dry_run || mark(r, chunk);
    for (size_t i = 0; i < chunk->count && done; i++)
        done = tell(r, &chunk->letters[i], &chunk->plans[i]);
    for (size_t i = 0; i < chunk->count; i++)
        replay_plan_free(&chunk->plans[i]);
    return done;
}

/* *count 0: that was the last of them. */
static bool replay_chunk(struct replaying *r, size_t *count)
{
    struct chunk chunk = {.count = 0};
    PG_RESULT *result = pg_query(&r->pg, chunk_sql, r->parameters, PARAMETERS);
    if (!result)
        return false;
    size_t rows = (size_t)PQntuples(result);
    while (chunk.count < rows && letter_of(result, (int)chunk.count, &chunk.letters[chunk.count]))
        chunk.count++;
    if (rows > 0)
        snprintf(r->after, sizeof r->after, "%" PRId64, pg_int8(result, (int)rows - 1, 0));
    bool done = chunk.count == rows ? send_chunk(r, &chunk) : pg_fail(&r->pg, PG_OTHER, "out of memory");
    for (size_t i = 0; i < chunk.count; i++)
        letter_free(&chunk.letters[i]);
    *count = rows;
    return done;
}

static bool replay_chosen(struct replaying *r)
{
    size_t count = 1;
    while (count > 0) {
        if (!replay_chunk(r, &count))
            return false;
        progress_update(&r->progress, (uint64_t)(r->sent + r->failed + r->skipped));
    }
    return true;
}

static bool print_replayed(const struct replaying *r)
{
    if (r->context->json)
        return json_print(json_pack("{s:b, s:I, s:I, s:I, s:o}", "dry_run", r->choice.dry_run, "sent",
                                    (json_int_t)r->sent, "skipped", (json_int_t)r->skipped, "failed",
                                    (json_int_t)r->failed, "dead_letters", table_json(r->table)),
                          stdout);
    if (r->sent + r->skipped + r->failed > 0)
        table_print(r->table, stdout);
    printf("%s%" PRId64 " sent, %" PRId64 " skipped, %" PRId64 " failed\n",
           r->choice.dry_run ? "dry run, nothing is sent: " : "", r->sent, r->skipped, r->failed);
    return true;
}

static int run(struct replaying *r, const struct config *config)
{
    bool done = pg_open(&r->pg, config->postgres.dsn, r->context->name) &&
                migrate_check(&r->pg, migrations) && tell_missing(r) && begin(r, config) &&
                (!r->replay || replay_chosen(r));
    progress_end(&r->progress);
    replay_free(r->replay);
    letter_sender_free(r->sender);
    pg_close(&r->pg);
    if (!print_replayed(r)) /* what was sent before a failure, too */
        return command_fail(r->context, EXIT_FAILED, "out of memory");
    if (!done)
        return command_fail(r->context, EXIT_FAILED, "%s", r->pg.failure.detail);
    return r->failed > 0 || (r->ids && r->skipped > 0) ? EXIT_FAILED : EXIT_DONE;
}

/* "{1,2}" of the operands. NULL: one is no id, or out of memory; it was said which. */
static char *ids_of(struct command_context *context, int count, char **operands)
{
    char *ids = malloc((size_t)count * (ID_BYTES + 1) + 3);
    char *end = ids;
    int64_t id;
    for (int i = 0; i < count && ids; i++) {
        if (!integer_parse(text_of(operands[i]), &id)) {
            command_fail(context, EXIT_USAGE, "expected IDs as `dead-letters list` shows them, found \"%s\"",
                         operands[i]);
            free(ids);
            return NULL;
        }
        end += sprintf(end, "%c%" PRId64, i == 0 ? '{' : ',', id);
    }
    if (ids)
        strcpy(end, "}");
    else
        command_fail(context, EXIT_FAILED, "out of memory");
    return ids;
}

static int replay(struct command_context *context, const struct config *config, const void *chosen,
                  int operand_count, char **operands)
{
    struct replaying r = {.context = context, .choice = *(const struct replay_choice *)chosen, .after = "0"};
    const struct dead_letter_filter *filter = &r.choice.filter;
    bool filtered = filter->reason || filter->since || filter->topic || filter->partition >= 0;
    if ((operand_count > 0) + (filtered || r.choice.all) != 1)
        return command_fail(context, EXIT_USAGE, "say which: either IDs, or --reason and the like, or --all");
    int code = dead_letter_filter_parse(context, &r.choice.filter, r.parameters);
    if (code >= 0)
        return code;
    if (operand_count > 0 && !(r.ids = ids_of(context, operand_count, operands)))
        return EXIT_USAGE;
    r.parameters[WITH_IDS] = r.ids;
    r.parameters[WITH_AGAIN] = r.choice.again ? "true" : "false";
    r.parameters[WITH_AFTER] = r.after;
    r.parameters[WITH_UNTIL] = r.until;
    r.table = table_new(columns);
    code = r.table ? run(&r, config) : command_fail(context, EXIT_FAILED, "out of memory");
    table_free(r.table);
    free(r.ids);
    return code;
}

int dead_letters_replay(struct command_context *context, int argc, char **argv)
{
    struct replay_choice choice = {.filter.partition = -1};
    const struct option_row rows[] = {
        DEAD_LETTER_FILTER_ROWS(&choice.filter),
        {.name = "all", .type = OPTION_FLAG, .value = &choice.all, .help = "all that were not replayed yet"},
        {.name = "again", .type = OPTION_FLAG, .value = &choice.again, .help = "those replayed before, too"},
        {.name = "force",
         .type = OPTION_FLAG,
         .value = &choice.force,
         .help = "those without an event_id, too, which will be refused again"},
        {.name = "dry-run",
         .type = OPTION_FLAG,
         .value = &choice.dry_run,
         .help = "say what would be sent, send nothing"},
        {0}};
    const struct options options = {
        .operands = "[ID…]",
        .about = "Sends refused records to their topic again: bytes untouched, with the customer_id as the "
                 "key and\n"
                 "in the partition where it belongs, and with the time of the first record in the header\n"
                 "usagebox_time. Nothing is counted twice: the event_id goes along.",
        .rows = rows};
    return command_run(context, &options, argc, argv, replay, &choice);
}
