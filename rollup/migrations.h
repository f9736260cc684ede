/* The SQL migrations of schema/, compiled into the program by schema/embed.sh, in ascending order. */
#ifndef UB_MIGRATIONS_H
#define UB_MIGRATIONS_H

struct migration {
    int number;       /* 1, 2, …; 0 ends the list */
    const char *name; /* the file's name without its ending */
    const char *sql;
};

extern const struct migration migrations[];

#endif
