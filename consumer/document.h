/* A JSON document (RFC 8259), validated to its last byte, of which the caller gets a list of the members that
 * are near its root. It never converts numbers, so that none is too large or too precise. */
#ifndef UB_DOCUMENT_H
#define UB_DOCUMENT_H

#include <stddef.h>

#include "text.h"

enum document_error { /* where several apply: the first one */
                      DOCUMENT_OK,
                      DOCUMENT_NOT_UTF8,
                      DOCUMENT_NOT_JSON,
                      DOCUMENT_NOT_AN_OBJECT,
                      DOCUMENT_TOO_DEEP,
                      DOCUMENT_BAD_STRING /* a string holds NUL or a lone surrogate */
};

enum value_type {
    VALUE_ABSENT,
    VALUE_NULL,
    VALUE_FALSE,
    VALUE_TRUE,
    VALUE_NUMBER,
    VALUE_STRING,
    VALUE_ARRAY,
    VALUE_OBJECT
};

struct value {
    uint8_t type; /* enum value_type */
    bool escaped; /* a string with escapes in it */
    uint32_t offset;
    uint32_t length; /* a number, or a string between its quotes, as it stands in the document; otherwise 0 */
};

/* A member of the root (depth 1), or of an object that is a member of it (depth 2). */
struct member {
    struct value key; /* a string */
    struct value value;
    uint32_t depth;
};

struct document;

/* For documents of up to limit_bytes, in which the root has depth 1. NULL: out of memory. */
struct document *document_new(uint32_t limit_bytes, uint32_t depth_limit);
void document_free(struct document *document);

/* bytes: 1 to limit_bytes of them, that outlive the use of this document. The document lives until the next
 * read. */
enum document_error document_read(struct document *document, struct text bytes);

/* In the order of the document; there is none if that is not DOCUMENT_OK. */
struct members {
    const struct member *first;
    size_t count;
    const char *bytes; /* a copy of the document's, of which DOCUMENT_READABLE_BYTES more can be read */
};
struct members document_members(const struct document *document);

/* What each of them takes of a document, at the least. */
enum { DOCUMENT_MEMBER_BYTES = 5 }; /* "":0, */
enum { DOCUMENT_READABLE_BYTES = 64 };

/* A string without its escapes, DOCUMENT_READABLE_BYTES behind it; lives until the next read. */
struct text document_unescaped(struct document *document, const struct value *value);

/* A member's key, behind which as many bytes can be read. */
static inline struct text document_key(struct document *document, const struct members *members,
                                       const struct member *member)
{
    if (member->key.escaped)
        return document_unescaped(document, &member->key);
    return (struct text){members->bytes + member->key.offset, member->key.length};
}

/* What was found in the document, for a person, after an error, and at which byte; -1: unknown. */
const char *document_problem(const struct document *document);
int64_t document_problem_offset(const struct document *document);

/* A number as it is spelled, or a string without its escapes. *lasting says whether it points into the bytes
 * that were read; if not, it lives until the next read. */
struct text document_text(struct document *document, const struct value *value, bool *lasting);

/* Of any text, not of documents only. */
bool document_is_utf8(struct text text);

#endif
