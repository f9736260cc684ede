#include "consumer/check.h"

#include <check.h>

#include "suite.h"

static void expect(const char *remedy, const char *words)
{
    ck_assert_msg(strstr(remedy, words) != NULL, "\"%s\" does not say \"%s\"", remedy, words);
}

START_TEST(a_group_that_answers_late_is_no_matter_of_privileges)
{
    expect(check_group_remedy("usagebox: Failed while waiting for controller: Local: Timed out"),
           "try again");
    expect(check_group_remedy("usagebox: Broker: Coordinator load in progress"), "try again");
    expect(check_group_remedy("usagebox: Broker: Coordinator not available"), "try again");
    expect(check_group_remedy("usagebox: Broker: Group authorization failed"), "Read and Describe");
    expect(check_group_remedy("something new"), "Read and Describe");
}
END_TEST

START_TEST(words_that_nobody_foresaw_get_the_general_advice)
{
    expect(check_kafka_remedy("something new"), "check the address");
    expect(check_postgres_remedy("something new"), "psql must get in");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_group_that_answers_late_is_no_matter_of_privileges);
    tcase_add_test(tests, words_that_nobody_foresaw_get_the_general_advice);
}

int main(void)
{
    return run_suite("remedies", add_tests);
}
