/* Sorts rollup rows in the order of their tables' primary keys, bytewise. Rows stay where they are; beside
 * the pointer to each lie the bytes that decide mostly: those of its texts behind what all rows' texts begin
 * with. */
#ifndef UB_ROW_SORT_H
#define UB_ROW_SORT_H

#include "accumulator.h"

/* What all texts of one kind begin with; a view into the first one. Zero-initialise. */
struct row_prefix {
    struct text shared;
    bool some; /* it has seen a text */
};
void row_prefix_see(struct row_prefix *prefix, struct text text); /* which must last */

/* The pointers are set, the rest is not. */
void row_sort_hourly(struct sorted_row *rows, size_t count, struct text shared_customer);
void row_sort_runs(struct sorted_row *rows, size_t count, struct text shared_customer,
                   struct text shared_run);

#endif
