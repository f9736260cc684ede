#include "identity.h"

#include <assert.h>

#include "siphash_many.h"

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
    assert(payload.bytes || payload.length == 0);
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

/* --- side by side: what the functions above hash piece by piece is joined --- */

_Static_assert((int)IDENTITY_SIDES == (int)SIPHASH_SIDES, "as many as are hashed at once");
enum {
    WORD_BYTES = 8, /* what a copy may write behind its end */
    TEXT_BOUND_BYTES = TEXT_PREFIX_BYTES + TEXT_WHOLE_BYTES,
    KEY_BOUND_BYTES = 1 + 3 * TEXT_BOUND_BYTES,
    CONTENT_TEXTS = 2 + LIFTED_COUNT,
    CONTENT_BOUND_BYTES = 1 + 1 + 16 + 1 + 8 + CONTENT_TEXTS * TEXT_BOUND_BYTES,
    DIGEST_BYTES = 1 + 8 + 1 + 16
};

/* The low `count` bytes of a value. */
static inline char *join(char *out, uint64_t value, size_t count)
{
    value = htole64(value);
    memcpy(out, &value, WORD_BYTES);
    return out + count;
}

static inline char *join_text(char *out, const struct identity_secret *secret, struct text text)
{
    out = join(out, text.length, TEXT_PREFIX_BYTES);
    if (text.length > TEXT_WHOLE_BYTES) {
        struct siphash own = siphash_begin(secret->bytes);
        uint64_t words[2];
        siphash_put_bytes(&own, text.bytes, text.length);
        siphash_end(own, words);
        return join(join(out, words[0], 8), words[1], 8);
    }
    if (text.length < WORD_BYTES)
        return join(out, text_load_part(text.bytes, text.length), text.length);
    size_t last = text.length - WORD_BYTES; /* the last word may overlap the one before */
    for (size_t at = 0; at < last; at += WORD_BYTES)
        memcpy(out + at, text.bytes + at, WORD_BYTES);
    memcpy(out + last, text.bytes + last, WORD_BYTES);
    return out + text.length;
}

static char *join_key(char *out, const struct identity_secret *secret, const struct event *event)
{
    out = join(out, DOMAIN_KEY, 1);
    out = join_text(out, secret, event->customer_id);
    out = join_text(out, secret, event->meter);
    return join_text(out, secret, event->event_id);
}

static char *join_content(char *out, const struct identity_secret *secret, const struct event *event)
{
    out = join(out, DOMAIN_CONTENT | (uint64_t)event->kind << 8, 2);
    out = join(out, (uint64_t)event->quantity, 8);
    out = join(out, (uint64_t)((unsigned __int128)event->quantity >> 64), 8);
    out = join(out, event->time_defaulted, 1);
    if (!event->time_defaulted)
        out = join(out, (uint64_t)event->time_us, 8);
    out = join_text(out, secret, event->corrects);
    out = join_text(out, secret, event->model);
    for (int i = 0; i < LIFTED_COUNT; i++)
        out = join_text(out, secret, event->lifted[i]);
    return out;
}

static struct text between(const char *from, const char *to)
{
    return (struct text){from, (uint32_t)(to - from)};
}

void identity_many(const struct identity_secret *secret, const struct event *const *events, size_t count,
                   struct identity *identities)
{
    char joined[IDENTITY_SIDES * (KEY_BOUND_BYTES + CONTENT_BOUND_BYTES) + WORD_BYTES], *end = joined;
    struct text keys[IDENTITY_SIDES] = {0}, contents[IDENTITY_SIDES] = {0};
    uint64_t words[IDENTITY_SIDES][2];
    for (size_t i = 0; i < count; i++) {
        char *first = end, *second = join_key(first, secret, events[i]);
        end = join_content(second, secret, events[i]);
        keys[i] = between(first, second);
        contents[i] = between(second, end);
    }
    siphash_many(secret->bytes, keys, count, words);
    for (size_t i = 0; i < count; i++)
        identities[i].key = (struct dedupe_key){.low = words[i][0], .high = words[i][1]};
    siphash_many(secret->bytes, contents, count, words);
    for (size_t i = 0; i < count; i++)
        identities[i].content = (uint32_t)words[i][0];
}

void identity_digests(const struct identity_secret *secret, const struct record *records, size_t count,
                      struct digest *digests)
{
    char joined[IDENTITY_SIDES][DIGEST_BYTES + WORD_BYTES];
    struct text texts[IDENTITY_SIDES] = {0};
    uint64_t words[IDENTITY_SIDES][2];
    for (size_t i = 0; i < count; i++)
        texts[i] = records[i].value;
    siphash_many(secret->bytes, texts, count, words);
    for (size_t i = 0; i < count; i++) {
        char *end = join(join(joined[i], DOMAIN_DIGEST, 1), (uint64_t)records[i].offset, 8);
        end = join(end, records[i].value.bytes != NULL, 1);
        texts[i] = between(joined[i], join(join(end, words[i][0], 8), words[i][1], 8));
    }
    siphash_many(secret->bytes, texts, count, words);
    for (size_t i = 0; i < count; i++)
        digests[i].sum = (unsigned __int128)words[i][1] << 64 | words[i][0];
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
