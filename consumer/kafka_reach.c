#include "kafka_reach.h"

#include <stdio.h>

#include "system_clock.h"

enum { SLICE_MS = 200 };

struct reaching {
    bool is_down;  /* all brokers are */
    bool is_wrong; /* goes on until a person does something */
};

/* Takes in what librdkafka has reported. That all brokers are down follows upon the reason why, which says
 * more. */
static void hear_errors(rd_kafka_queue_t *errors, struct reaching *reaching, char error[KAFKA_ERROR_BYTES])
{
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(errors, 0))) {
        rd_kafka_resp_err_t code = rd_kafka_event_error(event);
        bool is_down = code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
        reaching->is_down |= is_down;
        reaching->is_wrong |= code == RD_KAFKA_RESP_ERR__AUTHENTICATION || code == RD_KAFKA_RESP_ERR__SSL;
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR && (!is_down || *error == '\0'))
            snprintf(error, KAFKA_ERROR_BYTES, "%s", rd_kafka_event_error_string(event));
        rd_kafka_event_destroy(event);
    }
}

const struct rd_kafka_metadata *kafka_reach(rd_kafka_t *handle, rd_kafka_queue_t *errors,
                                            rd_kafka_topic_t *topic, bool is_patient, int timeout_ms,
                                            char error[KAFKA_ERROR_BYTES])
{
    const struct rd_kafka_metadata *metadata;
    struct reaching reaching = {0};
    int64_t deadline_ms = system_steady_ms() + timeout_ms;
    *error = '\0';
    for (;;) {
        rd_kafka_resp_err_t code = rd_kafka_metadata(handle, 0, topic, &metadata, SLICE_MS);
        if (!code)
            return metadata;
        hear_errors(errors, &reaching, error);
        if (!reaching.is_wrong && !(reaching.is_down && !is_patient) && system_steady_ms() < deadline_ms)
            continue;
        if (*error == '\0')
            snprintf(error, KAFKA_ERROR_BYTES, "no broker answers: %s", rd_kafka_err2str(code));
        return NULL;
    }
}
