/* What `usagebox check` looks at beyond the configuration file: the servers that it names, what they hold,
 * and whether the two fit together. Reads only, and is safe beside running processes. */
#ifndef UB_CHECK_H
#define UB_CHECK_H

#include "../rollup/pg.h"
#include "config.h"
#include "findings.h"
#include "kafka_admin.h"

enum { CHECK_WHERE_BYTES = 300 };

/* Filled in by check_kafka() and check_postgres(): what is out of reach stays NULL or closed, and what needs
 * it is not looked at. */
struct check {
    const struct config *config;
    struct findings *findings;
    int timeout_ms;
    struct kafka_admin *kafka;
    struct kafka_topic *usage_topics; /* as many as configured */
    struct pg writer;                 /* postgres.dsn */
    struct pg owner;                  /* postgres.owner_dsn, as usagebox_owner */
    bool has_schema;                  /* the database holds what this program needs */
};

void check_kafka(struct check *check);
void check_postgres(struct check *check);
/* What the logs hold against what PostgreSQL says was read. */
void check_positions(struct check *check);
/* Closes and frees what the others opened. */
void check_close(struct check *check);

/* Connects. False: a finding says why not. */
bool check_reach_kafka(struct check *check);

/* Topics and their settings, over check->kafka, which must be open. */
void check_topics(struct check *check);

/* What postgres.dsn's user may and must not do. */
void check_privileges(struct check *check);

/* What to do about a connection that can't be had, from the words of librdkafka or libpq that say why. */
const char *check_kafka_remedy(const char *error);
const char *check_postgres_remedy(const char *error);
/* Likewise, of a consumer group that can't be described. */
const char *check_group_remedy(const char *error);

/* A query's result, or a finding why there is none. */
PGresult *check_query(struct check *check, struct pg *pg, const char *where, const char *sql);

#endif
