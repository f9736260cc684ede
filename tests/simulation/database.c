#include "database.h"

#include <stdlib.h>

enum { TABLES = 12 };

struct kind {
    struct table *table;
    size_t row_bytes;
};

static void list(struct sim_database *db, struct kind kinds[TABLES])
{
    const struct kind all[TABLES] = {
        {&db->events, sizeof(struct sim_event)},       {&db->hours, sizeof(struct sim_hour)},
        {&db->segments, sizeof(struct sim_segment)},   {&db->counters, sizeof(struct sim_counter)},
        {&db->states, sizeof(struct sim_state)},       {&db->decisions, sizeof(struct sim_decision)},
        {&db->adoptions, sizeof(struct sim_adoption)}, {&db->pending, sizeof(struct sim_pending)},
        {&db->dead, sizeof(struct sim_account)},       {&db->sealed, sizeof(uint16_t)},
        {&db->accounts, sizeof(struct sim_account)},   {&db->moves, sizeof(struct sim_move)},
    };
    for (int i = 0; i < TABLES; i++)
        kinds[i] = all[i];
}

void database_copy(struct sim_database *to, const struct sim_database *from)
{
    struct sim_database source = *from, target = *to;
    struct kind ours[TABLES], theirs[TABLES];
    list(&source, theirs);
    list(&target, ours);
    for (int i = 0; i < TABLES; i++)
        table_copy(ours[i].table, theirs[i].table, ours[i].row_bytes);
    *to = *from;
    to->events = target.events;
    to->hours = target.hours;
    to->segments = target.segments;
    to->counters = target.counters;
    to->states = target.states;
    to->decisions = target.decisions;
    to->adoptions = target.adoptions;
    to->pending = target.pending;
    to->dead = target.dead;
    to->sealed = target.sealed;
    to->accounts = target.accounts;
    to->moves = target.moves;
}

void database_free(struct sim_database *db)
{
    struct kind kinds[TABLES];
    list(db, kinds);
    for (int i = 0; i < TABLES; i++)
        table_free(kinds[i].table);
}

int64_t *database_counted_as(const struct sim_database *db, int topic, int partition, int64_t count)
{
    int64_t *serials = malloc(((size_t)count + 1) * sizeof *serials);
    if (!serials)
        abort();
    for (int64_t i = 0; i < count; i++)
        serials[i] = -1;
    const struct sim_account *accounts = db->accounts.rows;
    for (size_t i = 0; i < db->accounts.count; i++)
        if (accounts[i].topic == topic && accounts[i].partition == partition && accounts[i].offset < count)
            serials[accounts[i].offset] = accounts[i].serial;
    return serials;
}

bool database_adopted(const struct sim_database *db, int32_t lane, uint16_t day)
{
    const struct sim_adoption *rows = db->adoptions.rows;
    for (size_t i = 0; i < db->adoptions.count; i++)
        if (rows[i].lane == lane && rows[i].day == day)
            return true;
    return false;
}
