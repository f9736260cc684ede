/* The log: one line per event on standard error, as logfmt or JSON, with typed fields. A line is one write(2)
 * of at most LOG_LINE_BYTES, so that lines of threads and processes never mix, and whatever bytes a field
 * holds (a hostile customer_id, say) come out escaped.
 *
 *     log_info("lane taken over", LOG_INT("lane", 3), LOG_TEXT("owner", owner));
 *     time=2026-11-02T18:00:00.123Z level=info msg="lane taken over" lane=3 owner=host-7 */
#ifndef UB_LOG_H
#define UB_LOG_H

#include "text.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_LEVELS };
enum log_format { LOG_LOGFMT, LOG_JSON, LOG_FORMATS };
extern const char *const log_level_names[LOG_LEVELS];   /* "debug", "info", "warning", "error" */
extern const char *const log_format_names[LOG_FORMATS]; /* "logfmt", "json" */

enum { LOG_LINE_BYTES = 4096 }; /* PIPE_BUF: written whole or not at all */

enum log_type { LOG_TYPE_END, LOG_TYPE_INT, LOG_TYPE_UINT, LOG_TYPE_BOOL, LOG_TYPE_MS, LOG_TYPE_TEXT };

struct log_field {
    const char *name; /* a-z 0-9 _ */
    enum log_type type;
    union {
        int64_t integer;
        uint64_t natural;
        bool truth;
        struct text text;
    };
};

#define LOG_INT(key, value) ((struct log_field){.name = (key), .type = LOG_TYPE_INT, .integer = (value)})
#define LOG_UINT(key, value) ((struct log_field){.name = (key), .type = LOG_TYPE_UINT, .natural = (value)})
#define LOG_BOOL(key, value) ((struct log_field){.name = (key), .type = LOG_TYPE_BOOL, .truth = (value)})
/* Takes microseconds and shows milliseconds: 12.345. The key should end in _ms. */
#define LOG_MS(key, value_us) ((struct log_field){.name = (key), .type = LOG_TYPE_MS, .integer = (value_us)})
/* A terminated string (NULL shows as empty), or a view of any bytes. */
#define LOG_TEXT(key, value) LOG_VIEW(key, log_text(value))
#define LOG_VIEW(key, value) ((struct log_field){.name = (key), .type = LOG_TYPE_TEXT, .text = (value)})
#define LOG_END ((struct log_field){.type = LOG_TYPE_END})

static inline struct text log_text(const char *terminated)
{
    return text_of(terminated ? terminated : "");
}

/* Until this is called: logfmt from LOG_INFO on. Safe at any time, from any thread. */
void log_configure(enum log_level least, enum log_format format);
bool log_enabled(enum log_level level);

/* fields end with LOG_END. A field that doesn't fit in the line any more is left out and clipped=true added;
 * a text field is cut at 1,000 bytes. Thread-safe; never fails visibly: there is nowhere to say so. */
void log_write(enum log_level level, const char *message, const struct log_field *fields);

/* Arguments after the message: LOG_…() fields, any number. */
#define log_event(level, message, ...)                                                                       \
    do {                                                                                                     \
        if (log_enabled(level))                                                                              \
            log_write(level, message, (const struct log_field[]){__VA_ARGS__});                              \
    } while (0)
#define log_debug(message, ...) log_event(LOG_DEBUG, message, ##__VA_ARGS__, LOG_END)
#define log_info(message, ...) log_event(LOG_INFO, message, ##__VA_ARGS__, LOG_END)
#define log_warning(message, ...) log_event(LOG_WARNING, message, ##__VA_ARGS__, LOG_END)
#define log_error(message, ...) log_event(LOG_ERROR, message, ##__VA_ARGS__, LOG_END)

#endif
