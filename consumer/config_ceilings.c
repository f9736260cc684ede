#include "config_reader.h"

/* Is the key with this field given? */
static bool is_given(const struct config_scope *scope, size_t offset)
{
    size_t i = 0;
    while (scope->keys[i].offset != offset)
        i++;
    return scope->places[i].line > 0;
}
#define GIVEN(scope, member) is_given(scope, offsetof(struct ceiling_draft, member))

static void check_given(struct config_reader *reader, const struct config_scope *scope,
                        struct config_place place)
{
    for (size_t i = 0; scope->keys[i].path; i++)
        if (!scope->keys[i].fallback && scope->places[i].line == 0)
            config_wrong(reader, place, scope->keys[i].path, "is missing");
    if (GIVEN(scope, customer) == GIVEN(scope, plan))
        config_wrong(reader, place, "ceilings", "expected either customer or plan, found %s",
                     GIVEN(scope, plan) ? "both" : "neither");
}

static void check_ceiling(struct config_reader *reader, struct config_place place,
                          const struct ceiling *ceiling, const struct config_ceilings *others)
{
    if (ceiling->who_kind != WHO_EVERYONE && ceiling->who.length == 0)
        config_wrong(reader, place, "ceilings", "expected either customer or plan, found neither");
    if (ceiling->clear_level > ceiling->limit)
        config_wrong(reader, place, "ceilings.clear_level", "expected at most the limit");
    for (size_t i = 0; i < others->count; i++)
        if (text_equal(others->items[i].name, ceiling->name))
            config_wrong(reader, place, "ceilings.name", "%.*s names another ceiling already",
                         (int)ceiling->name.length, ceiling->name.bytes);
}

static struct ceiling ceiling_of(const struct ceiling_draft *draft)
{
    struct ceiling ceiling = {.name = draft->name,
                              .who_kind = WHO_PLAN,
                              .who = draft->plan,
                              .scope = draft->scope,
                              .meter = draft->meter,
                              .period = draft->period,
                              .policy = draft->policy,
                              .limit = draft->limit,
                              .clear_level = draft->clear_level};
    if (draft->customer.length > 0) {
        ceiling.who_kind = WHO_CUSTOMER;
        ceiling.who = draft->customer;
    }
    if (text_equal(draft->customer, TEXT("*"))) {
        ceiling.who_kind = WHO_EVERYONE;
        ceiling.who = TEXT("");
    }
    return ceiling;
}

static void read_ceiling(struct config_reader *reader, const struct tree_node *map,
                         struct config_ceilings *ceilings)
{
    struct ceiling_draft draft = {.clear_level = -1};
    struct config_place places[CONFIG_KEYS_LIMIT] = {0};
    struct config_scope scope = {config_ceiling_keys, &draft, places};
    size_t errors_before = reader->errors->count;
    config_read_defaults(reader, &scope);
    config_read_map(reader, &scope, "ceilings", map);
    check_given(reader, &scope, config_place_of(map));
    if (reader->errors->count > errors_before || reader->out_of_memory)
        return;
    if (draft.clear_level < 0)
        draft.clear_level = draft.limit;
    struct ceiling ceiling = ceiling_of(&draft);
    check_ceiling(reader, config_place_of(map), &ceiling, ceilings);
    ceilings->items[ceilings->count++] = ceiling;
}

static size_t count_items(const struct tree_node *list)
{
    size_t count = 0;
    for (const struct tree_node *item = list->first; item; item = item->next)
        count++;
    return count;
}

void config_read_ceilings(struct config_reader *reader, const struct tree_node *list,
                          struct config_ceilings *ceilings)
{
    ceilings->items = arena_alloc(reader->arena, count_items(list) * sizeof *ceilings->items);
    if (!ceilings->items) {
        reader->out_of_memory = true;
        return;
    }
    for (const struct tree_node *item = list->first; item && config_may_go_on(reader); item = item->next) {
        if (item->kind == TREE_MAP)
            read_ceiling(reader, item, ceilings);
        else
            config_wrong(reader, config_place_of(item), "ceilings",
                         "expected a map such as {name: …, customer: …}");
    }
}
