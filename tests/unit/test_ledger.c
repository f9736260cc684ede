#include <check.h>
#include <sodium.h>

#include "../../rollup/ledger.h"
#include "suite.h"

static struct ledger_row a_row(void)
{
    return (struct ledger_row){.topic = TEXT("usage"),
                               .partition = 3,
                               .batch_id = 7,
                               .epoch = 2,
                               .first_offset = 100,
                               .next_offset = 110,
                               .accepted = 5,
                               .duplicate = 2,
                               .dead = 1,
                               .hole = 1,
                               .gap = 1,
                               .digest = {((unsigned __int128)1 << 64) + 2},
                               .reason = TEXT("r"),
                               .actor = TEXT("a")};
}

static bool same(struct ledger_chain a, struct ledger_chain b)
{
    return memcmp(a.bytes, b.bytes, sizeof a.bytes) == 0;
}

/* Written out by hand, as the header says it: whoever checks a ledger with another program gets the same. */
START_TEST(the_chain_is_the_documented_hash)
{
    static const uint8_t image[] = {
        0, 0, 0, 5, 'u', 's', 'a', 'g', 'e', 0,  0, 0, 3,                                          //
        0, 0, 0, 0, 0,   0,   0,   7,   0,   0,  0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, //
        0, 0, 0, 0, 0,   110, 0,   0,   0,   0,  0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0,   0, 0, //
        0, 0, 0, 1, 0,   0,   0,   0,   0,   0,  0, 1, 0, 0, 0, 0, 0, 0, 0, 1,                     //
        0, 0, 0, 0, 0,   0,   0,   1,   0,   0,  0, 0, 0, 0, 0, 2,                                 //
        0, 0, 0, 1, 'r', 0,   0,   0,   1,   'a'};
    struct ledger_chain before, expected;
    memset(before.bytes, 0xab, sizeof before.bytes);
    uint8_t all[LEDGER_CHAIN_BYTES + sizeof image];
    memcpy(all, before.bytes, LEDGER_CHAIN_BYTES);
    memcpy(all + LEDGER_CHAIN_BYTES, image, sizeof image);
    crypto_generichash(expected.bytes, LEDGER_CHAIN_BYTES, all, sizeof all, NULL, 0);
    struct ledger_row row = a_row();
    ck_assert(same(ledger_chain(&before, &row), expected));
}
END_TEST

#define CHANGED(change)                                                                                      \
    do {                                                                                                     \
        struct ledger_row other = a_row();                                                                   \
        other.change;                                                                                        \
        ck_assert_msg(!same(chain, ledger_chain(&zero, &other)), #change);                                   \
    } while (0)

START_TEST(a_change_of_any_field_breaks_the_chain)
{
    const struct ledger_chain zero = {0};
    struct ledger_row row = a_row();
    struct ledger_chain chain = ledger_chain(&zero, &row);
    CHANGED(topic = TEXT("usagf"));
    CHANGED(partition++);
    CHANGED(batch_id++);
    CHANGED(epoch++);
    CHANGED(first_offset++);
    CHANGED(next_offset++);
    CHANGED(accepted++);
    CHANGED(duplicate++);
    CHANGED(dead++);
    CHANGED(hole++);
    CHANGED(gap++);
    CHANGED(digest.sum++);
    CHANGED(reason = TEXT(""));
    CHANGED(actor = TEXT("b"));
    ck_assert(!same(chain, ledger_chain(&chain, &row)));
}
END_TEST

START_TEST(a_digest_is_big_endian_and_comes_back)
{
    struct digest digest = {((unsigned __int128)0x0102030405060708 << 64) + 0x090a0b0c0d0e0f10};
    uint8_t bytes[LEDGER_DIGEST_BYTES];
    ledger_digest_bytes(digest, bytes);
    for (int i = 0; i < LEDGER_DIGEST_BYTES; i++)
        ck_assert_int_eq(bytes[i], i + 1);
    ck_assert(ledger_digest(bytes).sum == digest.sum);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, the_chain_is_the_documented_hash);
    tcase_add_test(tests, a_change_of_any_field_breaks_the_chain);
    tcase_add_test(tests, a_digest_is_big_endian_and_comes_back);
}

int main(void)
{
    return run_suite("ledger", add_tests);
}
