#include "findings.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "printable.h"
#include "tables.h"

enum { LEVEL_WIDTH = 7 };

static const char *const level_names[FINDING_LEVELS] = {"notice", "warning", "error"};

static bool make_room(struct findings *findings)
{
    if (findings->count < findings->capacity)
        return true;
    size_t capacity = 2 * findings->capacity + 16;
    struct finding *items = realloc(findings->items, capacity * sizeof *items);
    if (!items)
        return false;
    findings->items = items;
    findings->capacity = capacity;
    return true;
}

static void free_finding(struct finding *finding)
{
    free(finding->where);
    free(finding->what);
    free(finding->remedy);
}

/* Divides the sentence, which it takes, at its line's end. */
static bool add(struct findings *findings, enum finding_level level, const char *where, char *sentence)
{
    char *remedy = strchr(sentence, '\n');
    if (remedy)
        *remedy++ = '\0';
    struct finding finding = {level, strdup(where), sentence, strdup(remedy ? remedy : "")};
    if (!finding.where || !finding.remedy || !make_room(findings)) {
        free_finding(&finding);
        return false;
    }
    findings->items[findings->count++] = finding;
    return true;
}

void findings_add(struct findings *findings, enum finding_level level, const char *where, const char *format,
                  ...)
{
    char *sentence;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&sentence, format, arguments);
    va_end(arguments);
    if (length < 0 || !add(findings, level, where, sentence))
        findings->out_of_memory = true;
    findings->counts[level]++;
}

void findings_free(struct findings *findings)
{
    for (size_t i = 0; i < findings->count; i++)
        free_finding(&findings->items[i]);
    free(findings->items);
    *findings = (struct findings){0};
}

static int widest_where(const struct findings *findings)
{
    size_t width = 0;
    for (size_t i = 0; i < findings->count; i++)
        if (strlen(findings->items[i].where) > width)
            width = strlen(findings->items[i].where);
    return (int)width;
}

static void print_finding(const struct finding *finding, int where_width, FILE *out)
{
    fprintf(out, "%-*s  ", LEVEL_WIDTH, level_names[finding->level]);
    printable_write(PRINTABLE_PLAIN, text_of(finding->where), out);
    fprintf(out, "%*s  ", where_width - (int)strlen(finding->where), "");
    printable_write(PRINTABLE_PLAIN, text_of(finding->what), out);
    if (*finding->remedy) {
        fputs("; ", out);
        printable_write(PRINTABLE_PLAIN, text_of(finding->remedy), out);
    }
    fputc('\n', out);
}

static void print_count(size_t count, const char *name, const char *behind, FILE *out)
{
    fprintf(out, "%zu %s%s%s", count, name, count == 1 ? "" : "s", behind);
}

void findings_print(const struct findings *findings, FILE *out)
{
    int where_width = widest_where(findings);
    for (int level = FINDING_LEVELS - 1; level >= 0; level--)
        for (size_t i = 0; i < findings->count; i++)
            if ((int)findings->items[i].level == level)
                print_finding(&findings->items[i], where_width, out);
    print_count(findings->counts[FINDING_ERROR], "error", ", ", out);
    print_count(findings->counts[FINDING_WARNING], "warning", ", ", out);
    print_count(findings->counts[FINDING_NOTICE], "notice", "\n", out);
}

static json_t *items_json(const struct findings *findings)
{
    static const struct table_column columns[] = {{"level", TABLE_TEXT},
                                                  {"where", TABLE_TEXT},
                                                  {"what", TABLE_TEXT},
                                                  {"remedy", TABLE_TEXT},
                                                  {NULL, 0}};
    struct table *table = table_new(columns);
    bool whole = table && !findings->out_of_memory;
    for (size_t i = 0; whole && i < findings->count; i++) {
        const struct finding *f = &findings->items[i];
        whole = table_add(table, (const struct text[]){text_of(level_names[f->level]), text_of(f->where),
                                                       text_of(f->what), text_of(f->remedy)});
    }
    json_t *items = whole ? table_json(table) : NULL;
    table_free(table);
    return items;
}

json_t *findings_json(const struct findings *findings)
{
    json_t *items = items_json(findings);
    const size_t *counts = findings->counts;
    return items
               ? json_pack("{s:b, s:I, s:I, s:I, s:o}", "passed", counts[FINDING_ERROR] == 0, "errors",
                           (json_int_t)counts[FINDING_ERROR], "warnings", (json_int_t)counts[FINDING_WARNING],
                           "notices", (json_int_t)counts[FINDING_NOTICE], "findings", items)
               : NULL;
}
