/* Calls of librdkafka that both kinds of failing tests have, and what each answers when it fails: for
 * MAY_FAIL(type, name, failure, parameters, arguments), which whoever includes this has defined. */
MAY_FAIL(rd_kafka_t *, rd_kafka_new, (snprintf(error, size, "on purpose"), NULL),
         (rd_kafka_type_t type, rd_kafka_conf_t *conf, char *error, size_t size), (type, conf, error, size))
/* It takes conf even if it fails. */
MAY_FAIL(rd_kafka_topic_t *, rd_kafka_topic_new, (conf ? rd_kafka_topic_conf_destroy(conf) : (void)0, NULL),
         (rd_kafka_t * handle, const char *topic, rd_kafka_topic_conf_t *conf), (handle, topic, conf))
MAY_FAIL(rd_kafka_resp_err_t, rd_kafka_metadata, RD_KAFKA_RESP_ERR__TRANSPORT,
         (rd_kafka_t * handle, int all, rd_kafka_topic_t *topic, const struct rd_kafka_metadata **metadata,
          int timeout_ms),
         (handle, all, topic, metadata, timeout_ms))
MAY_FAIL(rd_kafka_resp_err_t, rd_kafka_query_watermark_offsets, RD_KAFKA_RESP_ERR__TIMED_OUT,
         (rd_kafka_t * handle, const char *topic, int32_t partition, int64_t *low, int64_t *high,
          int timeout_ms),
         (handle, topic, partition, low, high, timeout_ms))
MAY_FAIL(int, rd_kafka_consume_start_queue, -1,
         (rd_kafka_topic_t * topic, int32_t partition, int64_t offset, rd_kafka_queue_t *queue),
         (topic, partition, offset, queue))
