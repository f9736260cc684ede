#include "identity.h"

#include <assert.h>
#include <sodium.h>

/* What a hash is of comes first in what is hashed, so that no two uses ever hash the same bytes. */
enum domain { DOMAIN_KEY = 1, DOMAIN_CONTENT, DOMAIN_FINGERPRINT, DOMAIN_DIGEST };

/* A longer text stands in the image as its own hash; its length, which always stands before, tells which. */
enum { TEXT_WHOLE_BYTES = 256, TEXT_PREFIX_BYTES = 4, HASH_BYTES = crypto_shorthash_siphashx24_BYTES };

enum { CONTENT_TEXTS = 2 + LIFTED_COUNT };
enum { IMAGE_BYTES = 32 + CONTENT_TEXTS * (TEXT_PREFIX_BYTES + TEXT_WHOLE_BYTES) };

/* The bytes to be hashed, in order. Never written in full: most images are a few hundred bytes. */
struct image {
    const struct identity_secret *secret;
    size_t size_bytes;
    uint8_t bytes[IMAGE_BYTES];
};

static void image_begin(struct image *image, const struct identity_secret *secret, enum domain domain)
{
    image->secret = secret;
    image->bytes[0] = (uint8_t)domain;
    image->size_bytes = 1;
}

static void image_put(struct image *image, const void *bytes, size_t size_bytes)
{
    assert(size_bytes <= sizeof image->bytes - image->size_bytes);
    memcpy(image->bytes + image->size_bytes, bytes, size_bytes);
    image->size_bytes += size_bytes;
}

static void image_put_integer(struct image *image, unsigned __int128 value, size_t size_bytes)
{
    uint8_t bytes[sizeof value];
    for (size_t i = 0; i < size_bytes; i++, value >>= 8)
        bytes[i] = (uint8_t)value;
    image_put(image, bytes, size_bytes);
}

static void siphash(uint8_t hash[HASH_BYTES], const struct identity_secret *secret, const void *bytes,
                    size_t size_bytes)
{
    /* Always 0: its result is there to fit an interface. */
    (void)crypto_shorthash_siphashx24(hash, bytes, size_bytes, secret->bytes);
}

static void image_put_hash(struct image *image, struct text text)
{
    uint8_t hash[HASH_BYTES];
    siphash(hash, image->secret, text.length > 0 ? text.bytes : "", text.length);
    image_put(image, hash, sizeof hash);
}

static void image_put_text(struct image *image, struct text text)
{
    image_put_integer(image, text.length, TEXT_PREFIX_BYTES);
    if (text.length > TEXT_WHOLE_BYTES)
        image_put_hash(image, text);
    else if (text.length > 0)
        image_put(image, text.bytes, text.length);
}

/* A text that may be missing, which is not the same as empty; of any length, never copied. */
static void image_put_payload(struct image *image, struct text payload)
{
    image_put_integer(image, payload.bytes != NULL, 1);
    image_put_hash(image, payload);
}

static uint64_t load_64(const uint8_t *bytes)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

static struct dedupe_key image_hash(const struct image *image)
{
    uint8_t hash[HASH_BYTES];
    siphash(hash, image->secret, image->bytes, image->size_bytes);
    return (struct dedupe_key){.low = load_64(hash), .high = load_64(hash + 8)};
}

struct dedupe_key identity_key(const struct identity_secret *secret, const struct event *event)
{
    struct image image;
    image_begin(&image, secret, DOMAIN_KEY);
    image_put_text(&image, event->customer_id);
    image_put_text(&image, event->meter);
    image_put_text(&image, event->event_id);
    return image_hash(&image);
}

uint32_t identity_content(const struct identity_secret *secret, const struct event *event)
{
    struct image image;
    image_begin(&image, secret, DOMAIN_CONTENT);
    image_put_integer(&image, event->kind, 1);
    image_put_integer(&image, (unsigned __int128)event->quantity, 16);
    image_put_integer(&image, event->time_defaulted, 1);
    if (!event->time_defaulted)
        image_put_integer(&image, (uint64_t)event->time_us, 8);
    image_put_text(&image, event->corrects);
    image_put_text(&image, event->model);
    for (int i = 0; i < LIFTED_COUNT; i++)
        image_put_text(&image, event->lifted[i]);
    return (uint32_t)image_hash(&image).low;
}

uint64_t identity_fingerprint(const struct identity_secret *secret, const struct record *record)
{
    struct image image;
    image_begin(&image, secret, DOMAIN_FINGERPRINT);
    image_put_integer(&image, (uint64_t)record->time_ms, 8);
    image_put_payload(&image, record->key);
    image_put_payload(&image, record->value);
    return image_hash(&image).low;
}

void identity_digest_add(struct digest *digest, const struct identity_secret *secret, int64_t offset,
                         struct text payload)
{
    struct image image;
    image_begin(&image, secret, DOMAIN_DIGEST);
    image_put_integer(&image, (uint64_t)offset, 8);
    image_put_payload(&image, payload);
    struct dedupe_key hash = image_hash(&image);
    digest->sum += (unsigned __int128)hash.high << 64 | hash.low;
}
