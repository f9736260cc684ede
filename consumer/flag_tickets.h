/* Tickets of messages: a number rises for every key that becomes due, and tells until when it waits to be
 * sent and to be acknowledged. A message that failed is sent again under the ticket it had. */
#ifndef UB_FLAG_TICKETS_H
#define UB_FLAG_TICKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "flag_sink.h"

enum ticket_state { TICKET_DUE, TICKET_SENT, TICKET_DONE };
struct ticket {
    enum ticket_state state;
    uint32_t row;                  /* of the key */
    struct flag_sequence sequence; /* once sent */
};

/* All zero: none yet. */
struct flag_tickets {
    struct ticket *ring; /* of capacity, a power of two */
    size_t capacity;
    uint64_t first;    /* all lower numbers, from 1, are done; stored minus 1 */
    uint64_t next;     /* stored minus 1 */
    uint64_t next_due; /* no lower number is due; stored minus 1 */
};
void flag_tickets_free(struct flag_tickets *tickets);

uint64_t flag_tickets_open(struct flag_tickets *tickets, uint32_t row); /* due; 0: out of memory */
struct ticket *flag_tickets_at(const struct flag_tickets *tickets, uint64_t number); /* NULL: done long ago */
uint64_t flag_tickets_due(struct flag_tickets *tickets);                /* the lowest one due; 0: none */
void flag_tickets_again(struct flag_tickets *tickets, uint64_t number); /* sent, and due once more */
void flag_tickets_done(struct flag_tickets *tickets, uint64_t number);
uint64_t flag_tickets_last(const struct flag_tickets *tickets); /* 0: none yet */
bool flag_tickets_settled(const struct flag_tickets *tickets,
                          uint64_t number); /* it and all below are done */

#endif
