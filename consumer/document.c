#include "document.h"

#include "document_index.h"

#include <assert.h>
#include <stdlib.h>

struct document {
    struct document_index *index;
    char *buffer;           /* the document again, zeros behind it: reading on is always safe */
    char *unescaped;        /* strings without their escapes: never more than the document's length */
    uint64_t *is_object;    /* a bit for each open container: object or array */
    struct member *members; /* room for as many as a document can hold, and one more */
    uint32_t limit_bytes;
    uint32_t depth_limit;

    /* of the document being read */
    const char *bytes;
    uint32_t length;
    uint32_t unescaped_bytes;
    bool has_escapes;
    enum document_error error;
    const char *problem;
    int64_t problem_offset;
    size_t member_count;
};

/* Where the walk is. A struct of its own, and all that touches it inlined, so that it lives in registers. */
struct walk {
    const uint32_t *next;  /* offset of the next token */
    struct member *member; /* where the next one is put */
    uint32_t depth;
    bool keyed;  /* in an object */
    bool opened; /* the last token opened a container */
};

enum { LISTED_DEPTH = 2 };
_Static_assert((int)DOCUMENT_READABLE_BYTES == (int)DOCUMENT_INDEX_PADDING_BYTES, "what is behind the copy");

#define INLINE static inline __attribute__((always_inline))

struct document *document_new(uint32_t limit_bytes, uint32_t depth_limit)
{
    struct document *document = calloc(1, sizeof *document);
    if (!document)
        return NULL;
    document->limit_bytes = limit_bytes;
    document->depth_limit = depth_limit;
    document->index = document_index_new(limit_bytes);
    document->buffer = malloc(limit_bytes + DOCUMENT_INDEX_PADDING_BYTES);
    document->unescaped = malloc(limit_bytes + DOCUMENT_READABLE_BYTES);
    document->is_object = calloc(limit_bytes / 64 + 1, sizeof *document->is_object);
    document->members = malloc((limit_bytes / DOCUMENT_MEMBER_BYTES + 2) * sizeof *document->members);
    if (!document->index || !document->buffer || !document->unescaped || !document->is_object ||
        !document->members) {
        document_free(document);
        return NULL;
    }
    return document;
}

void document_free(struct document *document)
{
    if (!document)
        return;
    if (document->index)
        document_index_free(document->index);
    free(document->buffer);
    free(document->unescaped);
    free(document->is_object);
    free(document->members);
    free(document);
}

/* Notes a problem, unless one that goes before it is known. */
static void complain(struct document *document, enum document_error error, const char *problem,
                     int64_t offset)
{
    if (document->error == DOCUMENT_OK || error < document->error) {
        document->error = error;
        document->problem = problem;
        document->problem_offset = offset;
    }
}

static bool syntax(struct document *document, const char *problem, int64_t offset)
{
    complain(document, DOCUMENT_NOT_JSON, problem, offset);
    return false;
}

static inline bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

/* The end of the digits at `at`, of which there must be one. */
static const char *some_digits(const char *at)
{
    if (!is_digit(*at))
        return NULL;
    while (is_digit(*at))
        at++;
    return at;
}

/* The end of the number at `at`; NULL if it isn't one by the grammar. */
static const char *number_end(const char *at)
{
    if (*at == '-')
        at++;
    at = *at == '0' ? at + 1 : some_digits(at);
    if (at && *at == '.')
        at = some_digits(at + 1);
    if (at && (*at == 'e' || *at == 'E')) {
        at++;
        at = some_digits(*at == '+' || *at == '-' ? at + 1 : at);
    }
    return at;
}

/* A token must be followed by nothing but white space up to the next one. */
static bool ends_at(const struct document *document, const char *end, uint32_t next_offset)
{
    const char *next = document->buffer + next_offset;
    while (end < next && (*end == ' ' || *end == '\n' || *end == '\r' || *end == '\t'))
        end++;
    return end == next;
}

static int hex_digit(char byte)
{
    if (is_digit(byte))
        return byte - '0';
    char small = (char)(byte | 0x20);
    return small >= 'a' && small <= 'f' ? small - 'a' + 10 : -1;
}

