/* What makes two records the same event, and the same content: keyed SipHash-2-4 with 128 bits (Aumasson and
 * Bernstein, "SipHash: a fast short-input PRF"); see siphash.h.
 *
 * The hashes are kept in the database, so their input never changes: one byte that says what is hashed (1
 * key, 2 content, 3 fingerprint, 4 digest), then the parts named below, integers as little-endian. A text is
 * its length as 4 bytes and its bytes; one over 256 bytes is its length and the 16 bytes of its own hash. A
 * payload is one byte, 0 if it is missing, and the 16 bytes of its own hash. A hash of 16 bytes is two words
 * of 8, low first; a narrower one is the low bits of the first. */
#ifndef UB_IDENTITY_H
#define UB_IDENTITY_H

#include "dedupe.h"
#include "event.h"

enum { IDENTITY_SECRET_BYTES = 16 };

/* Random, made once by migrate and kept in the database: the same for every process. */
struct identity_secret {
    uint8_t bytes[IDENTITY_SECRET_BYTES];
};

/* Hash of the length-prefixed customer_id, meter and event_id. */
struct dedupe_key identity_key(const struct identity_secret *secret, const struct event *event);

/* Hash of what the event says: kind (1 byte), quantity (16), whether its time was defaulted (1), if not its
 * time (8), then the texts: corrects, model and the lifted fields. A defaulted time, policy metadata and
 * other metadata are left out. */
uint32_t identity_content(const struct identity_secret *secret, const struct event *event);

/* Both of some events, side by side, which takes half the time. */
enum { IDENTITY_SIDES = 8 };
struct identity {
    struct dedupe_key key;
    uint32_t content;
};
void identity_many(const struct identity_secret *secret, const struct event *const *events, size_t count,
                   struct identity *identities); /* count: up to IDENTITY_SIDES */

/* A 64-bit fingerprint of a record: timestamp (8 bytes), key and value (payloads). Tells a recreated topic
 * from the one that was read. */
uint64_t identity_fingerprint(const struct identity_secret *secret, const struct record *record);

/* The ledger's digest of a partition's records: an order-free sum, modulo 2^128, of the hashes of each
 * record's offset (8 bytes) and value (payload). Zero-initialise. */
struct digest {
    unsigned __int128 sum;
};
void identity_digest_add(struct digest *digest, const struct identity_secret *secret, int64_t offset,
                         struct text payload);

/* What each of some records adds to the sum; count: up to IDENTITY_SIDES. */
void identity_digests(const struct identity_secret *secret, const struct record *records, size_t count,
                      struct digest *digests);

#endif
