/* rd_kafka_producev() in the hands of a test: what it was called with, for the call that takes a list. */
#ifndef UB_PRODUCEV_H
#define UB_PRODUCEV_H

#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdlib.h>

enum { PRODUCEV_MOST = 16 };

/* The arguments that usagebox uses. */
static inline size_t producev_list(va_list arguments, rd_kafka_vu_t *list)
{
    size_t count = 0;
    for (int tag; (tag = va_arg(arguments, int)) != RD_KAFKA_VTYPE_END; count++) {
        rd_kafka_vu_t *item = &list[count];
        *item = (rd_kafka_vu_t){.vtype = (rd_kafka_vtype_t)tag};
        switch (item->vtype) {
        case RD_KAFKA_VTYPE_TOPIC:
            item->u.cstr = va_arg(arguments, const char *);
            break;
        case RD_KAFKA_VTYPE_RKT:
            item->u.rkt = va_arg(arguments, rd_kafka_topic_t *);
            break;
        case RD_KAFKA_VTYPE_PARTITION:
            item->u.i32 = va_arg(arguments, int32_t);
            break;
        case RD_KAFKA_VTYPE_KEY:
        case RD_KAFKA_VTYPE_VALUE:
            item->u.mem.ptr = va_arg(arguments, void *);
            item->u.mem.size = va_arg(arguments, size_t);
            break;
        case RD_KAFKA_VTYPE_OPAQUE:
            item->u.ptr = va_arg(arguments, void *);
            break;
        case RD_KAFKA_VTYPE_MSGFLAGS:
            item->u.i = va_arg(arguments, int);
            break;
        case RD_KAFKA_VTYPE_HEADERS:
            item->u.headers = va_arg(arguments, rd_kafka_headers_t *);
            break;
        case RD_KAFKA_VTYPE_HEADER:
            item->u.header.name = va_arg(arguments, const char *);
            item->u.header.val = va_arg(arguments, const void *);
            item->u.header.size = va_arg(arguments, ssize_t);
            break;
        default:
            abort();
        }
    }
    return count;
}

static inline rd_kafka_resp_err_t producev_listed(rd_kafka_t *handle, va_list arguments)
{
    rd_kafka_vu_t list[PRODUCEV_MOST];
    size_t count = producev_list(arguments, list);
    rd_kafka_error_t *error = rd_kafka_produceva(handle, list, count);
    rd_kafka_resp_err_t code = error ? rd_kafka_error_code(error) : RD_KAFKA_RESP_ERR_NO_ERROR;
    if (error)
        rd_kafka_error_destroy(error);
    return code;
}

#endif
