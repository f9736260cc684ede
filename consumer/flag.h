/* Flags: decisions as messages of the enforcement topic. flag_book.h keeps what is there equal to what was
 * decided. */
#ifndef UB_FLAG_H
#define UB_FLAG_H

#include "decision.h"

/* The message's key, ["customer","ceiling",{scope}], into the arena. bytes NULL: out of memory. */
struct text flag_key(struct arena *arena, struct text customer_id, struct text ceiling, struct text scope);

/* The message's value without `sequence`, which flag_book_due() puts in; topics: names by index. */
struct text flag_value(struct arena *arena, const struct decision *decision, const char *const *topics);

/* decision_trace: {"flag":{…the message without sequence…},"rule":{…},"counter":{"before":…,"after":…},
 * "policy_metadata":{…},"timings":{…}}. */
struct text flag_trace(struct arena *arena, const struct decision *decision, struct text value);

/* What a message on the topic says, as far as its lane's owner needs it. Views into the parsed copy in the
 * arena. */
struct flag_message {
    struct text decision_id;
    bool active;
    bool has_event;
    struct text topic; /* of the event */
    int32_t partition;
    int64_t offset;
    int64_t expires_at_us;
    int64_t decided_at_us;
};
enum flag_reading {
    FLAG_READ,
    FLAG_FOREIGN,
    FLAG_NO_MEMORY
}; /* FOREIGN: another type, or no flag as we write it */
enum flag_reading flag_parse(struct arena *arena, struct text value, struct flag_message *message);

#endif
