#include "actor.h"

#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

const char *actor_name(char out[ACTOR_BYTES])
{
    char host[65] = "", user[128], fields[1024];
    struct passwd entry, *found = NULL;
    if (gethostname(host, sizeof host - 1) != 0)
        host[0] = '\0';
    if (getpwuid_r(getuid(), &entry, fields, sizeof fields, &found) != 0)
        found = NULL;
    if (found)
        snprintf(user, sizeof user, "%s", entry.pw_name);
    else
        snprintf(user, sizeof user, "%lu", (unsigned long)getuid());
    snprintf(out, ACTOR_BYTES, "%s@%s", user, *host ? host : "?");
    return out;
}
