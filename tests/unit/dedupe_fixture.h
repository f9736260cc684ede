/* What tests of the dedupe table share. */
#ifndef UB_DEDUPE_FIXTURE_H
#define UB_DEDUPE_FIXTURE_H

#include <check.h>

#include "dedupe_keys.h"

static inline struct dedupe *new_dedupe(void)
{
    struct dedupe *dedupe = dedupe_new();
    ck_assert_ptr_nonnull(dedupe);
    return dedupe;
}

/* Check notes each assertion that it passes, which takes longer than most of what is asserted here. */
#define assert_fast(condition)                                                                               \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            ck_abort_msg("not so: %s", #condition);                                                          \
    } while (0)
#define assert_insert(dedupe, key, content, day, verdict)                                                    \
    assert_fast(dedupe_insert(dedupe, key, content, day) == (verdict))

#endif
