#include "postgres_store_parts.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../consumer/log.h"
#include "../consumer/system_clock.h"
#include "migrate.h"

struct text store_topic(const struct store_link *link, uint32_t topic)
{
    return text_of(link->store->options.topics[topic]);
}

bool store_topic_index(const struct store_link *link, struct text name, uint32_t *topic)
{
    for (*topic = 0; *topic < link->store->options.topic_count; (*topic)++)
        if (text_equal(store_topic(link, *topic), name))
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

static void init_link(struct postgres_store *store, struct store_link *link)
{
    link->store = store;
    link->socket = -1;
    seen_set_init(&link->customers);
    seen_set_init(&link->meters);
}

struct postgres_store *postgres_store_new(const struct postgres_store_options *options)
{
    if (sodium_init() < 0)
        return NULL;
    struct postgres_store *store = calloc(1, sizeof *store);
    if (!store)
        return NULL;
    store->options = *options;
    pthread_mutex_init(&store->socket_lock, NULL);
    randombytes_buf(&store->seed, sizeof store->seed);
    for (size_t i = 0; i < STORE_LINKS; i++)
        init_link(store, &store->links[i]);
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

/* --- the connections --- */

static void show_socket(struct store_link *link, int number)
{
    pthread_mutex_lock(&link->store->socket_lock);
    link->socket = number;
    pthread_mutex_unlock(&link->store->socket_lock);
}

void store_disconnect(struct store_link *link)
{
    show_socket(link, -1);
    pg_close(&link->pg);
    if (link->backend.pid)
        link->former = link->backend;
    link->backend.pid = 0;
    link->in_transaction = false;
    link->copy_day = 0;
}

void postgres_store_interrupt(struct postgres_store *store)
{
    atomic_store(&store->interrupted, true);
    pthread_mutex_lock(&store->socket_lock);
    for (size_t i = 0; i < STORE_LINKS; i++)
        if (store->links[i].socket >= 0)
            shutdown(store->links[i].socket, SHUT_RDWR);
    pthread_mutex_unlock(&store->socket_lock);
}

static void free_link(struct store_link *link)
{
    store_disconnect(link);
    seen_set_free(&link->customers);
    seen_set_free(&link->meters);
}

void postgres_store_free(struct postgres_store *store)
{
    if (!store)
        return;
    for (size_t i = 0; i < STORE_LINKS; i++)
        free_link(&store->links[i]);
    pthread_mutex_destroy(&store->socket_lock);
    free(store->chains);
    free(store);
}

struct backend_look {
    bool there;
    char transaction[40]; /* when its transaction began; empty: it has none */
};

static bool look_at(struct store_link *link, const struct store_backend *backend, struct backend_look *look)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", backend->pid);
    PG_RESULT *result =
        pg_query(&link->pg,
                 "SELECT coalesce(xact_start::text, '') FROM pg_stat_activity WHERE pid = $1::int AND "
                 "backend_start = $2::timestamptz",
                 (const char *[]){pid, backend->start}, 2);
    look->there = result && PQntuples(result) > 0;
    snprintf(look->transaction, sizeof look->transaction, "%s", look->there ? PQgetvalue(result, 0, 0) : "");
    return result;
}

/* Until the transaction that was seen is over, or, with NULL, the backend gone; false: not in time. */
static bool await_end(struct store_link *link, const struct store_backend *backend, const char *transaction,
                      int64_t until_us)
{
    enum { POLL_MS = 20 };
    for (;;) {
        struct backend_look now;
        if (!look_at(link, backend, &now))
            return false;
        if (!now.there || (transaction && strcmp(now.transaction, transaction) != 0))
            return true;
        if (system_steady_us() >= until_us)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
    }
}

static bool terminate(struct store_link *link, const struct store_backend *backend)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", backend->pid);
    PG_RESULT *result = pg_query(&link->pg,
                                 "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                                 "WHERE pid = $1::int AND backend_start = $2::timestamptz",
                                 (const char *[]){pid, backend->start}, 2);
    return result;
}

