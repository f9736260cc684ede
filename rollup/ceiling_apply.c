#include "ceiling_apply.h"

#include <stdio.h>
#include <stdlib.h>

#include "pg_columns.h"

const char *const ceiling_verdict_names[CEILING_VERDICTS] = {"added", "changed", "retired", "unchanged"};

/* A definition as texts: what is compared and shown. */
enum {
    PART_WHO_KIND,
    PART_WHO,
    PART_SCOPE,
    PART_METER,
    PART_PERIOD,
    PART_POLICY,
    PART_LIMIT,
    PART_CLEAR_LEVEL,
    PARTS
};
static const char *const part_names[PARTS] = {"who_kind", "who",    "scope", "meter",
                                              "period",   "policy", "limit", "clear_level"};
struct definition {
    struct text parts[PARTS];
    char limit[DECIMAL_TEXT_BYTES];
    char clear_level[DECIMAL_TEXT_BYTES];
};

/* The last version of every name there ever was; the parts follow in their order. By bytes: "C". */
enum { COLUMN_NAME, COLUMN_VERSION, COLUMN_IN_FORCE, COLUMN_PARTS };
static const char latest_sql[] = "SELECT DISTINCT ON (name) name, version, retired_at IS NULL, who_kind, "
                                 "who, scope, meter, period, policy, "
                                 "limit_quantity, clear_level FROM ceiling ORDER BY name, version DESC";

struct applying {
    struct pg *pg;
    struct ceiling_apply *apply;
    PGresult *latest;
    int *rows;                      /* by wanted ceiling: its row in latest; -1: none */
    enum ceiling_verdict *verdicts; /* likewise */
    enum ceiling_verdict *fates;    /* by row of latest; unchanged, too: one that is out of force already */
};

static void define_wanted(const struct ceiling *ceiling, struct definition *out)
{
    size_t limit = decimal_text(ceiling->limit, out->limit);
    size_t clear_level = decimal_text(ceiling->clear_level, out->clear_level);
    const struct text parts[PARTS] = {text_of(ceiling_who_names[ceiling->who_kind]),
                                      ceiling->who,
                                      text_of(ceiling_scope_names[ceiling->scope]),
                                      ceiling->meter,
                                      text_of(ceiling_period_names[ceiling->period]),
                                      text_of(ceiling_policy_names[ceiling->policy]),
                                      {out->limit, (uint32_t)limit},
                                      {out->clear_level, (uint32_t)clear_level}};
    memcpy(out->parts, parts, sizeof parts);
}

/* A number that doesn't fit was written by another hand: it differs from whatever is wanted. */
static struct text stored_number(const PGresult *latest, int row, int column, char text[DECIMAL_TEXT_BYTES])
{
    decimal_t value;
    if (!pg_numeric(latest, row, column, &value))
        return TEXT("?");
    return (struct text){text, (uint32_t)decimal_text(value, text)};
}

static void define_stored(const PGresult *latest, int row, struct definition *out)
{
    for (int part = 0; part < PART_LIMIT; part++)
        out->parts[part] = pg_text(latest, row, COLUMN_PARTS + part);
    out->parts[PART_LIMIT] = stored_number(latest, row, COLUMN_PARTS + PART_LIMIT, out->limit);
    out->parts[PART_CLEAR_LEVEL] =
        stored_number(latest, row, COLUMN_PARTS + PART_CLEAR_LEVEL, out->clear_level);
}

/* "limit 1000 → 2000, policy alert → hard-stop", cut where it gets too long; empty: nothing changed. */
static void describe_changes(const struct definition *before, const struct definition *after,
                             char out[CEILING_CHANGE_BYTES])
{
    size_t used = 0;
    out[0] = '\0';
    for (int part = 0; part < PARTS; part++) {
        struct text old = before->parts[part], new = after->parts[part];
        if (text_equal(old, new) || used >= CEILING_CHANGE_BYTES)
            continue;
        int length = snprintf(out + used, CEILING_CHANGE_BYTES - used, "%s%s %.*s → %.*s", used ? ", " : "",
                              part_names[part], (int)old.length, old.bytes, (int)new.length, new.bytes);
        used += length > 0 ? (size_t)length : 0;
    }
}

