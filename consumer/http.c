#include "http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "units.h"
#include "system_clock.h"

enum {
    CONNECTIONS_LIMIT = 128,
    CROWD = CONNECTIONS_LIMIT * 3 / 4, /* from so many on, places are kept for a moment only */
    CONNECTION_BYTES = 16 << 10,       /* request line and headers must fit */
    CONNECTION_IDLE_SECONDS = 5,
    CONNECTION_AGE_MS = 10000, /* however busy it seems: a byte now and then keeps nobody's place */
    CROWDED_AGE_MS = 250,
    BACKLOG = 1024, /* who waits here is let in; who finds it full tries again after a second, or gives up */
    TURN_MS = 250,
    CROWDED_TURN_MS = 25
};

struct connection {
    int socket; /* -1: free */
    int64_t began_us;
};

struct http {
    struct metrics *metrics;
    struct MHD_Daemon *daemon;
    uint16_t port;
    pthread_t thread;
    atomic_bool stopping;
    struct connection connections[CONNECTIONS_LIMIT]; /* the thread's, */
    int connection_count;                             /* and how many are not free */
};

/* A response; body is freed by it. */
struct answer {
    unsigned status;
    const char *type;
    char *body;
    size_t size_bytes;
};

static const char text_type[] = "text/plain; charset=utf-8";
static const char json_type[] = "application/json";
static const char metrics_type[] = "text/plain; version=0.0.4; charset=utf-8";

static struct answer plain(unsigned status, const char *sentence)
{
    struct answer answer = {status, text_type, strdup(sentence), strlen(sentence)};
    return answer;
}

static void fill(const char *path, const struct metrics_snapshot *snapshot, struct answer *answer, FILE *out)
{
    bool good = true;
    answer->type = json_type;
    if (strcmp(path, "/metrics") == 0) {
        answer->type = metrics_type;
        metrics_render(snapshot, system_wall_us(), out);
    } else if (strcmp(path, "/healthz") == 0) {
        good = metrics_alive(snapshot, system_steady_us(), out);
    } else {
        good = metrics_ready(snapshot, system_steady_us(), out);
    }
    answer->status = good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
}

/* body stays NULL when memory is out. */
static struct answer render(const char *path, struct metrics *metrics)
{
    struct answer answer = {0};
    struct metrics_snapshot *snapshot = metrics_snapshot(metrics);
    FILE *out = snapshot ? open_memstream(&answer.body, &answer.size_bytes) : NULL;
    bool ok = out != NULL;
    if (out) {
        fill(path, snapshot, &answer, out);
        ok = !ferror(out);
        ok = fclose(out) == 0 && ok;
    }
    metrics_snapshot_free(snapshot);
    if (!ok) {
        free(answer.body);
        answer.body = NULL;
    }
    return answer;
}

static struct answer answer_to(const char *path, const char *method, struct metrics *metrics)
{
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return plain(MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
    if (strcmp(path, "/metrics") != 0 && strcmp(path, "/healthz") != 0 && strcmp(path, "/readyz") != 0)
        return plain(MHD_HTTP_NOT_FOUND, "here are /metrics, /healthz and /readyz\n");
    return render(path, metrics);
}

/* MHD_NO, which closes the connection: out of memory. */
static enum MHD_Result send_answer(struct MHD_Connection *connection, struct answer answer)
{
    struct MHD_Response *response = NULL;
    if (answer.body)
        response = MHD_create_response_from_buffer(answer.size_bytes, answer.body, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(answer.body);
        return MHD_NO;
    }
    bool ok = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.type) == MHD_YES &&
              MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") == MHD_YES &&
              MHD_add_response_header(response, "X-Content-Type-Options", "nosniff") == MHD_YES &&
              MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES;
    if (ok && answer.status == MHD_HTTP_METHOD_NOT_ALLOWED)
        ok = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD") == MHD_YES;
    enum MHD_Result result = ok ? MHD_queue_response(connection, answer.status, response) : MHD_NO;
    MHD_destroy_response(response);
    return result;
}

/* Called when the headers are there; answering at once refuses whatever body might follow. */
static enum MHD_Result on_request(void *self, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_bytes, void **request)
{
    struct http *http = self;
    (void)version, (void)upload, (void)upload_bytes, (void)request;
    return send_answer(connection, answer_to(path, method, http->metrics));
}

static int socket_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

static void on_connection(void *self, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct http *http = self;
    struct connection **kept = (struct connection **)context;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*kept) {
            (*kept)->socket = -1;
            http->connection_count--;
        }
        return;
    }
    for (int i = 0; i < CONNECTIONS_LIMIT; i++) {
        if (http->connections[i].socket >= 0)
            continue;
        http->connections[i] = (struct connection){socket_of(connection), system_steady_us()};
        *kept = &http->connections[i];
        http->connection_count++;
        return;
    }
}

