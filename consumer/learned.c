#include "learned.h"

static enum partitioner partitioner_named(struct text name)
{
    for (int i = 1; i < PARTITIONER_COUNT; i++)
        if (text_equal(name, text_of(partitioner_names[i])))
            return (enum partitioner)i;
    return PARTITIONER_UNKNOWN;
}

/* One row in any case: of a table that is not there yet nothing is known, either. */
static PGresult *ask(struct pg *pg)
{
    PG_RESULT *there = pg_query(pg, "SELECT to_regclass('public.setting') IS NOT NULL", NULL, 0);
    if (!there)
        return NULL;
    return pg_query(pg,
                    pg_bool(there, 0, 0)
                        ? "SELECT coalesce((SELECT value FROM setting WHERE name = 'partitioner'), '')"
                        : "SELECT ''",
                    NULL, 0);
}

bool learned_partitioner(const struct config *config, const char *name, enum partitioner *found,
                         struct pg_failure *failure)
{
    struct pg pg = {0};
    PG_RESULT *result = pg_open(&pg, config->postgres.dsn, name) ? ask(&pg) : NULL;
    *found = result ? partitioner_named(pg_text(result, 0, 0)) : PARTITIONER_UNKNOWN;
    *failure = pg.failure;
    pg_close(&pg);
    return result;
}
