/* The encoder of COPY rows: what the decoder accepts fits the bound, and is a row with as many fields as
 * there are columns. Input: a record's value. tests/integration/copy_rows.c writes the rows
 * for PostgreSQL to judge. */
#include "fuzz.h"

#include "rollup/copy.h"

#include <string.h>

#define NOW_US INT64_C(1795339800000000) /* 2026-11-22T09:30:00Z */

static struct decoder *the_decoder(void)
{
    static const struct event_rules rules = {.max_age_us = INT64_C(400) * 86400 * 1000000,
                                             .max_future_us = 300 * 1000000};
    static struct decoder *decoder;
    if (!decoder)
        decoder = decoder_new(&rules);
    decoder_reset(decoder);
    return decoder;
}

static uint32_t count_columns(void)
{
    uint32_t count = 1;
    for (const char *at = copy_columns; *at; at++)
        count += *at == ',';
    return count;
}

static void check_row(const uint8_t *row, size_t size)
{
    struct fuzz_bytes bytes = {row, size};
    uint32_t fields = fuzz_take(&bytes, 2);
    FUZZ_CHECK(fields == count_columns(), "%u fields", fields);
    for (uint32_t i = 0; i < fields; i++) {
        uint32_t length = fuzz_take(&bytes, 4);
        if (length == UINT32_MAX)
            continue;
        FUZZ_CHECK(length <= bytes.left, "field %u of %u bytes, %zu left", i, length, bytes.left);
        bytes.at += length;
        bytes.left -= length;
    }
    FUZZ_CHECK(bytes.left == 0, "%zu bytes behind the row", bytes.left);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct event event;
    struct record record = {.time_ms = NOW_US / 1000, .value = {(const char *)data, (uint32_t)size}};
    if (event_decode(the_decoder(), &record, NOW_US, &event) != REFUSAL_NONE)
        return 0;
    struct copy_origin origin = {.topic = TEXT("usage"), .ingested_at_us = NOW_US, .payload = record.value};
    size_t bound = copy_row_bound(&event, &origin);
    uint8_t *row = malloc(bound); /* exactly, so that ASan sees a bound that is too small */
    size_t written = copy_row(&event, &origin, row);
    FUZZ_CHECK(written <= bound, "%zu bytes, bound %zu", written, bound);
    check_row(row, written);
    free(row);
    return 0;
}