static bool is_crowded(const struct http *http)
{
    return http->connection_count >= CROWD;
}

/* The library's time-out starts over with every byte: without this, clients that drip would hold all places
 * for ever. In a crowd each has its moment, so that whoever asks properly gets his turn: a liveness probe
 * that is not answered would end a process that counts. The library finds the socket closed by its next look.
 */
static void end_old_connections(struct http *http)
{
    int64_t age_ms = is_crowded(http) ? CROWDED_AGE_MS : CONNECTION_AGE_MS;
    int64_t before_us = system_steady_us() - age_ms * 1000;
    for (int i = 0; i < CONNECTIONS_LIMIT; i++)
        if (http->connections[i].socket >= 0 && http->connections[i].began_us < before_us)
            shutdown(http->connections[i].socket, SHUT_RDWR);
}

static void *serve(void *self)
{
    struct http *http = self;
    while (!atomic_load(&http->stopping)) {
        if (MHD_run_wait(http->daemon, is_crowded(http) ? CROWDED_TURN_MS : TURN_MS) != MHD_YES) {
            log_error("HTTP: can't wait for connections; trying again");
            sleep(1);
        }
        end_old_connections(http);
    }
    return NULL;
}

__attribute__((format(printf, 2, 3))) static int fail(char error[HTTP_ERROR_BYTES], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, HTTP_ERROR_BYTES, format, arguments);
    va_end(arguments);
    return -1;
}

static int listen_at(const struct addrinfo *address)
{
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, address->ai_protocol);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

/* The listening socket, or -1 and a sentence in error. */
static int open_listener(const char *listen_on, char error[HTTP_ERROR_BYTES])
{
    struct text host;
    uint16_t port;
    char host_name[256], port_name[8];
    if (!address_parse(text_of(listen_on), &host, &port) || host.length >= sizeof host_name)
        return fail(error, "http.listen: expected host:port, found \"%.100s\"", listen_on);
    snprintf(host_name, sizeof host_name, "%.*s", (int)host.length, host.bytes);
    snprintf(port_name, sizeof port_name, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *addresses;
    int why = getaddrinfo(host_name, port_name, &hints, &addresses);
    if (why != 0)
        return fail(error, "http.listen: can't resolve %.100s: %s", host_name, gai_strerror(why));
    int fd = -1;
    for (const struct addrinfo *address = addresses; address && fd < 0; address = address->ai_next)
        fd = listen_at(address);
    why = errno;
    freeaddrinfo(addresses);
    return fd >= 0 ? fd : fail(error, "http.listen: can't listen on %.100s: %s", listen_on, strerror(why));
}

static uint16_t port_of(int fd)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    struct sockaddr_storage address;
    socklen_t size_bytes = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size_bytes) != 0 ||
        getnameinfo((struct sockaddr *)&address, size_bytes, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return 0;
    return (uint16_t)strtoul(port, NULL, 10);
}

/* Signals are for the main thread, and a client that went away is no reason to die. */
static bool start_thread(struct http *http)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = pthread_create(&http->thread, NULL, serve, http) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok;
}

/* Takes the listener over. */
static bool start(struct http *http, int listener)
{
    for (int i = 0; i < CONNECTIONS_LIMIT; i++)
        http->connections[i].socket = -1;
    http->port = port_of(listener);
    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL, http->port, NULL, NULL, on_request, http, MHD_OPTION_LISTEN_SOCKET, listener,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_LIMIT, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)CONNECTION_IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_END);
    if (!http->daemon) {
        close(listener);
        return false;
    }
    if (start_thread(http))
        return true;
    MHD_stop_daemon(http->daemon);
    return false;
}

struct http *http_start(const char *listen_on, struct metrics *metrics, char error[HTTP_ERROR_BYTES])
{
    int listener = open_listener(listen_on, error);
    if (listener < 0)
        return NULL;
    struct http *http = calloc(1, sizeof *http);
    if (!http) {
        close(listener);
        fail(error, "HTTP: out of memory");
        return NULL;
    }
    http->metrics = metrics;
    if (start(http, listener))
        return http;
    free(http);
    fail(error, "HTTP: can't start the server");
    return NULL;
}

uint16_t http_port(const struct http *http)
{
    return http->port;
}

void http_stop(struct http *http)
{
    if (!http)
        return;
    atomic_store(&http->stopping, true);
    pthread_join(http->thread, NULL);
    MHD_stop_daemon(http->daemon);
    free(http);
}
