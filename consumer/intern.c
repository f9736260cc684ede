#include "intern.h"

#include <assert.h>
#include <stdlib.h>

enum { SHORT_BYTES = 40 };

struct interned {
    struct text text; /* in place if it is short: rows never move */
    uint32_t holders;
    char place[SHORT_BYTES];
};

void intern_init(struct intern *intern, struct lookup_seed seed)
{
    *intern = (struct intern){.rows.row_bytes = sizeof(struct interned), .seed = seed};
}

static void text_free(struct interned *interned)
{
    if (interned->text.bytes != interned->place)
        free((char *)interned->text.bytes);
}

void intern_free(struct intern *intern)
{
    for (uint32_t i = 0; i < intern->rows.count; i++)
        text_free(rows_at(&intern->rows, i));
    rows_free(&intern->rows);
    lookup_free(&intern->lookup);
    intern->text_bytes = 0;
}

struct text intern_text(const struct intern *intern, uint32_t number)
{
    return ((const struct interned *)rows_at(&intern->rows, number))->text;
}

uint32_t intern_find(const struct intern *intern, struct text text)
{
    struct lookup_walk walk = lookup_walk(&intern->lookup, lookup_keyed(intern->seed, text));
    uint32_t number;
    while ((number = lookup_next(&intern->lookup, &walk)) != LOOKUP_END)
        if (text_equal(intern_text(intern, number), text))
            return number;
    return LOOKUP_END;
}

static bool text_copy(struct intern *intern, struct interned *interned, struct text text)
{
    char *bytes = text.length <= SHORT_BYTES ? interned->place : malloc(text.length);
    if (!bytes)
        return false;
    if (text.length > 0)
        memcpy(bytes, text.bytes, text.length);
    interned->text.bytes = bytes;
    interned->text.length = text.length;
    intern->text_bytes += text.length <= SHORT_BYTES ? 0 : text.length;
    return true;
}

static uint32_t add(struct intern *intern, struct text text)
{
    uint32_t number = lookup_reserve(&intern->lookup, 1) ? rows_take(&intern->rows) : ROWS_NONE;
    if (number == ROWS_NONE)
        return LOOKUP_END;
    struct interned *interned = rows_at(&intern->rows, number);
    if (!text_copy(intern, interned, text)) {
        rows_give(&intern->rows, number);
        return LOOKUP_END;
    }
    interned->holders = 1;
    lookup_insert(&intern->lookup, lookup_keyed(intern->seed, text), number);
    return number;
}

uint32_t intern_hold(struct intern *intern, struct text text)
{
    uint32_t number = intern_find(intern, text);
    if (number == LOOKUP_END)
        return add(intern, text);
    intern_hold_again(intern, number);
    return number;
}

void intern_hold_again(struct intern *intern, uint32_t number)
{
    ((struct interned *)rows_at(&intern->rows, number))->holders++;
}

void intern_release(struct intern *intern, uint32_t number)
{
    struct interned *interned = rows_at(&intern->rows, number);
    assert(interned->holders > 0);
    if (--interned->holders > 0)
        return;
    lookup_remove(&intern->lookup, lookup_keyed(intern->seed, interned->text), number);
    intern->text_bytes -= interned->text.length <= SHORT_BYTES ? 0 : interned->text.length;
    text_free(interned);
    rows_give(&intern->rows, number);
}

size_t intern_bytes(const struct intern *intern)
{
    return intern->text_bytes + rows_bytes(&intern->rows) + lookup_bytes(&intern->lookup);
}
