#include "flag_tickets.h"

#include <assert.h>
#include <stdlib.h>

enum { LEAST_TICKETS = 16 };

/* Number n is kept at index n - 1, so that all zero means that no number was given out. */
static struct ticket *slot(const struct flag_tickets *tickets, uint64_t index)
{
    return &tickets->ring[index & (tickets->capacity - 1)];
}

void flag_tickets_free(struct flag_tickets *tickets)
{
    free(tickets->ring);
    *tickets = (struct flag_tickets){0};
}

static bool grow(struct flag_tickets *tickets)
{
    size_t capacity = tickets->capacity ? 2 * tickets->capacity : LEAST_TICKETS;
    struct ticket *ring = malloc(capacity * sizeof *ring);
    if (!ring)
        return false;
    for (uint64_t index = tickets->first; index < tickets->next; index++)
        ring[index & (capacity - 1)] = *slot(tickets, index);
    free(tickets->ring);
    tickets->ring = ring;
    tickets->capacity = capacity;
    return true;
}

uint64_t flag_tickets_open(struct flag_tickets *tickets, uint32_t row)
{
    if (tickets->next - tickets->first == tickets->capacity && !grow(tickets))
        return 0;
    *slot(tickets, tickets->next) = (struct ticket){.state = TICKET_DUE, .row = row};
    return ++tickets->next;
}

struct ticket *flag_tickets_at(const struct flag_tickets *tickets, uint64_t number)
{
    return number > tickets->first && number <= tickets->next ? slot(tickets, number - 1) : NULL;
}

uint64_t flag_tickets_due(struct flag_tickets *tickets)
{
    if (tickets->next_due < tickets->first)
        tickets->next_due = tickets->first;
    for (; tickets->next_due < tickets->next; tickets->next_due++)
        if (slot(tickets, tickets->next_due)->state == TICKET_DUE)
            return tickets->next_due + 1;
    return 0;
}

void flag_tickets_again(struct flag_tickets *tickets, uint64_t number)
{
    struct ticket *ticket = flag_tickets_at(tickets, number);
    assert(ticket && ticket->state == TICKET_SENT);
    ticket->state = TICKET_DUE;
    if (number - 1 < tickets->next_due)
        tickets->next_due = number - 1;
}

void flag_tickets_done(struct flag_tickets *tickets, uint64_t number)
{
    struct ticket *ticket = flag_tickets_at(tickets, number);
    assert(ticket && ticket->state != TICKET_DONE);
    ticket->state = TICKET_DONE;
    while (tickets->first < tickets->next && slot(tickets, tickets->first)->state == TICKET_DONE)
        tickets->first++;
}

uint64_t flag_tickets_last(const struct flag_tickets *tickets)
{
    return tickets->next;
}

bool flag_tickets_settled(const struct flag_tickets *tickets, uint64_t number)
{
    return number <= tickets->first;
}
