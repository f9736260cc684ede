#include "identity.h"

#include "siphash.h"

/* What a hash is of comes first in what is hashed, so that no two uses ever hash the same bytes. */
enum domain { DOMAIN_KEY = 1, DOMAIN_CONTENT, DOMAIN_FINGERPRINT, DOMAIN_DIGEST };

/* A longer text stands in what is hashed as its own hash; its length, which always stands before, tells
 * which. */
enum { TEXT_WHOLE_BYTES = 256, TEXT_PREFIX_BYTES = 4 };

_Static_assert((int)IDENTITY_SECRET_BYTES == (int)SIPHASH_KEY_BYTES, "the secret is the hash's key");

static struct siphash begin(const struct identity_secret *secret, enum domain domain)
{
    struct siphash hash = siphash_begin(secret->bytes);
    siphash_put(&hash, domain, 1);
    return hash;
}

static void put_hash_of(struct siphash *hash, const struct identity_secret *secret, struct text text)
{
    struct siphash own = siphash_begin(secret->bytes);
    uint64_t words[2];
    siphash_put_bytes(&own, text.bytes, text.length);
    siphash_end(own, words);
    siphash_put(hash, words[0], 8);
    siphash_put(hash, words[1], 8);
}

static inline void put_text(struct siphash *hash, const struct identity_secret *secret, struct text text)
{
    siphash_put(hash, text.length, TEXT_PREFIX_BYTES);
    if (text.length > TEXT_WHOLE_BYTES)
        put_hash_of(hash, secret, text);
    else
        siphash_put_bytes(hash, text.bytes, text.length);
}

/* A text that may be missing, which is not the same as empty; of any length. */
static void put_payload(struct siphash *hash, const struct identity_secret *secret, struct text payload)
{
    siphash_put(hash, payload.bytes != NULL, 1);
    put_hash_of(hash, secret, payload);
}

static struct dedupe_key end(struct siphash hash)
{
    uint64_t words[2];
    siphash_end(hash, words);
    return (struct dedupe_key){.low = words[0], .high = words[1]};
}

struct dedupe_key identity_key(const struct identity_secret *secret, const struct event *event)
{
    struct siphash hash = begin(secret, DOMAIN_KEY);
    put_text(&hash, secret, event->customer_id);
    put_text(&hash, secret, event->meter);
    put_text(&hash, secret, event->event_id);
    return end(hash);
}

uint32_t identity_content(const struct identity_secret *secret, const struct event *event)
{
    struct siphash hash = begin(secret, DOMAIN_CONTENT);
    siphash_put(&hash, event->kind, 1);
    siphash_put(&hash, (uint64_t)event->quantity, 8);
    siphash_put(&hash, (uint64_t)((unsigned __int128)event->quantity >> 64), 8);
    siphash_put(&hash, event->time_defaulted, 1);
    if (!event->time_defaulted)
        siphash_put(&hash, (uint64_t)event->time_us, 8);
    put_text(&hash, secret, event->corrects);
    put_text(&hash, secret, event->model);
    for (int i = 0; i < LIFTED_COUNT; i++)
        put_text(&hash, secret, event->lifted[i]);
    return (uint32_t)end(hash).low;
}

uint64_t identity_fingerprint(const struct identity_secret *secret, const struct record *record)
{
    struct siphash hash = begin(secret, DOMAIN_FINGERPRINT);
    siphash_put(&hash, (uint64_t)record->time_ms, 8);
    put_payload(&hash, secret, record->key);
    put_payload(&hash, secret, record->value);
    return end(hash).low;
}

void identity_digest_add(struct digest *digest, const struct identity_secret *secret, int64_t offset,
                         struct text payload)
{
    struct siphash hash = begin(secret, DOMAIN_DIGEST);
    siphash_put(&hash, (uint64_t)offset, 8);
    put_payload(&hash, secret, payload);
    struct dedupe_key sum = end(hash);
    digest->sum += (unsigned __int128)sum.high << 64 | sum.low;
}
