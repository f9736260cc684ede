#include "consumer/check.h"

#include <check.h>
#include <stdlib.h>

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

int main(void)
{
    TCase *cases = tcase_create("remedies");
    tcase_add_test(cases, a_group_that_answers_late_is_no_matter_of_privileges);
    tcase_add_test(cases, words_that_nobody_foresaw_get_the_general_advice);
    Suite *suite = suite_create("remedies");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
