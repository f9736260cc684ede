#include "consumer/http.h"

#include <arpa/inet.h>
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <stdio.h>

#include "suite.h"

static struct metrics *metrics;
static struct http *http;

static int64_t monotonic_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void publish(enum lane_phase phase)
{
    struct metrics_partition partition = {.topic = "usage", .phase = phase};
    struct metrics_snapshot snapshot = {.published = true,
                                        .turned_us = monotonic_us(),
                                        .partitions = &partition,
                                        .partition_count = 1,
                                        .stats.store_up = true};
    ck_assert(metrics_publish_snapshot(metrics, &snapshot));
}

static void setup(void)
{
    char error[HTTP_ERROR_BYTES] = "";
    metrics = metrics_new();
    http = http_start("127.0.0.1:0", metrics, error);
    ck_assert_msg(http != NULL, "%s", error);
}

static void teardown(void)
{
    http_stop(http);
    metrics_free(metrics);
}

static int open_connection(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(http_port(http))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(fd, 0);
    struct timeval patience = {.tv_sec = 20};
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static char answer[1 << 20];

/* Reads until the server closes, which it does after each answer. */
static void read_answer(int fd)
{
    size_t length = 0;
    ssize_t got;
    while (length < sizeof answer - 1 && (got = recv(fd, answer + length, sizeof answer - 1 - length, 0)) > 0)
        length += (size_t)got;
    answer[length] = 0;
    close(fd);
}

static void ask(const char *request, size_t size_bytes)
{
    int fd = open_connection();
    size_t sent = 0;
    ssize_t wrote = 0;
    while (sent < size_bytes && (wrote = send(fd, request + sent, size_bytes - sent, MSG_NOSIGNAL)) > 0)
        sent += (size_t)wrote;
    read_answer(fd);
}

static void get(const char *path)
{
    char request[300];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    ask(request, (size_t)length);
}

static void expect_status(const char *status)
{
    char line[100];
    snprintf(line, sizeof line, "HTTP/1.1 %s", status);
    ck_assert_msg(strncmp(answer, line, strlen(line)) == 0, "expected %s, got %.200s", status, answer);
}

START_TEST(metrics_are_served_in_the_text_format)
{
    publish(LANE_RUNNING);
    get("/metrics");
    expect_status("200 ");
    ck_assert_ptr_nonnull(strstr(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    ck_assert_ptr_nonnull(strstr(answer, "\nusagebox_lanes{state=\"running\"} 1\n"));
    get("/metrics?x=1");
    expect_status("200 ");
}
END_TEST

START_TEST(health_follows_what_was_published)
{
    get("/healthz");
    expect_status("503 ");
    get("/readyz");
    expect_status("503 ");
    publish(LANE_TAKING);
    get("/healthz");
    expect_status("200 ");
    get("/readyz");
    expect_status("503 ");
    ck_assert_ptr_nonnull(strstr(answer, "Content-Type: application/json\r\n"));
    ck_assert_ptr_nonnull(strstr(answer, "lane 0 is being taken over"));
    publish(LANE_RUNNING);
    get("/readyz");
    expect_status("200 ");
}
END_TEST

START_TEST(head_has_no_body)
{
    publish(LANE_RUNNING);
    ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 36);
    expect_status("200 ");
    ck_assert_str_eq(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
}
END_TEST

START_TEST(nothing_else_is_answered)
{
    static const char *const methods[] = {"POST", "PUT", "DELETE", "TRACE", "OPTIONS", "PATCH", "get", "X"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        char request[200];
        int length = snprintf(request, sizeof request, "%s /metrics HTTP/1.1\r\nHost: x\r\n\r\n", methods[i]);
        ask(request, (size_t)length);
        expect_status("405 ");
        ck_assert_ptr_nonnull(strstr(answer, "Allow: GET, HEAD\r\n"));
    }
    static const char *const paths[] = {"/",       "/metrics/", "//metrics", "/../etc/passwd",
                                        "/metric", "/METRICS"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        get(paths[i]);
        expect_status("404 ");
    }
}
END_TEST

START_TEST(an_upload_is_refused_before_it_is_sent)
{
    static char request[300000] = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n";
    ask(request, strlen(request));
    expect_status("405 ");
    ask(request, sizeof request);
    publish(LANE_RUNNING);
    get("/healthz");
    expect_status("200 ");
}
END_TEST

static void ask_noise(unsigned seed)
{
    char request[2000];
    size_t length = (size_t)rand_r(&seed) % sizeof request;
    for (size_t i = 0; i < length; i++)
        request[i] = (char)rand_r(&seed);
    if (seed % 2)
        memcpy(request, "GET /metrics HTTP/1.1\r\n", 23);
    int fd = open_connection();
    struct timeval patience = {.tv_usec = 20000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    send(fd, request, length, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    read_answer(fd);
}

START_TEST(noise_does_no_harm)
{
    static char huge[200000];
    memset(huge, 'a', sizeof huge);
    memcpy(huge, "GET /", 5);
    ask(huge, sizeof huge);
    memcpy(huge, "GET /metrics HTTP/1.1\r\nX: ", 26);
    ask(huge, sizeof huge);
    for (unsigned seed = 0; seed < 100; seed++)
        ask_noise(seed);
    publish(LANE_RUNNING);
    get("/healthz");
    expect_status("200 ");
}
END_TEST

START_TEST(clients_that_go_away_do_no_harm)
{
    publish(LANE_RUNNING);
    for (int i = 0; i < 200; i++) {
        int fd = open_connection();
        send(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", (size_t)i % 35, MSG_NOSIGNAL);
        struct linger reset = {.l_onoff = 1};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
    }
    get("/metrics");
    expect_status("200 ");
}
END_TEST

/* Takes all places, and drips a byte a second so that no time-out for idle ones ends it. */
static void *drip(void *stop)
{
    int fds[128];
    for (int i = 0; i < 128; i++)
        fds[i] = open_connection();
    for (size_t at = 0; !__atomic_load_n((bool *)stop, __ATOMIC_RELAXED); at++) {
        for (int i = 0; i < 128; i++)
            send(fds[i], at == 0 ? "G" : at == 1 ? "E" : "T", 1, MSG_NOSIGNAL);
        usleep(500000);
    }
    for (int i = 0; i < 128; i++)
        close(fds[i]);
    return NULL;
}

START_TEST(clients_that_drip_do_not_keep_their_places)
{
    bool stop = false;
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, drip, &stop), 0);
    sleep(1);
    publish(LANE_RUNNING);
    answer[0] = 0;
    for (int i = 0; i < 3 && answer[0] == 0; i++)
        get("/healthz");
    publish(LANE_RUNNING);
    get("/healthz");
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    expect_status("200 ");
}
END_TEST

START_TEST(an_address_that_cannot_be_listened_on_is_an_error)
{
    char error[HTTP_ERROR_BYTES], taken[40];
    snprintf(taken, sizeof taken, "127.0.0.1:%u", http_port(http));
    ck_assert_ptr_null(http_start(taken, metrics, error));
    ck_assert_ptr_nonnull(strstr(error, "Address already in use"));
    ck_assert_ptr_null(http_start("nonsense", metrics, error));
    ck_assert_ptr_nonnull(strstr(error, "expected host:port, found \"nonsense\""));
    ck_assert_ptr_null(http_start("no-such-host.invalid:1", metrics, error));
    ck_assert_ptr_nonnull(strstr(error, "can't resolve no-such-host.invalid"));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, metrics_are_served_in_the_text_format);
    tcase_add_test(tests, health_follows_what_was_published);
    tcase_add_test(tests, head_has_no_body);
    tcase_add_test(tests, nothing_else_is_answered);
    tcase_add_test(tests, an_upload_is_refused_before_it_is_sent);
    tcase_add_test(tests, noise_does_no_harm);
    tcase_add_test(tests, clients_that_go_away_do_no_harm);
    tcase_add_test(tests, clients_that_drip_do_not_keep_their_places);
    tcase_add_test(tests, an_address_that_cannot_be_listened_on_is_an_error);
}

int main(void)
{
    return run_suite("http", add_tests);
}
