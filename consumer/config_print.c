#include <libpq-fe.h>
#include <stdlib.h>

#include "config_keys.h"
#include "printable.h"

#define REDACTED "****"

/* A part of a connection string as key='value', quoted as libpq reads it. */
static void write_part(const PQconninfoOption *part, FILE *out)
{
    fprintf(out, "%s%s='", ftell(out) > 0 ? " " : "", part->keyword);
    for (const char *letter = part->val; *letter; letter++) {
        if (*letter == '\'' || *letter == '\\')
            fputc('\\', out);
        fputc(*letter, out);
    }
    fputc('\'', out);
}

static void write_parts(const PQconninfoOption *part, FILE *out)
{
    static char redacted[] = REDACTED;
    for (; part && part->keyword; part++) {
        PQconninfoOption shown = *part;
        if (!part->val || part->val[0] == 0)
            continue;
        if (part->dispchar[0] == '*') /* libpq's own mark of what must not be displayed */
            shown.val = redacted;
        write_part(&shown, out);
    }
}

char *config_dsn_redacted(const char *dsn)
{
    char *redacted = NULL;
    size_t length = 0;
    PQconninfoOption *parts = PQconninfoParse(dsn, NULL);
    FILE *out = parts ? open_memstream(&redacted, &length) : NULL;
    if (!out) {
        PQconninfoFree(parts);
        return strdup(REDACTED);
    }
    write_parts(parts, out);
    PQconninfoFree(parts);
    if (fclose(out) == 0)
        return redacted;
    free(redacted);
    return NULL;
}

static void print_properties(const struct config_properties *properties, FILE *out)
{
    fputs(properties->count == 0 ? " {}" : "", out);
    for (size_t i = 0; i < properties->count; i++) {
        const struct config_property *property = &properties->items[i];
        fprintf(out, "\n    %s: ", property->name);
        config_print_text(text_of(property->secret ? REDACTED : property->value), out);
    }
}

static struct ceiling_draft draft_of(const struct ceiling *ceiling)
{
    return (struct ceiling_draft){.name = ceiling->name,
                                  .customer = ceiling->who_kind == WHO_CUSTOMER   ? ceiling->who
                                              : ceiling->who_kind == WHO_EVERYONE ? TEXT("*")
                                                                                  : TEXT(""),
                                  .plan = ceiling->who_kind == WHO_PLAN ? ceiling->who : TEXT(""),
                                  .scope = ceiling->scope,
                                  .meter = ceiling->meter,
                                  .period = ceiling->period,
                                  .policy = ceiling->policy,
                                  .limit = ceiling->limit,
                                  .clear_level = ceiling->clear_level};
}

static void print_value(const struct config_key *key, const void *base, FILE *out)
{
    config_types[key->type].print(key, (const char *)base + key->offset, out);
}

static const char *last_name(const char *path)
{
    const char *dot = strchr(path, '.');
    return dot ? dot + 1 : path;
}

static void print_ceiling(const struct ceiling *ceiling, FILE *out)
{
    struct ceiling_draft draft = draft_of(ceiling);
    bool plan = ceiling->who_kind == WHO_PLAN;
    const char *gap = "\n  - {";
    for (const struct config_key *key = config_ceiling_keys; key->path; key++) {
        if (strcmp(key->path, plan ? "ceilings.customer" : "ceilings.plan") == 0)
            continue;
        fprintf(out, "%s%s: ", gap, last_name(key->path));
        print_value(key, &draft, out);
        gap = ", ";
    }
    fputc('}', out);
}

static void print_ceilings(const struct config_ceilings *ceilings, FILE *out)
{
    fputs(ceilings->count == 0 ? " []" : "", out);
    for (size_t i = 0; i < ceilings->count; i++)
        print_ceiling(&ceilings->items[i], out);
}

static bool in_section(const struct config_key *key, const char *section)
{
    size_t length = strlen(section);
    return strncmp(key->path, section, length) == 0 && key->path[length] == '.';
}

static void print_key(const struct config_key *key, const struct config *config, FILE *out)
{
    fprintf(out, "%s%s:", strchr(key->path, '.') ? "  " : "", last_name(key->path));
    if (key->type == CONFIG_PROPERTIES) {
        print_properties(&config->kafka.properties, out);
    } else if (key->type == CONFIG_CEILINGS) {
        print_ceilings(&config->ceilings, out);
    } else {
        fputc(' ', out);
        print_value(key, config, out);
    }
    fputc('\n', out);
}

void config_print(const struct config *config, FILE *out)
{
    const struct config_section *section = config_sections;
    for (const struct config_key *key = config_keys; key->path; key++) {
        if (section->name && in_section(key, section->name))
            fprintf(out, "%s:\n", section++->name);
        print_key(key, config, out);
    }
}

static void document_key(const struct config_key *key, bool overridable, FILE *out)
{
    const struct config_type_row *type = &config_types[key->type];
    char variable[CONFIG_VARIABLE_BYTES];
    fprintf(out, "%s\n    %s\n    %s", key->path, key->help, type->noun);
    for (size_t i = 0; i < key->choice_count; i++)
        if (key->choices[i])
            fprintf(out, " %s", key->choices[i]);
    if (type->example && !key->choices)
        fprintf(out, " such as %s", type->example);
    if (key->most != 0) {
        fputs(", from ", out);
        type->print(key, &key->least, out);
        fputs(" to ", out);
        type->print(key, &key->most, out);
    }
    if (key->fallback)
        fprintf(out, "; default %s", key->fallback[0] ? key->fallback : "empty");
    config_variable(key->path, variable);
    if (overridable)
        fprintf(out, "\n    %s%s", variable, type->parse ? "" : "_…");
    fputs("\n\n", out);
}

void config_document(FILE *out)
{
    const struct config_section *section = config_sections;
    for (const struct config_key *key = config_keys; key->path; key++) {
        if (section->name && in_section(key, section->name)) {
            fprintf(out, "# %s: %s\n\n", section->name, section->help);
            section++;
        }
        document_key(key, key->type != CONFIG_CEILINGS, out);
    }
    for (const struct config_key *key = config_ceiling_keys; key->path; key++)
        document_key(key, false, out);
}
