#include "event.h"

const char *const event_lifted_names[LIFTED_COUNT] = {
    [LIFTED_PROVIDER] = "provider",   [LIFTED_SERVICE_TIER] = "service_tier",
    [LIFTED_GPU_TYPE] = "gpu_type",   [LIFTED_AGENT_ID] = "agent_id",
    [LIFTED_RUN_ID] = "run_id",       [LIFTED_PARENT_RUN_ID] = "parent_run_id",
    [LIFTED_USER_ID] = "user_id",     [LIFTED_OPERATION] = "operation",
    [LIFTED_TOOL_NAME] = "tool_name", [LIFTED_CONTEXT_WINDOW] = "context_window",
};

const char *const refusal_names[REFUSAL_COUNT] = {
    [REFUSAL_NONE] = "none",
    [REFUSAL_EMPTY_VALUE] = "empty_value",
    [REFUSAL_TOO_LARGE] = "too_large",
    [REFUSAL_NOT_UTF8] = "not_utf8",
    [REFUSAL_NOT_JSON] = "not_json",
    [REFUSAL_NOT_AN_OBJECT] = "not_an_object",
    [REFUSAL_TOO_DEEP] = "too_deep",
    [REFUSAL_BAD_STRING] = "bad_string",
    [REFUSAL_DUPLICATE_KEY] = "duplicate_key",
    [REFUSAL_MISSING_FIELD] = "missing_field",
    [REFUSAL_WRONG_TYPE] = "wrong_type",
    [REFUSAL_OUT_OF_RANGE] = "out_of_range",
    [REFUSAL_BAD_TIMESTAMP] = "bad_timestamp",
    [REFUSAL_CONFLICTING_FIELD] = "conflicting_field",
    [REFUSAL_TOO_OLD] = "too_old",
    [REFUSAL_IN_FUTURE] = "in_future",
    [REFUSAL_KEY_MISMATCH] = "key_mismatch",
    [REFUSAL_WRONG_PARTITION] = "wrong_partition",
    [REFUSAL_STORE_REFUSED] = "store_refused",
    [REFUSAL_NO_MEMORY] = "no_memory",
};
