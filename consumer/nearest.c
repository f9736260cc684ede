#include "nearest.h"

#include <stdint.h>
#include <string.h>

enum { WORD_LIMIT = 63 };

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Optimal string alignment: insertions, deletions, changes and swaps of neighbours. (Damerau, "A technique
 * for computer detection and correction of spelling errors", 1964.) */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[3][WORD_LIMIT + 1];
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_length; j++)
        last[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            row[j] = least(least(last[j], row[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
        }
        size_t *oldest = before;
        before = last;
        last = row;
        row = oldest;
    }
    return last[b_length];
}

void nearest_try(struct nearest *nearest, const char *candidate)
{
    size_t word_length = strlen(nearest->word), length = strlen(candidate);
    if (word_length > WORD_LIMIT || length > WORD_LIMIT)
        return;
    size_t found = distance(nearest->word, word_length, candidate, length);
    if (found > (length + 2) / 3 || (nearest->best && found >= nearest->distance))
        return;
    nearest->best = candidate;
    nearest->distance = found;
}
