/* The book of one lane against a topic that the test plays, and short names for what is decided: a decision
 * is named by one letter, of which 'a' to 'z' cross and 'A' to 'Z' clear. */
#ifndef UB_FLAG_FIXTURE_H
#define UB_FLAG_FIXTURE_H

#include "consumer/decision.h"
#include "consumer/flag_book.h"

enum { LANE = 3, EPOCH = 5 };
#define NOW_US ((int64_t)1795372200000000)
#define DAY_US ((int64_t)86400000000)

extern struct flag_book *book;

void new_book(void); /* before each test */
void free_book(void);
void run(void); /* taken over at EPOCH, with nothing to wait for */

struct decision decision_of(char letter);
struct text value_of(char letter); /* lives as long as the book */
void decide(const char *key, char letter);
void restore(const char *key, char letter);
void commit(const char *key, char letter);
void reconcile(void);

/* A message appended to the topic, and shown to the book. letter '-': a tombstone; '?': something else. */
void see(const char *key, char letter, int64_t epoch, int64_t count);

/* The next message that is due: key, letter of the decision ('-': tombstone), + if active, sequence; or
 * "nothing". It is published, under the cookie last_published. */
const char *publish(void);
extern uint64_t last_published;

#endif
