/* Writes usage events as PostgreSQL's binary COPY, for PostgreSQL to judge: `copy_rows NOW_US FILE...`
 * decodes each file as a record's value at that time and puts out the accepted ones; kafka_offset is the
 * file's place in the list. `copy_rows` alone puts out the names of the columns. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "consumer/arena.h"
#include "consumer/yaml_tree.h"
#include "rollup/copy.h"

static const struct event_rules rules = {.max_age_us = INT64_C(400) * 86400 * 1000000,
                                         .max_future_us = INT64_C(300) * 1000000};

static void write_row(const struct event *event, const struct copy_origin *origin)
{
    uint8_t *row = malloc(copy_row_bound(event, origin));
    if (!row)
        abort();
    fwrite(row, 1, copy_row(event, origin, row), stdout);
    free(row);
}

static void write_file(struct decoder *decoder, const char *path, int64_t now_us, int64_t offset)
{
    struct arena arena;
    struct event event;
    arena_init(&arena, 65536);
    struct text value = file_read(path, 2 * EVENT_VALUE_LIMIT_BYTES, &arena);
    if (!value.bytes) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    struct record record = {.time_ms = now_us / 1000, .value = value};
    struct copy_origin origin = {
        .topic = TEXT("usage"), .offset = offset, .ingested_at_us = now_us, .payload = value};
    if (event_decode(decoder, &record, now_us, &event) == REFUSAL_NONE)
        write_row(&event, &origin);
    arena_free(&arena);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return puts(copy_columns) == EOF;
    int64_t now_us = strtoll(argv[1], NULL, 10);
    struct decoder *decoder = decoder_new(&rules);
    if (!decoder)
        abort();
    fwrite(copy_header, 1, COPY_HEADER_BYTES, stdout);
    for (int i = 2; i < argc; i++) {
        decoder_reset(decoder);
        write_file(decoder, argv[i], now_us, i - 2);
    }
    fwrite(copy_trailer, 1, COPY_TRAILER_BYTES, stdout);
    decoder_free(decoder);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
