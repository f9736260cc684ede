#include "seen_set.h"

#include <sodium.h>
#include <stdlib.h>

enum { FIRST_CAPACITY = 256 };
_Static_assert(crypto_shorthash_siphashx24_KEYBYTES == 16, "the key's size");
_Static_assert(crypto_shorthash_siphashx24_BYTES == sizeof(struct seen_hash), "the hash's size");

void seen_set_init(struct seen_set *set)
{
    *set = (struct seen_set){0};
    randombytes_buf(set->key, sizeof set->key);
}

void seen_set_free(struct seen_set *set)
{
    free(set->slots);
    *set = (struct seen_set){0};
}

void seen_set_clear(struct seen_set *set)
{
    if (set->slots)
        memset(set->slots, 0, set->capacity * sizeof *set->slots);
    set->count = 0;
}

static bool is_free(struct seen_hash hash)
{
    return !hash.words[0] && !hash.words[1];
}

/* The slot that holds the hash, or the free one where it belongs. */
static struct seen_hash *slot_of(struct seen_hash *slots, size_t capacity, struct seen_hash hash)
{
    size_t at = hash.words[0] & (capacity - 1);
    while (!is_free(slots[at]) && memcmp(&slots[at], &hash, sizeof hash) != 0)
        at = (at + 1) & (capacity - 1);
    return &slots[at];
}

static bool grow(struct seen_set *set)
{
    size_t capacity = set->capacity ? set->capacity * 2 : FIRST_CAPACITY;
    struct seen_hash *slots = calloc(capacity, sizeof *slots);
    if (!slots)
        return false;
    for (size_t i = 0; i < set->capacity; i++)
        if (!is_free(set->slots[i]))
            *slot_of(slots, capacity, set->slots[i]) = set->slots[i];
    free(set->slots);
    set->slots = slots;
    set->capacity = capacity;
    return true;
}

bool seen_set_add(struct seen_set *set, struct text name)
{
    struct seen_hash hash;
    crypto_shorthash_siphashx24((unsigned char *)&hash, (const unsigned char *)name.bytes, name.length,
                                set->key);
    if (is_free(hash))
        hash.words[0] = 1;
    if (set->count >= SEEN_SET_LIMIT)
        seen_set_clear(set);
    if (set->count * 2 >= set->capacity && !grow(set))
        return true;
    struct seen_hash *slot = slot_of(set->slots, set->capacity, hash);
    if (!is_free(*slot))
        return false;
    *slot = hash;
    set->count++;
    return true;
}
