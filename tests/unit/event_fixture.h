/* What tests of the decoder share: one decoder, one event, and short ways to say what is expected of a
 * document. A header, as each unit test is one program of one file. */
#ifndef UB_EVENT_FIXTURE_H
#define UB_EVENT_FIXTURE_H

#include "consumer/event.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define NOW_US ((int64_t)1795339800000000) /* 2026-11-22T09:30:00Z */
#define SECOND_US ((int64_t)1000000)

/* An event that lacks one member: %s is put at its end. */
#define BASE "\"event_id\":\"e1\",\"customer_id\":\"acme-co\",\"meter\":\"tokens\""
#define EVENT(members) "{" BASE ",\"quantity\":1," members "}"
#define QUANTITY(number) "{" BASE ",\"quantity\":" number "}"
#define METADATA(members) EVENT("\"metadata\":{" members "}")
#define RULES                                                                                                \
    {                                                                                                        \
        .max_age_us = 400 * 86400 * SECOND_US, .max_future_us = 300 * SECOND_US                              \
    }

static struct decoder *decoder;
static struct event event;
static struct record_header headers[2];

static inline void setup(void)
{
    struct event_rules rules = RULES;
    decoder = decoder_new(&rules);
    memset(headers, 0, sizeof headers);
}

static inline void teardown(void)
{
    decoder_free(decoder);
}

static inline struct record record_of(struct text value)
{
    return (struct record){.time_ms = NOW_US / 1000, .value = value, .headers = headers, .header_count = 2};
}

static inline enum refusal decode(struct text value)
{
    struct record record = record_of(value);
    return event_decode(decoder, &record, NOW_US, &event);
}

static inline void assert_accepted(const char *json)
{
    enum refusal reason = decode(text_of(json));
    ck_assert_msg(reason == REFUSAL_NONE, "%s: %s: %.300s", refusal_names[reason], decoder_detail(decoder),
                  json);
    ck_assert_str_eq(decoder_detail(decoder), "");
}

static inline void assert_refused(enum refusal expected, const char *json)
{
    enum refusal reason = decode(text_of(json));
    ck_assert_msg(reason == expected, "%s instead of %s: %s: %.300s", refusal_names[reason],
                  refusal_names[expected], decoder_detail(decoder), json);
    ck_assert_uint_gt(strlen(decoder_detail(decoder)), 10);
    ck_assert_uint_le(strlen(decoder_detail(decoder)), 255);
}

/* Puts a string of `length` times `unit` into the place of the '#' in a template. */
static inline const char *filled(const char *template, const char *unit, size_t length)
{
    static char json[2 << 20];
    const char *mark = strchr(template, '#');
    char *at = json + (mark - template);
    memcpy(json, template, (size_t)(mark - template));
    for (size_t i = 0; i < length; i++)
        at = stpcpy(at, unit);
    strcpy(at, mark + 1);
    return json;
}

#endif
