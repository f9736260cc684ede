#include "ledger.h"

#include <endian.h>
#include <sodium.h>

_Static_assert(LEDGER_CHAIN_BYTES == crypto_generichash_BYTES, "BLAKE2b-256");

static void hash_4(crypto_generichash_state *hash, uint32_t value)
{
    value = htobe32(value);
    crypto_generichash_update(hash, (const uint8_t *)&value, sizeof value);
}

static void hash_8(crypto_generichash_state *hash, int64_t value)
{
    uint64_t big = htobe64((uint64_t)value);
    crypto_generichash_update(hash, (const uint8_t *)&big, sizeof big);
}

static void hash_text(crypto_generichash_state *hash, struct text text)
{
    hash_4(hash, text.length);
    crypto_generichash_update(hash, (const uint8_t *)text.bytes, text.length);
}

void ledger_digest_bytes(struct digest digest, uint8_t out[LEDGER_DIGEST_BYTES])
{
    for (int i = LEDGER_DIGEST_BYTES - 1; i >= 0; i--, digest.sum >>= 8)
        out[i] = (uint8_t)digest.sum;
}

struct digest ledger_digest(const uint8_t bytes[LEDGER_DIGEST_BYTES])
{
    struct digest digest = {0};
    for (int i = 0; i < LEDGER_DIGEST_BYTES; i++)
        digest.sum = digest.sum << 8 | bytes[i];
    return digest;
}

struct ledger_chain ledger_chain(const struct ledger_chain *before, const struct ledger_row *row)
{
    const int64_t numbers[] = {row->batch_id,  row->epoch, row->first_offset, row->next_offset, row->accepted,
                               row->duplicate, row->dead,  row->hole,         row->gap};
    uint8_t digest[LEDGER_DIGEST_BYTES];
    struct ledger_chain chain;
    crypto_generichash_state hash;
    crypto_generichash_init(&hash, NULL, 0, LEDGER_CHAIN_BYTES);
    crypto_generichash_update(&hash, before->bytes, LEDGER_CHAIN_BYTES);
    hash_text(&hash, row->topic);
    hash_4(&hash, (uint32_t)row->partition);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        hash_8(&hash, numbers[i]);
    ledger_digest_bytes(row->digest, digest);
    crypto_generichash_update(&hash, digest, sizeof digest);
    hash_text(&hash, row->reason);
    hash_text(&hash, row->actor);
    crypto_generichash_final(&hash, chain.bytes, LEDGER_CHAIN_BYTES);
    return chain;
}
