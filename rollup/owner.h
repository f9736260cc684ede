/* A connection for what only the owner may do: partitions, seals, ceilings, offsets set by hand. */
#ifndef UB_OWNER_H
#define UB_OWNER_H

#include "pg.h"

/* Opens, checks that the schema suits this program and becomes usagebox_owner, so that what is made belongs
 * to it whoever logs in. name: application_name. False: pg->failure says why, and it is closed. */
bool owner_open(struct pg *pg, const char *dsn, const char *name);

#endif
