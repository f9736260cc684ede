/* The book of one lane's flags: for each key what was decided (desired) and what the topic holds: the last
 * message in the log's order, which is what compaction keeps. Reconciles the two; a decision that the topic
 * holds already is not repeated. Cleared, a tombstone and nothing are alike.
 *
 * Messages without a readable sequence count as lower than any. One that is no flag, or of an unknown type,
 * is overridden where a key is crossed and left alone elsewhere: newer programs may have written it. Where a
 * message of a higher epoch than ours is seen, another process owns the lane, and ours are not due. */
#ifndef UB_FLAG_BOOK_H
#define UB_FLAG_BOOK_H

#include "flag_sink.h"
#include "lookup.h"
#include "partitioner.h"

struct flag_book;
struct flag_book *flag_book_new(int32_t lane, struct lookup_seed seed);
void flag_book_free(struct flag_book *book);

/* The epoch of our messages from now on; their count starts at 1. Above what flag_book_highest_epoch() was
 * when it was asked for. Nothing is due before. */
void flag_book_epoch(struct flag_book *book, int64_t epoch);
int64_t flag_book_highest_epoch(const struct flag_book *book); /* 0: none seen */

/* Partitions were added once: a key whose customer belongs to another lane since is that lane's to speak for.
 * What our partition holds of it is left alone until all lanes have said theirs, and then buried, under the
 * sequence that follows its highest one there. What is crossed of our own is said again if it was said before
 * the epoch, for customers may have been elsewhere meanwhile. So all that is said of a key by the lane it
 * belongs to is above what lies on other partitions, and who reads them all is never misled. Nothing else is
 * buried until then.
 */
struct flag_homes {
    enum partitioner partitioner; /* known */
    int32_t lanes;                /* 0: never, all keys are ours */
    int64_t epoch;                /* all epochs before are lower, all since are higher */
    bool said;
};
bool flag_book_homes(struct flag_book *book, const struct flag_homes *homes); /* false: out of memory */

/* A message seen on the partition, in its order there. A lower sequence than one known for its key, arriving
 * later, makes the key due, as every difference does; before reconcile() it waits. */
bool flag_book_seen(struct flag_book *book, struct text key, struct text value, bool has_sequence,
                    struct flag_sequence sequence);

/* The partition is read from its start once more: forgets what was seen there, and waits for reconcile(). */
void flag_book_read_again(struct flag_book *book);

/* Sets what is desired and makes the key due if the topic does not hold that decision. Before reconcile() not
 * while it holds a decision that is yet to be made again, after this one. value: without sequence. */
bool flag_book_decide(struct flag_book *book, struct text key, struct text value, const char *decision_id,
                      bool active, int64_t now_us);
/* A rewind: what is desired goes back to what is committed, and nothing becomes due by that. */
void flag_book_undo(struct flag_book *book);
/* The decision was committed with its batch. */
void flag_book_commit(struct flag_book *book, struct text key, const char *decision_id);
/* Takeover: a committed state, value as jsonb writes it. Sets what is desired and committed without making it
 * due. decision_id empty: none. */
bool flag_book_restore(struct flag_book *book, struct text key, struct text value, const char *decision_id,
                       bool active);
/* Makes due every key of which topic and desire differ: on takeover once the lane has passed all that it had
 * reached, and after a rewind likewise. A key active on the topic that nothing desires gets a `cleared`. */
bool flag_book_reconcile(struct flag_book *book, int64_t now_us);
/* Makes due a tombstone for every key that has been cleared for keep_us, or by a decision that was not made
 * again, and forgets keys of which nothing is left: a slice of them at each call, none before reconcile(). */
bool flag_book_bury(struct flag_book *book, int64_t now_us, int64_t keep_us);

/* The highest offset of an event named by a flag seen on the topic, for one usage topic and the lane's
 * partition; -1: none. Only flags of events at or beyond the committed offset matter: they were published and
 * never committed. It may lie beyond the log's end where a usage topic was made anew. */
int64_t flag_book_reached(const struct flag_book *book, struct text topic, int32_t partition);

/* The next message due, with its sequence put in: publish it, then flag_book_published() with its cookie.
 * Views live until the next call. A message that failed is due again under the cookie it had. */
struct flag_due {
    struct text key;
    struct text value; /* bytes NULL: a tombstone */
    struct flag_sequence sequence;
    uint64_t cookie; /* of this book; given when a key becomes due, rising */
};
bool flag_book_due(struct flag_book *book, struct flag_due *due);
void flag_book_published(struct flag_book *book, uint64_t cookie);
void flag_book_acknowledged(struct flag_book *book, uint64_t cookie);
void flag_book_failed(struct flag_book *book, uint64_t cookie); /* due again */
uint64_t flag_book_last_cookie(const struct flag_book *book);   /* of all that became due; 0: nothing */
/* All that was due under this cookie or lower ones is acknowledged, or needed no more. */
bool flag_book_settled(const struct flag_book *book, uint64_t cookie);
size_t flag_book_bytes(const struct flag_book *book);

#endif