static void end_backend(struct store_link *link, const struct store_backend *backend)
{
    enum { GONE_US = 10000000 };
    if (terminate(link, backend) && await_end(link, backend, NULL, system_steady_us() + GONE_US)) {
        log_info("ended a former owner's connection", LOG_INT("pid", backend->pid));
        return;
    }
    log_warning("a former owner's connection could not be ended", LOG_INT("pid", backend->pid),
                LOG_TEXT("reason", link->pg.failure.detail));
}

void store_end_transaction(struct store_link *link, const struct store_backend *backend,
                           const char *transaction, int64_t until_us)
{
    if (*transaction && !await_end(link, backend, transaction, until_us))
        end_backend(link, backend);
}

/* Of this link's connection before: what it had under way nobody waits for any more. */
static void end_former(struct store_link *link)
{
    struct backend_look seen;
    if (link->former.pid && (!look_at(link, &link->former, &seen) || *seen.transaction))
        end_backend(link, &link->former);
    link->former.pid = 0;
}

static bool look_at_backend(struct store_link *link)
{
    PG_RESULT *result = pg_query(
        &link->pg, "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()", NULL,
        0);
    if (!result)
        return false;
    if (PQntuples(result) != 1)
        return pg_fail(&link->pg, PG_OTHER, "pg_stat_activity does not show this connection");
    link->backend.pid = pg_int4(result, 0, 0);
    snprintf(link->backend.start, sizeof link->backend.start, "%s", PQgetvalue(result, 0, 1));
    return true;
}

bool store_look_at_cluster(struct store_link *link)
{
    PG_RESULT *result = pg_query(&link->pg,
                                 "SELECT system_identifier, ('x' || "
                                 "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int "
                                 "FROM pg_control_system()",
                                 NULL, 0);
    if (!result && strcmp(link->pg.failure.sqlstate, "55000") == 0) /* a standby: it may become the primary */
        link->pg.failure.trouble = PG_PASSING;
    if (result)
        link->cluster = (struct store_cluster){pg_int8(result, 0, 0), pg_int4(result, 0, 1)};
    return result;
}

static bool connect_link(struct store_link *link)
{
    if (pg_is_open(&link->pg))
        return true;
    store_disconnect(link);
    if (!pg_open(&link->pg, link->store->options.dsn, "usagebox run"))
        return false;
    show_socket(link, PQsocket(link->pg.connection));
    if (atomic_load(&link->store->interrupted))
        return pg_fail(&link->pg, PG_GONE, "stopping");
    if (!migrate_check(&link->pg, migrations) || !look_at_backend(link) || !store_look_at_cluster(link)) {
        struct pg_failure why = link->pg.failure;
        link->backend.pid = 0;
        store_disconnect(link);
        link->pg.failure = why;
        return false;
    }
    end_former(link);
    return true;
}

static bool same_cluster(const struct store_cluster *one, const struct store_cluster *other)
{
    return one->system_identifier == other->system_identifier && one->timeline == other->timeline;
}

/* A promoted standby that lacked the last transactions is another past: its timeline says so. A restored
 * backup has another system identifier, or, run on from where it ended, another timeline too. */
static bool compare_clusters(struct store_link *link)
{
    struct postgres_store *store = link->store;
    for (size_t i = 0; i < STORE_LINKS; i++)
        if (!same_cluster(&store->links[i].cluster, &link->cluster)) {
            for (size_t l = 0; l < STORE_LINKS; l++) /* which of them is the right one, a new one tells */
                store_disconnect(&store->links[l]);
            return pg_fail(&link->pg, PG_PASSING, "the connections to PostgreSQL lead to different servers");
        }
    if (store->connected_once && !same_cluster(&store->cluster, &link->cluster))
        store->went_back = true;
    store->cluster = link->cluster;
    store->connected_once = true;
    return true;
}

