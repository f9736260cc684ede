#include "postgres_store_parts.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../consumer/log.h"
#include "migrate.h"

struct text store_topic(const struct postgres_store *store, uint32_t topic)
{
    return text_of(store->options.topics[topic]);
}

bool store_topic_index(const struct postgres_store *store, struct text name, uint32_t *topic)
{
    for (*topic = 0; *topic < store->options.topic_count; (*topic)++)
        if (text_equal(store_topic(store, *topic), name))
            return true;
    return false;
}

static void name_owner(struct postgres_store *store)
{
    char host[65] = "";
    if (gethostname(host, sizeof host - 1) != 0)
        snprintf(host, sizeof host, "unknown");
    snprintf(store->owner, sizeof store->owner, "%s:%ld:%08x", host, (long)getpid(), randombytes_random());
}

struct postgres_store *postgres_store_new(const struct postgres_store_options *options)
{
    if (sodium_init() < 0)
        return NULL;
    struct postgres_store *store = calloc(1, sizeof *store);
    if (!store)
        return NULL;
    store->options = *options;
    store->socket = -1;
    pthread_mutex_init(&store->socket_lock, NULL);
    randombytes_buf(&store->seed, sizeof store->seed);
    seen_set_init(&store->customers);
    seen_set_init(&store->meters);
    name_owner(store);
    return store;
}

const char *postgres_store_owner(const struct postgres_store *store)
{
    return store->owner;
}

struct postgres_store_restored postgres_store_restored(const struct postgres_store *store)
{
    return (struct postgres_store_restored){atomic_load(&store->restored_keys),
                                            atomic_load(&store->remaining_keys)};
}

/* --- the connection --- */

static void show_socket(struct postgres_store *store, int number)
{
    pthread_mutex_lock(&store->socket_lock);
    store->socket = number;
    pthread_mutex_unlock(&store->socket_lock);
}

static void disconnect(struct postgres_store *store)
{
    show_socket(store, -1);
    pg_close(&store->pg);
    if (store->backend.pid)
        store->former = store->backend;
    store->backend.pid = 0;
    store->in_transaction = false;
    store->copy_day = 0;
}

void postgres_store_interrupt(struct postgres_store *store)
{
    atomic_store(&store->interrupted, true);
    pthread_mutex_lock(&store->socket_lock);
    if (store->socket >= 0)
        shutdown(store->socket, SHUT_RDWR);
    pthread_mutex_unlock(&store->socket_lock);
}

void postgres_store_free(struct postgres_store *store)
{
    if (!store)
        return;
    disconnect(store);
    pthread_mutex_destroy(&store->socket_lock);
    seen_set_free(&store->customers);
    seen_set_free(&store->meters);
    free(store->chains);
    free(store);
}

struct backend_look {
    bool there;
    char transaction[40]; /* when its transaction began; empty: it has none */
};

static bool look_at(struct postgres_store *store, const struct store_backend *backend,
                    struct backend_look *look)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", backend->pid);
    PG_RESULT *result =
        pg_query(&store->pg,
                 "SELECT coalesce(xact_start::text, '') FROM pg_stat_activity WHERE pid = $1::int AND "
                 "backend_start = $2::timestamptz",
                 (const char *[]){pid, backend->start}, 2);
    look->there = result && PQntuples(result) > 0;
    snprintf(look->transaction, sizeof look->transaction, "%s", look->there ? PQgetvalue(result, 0, 0) : "");
    return result;
}

/* Until the transaction that was seen is over; false: it isn't, after wait_ms. `gone`: until the backend is.
 */
static bool await_end(struct postgres_store *store, const struct store_backend *backend,
                      const struct backend_look *seen, bool gone, int wait_ms)
{
    enum { POLL_MS = 20 };
    for (int waited_ms = 0; waited_ms <= wait_ms; waited_ms += POLL_MS) {
        struct backend_look now;
        if (!look_at(store, backend, &now))
            return false;
        if (!now.there || (!gone && strcmp(now.transaction, seen->transaction) != 0))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
    }
    return false;
}

static bool terminate(struct postgres_store *store, const struct store_backend *backend)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", backend->pid);
    PG_RESULT *result = pg_query(&store->pg,
                                 "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                                 "WHERE pid = $1::int AND backend_start = $2::timestamptz",
                                 (const char *[]){pid, backend->start}, 2);
    return result;
}

void store_end_backend(struct postgres_store *store, const struct store_backend *backend, int patience_ms)
{
    enum { GONE_MS = 10000 };
    struct backend_look seen;
    if (look_at(store, backend, &seen) &&
        (!*seen.transaction || (patience_ms > 0 && await_end(store, backend, &seen, false, patience_ms))))
        return;
    if (terminate(store, backend) && await_end(store, backend, &seen, true, GONE_MS)) {
        log_info("ended a former owner's connection", LOG_INT("pid", backend->pid));
        return;
    }
    log_warning("a former owner's connection could not be ended", LOG_INT("pid", backend->pid),
                LOG_TEXT("reason", store->pg.failure.detail));
}

static bool look_at_backend(struct postgres_store *store)
{
    PG_RESULT *result = pg_query(
        &store->pg, "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()",
        NULL, 0);
    if (!result)
        return false;
    if (PQntuples(result) != 1)
        return pg_fail(&store->pg, PG_OTHER, "pg_stat_activity does not show this connection");
    store->backend.pid = pg_int4(result, 0, 0);
    snprintf(store->backend.start, sizeof store->backend.start, "%s", PQgetvalue(result, 0, 1));
    return true;
}

