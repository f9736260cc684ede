/* Who gives an order: what ceilings and the ledger keep as applied_by and actor. */
#ifndef UB_ACTOR_H
#define UB_ACTOR_H

enum { ACTOR_BYTES = 320 };

/* "ann@host-7": the operating system's user and host, a number for a user that it does not know. Returns out.
 */
const char *actor_name(char out[ACTOR_BYTES]);

#endif
