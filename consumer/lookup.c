#include "lookup.h"

#include <assert.h>
#include <stdlib.h>

#include "../rollup/row_hash.h"

enum { LEAST_CELLS = 16 };

void lookup_free(struct lookup *lookup)
{
    free(lookup->cells);
    *lookup = (struct lookup){0};
}

size_t lookup_bytes(const struct lookup *lookup)
{
    return lookup->cells ? (lookup->mask + 1) * sizeof *lookup->cells : 0;
}

static void place(struct lookup_cell *cells, size_t mask, struct lookup_cell cell)
{
    size_t at = cell.hash & mask;
    while (cells[at].row != 0)
        at = (at + 1) & mask;
    cells[at] = cell;
}

/* Three of four cells are filled at the most. */
static bool has_room(size_t capacity, size_t count)
{
    return count <= capacity - capacity / 4;
}

bool lookup_reserve(struct lookup *lookup, size_t more)
{
    size_t capacity = lookup->cells ? lookup->mask + 1 : 0;
    size_t wanted = capacity ? capacity : LEAST_CELLS;
    while (!has_room(wanted, lookup->count + more))
        wanted *= 2;
    if (wanted == capacity)
        return true;
    struct lookup_cell *cells = calloc(wanted, sizeof *cells);
    if (!cells)
        return false;
    for (size_t i = 0; i < capacity; i++)
        if (lookup->cells[i].row != 0)
            place(cells, wanted - 1, lookup->cells[i]);
    free(lookup->cells);
    lookup->cells = cells;
    lookup->mask = wanted - 1;
    return true;
}

void lookup_insert(struct lookup *lookup, uint64_t hash, uint32_t row)
{
    assert(lookup->cells && has_room(lookup->mask + 1, lookup->count + 1) && row < LOOKUP_END);
    place(lookup->cells, lookup->mask, (struct lookup_cell){(uint32_t)hash, row + 1});
    lookup->count++;
}

/* Moves later cells of the run back over the hole, so that no probe ends before the row it looks for. */
static void close_hole(struct lookup *lookup, size_t hole)
{
    size_t mask = lookup->mask;
    for (size_t at = (hole + 1) & mask; lookup->cells[at].row != 0; at = (at + 1) & mask) {
        size_t home = lookup->cells[at].hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            lookup->cells[hole] = lookup->cells[at];
            hole = at;
        }
    }
    lookup->cells[hole].row = 0;
}

void lookup_remove(struct lookup *lookup, uint64_t hash, uint32_t row)
{
    assert(lookup->count > 0);
    size_t at = (uint32_t)hash & lookup->mask;
    while (lookup->cells[at].row != row + 1) {
        assert(lookup->cells[at].row != 0);
        at = (at + 1) & lookup->mask;
    }
    close_hole(lookup, at);
    lookup->count--;
}

struct lookup_walk lookup_walk(const struct lookup *lookup, uint64_t hash)
{
    return (struct lookup_walk){.at = (uint32_t)hash & lookup->mask, .hash = (uint32_t)hash};
}

uint32_t lookup_next(const struct lookup *lookup, struct lookup_walk *walk)
{
    if (!lookup->cells)
        return LOOKUP_END;
    while (lookup->cells[walk->at].row != 0) {
        struct lookup_cell cell = lookup->cells[walk->at];
        walk->at = (walk->at + 1) & lookup->mask;
        if (cell.hash == walk->hash)
            return cell.row - 1;
    }
    return LOOKUP_END;
}

uint32_t lookup_each(const struct lookup *lookup, size_t *cell)
{
    while (lookup->cells && *cell <= lookup->mask) {
        uint32_t row = lookup->cells[(*cell)++].row;
        if (row != 0)
            return row - 1;
    }
    return LOOKUP_END;
}

/* Folds the 128-bit product: every bit of both sides reaches the low half. */
uint64_t lookup_mix(uint64_t hash, uint64_t more)
{
    unsigned __int128 product =
        (unsigned __int128)(hash ^ 0x9e3779b97f4a7c15u) * (more ^ 0xd6e8feb86659fd93u);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t lookup_text(uint64_t hash, struct text text)
{
    for (uint32_t at = 0; at + 8 <= text.length; at += 8)
        hash = lookup_mix(hash, text_load_word(text.bytes + at));
    return lookup_mix(lookup_mix(hash, text_load_rest(text)), text.length);
}

uint64_t lookup_keyed(struct lookup_seed seed, struct text text)
{
    struct row_hash hash = row_hash_begin(seed.words);
    row_hash_text(&hash, text);
    return row_hash_end(hash);
}
