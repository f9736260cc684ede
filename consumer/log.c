#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "printable.h"

const char *const log_level_names[LOG_LEVELS] = {"debug", "info", "warning", "error"};
const char *const log_format_names[LOG_FORMATS] = {"logfmt", "json"};

static _Atomic enum log_level least_level = LOG_INFO;
static _Atomic enum log_format line_format = LOG_LOGFMT;

enum { TEXT_LIMIT_BYTES = 1000, TAIL_BYTES = sizeof " clipped=true,\"\"}\n" };

struct line {
    char bytes[LOG_LINE_BYTES];
    size_t used;
    size_t limit; /* leaves room for the tail until the tail is written */
    enum log_format format;
    bool overflow; /* something did not fit since the last look */
};

void log_configure(enum log_level least, enum log_format format)
{
    atomic_store(&least_level, least);
    atomic_store(&line_format, format);
}

bool log_enabled(enum log_level level)
{
    return level >= atomic_load_explicit(&least_level, memory_order_relaxed);
}

static void put(struct line *line, const char *bytes, size_t count)
{
    if (line->overflow || count > line->limit - line->used) {
        line->overflow = true;
        return;
    }
    memcpy(line->bytes + line->used, bytes, count);
    line->used += count;
}

__attribute__((format(printf, 2, 3))) static void putf(struct line *line, const char *format, ...)
{
    char text[128];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put(line, text, length < (int)sizeof text ? (size_t)length : sizeof text - 1);
}

static void put_name(struct line *line, const char *name)
{
    bool json = line->format == LOG_JSON;
    put(line, json ? ",\"" : " ", json ? 2 : 1);
    put(line, name, strlen(name));
    put(line, json ? "\":" : "=", json ? 2 : 1);
}

/* logfmt leaves a value bare where no reader can mistake its end. */
static bool needs_quotes(const struct line *line, struct text text)
{
    if (line->format == LOG_JSON || text.length == 0)
        return true;
    for (uint32_t i = 0; i < text.length; i++) {
        unsigned char byte = (unsigned char)text.bytes[i];
        if (byte <= ' ' || byte >= 0x7F || byte == '"' || byte == '=' || byte == '\\')
            return true;
    }
    return false;
}

static void put_text(struct line *line, struct text text)
{
    bool quotes = needs_quotes(line, text);
    enum printable_style style = line->format == LOG_JSON ? PRINTABLE_JSON : PRINTABLE_QUOTED;
    size_t room = TEXT_LIMIT_BYTES;
    char safe[PRINTABLE_BYTES];
    put(line, "\"", quotes);
    while (text.length > 0) {
        size_t length = printable_next(style, &text, safe);
        if (length > room) {
            put(line, "…", strlen("…"));
            break;
        }
        put(line, safe, length);
        room -= length;
    }
    put(line, "\"", quotes);
}

static void put_ms(struct line *line, int64_t us)
{
    uint64_t magnitude = us < 0 ? -(uint64_t)us : (uint64_t)us;
    putf(line, "%s%" PRIu64 ".%03" PRIu64, us < 0 ? "-" : "", magnitude / 1000, magnitude % 1000);
}

static void put_value(struct line *line, const struct log_field *field)
{
    switch (field->type) {
    case LOG_TYPE_INT:
        putf(line, "%" PRId64, field->integer);
        return;
    case LOG_TYPE_UINT:
        putf(line, "%" PRIu64, field->natural);
        return;
    case LOG_TYPE_BOOL:
        putf(line, "%s", field->truth ? "true" : "false");
        return;
    case LOG_TYPE_MS:
        put_ms(line, field->integer);
        return;
    case LOG_TYPE_TEXT:
        put_text(line, field->text);
        return;
    case LOG_TYPE_END:
        return;
    }
}

/* False: it did not fit, and left no trace. */
static bool put_field(struct line *line, const struct log_field *field)
{
    size_t before = line->used;
    put_name(line, field->name);
    put_value(line, field);
    bool fits = !line->overflow;
    if (!fits)
        line->used = before;
    line->overflow = false;
    return fits;
}

static void put_head(struct line *line, enum log_level level)
{
    struct timespec now;
    struct tm utc;
    char time[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &utc);
    const char *form =
        line->format == LOG_JSON ? "{\"time\":\"%s.%03dZ\",\"level\":\"%s\"" : "time=%s.%03dZ level=%s";
    char head[128];
    int length =
        snprintf(head, sizeof head, form, time, (int)(now.tv_nsec / 1000000), log_level_names[level]);
    put(line, head, (size_t)length);
}

static void write_whole(const char *bytes, size_t count)
{
    while (write(STDERR_FILENO, bytes, count) < 0 && errno == EINTR) {
    }
}

void log_write(enum log_level level, const char *message, const struct log_field *fields)
{
    int saved_errno = errno;
    struct line line = {.format = atomic_load(&line_format), .limit = LOG_LINE_BYTES - TAIL_BYTES};
    put_head(&line, level);
    bool whole = put_field(&line, &LOG_TEXT("msg", message));
    for (; fields->type != LOG_TYPE_END; fields++)
        whole &= put_field(&line, fields);
    line.limit = LOG_LINE_BYTES;
    if (!whole)
        put_field(&line, &LOG_BOOL("clipped", true));
    const char *end = line.format == LOG_JSON ? "}\n" : "\n";
    put(&line, end, strlen(end));
    write_whole(line.bytes, line.used);
    errno = saved_errno;
}
