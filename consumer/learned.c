#include "learned.h"

#include "../rollup/pg.h"

static enum partitioner partitioner_named(struct text name)
{
    for (int i = 1; i < PARTITIONER_COUNT; i++)
        if (text_equal(name, text_of(partitioner_names[i])))
            return (enum partitioner)i;
    return PARTITIONER_UNKNOWN;
}

enum partitioner learned_partitioner(const struct config *config, const char *name)
{
    struct pg pg = {0};
    PG_RESULT *result = NULL;
    if (pg_open(&pg, config->postgres.dsn, name))
        result = pg_query(&pg, "SELECT value FROM setting WHERE name = 'partitioner'", NULL, 0);
    bool learned = result && PQntuples(result) == 1;
    enum partitioner found = learned ? partitioner_named(pg_text(result, 0, 0)) : PARTITIONER_UNKNOWN;
    pg_close(&pg);
    return found;
}