/* A promoted standby that lacked the last transactions is another past: its timeline says so. A restored
 * backup has another system identifier, or, run on from where it ended, another timeline too. */
static bool look_at_cluster(struct postgres_store *store)
{
    PG_RESULT *result = pg_query(&store->pg,
                                 "SELECT system_identifier, ('x' || "
                                 "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int "
                                 "FROM pg_control_system()",
                                 NULL, 0);
    if (!result &&
        strcmp(store->pg.failure.sqlstate, "55000") == 0) /* a standby: it may become the primary */
        store->pg.failure.trouble = PG_PASSING;
    if (!result)
        return false;
    int64_t system_identifier = pg_int8(result, 0, 0);
    int32_t timeline = pg_int4(result, 0, 1);
    if (store->connected_once &&
        (system_identifier != store->cluster.system_identifier || timeline != store->cluster.timeline))
        store->went_back = true;
    store->cluster.system_identifier = system_identifier;
    store->cluster.timeline = timeline;
    return true;
}

bool store_connect(struct postgres_store *store)
{
    if (pg_is_open(&store->pg))
        return true;
    disconnect(store);
    if (!pg_open(&store->pg, store->options.dsn, "usagebox run"))
        return false;
    show_socket(store, PQsocket(store->pg.connection));
    if (atomic_load(&store->interrupted))
        return pg_fail(&store->pg, PG_GONE, "stopping");
    if (!migrate_check(&store->pg, migrations) || !look_at_backend(store) || !look_at_cluster(store)) {
        struct pg_failure why = store->pg.failure;
        store->backend.pid = 0;
        disconnect(store);
        store->pg.failure = why;
        return false;
    }
    store->connected_once = true;
    if (store->former.pid)
        store_end_backend(store, &store->former, 0);
    store->former.pid = 0;
    return true;
}

/* --- transactions --- */

bool store_begin(struct postgres_store *store, const char *begin)
{
    store->in_transaction = pg_run(&store->pg, begin);
    return store->in_transaction;
}

/* COMMIT of a transaction that failed before succeeds and says ROLLBACK. */
bool store_end(struct postgres_store *store)
{
    PGresult *result = PQexec(store->pg.connection, "COMMIT");
    if (!pg_expect(&store->pg, result, PGRES_COMMAND_OK))
        return false;
    store->in_transaction = false;
    bool committed = strcmp(PQcmdStatus(result), "COMMIT") == 0;
    PQclear(result);
    return committed || pg_fail(&store->pg, PG_PASSING, "PostgreSQL rolled the transaction back");
}

static bool give_up_copy(struct postgres_store *store)
{
    if (PQputCopyEnd(store->pg.connection, "given up") != 1)
        return false;
    for (PGresult *result; (result = PQgetResult(store->pg.connection));)
        PQclear(result);
    return true;
}

void store_rollback(struct postgres_store *store)
{
    struct pg_failure why = store->pg.failure;
    if (store->copy_day && pg_is_open(&store->pg) && !give_up_copy(store))
        disconnect(store);
    store->copy_day = 0;
    if (store->in_transaction && (!pg_is_open(&store->pg) || !pg_run(&store->pg, "ROLLBACK")))
        disconnect(store);
    store->in_transaction = false;
    seen_set_clear(&store->customers);
    seen_set_clear(&store->meters);
    store->pg.failure = why;
}

/* --- jobs --- */

static enum store_status status_of(const struct pg_failure *failure)
{
    return failure->trouble == PG_GONE || failure->trouble == PG_PASSING ? STORE_LOST : STORE_FATAL;
}

/* Only a recovery may open a connection in place of a lost one: it looks where the offsets stand, and records
 * the connection with them. */
static bool is_ready(struct postgres_store *store, const struct store_job *job)
{
    bool goes_on = job->kind == STORE_STREAM || job->kind == STORE_COMMIT;
    if (atomic_load(&store->interrupted))
        return pg_fail(&store->pg, PG_GONE, "stopping");
    if (store->in_transaction && !goes_on)
        store_rollback(store); /* its batch was given up */
    if (pg_is_open(&store->pg))
        return true;
    if (goes_on || (store->connected_once && job->kind != STORE_RECOVER))
        return pg_fail(&store->pg, PG_GONE, "the connection to PostgreSQL is lost");
    return store_connect(store);
}

void postgres_store_perform(void *self, struct store_job *job)
{
    static bool (*const actions[])(struct postgres_store *, struct store_job *) = {
        [STORE_COMMIT] = store_commit,       [STORE_STREAM] = store_stream,
        [STORE_TAKEOVER] = store_takeover,   [STORE_RECOVER] = store_recover,
        [STORE_CATALOGUE] = store_catalogue, [STORE_SEED] = store_seed,
    };
    struct postgres_store *store = self;
    job->status = STORE_DONE;
    if (is_ready(store, job) && actions[job->kind](store, job))
        return;
    if (job->status == STORE_DONE)
        job->status = status_of(&store->pg.failure);
    snprintf(job->detail, sizeof job->detail, "%s", store->pg.failure.detail);
    if (store->in_transaction)
        store_rollback(store);
    if (store->pg.failure.trouble == PG_GONE)
        disconnect(store);
}
