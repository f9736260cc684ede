#include "row_sort.h"

#include <endian.h>
#include <stdlib.h>

/* A text's first bytes behind what all share, and in the last one how many there are at all, or MORE. */
enum { WORD_TEXT_BYTES = 7, MORE = WORD_TEXT_BYTES + 1 };

void row_prefix_see(struct row_prefix *prefix, struct text text)
{
    if (!prefix->some)
        *prefix = (struct row_prefix){text, true};
    uint32_t same = 0;
    while (same < prefix->shared.length && same < text.length &&
           prefix->shared.bytes[same] == text.bytes[same])
        same++;
    prefix->shared.length = same;
}

static uint64_t word_of(struct text text, struct text shared)
{
    uint32_t left = text.length - shared.length;
    char bytes[sizeof(uint64_t)] = {0};
    if (left > 0)
        memcpy(bytes, text.bytes + shared.length, left < WORD_TEXT_BYTES ? left : WORD_TEXT_BYTES);
    bytes[WORD_TEXT_BYTES] = (char)(left < MORE ? left : MORE);
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return be64toh(word);
}

/* Texts with equal words may differ behind them. */
static bool says_all(uint64_t word)
{
    return (word & UINT8_MAX) != MORE;
}

static int compare_numbers(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

/* Bytewise, as COLLATE "C" sorts. */
static int compare_texts(struct text a, struct text b)
{
    uint32_t common = a.length < b.length ? a.length : b.length;
    int order = common > 0 ? memcmp(a.bytes, b.bytes, common) : 0;
    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

static int compare_hourly(const void *left, const void *right)
{
    const struct sorted_row *l = left, *r = right;
    const struct hourly_row *a = l->hourly, *b = r->hourly;
    int order = compare_numbers(l->first, r->first);
    if (order == 0 && !says_all(l->first))
        order = compare_texts(a->customer_id, b->customer_id);
    if (order == 0)
        order = compare_numbers(l->second, r->second);
    if (order == 0)
        order = compare_texts(a->meter, b->meter);
    if (order == 0)
        order = compare_texts(a->model, b->model);
    return order != 0 ? order : compare_texts(a->dimensions, b->dimensions);
}

static int compare_runs(const void *left, const void *right)
{
    const struct sorted_row *l = left, *r = right;
    const struct run_row *a = l->run, *b = r->run;
    int order = compare_numbers(l->first, r->first);
    if (order == 0 && !says_all(l->first))
        order = compare_texts(a->customer_id, b->customer_id);
    if (order == 0)
        order = compare_numbers(l->second, r->second);
    if (order == 0 && !says_all(l->second))
        order = compare_texts(a->run_id, b->run_id);
    if (order == 0)
        order = compare_texts(a->agent_id, b->agent_id);
    if (order == 0)
        order = compare_texts(a->user_id, b->user_id);
    if (order == 0)
        order = compare_texts(a->meter, b->meter);
    return order != 0 ? order : compare_texts(a->model, b->model);
}

void row_sort_hourly(struct sorted_row *rows, size_t count, struct text shared_customer)
{
    for (size_t i = 0; i < count; i++) {
        rows[i].first = word_of(rows[i].hourly->customer_id, shared_customer);
        rows[i].second = (uint64_t)rows[i].hourly->hour_us ^ UINT64_C(1) << 63; /* negative ones first */
    }
    qsort(rows, count, sizeof *rows, compare_hourly);
}

void row_sort_runs(struct sorted_row *rows, size_t count, struct text shared_customer, struct text shared_run)
{
    for (size_t i = 0; i < count; i++) {
        rows[i].first = word_of(rows[i].run->customer_id, shared_customer);
        rows[i].second = word_of(rows[i].run->run_id, shared_run);
    }
    qsort(rows, count, sizeof *rows, compare_runs);
}
