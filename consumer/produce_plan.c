#include "produce_plan.h"

#include <math.h>
#include <stdlib.h>
#include <sys/random.h>

#include "system_clock.h"
#include "timestamp.h"

#define DEFAULT_SPAN_US INT64_C(3600000000)

static bool parse_share(const struct command_context *context, const char *option, const char *text,
                        double *share)
{
    char *end;
    *share = strtod(text, &end);
    if (end != text && *end == '\0' && *share >= 0 && *share <= 1) /* no NaN passes */
        return true;
    command_fail(context, EXIT_USAGE, "--%s: expected a share from 0 to 1 such as 0.01, found \"%s\"", option,
                 text);
    return false;
}

static bool parse_shares(const struct command_context *context, const struct plan_choice *choice,
                         struct generate_plan *plan)
{
    if (!parse_share(context, "duplicates", choice->duplicates, &plan->duplicate_share) ||
        !parse_share(context, "late", choice->late, &plan->late_share) ||
        !parse_share(context, "bad", choice->bad, &plan->bad_share))
        return false;
    if (plan->duplicate_share + plan->late_share + plan->bad_share <= 1)
        return true;
    command_fail(context, EXIT_USAGE, "--duplicates, --late and --bad are more than 1 together");
    return false;
}

/* Without a rate everything is sent at once, as if an hour's events had piled up; at a rate each event
 * happens when it is sent. */
static bool plan_times(const struct command_context *context, const struct plan_choice *choice,
                       struct generate_plan *plan)
{
    plan->span_us = DEFAULT_SPAN_US;
    if (choice->rate_per_s > 0)
        plan->span_us = (int64_t)((double)plan->count * 1e6 / (double)choice->rate_per_s);
    if (choice->span_us > 0)
        plan->span_us = choice->span_us;
    plan->first_time_us = system_wall_us() - (choice->rate_per_s > 0 ? 0 : plan->span_us);
    if (!choice->start || timestamp_from_rfc3339(text_of(choice->start), &plan->first_time_us))
        return true;
    command_fail(context, EXIT_USAGE, "--start: expected a time such as 2026-11-22T09:30:00Z, found \"%s\"",
                 choice->start);
    return false;
}

int plan_events(const struct command_context *context, const struct plan_choice *choice,
                struct generate_plan *plan)
{
    uint64_t any;
    if (choice->count == 0 && choice->rate_per_s == 0)
        return command_fail(context, EXIT_USAGE, "--duration needs --rate");
    if (getrandom(&any, sizeof any, 0) != (ssize_t)sizeof any)
        return command_fail(context, EXIT_FAILED, "no random bytes to be had");
    *plan = (struct generate_plan){
        .seed = choice->seed > 0 ? (uint64_t)choice->seed : any >> 1,
        .customers = (uint32_t)choice->customers,
        .count = (uint64_t)choice->count,
    };
    if (choice->duration_us > 0) {
        double count = (double)choice->duration_us / 1e6 * (double)choice->rate_per_s;
        if (choice->count == 0 || count < (double)choice->count)
            plan->count = (uint64_t)ceil(count);
    }
    return parse_shares(context, choice, plan) && plan_times(context, choice, plan) ? -1 : EXIT_USAGE;
}
