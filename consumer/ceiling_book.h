/* The ceilings of one lane: counts what customers use per period and says when a ceiling is crossed or
 * cleared.
 *
 * A counter (customer, meter, period, scope) is what ceilings look at; ceilings that count the same thing
 * share one. What ended before all of them is not counted. A state (customer, ceiling, scope, period) says
 * whether the ceiling is crossed and how often that changed. Crossed means used > limit; cleared means used
 * <= clear_level again, or the period's end, or the ceiling's. A ceiling for a plan is judged at events that
 * name the plan, and later wherever it was crossed once. Decisions come in an order that depends on nothing
 * but what was counted.
 *
 * A decision is published unless (1) an event caused it and its period was over; (2) it crosses while a later
 * period of the same key (customer, ceiling, scope) is crossed; (3) it clears while another period of the
 * same key is crossed. So the last one published says for each key whether it is crossed.
 *
 * Pure memory. All changes but seeds go through a journal, so that whatever was not committed can be undone.
 */
#ifndef UB_CEILING_BOOK_H
#define UB_CEILING_BOOK_H

#include "decision.h"
#include "lookup.h"

struct ceiling_book;
struct ceiling_book *ceiling_book_new(int32_t lane, struct lookup_seed seed);
void ceiling_book_free(struct ceiling_book *book);

/* Takeover: rows as the store holds them, which are copied, then the catalogue that the lane had adopted;
 * counters that it does not look at are dropped. */
bool ceiling_book_restore_counter(struct ceiling_book *book, const struct ceiling_counter *counter);
bool ceiling_book_restore_state(struct ceiling_book *book, const struct ceiling_state *state);
void ceiling_book_use(struct ceiling_book *book, const struct ceiling_catalogue *catalogue);

/* Counts one accepted event in every counter that a ceiling (adopted or shadow) looks at, then judges the
 * adopted ones. False: out of memory or overflow; undo to the last mark. */
bool ceiling_book_count(struct ceiling_book *book, const struct event *event, struct ceiling_origin origin,
                        int64_t now_us, ceiling_decided decided, void *context);
/* Does any counter of the adopted or shadow catalogue count this event? */
bool ceiling_book_counts(const struct ceiling_book *book, const struct event *event);

/* Judges every counter again whose period is not over: after an adoption, a raised or lowered limit. Active
 * states whose ceiling is gone, or now means another period, meter or customer, are cleared. A judgement that
 * is undone is made again by the next tick(), as of DECIDED_BY_CEILINGS. */
bool ceiling_book_judge(struct ceiling_book *book, enum decision_source source, int64_t now_us,
                        ceiling_decided decided, void *context);

/* Clears every active state whose period is over, whether its customer is idle or not. */
bool ceiling_book_tick(struct ceiling_book *book, int64_t now_us, ceiling_decided decided, void *context);
int64_t ceiling_book_next_end_us(const struct ceiling_book *book); /* tick() has no work before */

/* A new catalogue: shadow() at a batch boundary starts counting what it needs and nothing counts yet; then
 * seed() each sum that the store read right after that boundary's commit (it adds to what the shadow has
 * counted since); adopt() at a later boundary makes it the catalogue that decides, and the former one may be
 * freed once that is committed. Undoing past adopt() makes it the shadow again, with its seeds. Before
 * undoing past shadow(): cancel(). Not to be called before the last adopt() was committed. False: out of
 * memory, or (seed) overflow. */
bool ceiling_book_shadow(struct ceiling_book *book, const struct ceiling_catalogue *catalogue);
bool ceiling_book_wants_seed(const struct ceiling_book *book, const struct ceiling_counter *sum);
bool ceiling_book_seed(struct ceiling_book *book, const struct ceiling_counter *sum);
bool ceiling_book_adopt(struct ceiling_book *book);
void ceiling_book_cancel(struct ceiling_book *book);
const struct ceiling_catalogue *ceiling_book_catalogue(const struct ceiling_book *book); /* NULL: none yet */

/* The journal: positions rise with every change. undo() takes back all after a mark, newest first; commit()
 * forgets how to take back what lies before a mark; changes() hands out the present row of each counter and
 * state touched since a mark (adopted counters all count as touched by adopt()), once each; shadow counters
 * not before. Marks are what mark() returned, and 0: all that is not committed. */
uint64_t ceiling_book_mark(struct ceiling_book *book);
void ceiling_book_undo(struct ceiling_book *book, uint64_t mark);
void ceiling_book_commit(struct ceiling_book *book, uint64_t mark);
bool ceiling_book_changes(struct ceiling_book *book, uint64_t mark,
                          bool (*change)(void *context, const struct ceiling_change *change), void *context);

/* What the enforcement topic is compared with on takeover: for each key the state of its latest crossed
 * period, or of its latest period if none is crossed. Sorted by key. False: out of memory, or the callback's.
 */
bool ceiling_book_states(const struct ceiling_book *book,
                         bool (*each)(void *context, const struct ceiling_state *state), void *context);

/* From now on events of periods that ended at before_us or earlier are counted no more, and what is kept of
 * those periods is forgotten, a slice of the rows at each call, as far as nothing uncommitted touches it.
 * Never goes back. To be called after a restore with no earlier time than the restored rows were chosen by: a
 * counter that is not there counts from 0. */
void ceiling_book_forget(struct ceiling_book *book, int64_t before_us);
size_t ceiling_book_bytes(const struct ceiling_book *book);

#endif