static int compare(struct text a, struct text b)
{
    int order = memcmp(a.bytes, b.bytes, a.length < b.length ? a.length : b.length);
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

static int find_row(const PGresult *latest, struct text name)
{
    int low = 0, high = PQntuples(latest);
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = compare(name, pg_text(latest, middle, COLUMN_NAME));
        if (order == 0)
            return middle;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

static bool say(struct applying *a, const struct ceiling_applied *applied)
{
    a->apply->counts[applied->verdict]++;
    return a->apply->said(a->apply->context, applied) || pg_fail(a->pg, PG_OTHER, "out of memory");
}

static bool judge_wanted(struct applying *a, size_t index)
{
    const struct ceiling *ceiling = &a->apply->wanted[index];
    int row = a->rows[index] = find_row(a->latest, ceiling->name);
    char changes[CEILING_CHANGE_BYTES] = "";
    int64_t version = row < 0 ? 0 : pg_int8(a->latest, row, COLUMN_VERSION);
    enum ceiling_verdict verdict = CEILING_ADDED;
    if (row >= 0 && pg_bool(a->latest, row, COLUMN_IN_FORCE)) {
        struct definition before, after;
        define_stored(a->latest, row, &before);
        define_wanted(ceiling, &after);
        describe_changes(&before, &after, changes);
        verdict = *changes ? CEILING_CHANGED : CEILING_UNCHANGED;
        a->fates[row] = verdict;
    }
    a->verdicts[index] = verdict;
    return say(a, &(struct ceiling_applied){verdict, ceiling->name,
                                            verdict == CEILING_UNCHANGED ? version : version + 1, changes});
}

static bool judge_all(struct applying *a)
{
    for (int row = 0; row < PQntuples(a->latest); row++)
        a->fates[row] = pg_bool(a->latest, row, COLUMN_IN_FORCE) ? CEILING_RETIRED : CEILING_UNCHANGED;
    for (size_t i = 0; i < a->apply->wanted_count; i++)
        if (!judge_wanted(a, i))
            return false;
    for (int row = 0; row < PQntuples(a->latest); row++)
        if (a->fates[row] == CEILING_RETIRED &&
            !say(a, &(struct ceiling_applied){CEILING_RETIRED, pg_text(a->latest, row, COLUMN_NAME),
                                              pg_int8(a->latest, row, COLUMN_VERSION), ""}))
            return false;
    return true;
}

static bool read_generation(struct applying *a)
{
    PG_RESULT *result = pg_query(
        a->pg, "SELECT coalesce((SELECT value::bigint FROM setting WHERE name = 'ceilings_generation'), 0)",
        NULL, 0);
    if (result)
        a->apply->generation = pg_int8(result, 0, 0);
    return result;
}

static bool write_generation(struct applying *a)
{
    char value[24];
    snprintf(value, sizeof value, "%lld", (long long)a->apply->generation);
    PG_RESULT *result = pg_query(a->pg,
                                 "INSERT INTO setting (name, value) VALUES ('ceilings_generation', $1) "
                                 "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                                 (const char *[]){value}, 1);
    return result;
}

static bool retire(struct applying *a, struct pg_columns *names)
{
    static const char sql[] = "UPDATE ceiling SET retired_at = now(), retired_generation = old.generation "
                              "FROM unnest($1, $2) old (name, generation) "
                              "WHERE ceiling.name = old.name AND ceiling.retired_at IS NULL";
    for (int row = 0; row < PQntuples(a->latest); row++) {
        if (a->fates[row] == CEILING_UNCHANGED)
            continue;
        pg_put_text(names, pg_text(a->latest, row, COLUMN_NAME));
        pg_put_int8(names, a->apply->generation);
        if (!pg_columns_run_if_full(a->pg, sql, names))
            return false;
    }
    return pg_columns_run(a->pg, sql, names);
}

static void put_version(const struct applying *a, struct pg_columns *rows, size_t index)
{
    const struct ceiling *ceiling = &a->apply->wanted[index];
    int row = a->rows[index];
    struct definition definition;
    define_wanted(ceiling, &definition);
    pg_put_text(rows, ceiling->name);
    pg_put_int8(rows, row < 0 ? 1 : pg_int8(a->latest, row, COLUMN_VERSION) + 1);
    for (int part = 0; part < PART_LIMIT; part++)
        pg_put_text(rows, definition.parts[part]);
    pg_put_numeric(rows, ceiling->limit);
    pg_put_numeric(rows, ceiling->clear_level);
    pg_put_int8(rows, a->apply->generation);
    pg_put_text(rows, text_of(a->apply->actor));
}

static bool add(struct applying *a, struct pg_columns *rows)
{
    static const char sql[] =
        "INSERT INTO ceiling (name, version, who_kind, who, scope, meter, period, policy, limit_quantity, "
        "clear_level, generation, applied_by) "
        "SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    for (size_t i = 0; i < a->apply->wanted_count; i++) {
        if (a->verdicts[i] == CEILING_UNCHANGED)
            continue;
        put_version(a, rows, i);
        if (!pg_columns_run_if_full(a->pg, sql, rows))
            return false;
    }
    return pg_columns_run(a->pg, sql, rows);
}

static bool write_changes(struct applying *a)
{
    struct pg_columns names, rows;
    if (a->apply->counts[CEILING_UNCHANGED] == a->apply->wanted_count &&
        a->apply->counts[CEILING_RETIRED] == 0)
        return true;
    a->apply->generation++;
    pg_columns_begin(&names, "tj");
    pg_columns_begin(&rows, "tjttttttnnjt");
    bool written = retire(a, &names) && add(a, &rows) && write_generation(a);
    pg_columns_free(&names);
    pg_columns_free(&rows);
    return written;
}

static bool compare_and_write(struct applying *a)
{
    size_t wanted = a->apply->wanted_count, known = (size_t)PQntuples(a->latest);
    a->rows = calloc(wanted + 1, sizeof *a->rows);
    a->verdicts = calloc(wanted + 1, sizeof *a->verdicts);
    a->fates = calloc(known + 1, sizeof *a->fates);
    bool done = a->rows && a->verdicts && a->fates ? read_generation(a) && judge_all(a) && write_changes(a)
                                                   : pg_fail(a->pg, PG_OTHER, "out of memory");
    free(a->rows);
    free(a->verdicts);
    free(a->fates);
    return done;
}

static bool apply_locked(struct applying *a)
{
    a->latest = pg_query(a->pg, latest_sql, NULL, 0);
    bool done = a->latest && compare_and_write(a);
    PQclear(a->latest);
    return done;
}

bool ceiling_apply(struct pg *pg, struct ceiling_apply *apply)
{
    struct applying a = {.pg = pg, .apply = apply};
    memset(apply->counts, 0, sizeof apply->counts);
    /* Held against other writers until the end; readers go on. */
    bool done = pg_run(pg, "BEGIN") && pg_run(pg, "LOCK TABLE ceiling IN SHARE ROW EXCLUSIVE MODE") &&
                apply_locked(&a) && (apply->dry_run ? pg_run(pg, "ROLLBACK") : pg_commit(pg));
    struct pg_failure why = pg->failure;
    if (!done && pg_is_open(pg))
        pg_run(pg, "ROLLBACK");
    pg->failure = why;
    return done;
}
