/* Where the tokens of a JSON document begin, found with SIMD: simdjson's first stage, which also validates
 * UTF-8 and finds the end of every string. All that is C++ in this program is behind this header. */
#ifndef UB_DOCUMENT_INDEX_H
#define UB_DOCUMENT_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { DOCUMENT_INDEX_PADDING_BYTES = 64 }; /* readable behind a document */

enum document_index_error {
    DOCUMENT_INDEX_OK,
    DOCUMENT_INDEX_NOT_UTF8,
    DOCUMENT_INDEX_OPEN_STRING,  /* a string has no end */
    DOCUMENT_INDEX_CONTROL_BYTE, /* a byte below 0x20 in a string */
    DOCUMENT_INDEX_NO_TOKEN      /* nothing but white space */
};

struct document_index;

/* For documents of up to limit_bytes. NULL: out of memory. */
struct document_index *document_index_new(uint32_t limit_bytes);
void document_index_free(struct document_index *index);

/* length: 1 to limit_bytes; DOCUMENT_INDEX_PADDING_BYTES more must be readable. */
enum document_index_error document_index_build(struct document_index *index, const char *bytes,
                                               uint32_t length);

/* The offsets, in rising order, of each of {}[]:, outside of strings and of the first byte of each string,
 * number and literal; whatever else stands outside of strings counts as part of a literal. Ends with the
 * document's length. Valid until the next build. */
const uint32_t *document_index_offsets(const struct document_index *index);

bool document_index_is_utf8(const char *bytes, uint32_t length);

#ifdef __cplusplus
}
#endif

#endif
