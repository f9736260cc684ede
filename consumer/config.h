/* The configuration: every value of config.yaml, with its default where the file is silent and the
 * environment on top. One table of keys (config_keys.c) is what parses, documents and prints it, so that the
 * three agree. */
#ifndef UB_CONFIG_H
#define UB_CONFIG_H

#include <stdio.h>

#include "ceiling.h"
#include "log.h"
#include "partitioner.h"

struct config_texts {
    const char **items;
    size_t count;
};

struct config_property {
    const char *name;
    const char *value;
    bool secret; /* never print the value */
};

struct config_properties {
    struct config_property *items;
    size_t count;
};

struct config_ceilings {
    struct ceiling *items; /* version and created_at_us are 0: the store gives them */
    size_t count;
};

/* Texts are never NULL; where empty means something, it is said here. Everything that it points to belongs to
 * it. */
struct config {
    struct {
        const char *bootstrap_servers;
        struct config_texts usage_topics; /* at least one; a record's topic is an index into it */
        const char *enforcement_topic;
        const char *dead_letter_topic; /* empty: dead letters stay in PostgreSQL only */
        const char *group;
        enum partitioner partitioner;        /* PARTITIONER_UNKNOWN: learn it */
        struct config_properties properties; /* known to librdkafka, and none that UsageBox sets itself */
    } kafka;
    struct {
        const char *dsn;       /* may hold a password: print config_dsn_redacted() of it */
        const char *owner_dsn; /* the dsn unless it is given */
    } postgres;
    struct {
        int64_t max_age_us;
        int64_t max_future_us;
    } events;
    struct {
        int64_t window_us;
        int64_t memory_limit_bytes;
    } dedupe;
    struct {
        int64_t max_rows;
        int64_t max_delay_us;
    } batch;
    struct {
        struct config_texts dimensions; /* names of lifted fields, each once, in event.h's order */
        bool runs;                      /* keep usage_run */
    } rollup;
    struct config_ceilings ceilings;
    struct {
        const char *listen; /* host:port, an IPv6 host in brackets; empty: no HTTP */
    } http;
    struct {
        enum log_format format;
        enum log_level level;
    } log;
    const char *path;   /* the file that was read */
    struct arena arena; /* holds all of it */
};

/* What is wrong, each a whole sentence: "config.yaml:12:5: dedupe.window: expected a duration such as 25h,
 * found "soon"", or with the environment variable's name in place of the file's. Zero-initialise. */
struct config_errors {
    char **items;
    size_t count;
};

/* Reads path, or if it is NULL the first of config_search_path that exists, then the environment. False:
 * errors holds everything that is wrong, in the order of the file, and there is nothing to free but the
 * errors. */
bool config_load(const char *path, struct config *config, struct config_errors *errors);
void config_free(struct config *config);
void config_errors_free(struct config_errors *errors);

extern const char *const config_search_path[]; /* ends with NULL */

/* Prints the configuration in force as YAML, secrets as ****. */
void config_print(const struct config *config, FILE *out);

/* Prints the reference: every key with its type, default, environment variable and meaning. */
void config_document(FILE *out);

/* A connection string with its passwords as ****. The caller frees it; NULL: out of memory. */
char *config_dsn_redacted(const char *dsn);

#endif
