#include "sentence.h"

#include <stdarg.h>
#include <stdio.h>

#define ELLIPSIS "…"
enum { ELLIPSIS_BYTES = sizeof ELLIPSIS - 1 };

void sentence_start(struct sentence *sentence)
{
    sentence->bytes[0] = '\0';
    sentence->length = 0;
    sentence->full = false;
}

static void put(struct sentence *sentence, const char *bytes, uint32_t length)
{
    memcpy(sentence->bytes + sentence->length, bytes, length);
    sentence->length += length;
    sentence->bytes[sentence->length] = '\0';
}

/* Adds one character or escape, whole or not at all, and keeps room for the ellipsis. */
static void add_whole(struct sentence *sentence, const char *bytes, uint32_t length)
{
    if (sentence->full)
        return;
    if (sentence->length + length + ELLIPSIS_BYTES > SENTENCE_LIMIT_BYTES) {
        put(sentence, ELLIPSIS, ELLIPSIS_BYTES);
        sentence->full = true;
        return;
    }
    put(sentence, bytes, length);
}

/* Of the UTF-8 character at `at`. */
static uint32_t character_bytes(const char *at, const char *end)
{
    const char *next = at + 1;
    while (next < end && ((unsigned char)*next & 0xc0) == 0x80)
        next++;
    return (uint32_t)(next - at);
}

/* The code of a control character (C0, DEL, C1), else -1. */
static int control_code(const char *at, uint32_t length)
{
    unsigned char first = (unsigned char)at[0];
    if (length == 1)
        return first < 0x20 || first == 0x7f ? first : -1;
    unsigned char second = (unsigned char)at[1];
    return length == 2 && first == 0xc2 && second < 0xa0 ? second : -1;
}

void sentence_add(struct sentence *sentence, struct text utf8)
{
    const char *end = utf8.bytes + utf8.length;
    for (const char *at = utf8.bytes; at < end && !sentence->full;) {
        uint32_t length = character_bytes(at, end);
        int code = control_code(at, length);
        if (code >= 0) {
            char escape[8];
            add_whole(sentence, escape, (uint32_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)code));
        } else {
            add_whole(sentence, at, length);
        }
        at += length;
    }
}

void sentence_addf(struct sentence *sentence, const char *format, ...)
{
    char text[SENTENCE_LIMIT_BYTES + 1];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length > 0)
        sentence_add(sentence, text_of(text));
}

void sentence_quote(struct sentence *sentence, struct text utf8, uint32_t limit_bytes)
{
    const char *end = utf8.bytes + utf8.length;
    const char *at = utf8.bytes;
    while (at < end && at + character_bytes(at, end) <= utf8.bytes + limit_bytes)
        at += character_bytes(at, end);
    sentence_add(sentence, TEXT("\""));
    sentence_add(sentence, (struct text){utf8.bytes, (uint32_t)(at - utf8.bytes)});
    sentence_add(sentence, at < end ? TEXT(ELLIPSIS "\"") : TEXT("\""));
}
