/* What the fuzzers share: a check that ends the run with a sentence, and a reader of small numbers from the
 * input's bytes. Each fuzzer is one program of one file, linked with libFuzzer, or with replay.c, which runs
 * files that there are. */
#ifndef UB_FUZZ_H
#define UB_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition, ...)                                                                           \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: not so: %s: ", __FILE__, __LINE__, #condition);                          \
            fprintf(stderr, __VA_ARGS__);                                                                    \
            fputc('\n', stderr);                                                                             \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

struct fuzz_bytes {
    const uint8_t *at;
    size_t left;
};

/* Big-endian; 0 for bytes that aren't there. */
static inline uint32_t fuzz_take(struct fuzz_bytes *bytes, int count)
{
    uint32_t value = 0;
    while (count-- > 0) {
        value = value << 8 | (bytes->left > 0 ? *bytes->at : 0);
        bytes->at += bytes->left > 0;
        bytes->left -= bytes->left > 0;
    }
    return value;
}

#endif
