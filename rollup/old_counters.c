#include "old_counters.h"

#include <stdio.h>

#include "../consumer/ceiling.h"

enum { KEPT_DAYS = 40, SLICE_ROWS = 50000 };
_Static_assert(CEILING_COUNTED_US < (KEPT_DAYS - 30) * INT64_C(86400000000), "none that is still counted");

/* By two clocks, for one that is wrong must take no counter away that is needed: PostgreSQL's, and those by
 * which all partitions were read. By ctid: no index knows of time, and the oldest rows stand in front. */
/* clang-format off */
static const char drop_sql[] =
    "WITH clocks AS (SELECT CASE WHEN complete_through IS NOT NULL THEN least(complete_through, now()) END AS now"
    "  FROM usage_watermark),"
    " dropped AS (DELETE FROM ceiling_usage WHERE ctid = ANY (ARRAY("
    "   SELECT ctid FROM ceiling_usage WHERE period_start + ('1 ' || period)::interval"
    "    < (SELECT now - %d * interval '1 day' FROM clocks) LIMIT %d FOR UPDATE SKIP LOCKED)) RETURNING 1) "
    "SELECT count(*) = %d FROM dropped";
/* clang-format on */

bool old_counters_drop(struct pg *pg, bool *left)
{
    char sql[sizeof drop_sql + 32];
    snprintf(sql, sizeof sql, drop_sql, KEPT_DAYS, SLICE_ROWS, SLICE_ROWS);
    PG_RESULT *result = pg_query(pg, sql, NULL, 0);
    if (result)
        *left = pg_bool(result, 0, 0);
    return result;
}