/* The code of \uXXXX at `at`. -1: it is no such escape. */
static int32_t unit_at(const char *at, const char *end)
{
    if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
        return -1;
    int32_t unit = 0;
    for (int i = 2; i < 6; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

static bool is_high_surrogate(int32_t unit)
{
    return unit >= 0xd800 && unit <= 0xdbff;
}

static bool is_low_surrogate(int32_t unit)
{
    return unit >= 0xdc00 && unit <= 0xdfff;
}

/* Reads one escape. Returns the code point and moves *at behind it; -1: no escape by the grammar; -2: NUL or
 * a lone surrogate, *at moved. */
enum { NO_ESCAPE = -1, BAD_CODE = -2 };

static int32_t read_escape(const char **at, const char *end)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    if (end - *at < 2)
        return NO_ESCAPE;
    const char *letter = memchr(letters, (*at)[1], sizeof letters - 1);
    if (letter) {
        *at += 2;
        return meanings[letter - letters];
    }
    int32_t unit = unit_at(*at, end);
    if (unit < 0)
        return NO_ESCAPE;
    *at += 6;
    if (is_high_surrogate(unit)) {
        int32_t low = unit_at(*at, end);
        if (!is_low_surrogate(low))
            return BAD_CODE;
        *at += 6;
        return 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    }
    return unit == 0 || is_low_surrogate(unit) ? BAD_CODE : unit;
}

enum string_check { STRING_PLAIN, STRING_ESCAPED, STRING_WRONG };

static enum string_check check_escapes(struct document *document, uint32_t first, uint32_t length)
{
    enum string_check check = STRING_PLAIN;
    const char *at = document->buffer + first;
    const char *end = at + length;
    while ((at = memchr(at, '\\', (size_t)(end - at)))) {
        uint32_t offset = (uint32_t)(at - document->buffer);
        check = STRING_ESCAPED;
        int32_t code = read_escape(&at, end);
        if (code == NO_ESCAPE) {
            syntax(document, "an escape that JSON does not have", offset);
            return STRING_WRONG;
        }
        if (code == BAD_CODE)
            complain(document, DOCUMENT_BAD_STRING, "a NUL or a lone surrogate in a string", offset);
    }
    return check;
}

/* The closing quote of a string before white space; that of the opening one if there is no other. */
static uint32_t closing_quote(const struct document *document, uint32_t quote, uint32_t next)
{
    uint32_t end = next - 1;
    while (end > quote && document->buffer[end] != '"')
        end--;
    return ends_at(document, document->buffer + end + 1, next) ? end : quote;
}

/* The index knows where the string ends: before the white space that goes before the next token. */
INLINE bool read_string(struct document *document, uint32_t quote, uint32_t next, struct value *value)
{
    uint32_t end = next - 1;
    if (document->buffer[end] != '"')
        end = closing_quote(document, quote, next);
    if (end == quote)
        return syntax(document, "a string that does not end", quote);
    *value = (struct value){.type = VALUE_STRING, .offset = quote + 1, .length = end - quote - 1};
    if (!document->has_escapes)
        return true;
    enum string_check check = check_escapes(document, value->offset, value->length);
    value->escaped = check == STRING_ESCAPED;
    return check != STRING_WRONG;
}

INLINE bool read_number(struct document *document, uint32_t offset, uint32_t next, struct value *value)
{
    const char *at = document->buffer + offset;
    const char *end = number_end(at);
    if (!end || !ends_at(document, end, next))
        return syntax(document, "something that is no value", offset);
    *value = (struct value){.type = VALUE_NUMBER, .offset = offset, .length = (uint32_t)(end - at)};
    return true;
}

static bool read_literal(struct document *document, uint32_t offset, uint32_t next, struct value *value)
{
    static const struct {
        struct text spelling;
        enum value_type type;
    } literals[] = {{TEXT("true"), VALUE_TRUE}, {TEXT("false"), VALUE_FALSE}, {TEXT("null"), VALUE_NULL}};
    const char *at = document->buffer + offset;
    for (size_t i = 0; i < sizeof literals / sizeof *literals; i++) {
        struct text spelling = literals[i].spelling;
        if (memcmp(at, spelling.bytes, spelling.length) != 0 ||
            !ends_at(document, at + spelling.length, next))
            continue;
        *value = (struct value){.type = (uint8_t)literals[i].type, .offset = offset};
        return true;
    }
    return syntax(document, "something that is no value", offset);
}

INLINE void open_container(struct document *document, struct walk *walk, uint32_t offset, bool keyed)
{
    walk->depth++;
    walk->keyed = keyed;
    walk->opened = true;
    uint64_t bit = (uint64_t)1 << walk->depth % 64;
    uint64_t *word = &document->is_object[walk->depth / 64];
    *word = keyed ? *word | bit : *word & ~bit;
    if (walk->depth > document->depth_limit)
        complain(document, DOCUMENT_TOO_DEEP, "a container nested too deep", offset);
}

INLINE void close_container(const struct document *document, struct walk *walk)
{
    walk->depth--;
    walk->keyed = document->is_object[walk->depth / 64] >> walk->depth % 64 & 1;
    walk->opened = false;
}

INLINE bool read_value(struct document *document, struct walk *walk, struct value *value)
{
    uint32_t offset = *walk->next++;
    char first = document->buffer[offset];
    if (first == '"')
        return read_string(document, offset, *walk->next, value);
    if (first == '-' || is_digit(first))
        return read_number(document, offset, *walk->next, value);
    if (first != '{' && first != '[')
        return read_literal(document, offset, *walk->next, value);
    open_container(document, walk, offset, first == '{');
    *value = (struct value){.type = first == '{' ? VALUE_OBJECT : VALUE_ARRAY, .offset = offset};
    return true;
}

/* Reads `"key":`. */
INLINE bool read_key(struct document *document, struct walk *walk, struct value *key)
{
    uint32_t offset = *walk->next++;
    if (document->buffer[offset] != '"')
        return syntax(document, "something that is no key", offset);
    if (!read_string(document, offset, *walk->next, key))
        return false;
    offset = *walk->next++;
    return document->buffer[offset] == ':' || syntax(document, "a key without a colon", offset);
}

/* One step inside a container: its end, or its next value. */
INLINE bool read_next(struct document *document, struct walk *walk)
{
    char first = document->buffer[*walk->next];
    if (first == (walk->keyed ? '}' : ']')) {
        walk->next++;
        close_container(document, walk);
        return true;
    }
    if (!walk->opened && first != ',')
        return syntax(document, "something where a comma or an end should be", *walk->next);
    walk->next += !walk->opened;
    walk->opened = false;
    struct member *member = walk->member; /* one that is deeper is written over by the next */
    if (!walk->keyed)
        return read_value(document, walk, &member->value);
    member->depth = walk->depth;
    walk->member += walk->depth <= LISTED_DEPTH;
    return read_key(document, walk, &member->key) && read_value(document, walk, &member->value);
}

/* The whole document; what is wrong with it is noted. */
static void read_root(struct document *document)
{
    struct walk walk = {.next = document_index_offsets(document->index), .member = document->members};
    uint32_t start = *walk.next;
    struct value root;
    bool valid = read_value(document, &walk, &root);
    while (valid && walk.depth > 0)
        valid = read_next(document, &walk);
    if (valid && *walk.next != document->length)
        syntax(document, "something behind the end", *walk.next);
    if (document->buffer[start] != '{')
        complain(document, DOCUMENT_NOT_AN_OBJECT, "a value that is no object", start);
    document->member_count = (size_t)(walk.member - document->members);
}

static bool build_index(struct document *document, struct text bytes)
{
    memcpy(document->buffer, bytes.bytes, bytes.length);
    memset(document->buffer + bytes.length, 0, DOCUMENT_INDEX_PADDING_BYTES);
    document->has_escapes = memchr(document->buffer, '\\', bytes.length) != NULL;
    switch (document_index_build(document->index, document->buffer, bytes.length)) {
    case DOCUMENT_INDEX_OK:
        return true;
    case DOCUMENT_INDEX_NOT_UTF8:
        complain(document, DOCUMENT_NOT_UTF8, "bytes that are no UTF-8", -1);
        return false;
    case DOCUMENT_INDEX_OPEN_STRING:
        return syntax(document, "a string that does not end", bytes.length);
    case DOCUMENT_INDEX_CONTROL_BYTE:
        return syntax(document, "a raw control character in a string", -1);
    case DOCUMENT_INDEX_NO_TOKEN:
        return syntax(document, "nothing but white space", 0);
    }
    return syntax(document, "something unknown", -1);
}

enum document_error document_read(struct document *document, struct text bytes)
{
    assert(bytes.length > 0 && bytes.length <= document->limit_bytes);
    document->bytes = bytes.bytes;
    document->length = bytes.length;
    document->unescaped_bytes = 0;
    document->error = DOCUMENT_OK;
    document->member_count = 0;
    if (build_index(document, bytes))
        read_root(document);
    return document->error;
}

struct members document_members(const struct document *document)
{
    return (struct members){document->members, document->member_count, document->buffer};
}

const char *document_problem(const struct document *document)
{
    return document->problem;
}

int64_t document_problem_offset(const struct document *document)
{
    return document->problem_offset;
}

static char *put_utf8(char *out, int32_t code)
{
    if (code < 0x80) {
        *out++ = (char)code;
        return out;
    }
    int tail = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3; /* bytes behind the first one */
    static const uint8_t leads[] = {0, 0xc0, 0xe0, 0xf0};
    *out++ = (char)(leads[tail] | code >> 6 * tail);
    while (tail-- > 0)
        *out++ = (char)(0x80 | (code >> 6 * tail & 0x3f));
    return out;
}

struct text document_unescaped(struct document *document, const struct value *value)
{
    char *start = document->unescaped + document->unescaped_bytes;
    char *out = start;
    const char *at = document->bytes + value->offset;
    const char *end = at + value->length;
    assert(value->length <= document->limit_bytes - document->unescaped_bytes);
    while (at < end) {
        if (*at == '\\')
            out = put_utf8(out, read_escape(&at, end));
        else
            *out++ = *at++;
    }
    uint32_t length = (uint32_t)(out - start);
    document->unescaped_bytes += length;
    return (struct text){start, length};
}

struct text document_text(struct document *document, const struct value *value, bool *lasting)
{
    assert(value->type == VALUE_NUMBER || value->type == VALUE_STRING);
    *lasting = !value->escaped;
    if (value->escaped)
        return document_unescaped(document, value);
    return (struct text){document->bytes + value->offset, value->length};
}

bool document_is_utf8(struct text text)
{
    return document_index_is_utf8(text.bytes, text.length);
}
