/* What makes two records the same event, and the same content: keyed SipHash-2-4 with 128 bits (Aumasson and
 * Bernstein, "SipHash: a fast short-input PRF"; libsodium's crypto_shorthash_siphashx24). */
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

/* Hash of what the event says: kind, corrects, quantity and time in canonical form, model and the lifted fields,
 * length-prefixed. A defaulted time, policy metadata and other metadata are left out. */
uint32_t identity_content(const struct identity_secret *secret, const struct event *event);

/* A 64-bit fingerprint of a record: key, value and timestamp. Tells a recreated topic from the one that was read. */
uint64_t identity_fingerprint(const struct identity_secret *secret, const struct record *record);

/* Adds hash(topic partition offset, payload) to a 128-bit order-free sum: the ledger's digest. */
struct digest {
    unsigned __int128 sum;
};
void identity_digest_add(struct digest *digest, const struct identity_secret *secret, int64_t offset,
                         struct text payload);

#endif
