/* The decoder against a reference on jansson: both accept the same, refuse for the same reason and read the
 * same. Input: a record's value; behind 0x1e, if it is there, its header event_id, then usagebox_time. */
#include "fuzz.h"

#include "tests/unit/event_compare.h"

#define NOW_US INT64_C(1795339800000000) /* 2026-11-22T09:30:00Z */
enum { SEPARATOR = 0x1e, HEADERS = 2 };

static struct text cut(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *stop = memchr(*at, SEPARATOR, (size_t)(end - *at));
    struct text part = {(const char *)*at, (uint32_t)((stop ? stop : end) - *at)};
    *at = stop ? stop + 1 : NULL;
    return part;
}

static void compare(struct reference *ref, struct decoder *decoder, const struct event_rules *rules,
                    const struct record *record)
{
    struct event expected;
    struct event event;
    enum refusal right = reference_decode(ref, rules, record, NOW_US, &expected);
    if (reference_gave_up(ref))
        return;
    enum refusal reason = event_decode(decoder, record, NOW_US, &event);
    const char *detail = decoder_detail(decoder);
    FUZZ_CHECK(reason == right, "%s instead of %s: %s", refusal_names[reason], refusal_names[right], detail);
    FUZZ_CHECK(reason != REFUSAL_NONE || same_event(&event, &expected), "read otherwise");
    FUZZ_CHECK(good_detail(reason, detail), "detail: %s", detail);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct event_rules rules = {.max_age_us = INT64_C(400) * 86400 * 1000000,
                                             .max_future_us = 300 * 1000000};
    static const char *const names[HEADERS] = {"event_id", "usagebox_time"};
    struct record_header headers[HEADERS];
    struct record record = {.time_ms = NOW_US / 1000, .headers = headers};
    static struct decoder *decoder; /* one for all inputs, as a process has one for all its records */
    static struct reference *ref;
    const uint8_t *at = data;
    if (!decoder) {
        decoder = decoder_new(&rules);
        ref = reference_new();
    }
    decoder_reset(decoder);
    if (size > 0)
        record.value = cut(&at, data + size);
    while (size > 0 && at && record.header_count < HEADERS) {
        const char *name = names[record.header_count];
        headers[record.header_count++] = (struct record_header){text_of(name), cut(&at, data + size)};
    }
    compare(ref, decoder, &rules, &record);
    return 0;
}