bool store_connect(struct store_link *link)
{
    for (size_t i = 0; i < STORE_LINKS; i++) {
        struct store_link *each = &link->store->links[i];
        if (!connect_link(each)) {
            link->pg.failure = each->pg.failure;
            return false;
        }
    }
    return compare_clusters(link);
}

/* --- transactions --- */

bool store_begin(struct store_link *link, const char *begin)
{
    link->in_transaction = pg_run(&link->pg, begin);
    return link->in_transaction;
}

/* Names whose rows were rolled back are written again. */
static void forget_names(struct store_link *link)
{
    seen_set_clear(&link->customers);
    seen_set_clear(&link->meters);
}

/* COMMIT of a transaction that failed before succeeds and says ROLLBACK. */
bool store_end(struct store_link *link)
{
    PGresult *result = PQexec(link->pg.connection, "COMMIT");
    if (!pg_expect(&link->pg, result, PGRES_COMMAND_OK))
        return false;
    link->in_transaction = false;
    bool committed = strcmp(PQcmdStatus(result), "COMMIT") == 0;
    PQclear(result);
    if (!committed)
        forget_names(link);
    return committed || pg_fail(&link->pg, PG_PASSING, "PostgreSQL rolled the transaction back");
}

static bool give_up_copy(struct store_link *link)
{
    if (PQputCopyEnd(link->pg.connection, "given up") != 1)
        return false;
    for (PGresult *result; (result = PQgetResult(link->pg.connection));)
        PQclear(result);
    return true;
}

void store_rollback(struct store_link *link)
{
    struct pg_failure why = link->pg.failure;
    if (link->copy_day && pg_is_open(&link->pg) && !give_up_copy(link))
        store_disconnect(link);
    link->copy_day = 0;
    if (link->in_transaction && (!pg_is_open(&link->pg) || !pg_run(&link->pg, "ROLLBACK")))
        store_disconnect(link);
    link->in_transaction = false;
    forget_names(link);
    link->pg.failure = why;
}

/* --- jobs --- */

static enum store_status status_of(const struct pg_failure *failure)
{
    return failure->trouble == PG_GONE || failure->trouble == PG_PASSING ? STORE_LOST : STORE_FATAL;
}

/* Only a recovery may open a connection in place of a lost one: it looks where the offsets stand, and records
 * the connection with them. */
static bool is_ready(struct store_link *link, const struct store_job *job)
{
    bool goes_on = job->kind == STORE_STREAM || job->kind == STORE_COMMIT;
    if (atomic_load(&link->store->interrupted))
        return pg_fail(&link->pg, PG_GONE, "stopping");
    if (link->in_transaction && !goes_on)
        store_rollback(link); /* its batch was given up */
    if (pg_is_open(&link->pg) || job->kind == STORE_RECOVER)
        return true;
    if (goes_on || link->store->connected_once)
        return pg_fail(&link->pg, PG_GONE, "the connection to PostgreSQL is lost");
    return store_connect(link);
}

static bool give_up(struct store_link *link, struct store_job *job)
{
    (void)job;
    return !link->in_transaction; /* is_ready() has rolled it back */
}

void postgres_store_perform(void *self, struct store_job *job)
{
    static bool (*const actions[])(struct store_link *, struct store_job *) = {
        [STORE_COMMIT] = store_commit,   [STORE_STREAM] = store_stream,
        [STORE_GIVE_UP] = give_up,       [STORE_TAKEOVER] = store_takeover,
        [STORE_RECOVER] = store_recover, [STORE_CATALOGUE] = store_catalogue,
        [STORE_SEED] = store_seed,
    };
    struct store_link *link = &((struct postgres_store *)self)->links[job->link];
    job->status = STORE_DONE;
    if (is_ready(link, job) && actions[job->kind](link, job))
        return;
    if (job->status == STORE_DONE)
        job->status = status_of(&link->pg.failure);
    snprintf(job->detail, sizeof job->detail, "%s", link->pg.failure.detail);
    if (link->in_transaction)
        store_rollback(link);
    if (link->pg.failure.trouble == PG_GONE)
        store_disconnect(link);
}
