/* The main() of a test program. */
#ifndef UB_SUITE_H
#define UB_SUITE_H

#include <check.h>

/* Runs the tests that add_tests() adds, each for a minute at most unless add_tests() says otherwise. Returns
 * what main() does. */
int run_suite(const char *name, void (*add_tests)(TCase *tests));

#endif
