/* Serves /metrics, /healthz and /readyz from published snapshots, on one thread of its own (libmicrohttpd).
 * Clients are not trusted: connections, their memory and their age are bounded, and nothing but GET and HEAD
 * is answered. */
#ifndef UB_HTTP_H
#define UB_HTTP_H

#include "metrics.h"

struct http;

enum { HTTP_ERROR_BYTES = 256 };

/* listen: host:port, an IPv6 host in brackets; port 0: a free one. metrics must outlive it. NULL:
 * error holds a sentence for a person. */
struct http *http_start(const char *listen, struct metrics *metrics, char error[HTTP_ERROR_BYTES]);
uint16_t http_port(const struct http *http);
void http_stop(struct http *http); /* waits for its thread; NULL is fine */

#endif
