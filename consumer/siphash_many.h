/* Several texts' SipHash-2-4 of 128 bits at once. Each word of a hash waits for the one before, so that a
 * processor has time for seven others meanwhile. Gives what siphash.h gives, on any machine; how, is chosen
 * at run time. */
#ifndef UB_SIPHASH_MANY_H
#define UB_SIPHASH_MANY_H

#include "siphash.h"
#include "text.h"

enum { SIPHASH_SIDES = 8 };

enum siphash_way { SIPHASH_PLAIN, SIPHASH_AVX2, SIPHASH_AVX512, SIPHASH_WAYS };

/* Has this machine what it takes? */
bool siphash_has(enum siphash_way way);

/* The hashes of up to SIPHASH_SIDES texts, in the best way. */
void siphash_many(const uint8_t key[SIPHASH_KEY_BYTES], const struct text *texts, size_t count,
                  uint64_t out[][2]);

/* The same in a way that the machine has. */
void siphash_many_by(enum siphash_way way, const uint8_t key[SIPHASH_KEY_BYTES], const struct text *texts,
                     size_t count, uint64_t out[][2]);

#endif
