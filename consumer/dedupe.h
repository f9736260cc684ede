/* The windowed hash table of one lane: the dedupe keys of all its open event days. Says of each event whether
 * its identity was seen before, on whichever open day, and whether it said the same then.
 *
 * The table is split into shards by the key's top bits, each a small open-addressing table that grows alone
 * and by a small factor, so that neither growth nor forgetting ever works on more than one shard at a time (1
 * ms at the most), and a key takes at most 32 bytes at its fullest. */
#ifndef UB_DEDUPE_H
#define UB_DEDUPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 128-bit SipHash of an event's identity; see identity.h. */
struct dedupe_key {
    uint64_t low;
    uint64_t high;
};

enum dedupe_verdict {
    DEDUPE_NEW,      /* was not there; is now */
    DEDUPE_REPEAT,   /* was there and said the same */
    DEDUPE_CONFLICT, /* was there and said something else */
    DEDUPE_NO_MEMORY /* nothing changed */
};

struct dedupe;

struct dedupe *dedupe_new(void); /* NULL: out of memory */
/* Takes as long as unmapping all of its memory does: with many millions of keys, no work for a polling
 * thread. */
void dedupe_free(struct dedupe *dedupe);

/* Makes room for so many more keys at once, which takes as long as moving those that are there: no work for a
 * polling thread. False: out of memory; what is there stays, and insertions make room for themselves. */
bool dedupe_reserve(struct dedupe *dedupe, size_t keys);

/* Starts fetching what leads to the slot of a key; then, some time later, the slot. */
void dedupe_approach(const struct dedupe *dedupe, struct dedupe_key key);
void dedupe_prefetch(const struct dedupe *dedupe, struct dedupe_key key);

/* day: days since 1970 of the event's time, 1 to 65535. content: hash of what the event says. */
enum dedupe_verdict dedupe_insert(struct dedupe *dedupe, struct dedupe_key key, uint32_t content,
                                  uint16_t day);

/* Is the key there, and if so, what did its event say, and of which day was it? */
bool dedupe_find(const struct dedupe *dedupe, struct dedupe_key key, uint32_t *content, uint16_t *day);

/* Takes an insertion back. False: the key was not there. */
bool dedupe_remove(struct dedupe *dedupe, struct dedupe_key key);

/* Forgets all keys of a day at once for every question asked from now on; their memory comes back as
 * dedupe_sweep() passes by. */
void dedupe_forget(struct dedupe *dedupe, uint16_t day);

/* Sweeps forgotten keys out of a few shards (well under 1 ms). False: nothing is left to sweep. */
bool dedupe_sweep(struct dedupe *dedupe);

size_t dedupe_count(const struct dedupe *dedupe);                   /* keys of days not forgotten */
size_t dedupe_day_count(const struct dedupe *dedupe, uint16_t day); /* keys of one day */
size_t dedupe_bytes(const struct dedupe *dedupe);                   /* all memory it holds */

/* A dedupe segment packs the keys of a batch as DEDUPE_SEGMENT_BYTES each: low, high, content, little-endian.
 */
enum { DEDUPE_SEGMENT_BYTES = 20 };
void dedupe_segment_put(uint8_t out[DEDUPE_SEGMENT_BYTES], struct dedupe_key key, uint32_t content);
/* Inserts a whole segment; false if it is malformed or memory runs out. Keys already there stay as they are.
 */
bool dedupe_segment_restore(struct dedupe *dedupe, uint16_t day, const uint8_t *bytes, size_t size_bytes);

#endif
