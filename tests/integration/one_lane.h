/* What most tests of the store begin with: a store and a batch, and room for a lane. A checked fixture,
 * open_store() and close_store(). To be included once in a program. */
#ifndef UB_ONE_LANE_H
#define UB_ONE_LANE_H

#include "store_fixture.h"

static struct postgres_store *store;
static struct batch *batch;
static struct taken taken;

static void open_store(void)
{
    store = new_store();
    batch = new_batch();
}

static void close_store(void)
{
    batch_free(batch);
    taken_free(&taken);
    postgres_store_free(store);
}

#endif
