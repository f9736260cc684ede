#include "owner.h"

#include "migrate.h"

bool owner_open(struct pg *pg, const char *dsn, const char *name)
{
    if (!pg_open(pg, dsn, name))
        return false;
    if (migrate_check(pg, migrations) && pg_run(pg, "SET ROLE usagebox_owner"))
        return true;
    pg_close(pg);
    return false;
}
