#include "ceiling.h"

const char *const ceiling_period_names[PERIOD_COUNT] = {"hour", "day", "month"};
const char *const ceiling_policy_names[POLICY_COUNT] = {"alert", "throttle", "hard-stop"};
const char *const ceiling_who_names[WHO_COUNT] = {"everyone", "customer", "plan"};
const char *const ceiling_scope_names[SCOPE_COUNT] = {"customer"};
